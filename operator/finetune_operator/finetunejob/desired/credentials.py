"""Credentials as environment variables, by reference to the Secrets that the manifest names. Used by `jobs`."""

from finetune_trainer.contract.config import CREDENTIAL_KEYS

from finetune_operator.api.model import Credentials
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.finetunejob.desired.run_config import data_uris
from finetune_operator.pods.environment import Variable, from_secret

# Without these the source can't be read: a Secret that lacks one keeps the pod from starting, which says so.
_REQUIRED = {"hf": {"HF_TOKEN"}, "s3": {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}}


def credentials(spec: FineTuneJobSpec) -> list[Variable]:
    """FINETUNE_MODEL_* and FINETUNE_DATASET_*."""
    return [
        *_credentials("FINETUNE_MODEL_", spec.model.credentials, [spec.model.source]),
        *_credentials("FINETUNE_DATASET_", spec.dataset.credentials, data_uris(spec.dataset)),
    ]


def judge_key(spec: FineTuneJobSpec) -> list[Variable]:
    """FINETUNE_JUDGE_OPENAI_API_KEY, from the Secret that evaluation.judge names."""
    judge = spec.evaluation.judge
    if not judge or judge.credentials is None:
        return []
    return [from_secret("FINETUNE_JUDGE_", judge.credentials.secret_ref.name, "OPENAI_API_KEY", False)]


def _credentials(prefix: str, given: Credentials | None, uris: list[str]) -> list[Variable]:
    if given is None:
        return []
    required = set().union(*(_REQUIRED.get(uri.partition("://")[0], set()) for uri in uris))
    return [from_secret(prefix, given.secret_ref.name, key, key not in required) for key in CREDENTIAL_KEYS]
