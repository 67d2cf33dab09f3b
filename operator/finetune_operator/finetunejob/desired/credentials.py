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


def endpoint_keys(spec: FineTuneJobSpec) -> list[Variable]:
    """The keys of whom an evaluation asks beside the candidate: FINETUNE_JUDGE_OPENAI_API_KEY, and by its place in the
    list FINETUNE_BASELINE_0_OPENAI_API_KEY of a baseline.
    """
    secrets = endpoint_secrets(spec)
    return [from_secret(f"FINETUNE_{owner}_", name, "OPENAI_API_KEY", False) for owner, name in secrets.items()]


def endpoint_secrets(spec: FineTuneJobSpec) -> dict[str, str]:
    """The Secrets that they are from, by owner."""
    evaluation = spec.evaluation
    if not evaluation.enabled:
        return {}
    asked = {f"BASELINE_{place}": baseline for place, baseline in enumerate(evaluation.baselines or [])}
    given = {"JUDGE": evaluation.judge, **asked}
    return {owner: each.credentials.secret_ref.name for owner, each in given.items() if each and each.credentials}


def _credentials(prefix: str, given: Credentials | None, uris: list[str]) -> list[Variable]:
    if given is None:
        return []
    required = set().union(*(_REQUIRED.get(uri.partition("://")[0], set()) for uri in uris))
    return [from_secret(prefix, given.secret_ref.name, key, key not in required) for key in CREDENTIAL_KEYS]
