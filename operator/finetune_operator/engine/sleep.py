"""When an Engine falls asleep, and what there is to tell of its requests: by what its pods told of their load. Pure.

Asleep it has no pods, by its own spec.replicas: autoscalers leave what is scaled to zero alone, and whoever scales it
up, wakes it.
"""

from datetime import datetime, timedelta

from finetune_operator.api.engine import EngineRequests, EngineSpec, PodRequests
from finetune_operator.api.values import seconds
from finetune_operator.engine import adapters
from finetune_operator.engine.observe import World, loaded
from finetune_operator.kinds.actions import Action, Scale
from finetune_operator.kinds.questions import Question
from finetune_operator.serving.load import LOAD

# Each count that is told is a write, and news for every FineTuneJob on the Engine.
COUNT_SECONDS = 30.0


def questions(world: World) -> dict[str, Question]:
    """The pods that are worth asking for their load."""
    ready = (pod for pod in world.loaders if pod.live and pod.ready and pod.address)
    return {loaded(pod.ref.name): Question(pod.address or "", LOAD) for pod in ready}


def asleep(spec: EngineSpec) -> bool:
    """Whether it sleeps, or is about to; whoever scaled it to zero."""
    return spec.idle_after is not None and spec.replicas == 0


def falls_asleep(world: World, spec: EngineSpec) -> tuple[Action, ...]:
    """What brings it to rest, once all its pods have told that they had no request for so long."""
    left = _left(world, spec)
    if left is None or left > timedelta() or awake_for(world, spec):
        return ()
    return (Scale(world.ref, world.version, 0),)


def again_after(world: World, spec: EngineSpec, now: datetime) -> float | None:
    """Seconds until there may be something to do or to tell that no other news tell of."""
    rest = _left(world, spec)
    looks = [max(rest.total_seconds(), COUNT_SECONDS / 2)] if rest is not None else []
    before, counted = world.status.requests, _counted(world, now)
    if before and counted and not _same(before, counted):
        looks.append(max(0.0, COUNT_SECONDS - (now - before.at).total_seconds()) + 1)
    return min(looks, default=None)


def requests(world: World, now: datetime) -> EngineRequests | None:
    """What to tell of them: what was told last, as long as it is the same or was told just now."""
    before, counted = world.status.requests, _counted(world, now)
    if counted is None:
        # An operator that starts has asked none yet.
        return before if any(pod.live and pod.ready for pod in world.loaders) else None
    fresh = before is not None and now - before.at < timedelta(seconds=COUNT_SECONDS)
    return before if before and (fresh or _same(before, counted)) else counted


def awake_for(world: World, spec: EngineSpec) -> list[str]:
    """The adapters that a FineTuneJob is at work with: no name of its stands for them yet."""
    found = adapters.wanted(world.loads) if spec.lora else adapters.NONE
    named = set(found.aliases.values())
    return [adapter.name for adapter in found.adapters if adapter.name not in named]


def wakes_to(world: World, replicas: int | None) -> int | None:
    """As many as were asked for last; who scaled it to zero need not remember."""
    return replicas or world.status.wakes_to


def _left(world: World, spec: EngineSpec) -> timedelta | None:
    """How long it is until it may sleep; None where that is not foreseeable: it has none, or not all pods are heard."""
    if spec.idle_after is None or spec.replicas == 0 or world.deployment is None or not world.deployment.rolled_out:
        return None
    pods = [pod for pod in world.loaders if pod.live]
    loads = [pod.load for pod in pods if pod.load is not None]
    if not loads or len(loads) < len(pods):
        return None
    idle = min(load.idle for load in loads)
    return timedelta(seconds=seconds(spec.idle_after)) - idle


def _counted(world: World, now: datetime) -> EngineRequests | None:
    heard = [(pod.ref.name, pod.load) for pod in world.loaders if pod.live and pod.ready and pod.load is not None]
    if not heard:
        return None
    loads = [load for _, load in heard]
    return EngineRequests(
        running=sum(load.running for load in loads),
        waiting=sum(load.waiting for load in loads),
        cache_used=_share(max((load.cache for load in loads if load.cache is not None), default=None)),
        pods=[
            PodRequests(pod=pod, running=load.running, waiting=load.waiting, cache_used=_share(load.cache))
            for pod, load in heard
        ],
        at=now.replace(microsecond=0),
    )


def _share(used: float | None) -> str | None:
    return None if used is None else f"{used:.2f}"


def _same(one: EngineRequests, other: EngineRequests) -> bool:
    return one.model_copy(update={"at": other.at}) == other
