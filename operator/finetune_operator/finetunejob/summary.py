"""What a walk means in the words of status: conditions, phase, progress, endpoint, history, Events.

`plan` calls it for the operator, the local backend for `finetune run`: both tell the same story in the same words.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from finetune_trainer.contract.report import Progress

from finetune_operator import names
from finetune_operator.api.status import (
    Condition,
    Endpoint,
    FineTuneJobStatus,
    HistoryEntry,
    Phase,
    ProgressStatus,
)
from finetune_operator.conditions import KSTATUS, Reason, Status, Type, condition, merge
from finetune_operator.finetunejob.desired.hosting import HOST
from finetune_operator.finetunejob.observe import DeploymentState, World, is_going
from finetune_operator.finetunejob.stages import STAGES
from finetune_operator.finetunejob.stages.base import Action, Patch, Stage, State, Step
from finetune_operator.finetunejob.walk import Walk

HISTORY_LENGTH = 10
# An Event's and a condition's message: the API server takes 1,024 and 32,768 bytes.
MESSAGE_LENGTH = 4096
# A pod may say what it likes.
ACTIVITY_LENGTH, NOTICE_LENGTH = 200, 500
ADDRESS_LENGTH = 2048

_STATUS: dict[State, Status] = {
    State.RUNNING: "Unknown",
    State.SUSPENDED: "Unknown",
    State.BLOCKED: "False",
    State.FAILED: "False",
    State.RELEASED: "False",
    State.SUCCEEDED: "True",
}


# What an action is there for: see `plan.Plan`.
Purpose = Literal["serve", "release", "work"]


@dataclass(frozen=True)
class Refusal:
    """An action that could not be carried out: what it was there for, and why in a sentence."""

    purpose: Purpose
    reason: Reason
    message: str


def refusal(purpose: Purpose, action: Action, what: str, sentence: str) -> Refusal:
    """The API server will not do it, in its own words."""
    advice = action.advice if isinstance(action, Patch) else ""
    return Refusal(purpose, Reason.REFUSED, f"The API server refused {what}: {sentence} {advice}".strip())


def in_the_way(purpose: Purpose, job: str, kind: str, raw: Mapping[str, Any]) -> Refusal:
    """Somebody else's object stands where ours should. One of an earlier FineTuneJob of the same name will go."""
    name = raw["metadata"]["name"]
    if is_going(raw, job):
        message = f"{kind} {name} of an earlier FineTuneJob is still there; the work waits until it is gone."
        return Refusal(purpose, Reason.RESTARTING, message)
    return Refusal(
        purpose,
        Reason.NAME_TAKEN,
        f"{kind} {name} exists and does not belong to this FineTuneJob; delete it, or apply the "
        "FineTuneJob under another name.",
    )


def tell(world: World, walk: Walk, wanted: Collection[Stage], gives_way: bool, now: datetime) -> FineTuneJobStatus:
    """The whole status document of a walk through the `wanted` stages. `gives_way`: what serves has made room."""
    serves = any(stage.serves for stage in wanted)
    conditions = [
        _accepted(world, walk, now),
        *(_of_stage(stage, walk, stage in wanted, world, now) for stage in STAGES),
        condition(Type.READY, *_readiness(world, walk, serves, gives_way), world.generation, now),
    ]
    progress = _progress(world, walk)
    engine = _engine(world)
    update = {
        "observed_generation": world.generation,
        "conditions": merge(world.status.conditions, conditions),
        "phase": _phase(walk, serves),
        "progress": progress,
        "progress_summary": f"{progress.step}/{progress.total_steps}" if progress and progress.total_steps else None,
        "served_revision": world.served_revision,
        "replicas": engine.pods if engine else None,
        "selector": _selector(world) if engine else None,
    }
    status = walk.status.model_copy(update=update)
    return status.model_copy(update={"endpoint": _endpoint(world, status), "history": _history(world, status)})


def refuse(
    status: FineTuneJobStatus, before: Iterable[Condition], refusals: Sequence[Refusal], now: datetime
) -> FineTuneJobStatus:
    """The same status when actions were refused; `before` are the conditions so far.

    What was to be removed stays, and Ready says so. What was to be made is missing, and its stage says so.
    """
    told = {found.type: found for found in status.conditions}
    for refusal in refusals:
        blamed = [Type.READY]
        if refusal.purpose == "work":
            blamed += [Type(found.type) for found in status.conditions if found.status == "Unknown"][:1]
        for kind in blamed:
            told[kind] = _refused(told[kind], refusal, now)
    stopped = any(refusal.purpose != "release" and refusal.reason != Reason.RESTARTING for refusal in refusals)
    phase = Phase.BLOCKED if stopped else status.phase
    return status.model_copy(update={"conditions": merge(before, told.values()), "phase": phase})


def _refused(found: Condition, refusal: Refusal, now: datetime) -> Condition:
    if refusal.purpose == "release":
        return found.model_copy(update={"message": f"{found.message} {refusal.message}"[:MESSAGE_LENGTH]})
    status: Status = "Unknown" if refusal.reason == Reason.RESTARTING else "False"
    message = refusal.message[:MESSAGE_LENGTH]
    return condition(Type(found.type), status, refusal.reason, message, found.observed_generation, now)


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
        return _STATUS[step.state], step.reason, step.message[:MESSAGE_LENGTH]
    if not wanted:
        return "False", Reason.DISABLED, stage.unwanted
    return "Unknown", Reason.WAITING, "An earlier stage comes first."


def _readiness(world: World, walk: Walk, serves: bool, gives_way: bool) -> tuple[Status, Reason, str]:
    if walk.problem:
        reason, message = walk.problem
        return "False", reason, message[:MESSAGE_LENGTH]
    if walk.current is None:
        return _finished(world, walk, serves)
    stage, step = walk.current
    message = f"{stage.condition}: {step.message} {_meanwhile(world, walk, step, gives_way)}".strip()
    return _STATUS[step.state], step.reason, message[:MESSAGE_LENGTH]


def _meanwhile(world: World, walk: Walk, step: Step, gives_way: bool) -> str:
    """What users get while a revision is worked on, or after it has failed."""
    served, engine = world.served_revision, _engine(world)
    if served is None or (served == walk.status.revision and step.reason != Reason.GATE_NOT_MET):
        return ""
    if gives_way:
        return f"Revision {served} has made room for it (hosting.rollout: recreate), and comes back if it fails."
    if engine is None or engine.available == 0:
        return f"Revision {served} is to go on serving at {world.url}, but no pod of it is available now."
    return f"Revision {served} goes on serving at {world.url}."


def _engine(world: World) -> DeploymentState | None:
    """The Deployment behind the endpoint."""
    return world.deployments.get(names.of_served(world.name, world.served_revision)) if world.served_revision else None


def _selector(world: World) -> str:
    """The pods behind the endpoint, for autoscalers; others of the revision have its labels, too."""
    revision, step = names.parted(world.served_revision or "")
    stage = HOST if step is None else names.checkpoint(step)
    return f"{names.JOB}={world.name},{names.REVISION}={revision},{names.STAGE}={stage}"


def _finished(world: World, walk: Walk, serves: bool) -> tuple[Status, Reason, str]:
    if not serves:
        where = walk.status.artifact.uri if walk.status.artifact else "status.artifact"
        return "True", Reason.SUCCEEDED, f"The artifact is {where}; hosting.enabled is false."
    message = f"{world.url} answers as model {world.name} with revision {world.served_revision}."
    revision, _ = names.parted(world.served_revision or "")
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
    reasons = {Reason.GATE_NOT_MET: Phase.REJECTED, Reason.PINNED: Phase.SERVING, Reason.QUEUED: Phase.QUEUED}
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


def progress_status(progress: Progress) -> ProgressStatus:
    """A stage's progress as status has it: fractions as strings."""
    return ProgressStatus(
        stage=progress.stage,
        activity=progress.activity[:ACTIVITY_LENGTH] or None,
        notice=progress.notice[:NOTICE_LENGTH] or None,
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
    return Endpoint(url=world.url, model=world.name) if status.served_revision else None


def _history(world: World, status: FineTuneJobStatus) -> list[HistoryEntry]:
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
    served, _ = names.parted(status.served_revision or "")
    others = [_past(entry, served) for entry in status.history if entry.revision != status.revision]
    told = [current, *others]
    dropped = [entry for entry in told[HISTORY_LENGTH:] if entry.revision == served]
    return [*told[: HISTORY_LENGTH - len(dropped)], *dropped]


def _past(entry: HistoryEntry, served: str) -> HistoryEntry:
    if entry.revision == served:
        return entry.model_copy(update={"outcome": Phase.SERVING})
    if entry.outcome in (Phase.FAILED, Phase.REJECTED, "Superseded"):
        return entry
    return entry.model_copy(update={"outcome": "Superseded"})


def events_of(old: Iterable[Condition], new: Iterable[Condition]) -> list[tuple[str, str, str]]:
    """(type, reason, message) of an Event for each condition that changed.

    Not of one that waits for its turn or only begins, which its Job's or Deployment's own Events tell, nor of what
    repeats another's words: kstatus's, and Ready before it is True.
    """
    before = {(found.type, found.status, found.reason) for found in old}
    own = (found for found in new if found.type not in KSTATUS)
    changed = [found for found in own if (found.type, found.status, found.reason) not in before]
    silent = (Reason.WAITING, Reason.DISABLED, Reason.STARTING)
    told = [new for new in changed if new.reason not in silent and (new.type != Type.READY or new.status == "True")]
    return [("Warning" if found.status == "False" else "Normal", found.reason, found.message) for found in told]
