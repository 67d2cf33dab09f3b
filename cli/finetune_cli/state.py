"""The status document of a local run: the same conditions and reasons as in a cluster, told by the same functions.

Pure. `local` says what each stage came to; `operator`'s `summary` puts it into words.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import takewhile

from finetune_operator import names
from finetune_operator.api.status import Condition, FineTuneJobStatus, Phase
from finetune_operator.conditions import Reason, Status, Type, condition, merge
from finetune_operator.finetunejob.observe import RecordState, World
from finetune_operator.finetunejob.record import Record
from finetune_operator.finetunejob.stages import HOST, STAGES
from finetune_operator.finetunejob.stages.base import Stage, Step
from finetune_operator.finetunejob.summary import tell
from finetune_operator.finetunejob.walk import Walk, begin
from finetune_operator.kinds.actions import Ref
from finetune_operator.kinds.plan import State
from finetune_trainer.contract.results import Progress

WAITS = "An earlier stage comes first."
# A file has no generations; a condition must speak of one.
GENERATION = 1


@dataclass(frozen=True)
class Run:
    """Where a run stands.

    `wanted`: the stages that its manifest goes through; `old` is the document written last; `url` is where the result
    answers, once it is hosted; `entries` are those of the revision's record.
    """

    name: str
    revision: str
    wanted: tuple[Stage, ...]
    url: str = ""
    old: FineTuneJobStatus = field(default_factory=FineTuneJobStatus)
    steps: Mapping[str, Step] = field(default_factory=dict)
    progress: Progress | None = None
    entries: Mapping[str, str] = field(default_factory=dict)

    def after(self, stage: str, step: Step) -> "Run":
        """The run, now that `stage` has come to `step`: what came after it in an earlier try no longer counts."""
        before = [found.name for found in takewhile(lambda found: found.name != stage, STAGES)]
        kept = {name: self.steps[name] for name in before if name in self.steps}
        return replace(self, steps={**kept, stage: step}, progress=None)

    def remember(self, key: str, entry: str) -> "Run":
        """The run, now that its record says this, too."""
        return replace(self, entries={**self.entries, key: entry})

    def released(self, why: str) -> "Run":
        """The run, now that its engine was stopped though what came after it counts."""
        return replace(self, steps={**self.steps, HOST.name: Step(State.RELEASED, Reason.RELEASED, why)})

    def without_engine(self, step: Step) -> "Run":
        """The run, now that nothing serves any more: what was measured before that counts."""
        serving = [stage.name for stage in STAGES if stage.serves]
        kept = {name: found for name, found in self.steps.items() if name not in serving}
        return replace(self, steps={**kept, HOST.name: step}, progress=None)

    def at(self, progress: Progress) -> "Run":
        """The run, now that its running stage has come so far."""
        return replace(self, progress=progress)

    @property
    def serves(self) -> bool:
        """Whether its result answers users."""
        found = (self.steps.get(stage.name) for stage in STAGES if stage.serves)
        return any(step is not None and step.state == State.SUCCEEDED for step in found)

    def status(self, now: datetime) -> FineTuneJobStatus:
        """The whole status document."""
        world = self.world
        status = begin(world, self.revision)
        steps = self._with_the_next()
        for step in steps.values():
            status = status.model_copy(update=step.status)
        return tell(world, Walk(status, steps), self.wanted, gives_way=False, now=now)

    def _with_the_next(self) -> Mapping[str, Step]:
        """The steps taken, and the one that follows at once: between two stages a run is not at its end."""
        following = next((stage.name for stage in self.wanted if stage.name not in self.steps), None)
        if following is None or not all(step.passed for step in self.steps.values()):
            return self.steps
        return {**self.steps, following: Step(State.RUNNING, Reason.STARTING, f"{following} starts.")}

    @property
    def world(self) -> World:
        """What a cluster would look like in which exactly this had happened."""
        ref = Ref("ConfigMap", names.of_revision(self.name, self.revision), "", self.revision)
        record = RecordState(ref, "", Record(self.revision, entries=self.entries))
        return World(
            name=self.name,
            namespace="",
            uid="",
            url=self.url,
            generation=GENERATION,
            status=self.old,
            records={self.revision: record},
            served_revision=self.revision if self.serves else None,
            progress=self.progress,
        )


def running(message: str) -> Step:
    """A stage under way."""
    return Step(State.RUNNING, Reason.RUNNING, message)


def done(message: str) -> Step:
    """A stage that is complete."""
    return Step(State.SUCCEEDED, Reason.SUCCEEDED, message)


def stopped(stage: Stage) -> Step:
    """A stage that the user stopped."""
    message = f"The run was stopped; with `finetune run` {stage.name} {stage.resumes}."
    return Step(State.SUSPENDED, Reason.SUSPENDED, message)


def failed(reason: Reason, message: str) -> Step:
    """A stage that has failed for good."""
    return Step(State.FAILED, reason, message)


def interrupted(status: FineTuneJobStatus, now: datetime) -> FineTuneJobStatus:
    """The document of a run that is over: as it is, unless the run was killed and left it saying that it goes on."""
    stage = HOST if status.endpoint else _under_way(status)
    if stage is None:
        return status
    why = f"The run was killed; with `finetune run` {stage.name} {stage.resumes}."
    said: dict[str, tuple[Status, Reason, str]] = {
        stage.condition: ("Unknown", Reason.SUSPENDED, why),
        Type.READY: ("Unknown", Reason.SUSPENDED, f"{stage.condition}: {why}"),
    }
    if status.endpoint:
        said |= {each.condition: ("Unknown", Reason.WAITING, WAITS) for each in STAGES if each.serves}
    told = [_anew(found, *said[found.type], now) if found.type in said else found for found in status.conditions]
    return status.model_copy(
        update={
            "conditions": merge(status.conditions, told),
            "phase": Phase.SUSPENDED,
            "progress": None,
            "progress_summary": None,
            "endpoint": None,
            "served_revision": None,
            "history": [
                each.model_copy(update={"outcome": Phase.SUSPENDED}) if each.revision == status.revision else each
                for each in status.history
            ],
        }
    )


def _under_way(status: FineTuneJobStatus) -> Stage | None:
    """The stage that the document says is being carried out."""
    idle = (Reason.WAITING, Reason.SUSPENDED)
    busy = {found.type for found in status.conditions if found.status == "Unknown" and found.reason not in idle}
    return next((stage for stage in STAGES if stage.condition in busy), None)


def _anew(found: Condition, status: Status, reason: Reason, message: str, now: datetime) -> Condition:
    return condition(Type(found.type), status, reason, message, found.observed_generation, now)
