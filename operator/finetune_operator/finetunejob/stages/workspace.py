"""The volume and the record that a revision's first Job needs, before any Job is made. Used by `stages.job`.

Objects of their names may still be there from a FineTuneJob that was deleted, or from this revision before it was
given up: those are waited for, and never taken over.
"""

from finetune_operator.api.values import quantity
from finetune_operator.conditions import Reason
from finetune_operator.finetunejob.desired.workspace import claim, record_map, told
from finetune_operator.finetunejob.observe import ClaimState, World
from finetune_operator.finetunejob.remember import remember
from finetune_operator.finetunejob.stages.base import Context, Step
from finetune_operator.finetunejob.target import Target
from finetune_operator.kinds.actions import Action, Create, Patch
from finetune_operator.kinds.plan import State

_CANT_GROW = (
    "Set workspace.size back; a volume of the new size comes with the next revision, for example with another "
    "training.seed."
)


def workspace(context: Context, grow: bool) -> Step | None:
    """What is still to be made or waited for; None once the revision has its volume and its record.

    `grow`: the volume may have to be larger than it is.
    """
    target, world = context.target, context.world
    name = target.revision_name
    volume, record = world.claims.get(name), world.records.get(target.revision)
    going = next((found.ref for found in (volume, record) if found and found.ref.deleting), None)
    if going:
        return _waits(f"{going.kind} {name} is being deleted; the work starts with a new one once it is gone.")
    if name in world.mounted:
        return _waits(f"Pod {world.mounted[name]}, which is not of this FineTuneJob, still uses the volume {name}.")
    actions: tuple[Action, ...] = ()
    if volume is None and target.bucket is None:
        actions += (Create(claim(target)),)
    elif volume and grow:
        actions += _grow(volume, str(target.spec.workspace.size))
    if record is None:
        actions += (Create(record_map(target)),)
    else:
        actions += remember(record, told(target))
    said = f"The record {name} is made." if target.bucket else f"The volume and the record {name} are made."
    made = Step(State.RUNNING, Reason.STARTING, said, actions)
    return made if actions else None


def cache(target: Target, world: World) -> str:
    """Where a revision's base model is kept for others, too: as its record has it, or else as the manifest asks."""
    config = world.record(target.revision).run_config
    if config is None:
        return target.spec.workspace.cache or ""
    return config.model.cache.uri if config.model.cache else ""


def _waits(message: str) -> Step:
    return Step(State.RUNNING, Reason.RESTARTING, message)


def _grow(volume: ClaimState, size: str) -> tuple[Action, ...]:
    """Ask for more where the manifest does; a volume never shrinks. Its class may refuse, and then says so."""
    if not volume.requested or quantity(size) <= quantity(volume.requested):
        return ()
    return (Patch(volume.ref, {"spec": {"resources": {"requests": {"storage": size}}}}, _CANT_GROW),)
