"""train: the rows become an adapter (or a whole model), resumed from the last checkpoint after any interruption."""

from typing import Any

from finetune_trainer.contract.config import TrackerType
from finetune_trainer.contract.report import Tracked, TrainResult

from finetune_operator import names
from finetune_operator.api.status import ArtifactStatus, CheckpointStatus, Phase, TrackingStatus, UsageStatus
from finetune_operator.api.training import Training
from finetune_operator.conditions import Reason, Type
from finetune_operator.finetunejob.desired import tracking, volumes
from finetune_operator.finetunejob.desired.jobs import Work, meeting_point, processes
from finetune_operator.finetunejob.record import TRAINED
from finetune_operator.finetunejob.stages.base import Context, State, Step
from finetune_operator.finetunejob.stages.job import JobStage
from finetune_operator.finetunejob.target import Target
from finetune_operator.pods.environment import variables
from finetune_operator.pods.metadata import Manifest
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
        """What it needs lies on the volume: it gets no credential but a tracker's, and asks no hub."""
        training = target.spec.training
        return Work(
            devices=True,
            environment=[*variables({"HF_HUB_OFFLINE": "1"}), *tracking.keys(training)],
            mounts=volumes.user_mounts([target.spec.model.source]),
            arguments=(*keep_checkpoints(training), *tracking.arguments(training)),
        )

    def made_from(self, context: Context) -> dict[str, Any]:
        """Beside what every Job gets: the checkpoints that it keeps, its tracker, its nodes and its queue."""
        training = context.spec.training
        told, own = keep_checkpoints(training), names.given(training)
        return (
            super().made_from(context)
            | ({"arguments": told} if told else {})
            | tracking.made_from(training)
            # Kueue moves no Job that runs.
            | {key: own[key] for key in ("nodes", "queue") if key in own}
        )

    def beside(self, target: Target) -> tuple[Manifest, ...]:
        """Where several nodes meet."""
        return (meeting_point(target, self.name),) if target.spec.training.nodes > 1 else ()

    def ended(self, context: Context) -> Step | None:
        """Devices that can't share the batch of the plan, or nodes that can't share the volume, are never held: the
        manifest may ask for them since both were made.
        """
        return super().ended(context) or _unshared(context) or _confined(context)

    def entry(self, target: Target) -> str:
        """One for each revision."""
        return TRAINED

    def verdict(self, context: Context) -> Step | None:
        """The artifact, and what it took."""
        found = context.record.trained
        return _told(found, context.target) if found else None


def keep_checkpoints(training: Training) -> tuple[str, ...]:
    """The argument that tells train of training.keepCheckpoints; none for the default.

    The run config can't: a revision's is written once, and how much is kept of a training changes nothing about it.
    """
    wanted = training.keep_checkpoints
    return () if wanted == 1 else ("--keep-checkpoints", str(wanted))


def _unshared(context: Context) -> Step | None:
    prepared, devices = context.record.prepared, processes(context.spec.training)
    if prepared is None or devices <= 1 or prepared.plan.batch_size % devices == 0:
        return None
    return Step(
        State.FAILED,
        Reason.CONFIG_INVALID,
        f"The batch of {prepared.plan.batch_size} rows (status.plan.batchSize) can't be shared evenly by the "
        f"{_sharers(context.spec.training)}: ask there for a number that divides it, or set training.batchSize to a "
        f"multiple of {devices}.",
    )


def _sharers(training: Training) -> str:
    each, nodes = accelerators(training.resources), training.nodes
    if nodes == 1:
        return f"{each} accelerators in training.resources"
    if each == 0:
        return f"{nodes} pods of training.nodes"
    return f"{nodes * each} accelerators of {nodes} pods (training.nodes)"


def _confined(context: Context) -> Step | None:
    name = names.of_revision(context.target.name, context.target.revision)
    volume, nodes = context.world.claims.get(name), context.spec.training.nodes
    if nodes == 1 or volume is None or "ReadWriteMany" in volume.access_modes:
        return None
    return Step(
        State.FAILED,
        Reason.CONFIG_INVALID,
        f"PersistentVolumeClaim {name} was made {', '.join(volume.access_modes)}, so training.nodes {nodes} can't "
        "share it: set nodes back to 1, or train a new revision with workspace.accessModes [ReadWriteMany], for "
        "example by another training.seed.",
    )


def _told(result: TrainResult, target: Target) -> Step:
    """Fill status.artifact, status.checkpoints and status.usage."""
    usage, uri = result.usage, f"{target.files}/artifact"
    told = f"Trained on {usage.trained_tokens} tokens; the artifact is {uri}."
    tracked = result.tracked
    lost = f"{tracked.problem} Training went on without it." if tracked and tracked.problem else ""
    return Step(
        State.SUCCEEDED,
        Reason.SUCCEEDED,
        " ".join(sentence for sentence in (told, result.chosen, result.notice, lost) if sentence),
        report={
            "artifact": ArtifactStatus(uri=uri, **result.artifact.model_dump()),
            "checkpoints": [
                CheckpointStatus(
                    name=names.address(target.revision, found.step if place else None),
                    step=found.step,
                    validation_loss=None if found.validation_loss is None else f"{found.validation_loss:.4f}",
                    uri=f"{target.files}/kept/{found.step}" if place else uri,
                    digest=found.digest,
                    bytes=found.bytes,
                )
                for place, found in enumerate(result.checkpoints)
            ]
            or None,
            "tracking": tracked and TrackingStatus(type=tracked.type, url=tracked.url or _events(tracked, target)),
            "usage": UsageStatus(
                trained_tokens=usage.trained_tokens,
                seconds=round(usage.seconds),
                accelerator_seconds=round(usage.accelerator_seconds),
            ),
        },
    )


def _events(tracked: Tracked, target: Target) -> str | None:
    """TensorBoard's files: their place is known here, and not where they are written."""
    return f"{target.files}/tensorboard" if tracked.type == TrackerType.TENSORBOARD else None
