"""What a stage is to `plan`: one step from the observed world to a verdict and the actions that bring it closer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from finetune_operator import names
from finetune_operator.api.status import FineTuneJobStatus, StageState, StageStatus
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.conditions import Reason, Type
from finetune_operator.finetunejob.observe import PodState, Ref, World
from finetune_operator.finetunejob.target import Manifest, Target
from finetune_operator.pods.diagnose import Evidence


@dataclass(frozen=True)
class Apply:
    """Server-side apply."""

    manifest: Manifest


@dataclass(frozen=True)
class Suspend:
    """Set a Job's spec.suspend; the rest of a Job can't be applied again, its template is immutable."""

    ref: Ref
    suspend: bool


@dataclass(frozen=True)
class Delete:
    """Delete an object, if it still is the one that was observed, and what it owns before it."""

    ref: Ref


Action = Apply | Suspend | Delete


class State(Enum):
    """Where a stage stands. BLOCKED: it goes on by itself once somebody mends what the message says.

    RELEASED: it was done, and what it held is given back; the stages after it go on.
    """

    RUNNING = "running"
    BLOCKED = "blocked"
    SUSPENDED = "suspended"
    FAILED = "failed"
    RELEASED = "released"
    SUCCEEDED = "succeeded"


@dataclass(frozen=True)
class Step:
    """A stage's verdict, what to do now, and what to tell in status (field → value) when it has ended."""

    state: State
    reason: Reason
    message: str
    actions: tuple[Action, ...] = ()
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the next stage comes."""
        return self.state in (State.SUCCEEDED, State.RELEASED)


@dataclass(frozen=True)
class Context:
    """What a stage decides from. `status` has what earlier stages of this same revision reported."""

    target: Target
    world: World
    status: FineTuneJobStatus

    @property
    def spec(self) -> FineTuneJobSpec:
        """The manifest's spec."""
        return self.target.spec

    @property
    def serves(self) -> bool:
        """Whether the endpoint already answers with this revision."""
        return self.world.served_revision == self.target.revision

    @property
    def pinned(self) -> str | None:
        """The earlier revision that serves because a person said so; None when nobody did."""
        return pinned_revision(self.target, self.world)

    def record(self, stage: str) -> StageStatus | None:
        """What status remembers of a stage of this revision."""
        return next((found for found in self.status.stages if found.name == stage), None)

    def failed_before(self, stage: str, inputs: str) -> StageStatus | None:
        """The record of a failure that nothing has been changed about since."""
        found = self.record(stage)
        return found if found and found.state == StageState.FAILED and found.inputs == inputs else None

    def evidence(self, pod: PodState) -> Evidence:
        """A pod and what surrounds it, for a diagnosis."""
        served = self.world.served_revision
        holders = self.world.pods_of("host", served) if served and not self.serves else ()
        claim = names.of_revision(self.target.name, self.target.revision)
        return Evidence(
            pod=pod,
            claim=claim,
            claim_pending=claim in self.world.claims and self.world.claims[claim].phase == "Pending",
            serving=names.of_revision(self.target.name, served) if served and holders else None,
            serving_limits=frozenset(key for holder in holders for key in holder.limits),
        )


def pinned_revision(target: Target, world: World) -> str | None:
    """The earlier revision that the annotation finetune.dev/promote names, where its volume is still there."""
    return world.promote if world.promote in world.run_configs and world.promote != target.revision else None


class Stage(Protocol):
    """One stage. `frees_serving`: with rollout recreate, the serving revision gives way while it runs.

    `unwanted`: the sentence for manifests that don't go through it.
    """

    name: str
    condition: Type
    frees_serving: bool
    unwanted: str

    def wanted(self, spec: FineTuneJobSpec) -> bool:
        """Whether this manifest goes through it."""

    def inputs(self, context: Context) -> str:
        """A digest of what it is started with; a change tries a failed stage again."""

    def step(self, context: Context, inputs: str) -> Step:
        """Look, and say what to do next."""


def failed(record: StageStatus) -> Step:
    """The verdict on a stage that failed earlier and is not tried again."""
    reason = Reason(record.reason) if record.reason in set(Reason) else Reason.CONTAINER_FAILED
    return Step(State.FAILED, reason, record.message or "")
