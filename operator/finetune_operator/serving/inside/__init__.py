"""Programs that run in the engine's container, whatever its image: standard library only, and nothing of the operator.

The files travel with the pod template, as annotations that the pod mounts: a pod always has those that it was made for.
"""

import inspect
from pathlib import Path
from typing import Any

from finetune_operator.api.v1alpha1 import GROUP
from finetune_operator.pods.mounts import Mount
from finetune_operator.serving.inside import finetune_adapters, finetune_answers, finetune_drain

DIRECTORY = Path("/etc/finetune")
ANSWERS = DIRECTORY / "finetune_answers.py"
DRAIN = DIRECTORY / "finetune_drain.py"
# What vLLM's workers on CPUs are given. It imports vLLM, so it is not imported here.
WORKER_EXTENSION = "finetune_lora.BaseModelApart"
MIDDLEWARE = f"{finetune_drain.AskToReconnect.__module__.rpartition('.')[2]}.{finetune_drain.AskToReconnect.__name__}"
ADAPTERS_MIDDLEWARE = f"{finetune_adapters.Names.__module__.rpartition('.')[2]}.{finetune_adapters.Names.__name__}"

HERE = Path(__file__).parent
_SOURCES = {
    ANSWERS: inspect.getsource(finetune_answers),
    DRAIN: inspect.getsource(finetune_drain),
    DIRECTORY / "finetune_lora.py": (HERE / "finetune_lora.py").read_text(),
}
_OF_ADAPTERS = {DIRECTORY / "finetune_adapters.py": inspect.getsource(finetune_adapters)}


def annotations(adapters: bool = False) -> dict[str, str]:
    """The pod's annotations that carry the files; `adapters`: whether it loads them while it runs."""
    return {_key(path): source for path, source in _sources(adapters).items()}


def mount(adapters: bool = False) -> Mount:
    """The files, where the container finds them."""
    items: list[dict[str, Any]] = [
        {"path": path.name, "fieldRef": {"fieldPath": f"metadata.annotations['{_key(path)}']"}}
        for path in _sources(adapters)
    ]
    return Mount("inside", {"downwardAPI": {"items": items}}, DIRECTORY, read_only=True)


def _sources(adapters: bool) -> dict[Path, str]:
    return _SOURCES | (_OF_ADAPTERS if adapters else {})


def _key(path: Path) -> str:
    return f"{GROUP}/{path.name}"
