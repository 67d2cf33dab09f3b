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
    if pods.get(_REQUIRED):
        return preferring(wanted, together)
    return {**wanted, "podAffinity": {**pods, _REQUIRED: [_term(together)]}}


def preferring(wanted: dict[str, Any], near: dict[str, str] | None) -> dict[str, Any]:
    """The user's affinity, and a preference for the node of the pods labelled `near`, if there are any."""
    if near is None:
        return wanted
    pods = wanted.get("podAffinity") or {}
    preferred = [*pods.get(_PREFERRED, []), {"weight": 100, "podAffinityTerm": _term(near)}]
    return {**wanted, "podAffinity": {**pods, _PREFERRED: preferred}}


def _term(labels: dict[str, str]) -> dict[str, Any]:
    return {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
