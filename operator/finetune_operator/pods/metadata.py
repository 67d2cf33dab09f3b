"""Name, labels and owner: what every object of a FineTuneJob carries. Used by all builders."""

from typing import Any

from finetune_operator.api.v1alpha1 import API_VERSION, KIND
from finetune_operator.finetunejob.target import Manifest, Target


def metadata(
    target: Target, name: str, labels: dict[str, str], annotations: dict[str, str] | None = None
) -> dict[str, Any]:
    """ObjectMeta: garbage collection removes the object with its FineTuneJob, whose uid it names."""
    found: dict[str, Any] = {
        "name": name,
        "namespace": target.namespace,
        "labels": labels,
        "ownerReferences": [_owner(target)],
    }
    return found | ({"annotations": annotations} if annotations else {})


def _owner(target: Target) -> Manifest:
    # blockOwnerDeletion makes a foreground deletion wait for the pods; clusters that check it (OpenShift) demand
    # `update` on finetunejobs/finalizers from the operator, which the chart's role grants.
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": target.name,
        "uid": target.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
