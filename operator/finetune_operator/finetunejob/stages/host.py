"""host: a candidate Deployment of the revision, until it answers completions.

Until it is promoted, an engine that keeps crashing is taken down, so that it does not hold accelerators for nothing;
the verdict stays in status. So is a candidate that is not to be served: it missed the gate or could not be measured,
another revision serves because a person said so, or hosting.enabled is false. The revision that serves is never taken
down for that: its rolling update keeps the old pods.
"""

from finetune_operator import names
from finetune_operator.api.v1alpha1 import FineTuneJobSpec, Rollout
from finetune_operator.conditions import Reason, Type
from finetune_operator.finetunejob.desired.hosting import candidate_service, deployment
from finetune_operator.finetunejob.desired.run_config import run_config
from finetune_operator.finetunejob.observe import DeploymentState, PodState
from finetune_operator.finetunejob.stages.base import Action, Apply, Context, Delete, State, Step, Suspend, failed
from finetune_operator.finetunejob.stages.evaluate import Evaluate
from finetune_operator.finetunejob.target import Manifest
from finetune_operator.pods.diagnose import Finding, diagnose, stuck

EVALUATE = Evaluate()
# An engine that has crashed so often in one pod does not start by itself.
RESTARTS = 3


class Host:
    """The candidate Deployment and its Service."""

    name = "host"
    condition = Type.HOSTED
    frees_serving = True
    unwanted = "hosting.enabled is false, and so is evaluation.enabled."

    def wanted(self, spec: FineTuneJobSpec) -> bool:
        """To serve the result, or to measure it."""
        return spec.hosting.enabled or EVALUATE.wanted(spec)

    def inputs(self, context: Context) -> str:
        """Everything of hosting that can keep an engine from starting."""
        hosting = context.spec.hosting.model_dump(mode="json", by_alias=True, exclude={"replicas", "rollout"})
        return names.digest({"hosting": hosting, "retry": context.world.retry})

    def step(self, context: Context, inputs: str) -> Step:
        """Failed before, suspended, or the Deployment as it is."""
        name = names.of_revision(context.target.name, context.target.revision)
        found = context.world.deployments.get(name)
        if why := _released(context):
            return Step(State.RELEASED, Reason.RELEASED, why, _take_down(found))
        record = None if context.serves else context.failed_before(self.name, inputs)
        if record:
            step = failed(record)
            return Step(step.state, step.reason, step.message, _take_down(found))
        if context.spec.suspend and not context.serves:
            message = "spec.suspend is true; set it to false and the candidate starts."
            return Step(State.SUSPENDED, Reason.SUSPENDED, message, (*_take_down(found), *_stop_asking(context)))
        return self._assess(context, name, found)

    def _assess(self, context: Context, name: str, found: DeploymentState | None) -> Step:
        actions: tuple[Action, ...] = (
            Apply(_deployment(context)),
            Apply(candidate_service(context.target)),
        )
        if found is None:
            return Step(State.RUNNING, Reason.STARTING, f"Deployment {name} is created.", actions)
        if found.deleting:
            return Step(State.RUNNING, Reason.RESTARTING, f"Deployment {name} makes way for a new one.")
        if found.rolled_out:
            return Step(State.SUCCEEDED, Reason.SUCCEEDED, f"Deployment {name} answers completions.", actions)
        pods = context.world.pods_of(self.name, context.target.revision)
        if crashed := next((pod for pod in pods if pod.restarts >= RESTARTS and not pod.ready), None):
            return self._crashed(context, crashed, found, actions)
        return _waiting(context, found, pods, actions)

    def _crashed(self, context: Context, pod: PodState, found: DeploymentState, actions: tuple[Action, ...]) -> Step:
        cause = diagnose(context.evidence(pod))
        reason = cause.reason if cause and cause.reason == Reason.MEMORY_LIMIT_EXCEEDED else Reason.ENGINE_FAILED
        message = f"The engine crashed {pod.restarts} times. {cause.message if cause else ''}".strip()
        return Step(State.FAILED, reason, message, actions if context.serves else _take_down(found))


def _released(context: Context) -> str | None:
    """Why the candidate is no longer needed, as a sentence; None while it is."""
    gives_way = context.pinned and context.spec.hosting.rollout == Rollout.RECREATE
    if context.serves and context.spec.hosting.enabled and not gives_way:
        return None
    measured = EVALUATE.ended(context, EVALUATE.inputs(context)) if EVALUATE.wanted(context.spec) else None
    if EVALUATE.wanted(context.spec) and measured is None:
        return None
    if context.pinned:
        return f"Revision {context.pinned} serves; the candidate was taken down."
    if not context.spec.hosting.enabled:
        return "Nothing is left to measure, and hosting.enabled is false; the candidate was taken down."
    if measured and not measured.passed:
        return "It is not to be promoted; the candidate was taken down."
    return None


def _deployment(context: Context) -> Manifest:
    hosting, plan = context.spec.hosting, context.status.plan
    context_length = hosting.context_length or (plan.context_length if plan else 0)
    config = run_config(context.target.name, context.target.revision, context.spec)
    return deployment(context.target, config, context_length, hosting.replicas)


def _take_down(found: DeploymentState | None) -> tuple[Action, ...]:
    return (Delete(found.ref),) if found and not found.deleting else ()


def _stop_asking(context: Context) -> tuple[Action, ...]:
    """The evaluate Job waits with its candidate; it goes on once that answers."""
    job = context.world.jobs.get(names.of_stage(context.target.name, context.target.revision, EVALUATE.name))
    return (Suspend(job.ref, True),) if job and not (job.suspended or job.complete) else ()


def _waiting(context: Context, found: DeploymentState, pods: tuple[PodState, ...], actions: tuple[Action, ...]) -> Step:
    unready = [pod for pod in pods if not pod.ready and not pod.deleting]
    findings = (stuck(context.evidence(pod)) for pod in unready)
    finding = next((finding for finding in findings if finding), None)
    if finding is None and found.failure_message and not pods:
        finding = Finding(
            Reason.POD_NOT_CREATED, f"Deployment {found.ref.name} can't create its pod: {found.failure_message}"
        )
    if finding:
        return Step(State.BLOCKED, finding.reason, finding.message, actions)
    if context.serves and found.available == 0:
        message = f"No pod of Deployment {found.ref.name}, which serves, is available; its pods are starting."
        return Step(State.RUNNING, Reason.ENGINE_UNAVAILABLE, message, actions)
    message = f"Deployment {found.ref.name} is starting: the engine loads the model."
    return Step(State.RUNNING, Reason.RUNNING, message, actions)
