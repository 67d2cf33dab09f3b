"""The decision: from what the cluster looks like to the actions that bring it closer and the status that tells of it.

`reconcile` calls `plan` after every change and carries out what it says. Pure: the same snapshot, settings and time
give the same plan, and a plan that was carried out half is simply made again.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import ValidationError

from finetune_operator import names
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.api.v1alpha1 import FineTuneJobSpec, Rollout
from finetune_operator.conditions import Reason
from finetune_operator.finetunejob.desired.hosting import deployment, stable_service
from finetune_operator.finetunejob.observe import Ref, Snapshot, World, observe
from finetune_operator.finetunejob.stages import STAGES, wanted
from finetune_operator.finetunejob.stages.base import Action, Apply, Delete, Stage, State, pinned_revision
from finetune_operator.finetunejob.summary import events_of, refuse, tell
from finetune_operator.finetunejob.target import Target
from finetune_operator.finetunejob.walk import Walk, walk
from finetune_operator.settings import Settings

# What is not watched is looked at again this often, in seconds: objects that the manifest names and that are missing, a
# name that is taken, the Events of a Job without a pod.
MISSING_SECONDS = 15.0
# What a revision can be brought back from.
_REMEMBERED = ("PersistentVolumeClaim", "ConfigMap")
# A quota may have been raised, a webhook mended.
REFUSED_SECONDS = 60.0


@dataclass(frozen=True)
class Event:
    """A Kubernetes Event about the FineTuneJob, for people. `type` is Normal or Warning."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True)
class Plan:
    """What to do now, what to say, and after how many seconds to look again even if nothing happens."""

    status: FineTuneJobStatus
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = ()
    again_after: float | None = None


def plan(snapshot: Snapshot, settings: Settings, now: datetime) -> Plan:
    """Decide. A FineTuneJob that is being deleted needs nothing: what it owns goes with it."""
    world = observe(snapshot)
    if world.deleting:
        return Plan(world.status)
    try:
        spec = FineTuneJobSpec.model_validate(world.spec)
    except ValidationError as error:
        return _say(world, Walk(world.status, problem=(Reason.INVALID, _sentences(error))), STAGES, (), None, now)
    target = Target(world.name, world.namespace, world.uid, spec, names.revision_of(spec), settings)
    walked = walk(target, world)
    actions = (*walked.actions, *_keep_serving(target, world, walked), *_prune(target, world, walked))
    return _say(world, walked, wanted(spec), actions, _again_after(walked, settings), now)


def poll_address(snapshot: Snapshot) -> str | None:
    """The address of the running stage pod whose progress is worth asking for; None when no stage pod runs."""
    world = observe(snapshot)
    stage_pods = (pod for pod in world.pods if pod.stage != "host" and pod.revision == world.status.revision)
    return next((pod.ip for pod in stage_pods if pod.phase == "Running" and not pod.deleting), None)


def refused(snapshot: Snapshot, planned: Plan, what: str, sentence: str, now: datetime) -> Plan:
    """The plan to go on with when the API server refused `what`, one of `planned`'s objects: say so, try later."""
    before = observe(snapshot).status.conditions
    status = refuse(planned.status, before, f"The API server refused {what}: {sentence}", now)
    events = tuple(Event(*event) for event in events_of(before, status.conditions))
    return Plan(status, events=events, again_after=REFUSED_SECONDS)


def _sentences(error: ValidationError) -> str:
    return "; ".join(
        f"spec.{'.'.join(str(part) for part in problem['loc'])}: {problem['msg'].removeprefix('Value error, ')}"
        for problem in error.errors()
    )


def _say(
    world: World,
    walked: Walk,
    stages: tuple[Stage, ...],
    actions: tuple[Action, ...],
    again_after: float | None,
    now: datetime,
) -> Plan:
    status = tell(world, walked, stages, now)
    events = tuple(Event(*event) for event in events_of(world.status.conditions, status.conditions))
    return Plan(status, actions, events, again_after)


def _keep_serving(target: Target, world: World, walked: Walk) -> tuple[Action, ...]:
    """Keep the revision that serves as the manifest's hosting says, unless it gives way to the new one's work.

    One that a person chose is brought up beside it, and takes over once it answers.
    """
    if not target.spec.hosting.enabled:
        return ()
    pinned = pinned_revision(target, world)
    others = {revision for revision in (world.served_revision, pinned) if revision and revision != target.revision}
    actions = [action for revision in sorted(others) for action in _hosting(target, world, walked, revision)]
    found = world.deployments.get(names.of_revision(target.name, pinned)) if pinned else None
    ours = world.stable_service is None or world.stable_service.owned
    if pinned and ours and found and found.rolled_out:
        actions.append(Apply(stable_service(target, pinned)))
    return tuple(actions)


def _hosting(target: Target, world: World, walked: Walk, revision: str) -> tuple[Action, ...]:
    hosting, config = target.spec.hosting, world.run_configs.get(revision)
    context_length = hosting.context_length or _context_length(walked.status, revision)
    found = world.deployments.get(names.of_revision(target.name, revision))
    if config is None or context_length is None or (found and found.deleting):
        return ()
    replicas = 0 if _gives_way(target, walked) else hosting.replicas
    return (Apply(deployment(replace(target, revision=revision), config, context_length, replicas)),)


def _context_length(status: FineTuneJobStatus, revision: str) -> int | None:
    return next((entry.context_length for entry in status.history if entry.revision == revision), None)


def _gives_way(target: Target, walked: Walk) -> bool:
    if target.spec.hosting.rollout != Rollout.RECREATE or walked.current is None:
        return False
    stage, step = walked.current
    return stage.frees_serving and step.state in (State.RUNNING, State.BLOCKED)


def _prune(target: Target, world: World, walked: Walk) -> tuple[Action, ...]:
    """Remove what belongs to revisions that neither serve nor are worked on; of some, the volumes are kept."""
    actions = (Delete(ref) for ref in world.refs if not _wanted(ref, target, world, walked))
    return tuple(action for action in actions if action not in walked.actions)


def _wanted(ref: Ref, target: Target, world: World, walked: Walk) -> bool:
    kept = {None, target.revision, world.served_revision, pinned_revision(target, world)}
    if ref.kind in ("Deployment", "Service") and not target.spec.hosting.enabled:
        # A candidate that is only measured.
        host = walked.steps.get("host")
        return host is not None and host.state != State.RELEASED and ref.revision == target.revision
    return ref.revision in kept or (ref.kind in _REMEMBERED and ref.revision in _earlier(target, world))


def _earlier(target: Target, world: World) -> set[str]:
    """The revisions before this one that a person may bring back."""
    current = (target.revision, world.served_revision)
    made = [entry.revision for entry in world.status.history if entry.artifact and entry.revision not in current]
    return set(made[: target.spec.hosting.revision_history_limit])


def _again_after(walked: Walk, settings: Settings) -> float | None:
    if walked.problem:
        return MISSING_SECONDS
    if walked.current is None or walked.current[1].state not in (State.RUNNING, State.BLOCKED):
        return None
    return settings.progress_seconds if walked.current[1].reason == Reason.RUNNING else MISSING_SECONDS
