"""Names, labels and the revision: everything that the desired objects and the observed world must agree on."""

import hashlib
import json
from typing import Any

from finetune_operator.api.v1alpha1 import GROUP, FineTuneJobSpec

FIELD_MANAGER = "finetune-operator"
MANAGED_BY = "app.kubernetes.io/managed-by"
JOB = f"{GROUP}/job"
REVISION = f"{GROUP}/revision"
STAGE = f"{GROUP}/stage"
INPUTS = f"{GROUP}/inputs"
RETRY = f"{GROUP}/retry"
PROMOTE = f"{GROUP}/promote"

STATUS_PORT_NAME = "status"
ENGINE = "engine"
ENGINE_PORT = 8000
ENGINE_PORT_NAME = "http"
RUN_CONFIG_KEY = "run.json"
EVALUATION_KEY = "evaluation.json"


def digest(value: Any) -> str:
    """Eight hex digits of the canonical JSON of `value`."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


def revision_of(spec: FineTuneJobSpec) -> str:
    """The revision: a digest of the fields that the weights depend on, and of no others.

    Credentials, resources, retries and pods change how the weights are made, not what they are. The image counts when
    the manifest names it; the operator's default does not, or upgrading the operator would train every model again.
    """
    training = {
        "method",
        "adapter",
        "epochs",
        "max_steps",
        "learning_rate",
        "batch_size",
        "max_length",
        "seed",
        "image",
    }
    return digest(
        {
            "model": _fields(spec.model, exclude={"credentials"}),
            "dataset": _fields(spec.dataset, exclude={"credentials"}),
            "training": _fields(spec.training, include=training),
        }
    )


def _fields(model: Any, **selection: set[str]) -> Any:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True, **selection)


def of_revision(name: str, revision: str) -> str:
    """The name of a revision's volume, run config, candidate Deployment and Service."""
    return f"{name}-{revision}"


def of_stage(name: str, revision: str, stage: str) -> str:
    """The name of a stage's Job."""
    return f"{name}-{revision}-{stage}"


def of_evaluation(name: str, revision: str) -> str:
    """The name of the ConfigMap that tells what a revision is measured by."""
    return f"{name}-{revision}-evaluate"


def labels(name: str, revision: str | None = None, stage: str | None = None) -> dict[str, str]:
    """The labels of everything made for a FineTuneJob; with a revision or a stage, of what belongs to that."""
    found = {MANAGED_BY: FIELD_MANAGER, JOB: name, REVISION: revision, STAGE: stage}
    return {key: value for key, value in found.items() if value is not None}
