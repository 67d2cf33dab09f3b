"""What a walk means in the words of status: conditions, phase, progress, endpoint, history, Events.

`plan` calls it for the operator, the local backend for `finetune run`: both tell the same story in the same words.
"""

from collections.abc import Collection, Iterable
from datetime import datetime

from finetune_trainer.report import Progress

from finetune_operator.api.status import (
    Condition,
    Endpoint,
    FineTuneJobStatus,
    HistoryEntry,
    Phase,
    ProgressStatus,
)
from finetune_operator.conditions import Reason, Status, Type, condition, merge
from finetune_operator.finetunejob.observe import World
from finetune_operator.finetunejob.stages import STAGES
from finetune_operator.finetunejob.stages.base import Stage, State, Step
from finetune_operator.finetunejob.walk import Walk

HISTORY_LENGTH = 10
# An Event's and a condition's message: the API server takes 1,024 and 32,768 bytes.
MESSAGE_LENGTH = 4096

_STATUS: dict[State, Status] = {
    State.RUNNING: "Unknown",
    State.SUSPENDED: "Unknown",
    State.BLOCKED: "False",
    State.FAILED: "False",
    State.RELEASED: "False",
    State.SUCCEEDED: "True",
}
_PHASES = {
    "prepare": Phase.PREPARING,
    "train": Phase.TRAINING,
    "host": Phase.HOSTING,
    "evaluate": Phase.EVALUATING,
    "promote": Phase.PROMOTING,
}


def tell(world: World, walk: Walk, wanted: Collection[Stage], now: datetime) -> FineTuneJobStatus:
    """The whole status document of a walk through the `wanted` stages."""
    hosting = any(stage.name == "promote" for stage in wanted)
    conditions = [
        _accepted(world, walk, now),
        *(_of_stage(stage, walk, stage in wanted, world, now) for stage in STAGES),
        _ready(world, walk, hosting, now),
    ]
    progress = _progress(world, walk)
    update = {
        "observed_generation": world.generation,
        "conditions": merge(world.status.conditions, conditions),
        "phase": _phase(walk, hosting),
        "progress": progress,
        "progress_summary": f"{progress.step}/{progress.total_steps}" if progress and progress.total_steps else None,
        "served_revision": world.served_revision,
    }
    status = walk.status.model_copy(update=update)
    return status.model_copy(update={"endpoint": _endpoint(world, status), "history": _history(world, status)})


def refuse(status: FineTuneJobStatus, before: Iterable[Condition], sentence: str, now: datetime) -> FineTuneJobStatus:
    """The same status when the API server refused what the current stage needs; `before` are the conditions so far."""
    blamed = next((found.type for found in status.conditions if found.status == "Unknown"), Type.READY)
    conditions = [
        condition(Type(found.type), "False", Reason.REFUSED, sentence, found.observed_generation, now)
        if found.type in (blamed, Type.READY)
        else found
        for found in status.conditions
    ]
    return status.model_copy(update={"conditions": merge(before, conditions)})


def _accepted(world: World, walk: Walk, now: datetime) -> Condition:
    if walk.problem:
        return condition(Type.ACCEPTED, "False", *walk.problem, world.generation, now)
    return condition(Type.ACCEPTED, "True", Reason.ACCEPTED, "The manifest is accepted.", world.generation, now)


def _of_stage(stage: Stage, walk: Walk, wanted: bool, world: World, now: datetime) -> Condition:
    status, reason, message = _words(stage, walk.steps.get(stage.name), wanted)
    return condition(stage.condition, status, reason, message, world.generation, now)


def _words(stage: Stage, step: Step | None, wanted: bool) -> tuple[Status, Reason, str]:
    if step:
        return _STATUS[step.state], step.reason, step.message[:MESSAGE_LENGTH]
    if not wanted:
        return "False", Reason.DISABLED, stage.unwanted
    return "Unknown", Reason.WAITING, "An earlier stage comes first."


def _ready(world: World, walk: Walk, hosting: bool, now: datetime) -> Condition:
    return condition(Type.READY, *_readiness(world, walk, hosting), world.generation, now)


def _readiness(world: World, walk: Walk, hosting: bool) -> tuple[Status, Reason, str]:
    if walk.problem:
        return "False", walk.problem[0], walk.problem[1]
    if walk.current is None:
        return _finished(world, walk, hosting)
    stage, step = walk.current
    message = f"{stage.condition}: {step.message}"[:MESSAGE_LENGTH]
    served = world.served_revision
    if served and (served != walk.status.revision or step.reason == Reason.GATE_NOT_MET):
        message = f"{message} Revision {served} goes on serving at {world.url}."
    return _STATUS[step.state], step.reason, message


def _finished(world: World, walk: Walk, hosting: bool) -> tuple[Status, Reason, str]:
    if hosting:
        return (
            "True",
            Reason.SERVING,
            f"{world.url} answers as model {world.name} with revision {world.served_revision}.",
        )
    where = walk.status.artifact.uri if walk.status.artifact else "status.artifact"
    return "True", Reason.SUCCEEDED, f"The artifact is {where}; hosting.enabled is false."


def _phase(walk: Walk, hosting: bool) -> Phase:
    if walk.problem:
        return Phase.INVALID
    if walk.current is None:
        return Phase.SERVING if hosting else Phase.SUCCEEDED
    stage, step = walk.current
    reasons = {Reason.GATE_NOT_MET: Phase.REJECTED, Reason.PINNED: Phase.SERVING}
    states = {State.FAILED: Phase.FAILED, State.SUSPENDED: Phase.SUSPENDED}
    return reasons.get(step.reason) or states.get(step.state) or _PHASES[stage.name]


def _progress(world: World, walk: Walk) -> ProgressStatus | None:
    """The running stage's progress; what was last read stays while the pod can't be asked for a moment."""
    if walk.current is None or walk.current[1].reason not in (Reason.RUNNING, Reason.STARTING):
        return None
    stage = walk.current[0].name
    if world.progress and world.progress.stage == stage:
        return progress_status(world.progress)
    last = walk.status.progress
    return last if last and last.stage == stage else None


def progress_status(progress: Progress) -> ProgressStatus:
    """A stage's progress as status has it: fractions as strings."""
    return ProgressStatus(
        stage=progress.stage,
        activity=progress.activity or None,
        step=progress.step,
        total_steps=progress.total_steps,
        epoch=_text(progress.epoch, ".2f"),
        loss=_text(progress.loss, ".4f"),
        validation_loss=_text(progress.validation_loss, ".4f"),
        tokens_per_second=_text(progress.tokens_per_second, ".0f"),
        eta=progress.eta.replace(microsecond=0) if progress.eta else None,
    )


def _text(number: float | None, form: str) -> str | None:
    return None if number is None else format(number, form)


def _endpoint(world: World, status: FineTuneJobStatus) -> Endpoint | None:
    return Endpoint(url=world.url, model=world.name) if status.served_revision else None


def _history(world: World, status: FineTuneJobStatus) -> list[HistoryEntry]:
    """The last revisions, newest first; the current one's entry is kept up to date, the others' say how they ended."""
    if status.revision is None:
        return list(status.history)
    current = HistoryEntry(
        revision=status.revision,
        outcome=status.phase,
        artifact=status.artifact,
        context_length=status.plan.context_length if status.plan else None,
        metric=status.evaluation.metric_summary if status.evaluation else None,
    )
    others = [_past(entry, status.served_revision) for entry in status.history if entry.revision != status.revision]
    return [current, *others][:HISTORY_LENGTH]


def _past(entry: HistoryEntry, served: str | None) -> HistoryEntry:
    if entry.revision == served:
        return entry.model_copy(update={"outcome": Phase.SERVING})
    if entry.outcome in (Phase.FAILED, Phase.REJECTED, "Superseded"):
        return entry
    return entry.model_copy(update={"outcome": "Superseded"})


def events_of(old: Iterable[Condition], new: Iterable[Condition]) -> list[tuple[str, str, str]]:
    """(type, reason, message) of an Event for each condition that changed.

    Not of one that waits for its turn, nor of Ready before it is True: until then it repeats another's words.
    """
    before = {(found.type, found.status, found.reason) for found in old}
    changed = [found for found in new if (found.type, found.status, found.reason) not in before]
    silent = (Reason.WAITING, Reason.DISABLED)
    told = [new for new in changed if new.reason not in silent and (new.type != Type.READY or new.status == "True")]
    return [("Warning" if found.status == "False" else "Normal", found.reason, found.message) for found in told]
