"""host: the engine of the revision, until it answers completions.

Until it is promoted, an engine that keeps crashing is taken down, so that it does not hold accelerators for nothing;
the verdict stays in the record. So is a candidate that is not to be served: it missed the gate or could not be
measured, another revision serves because a person said so, or hosting.enabled is false. What serves is never taken down
for that: its rolling update keeps the old pods. The verdict is told here; `hosting` makes and removes the Deployment.
"""

from finetune_operator import names
from finetune_operator.api.hosting import Rollout
from finetune_operator.api.status import Phase
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.conditions import Reason, Type
from finetune_operator.finetunejob.desired.hosting import candidate_service
from finetune_operator.finetunejob.observe import DeploymentState
from finetune_operator.finetunejob.record import Failure, failure_key, failure_text
from finetune_operator.finetunejob.stages.base import Action, Context, Stage, State, Step, applied, failed
from finetune_operator.finetunejob.stages.job import JobStage
from finetune_operator.pods.diagnose import Finding, diagnose, stuck
from finetune_operator.pods.state import PodState

# An engine that has crashed so often in one pod does not start by itself, unless it ran for long in between: the
# kubelet forgets crashes after ten minutes, and so do we.
RESTARTS = 3
LONG_SECONDS = 600


class Host(Stage):
    """The candidate. `measures`: the stage that asks it, after which it may not be needed any more."""

    name = "host"
    condition = Type.HOSTED
    phase = Phase.HOSTING
    frees_serving = True
    hosts = True

    def __init__(self, measures: JobStage) -> None:
        self._measures = measures
        self.unwanted = f"hosting.enabled is false, and so is {measures.unwanted.removesuffix(' is false.')}."

    def wanted(self, spec: FineTuneJobSpec) -> bool:
        """To serve the result, or to measure it."""
        return spec.hosting.enabled or self._measures.wanted(spec)

    def inputs(self, context: Context) -> str:
        """Everything of hosting that can keep an engine from starting."""
        hosting = names.given(context.spec.hosting, exclude={"replicas", "rollout"})
        return names.digest({"hosting": hosting, "retry": context.world.retry, "upgrade": context.world.upgrade})

    def step(self, context: Context, inputs: str) -> Step:
        """Released, failed before, suspended, or the Deployment as it is."""
        if why := self.released(context):
            return Step(State.RELEASED, Reason.RELEASED, why)
        if not context.serves:
            if before := context.failed_before(self.name, inputs):
                return before
            if context.spec.suspend:
                message = "spec.suspend is true; set it to false and the candidate starts."
                return Step(State.SUSPENDED, Reason.SUSPENDED, message)
        return self._assess(context, inputs)

    def released(self, context: Context) -> str | None:
        """Why the candidate is no longer needed, as a sentence; None while it is."""
        hosting = context.spec.hosting
        gives_way = context.pinned and hosting.rollout == Rollout.RECREATE
        if context.serves and hosting.enabled and not gives_way:
            return None
        asked = self._measures.wanted(context.spec)
        measured = self._measures.ended(context, self._measures.inputs(context)) if asked else None
        if asked and measured is None:
            return None
        if context.pinned:
            return f"Revision {context.pinned} serves; the candidate was taken down."
        if not hosting.enabled:
            return "Nothing is left to measure, and hosting.enabled is false; the candidate was taken down."
        if measured and not measured.passed:
            return "It is not to be promoted; the candidate was taken down."
        return None

    def _assess(self, context: Context, inputs: str) -> Step:
        name = names.of_revision(context.target.name, context.target.revision)
        found = context.world.deployments.get(name)
        actions = (applied(candidate_service(context.target)),)
        if found is None:
            return Step(State.RUNNING, Reason.STARTING, f"Deployment {name} is created.", actions)
        if found.ref.deleting:
            return Step(State.RUNNING, Reason.RESTARTING, f"Deployment {name} makes way for a new one.")
        if found.rolled_out:
            return Step(State.SUCCEEDED, Reason.SUCCEEDED, f"Deployment {name} answers completions.", actions)
        pods = context.world.pods_of(self.name, context.target.revision)
        if crashed := next((pod for pod in pods if _keeps_crashing(pod)), None):
            return self._crashed(context, crashed, inputs)
        return _waiting(context, found, pods, actions)

    def _crashed(self, context: Context, pod: PodState, inputs: str) -> Step:
        cause = diagnose(context.evidence(pod))
        reason = cause.reason if cause and cause.reason == Reason.MEMORY_LIMIT_EXCEEDED else Reason.ENGINE_FAILED
        message = f"The engine crashed {pod.restarts} times. {cause.message if cause else ''}".strip()
        failure = Failure(reason, message)
        step = failed(failure)
        # What serves may recover, with nothing changed in the manifest.
        told = () if context.serves else context.remember(failure_key(self.name, inputs), failure_text(failure))
        return Step(step.state, step.reason, step.message, told)


def _keeps_crashing(pod: PodState) -> bool:
    briefly = pod.exit is None or pod.exit.seconds < LONG_SECONDS
    return pod.restarts >= RESTARTS and not pod.ready and briefly


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
