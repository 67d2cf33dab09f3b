"""Names, labels and the revision: everything that the desired objects and the observed world must agree on."""

import hashlib
import json
import re
from typing import Any

from pydantic import BaseModel

from finetune_operator.api.v1alpha1 import GROUP, FineTuneJobSpec
from finetune_operator.api.values import QUEUE as QUEUE

FIELD_MANAGER = "finetune-operator"
MANAGED_BY = "app.kubernetes.io/managed-by"
JOB = f"{GROUP}/job"
ENGINE_OF = f"{GROUP}/engine"
REVISION = f"{GROUP}/revision"
STAGE = f"{GROUP}/stage"
# Kubernetes' own, on each pod of a Job.
CARRIED_BY = "batch.kubernetes.io/job-name"
INPUTS = f"{GROUP}/inputs"
APPLIED = f"{GROUP}/applied"
RETRY = f"{GROUP}/retry"
PROMOTE = f"{GROUP}/promote"
UPGRADE = f"{GROUP}/upgrade"
# On what a FineTuneJob has made that concerns an Engine which is not its own: the Engine's name.
LOADED_ON = f"{GROUP}/loaded-on"
# On an Engine's pod: the adapters that it should have.
ADAPTERS_WANTED = f"{GROUP}/adapters"

STATUS_PORT_NAME = "status"
# The containers of an engine's pods: vLLM's, and the one that brings the model before.
ENGINE, FETCH = "engine", "fetch"
# And the one that loads adapters into it while it runs.
ADAPTERS = "adapters"
# The stage that labels the pods of the base model's engine, which a revision is compared with.
BASE = "base"
ENGINE_PORT = 8000
ENGINE_PORT_NAME = "http"
RUN_CONFIG = "run.json"
EVALUATION = "evaluation.json"
ADAPTER = "adapter.json"


def digest(value: Any) -> str:
    """Eight hex digits of the canonical JSON of `value`."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]


# Fields of spec.training that say how the weights are made, not what they are. Every other one counts.
NOT_IN_REVISION = frozenset(
    {
        "budget",
        "keep_checkpoints",
        "resources",
        "max_runtime",
        "retries",
        "pod",
        "queue",
        "nodes",
        "sharding",
        "tracking",
    }
)
# How many trials are under way at once is nothing that they depend on.
SWEEP_NOT_IN_REVISION = {"sweep": {"parallel"}}
# And of spec.dataset, those that say how rows are come by and whether they are let through.
DATASET_NOT_IN_REVISION = frozenset({"credentials", "on_sensitive"})


def revision_of(spec: FineTuneJobSpec) -> str:
    """The revision: a digest of the fields that the weights depend on, and of no others.

    The image counts when the manifest names it; the operator's default does not, or upgrading the operator would train
    every model again.
    """
    return digest(
        {
            "model": given(spec.model, exclude={"credentials"}),
            "dataset": given(spec.dataset, exclude=set(DATASET_NOT_IN_REVISION)),
            "training": given(spec.training, exclude=dict.fromkeys(NOT_IN_REVISION, True) | SWEEP_NOT_IN_REVISION),
        }
    )


def given(model: BaseModel | None, exclude: set[str] | dict[str, Any] | None = None) -> Any:
    """A part of the manifest as a digest takes it: without what has its default, so that a new field changes none."""
    return model and model.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude=exclude)


_CHECKPOINT = "checkpoint-"


def address(revision: str, step: int | None) -> str:
    """What people call a revision, or the checkpoint of a step that was kept beside its artifact."""
    return revision if step is None else f"{revision}@{step}"


def revision_and_step(address: str) -> tuple[str, int | None]:
    """The revision and the step that an address names; what is no address is taken for a revision as it is."""
    found = re.fullmatch("([^@]+)@(0|[1-9][0-9]{0,15})", address)
    return (found[1], int(found[2])) if found else (address, None)


def checkpoint(step: int) -> str:
    """The stage that the pods of a checkpoint's engine are labelled with."""
    return f"{_CHECKPOINT}{step}"


def step_of(stage: str) -> int | None:
    """The step of the checkpoint that an engine has whose pods are labelled so; None for any other's."""
    step = stage.removeprefix(_CHECKPOINT)
    return int(step) if step != stage and step.isdecimal() else None


def of_revision(name: str, revision: str) -> str:
    """The name of a revision's volume, record, candidate Deployment and Service."""
    return f"{name}-{revision}"


def of_served(name: str, address: str) -> str:
    """The name of the Deployment with the engine of a revision, or of a checkpoint."""
    revision, step = revision_and_step(address)
    return of_revision(name, revision) if step is None else of_stage(name, revision, checkpoint(step))


def of_base(name: str, revision: str) -> str:
    """The name of the Deployment and Service of the base model that a revision is compared with."""
    return of_stage(name, revision, BASE)


def of_stage(name: str, revision: str, stage: str) -> str:
    """The name of a stage's Job."""
    return f"{name}-{revision}-{stage}"


def of_adapter(name: str, revision: str, engine: str) -> str:
    """The name of the ConfigMap that asks an Engine for a revision's adapter; the adapter has the revision's."""
    return adapter_of(of_revision(name, revision), engine)


def of_asking(name: str, revision: str) -> str:
    """The name of the Service that asks an Engine to take the FineTuneJob's name for a revision, before it serves."""
    return of_stage(name, revision, "on")


def of_clients(name: str) -> str:
    """The name of the NetworkPolicy that says who may ask a FineTuneJob's own engines."""
    return f"{name}-clients"


def adapter_of(adapter: str, engine: str) -> str:
    """The name of the ConfigMap that asks an Engine for an adapter of this name; who moves to another asks both."""
    return f"{adapter}-on-{engine}"


def of_engine(name: str) -> str:
    """The name of the record of an Engine; its Deployment, Service and NetworkPolicy have the Engine's own."""
    return f"{name}-engine"


def engine_labels(name: str) -> dict[str, str]:
    """The labels of everything made for an Engine."""
    return {MANAGED_BY: FIELD_MANAGER, ENGINE_OF: name}


def labels(name: str, revision: str | None = None, stage: str | None = None) -> dict[str, str]:
    """The labels of everything made for a FineTuneJob; with a revision or a stage, of what belongs to that."""
    found = {MANAGED_BY: FIELD_MANAGER, JOB: name, REVISION: revision, STAGE: stage}
    return {key: value for key, value in found.items() if value is not None}
