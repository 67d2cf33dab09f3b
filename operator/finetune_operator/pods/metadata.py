"""Name, labels and owner of an object, and whose an object is. Used by all builders, and by whoever looks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]
# An object as the API server has it, to be read.
Raw = Mapping[str, Any]


@dataclass(frozen=True)
class Owner:
    """The object that others are made for."""

    api_version: str
    kind: str
    name: str
    namespace: str
    uid: str


def metadata(
    owner: Owner, name: str, labels: dict[str, str], annotations: dict[str, str] | None = None
) -> dict[str, Any]:
    """ObjectMeta: garbage collection removes the object with its owner, whose uid it names."""
    found: dict[str, Any] = {
        "name": name,
        "namespace": owner.namespace,
        "labels": labels,
        "ownerReferences": [reference(owner)],
    }
    return found | ({"annotations": annotations} if annotations else {})


def controller_of(raw: Mapping[str, Any]) -> str | None:
    """The uid of the object that controls this one: the only thing that says whose it is; labels are anybody's."""
    owners = raw["metadata"].get("ownerReferences") or []
    return next((owner["uid"] for owner in owners if owner.get("controller")), None)


def reference(owner: Owner) -> Manifest:
    """The owner reference of a controller."""
    # blockOwnerDeletion makes a foreground deletion wait for the pods; clusters that check it (OpenShift) demand
    # `update` on the owner's finalizers from the operator, which the chart's role grants.
    return {
        "apiVersion": owner.api_version,
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
