"""What a stage is to `plan`: one step from the observed world to how it stands and the actions that bring it closer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from finetune_operator import names
from finetune_operator.api.status import FineTuneJobStatus, Phase
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.conditions import Reason, Type
from finetune_operator.finetunejob.homes import home
from finetune_operator.finetunejob.observe import JobState, World
from finetune_operator.finetunejob.record import Failure, Record, failure_key, failure_text
from finetune_operator.finetunejob.remember import remember
from finetune_operator.finetunejob.target import Target
from finetune_operator.kinds.actions import Action
from finetune_operator.kinds.plan import State
from finetune_operator.pods.diagnose import Evidence
from finetune_operator.pods.state import PodState


@dataclass(frozen=True)
class Step:
    """How a stage stands, what to do now, and what to tell in status (field → value) once it has ended."""

    state: State
    reason: Reason
    message: str
    actions: tuple[Action, ...] = ()
    status: Mapping[str, Any] = field(default_factory=dict)

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
    def record(self) -> Record:
        """What was made and found of this revision so far."""
        return self.world.record(self.target.revision)

    def job(self, stage: str) -> JobState | None:
        """The Job of one of the revision's stages, while it is there."""
        return self.world.jobs.get(names.of_stage(self.target.name, self.target.revision, stage))

    @property
    def serves(self) -> bool:
        """Whether the endpoint already answers with this revision, from where the manifest wants it."""
        return (self.world.served_revision, self.world.served_on) == (self.target.revision, home(self.target).on)

    @property
    def pinned(self) -> str | None:
        """The earlier revision, or the checkpoint, that serves because a person said so; None when nobody did."""
        return pinned_revision(self.target, self.world)

    def remember(self, entries: Mapping[str, str]) -> tuple[Action, ...]:
        """Add entries to the revision's record, each once."""
        return remember(self.world.records.get(self.target.revision), entries)

    def failed_before(self, stage: str, inputs: str) -> Step | None:
        """How an earlier try ended that nothing has been changed about since."""
        found = self.record.failure(stage, inputs)
        return failed(found) if found else None

    def give_up(self, stage: str, inputs: str, failure: Failure, job: str = "") -> Step:
        """The step of a stage that has failed for good, to be remembered. `job`: the uid of the Job that failed."""
        told = self.remember({failure_key(stage, inputs): failure_text(failure, job)})
        return replace(failed(failure), actions=told)

    def evidence(self, pod: PodState) -> Evidence:
        """A pod and what surrounds it, for a diagnosis."""
        claim = self.target.revision_name
        holder = self.world.holder
        holds = holder is not None and holder.replicas > 0 and not self.serves
        return Evidence(
            pod=pod,
            claim=claim,
            claim_pending=claim in self.world.claims and self.world.claims[claim].phase == "Pending",
            serving=holder.ref.name if holder and holds else None,
            serving_limits=frozenset(holder.limits) if holder and holds else frozenset(),
        )


def pinned_revision(target: Target, world: World) -> str | None:
    """The earlier revision, or the checkpoint of any, that the annotation finetune.dev/promote names, where it can be
    served.
    """
    kept = world.promote != target.revision and home(target).can(target, world, world.promote)
    return world.promote if kept else None


class Stage(ABC):
    """One stage. `phase`: what people read while it is under way. `frees_serving`: with rollout recreate, the serving
    revision may have to give way to it. `hosts`: while it has not given up, the revision's engine runs. `serves`: where
    a manifest wants it, its end is an endpoint. `unwanted`: the sentence for manifests that don't go through it.
    `stops` and `resumes`: what it does when `finetune run` is stopped, and started again.
    """

    name: str
    condition: Type
    phase: Phase
    frees_serving: bool = False
    hosts: bool = False
    serves: bool = False
    unwanted: str = ""
    stops: str = "ends by itself"
    resumes: str = "starts again"

    def wanted(self, spec: FineTuneJobSpec) -> bool:
        """Whether this manifest goes through it: every one does, where a stage says nothing else."""
        return True

    def mounts(self, target: Target) -> bool:
        """Whether it needs the revision's volume while it is under way."""
        return False

    def asks_base(self, spec: FineTuneJobSpec) -> bool:
        """Whether it asks the base model at an engine of its own, which is there while the stage is under way."""
        return False

    @abstractmethod
    def step(self, context: Context) -> Step:
        """Look, and say what to do next."""


def failed(failure: Failure) -> Step:
    """A stage that has failed for good."""
    return Step(State.FAILED, failure.reason, failure.message)
