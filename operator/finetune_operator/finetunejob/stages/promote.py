"""promote: the stable Service points at the revision that has passed every stage before this one."""

from finetune_operator import names
from finetune_operator.api.status import Phase
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.conditions import Reason, Type
from finetune_operator.finetunejob.homes import home
from finetune_operator.finetunejob.observe import World
from finetune_operator.finetunejob.stages.base import Context, Stage, Step
from finetune_operator.kinds.actions import applied
from finetune_operator.kinds.plan import State


class Promote(Stage):
    """The stable Service."""

    name = "promote"
    condition = Type.PROMOTED
    phase = Phase.PROMOTING
    serves = True
    unwanted = "hosting.enabled is false."

    def wanted(self, spec: FineTuneJobSpec) -> bool:
        """Only with hosting.enabled."""
        return spec.hosting.enabled

    def step(self, context: Context) -> Step:
        """Point the Service at this revision, unless a person has chosen an earlier one."""
        target = context.target
        if context.pinned:
            return _pinned(context, context.pinned)
        actions = (applied(home(target).lead(target, context.world, target.revision)),)
        if context.serves:
            message = f"Service {target.name} points at {_where(context)}.{_lost(context)}"
            return Step(State.SUCCEEDED, Reason.SUCCEEDED, message, actions)
        return Step(State.RUNNING, Reason.RUNNING, f"Service {target.name} moves to {_where(context)}.", actions)


def _where(context: Context) -> str:
    on = home(context.target).on
    return f"{context.target.revision} on Engine {on}" if on else context.target.revision


def _pinned(context: Context, revision: str) -> Step:
    """`hosting` brings the chosen revision up and moves the Service."""
    name, pin = context.target.name, f"the annotation {names.PROMOTE} names it; remove that to promote"
    pin = f"{pin} {context.target.revision}"
    if (context.world.served_revision, context.world.served_on) == (revision, home(context.target).on):
        return Step(State.SUCCEEDED, Reason.PINNED, f"Service {name} points at {revision}: {pin}.")
    return Step(State.RUNNING, Reason.STARTING, f"Revision {revision} starts, and takes over: {pin}.")


def _lost(context: Context) -> str:
    """A sentence for a promotion by hand that can't be: the revision is not there any more, or never was."""
    wanted = context.world.promote
    if wanted in ("", context.target.revision):
        return ""
    place, target, world = home(context.target), context.target, context.world
    others = (found for found in _kept(world) - {target.revision} if place.can(target, world, found))
    kept = ", ".join(sorted(others)) or "none"
    return f" The annotation {names.PROMOTE} names {wanted}, which is {place.takes}; kept: {kept}."


def _kept(world: World) -> set[str]:
    """What the annotation could name."""
    trained = {revision: found.record.trained for revision, found in world.records.items() if found.record.trained}
    checkpoints = {names.address(name, each.step) for name, made in trained.items() for each in made.checkpoints[1:]}
    return {*trained, *checkpoints}
