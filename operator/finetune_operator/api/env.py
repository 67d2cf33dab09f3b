"""Environment variables in the manifest: every name but those that the operator sets or that another field is for."""

import re
from typing import Annotated

from pydantic import Field

from finetune_operator.api.rules import ApiModel, Rule
from finetune_operator.api.values import DataKey, ObjectName

# Kubernetes 1.32 takes nearly any name; before, and in most shells, it is this.
_NAME = "[-_a-zA-Z][-._a-zA-Z0-9]*"


def _taken(names: str, sentence: str) -> Rule:
    """Names that are not the user's, as a regular expression, and what to do."""
    return Rule(f"!self.matches('^({names})$')", sentence, lambda name: re.fullmatch(names, name) is None)


# LD_LIBRARY_PATH is no one of these: some nodes' GPU drivers lie where only it finds them. Nor are OMP_NUM_THREADS and
# VLLM_CPU_*, which tune.
_RULES = (
    _taken(
        "HF_TOKEN|HF_TOKEN_PATH|HF_ENDPOINT|HUGGING_FACE_HUB_TOKEN",
        "belongs into the Secret of model.credentials or dataset.credentials: remove it here",
    ),
    _taken(
        "AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|SECURITY_TOKEN|PROFILE|REGION|DEFAULT_REGION|"
        "ENDPOINT_URL[A-Z0-9_]*)",
        "belongs into the Secret of model.credentials or dataset.credentials: remove it here",
    ),
    _taken(
        "GOOGLE_APPLICATION_CREDENTIALS(_JSON)?|STORAGE_EMULATOR_HOST|AZURE_STORAGE_(CONNECTION_STRING|ACCOUNT_NAME|"
        "ACCOUNT_KEY|SAS_TOKEN|TENANT_ID|CLIENT_ID|CLIENT_SECRET)|REGISTRY_(USERNAME|PASSWORD|PLAIN_HTTP)",
        "belongs into the Secret of model.credentials or dataset.credentials: remove it here",
    ),
    _taken("OPENAI_API_KEY", "belongs into the Secret of the judge's or a baseline's credentials: remove it here"),
    _taken(
        "MLFLOW_TRACKING_(TOKEN|USERNAME|PASSWORD)|TRACKIO_WRITE_TOKEN|WANDB_API_KEY",
        "belongs into the Secret of training.tracking.credentials: remove it here",
    ),
    _taken(
        "VLLM_API_KEY",
        "would shut out evaluation and the engine's own probes: remove it, and guard the endpoint with a NetworkPolicy "
        "or a gateway",
    ),
    _taken(
        "NVIDIA_VISIBLE_DEVICES|CUDA_VISIBLE_DEVICES|HIP_VISIBLE_DEVICES|ROCR_VISIBLE_DEVICES",
        "follows from resources.limits: remove it, and ask for accelerators there",
    ),
    _taken(
        "RANK|LOCAL_RANK|GROUP_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|MASTER_ADDR|MASTER_PORT",
        "follows from resources.limits, which say how many processes train: remove it",
    ),
    _taken(
        "FINETUNE_.*|HOME|USER|PATH|PYTHONPATH|PYTHONHOME|LD_PRELOAD|HF_HUB_OFFLINE|TRANSFORMERS_OFFLINE|"
        "HF_DATASETS_OFFLINE|VLLM_ALLOW_RUNTIME_LORA_UPDATING|VLLM_SERVER_DEV_MODE",
        "is the operator's to set, or would undo what it relies on: remove it",
    ),
)


class SecretKey(ApiModel):
    """A key of a Secret."""

    name: ObjectName
    """The Secret's name."""
    key: DataKey
    """The key in it."""


class ValueFrom(ApiModel):
    """Where an environment variable's value comes from."""

    secret_key_ref: SecretKey
    """A key of a Secret."""


class EnvVar(ApiModel):
    """An environment variable."""

    name: Annotated[
        str,
        Field(max_length=253),
        Rule(
            f"self.matches('^{_NAME}$')",
            "must be a variable's name: letters, digits, '-', '_' and '.', not starting with a digit or '.'",
            lambda name: re.fullmatch(_NAME, name) is not None,
        ),
        *_RULES,
    ]
    """The variable's name."""
    value: Annotated[str, Field(max_length=32768)] | None = None
    """Its value."""
    value_from: ValueFrom | None = None
    """Where its value comes from, in place of value."""

    rules = (
        Rule(
            "has(self.value) != has(self.valueFrom)",
            "needs either value or valueFrom, and not both",
            lambda env: (env.value is None) != (env.value_from is None),
        ),
    )
