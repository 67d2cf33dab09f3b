"""How an Engine stands, in the words of status: its conditions, its pods, its address."""

from datetime import datetime

from finetune_operator import names
from finetune_operator.api.engine import EngineModelStatus, EngineSpec, EngineStatus
from finetune_operator.conditions import Objection, Reason, Status, Type, condition, merge
from finetune_operator.engine import adapters, sleep
from finetune_operator.engine.observe import World
from finetune_operator.kinds.plan import MESSAGE_LENGTH, STATUS
from finetune_operator.pods.diagnose import Evidence
from finetune_operator.serving import requests
from finetune_operator.serving.objects import url
from finetune_operator.serving.rollout import rollout

Told = tuple[Status, Reason, str]


def tell(
    world: World, spec: EngineSpec | None, problem: Objection | None, now: datetime, pending: bool = False
) -> EngineStatus:
    """The whole status document. `spec`: what the manifest asks for, where it can be read; `pending`: its objects are
    not all as it wants them, so that what is there says nothing of it.
    """
    available = _available(world, spec)
    told = {
        Type.ACCEPTED: _accepted(problem),
        Type.AVAILABLE: available,
        Type.READY: ("False", *problem) if problem else _ready(world, spec, pending),
    }
    conditions = [
        condition(kind, status, reason, message[:MESSAGE_LENGTH], world.generation, now)
        for kind, (status, reason, message) in told.items()
    ]
    found = world.deployment
    return EngineStatus(
        observed_generation=world.generation,
        conditions=merge(world.status.conditions, conditions),
        replicas=found.pods if found else 0,
        available_replicas=found.available if found else 0,
        wakes_to=sleep.wakes_to(world, spec.replicas if spec else None),
        requests=requests.told(world.pods, world.busy, world.status.requests, now),
        selector=f"{names.ENGINE_OF}={world.name}",
        url=url(world.name, world.namespace),
        model=EngineModelStatus(name=world.name, commit=_commit(world)),
        adapters=adapters.status(world, spec.lora if spec else None),
    )


def _accepted(problem: Objection | None) -> Told:
    return ("False", *problem) if problem else ("True", Reason.ACCEPTED, "The manifest is accepted.")


def _available(world: World, spec: EngineSpec | None) -> Told:
    """Whether anybody gets an answer."""
    found = world.deployment
    if found and found.available > 0:
        return "True", Reason.SERVING, f"{found.available} of {found.replicas} pods answer."
    if found and found.replicas == 0 and spec and spec.replicas == 0:
        nothing = "spec.replicas is 0; scale it up and it answers again."
        return _ending(world) or ("False", *(_asleep(world, spec) or (Reason.SCALED_TO_ZERO, nothing)))
    return _standing(world)


def _ready(world: World, spec: EngineSpec | None, pending: bool) -> Told:
    """Whether all is there that the manifest asks for."""
    found = world.deployment
    if pending and found:
        return "Unknown", Reason.RUNNING, "What the manifest asks for is being written."
    if found and found.replicas == 0 and spec and spec.replicas == 0:
        nothing = "No pod is asked for: spec.replicas is 0."
        return _ending(world) or ("True", *(_asleep(world, spec) or (Reason.SCALED_TO_ZERO, nothing)))
    status, reason, message = _standing(world)
    if status != "True":
        return status, reason, message
    where = f"{url(world.name, world.namespace)} answers as model {world.name}."
    commits = _commits(world)
    if len(commits) > 1:
        where += f" Its pods serve different commits, {', '.join(commits)}: set model.revision to one of them."
    lora = spec.lora if spec else None
    return "True", Reason.SERVING, " ".join((where, *adapters.sentences(world, lora), *_kept_awake(world, spec)))


def _asleep(world: World, spec: EngineSpec) -> tuple[Reason, str] | None:
    if not spec.asleep:
        return None
    return Reason.ASLEEP, (
        f"It has no pod until somebody needs it (spec.idleAfter is {spec.idle_after}): a request to finetune-api for "
        f"one of its models, a FineTuneJob on it, or kubectl scale eng {world.name} --replicas "
        f"{sleep.wakes_to(world, None) or 1}."
    )


def _kept_awake(world: World, spec: EngineSpec | None) -> list[str]:
    busy = sleep.awake_for(world, spec) if spec and spec.idle_after else []
    return [f"It stays awake while its FineTuneJob is at work with {', '.join(busy)}."] if busy else []


def _ending(world: World) -> Told | None:
    """What an Engine that is scaled to nothing still holds."""
    left = [pod.name for pod in world.pods if pod.live]
    message = f"Until they have ended, pods hold what they have: {', '.join(left)}."
    return ("Unknown", Reason.RUNNING, message) if left else None


def _standing(world: World) -> Told:
    if world.deployment is None and world.record is None:
        return "Unknown", Reason.WAITING, "Nothing is made yet."
    readiness = rollout(world.name, world.deployment, world.pods, Evidence)
    return STATUS[readiness.state], readiness.reason, readiness.message


def _commit(world: World) -> str | None:
    """The one that all pods serve; while there is none, the last that was told, as long as the manifest is the same."""
    commits = _commits(world)
    if len(commits) == 1:
        return commits[0]
    last = world.status
    same = last.observed_generation == world.generation
    return last.model.commit if not commits and same and last.model else None


def _commits(world: World) -> list[str]:
    results = (pod.fetched.result for pod in world.pods if pod.fetched and not pod.deleting)
    return sorted({str(result["commit"]) for result in results if result and result.get("commit")})
