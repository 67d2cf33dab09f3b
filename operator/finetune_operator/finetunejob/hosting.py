"""Which revisions have an engine, and how many replicas each: the candidate, what serves, what a person chose.

And whether the base model has one, for a candidate to be compared with. The one place that makes, scales and removes
Deployments, and that moves the stable Service to a revision that a person chose. `plan` carries it out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from finetune_operator import names
from finetune_operator.api.hosting import Rollout
from finetune_operator.conditions import Reason
from finetune_operator.finetunejob.desired.hosting import HOST, labelled, stable_service
from finetune_operator.finetunejob.homes import home, home_on
from finetune_operator.finetunejob.homes.base import Tenant
from finetune_operator.finetunejob.observe import World
from finetune_operator.finetunejob.seat import Seat
from finetune_operator.finetunejob.stages.base import pinned_revision
from finetune_operator.finetunejob.target import Target
from finetune_operator.finetunejob.walk import Walk
from finetune_operator.kinds.actions import Action, Delete, Id, Ref, applied
from finetune_operator.kinds.plan import State
from finetune_operator.kinds.snapshot import DeploymentState
from finetune_operator.pods.diagnose import lacking
from finetune_operator.pods.state import PodState

_HOSTED = (State.RUNNING, State.BLOCKED, State.SUCCEEDED)
# What ends a candidate, and not what serves.
_STOPPED = (State.FAILED, State.SUSPENDED)


@dataclass(frozen=True)
class HostingPlan:
    """What to do about engines: `serve` keeps up what answers users, `release` gives back, `work` is the candidate's.

    `tenants` by the object that each is there by. `gives_way`: what serves is to make room.
    """

    tenants: Mapping[Id, Tenant]
    gives_way: bool = False
    serve: tuple[Action, ...] = ()
    release: tuple[Action, ...] = ()
    work: tuple[Action, ...] = ()


def hosting(target: Target, world: World, walk: Walk) -> HostingPlan:
    """Decide."""
    gives_way = _gives_way(target, world, walk)
    tenants = _tenants(target, world, walk, gives_way)
    ours, served = Seat(target.revision, home(target).on), serving(target, world)
    serve: tuple[Action, ...] = ()
    release: tuple[Action, ...] = ()
    work: tuple[Action, ...] = ()
    for tenant in tenants.values():
        if tenant.replicas is None:
            continue
        actions = tenant.home.make(replace(target, revision=tenant.revision), world, tenant, tenant.replicas)
        if tenant.replicas == 0:
            release += actions
        elif tenant.stage == names.BASE or (
            tenant.stage == HOST and tenant.revision == target.revision and served != ours
        ):
            work += actions
        else:
            serve += actions
    release += tuple(Delete(ref) for ref in _gone(world, tenants))
    return HostingPlan(tenants, gives_way, serve + _service(target, world), release, work)


def _gone(world: World, tenants: Mapping[Id, Tenant]) -> tuple[Ref, ...]:
    """By what those are there that are to be nowhere any more."""
    found = (*(each.ref for each in world.deployments.values()), *(each.ref for each in world.adapters.values()))
    return tuple(ref for ref in found if (ref.kind, ref.name) not in tenants and not ref.deleting)


def serving(target: Target, world: World) -> Seat | None:
    """What users get and where: what answers; else what the stable Service points at; else what status said last."""
    if world.served_revision:
        return Seat(world.served_revision, world.served_on)
    told = world.status.served_revision
    return world.pointer or (Seat(told, home(target).on) if told and world.has(told) else None)


def _tenants(target: Target, world: World, walk: Walk, gives_way: bool) -> dict[Id, Tenant]:
    spec, wanted = target.spec.hosting, home(target)
    ours, served = Seat(target.revision, wanted.on), serving(target, world)
    found: list[Tenant] = []
    if spec.enabled:
        bound = _bound(target, world)
        others = {served, world.pointer, Seat(bound, wanted.on) if bound else None} - {None, ours}
        found += [
            _of(target, seat, 0 if gives_way else spec.replicas) for seat in sorted(filter(None, others), key=str)
        ]
    step = walk.hosted
    if step is None:
        # What serves is not taken down because a stage before it has to run again; without its volume it can't run.
        there = not wanted.mounts or world.keeps(target.revision)
        if served == ours and there:
            found.append(Tenant(wanted, target.revision, None))
    elif step.state in _HOSTED or (step.state in _STOPPED and served == ours):
        found.append(Tenant(wanted, target.revision, spec.replicas))
    if _compared(target, world, walk):
        # As many as answer for the candidate, or its latency would be compared with that of fewer.
        found.append(Tenant(wanted, target.revision, spec.replicas, names.BASE))
    return {tenant.home.holds(target, tenant): tenant for tenant in found}


def _of(target: Target, seat: Seat, replicas: int) -> Tenant:
    """What still serves elsewhere keeps its replicas until it moves."""
    revision, stage = labelled(seat.address)
    return Tenant(home_on(target, seat.on), revision, replicas if seat.on == home(target).on else None, stage)


def _bound(target: Target, world: World) -> str | None:
    """What should answer from the manifest's home whatever its own revision does: the pinned one, else what
    still serves elsewhere.
    """
    if pinned := pinned_revision(target, world):
        return pinned
    served, place = serving(target, world), home(target)
    if served is None or served.on == place.on or served.address == target.revision:
        return None
    return served.address if place.can(target, world, served.address) else None


def _compared(target: Target, world: World, walk: Walk) -> bool:
    """Whether the base model has an engine: while a stage that asks it is under way, and no longer.

    It outlasts a candidate that starts again, but not one that can't: that may lack just what this one holds.
    """
    if walk.current is None:
        return False
    stage, step = walk.current
    if stage.asks_base(target.spec):
        return step.state in (State.RUNNING, State.BLOCKED)
    there = names.of_base(target.name, target.revision) in world.deployments
    return there and stage.hosts and step.state == State.RUNNING


def _gives_way(target: Target, world: World, walk: Walk) -> bool:
    """Whether what serves makes room: only while new work runs on what it gave, or lacks just that.

    It takes an image that can't be pulled, or a failure, to have it back at once.
    """
    served = serving(target, world)
    holder = world.deployment_of(served) if served else None
    if target.spec.hosting.rollout != Rollout.RECREATE or walk.current is None or holder is None:
        return False
    stage, step = walk.current
    if not stage.frees_serving or served == Seat(target.revision):
        return False
    if step.reason in (Reason.ACCELERATORS_IN_USE, Reason.UNSCHEDULABLE):
        pods = world.pods_of(stage.name, target.revision) + world.pods_of(names.BASE, target.revision)
        return _helps(holder, pods, target.spec.hosting.replicas)
    return holder.replicas == 0 and step.state == State.RUNNING


def _helps(holder: DeploymentState, pods: tuple[PodState, ...], replicas: int) -> bool:
    """Whether the pod that waits would find what it lacks if the holder had no pods."""
    waiting = next((pod for pod in reversed(pods) if pod.unschedulable is not None), None)
    missing = lacking(waiting) if waiting else frozenset()
    freed = {name: int(count) * replicas for name, count in holder.limits.items() if "/" in name}
    return (
        waiting is not None
        and bool(missing)
        and all(name in freed and int(waiting.limits.get(name, 0)) <= freed[name] for name in missing)
    )


def _service(target: Target, world: World) -> tuple[Action, ...]:
    """The stable Service as it is, or with what is bound for the manifest's home once that answers there.

    Moving it to the manifest's own revision is the stage promote's.
    """
    if not target.spec.hosting.enabled:
        return ()
    bound, place = _bound(target, world), home(target)
    if bound and place.answers(target, world, bound):
        return (applied(place.lead(target, world, bound)),)
    woken = place.woken() if bound and serving(target, world) != Seat(bound, place.on) else ()
    seat = world.pointer or serving(target, world)
    return (*((applied(stable_service(target, seat)),) if seat else ()), *woken)
