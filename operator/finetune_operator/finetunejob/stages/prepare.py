"""prepare: the model and the rows are fetched, checked, split and counted, before an accelerator is held."""

from collections.abc import Mapping
from typing import Any

from finetune_trainer.report import PrepareResult

from finetune_operator.api.status import DatasetStatus, ModelStatus, PlanStatus
from finetune_operator.conditions import Reason, Type
from finetune_operator.finetunejob.desired.evaluation import evaluation_id
from finetune_operator.finetunejob.desired.jobs import prepare_job
from finetune_operator.finetunejob.stages.base import Context, State, Step
from finetune_operator.finetunejob.stages.job import JobStage
from finetune_operator.finetunejob.target import Manifest, Target

GIBIBYTE = 2**30


class Prepare(JobStage):
    """The Job that checks the data."""

    name = "prepare"
    condition = Type.DATA_READY
    frees_serving = False

    def job(self, target: Target, inputs: str, suspended: bool) -> Manifest:
        """The prepare Job."""
        return prepare_job(target, inputs, suspended)

    def started_with(self, context: Context) -> dict[str, Any]:
        """Beside what every Job gets, the metrics that have to fit the rows."""
        return super().started_with(context) | {"evaluation": evaluation_id(context.target)}

    def conclude(self, context: Context, result: Mapping[str, Any]) -> Step:
        """How many rows there are, and the plan."""
        return prepared(PrepareResult.model_validate(result))


def prepared(result: PrepareResult) -> Step:
    """Fill status.model, status.dataset and status.plan; the local backend calls it too."""
    rows = result.dataset.rows
    plan = result.plan.model_dump(exclude={"learning_rate", "estimated_memory_bytes"})
    return Step(
        State.SUCCEEDED,
        Reason.SUCCEEDED,
        f"{rows.train} rows to train on, {rows.validation} to validate, {rows.test} set aside.",
        report={
            "model": ModelStatus(**result.model.model_dump()),
            "dataset": DatasetStatus(**result.dataset.model_dump(mode="json")),
            "plan": PlanStatus(
                **plan,
                learning_rate=f"{result.plan.learning_rate:g}",
                estimated_memory=f"{result.plan.estimated_memory_bytes / GIBIBYTE:.1f}Gi",
            ),
        },
    )
