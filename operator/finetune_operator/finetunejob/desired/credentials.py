"""Credentials as environment variables, by reference to the Secrets that the manifest names.

Used by the stages prepare, publish and evaluate.
"""

from finetune_trainer.contract.config import SIGNING_KEYS

from finetune_operator.api.model import ApiKey
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.finetunejob.desired.run_config import data_uris
from finetune_operator.pods import sources
from finetune_operator.pods.environment import Variable, from_secret
from finetune_operator.serving.pod import API_KEY


def credentials(spec: FineTuneJobSpec) -> list[Variable]:
    """FINETUNE_MODEL_* and FINETUNE_DATASET_*."""
    return [
        *sources.credentials("FINETUNE_MODEL_", spec.model.credentials, [spec.model.source]),
        *sources.credentials("FINETUNE_DATASET_", spec.dataset.credentials, data_uris(spec.dataset)),
    ]


def output_credentials(spec: FineTuneJobSpec) -> list[Variable]:
    """FINETUNE_OUTPUT_*."""
    prefix, sign = "FINETUNE_OUTPUT_", spec.output.sign
    key, password = SIGNING_KEYS
    given = {key: False, password: True} if sign else {}
    signing = [from_secret(prefix, sign.secret_ref.name, name, optional) for name, optional in given.items() if sign]
    return [*sources.credentials(prefix, spec.output.credentials, [spec.output.destination or ""]), *signing]


def endpoint_keys(spec: FineTuneJobSpec) -> list[Variable]:
    """The keys of whom an evaluation asks beside the candidate: FINETUNE_JUDGE_OPENAI_API_KEY, and by its place in the
    list FINETUNE_BASELINE_0_OPENAI_API_KEY of a baseline.
    """
    secrets = endpoint_secrets(spec)
    return [from_secret(f"FINETUNE_{owner}_", name, API_KEY, False) for owner, name in secrets.items()]


def engine_key(given: ApiKey | None) -> list[Variable]:
    """The key of the engine that is measured: FINETUNE_ENGINE_OPENAI_API_KEY."""
    return [from_secret("FINETUNE_ENGINE_", given.secret_ref.name, API_KEY, False)] if given else []


def endpoint_secrets(spec: FineTuneJobSpec) -> dict[str, str]:
    """The Secrets that they are from, by owner."""
    evaluation = spec.evaluation
    if not evaluation.enabled:
        return {}
    asked = {f"BASELINE_{place}": baseline for place, baseline in enumerate(evaluation.baselines or [])}
    given = {"JUDGE": evaluation.judge, **asked}
    return {owner: each.credentials.secret_ref.name for owner, each in given.items() if each and each.credentials}
