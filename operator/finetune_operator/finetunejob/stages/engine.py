"""How an engine's Deployment stands: rolled out, starting, kept from it, or crashing for good.

Used by `host` for the candidate, and by `evaluate` for the base model that it is compared with.
"""

from finetune_operator import names
from finetune_operator.conditions import Reason
from finetune_operator.finetunejob.observe import DeploymentState
from finetune_operator.finetunejob.stages.base import Context, State, Step
from finetune_operator.pods.diagnose import Finding, diagnose, stuck
from finetune_operator.pods.state import PodState

# An engine that has crashed so often in one pod does not start by itself, unless it ran for long in between: the
# kubelet forgets crashes after ten minutes, and so do we.
RESTARTS = 3
LONG_SECONDS = 600


def inputs_of(context: Context) -> str:
    """A digest of everything of hosting that can keep an engine from starting."""
    hosting = names.given(context.spec.hosting, exclude={"replicas", "rollout"})
    return names.digest({"hosting": hosting, "retry": context.world.retry, "upgrade": context.world.upgrade})


def rollout(context: Context, name: str, stage: str) -> Step:
    """Where the Deployment `name` stands, whose pods carry `stage`. It is `hosting` that makes and removes it."""
    found = context.world.deployments.get(name)
    if found is None:
        return Step(State.RUNNING, Reason.STARTING, f"Deployment {name} is created.")
    if found.ref.deleting:
        return Step(State.RUNNING, Reason.RESTARTING, f"Deployment {name} makes way for a new one.")
    if found.rolled_out:
        return Step(State.SUCCEEDED, Reason.SUCCEEDED, f"Deployment {name} answers completions.")
    pods = context.world.pods_of(stage, context.target.revision)
    if crashed := next((pod for pod in pods if _keeps_crashing(pod)), None):
        return _crashed(context, crashed)
    return _waiting(context, found, pods)


def _keeps_crashing(pod: PodState) -> bool:
    briefly = pod.exit is None or pod.exit.seconds < LONG_SECONDS
    return pod.restarts >= RESTARTS and not pod.ready and briefly


def _crashed(context: Context, pod: PodState) -> Step:
    cause = diagnose(context.evidence(pod))
    reason = cause.reason if cause and cause.reason == Reason.MEMORY_LIMIT_EXCEEDED else Reason.ENGINE_FAILED
    message = f"The engine crashed {pod.restarts} times. {cause.message if cause else ''}".strip()
    return Step(State.FAILED, reason, message)


def _waiting(context: Context, found: DeploymentState, pods: tuple[PodState, ...]) -> Step:
    unready = [pod for pod in pods if not pod.ready and not pod.deleting]
    findings = (stuck(context.evidence(pod)) for pod in unready)
    finding = next((finding for finding in findings if finding), None)
    if finding is None and found.failure_message and not pods:
        finding = Finding(
            Reason.POD_NOT_CREATED, f"Deployment {found.ref.name} can't create its pod: {found.failure_message}"
        )
    if finding:
        return Step(State.BLOCKED, finding.reason, finding.message)
    message = f"Deployment {found.ref.name} is starting: the engine loads the model."
    return Step(State.RUNNING, Reason.RUNNING, message)
