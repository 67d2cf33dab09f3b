"""What is removed again: what belongs to revisions that nobody needs, and what a finished one needs no longer.

What serves, what a person may bring back and what another FineTuneJob starts from stays. `plan` carries it out.
"""

from datetime import datetime, timedelta

from finetune_operator import names
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.api.values import seconds
from finetune_operator.conditions import Type
from finetune_operator.finetunejob.homes import home
from finetune_operator.finetunejob.hosting import HostingPlan, serving
from finetune_operator.finetunejob.observe import World
from finetune_operator.finetunejob.stages import JOBS
from finetune_operator.finetunejob.stages.base import pinned_revision
from finetune_operator.finetunejob.stages.publish import elsewhere
from finetune_operator.finetunejob.target import Target
from finetune_operator.finetunejob.walk import Walk
from finetune_operator.kinds.actions import Action, Delete, Ref
from finetune_operator.kinds.plan import State


def left(target: Target, walked: Walk, status: FineTuneJobStatus, now: datetime) -> float | None:
    """The seconds until ttlAfterFinished is over, 0 from then on; None while there is work, and where none is set."""
    ttl = target.spec.ttl_after_finished
    finished = walked.problem is None and (walked.current is None or walked.current[1].state == State.FAILED)
    if ttl is None or not finished:
        return None
    since = next(found.last_transition_time for found in status.conditions if found.type == Type.READY)
    return max(0.0, (since + timedelta(seconds=seconds(ttl)) - now).total_seconds())


def unneeded(target: Target, world: World, engines: HostingPlan, finished: bool) -> tuple[Action, ...]:
    """The deletions. `finished`: there is nothing left to do, and has not been for ttlAfterFinished."""
    seats = (serving(target, world), world.pointer)
    addresses = {target.revision, pinned_revision(target, world), *(seat.address for seat in seats if seat)} - {None}
    worked_on = {names.revision_and_step(str(address))[0] for address in addresses}
    kept = worked_on | _earlier(target, world, worked_on)

    def needed(ref: Ref) -> bool:
        match ref.kind:
            # `hosting` deletes Deployments; the NetworkPolicy stays while any pod may.
            case "Deployment" | "NetworkPolicy":
                return True
            case "ConfigMap" if ref.name in world.adapters:
                return True
            case "Service":
                return _serves(target, world, engines, ref) or (ref.revision in worked_on and _meets(target, ref))
            case "Job":
                return ref.revision in worked_on and not (finished and world.jobs[ref.name].ended)
            case "PersistentVolumeClaim":
                return ref.revision in kept and not (finished and _spare(target, world, str(ref.revision)))
            case _:
                return ref.revision in kept

    return tuple(Delete(ref) for ref in world.refs if not ref.deleting and not needed(ref))


def _serves(target: Target, world: World, engines: HostingPlan, ref: Ref) -> bool:
    """Whether it is the stable Service, that of an engine, or one that still asks a shared Engine for the name."""
    if ref.name == target.name:
        return target.spec.hosting.enabled
    on, revision = home(target).on, str(ref.revision)
    if ref.name == names.of_asking(target.name, revision):
        there = ("ConfigMap", names.of_adapter(target.name, revision, on)) in engines.tenants
        return there and world.pointer is not None and world.pointer.on != on
    return ("Deployment", ref.name) in engines.tenants


def _meets(target: Target, ref: Ref) -> bool:
    """Whether the pods of a stage meet there."""
    return ref.name in {names.of_stage(target.name, str(ref.revision), stage) for stage in JOBS}


def _spare(target: Target, world: World, revision: str) -> bool:
    """Whether nothing reads the volume of a finished revision: its artifact is elsewhere, and nothing is served."""
    return elsewhere(target.spec, world.record(revision)) and not world.referred


def _earlier(target: Target, world: World, worked_on: set[str]) -> set[str]:
    """The revisions before this one that a person may bring back: those with an artifact, the last ones first."""
    told = [entry.revision for entry in world.status.history]
    trained = [found.record for found in world.records.values() if found.record.trained]
    others = [record for record in trained if record.revision not in worked_on]
    # What history does not tell is older than what it does.
    newest = sorted(others, key=lambda record: record.created, reverse=True)
    ordered = sorted(newest, key=lambda found: told.index(found.revision) if found.revision in told else len(told))
    return {record.revision for record in ordered[: target.spec.hosting.revision_history_limit]}
