"""What a walk means in the words of status: conditions, phase, progress, endpoint, history, Events.

`plan` calls it for the operator, the local backend for `finetune run`: both tell the same story in the same words.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from finetune_trainer.contract.results import Progress

from finetune_operator import names
from finetune_operator.api.status import (
    SUPERSEDED,
    Condition,
    Endpoint,
    FineTuneJobStatus,
    HistoryEntry,
    LossStatus,
    Phase,
    ProgressStatus,
    TrialStatus,
)
from finetune_operator.conditions import Reason, Status, Type, condition, merge
from finetune_operator.finetunejob import busy, shared
from finetune_operator.finetunejob.curve import curve_status
from finetune_operator.finetunejob.desired.hosting import labelled
from finetune_operator.finetunejob.observe import World
from finetune_operator.finetunejob.stages import STAGES
from finetune_operator.finetunejob.stages.base import Stage, Step
from finetune_operator.finetunejob.trials import trial_statuses
from finetune_operator.finetunejob.walk import Walk
from finetune_operator.kinds.plan import MESSAGE_LENGTH, STATUS, Refusal, State
from finetune_operator.kinds.plan import refuse as refused

HISTORY_LENGTH = 10
# A pod may say what it likes.
ACTIVITY_LENGTH, NOTICE_LENGTH = 200, 500
ADDRESS_LENGTH = 2048


def tell(
    world: World, walk: Walk, wanted: Collection[Stage], gives_way: bool, now: datetime, pending: bool = False
) -> FineTuneJobStatus:
    """The whole status document of a walk through the `wanted` stages. `gives_way`: what serves has made room;
    `pending`: the objects are not all as the manifest wants them, so that what is there says nothing of it.
    """
    serves = any(stage.serves for stage in wanted)
    conditions = [
        _accepted(world, walk, now),
        *(_of_stage(stage, walk, stage in wanted, world, now) for stage in STAGES),
        condition(Type.READY, *_readiness(world, walk, serves, gives_way, pending), world.generation, now),
    ]
    progress = _progress(world, walk)
    engine = world.holder
    update = {
        "observed_generation": world.generation,
        "conditions": merge(world.status.conditions, conditions),
        "phase": _phase(walk, serves),
        "progress": progress,
        "trials": _trials(world, walk),
        "curve": _curve(world, walk),
        "progress_summary": _in_short(progress) if progress and progress.total_steps else None,
        "served_revision": world.served_revision,
        "replicas": engine.pods if engine else None,
        "available_replicas": engine.available if engine else None,
        "requests": busy.told(world, now),
        "selector": _selector(world) if engine else None,
    }
    status = walk.status.model_copy(update=update)
    return status.model_copy(update={"endpoint": _endpoint(world, status), "history": _history(status)})


def refuse(
    status: FineTuneJobStatus, before: Iterable[Condition], refusals: Sequence[Refusal], now: datetime
) -> FineTuneJobStatus:
    """The same status when actions were refused; `before` are the conditions so far."""
    told = refused(status.conditions, refusals, now)
    stopped = any(refusal.purpose != "release" and refusal.reason != Reason.RESTARTING for refusal in refusals)
    phase = Phase.BLOCKED if stopped else status.phase
    return status.model_copy(update={"conditions": merge(before, told), "phase": phase})


def _accepted(world: World, walk: Walk, now: datetime) -> Condition:
    if walk.problem:
        reason, message = walk.problem
        return condition(Type.ACCEPTED, "False", reason, message[:MESSAGE_LENGTH], world.generation, now)
    return condition(Type.ACCEPTED, "True", Reason.ACCEPTED, "The manifest is accepted.", world.generation, now)


def _of_stage(stage: Stage, walk: Walk, wanted: bool, world: World, now: datetime) -> Condition:
    status, reason, message = _words(stage, walk.steps.get(stage.name), wanted)
    return condition(stage.condition, status, reason, message, world.generation, now)


def _words(stage: Stage, step: Step | None, wanted: bool) -> tuple[Status, Reason, str]:
    if step:
        return STATUS[step.state], step.reason, step.message[:MESSAGE_LENGTH]
    if not wanted:
        return "False", Reason.DISABLED, stage.unwanted
    return "Unknown", Reason.WAITING, "An earlier stage comes first."


def _readiness(world: World, walk: Walk, serves: bool, gives_way: bool, pending: bool) -> tuple[Status, Reason, str]:
    if walk.problem:
        reason, message = walk.problem
        return "False", reason, message[:MESSAGE_LENGTH]
    if walk.current is None and pending:
        return "Unknown", Reason.RUNNING, "What the manifest asks for is being written."
    if walk.current is None:
        return _finished(world, walk, serves)
    stage, step = walk.current
    message = f"{stage.condition}: {step.message} {_meanwhile(world, walk, step, gives_way)}".strip()
    return STATUS[step.state], step.reason, message[:MESSAGE_LENGTH]


def _meanwhile(world: World, walk: Walk, step: Step, gives_way: bool) -> str:
    """What users get while a revision is worked on, or after it has failed."""
    served = world.served_revision
    ours = served == walk.status.revision and world.served_on == (shared.engine_named_in(world.spec) or "")
    if served is None or (ours and step.reason != Reason.GATE_NOT_MET):
        return ""
    if gives_way:
        return f"Revision {served} has made room for it (hosting.rollout: recreate), and comes back if it fails."
    if not _available(world):
        return f"Revision {served} is to go on serving at {world.address}, but no pod of it is available now."
    return f"Revision {served} goes on serving at {world.address}."


def _available(world: World) -> bool:
    """Whether anybody gets an answer, as far as is known: of an Engine that it moves from, no news are good news."""
    if not world.served_on:
        return world.holder is not None and world.holder.available > 0
    if shared.engine_named_in(world.spec) != world.served_on:
        return True
    engine = world.engine
    if engine is None:
        return False
    return engine.adapter(names.of_revision(world.name, world.served_revision or "")).loaded > 0


def _selector(world: World) -> str:
    """The pods behind the endpoint, for autoscalers; others of the revision have its labels, too."""
    revision, stage = labelled(world.served_revision or "")
    return f"{names.JOB}={world.name},{names.REVISION}={revision},{names.STAGE}={stage}"


def _finished(world: World, walk: Walk, serves: bool) -> tuple[Status, Reason, str]:
    if not serves:
        where = walk.status.artifact.uri if walk.status.artifact else "status.artifact"
        return "True", Reason.SUCCEEDED, f"The artifact is {where}; hosting.enabled is false."
    if world.engine and world.engine.asleep and world.engine.name == world.served_on:
        why = f"Engine {world.served_on} is asleep: a request to finetune-api, or a scale, wakes it, and then"
        message = f"{why} {world.url} answers as model {world.name} with revision {world.served_revision}."
        return "True", Reason.ASLEEP, message
    message = f"{world.address} answers as model {world.name} with revision {world.served_revision}."
    revision, _ = names.revision_and_step(world.served_revision or "")
    volume = world.claims.get(names.of_revision(world.name, revision))
    if volume and volume.ref.deleting:
        message += (
            f" PersistentVolumeClaim {volume.ref.name} is being deleted: once no pod uses it, the model is gone with "
            "it, and the revision is made anew."
        )
    return "True", Reason.SERVING, message


def _phase(walk: Walk, serves: bool) -> Phase:
    if walk.problem:
        return Phase.INVALID
    if walk.current is None:
        return Phase.SERVING if serves else Phase.SUCCEEDED
    stage, step = walk.current
    reasons = {
        Reason.GATE_NOT_MET: Phase.REJECTED,
        Reason.PINNED: Phase.SERVING,
        Reason.QUEUED: Phase.QUEUED,
        Reason.SOURCE_NOT_TRAINED: Phase.PENDING,
    }
    states = {State.FAILED: Phase.FAILED, State.SUSPENDED: Phase.SUSPENDED, State.BLOCKED: Phase.BLOCKED}
    return reasons.get(step.reason) or states.get(step.state) or stage.phase


def _progress(world: World, walk: Walk) -> ProgressStatus | None:
    """The running stage's progress; what was last read stays while the pod can't be asked for a moment."""
    if walk.current is None or walk.current[1].reason not in (Reason.RUNNING, Reason.STARTING):
        return None
    stage = walk.current[0].name
    if world.progress and world.progress.stage == stage:
        return progress_status(world.progress)
    last = walk.status.progress
    return last if last and last.stage == stage else None


def _trials(world: World, walk: Walk) -> list[TrialStatus] | None:
    """Of a sweep those of its result, or else those that its pod says have ended."""
    told = _heard(world, walk)
    return trial_statuses(told.ended if told else ()) or walk.status.trials


def _curve(world: World, walk: Walk) -> list[LossStatus] | None:
    """The losses that its pod tells. Those that were known stay while there is none, or none that has any: one that
    goes on from a checkpoint tells what came before that, too.
    """
    told = _heard(world, walk)
    return curve_status(told.curve if told else ()) or walk.status.curve


def _heard(world: World, walk: Walk) -> Progress | None:
    """What the pod of the stage that the revision stands at has told."""
    stage = walk.current[0].name if walk.current else None
    return world.progress if world.progress and world.progress.stage == stage else None


def _in_short(progress: ProgressStatus) -> str:
    trial = f" of trial {progress.trial}/{progress.trials}" if progress.trial else ""
    return f"{progress.step}/{progress.total_steps}{trial}"


def progress_status(progress: Progress) -> ProgressStatus:
    """A stage's progress as status has it: fractions as strings."""
    return ProgressStatus(
        stage=progress.stage,
        activity=progress.activity[:ACTIVITY_LENGTH] or None,
        notice=progress.notice[:NOTICE_LENGTH] or None,
        trial=progress.trial,
        trials=progress.trials,
        step=progress.step,
        total_steps=progress.total_steps,
        epoch=_text(progress.epoch, ".2f"),
        loss=_text(progress.loss, ".4f"),
        validation_loss=_text(progress.validation_loss, ".4f"),
        validation_reward_accuracy=_text(progress.validation_reward_accuracy, ".3f"),
        tokens_per_second=_text(progress.tokens_per_second, ".0f"),
        eta=progress.eta.replace(microsecond=0) if progress.eta else None,
        tracking=progress.tracking and progress.tracking[:ADDRESS_LENGTH],
    )


def _text(number: float | None, form: str) -> str | None:
    return None if number is None else format(number, form)


def _endpoint(world: World, status: FineTuneJobStatus) -> Endpoint | None:
    return Endpoint(url=world.address, model=world.name) if status.served_revision else None


def _history(status: FineTuneJobStatus) -> list[HistoryEntry]:
    """The last revisions, newest first: the current one's entry is kept up to date, the others' say how they ended.

    The one that serves is never dropped, however long ago it was made.
    """
    if status.revision is None:
        return list(status.history)
    current = HistoryEntry(
        revision=status.revision,
        outcome=status.phase,
        artifact=status.artifact,
        metric=status.evaluation.metric_summary if status.evaluation else None,
    )
    served, _ = names.revision_and_step(status.served_revision or "")
    others = [_past(entry, served) for entry in status.history if entry.revision != status.revision]
    told = [current, *others]
    dropped = [entry for entry in told[HISTORY_LENGTH:] if entry.revision == served]
    return [*told[: HISTORY_LENGTH - len(dropped)], *dropped]


def _past(entry: HistoryEntry, served: str) -> HistoryEntry:
    if entry.revision == served:
        return entry.model_copy(update={"outcome": Phase.SERVING})
    if entry.outcome in (Phase.FAILED, Phase.REJECTED, SUPERSEDED):
        return entry
    return entry.model_copy(update={"outcome": SUPERSEDED})
