"""What a plan says: actions, a status, Events; and what becomes of it where something was refused.

Made by each kind's `plan`, carried out by `reconcile`, which knows no kind but by its `Kind`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Generic, Literal, TypeVar

from finetune_operator.api.rules import ApiModel
from finetune_operator.api.status import Condition
from finetune_operator.conditions import KSTATUS, Reason, Status, Type, condition, merge
from finetune_operator.kinds.actions import Action, Adopt, Delete, Id, Patch
from finetune_operator.kinds.questions import Question
from finetune_operator.kinds.snapshot import Snapshot, is_going, status_as
from finetune_operator.settings import Settings

# What is not watched is looked at again this often, in seconds: objects that the manifest names and that are missing, a
# name that is taken.
MISSING_SECONDS = 15.0
# A quota may have been raised, a webhook mended.
REFUSED_SECONDS = 60.0
# An Event's and a condition's message: the API server takes 1,024 and 32,768 bytes.
MESSAGE_LENGTH = 4096

S = TypeVar("S", bound=ApiModel)


class State(Enum):
    """Where something stands that takes time. BLOCKED: it goes on by itself once somebody mends what the message says.

    RELEASED: it was done, and what it held is given back; what comes after it goes on.
    """

    RUNNING = "running"
    BLOCKED = "blocked"
    SUSPENDED = "suspended"
    FAILED = "failed"
    RELEASED = "released"
    SUCCEEDED = "succeeded"


STATUS: dict[State, Status] = {
    State.RUNNING: "Unknown",
    State.SUSPENDED: "Unknown",
    State.BLOCKED: "False",
    State.FAILED: "False",
    State.RELEASED: "False",
    State.SUCCEEDED: "True",
}


@dataclass(frozen=True)
class Event:
    """A Kubernetes Event about the object, for people. `type` is Normal or Warning."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True)
class Plan(Generic[S]):
    """What to do now, what to say, and after how many seconds to look again even if nothing happens.

    Three kinds of actions, in the order in which they matter: `serve` keeps up what answers users, `release` removes
    what is no longer wanted, `work` goes on. Before all, `adopt`: the rest is decided anew from what that finds.
    `reads`: what has to be looked up before anything can be decided. `ask`: what pods are worth asking, by a name for
    each question; `soon`: they are about to have news.
    """

    status: S
    serve: tuple[Action, ...] = ()
    release: tuple[Action, ...] = ()
    work: tuple[Action, ...] = ()
    events: tuple[Event, ...] = ()
    again_after: float | None = None
    reads: frozenset[Id] = frozenset()
    ask: Mapping[str, Question] = field(default_factory=dict)
    soon: bool = False
    adopt: tuple[Adopt, ...] = ()

    @property
    def actions(self) -> tuple[Action, ...]:
        """All of them."""
        return (*self.adopt, *self.serve, *self.release, *self.work)

    @property
    def destroys(self) -> bool:
        """Whether something is deleted or adopted: both are decided once more from live reads."""
        return any(isinstance(action, Delete | Adopt) for action in self.actions)


# What an action is there for: see `Plan`.
Purpose = Literal["serve", "release", "work"]


@dataclass(frozen=True)
class Refusal:
    """An action that could not be carried out: what it was there for, and why in a sentence."""

    purpose: Purpose
    reason: Reason
    message: str


@dataclass(frozen=True)
class Kind:
    """One kind of ours, as the shell has to know it."""

    name: str
    plural: str
    # What is made for one has its name there.
    label: str
    # The kinds of object that are made for one.
    owned: tuple[str, ...]
    plan: Callable[[Snapshot, Settings, datetime], Plan[Any]]
    broken: Callable[[Snapshot, str, datetime], Plan[Any]]
    refused: Callable[[Snapshot, Plan[Any], Sequence[Refusal], datetime], Plan[Any]]
    # A status in one word, of `words`, by which the gauge `counted` counts, under the label `counted_by`.
    word: Callable[[Any], str]
    words: tuple[str, ...]
    counted: str
    counted_by: str
    # Whether what is made for one of that name could be called so, of a revision or of none.
    named: Callable[[str, str, str | None], bool]
    # Of a spec, the objects of ours (kind, name) whose news are its own, too.
    follows: Callable[[Mapping[str, Any]], tuple[Id, ...]] = lambda spec: ()
    # Of a spec, what no other of its kind in the namespace may have.
    claims: Callable[[Mapping[str, Any]], str | None] = lambda spec: None


def sooner(*seconds: float | None) -> float | None:
    """The next look, where several have one in mind."""
    return min((each for each in seconds if each is not None), default=None)


def refusal_of(purpose: Purpose, action: Action, what: str, sentence: str) -> Refusal:
    """The API server will not do it, in its own words."""
    advice = action.advice if isinstance(action, Patch) else ""
    return Refusal(purpose, Reason.REFUSED, f"The API server refused {what}: {sentence} {advice}".strip())


def in_the_way(purpose: Purpose, of: Id, kind: str, raw: Mapping[str, Any]) -> Refusal:
    """Somebody else's object stands where one for `of` should. One of an earlier one of the same name will go."""
    name = raw["metadata"]["name"]
    if is_going(raw, *of):
        message = f"{kind} {name} of an earlier {of[0]} is still there; the work waits until it is gone."
        return Refusal(purpose, Reason.RESTARTING, message)
    return Refusal(purpose, Reason.NAME_TAKEN, taken(of[0], kind, name))


def taken(ours: str, kind: str, name: str) -> str:
    """The sentence for a name that is somebody else's."""
    return (
        f"{kind} {name} exists and does not belong to this {ours}; delete it, or apply the {ours} under another name."
    )


def refuse(conditions: Iterable[Condition], refusals: Sequence[Refusal], now: datetime) -> list[Condition]:
    """The conditions when actions were refused.

    What was to be removed stays, and Ready says so. What was to be made is missing, and so says what waits for it.
    """
    told = {found.type: found for found in conditions}
    waiting = [Type(found.type) for found in told.values() if found.status == "Unknown"][:1]
    for each in refusals:
        for kind in (Type.READY, *(waiting if each.purpose == "work" else ())):
            told[kind] = _refused(told[kind], each, now)
    return list(told.values())


def _refused(found: Condition, refusal: Refusal, now: datetime) -> Condition:
    if refusal.purpose == "release":
        return found.model_copy(update={"message": f"{found.message} {refusal.message}"[:MESSAGE_LENGTH]})
    status: Status = "Unknown" if refusal.reason == Reason.RESTARTING else "False"
    message = refusal.message[:MESSAGE_LENGTH]
    return condition(Type(found.type), status, refusal.reason, message, found.observed_generation, now)


def broken(kind: str, model: type[S], snapshot: Snapshot, what: str, now: datetime) -> Plan[S]:
    """The plan for one that brings out a fault in the operator: leave everything as it is, and say so.

    `model`: of the kind's status, which has conditions and observed_generation.
    """
    last: Any = status_as(model, snapshot.subject)
    generation = snapshot.subject["metadata"].get("generation", 0)
    message = f"The operator failed on this {kind}, and changes nothing of it: {what}. Its log has the traceback."
    ready = condition(Type.READY, "False", Reason.INTERNAL_ERROR, message, generation, now)
    others = [found for found in last.conditions if found.type != Type.READY]
    told = merge(last.conditions, [*others, ready])
    status = last.model_copy(update={"observed_generation": generation, "conditions": told})
    return Plan(status, events=events_of(last.conditions, told))


def events_of(old: Iterable[Condition], new: Iterable[Condition]) -> tuple[Event, ...]:
    """An Event for each condition that changed.

    Not of one that waits for its turn or only begins, which its Job's or Deployment's own Events tell, nor of what
    repeats another's words: kstatus's, and Ready before it is True.
    """
    before = {(found.type, found.status, found.reason) for found in old}
    own = (found for found in new if found.type not in KSTATUS)
    changed = [found for found in own if (found.type, found.status, found.reason) not in before]
    silent = (Reason.WAITING, Reason.DISABLED, Reason.STARTING)
    told = [new for new in changed if new.reason not in silent and (new.type != Type.READY or new.status == "True")]
    return tuple(Event(_severity(found), found.reason, found.message) for found in told)


def _severity(told: Condition) -> str:
    return "Warning" if told.status == "False" and told.reason != Reason.ASLEEP else "Normal"
