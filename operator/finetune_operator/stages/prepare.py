"""prepare: the model and the rows are fetched, checked, split and counted, before an accelerator is held."""

from collections.abc import Mapping
from typing import Any

from finetune_trainer.report import PrepareResult

from finetune_operator.api.status import DatasetStatus, ModelStatus, PlanStatus
from finetune_operator.conditions import Type
from finetune_operator.desired.jobs import prepare_job
from finetune_operator.stages.base import Context
from finetune_operator.stages.job import JobStage
from finetune_operator.target import Manifest, Target

GIBIBYTE = 2**30


class Prepare(JobStage):
    """The Job that checks the data."""

    name = "prepare"
    condition = Type.DATA_READY
    frees_serving = False

    def job(self, target: Target, inputs: str, suspended: bool) -> Manifest:
        """The prepare Job."""
        return prepare_job(target, inputs, suspended)

    def report(self, context: Context, result: Mapping[str, Any]) -> dict[str, Any]:
        """status.model, status.dataset and status.plan."""
        return prepared(PrepareResult.model_validate(result))

    def done(self, report: Mapping[str, Any]) -> str:
        """How many rows there are."""
        rows = report["dataset"].rows
        return f"{rows.train} rows to train on, {rows.validation} to validate, {rows.test} set aside."


def prepared(result: PrepareResult) -> dict[str, Any]:
    """The status fields that prepare's result fills; the local backend fills them the same way."""
    plan = result.plan.model_dump(exclude={"learning_rate", "estimated_memory_bytes"})
    return {
        "model": ModelStatus(**result.model.model_dump()),
        "dataset": DatasetStatus(**result.dataset.model_dump(mode="json")),
        "plan": PlanStatus(
            **plan,
            learning_rate=f"{result.plan.learning_rate:g}",
            estimated_memory=f"{result.plan.estimated_memory_bytes / GIBIBYTE:.1f}Gi",
        ),
    }
