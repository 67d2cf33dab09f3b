"""Environment variables: plain ones, those taken from a Secret by reference, and the user's own."""

from typing import Any

from finetune_operator.api.env import EnvVar

Variable = dict[str, Any]


def variables(values: dict[str, str]) -> list[Variable]:
    """Plain values."""
    return [{"name": name, "value": value} for name, value in values.items()]


def threads(limits: dict[str, Any]) -> list[Variable]:
    """As many threads as the container may use: OpenMP counts the node's cores and knows nothing of a limit."""
    if "cpu" not in limits:
        return []
    return [{"name": "OMP_NUM_THREADS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]


def from_secret(prefix: str, secret: str, key: str, optional: bool) -> Variable:
    """PREFIX and KEY, from a key of a Secret. Not optional: without the key the pod does not start, and says so."""
    reference = {"name": secret, "key": key, "optional": optional}
    return {"name": prefix + key, "valueFrom": {"secretKeyRef": reference}}


def merged(ours: list[Variable], users: list[EnvVar]) -> list[Variable]:
    """One variable per name, the API's rule; the user's wins."""
    theirs = [variable.model_dump(by_alias=True, exclude_none=True) for variable in users]
    return list({variable["name"]: variable for variable in [*ours, *theirs]}.values())
