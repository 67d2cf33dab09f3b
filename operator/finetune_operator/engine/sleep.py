"""When an Engine falls asleep, by what its pods told of their load. Pure.

Asleep it has no pods, by its own spec.replicas: autoscalers leave what is scaled to zero alone, and whoever scales it
up, wakes it.
"""

from datetime import timedelta

from finetune_operator.api.engine import EngineSpec
from finetune_operator.api.values import seconds
from finetune_operator.engine import adapters
from finetune_operator.engine.observe import World
from finetune_operator.kinds.actions import Action, Scale
from finetune_operator.serving.requests import COUNT_SECONDS


def falls_asleep(world: World, spec: EngineSpec) -> tuple[Action, ...]:
    """What brings it to rest, once all its pods have told that they had no request for so long."""
    left = _left(world, spec)
    if left is None or left > timedelta() or awake_for(world, spec):
        return ()
    return (Scale(world.ref, world.version, 0),)


def again_after(world: World, spec: EngineSpec) -> float | None:
    """Seconds until it may be time for that."""
    rest = _left(world, spec)
    return None if rest is None else max(rest.total_seconds(), COUNT_SECONDS / 2)


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
    pods = [pod for pod in world.pods if pod.live and not pod.deleting]
    loads = [world.busy[pod.name] for pod in pods if pod.name in world.busy]
    if not loads or len(loads) < len(pods):
        return None
    idle = min(load.idle for load in loads)
    return timedelta(seconds=seconds(spec.idle_after)) - idle
