"""Pods that hold one ReadWriteOnce volume at the same time have to land on one node.

A term that all pods of a revision match does it. The scheduler lets the first of them pass, since it matches its own
term and no other pod does; pods that have ended don't count. It also wants one existing pod to match all required terms
at once (kube-scheduler, InterPodAffinity), so beside a user's own required term ours could never be met by the first
pod: there it becomes a preference.
"""

from typing import Any

from finetune_operator import names
from finetune_operator.finetunejob.target import Target

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def affinity(target: Target, wanted: dict[str, Any]) -> dict[str, Any]:
    """The user's affinity, and the term that keeps the revision's pods together where their volume needs it."""
    if "ReadWriteMany" in target.spec.workspace.access_modes:
        return wanted
    pods = wanted.get("podAffinity", {})
    term = {
        "labelSelector": {"matchLabels": {names.JOB: target.name, names.REVISION: target.revision}},
        "topologyKey": "kubernetes.io/hostname",
    }
    if pods.get(_REQUIRED):
        together = {_PREFERRED: [*pods.get(_PREFERRED, []), {"weight": 100, "podAffinityTerm": term}]}
    else:
        together = {_REQUIRED: [term]}
    return {**wanted, "podAffinity": {**pods, **together}}
