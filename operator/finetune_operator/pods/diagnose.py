"""Pod and Job failures as sentences: reason, what happened to which object, and what to do; the root cause first.

A chain of small policies, each from the evidence to a diagnosis or None; the first that speaks wins. `stages` asks here
while a stage runs (a diagnosis then means that it waits for somebody) and when it has failed.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from finetune_trainer.contract.outcome import Outcome

from finetune_operator import names
from finetune_operator.conditions import Reason
from finetune_operator.pods.state import ContainerExit, PodState

# The words that remain of a log: enough for the engine's own error, short enough for `kubectl describe`.
LOG_TAIL = 1200


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Evidence:
    """What a diagnosis is made from: one pod, and what is known of the things around it.

    `serving` is the name of the Deployment that serves meanwhile, and `serving_limits` what one pod of it holds.
    """

    pod: PodState
    claim_pending: bool = False
    claim: str = ""
    serving: str | None = None
    serving_limits: frozenset[str] = frozenset()


Policy = Callable[[Evidence], Diagnosis | None]


def diagnose(evidence: Evidence) -> Diagnosis | None:
    """The first diagnosis of the chain; None for a pod that nothing is wrong with."""
    return next((diagnosis for policy in POLICIES if (diagnosis := policy(evidence))), None)


def _missing_secret(evidence: Evidence) -> Diagnosis | None:
    pod = evidence.pod
    if pod.waiting_reason != "CreateContainerConfigError":
        return None
    if found := re.search(r'secret "([^"]+)" not found', pod.waiting_message):
        return Diagnosis(
            Reason.SECRET_NOT_FOUND,
            f"Secret {found[1]} does not exist; create it in this namespace and pod {pod.name} starts by itself.",
        )
    if found := re.search(r"couldn't find key (\S+) in Secret [^/]+/(\S+)", pod.waiting_message):
        return Diagnosis(
            Reason.SECRET_KEY_NOT_FOUND,
            f"Secret {found[2]} has no key {found[1]}; add it and pod {pod.name} starts by itself.",
        )
    return None


def _not_created(evidence: Evidence) -> Diagnosis | None:
    pod = evidence.pod
    if pod.waiting_reason not in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        return None
    return Diagnosis(
        Reason.CONTAINER_NOT_CREATED, f"The container of pod {pod.name} could not be created: {pod.waiting_message}"
    )


def _image(evidence: Evidence) -> Diagnosis | None:
    pod = evidence.pod
    if pod.waiting_reason not in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"):
        return None
    return Diagnosis(
        Reason.IMAGE_NOT_PULLED,
        f"Image {pod.image} of pod {pod.name} can't be pulled ({pod.waiting_message or pod.waiting_reason}); "
        "check its name, and pod.imagePullSecrets if the registry is private.",
    )


def _volume(evidence: Evidence) -> Diagnosis | None:
    unbound = evidence.pod.unschedulable is not None and "PersistentVolumeClaim" in evidence.pod.unschedulable
    if not (evidence.claim_pending and unbound):
        return None
    return Diagnosis(
        Reason.VOLUME_PENDING,
        f"PersistentVolumeClaim {evidence.claim} is pending, so pod {evidence.pod.name} can't be scheduled; see "
        f"`kubectl describe pvc {evidence.claim}`, and set workspace.storageClassName if there is no default class.",
    )


def lacking(pod: PodState) -> frozenset[str]:
    """The resources that the scheduler found on no node: cpu, memory, nvidia.com/gpu."""
    return frozenset(re.findall(r"Insufficient ([\w-]+(?:[./][\w-]+)*)", pod.unschedulable or ""))


def _accelerators_in_use(evidence: Evidence) -> Diagnosis | None:
    held = {name for name in lacking(evidence.pod) & evidence.serving_limits if "/" in name}
    if not held or evidence.serving is None:
        return None
    return Diagnosis(
        Reason.ACCELERATORS_IN_USE,
        f"Pod {evidence.pod.name} waits for {_asked(evidence.pod)}, and Deployment {evidence.serving}, the serving "
        f"revision, holds {', '.join(sorted(held))}; add accelerators, or set hosting.rollout: recreate so that the "
        "serving revision gives them up.",
    )


def _unschedulable(evidence: Evidence) -> Diagnosis | None:
    if evidence.pod.unschedulable is None:
        return None
    return Diagnosis(
        Reason.UNSCHEDULABLE,
        f"No node can take pod {evidence.pod.name}, which asks for {_asked(evidence.pod)}: "
        f"{evidence.pod.unschedulable.rstrip('.')}; add such a node, or ask for less in resources.",
    )


def _asked(pod: PodState) -> str:
    asked = {**pod.requests, **{key: value for key, value in pod.limits.items() if "/" in key}}
    return ", ".join(f"{key}: {value}" for key, value in sorted(asked.items())) or "no resources"


def _memory_limit(evidence: Evidence) -> Diagnosis | None:
    pod = evidence.pod
    if pod.exit is None or not pod.exit.oom_killed:
        return None
    limit = pod.limits.get("memory")
    used = f"more host memory than its limit of {limit}" if limit else "more host memory than its node had"
    # That one's limit is nobody's to set.
    advice = (
        "" if pod.container == names.ADAPTERS else "; raise resources.limits.memory, or lower batchSize or maxLength"
    )
    return Diagnosis(Reason.MEMORY_LIMIT_EXCEEDED, f"Pod {pod.name} used {used} and was killed{advice}.")


def _termination(evidence: Evidence) -> Diagnosis | None:
    found = evidence.pod.exit and evidence.pod.exit.termination
    if not found or found.reason not in set(Reason) or found.reason == Reason.SUCCEEDED:
        return None
    return Diagnosis(Reason(found.reason), found.message)


def _container(evidence: Evidence) -> Diagnosis | None:
    pod = evidence.pod
    if pod.exit is None or pod.exit.code == 0:
        return None
    return Diagnosis(
        Reason.CONTAINER_FAILED,
        f"The container of pod {pod.name} ended with code {pod.exit.code}{_log(pod.exit)}",
    )


def _log(ended: ContainerExit) -> str:
    return f"; the end of its log:\n{ended.text[-LOG_TAIL:]}" if ended.text else " and logged nothing."


POLICIES: tuple[Policy, ...] = (
    _missing_secret,
    _not_created,
    _image,
    _volume,
    _accelerators_in_use,
    _unschedulable,
    _memory_limit,
    _termination,
    _container,
)
_STUCK: tuple[Policy, ...] = POLICIES[:6]


def stuck(evidence: Evidence) -> Diagnosis | None:
    """What keeps a pod from starting; None for one that runs, whatever became of its containers before."""
    return next((diagnosis for policy in _STUCK if (diagnosis := policy(evidence))), None)


def no_pod(owner: str, refusal: str) -> Diagnosis:
    """Why `owner`, a Job or a Deployment, has no pod: the API server refuses to have it made."""
    return Diagnosis(
        Reason.POD_NOT_CREATED,
        f"{owner} can't create its pod: {refusal.rstrip('.')}; raise the quota or mend the policy, and it goes on by "
        "itself.",
    )


def last_exit(pods: Iterable[PodState]) -> PodState | None:
    """The newest pod that has ended, or that has ended once and was restarted.

    Of several that work together it is the one that failed first: the others ended because of it.
    """
    newest = {pod.index: pod for pod in pods if pod.exit is not None}
    failed = [pod for pod in newest.values() if pod.exit and pod.exit.code not in (0, Outcome.PEER_LOST.exit.code)]
    return min(failed or newest.values(), key=lambda pod: pod.exit.finished if pod.exit else "", default=None)
