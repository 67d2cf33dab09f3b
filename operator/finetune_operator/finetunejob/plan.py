"""The decision: from what the cluster looks like to the actions that bring it closer and the status that tells of it.

`reconcile` calls `plan` after every change and carries out what it says. Pure: the same snapshot, settings and time
give the same plan, and a plan that was carried out half is simply made again.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from finetune_trainer.contract.results import Progress
from pydantic import ValidationError

from finetune_operator import names
from finetune_operator.api.complaints import complaints
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.conditions import Reason
from finetune_operator.finetunejob import busy, retention
from finetune_operator.finetunejob.desired.bucket import in_bucket
from finetune_operator.finetunejob.hosting import hosting
from finetune_operator.finetunejob.observe import World, observe
from finetune_operator.finetunejob.stages import STAGES, origin, wanted
from finetune_operator.finetunejob.stages.workspace import cache
from finetune_operator.finetunejob.summary import progress_status, refuse, tell
from finetune_operator.finetunejob.target import Target
from finetune_operator.finetunejob.walk import Walk, walk
from finetune_operator.kinds.actions import Action, Delete, Id, needed, once
from finetune_operator.kinds.plan import MISSING_SECONDS, REFUSED_SECONDS, Event, Plan, Refusal, events_of, sooner
from finetune_operator.kinds.questions import Question, status_topic
from finetune_operator.kinds.snapshot import Snapshot
from finetune_operator.settings import Settings

_PROGRESS = status_topic(Progress, shown=progress_status)


def plan(snapshot: Snapshot, settings: Settings, now: datetime) -> Plan[FineTuneJobStatus]:
    """Decide. A FineTuneJob that is being deleted needs nothing: what it owns goes with it."""
    world = observe(snapshot)
    if world.deleting:
        return Plan(world.status)
    try:
        spec = FineTuneJobSpec.model_validate(world.spec)
    except ValidationError as error:
        invalid = Walk(world.status, problem=(Reason.INVALID, "; ".join(complaints(error, "spec"))))
        status = tell(world, invalid, STAGES, False, now)
        return Plan(status, events=_events(world, status), ask=busy.questions(world))
    target = Target(world.name, world.namespace, world.uid, spec, names.revision_of(spec), settings)
    kept = in_bucket(target, world.record(target.revision))
    target = replace(target, cache=cache(target, world), bucket=kept, engine=world.engine)
    target = replace(target, origin=origin.origin(target, world))
    target = replace(target, origin_bucket=origin.in_bucket(target, world))
    walked = walk(target, world)
    if walked.reads:
        return Plan(world.status, reads=walked.reads)
    engines = hosting(target, world, walked)
    serve = needed(world.objects, engines.serve)
    work = needed(world.objects, (*engines.work, *walked.actions))
    status = tell(world, walked, wanted(spec), engines.gives_way, now, pending=bool(serve or work))
    left = retention.left(target, walked, status, now)
    unneeded = retention.unneeded(target, world, engines, finished=left == 0)
    taken: set[Id] = set()
    release = (*needed(world.objects, engines.release), *_suspend(target, world), *unneeded)
    return Plan(
        status,
        serve=once(taken, serve),
        release=once(taken, release),
        work=once(taken, work),
        events=_events(world, status),
        again_after=sooner(MISSING_SECONDS if walked.problem else left or None, busy.again_after(world, now)),
        ask=_questions(target, world, walked) | busy.questions(world),
    )


def refused(
    snapshot: Snapshot, planned: Plan[FineTuneJobStatus], refusals: Sequence[Refusal], now: datetime
) -> Plan[FineTuneJobStatus]:
    """What to say in place of `planned` when some of its actions could not be carried out."""
    before = observe(snapshot)
    status = refuse(planned.status, before.status.conditions, refusals, now)
    return replace(planned, status=status, events=_events(before, status), again_after=REFUSED_SECONDS)


def _events(world: World, status: FineTuneJobStatus) -> tuple[Event, ...]:
    return events_of(world.status.conditions, status.conditions)


def _suspend(target: Target, world: World) -> tuple[Action, ...]:
    """With spec.suspend, no Job of the revision stays, whichever stage it stands at.

    Its pods keep their work as they end, and the next Job goes on from it. To suspend the Job itself would be to fight
    with who admits it: Kueue lets what is suspended and admitted go on.
    """
    if not target.spec.suspend:
        return ()
    jobs = (job for job in world.jobs.values() if job.ref.revision == target.revision)
    return tuple(Delete(job.ref) for job in jobs if not (job.ended or job.ref.deleting))


def _questions(target: Target, world: World, walked: Walk) -> dict[str, Question]:
    """Where the running stage tells how far it is: of several pods the first one, or of a sweep, where each has its own
    trials, the first that runs. An engine has no progress to tell.
    """
    if walked.current is None or walked.current[0].hosts:
        return {}
    pods = world.pods_of(walked.current[0].name, target.revision)
    alone = target.spec.training.sweep is not None
    first = sorted((pod for pod in pods if alone or pod.index in ("", "0")), key=lambda pod: int(pod.index or 0))
    running = (
        {pod.name: Question(pod.ip, _PROGRESS)}
        for pod in first
        if pod.ip and pod.phase == "Running" and not pod.deleting
    )
    return next(running, {})
