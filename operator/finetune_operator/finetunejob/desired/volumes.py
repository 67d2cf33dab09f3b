"""What is mounted where in a revision's pods. Used by the pod builders."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_operator import names
from finetune_operator.finetunejob.desired.run_config import CLAIMS, CONFIG_MAPS, claim_of, config_map_of
from finetune_operator.finetunejob.target import Target

WORKSPACE = Path("/workspace")
RUN_CONFIG = Path("/etc/finetune") / names.RUN_CONFIG_KEY
EVALUATION = Path("/etc/finetune-evaluation") / names.EVALUATION_KEY
# The one place where a process may write beside its volume: the root file system is read-only.
HOME = Path("/tmp")  # noqa: S108  (an emptyDir of the pod's own)


@dataclass(frozen=True)
class Mount:
    """A volume of the pod and where its container sees it."""

    name: str
    source: dict[str, Any]
    path: Path
    read_only: bool = False

    def volume(self) -> dict[str, Any]:
        """The entry of the pod's `volumes`."""
        return {"name": self.name, **self.source}

    def mount(self) -> dict[str, Any]:
        """The entry of the container's `volumeMounts`."""
        found: dict[str, Any] = {"name": self.name, "mountPath": str(self.path)}
        return found | ({"readOnly": True} if self.read_only else {})


def workspace(target: Target, read_only: bool = False) -> Mount:
    """The revision's volume."""
    claim = names.of_revision(target.name, target.revision)
    return Mount("workspace", {"persistentVolumeClaim": {"claimName": claim}}, WORKSPACE, read_only)


def run_config(target: Target) -> Mount:
    """The directory with the run config."""
    name = names.of_revision(target.name, target.revision)
    return Mount("run-config", {"configMap": {"name": name}}, RUN_CONFIG.parent, read_only=True)


def evaluation(target: Target) -> list[Mount]:
    """The directory with what is measured, where anything is."""
    if not target.spec.evaluation.enabled:
        return []
    name = names.of_evaluation(target.name, target.revision)
    return [Mount("evaluation", {"configMap": {"name": name}}, EVALUATION.parent, read_only=True)]


def scratch() -> list[Mount]:
    """HOME with its caches, and the shared memory that data loaders and NCCL use."""
    return [
        Mount("tmp", {"emptyDir": {}}, HOME),
        Mount("shm", {"emptyDir": {"medium": "Memory"}}, Path("/dev/shm")),  # noqa: S108
    ]


def user_mounts(uris: Iterable[str]) -> list[Mount]:
    """The user's claims and config maps that the URIs name, each once.

    The claim itself is read-only, not just its mount, or the kubelet would hand the user's files to the pod's group.
    """
    uris = list(uris)
    claims = sorted({claim for uri in uris if (claim := claim_of(uri))})
    config_maps = sorted({name for uri in uris if (name := config_map_of(uri))})
    return [
        *(
            Mount(
                f"claim-{names.digest(claim)}",
                {"persistentVolumeClaim": {"claimName": claim, "readOnly": True}},
                CLAIMS / claim,
                read_only=True,
            )
            for claim in claims
        ),
        *(
            Mount(f"configmap-{names.digest(name)}", {"configMap": {"name": name}}, CONFIG_MAPS / name, read_only=True)
            for name in config_maps
        ),
    ]
