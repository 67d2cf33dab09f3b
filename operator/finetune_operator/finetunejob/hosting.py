"""Which revisions have an engine, and how many replicas each: the candidate, what serves, what a person chose.

And whether the base model has one, for a candidate to be compared with. The one place that makes, scales and removes
Deployments, and that moves the stable Service to a revision that a person chose. `plan` carries it out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from finetune_operator import names
from finetune_operator.api.hosting import Rollout
from finetune_operator.conditions import Reason
from finetune_operator.finetunejob.desired.hosting import (
    BASE,
    HOST,
    base_service,
    deployment,
    engine_name,
    pod_template,
    stable_service,
)
from finetune_operator.finetunejob.observe import DeploymentState, World
from finetune_operator.finetunejob.record import template_key
from finetune_operator.finetunejob.stages.base import Action, Delete, State, applied, pinned_revision, remember
from finetune_operator.finetunejob.target import Target
from finetune_operator.finetunejob.walk import Walk
from finetune_operator.pods.diagnose import lacking
from finetune_operator.pods.state import PodState

_HOSTED = (State.RUNNING, State.BLOCKED, State.SUCCEEDED)


@dataclass(frozen=True)
class Engine:
    """A revision's, that of its base model, or that of a checkpoint, as `stage` says, which its pods are labelled with.

    `replicas`: None to leave its Deployment as it is.
    """

    revision: str
    replicas: int | None
    stage: str = HOST


@dataclass(frozen=True)
class Hosting:
    """What to do about engines: `serve` keeps up what answers users, `release` gives back, `work` is the candidate's.

    `engines` by the name of their Deployment and Service. `gives_way`: what serves is to make room.
    """

    engines: Mapping[str, Engine]
    gives_way: bool = False
    serve: tuple[Action, ...] = ()
    release: tuple[Action, ...] = ()
    work: tuple[Action, ...] = ()


def hosting(target: Target, world: World, walk: Walk) -> Hosting:
    """Decide."""
    gives_way = _gives_way(target, world, walk)
    engines = _engines(target, world, walk, gives_way)
    served = serving(world)
    serve: tuple[Action, ...] = ()
    release: tuple[Action, ...] = ()
    work: tuple[Action, ...] = ()
    for name, engine in engines.items():
        if engine.replicas is None:
            continue
        actions = _deploy(replace(target, revision=engine.revision), world, name, engine, engine.replicas)
        if engine.replicas == 0:
            release += actions
        elif engine.stage == BASE or (engine.stage == HOST and engine.revision == target.revision != served):
            work += actions
        else:
            serve += actions
    gone = (found.ref for name, found in world.deployments.items() if name not in engines)
    release += tuple(Delete(ref) for ref in gone if not ref.deleting)
    return Hosting(engines, gives_way, serve + _service(target, world), release, work)


def serving(world: World) -> str | None:
    """The revision, or the checkpoint, that users get; without the stable Service, the one that it pointed at."""
    told = world.status.served_revision
    return world.served_revision or (told if told and world.has(told) else None)


def _engines(target: Target, world: World, walk: Walk, gives_way: bool) -> dict[str, Engine]:
    spec = target.spec.hosting
    found: list[Engine] = []
    if spec.enabled:
        others = {serving(world), pinned_revision(target, world)} - {None, target.revision}
        found += [_of(str(address), 0 if gives_way else spec.replicas) for address in sorted(others, key=str)]
    step = walk.hosted
    if step is None:
        # What serves is not taken down because a stage before it has to run again; without its volume it can't run.
        if target.revision == serving(world) and names.of_revision(target.name, target.revision) in world.claims:
            found.append(Engine(target.revision, None))
    elif step.state in _HOSTED or (step.state == State.FAILED and target.revision == serving(world)):
        found.append(Engine(target.revision, spec.replicas))
    named = {engine_name(target.name, engine.revision, engine.stage): engine for engine in found}
    if _compared(target, world, walk):
        # As many as answer for the candidate, or its latency would be compared with that of fewer.
        named[names.of_base(target.name, target.revision)] = Engine(target.revision, spec.replicas, BASE)
    return named


def _of(address: str, replicas: int) -> Engine:
    revision, step = names.parted(address)
    return Engine(revision, replicas, HOST if step is None else names.checkpoint(step))


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
    served = serving(world)
    holder = world.deployments.get(names.of_served(target.name, served)) if served else None
    if target.spec.hosting.rollout != Rollout.RECREATE or walk.current is None or holder is None:
        return False
    stage, step = walk.current
    if not stage.frees_serving or served == target.revision:
        return False
    if step.reason in (Reason.ACCELERATORS_IN_USE, Reason.UNSCHEDULABLE):
        pods = world.pods_of(stage.name, target.revision) + world.pods_of(BASE, target.revision)
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


def _deploy(target: Target, world: World, name: str, engine: Engine, replicas: int) -> tuple[Action, ...]:
    """The Deployment of a trained revision. Its pods are made once for each hosting that the manifest asks for, and
    kept in the record: another version of the operator would make others, and roll every engine.
    """
    state = world.records.get(target.revision)
    found = world.deployments.get(name)
    if state is None or (found and found.ref.deleting):
        return ()
    spec = names.given(target.spec.hosting, exclude=set(_NOT_THE_PODS))
    own = {HOST: {}, BASE: {"base": True}}.get(engine.stage, {"stage": engine.stage})
    inputs = names.digest({"hosting": spec, "upgrade": world.upgrade, **own})
    pod = state.record.template(inputs)
    if pod is not None:
        service = (applied(base_service(target)),) if engine.stage == BASE else ()
        return (applied(deployment(target, pod, replicas, engine.stage)), *service)
    config, prepared = state.record.run_config, state.record.prepared
    if config is None or prepared is None:
        return ()
    length = target.spec.hosting.context_length or prepared.plan.context_length
    return remember(state, {template_key(inputs): json.dumps(pod_template(target, config, length, engine.stage))})


_NOT_THE_PODS = ("enabled", "replicas", "rollout", "revision_history_limit")


def _service(target: Target, world: World) -> tuple[Action, ...]:
    """The stable Service as it is, or with the revision that a person chose once that one answers.

    Moving it to the manifest's own revision is the stage promote's.
    """
    if not target.spec.hosting.enabled:
        return ()
    wanted, pinned = serving(world), pinned_revision(target, world)
    found = world.deployments.get(names.of_served(target.name, pinned)) if pinned else None
    if found and found.rolled_out:
        wanted = pinned
    return (applied(stable_service(target, wanted)),) if wanted else ()
