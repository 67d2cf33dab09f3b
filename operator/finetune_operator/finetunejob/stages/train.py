"""train: the rows become an adapter (or a whole model), resumed from the last checkpoint after any interruption."""

from collections.abc import Mapping
from typing import Any

from finetune_trainer.report import TrainResult

from finetune_operator import names
from finetune_operator.api.status import ArtifactStatus, UsageStatus
from finetune_operator.conditions import Reason, Type
from finetune_operator.finetunejob.desired.jobs import train_job
from finetune_operator.finetunejob.stages.base import Context, State, Step
from finetune_operator.finetunejob.stages.job import JobStage
from finetune_operator.finetunejob.target import Manifest, Target


class Train(JobStage):
    """The Job that trains."""

    name = "train"
    condition = Type.TRAINED
    frees_serving = True

    def job(self, target: Target, inputs: str, suspended: bool) -> Manifest:
        """The train Job."""
        return train_job(target, inputs, suspended)

    def conclude(self, context: Context, result: Mapping[str, Any]) -> Step:
        """The artifact, and what it took."""
        claim = names.of_revision(context.target.name, context.target.revision)
        return trained(TrainResult.model_validate(result), f"pvc://{claim}/artifact")


def trained(result: TrainResult, uri: str) -> Step:
    """Fill status.artifact and status.usage; the local backend calls it too."""
    usage = result.usage
    return Step(
        State.SUCCEEDED,
        Reason.SUCCEEDED,
        f"Trained on {usage.trained_tokens} tokens; the artifact is {uri}.",
        report={
            "artifact": ArtifactStatus(uri=uri, **result.artifact.model_dump()),
            "usage": UsageStatus(
                trained_tokens=usage.trained_tokens,
                seconds=round(usage.seconds),
                accelerator_seconds=round(usage.accelerator_seconds),
            ),
        },
    )
