"""train: the rows become an adapter (or a whole model), resumed from the last checkpoint after any interruption."""

from collections.abc import Mapping
from typing import Any

from finetune_trainer.report import TrainResult

from finetune_operator import names
from finetune_operator.api.status import ArtifactStatus, UsageStatus
from finetune_operator.conditions import Type
from finetune_operator.desired.jobs import train_job
from finetune_operator.stages.base import Context
from finetune_operator.stages.job import JobStage
from finetune_operator.target import Manifest, Target


class Train(JobStage):
    """The Job that trains."""

    name = "train"
    condition = Type.TRAINED
    frees_serving = True

    def job(self, target: Target, inputs: str, suspended: bool) -> Manifest:
        """The train Job."""
        return train_job(target, inputs, suspended)

    def report(self, context: Context, result: Mapping[str, Any]) -> dict[str, Any]:
        """status.artifact and status.usage."""
        claim = names.of_revision(context.target.name, context.target.revision)
        return trained(TrainResult.model_validate(result), f"pvc://{claim}/artifact")

    def done(self, report: Mapping[str, Any]) -> str:
        """What was made of what."""
        return f"Trained on {report['usage'].trained_tokens} tokens; the artifact is {report['artifact'].uri}."


def trained(result: TrainResult, uri: str) -> dict[str, Any]:
    """The status fields that train's result fills; the local backend fills them the same way."""
    usage = result.usage
    return {
        "artifact": ArtifactStatus(uri=uri, **result.artifact.model_dump()),
        "usage": UsageStatus(
            trained_tokens=usage.trained_tokens,
            seconds=round(usage.seconds),
            accelerator_seconds=round(usage.accelerator_seconds),
        ),
    }
