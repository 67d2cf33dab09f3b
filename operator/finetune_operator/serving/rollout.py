"""How an engine's Deployment stands: rolled out, starting, kept from it, or crashing for good.

Used by every kind that has engines, for each of its Deployments.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from finetune_operator import names
from finetune_operator.conditions import Reason
from finetune_operator.kinds.plan import State
from finetune_operator.kinds.snapshot import DeploymentState
from finetune_operator.pods.diagnose import Diagnosis, Evidence, diagnose, no_pod, stuck
from finetune_operator.pods.state import RESTARTS, PodState

# An engine that has crashed RESTARTS times in one pod does not start by itself, unless it ran for long in between: the
# kubelet forgets crashes after ten minutes, and so do we.
LONG_SECONDS = 600

Look = Callable[[PodState], Evidence]


@dataclass(frozen=True)
class Readiness:
    """Where it stands, and why."""

    state: State
    reason: Reason
    message: str


def rollout(name: str, found: DeploymentState | None, pods: Sequence[PodState], look: Look) -> Readiness:
    """Where the Deployment `name` stands, whose pods are `pods`; `look` says what surrounds one of them."""
    if found is None:
        return Readiness(State.RUNNING, Reason.STARTING, f"Deployment {name} is created.")
    if found.ref.deleting:
        return Readiness(State.RUNNING, Reason.RESTARTING, f"Deployment {name} makes way for a new one.")
    if found.rolled_out:
        return Readiness(State.SUCCEEDED, Reason.SUCCEEDED, f"Deployment {name} answers.")
    if crashed := next((pod for pod in pods if _keeps_crashing(pod)), None):
        return _crashed(look(crashed))
    return _waiting(found, pods, look)


def _keeps_crashing(pod: PodState) -> bool:
    briefly = pod.exit is None or pod.exit.seconds < LONG_SECONDS
    return pod.restarts >= RESTARTS and not pod.ready and not pod.fetching and briefly


def _crashed(evidence: Evidence) -> Readiness:
    cause = diagnose(evidence)
    reason = cause.reason if cause and cause.reason == Reason.MEMORY_LIMIT_EXCEEDED else Reason.ENGINE_FAILED
    what = "The container that loads adapters" if evidence.pod.container == names.ADAPTERS else "The engine"
    message = f"{what} crashed {evidence.pod.restarts} times. {cause.message if cause else ''}".strip()
    return Readiness(State.FAILED, reason, message)


def _waiting(found: DeploymentState, pods: Sequence[PodState], look: Look) -> Readiness:
    unready = [pod for pod in pods if not pod.ready and not pod.deleting]
    diagnosis = next((diagnosis for pod in unready if (diagnosis := stuck(look(pod)) or _unfetched(look(pod)))), None)
    if diagnosis is None and found.failure_message and not pods:
        diagnosis = no_pod(f"Deployment {found.ref.name}", found.failure_message)
    if diagnosis:
        return Readiness(State.BLOCKED, diagnosis.reason, diagnosis.message)
    what = "its pods fetch the model" if any(pod.fetching for pod in unready) else "the engine loads the model"
    message = f"Deployment {found.ref.name} is starting: {what}."
    return Readiness(State.RUNNING, Reason.RUNNING, message)


def _unfetched(evidence: Evidence) -> Diagnosis | None:
    """Why a pod's model could not be fetched, which is tried again and again."""
    found = diagnose(evidence) if evidence.pod.fetching else None
    return found and Diagnosis(found.reason, f"{found.message} Pod {evidence.pod.name} tries again by itself.")
