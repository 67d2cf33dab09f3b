"""The walk of one revision through its stages: each in turn, until one is not done.

`plan` calls it, `hosting` and `summary` tell from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from finetune_operator import names
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.api.v1alpha1 import KIND
from finetune_operator.conditions import Objection, Reason
from finetune_operator.finetunejob.desired import budget
from finetune_operator.finetunejob.desired.run_config import data_uris
from finetune_operator.finetunejob.homes import home
from finetune_operator.finetunejob.observe import World
from finetune_operator.finetunejob.stages import STAGES, origin, publish, wanted
from finetune_operator.finetunejob.stages.base import Context, Stage, Step
from finetune_operator.finetunejob.target import Target
from finetune_operator.kinds.actions import Action, Delete, Id
from finetune_operator.kinds.plan import State, taken
from finetune_operator.pods.sources import claim_of, config_map_of


@dataclass(frozen=True)
class Walk:
    """How far a revision got: status with what its stages reported, and the steps taken, by stage.

    `problem` is a reason and a sentence when nothing could be started at all; `reads` has what must be looked up before
    that can be said.
    """

    status: FineTuneJobStatus
    steps: Mapping[str, Step] = field(default_factory=dict)
    problem: Objection | None = None
    reads: frozenset[Id] = frozenset()

    @property
    def current(self) -> tuple[Stage, Step] | None:
        """The stage that the revision stands at, and its step; None when all are done, or none was taken."""
        taken = ((stage, self.steps[stage.name]) for stage in STAGES if stage.name in self.steps)
        return next((found for found in taken if not found[1].passed), None)

    @property
    def hosted(self) -> Step | None:
        """The step of the stage whose engine the revision has; None while that is not reached."""
        return next((self.steps[stage.name] for stage in STAGES if stage.hosts and stage.name in self.steps), None)

    @property
    def actions(self) -> tuple[Action, ...]:
        """What the steps ask for, in order."""
        return tuple(action for step in self.steps.values() for action in step.actions)


def begin(world: World, revision: str) -> FineTuneJobStatus:
    """The status to go on from: of the last one, what only it knows."""
    old = world.status
    kept = {"progress": old.progress, "trials": old.trials, "curve": old.curve} if old.revision == revision else {}
    anew = FineTuneJobStatus(revision=revision, history=old.history, conditions=old.conditions)
    return anew.model_copy(update=kept)


def walk(target: Target, world: World) -> Walk:
    """Step through the stages that the manifest wants."""
    status, stages = begin(world, target.revision), wanted(target.spec)
    if held := _held(target, world, status, stages[0]):
        return held
    if lost := _lost(target, world):
        # It was released when all was done (ttlAfterFinished), unless there is something to do again that needs it.
        done = _through(target, world, status, stages)
        needs = done.current[0] if done.current and done.current[0].mounts(target) else None
        if needs and (kept := _serves_elsewhere(target, world, needs)):
            return replace(done, steps={**done.steps, needs.name: kept})
        elsewhere = publish.elsewhere(target.spec, world.record(target.revision))
        return done if elsewhere and not needs else Walk(status, {stages[0].name: lost})
    return _through(target, world, status, stages)


def _through(target: Target, world: World, status: FineTuneJobStatus, stages: Sequence[Stage]) -> Walk:
    """As far as the stages let it."""
    steps: dict[str, Step] = {}
    for stage in stages:
        context = Context(target, world, status)
        steps[stage.name] = step = stage.step(context)
        status = status.model_copy(update=step.status)
        if not step.passed:
            break
    return Walk(status, steps)


def _held(target: Target, world: World, status: FineTuneJobStatus, first: Stage) -> Walk | None:
    """What keeps it from the first stage; None where nothing does."""
    unknown = budget.problem(target.spec.training, target.settings)
    if unknown and world.record(target.revision).trained is None:
        return Walk(status, problem=(Reason.INVALID, unknown))
    if target.revision in world.records or target.spec.suspend:
        return None
    if world.unread:
        return Walk(status, problem=(Reason.REFUSED, world.unread))
    if reads := _depends_on(target) - world.named.keys():
        return Walk(status, reads=reads)
    if problem := _problem(target, world):
        return Walk(status, problem=problem)
    waiting = origin.waits(target, world)
    return Walk(status, {first.name: waiting}) if waiting else None


def _depends_on(target: Target) -> frozenset[Id]:
    """What is not ours and matters before a revision's first object is made: what is read and written, and the
    Service's name.
    """
    found = target.origin
    base = [found.base.uri, found.cache.uri if found.cache else ""] if found else []
    written = target.spec.output.destination or ""
    uris = [target.spec.model.source, target.cache, written, *data_uris(target.spec.dataset), *base]
    claims = {("PersistentVolumeClaim", name) for uri in uris if (name := claim_of(uri))}
    maps = {("ConfigMap", name) for uri in uris if (name := config_map_of(uri))}
    service = {("Service", target.name)} if target.spec.hosting.enabled else set()
    return frozenset(claims | maps | service)


def _problem(target: Target, world: World) -> Objection | None:
    if problem := origin.missing(target, world) or home(target).unfit(target, world):
        return problem
    service = ("Service", target.name)
    needed = sorted(_depends_on(target) - {service})
    missing = [f"{kind} {name}" for kind, name in needed if not world.named[kind, name]]
    if missing:
        return Reason.OBJECT_NOT_FOUND, (
            f"Not in namespace {world.namespace}: {', '.join(missing)}. Create what is missing, or correct the address "
            "that names it."
        )
    if world.before:
        return Reason.DESTINATION_TAKEN, (
            f"FineTuneJob {world.before} publishes to {target.spec.output.destination}, too, and was there first: give "
            "output.destination a place of its own."
        )
    if world.named.get(service) and service not in world.objects:
        return Reason.NAME_TAKEN, taken(KIND, *service)
    return None


def _serves_elsewhere(target: Target, world: World, needs: Stage) -> Step | None:
    """That a stage would need files again of what a shared Engine serves: made anew they were other weights under the
    same name, and nobody would have measured them. None for what serves nowhere, or from its own volume.
    """
    if not world.served_on or names.revision_and_step(world.served_revision or "")[0] != target.revision:
        return None
    return Step(
        State.BLOCKED,
        Reason.OBJECT_NOT_FOUND,
        f"Stage {needs.name} needs the workspace of revision {target.revision}, which is gone (ttlAfterFinished), "
        f"while Engine {world.served_on} serves what was made there. Undo the change of the manifest, or set "
        "training.seed to another value: that is a new revision, which takes this one's place once it has passed.",
    )


def _lost(target: Target, world: World) -> Step | None:
    """A record without its volume tells of files that are gone, and so do the Jobs that made them."""
    name = target.revision_name
    found = world.records.get(target.revision)
    if found is None or found.record.prepared is None or world.keeps(target.revision):
        return None
    message = f"PersistentVolumeClaim {name} is gone, and with it all that was made; the revision is made anew."
    jobs = (job.ref for job in world.jobs.values() if job.ref.revision == target.revision)
    actions = tuple(Delete(ref) for ref in (found.ref, *jobs) if not ref.deleting)
    return Step(State.RUNNING, Reason.RESTARTING, message, actions)
