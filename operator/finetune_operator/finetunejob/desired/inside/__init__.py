"""Programs that run in the engine's container, whatever its image: standard library only, and nothing of the operator.

The files travel with the pod template, as annotations that the pod mounts: a pod always has those that it was made for.
"""

import inspect
from pathlib import Path
from typing import Any

from finetune_operator.api.v1alpha1 import GROUP
from finetune_operator.finetunejob.desired.inside import finetune_answers, finetune_drain
from finetune_operator.pods.mounts import Mount

DIRECTORY = Path("/etc/finetune")
ANSWERS = DIRECTORY / "finetune_answers.py"
DRAIN = DIRECTORY / "finetune_drain.py"
MIDDLEWARE = f"{finetune_drain.AskToReconnect.__module__.rpartition('.')[2]}.{finetune_drain.AskToReconnect.__name__}"

_SOURCES = {ANSWERS: inspect.getsource(finetune_answers), DRAIN: inspect.getsource(finetune_drain)}


def annotations() -> dict[str, str]:
    """The pod's annotations that carry the files."""
    return {_key(path): source for path, source in _SOURCES.items()}


def mount() -> Mount:
    """The files, where the container finds them."""
    items: list[dict[str, Any]] = [
        {"path": path.name, "fieldRef": {"fieldPath": f"metadata.annotations['{_key(path)}']"}} for path in _SOURCES
    ]
    return Mount("inside", {"downwardAPI": {"items": items}}, DIRECTORY, read_only=True)


def _key(path: Path) -> str:
    return f"{GROUP}/{path.name}"
