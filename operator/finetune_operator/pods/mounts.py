"""A volume and where a container sees it. The builders of a kind say which; `template` puts them into the pod."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def claim_spec(size: str, storage_class: str | None, modes: Sequence[str] = ("ReadWriteOnce",)) -> dict[str, Any]:
    """What a PersistentVolumeClaim asks for."""
    spec = {"accessModes": list(modes), "resources": {"requests": {"storage": size}}}
    # An empty class is an answer of its own: no dynamic provisioning.
    return spec if storage_class is None else spec | {"storageClassName": storage_class}


def ephemeral(size: str, storage_class: str | None) -> dict[str, Any]:
    """A volume of the pod's own, which goes with it."""
    return {"ephemeral": {"volumeClaimTemplate": {"spec": claim_spec(size, storage_class)}}}


def scratch() -> list[Mount]:
    """HOME with its caches, and the shared memory that data loaders and NCCL use."""
    return [
        Mount("tmp", {"emptyDir": {}}, HOME),
        Mount("shm", {"emptyDir": {"medium": "Memory"}}, Path("/dev/shm")),  # noqa: S108
    ]
