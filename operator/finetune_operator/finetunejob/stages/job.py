"""What the stages of the trainer image have in common: a stage that is one Job, run until its result is in the record.

A stage counts as done when the record says so, never because a Job exists; a Job that is gone is made again only while
the stage is not done, and the trainer then finds its work complete in the workspace and ends.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from finetune_trainer.contract.config import Contract
from pydantic import ValidationError

from finetune_operator import names
from finetune_operator.conditions import Reason
from finetune_operator.finetunejob import record
from finetune_operator.finetunejob.desired import jobs
from finetune_operator.finetunejob.desired.jobs import JobNeeds
from finetune_operator.finetunejob.observe import JobState
from finetune_operator.finetunejob.queue import WorkloadState, waits_for
from finetune_operator.finetunejob.record import Failure, text
from finetune_operator.finetunejob.stages.base import Context, Stage, Step
from finetune_operator.finetunejob.stages.workspace import workspace
from finetune_operator.finetunejob.target import Target
from finetune_operator.kinds.actions import Action, Create, Delete, Patch, applied
from finetune_operator.kinds.plan import State
from finetune_operator.pods.diagnose import Diagnosis, diagnose, last_exit, no_pod, stuck
from finetune_operator.pods.metadata import Manifest
from finetune_operator.pods.state import ContainerExit, PodState


class JobStage(Stage):
    """A stage carried by a Job of the trainer image.

    `result`: what its termination message holds. `grace_seconds`: from being asked to stop to being killed.
    """

    result: ClassVar[type[Contract]]
    grace_seconds = 30

    def mounts(self, target: Target) -> bool:
        """Its pods do."""
        return True

    @abstractmethod
    def needs(self, target: Target) -> JobNeeds:
        """What it needs of its Job."""

    @abstractmethod
    def entry(self, target: Target) -> str:
        """The record's entry that has its result."""

    @abstractmethod
    def recorded(self, context: Context) -> Step | None:
        """What the result in the record comes to; None while there is none."""

    def job(self, target: Target, inputs: str) -> Manifest:
        """The Job; `inputs` as `pod_inputs` has them."""
        return jobs.job(target, self.name, self.grace_seconds, self.needs(target), inputs)

    def inputs(self, context: Context) -> str:
        """A digest of all that could mend a failure, so that a change tries it again: what its pods are made from, how
        long and how often they may try, and how much they may write.
        """
        training = names.given(context.spec.training)
        return names.digest(
            {
                "pods": self.made_from(context),
                "limits": {key: training[key] for key in ("retries", "maxRuntime") if key in training},
                "size": str(context.spec.workspace.size),
            }
        )

    def pod_inputs(self, context: Context) -> str:
        """A digest of what its pods are made from: a change replaces an unfinished Job."""
        return names.digest(self.made_from(context))

    def made_from(self, context: Context) -> dict[str, Any]:
        """What its pods are made from beside the revision; of the user's pod settings, what decides where and how they
        run.
        """
        training = context.spec.training
        return {
            "resources": names.given(training.resources),
            "pod": names.given(training.pod, exclude={"labels", "annotations"}),
            "retry": context.world.retry,
            **({"bucket": record.dump(kept)} if (kept := context.target.bucket) else {}),
        }

    def ended(self, context: Context) -> Step | None:
        """The step of a stage that is done, or failed and is not tried again; None while there is work."""
        return self.recorded(context) or context.failed_before(self.name, self.inputs(context))

    def beside(self, target: Target) -> tuple[Manifest, ...]:
        """What its pods need beside the volume and the record."""
        return ()

    def noted(self, context: Context) -> dict[str, str]:
        """Entries that the record gets beside its result."""
        return {}

    def waits(self, context: Context) -> Step | None:
        """What its pods need beside them before they may start; None where nothing is missing."""
        return None

    def step(self, context: Context) -> Step:
        """Ended, to be made, to be replaced, or under way."""
        if ended := self.ended(context):
            return ended
        job = context.job(self.name)
        if context.spec.suspend and (job is None or job.ref.deleting):
            return _suspended(self.name)
        if waiting := workspace(context, grow=job is None):
            return waiting
        if job is None:
            return self.waits(context) or self._start(context)
        if job.ref.deleting:
            return Step(State.RUNNING, Reason.RESTARTING, f"Job {job.ref.name} makes way for a new one.")
        if job.inputs != self.pod_inputs(context) and self._outdated(context, job):
            return self._replace(job, "was started with other settings than the manifest has now")
        if context.record.tells_of(job.ref.uid):
            return self._replace(job, "failed, and the manifest has changed since")
        return self._follow(context, job)

    def _outdated(self, context: Context, job: JobState) -> bool:
        """A Job that is complete has a result, whatever its pods were made from."""
        return not job.complete

    def _start(self, context: Context) -> Step:
        if any(pod.live for pod in self._pods(context)):
            return Step(State.RUNNING, Reason.RESTARTING, f"The pod of an earlier {self.name} Job is still ending.")
        beside = tuple(applied(manifest) for manifest in self.beside(context.target))
        job = self.job(context.target, self.pod_inputs(context))
        message = f"Job {job['metadata']['name']} is created."
        return Step(State.RUNNING, Reason.STARTING, message, (*beside, Create(job)))

    def _replace(self, job: JobState, why: str) -> Step:
        return Step(State.RUNNING, Reason.RESTARTING, f"Job {job.ref.name} {why}; it is replaced.", (Delete(job.ref),))

    def _follow(self, context: Context, job: JobState) -> Step:
        if job.complete:
            return self._succeed(context, job)
        if job.failure is not None:
            return context.give_up(self.name, self.inputs(context), self._failure(context, job), job.ref.uid)
        if context.spec.suspend:
            return _suspended(self.name)
        if waiting := self.waits(context):
            return waiting
        adjusted = _adjust(context, job, self.needs(context.target).trials)
        actions = (*(applied(manifest) for manifest in self.beside(context.target)), *adjusted)
        if job.suspended:
            return _held(job, context.world.workloads.get(job.ref.name), actions)
        return self._watch(context, job, actions)

    def _succeed(self, context: Context, job: JobState) -> Step:
        """Remember the result. Without a pod that has it, run the Job again: it finds its work done and says so."""
        endings = (pod.exit.termination for pod in self._pods(context) if pod.exit and pod.exit.code == 0)
        found = next((ending.result for ending in endings if ending and ending.result is not None), None)
        if found is None:
            return self._replace(job, "is complete but its result is gone with its pod")
        try:
            result = self.result.model_validate(found, extra="ignore")
        except ValidationError:
            message = f"Job {job.ref.name} ended with a result that this operator can't read; see training.image."
            failure = Failure(Reason.INTERNAL_ERROR, message)
            return context.give_up(self.name, self.inputs(context), failure, job.ref.uid)
        actions = context.remember({self.entry(context.target): text(result), **self.noted(context)})
        return Step(State.RUNNING, Reason.RUNNING, f"Job {job.ref.name} is complete.", actions)

    def _failure(self, context: Context, job: JobState) -> Failure:
        if job.failure == "DeadlineExceeded":
            limit = context.spec.training.max_runtime
            return Failure(
                Reason.DEADLINE_EXCEEDED,
                f"Job {job.ref.name} took longer than training.maxRuntime ({limit}); raise it, and the stage goes on "
                "from its last checkpoint.",
            )
        pod = last_exit(self._pods(context))
        found = diagnose(context.evidence(pod)) if pod else None
        if found is None:
            found = Diagnosis(Reason.CONTAINER_FAILED, f"Job {job.ref.name} failed: {job.failure_message}")
        return Failure(found.reason, found.message)

    def _watch(self, context: Context, job: JobState, actions: tuple[Action, ...]) -> Step:
        pods = self._pods(context)
        # One that has ended well is taken for running until its Job has counted it, a moment later.
        current = [pod for pod in pods if (pod.live or _well(pod)) and not pod.deleting]
        wanted = jobs.pods(context.spec.training, self.needs(context.target))
        if not current:
            return self._without_pod(context, job, actions)
        if found := next(filter(None, (stuck(context.evidence(pod)) for pod in reversed(current))), None):
            return Step(State.BLOCKED, found.reason, found.message, actions)
        if any(pod.phase == "Pending" for pod in current) or len(current) < wanted:
            return _starting(job, actions)
        return Step(State.RUNNING, Reason.RUNNING, _retried(current, pods), actions)

    def _without_pod(self, context: Context, job: JobState, actions: tuple[Action, ...]) -> Step:
        refusal = context.world.refusals.get(job.ref.name)
        if refusal and not self._pods(context):
            found = no_pod(f"Job {job.ref.name}", refusal)
            return Step(State.BLOCKED, found.reason, found.message, actions)
        return _starting(job, actions)

    def _pods(self, context: Context) -> tuple[PodState, ...]:
        return context.world.pods_of(self.name, context.target.revision)


def _adjust(context: Context, job: JobState, trials: int) -> tuple[Action, ...]:
    """What may change while a Job is there, its pods untouched. Whoever has suspended it lets it go on."""
    wanted: Mapping[str, int] = jobs.limits(context.spec.training, trials)
    changed = {key for key in {*wanted, *job.limits} if wanted.get(key) != job.limits.get(key)}
    spec: dict[str, Any] = {key: wanted.get(key) for key in sorted(changed)}
    return (Patch(job.ref, {"spec": spec}),) if spec else ()


def _suspended(stage: str) -> Step:
    """It is `plan` that removes the Job."""
    message = f"spec.suspend is true; set it to false and {stage} goes on from where it was."
    return Step(State.SUSPENDED, Reason.SUSPENDED, message)


def _held(job: JobState, workload: WorkloadState | None, actions: tuple[Action, ...]) -> Step:
    """Kueue keeps the Job until there is quota, or somebody has suspended it by hand."""
    if workload and workload.admitted and not workload.evicted:
        return _starting(job, actions)
    if job.queue or workload:
        blocked, message = waits_for(job.ref.name, job.queue, workload)
        return Step(State.BLOCKED if blocked else State.RUNNING, Reason.QUEUED, message, actions)
    message = (
        f"Job {job.ref.name} is suspended, and not by spec.suspend; set its own spec.suspend to false and it goes on."
    )
    return Step(State.SUSPENDED, Reason.SUSPENDED, message, actions)


def _starting(job: JobState, actions: tuple[Action, ...]) -> Step:
    """From the Job's creation to its containers' start one sentence: what keeps it from starting is told as such."""
    return Step(State.RUNNING, Reason.STARTING, f"The pod of Job {job.ref.name} is starting.", actions)


def _well(pod: PodState) -> bool:
    return pod.exit is not None and pod.exit.code == 0


def _retried(current: Sequence[PodState], pods: tuple[PodState, ...]) -> str:
    running = f"Pod {current[0].name} is" if len(current) == 1 else f"{len(current)} pods are"
    early = [pod for pod in pods if pod.exit is not None and pod not in current]
    last = last_exit(early)
    if last is None or last.exit is None:
        return f"{running} running."
    why = last.exit.termination.message if last.exit.termination else _wordless(last.exit)
    return f"{running} running, after {len(early)} that ended early; the last one: {why}"


def _wordless(ended: ContainerExit) -> str:
    return "it was killed at its memory limit" if ended.oom_killed else f"it ended with code {ended.code}"
