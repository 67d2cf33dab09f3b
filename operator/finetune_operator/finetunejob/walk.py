"""The walk of one revision through its stages: each in turn, until one is not done.

`plan` calls it, `summary` tells of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from finetune_operator.api.status import FineTuneJobStatus, StageState, StageStatus
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.conditions import Reason
from finetune_operator.finetunejob.observe import World
from finetune_operator.finetunejob.stages import STAGES, wanted
from finetune_operator.finetunejob.stages.base import Action, Context, Stage, State, Step
from finetune_operator.finetunejob.target import Target


@dataclass(frozen=True)
class Walk:
    """How far a revision got: status with what its stages reported, and the steps taken, by stage.

    `problem` is a reason and a sentence when nothing could be started at all.
    """

    status: FineTuneJobStatus
    steps: Mapping[str, Step] = field(default_factory=dict)
    problem: tuple[Reason, str] | None = None

    @property
    def current(self) -> tuple[Stage, Step] | None:
        """The stage that the revision stands at, and its step; None when all are done, or none was taken."""
        taken = ((stage, self.steps[stage.name]) for stage in STAGES if stage.name in self.steps)
        return next((found for found in taken if not found[1].passed), None)

    @property
    def actions(self) -> list[Action]:
        """What the steps ask for, in order."""
        return [action for step in self.steps.values() for action in step.actions]


def begin(world: World, revision: str) -> FineTuneJobStatus:
    """The status to go on from: the last one, or an empty one with its history when the revision is new."""
    old = world.status
    if old.revision == revision:
        return old
    return FineTuneJobStatus(revision=revision, history=old.history, conditions=old.conditions)


def walk(target: Target, world: World) -> Walk:
    """Step through the stages that the manifest wants."""
    status = begin(world, target.revision)
    problem = _missing(target, world, status)
    if problem:
        return Walk(status, problem=problem)
    steps: dict[str, Step] = {}
    for stage in wanted(target.spec):
        context = Context(target, world, status)
        inputs = stage.inputs(context)
        steps[stage.name] = step = stage.step(context, inputs)
        status = record(status, stage, step, inputs)
        if not step.passed:
            break
    return Walk(status, steps)


def _missing(target: Target, world: World, status: FineTuneJobStatus) -> tuple[Reason, str] | None:
    """The user's objects that are not there. Once the data is prepared only the model's volume is still mounted."""
    prepared = any(found.name == "prepare" and found.state == StageState.SUCCEEDED for found in status.stages)
    missing = [name for name in world.missing if not prepared or name == _model_claim(target.spec)]
    if not missing:
        return None
    return Reason.OBJECT_NOT_FOUND, (
        f"Not in namespace {world.namespace}: {', '.join(missing)}. Create what is missing, or correct the source that "
        "names it."
    )


def _model_claim(spec: FineTuneJobSpec) -> str | None:
    scheme, _, path = spec.model.source.partition("://")
    return f"PersistentVolumeClaim {path.split('/')[0]}" if scheme == "pvc" else None


def record(status: FineTuneJobStatus, stage: Stage, step: Step, inputs: str) -> FineTuneJobStatus:
    """The status that remembers the step's verdict and what it reports."""
    state = StageState.SUCCEEDED if step.passed else StageState.RUNNING
    if step.state == State.FAILED:
        state = StageState.FAILED
    ended = state != StageState.RUNNING
    verdict = StageStatus(
        name=stage.name,
        state=state,
        inputs=inputs,
        reason=step.reason if state == StageState.FAILED else None,
        message=step.message if ended else None,
    )
    order = [found.name for found in STAGES]
    stages = {found.name: found for found in status.stages} | {stage.name: verdict}
    ordered = sorted(stages.values(), key=lambda found: order.index(found.name))
    return status.model_copy(update={"stages": ordered, **step.report})
