"""The decision: from what the cluster looks like to the actions that bring it closer and the status that tells of it.

`reconcile` calls `plan` after every change and carries out what it says. Pure: the same snapshot, settings and time
give the same plan, and a plan that was carried out half is simply made again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import ValidationError

from finetune_operator import names
from finetune_operator.api.complaints import complaints
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.conditions import Reason, Type, condition, merge
from finetune_operator.finetunejob.hosting import Hosting, hosting, serving
from finetune_operator.finetunejob.observe import Id, Ref, Snapshot, World, observe, status_of
from finetune_operator.finetunejob.stages import JOBS, STAGES, wanted
from finetune_operator.finetunejob.stages.base import Action, Apply, Delete, Patch, pinned_revision
from finetune_operator.finetunejob.summary import Refusal, events_of, refuse, tell
from finetune_operator.finetunejob.target import Target
from finetune_operator.finetunejob.walk import Walk, walk
from finetune_operator.pods.applied import as_applied
from finetune_operator.settings import Settings

# What is not watched is looked at again this often, in seconds: objects that the manifest names and that are missing, a
# name that is taken.
MISSING_SECONDS = 15.0
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
    """What to do now, what to say, and after how many seconds to look again even if nothing happens.

    Three kinds of actions, in the order in which they matter: `serve` keeps up what answers users, `release` removes
    what is no longer wanted, `work` goes on. `reads`: what has to be looked up before anything can be decided. `ask`:
    the address of the pod whose progress is worth asking for.
    """

    status: FineTuneJobStatus
    serve: tuple[Action, ...] = ()
    release: tuple[Action, ...] = ()
    work: tuple[Action, ...] = ()
    events: tuple[Event, ...] = ()
    again_after: float | None = None
    reads: frozenset[Id] = frozenset()
    ask: str | None = None

    @property
    def actions(self) -> tuple[Action, ...]:
        """All of them."""
        return (*self.serve, *self.release, *self.work)

    @property
    def destroys(self) -> bool:
        """Whether something is deleted that should be looked at once more before."""
        return any(isinstance(action, Delete) for action in self.actions)


def plan(snapshot: Snapshot, settings: Settings, now: datetime) -> Plan:
    """Decide. A FineTuneJob that is being deleted needs nothing: what it owns goes with it."""
    world = observe(snapshot)
    if world.deleting:
        return Plan(world.status)
    try:
        spec = FineTuneJobSpec.model_validate(world.spec)
    except ValidationError as error:
        invalid = Walk(world.status, problem=(Reason.INVALID, "; ".join(complaints(error, "spec"))))
        status = tell(world, invalid, STAGES, False, now)
        return Plan(status, events=_events(world, status))
    target = Target(world.name, world.namespace, world.uid, spec, names.revision_of(spec), settings)
    walked = walk(target, world)
    if walked.reads:
        return Plan(world.status, reads=walked.reads)
    engines = hosting(target, world, walked)
    status = tell(world, walked, wanted(spec), engines.gives_way, now)
    taken: set[Id] = set()
    release = (*_needed(world, engines.release), *_suspend(target, world), *_prune(target, world, engines))
    return Plan(
        status,
        serve=_once(taken, _needed(world, engines.serve)),
        release=_once(taken, release),
        work=_once(taken, _needed(world, (*engines.work, *walked.actions))),
        events=_events(world, status),
        again_after=MISSING_SECONDS if walked.problem else None,
        ask=_address(target, world, walked),
    )


def broken(snapshot: Snapshot, fault: str, now: datetime) -> Plan:
    """The plan for a FineTuneJob that brings out a fault in the operator: leave everything as it is, and say so."""
    last = status_of(snapshot.job)
    message = f"The operator failed on this FineTuneJob, and changes nothing of it: {fault}. Its log has the traceback."
    generation = snapshot.job["metadata"].get("generation", 0)
    ready = condition(Type.READY, "False", Reason.INTERNAL_ERROR, message, generation, now)
    others = [found for found in last.conditions if found.type != Type.READY]
    told = {"observed_generation": generation, "conditions": merge(last.conditions, [*others, ready])}
    status = last.model_copy(update=told)
    events = tuple(Event(*event) for event in events_of(last.conditions, status.conditions))
    return Plan(status, events=events)


def refused(snapshot: Snapshot, planned: Plan, refusals: Sequence[Refusal], now: datetime) -> Plan:
    """What to say in place of `planned` when some of its actions could not be carried out."""
    before = observe(snapshot)
    status = refuse(planned.status, before.status.conditions, refusals, now)
    return replace(planned, status=status, events=_events(before, status), again_after=REFUSED_SECONDS)


def _events(world: World, status: FineTuneJobStatus) -> tuple[Event, ...]:
    return tuple(Event(*event) for event in events_of(world.status.conditions, status.conditions))


def _needed(world: World, actions: Iterable[Action]) -> tuple[Action, ...]:
    """The actions without applies that would change nothing, or that have to wait until an object is gone."""
    found = (_apply(world, action) if isinstance(action, Apply) else action for action in actions)
    return tuple(action for action in found if action is not None)


def _once(taken: set[Id], actions: Iterable[Action]) -> tuple[Action, ...]:
    """The actions on objects that are not `taken`: a second one has to name what the first makes of its object, which
    the next look finds.
    """
    found = []
    for action in actions:
        if (of := _object(action)) not in taken:
            taken.add(of)
            found.append(action)
    return tuple(found)


def _object(action: Action) -> Id:
    if isinstance(action, Patch | Delete):
        return action.ref.kind, action.ref.name
    return action.manifest["kind"], action.manifest["metadata"]["name"]


def _apply(world: World, action: Apply) -> Apply | None:
    manifest = action.manifest
    found = world.objects.get(_object(action))
    if found is None:
        return action
    if "deletionTimestamp" in found["metadata"] or as_applied(found, manifest):
        return None
    return replace(action, uid=found["metadata"]["uid"])


def _suspend(target: Target, world: World) -> tuple[Action, ...]:
    """With spec.suspend, no Job of the revision stays, whichever stage it stands at.

    Its pods keep their work as they end, and the next Job goes on from it. To suspend the Job itself would be to fight
    with who admits it: Kueue lets what is suspended and admitted go on.
    """
    if not target.spec.suspend:
        return ()
    jobs = (job for job in world.jobs.values() if job.ref.revision == target.revision)
    return tuple(Delete(job.ref) for job in jobs if not (job.ended or job.ref.deleting))


def _prune(target: Target, world: World, engines: Hosting) -> tuple[Action, ...]:
    """Remove what belongs to revisions that neither serve nor are worked on; of some, volume and record are kept."""
    addresses = {target.revision, serving(world), pinned_revision(target, world)} - {None}
    worked_on = {names.parted(str(address))[0] for address in addresses}
    kept = worked_on | _earlier(target, world, worked_on)
    # Where the pods of a stage meet.
    stages = {names.of_stage(target.name, ref.revision, stage) for ref in world.refs if ref.revision for stage in JOBS}

    def wanted(ref: Ref) -> bool:
        match ref.kind:
            case "Deployment":
                return True
            case "Service" if ref.revision is None:
                return target.spec.hosting.enabled
            case "Service":
                return ref.name in engines.engines or (ref.revision in worked_on and ref.name in stages)
            case "Job":
                return ref.revision in worked_on
            case _:
                return ref.revision in kept

    return tuple(Delete(ref) for ref in world.refs if not ref.deleting and not wanted(ref))


def _earlier(target: Target, world: World, worked_on: set[str]) -> set[str]:
    """The revisions before this one that a person may bring back: those with an artifact, the last ones first."""
    told = [entry.revision for entry in world.status.history]
    trained = [found.record for found in world.records.values() if found.record.trained]
    others = [record for record in trained if record.revision not in worked_on]
    # What history does not tell is older than what it does.
    newest = sorted(others, key=lambda record: record.created, reverse=True)
    ordered = sorted(newest, key=lambda found: told.index(found.revision) if found.revision in told else len(told))
    return {record.revision for record in ordered[: target.spec.hosting.revision_history_limit]}


def _address(target: Target, world: World, walked: Walk) -> str | None:
    """Where the running stage tells how far it is, of several pods the first one; an engine tells nobody."""
    if walked.current is None or walked.current[0].hosts:
        return None
    pods = world.pods_of(walked.current[0].name, target.revision)
    first = (pod for pod in pods if pod.index in ("", "0"))
    return next((pod.ip for pod in first if pod.phase == "Running" and not pod.deleting), None)
