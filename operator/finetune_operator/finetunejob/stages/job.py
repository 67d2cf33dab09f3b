"""What prepare, train and evaluate have in common: a stage that is one Job, run until its artifact is complete.

A stage counts as done when status or the trainer's own termination message says so, never because a Job exists; a Job
that is gone is made again only while the stage is not done, and the trainer then finds a complete artifact and ends.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from finetune_operator import names
from finetune_operator.api.status import StageState
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.conditions import Reason, Type
from finetune_operator.finetunejob.desired.workspace import claim, config_maps
from finetune_operator.finetunejob.observe import JobState, PodState
from finetune_operator.finetunejob.stages.base import Action, Apply, Context, Delete, State, Step, Suspend, failed
from finetune_operator.finetunejob.target import Manifest, Target
from finetune_operator.pods.diagnose import Finding, diagnose, last_exit, stuck


class JobStage(ABC):
    """A stage carried by a Job of the trainer image."""

    name: str
    condition: Type
    frees_serving: bool
    unwanted: str = ""

    @abstractmethod
    def job(self, target: Target, inputs: str, suspended: bool) -> Manifest:
        """The Job."""

    @abstractmethod
    def conclude(self, context: Context, result: Mapping[str, Any]) -> Step:
        """What the result in the termination message comes to."""

    def wanted(self, spec: FineTuneJobSpec) -> bool:
        """Every manifest is prepared and trained."""
        return True

    def inputs(self, context: Context) -> str:
        """A digest of what the Job is started with: a change replaces an unfinished Job."""
        return names.digest(self.started_with(context))

    def started_with(self, context: Context) -> dict[str, Any]:
        """What the Job is started with beside the revision."""
        training = context.spec.training
        return {
            "training": training.model_dump(
                mode="json", by_alias=True, include={"resources", "max_runtime", "retries", "pod"}
            ),
            "credentials": [_dump(context.spec.model.credentials), _dump(context.spec.dataset.credentials)],
            "retry": context.world.retry,
        }

    def remembered(self, context: Context) -> Step | None:
        """What status knows of this stage when it is done; None when it has to be done."""
        record = context.record(self.name)
        if record is None or record.state != StageState.SUCCEEDED:
            return None
        return Step(State.SUCCEEDED, Reason.SUCCEEDED, record.message or "")

    def ended(self, context: Context, inputs: str) -> Step | None:
        """The verdict on a stage that is done, or failed and is not tried again; None while there is work."""
        if done := self.remembered(context):
            return done
        record = context.failed_before(self.name, inputs)
        return failed(record) if record else None

    def outdated(self, job: JobState, inputs: str) -> bool:
        """Whether the Job was started with other things than it would be now, and that matters to its result."""
        return job.inputs != inputs and not job.complete

    def step(self, context: Context, inputs: str) -> Step:
        """Ended, to be made, to be replaced, or under way."""
        if ended := self.ended(context, inputs):
            return ended
        job = context.world.jobs.get(names.of_stage(context.target.name, context.target.revision, self.name))
        if job is None:
            return self._start(context, inputs)
        if job.deleting:
            return Step(State.RUNNING, Reason.RESTARTING, f"Job {job.ref.name} makes way for a new one.")
        if self.outdated(job, inputs):
            return self._replace(job, "was started with other settings than the manifest has now")
        return self._follow(context, job)

    def _start(self, context: Context, inputs: str) -> Step:
        target = context.target
        if target.spec.suspend:
            return _suspended(self.name)
        if any(pod.live for pod in self._pods(context)):
            return Step(State.RUNNING, Reason.RESTARTING, f"The pod of an earlier {self.name} Job is still ending.")
        wanted = [*config_maps(target), self.job(target, inputs, suspended=False)]
        # A claim's spec is fixed when it is made, so an existing one is left alone.
        if names.of_revision(target.name, target.revision) not in context.world.claims:
            wanted.insert(0, claim(target))
        name = wanted[-1]["metadata"]["name"]
        return Step(State.RUNNING, Reason.STARTING, f"Job {name} is created.", tuple(map(Apply, wanted)))

    def _replace(self, job: JobState, why: str) -> Step:
        return Step(State.RUNNING, Reason.RESTARTING, f"Job {job.ref.name} {why}; it is replaced.", (Delete(job.ref),))

    def _follow(self, context: Context, job: JobState) -> Step:
        if job.complete:
            return self._succeed(context, job)
        if job.failure is not None:
            return self._fail(context, job)
        actions: tuple[Action, ...] = ()
        if job.suspended != context.spec.suspend:
            actions = (Suspend(job.ref, context.spec.suspend),)
        if context.spec.suspend:
            return _suspended(self.name, actions)
        return self._watch(context, job, actions)

    def _succeed(self, context: Context, job: JobState) -> Step:
        """Read the result; without a pod that has it, run the Job again: it finds the stage complete and says so."""
        endings = (pod.exit.termination for pod in self._pods(context) if pod.exit and pod.exit.code == 0)
        result = next((found.result for found in endings if found and found.result is not None), None)
        if result is None:
            return self._replace(job, "is complete but its result is gone with its pod")
        return self.conclude(context, result)

    def _fail(self, context: Context, job: JobState) -> Step:
        if job.failure == "DeadlineExceeded":
            limit = context.spec.training.max_runtime
            return Step(
                State.FAILED,
                Reason.DEADLINE_EXCEEDED,
                f"Job {job.ref.name} took longer than training.maxRuntime ({limit}); raise it, and the stage goes on "
                "from its last checkpoint.",
            )
        pod = last_exit(self._pods(context))
        found = diagnose(context.evidence(pod)) if pod else None
        if found is None:
            found = Finding(Reason.CONTAINER_FAILED, f"Job {job.ref.name} failed: {job.failure_message}")
        return Step(State.FAILED, found.reason, found.message)

    def _watch(self, context: Context, job: JobState, actions: tuple[Action, ...]) -> Step:
        pods = self._pods(context)
        current = next((pod for pod in reversed(pods) if pod.live and not pod.deleting), None)
        if current is None:
            return self._without_pod(context, job, actions)
        if found := stuck(context.evidence(current)):
            return Step(State.BLOCKED, found.reason, found.message, actions)
        if current.phase != "Running":
            return Step(State.RUNNING, Reason.STARTING, f"Pod {current.name} is starting.", actions)
        return Step(State.RUNNING, Reason.RUNNING, _retried(current, pods), actions)

    def _without_pod(self, context: Context, job: JobState, actions: tuple[Action, ...]) -> Step:
        refusal = context.world.job_events.get(job.ref.name)
        if refusal and not self._pods(context):
            return Step(
                State.BLOCKED, Reason.POD_NOT_CREATED, f"Job {job.ref.name} can't create its pod: {refusal}", actions
            )
        return Step(State.RUNNING, Reason.STARTING, f"Job {job.ref.name} waits for its pod.", actions)

    def _pods(self, context: Context) -> tuple[PodState, ...]:
        return context.world.pods_of(self.name, context.target.revision)


def _dump(credentials: Any) -> Any:
    return credentials and credentials.model_dump(mode="json", by_alias=True)


def _suspended(stage: str, actions: tuple[Action, ...] = ()) -> Step:
    return Step(
        State.SUSPENDED,
        Reason.SUSPENDED,
        f"spec.suspend is true; set it to false and {stage} goes on from where it was.",
        actions,
    )


def _retried(current: PodState, pods: tuple[PodState, ...]) -> str:
    endings = [pod.exit for pod in pods if pod.exit is not None and pod.name != current.name]
    if not endings:
        return f"Pod {current.name} is running."
    last = endings[-1]
    why = last.termination.message if last.termination else f"it ended with code {last.code}"
    return f"Pod {current.name} is running, after {len(endings)} that ended early; the last one: {why}"
