"""train: the rows become an adapter (or a whole model), resumed from the last checkpoint after any interruption."""

from typing import Any

from finetune_trainer.contract.config import TrackerType
from finetune_trainer.contract.results import Tracked, TrainResult

from finetune_operator import names
from finetune_operator.api.status import ArtifactStatus, CheckpointStatus, Phase, TrackingStatus, UsageStatus
from finetune_operator.api.training import Training
from finetune_operator.conditions import Reason, Type
from finetune_operator.finetunejob.curve import curve_status
from finetune_operator.finetunejob.desired import budget, sweep, tracking
from finetune_operator.finetunejob.desired.jobs import JobNeeds, meeting_point, processes, sharding
from finetune_operator.finetunejob.homes import home
from finetune_operator.finetunejob.record import TRAINED
from finetune_operator.finetunejob.stages.base import Context, Step
from finetune_operator.finetunejob.stages.job import JobStage
from finetune_operator.finetunejob.stages.pace import TRAINED_ON, trained_on
from finetune_operator.finetunejob.target import Target
from finetune_operator.finetunejob.trials import trial_statuses
from finetune_operator.kinds.plan import State
from finetune_operator.pods.environment import variables
from finetune_operator.pods.metadata import Manifest
from finetune_operator.pods.resources import accelerators
from finetune_operator.pods.sources import user_mounts


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

    def needs(self, target: Target) -> JobNeeds:
        """What it needs lies on the volume: it gets no credential but a tracker's, and asks no hub."""
        training = target.spec.training
        return JobNeeds(
            devices=True,
            trials=sweep.trials(training),
            environment=[*variables({"HF_HUB_OFFLINE": "1"}), *tracking.keys(training)],
            mounts=user_mounts([target.spec.model.source, target.cache]),
            arguments=(
                *_told_to_it(training),
                *budget.arguments(training, target.settings),
                *tracking.arguments(training),
            ),
        )

    def made_from(self, context: Context) -> dict[str, Any]:
        """Beside what every Job gets: the checkpoints that it keeps, its sharding, budget, tracker, nodes and queue."""
        training = context.spec.training
        told, own = _told_to_it(training), names.given(training)
        return (
            super().made_from(context)
            | ({"arguments": told} if told else {})
            | budget.made_from(training)
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

    def noted(self, context: Context) -> dict[str, str]:
        """What the next revision's time is foreseen by."""
        return {TRAINED_ON: trained_on(context.spec.training)}

    def waits(self, context: Context) -> Step | None:
        """Nothing is held for what its home could not have; a training that is under way goes on to its artifact."""
        target, world = context.target, context.world
        problem = None if context.job(self.name) else home(target).unfit(target, world)
        return Step(State.BLOCKED, *problem) if problem else None

    def entry(self, target: Target) -> str:
        """One for each revision."""
        return TRAINED

    def recorded(self, context: Context) -> Step | None:
        """The artifact, and what it took."""
        found = context.record.trained
        return _told(found, context.target) if found else None


def keep_checkpoints(training: Training) -> tuple[str, ...]:
    """The argument that tells train of training.keepCheckpoints; none for the default.

    The run config can't: a revision's is written once, and how much is kept of a training changes nothing about it.
    """
    wanted = training.keep_checkpoints
    return () if wanted == 1 else ("--keep-checkpoints", str(wanted))


def _told_to_it(training: Training) -> tuple[str, ...]:
    told = (*keep_checkpoints(training), *sharding(training))
    return (*told, *sweep.arguments(training, sweep.pods(training)))


def _unshared(context: Context) -> Step | None:
    training, prepared = context.spec.training, context.record.prepared
    devices = processes(training)
    if prepared is None or devices <= 1:
        return None
    swept = training.sweep.parameters.batch_size if training.sweep else None
    where = "training.sweep" if swept else "status.plan.batchSize"
    batch = next((size for size in swept or [prepared.plan.batch_size] if size % devices), None)
    if batch is None:
        return None
    return Step(
        State.FAILED,
        Reason.CONFIG_INVALID,
        f"The batch of {batch} rows ({where}) can't be shared evenly by the "
        f"{_sharers(training)}: ask there for a number that divides it, or set training.batchSize to a "
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
    name = context.target.revision_name
    volume, training = context.world.claims.get(name), context.spec.training
    pods, field = (training.nodes, "nodes") if training.nodes > 1 else (sweep.pods(training), "sweep.parallel")
    if pods > 1 and context.target.bucket:
        return Step(
            State.FAILED,
            Reason.CONFIG_INVALID,
            f"This revision's files are kept in {context.target.bucket.uri}, so training.{field} {pods} can't share "
            f"them: set {field} back to 1, or train a new revision on a volume, for example by another training.seed.",
        )
    if pods == 1 or volume is None or "ReadWriteMany" in volume.access_modes:
        return None
    return Step(
        State.FAILED,
        Reason.CONFIG_INVALID,
        f"PersistentVolumeClaim {name} was made {', '.join(volume.access_modes)}, so training.{field} {pods} can't "
        f"share it: set {field} back to 1, or train a new revision with workspace.accessModes [ReadWriteMany], for "
        "example by another training.seed.",
    )


def _told(result: TrainResult, target: Target) -> Step:
    """Fill status.artifact, status.checkpoints and status.usage."""
    usage, uri = result.usage, f"{target.files}/artifact"
    told = f"Trained on {usage.trained_tokens} tokens; the artifact is {uri}."
    right = result.validation_reward_accuracy
    ranked = "" if right is None else f"Of validation's rows {right:.1%} are ranked as they should be."
    tracked = result.tracked
    told = f"{told} {result.swept}" if result.swept else told
    lost = f"{tracked.problem} Training went on without it." if tracked and tracked.problem else ""
    return Step(
        State.SUCCEEDED,
        Reason.BUDGET_SPENT if result.spent else Reason.SUCCEEDED,
        " ".join(said for said in (told, result.spent, ranked, result.chosen, result.notice, lost) if said),
        status={
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
            "trials": trial_statuses(result.trials),
            # Where there was no room to tell of it, or an earlier version has trained, what was heard meanwhile stays.
            **({"curve": curve_status(result.curve)} if result.curve else {}),
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
    if target.spec.training.sweep and tracked.type == TrackerType.TENSORBOARD:
        return f"{target.files}/trials"
    return f"{target.files}/tensorboard" if tracked.type == TrackerType.TENSORBOARD else None
