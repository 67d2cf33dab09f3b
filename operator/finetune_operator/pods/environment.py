"""Environment variables: the operator's, the credentials by reference, and the user's own. Used by the pod builders."""

from typing import Any

from finetune_operator.api.pods import EnvVar
from finetune_operator.api.v1alpha1 import Credentials, FineTuneJobSpec
from finetune_operator.finetunejob.desired.run_config import data_uris

Variable = dict[str, Any]

KEYS = (
    "HF_TOKEN",
    "HF_ENDPOINT",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL",
)
# Without these the source can't be read: a Secret that lacks one keeps the pod from starting, which says so.
_REQUIRED = {"hf": {"HF_TOKEN"}, "s3": {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}}


def variables(values: dict[str, str]) -> list[Variable]:
    """Plain values."""
    return [{"name": name, "value": value} for name, value in values.items()]


def threads(limits: dict[str, Any]) -> list[Variable]:
    """As many threads as the container may use: OpenMP counts the node's cores and knows nothing of a limit."""
    if "cpu" not in limits:
        return []
    return [{"name": "OMP_NUM_THREADS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]


def credentials(spec: FineTuneJobSpec) -> list[Variable]:
    """FINETUNE_MODEL_* and FINETUNE_DATASET_*, from the Secrets that the manifest names."""
    return [
        *_credentials("FINETUNE_MODEL_", spec.model.credentials, [spec.model.source]),
        *_credentials("FINETUNE_DATASET_", spec.dataset.credentials, data_uris(spec.dataset)),
    ]


def judge_key(spec: FineTuneJobSpec) -> list[Variable]:
    """FINETUNE_JUDGE_OPENAI_API_KEY, from the Secret that evaluation.judge names."""
    judge = spec.evaluation.judge
    if not judge or judge.credentials is None:
        return []
    return [_from_secret("FINETUNE_JUDGE_", judge.credentials.secret_ref.name, "OPENAI_API_KEY", False)]


def merged(ours: list[Variable], users: list[EnvVar]) -> list[Variable]:
    """One variable per name, the API's rule; the user's wins."""
    theirs = [variable.model_dump(by_alias=True, exclude_none=True) for variable in users]
    return list({variable["name"]: variable for variable in [*ours, *theirs]}.values())


def _credentials(prefix: str, given: Credentials | None, uris: list[str]) -> list[Variable]:
    if given is None:
        return []
    required = set().union(*(_REQUIRED.get(uri.partition("://")[0], set()) for uri in uris))
    return [_from_secret(prefix, given.secret_ref.name, key, key not in required) for key in KEYS]


def _from_secret(prefix: str, secret: str, key: str, optional: bool) -> Variable:
    reference = {"name": secret, "key": key, "optional": optional}
    return {"name": prefix + key, "valueFrom": {"secretKeyRef": reference}}
