"""host: the engine of the revision, until it answers.

Until it is promoted, an engine that keeps crashing is taken down, so that it does not hold accelerators for nothing;
the verdict stays in the record. So is a candidate that is not to be served: it missed the gate or could not be
measured, another revision serves because a person said so, or hosting.enabled is false. What serves is never taken down
for that: its rolling update keeps the old pods. How it stands is told here; `hosting` makes and removes the Deployment.
"""

from finetune_operator.api.hosting import Rollout
from finetune_operator.api.status import Phase
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.conditions import Reason, Type
from finetune_operator.finetunejob.desired.hosting import HOST
from finetune_operator.finetunejob.homes import home
from finetune_operator.finetunejob.record import Failure
from finetune_operator.finetunejob.stages.base import Context, Stage, Step, failed
from finetune_operator.finetunejob.stages.engine import inputs_of
from finetune_operator.finetunejob.stages.job import JobStage
from finetune_operator.finetunejob.target import Target
from finetune_operator.kinds.plan import State


class Host(Stage):
    """The candidate. `measures`: the stage that asks it, after which it may not be needed any more."""

    name = HOST
    condition = Type.HOSTED
    phase = Phase.HOSTING
    frees_serving = True
    hosts = True

    def __init__(self, measures: JobStage) -> None:
        self._measures = measures
        self.unwanted = f"hosting.enabled is false, and so is {measures.unwanted.removesuffix(' is false.')}."

    def wanted(self, spec: FineTuneJobSpec) -> bool:
        """To serve the result, or to measure it."""
        return spec.hosting.enabled or self._measures.wanted(spec)

    def mounts(self, target: Target) -> bool:
        """An engine of its own does."""
        return home(target).mounts

    def inputs(self, context: Context) -> str:
        """A digest of everything of hosting that can keep an engine from starting: a change tries it again."""
        return inputs_of(context)

    def step(self, context: Context) -> Step:
        """Released, failed before, suspended, or how it stands at home."""
        if why := self.released(context):
            return Step(State.RELEASED, Reason.RELEASED, why)
        if not context.serves:
            if before := context.failed_before(self.name, self.inputs(context)):
                return before
            if context.spec.suspend:
                message = "spec.suspend is true; set it to false and the candidate starts."
                return Step(State.SUSPENDED, Reason.SUSPENDED, message)
        return self._assess(context)

    def released(self, context: Context) -> str | None:
        """Why the candidate is no longer needed, as a sentence; None while it is."""
        hosting = context.spec.hosting
        gives_way = context.pinned and hosting.rollout == Rollout.RECREATE
        if context.serves and hosting.enabled and not gives_way:
            return None
        asked = self._measures.wanted(context.spec)
        measured = self._measures.ended(context) if asked else None
        if asked and measured is None:
            return None
        if context.pinned:
            return f"Revision {context.pinned} serves; the candidate was taken down."
        if not hosting.enabled:
            return "Nothing is left to measure, and hosting.enabled is false; the candidate was taken down."
        if measured and not measured.passed:
            return "It is not to be promoted; the candidate was taken down."
        return None

    def _assess(self, context: Context) -> Step:
        target, world = context.target, context.world
        place = home(target)
        found = place.readiness(target, world, context.serves, context.evidence)
        if found.state == State.FAILED:
            # What serves may recover, with nothing changed in the manifest.
            failure = Failure(found.reason, found.message)
            return failed(failure) if context.serves else context.give_up(self.name, self.inputs(context), failure)
        woken = () if context.serves else place.woken()
        return Step(found.state, found.reason, found.message, (*place.beside(target, world), *woken))
