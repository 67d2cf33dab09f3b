"""Pods that hold one ReadWriteOnce volume at the same time have to land on one node.

A term that all those pods match does it. The scheduler lets the first of them pass, since it matches its own
term and no other pod does; pods that have ended don't count. It also wants one existing pod to match all required terms
at once (kube-scheduler, InterPodAffinity), so beside a user's own required term ours could never be met by the first
pod: there it becomes a preference.
"""

from typing import Any

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def affinity(wanted: dict[str, Any], together: dict[str, str] | None) -> dict[str, Any]:
    """The user's affinity, and the term that keeps the pods labelled `together` on one node."""
    if together is None:
        return wanted
    pods = wanted.get("podAffinity") or {}
    term = {"labelSelector": {"matchLabels": together}, "topologyKey": "kubernetes.io/hostname"}
    if pods.get(_REQUIRED):
        near = {_PREFERRED: [*pods.get(_PREFERRED, []), {"weight": 100, "podAffinityTerm": term}]}
    else:
        near = {_REQUIRED: [term]}
    return {**wanted, "podAffinity": {**pods, **near}}
