"""train: the rows become an adapter (or a whole model), resumed from the last checkpoint after any interruption."""

from finetune_trainer.contract.report import TrainResult

from finetune_operator.api.status import ArtifactStatus, Phase, UsageStatus
from finetune_operator.conditions import Reason, Type
from finetune_operator.finetunejob.desired import volumes
from finetune_operator.finetunejob.desired.jobs import Work
from finetune_operator.finetunejob.record import TRAINED
from finetune_operator.finetunejob.stages.base import Context, State, Step
from finetune_operator.finetunejob.stages.job import JobStage
from finetune_operator.finetunejob.target import Target
from finetune_operator.pods.environment import variables
from finetune_operator.pods.resources import accelerators


class Train(JobStage):
    """The Job that trains."""

    name = "train"
    condition = Type.TRAINED
    phase = Phase.TRAINING
    result = TrainResult
    frees_serving = True
    # It ends its step and writes a checkpoint: minutes for all weights of a large model.
    grace_seconds = 300
    stops = "finishes its step and keeps a checkpoint"
    resumes = "goes on from its last checkpoint"

    def work(self, target: Target) -> Work:
        """What it needs lies on the volume: it gets no credential and asks no hub."""
        return Work(
            devices=True,
            environment=variables({"HF_HUB_OFFLINE": "1"}),
            mounts=volumes.user_mounts([target.spec.model.source]),
        )

    def ended(self, context: Context) -> Step | None:
        """Devices that can't share the batch of the plan, which the manifest may ask for since, are never held."""
        return super().ended(context) or _unshared(context)

    def entry(self, target: Target) -> str:
        """One for each revision."""
        return TRAINED

    def verdict(self, context: Context) -> Step | None:
        """The artifact, and what it took."""
        found = context.record.trained
        return _told(found, f"{context.target.files}/artifact") if found else None


def _unshared(context: Context) -> Step | None:
    prepared, devices = context.record.prepared, accelerators(context.spec.training.resources)
    if prepared is None or devices <= 1 or prepared.plan.batch_size % devices == 0:
        return None
    return Step(
        State.FAILED,
        Reason.CONFIG_INVALID,
        f"The batch of {prepared.plan.batch_size} rows (status.plan.batchSize) can't be shared evenly by the {devices} "
        "accelerators in training.resources: ask there for a number that divides it, or set training.batchSize to a "
        f"multiple of {devices}.",
    )


def _told(result: TrainResult, uri: str) -> Step:
    """Fill status.artifact and status.usage."""
    usage = result.usage
    return Step(
        State.SUCCEEDED,
        Reason.SUCCEEDED,
        f"Trained on {usage.trained_tokens} tokens; the artifact is {uri}. {result.notice}".strip(),
        report={
            "artifact": ArtifactStatus(uri=uri, **result.artifact.model_dump()),
            "usage": UsageStatus(
                trained_tokens=usage.trained_tokens,
                seconds=round(usage.seconds),
                accelerator_seconds=round(usage.accelerator_seconds),
            ),
        },
    )
