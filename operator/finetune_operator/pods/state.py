"""A pod as a decision needs it: the raw object in, a frozen PodState out. Used by `observe` and by `diagnose`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from finetune_trainer.contract.outcome import Termination
from pydantic import ValidationError

from finetune_operator import names
from finetune_operator.pods.metadata import Raw
from finetune_operator.pods.template import MAIN_CONTAINER

# What a container waits for that comes by itself, or that its log tells of.
_BY_ITSELF = ("ContainerCreating", "PodInitializing", "CrashLoopBackOff")
# A container that has ended so often, and is not ready, does not stay up by itself.
RESTARTS = 3
# Kubernetes' own label: which pod of an Indexed Job it is.
INDEX = "batch.kubernetes.io/job-completion-index"


@dataclass(frozen=True)
class ContainerExit:
    """How a container ended, when, and after how many seconds. `termination` when the trainer left one, else `text` has
    the end of its log.
    """

    code: int
    oom_killed: bool
    text: str
    termination: Termination | None
    seconds: float = 0
    finished: str = ""


@dataclass(frozen=True)
class PodState:
    """One pod of a stage, seen through its main container. `claims` are the volumes that it mounts, `index` is its
    number among those that work together.

    Seen through the fetch container (`fetching`) until that ended well and left `fetched`, and through the adapters
    container while that can't start or keeps ending; `container` is the name of the one.
    """

    name: str
    stage: str
    revision: str
    phase: str
    ip: str | None
    ready: bool
    deleting: bool
    created: str
    restarts: int = 0
    unschedulable: str | None = None
    waiting_reason: str | None = None
    waiting_message: str = ""
    exit: ContainerExit | None = None
    image: str = ""
    requests: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    claims: frozenset[str] = frozenset()
    index: str = ""
    container: str = ""
    fetching: bool = False
    fetched: Termination | None = None

    @property
    def live(self) -> bool:
        """Whether it may still write to its volumes."""
        return self.phase not in ("Succeeded", "Failed")


def pod_state(raw: Raw) -> PodState:
    """Read a pod."""
    metadata, status = raw["metadata"], raw.get("status", {})
    labels = metadata.get("labels") or {}
    fetch = _named(names.FETCH, status.get("initContainerStatuses"))
    brought = _exit((fetch.get("state") or {}).get("terminated"))
    fetching = bool(fetch) and (brought is None or brought.code != 0)
    spec = _named(names.FETCH, raw["spec"].get("initContainers")) if fetching else main_container(metadata, raw["spec"])
    container = fetch if fetching else _named(spec["name"], status.get("containerStatuses"))
    loads = _named(names.ADAPTERS, status.get("containerStatuses"))
    if not fetching and _held_up(loads):
        spec, container = _named(names.ADAPTERS, raw["spec"]["containers"]), loads
    state = container.get("state") or {}
    waiting = state.get("waiting") or {}
    found = conditions(raw)
    scheduled = found.get("PodScheduled")
    resources = spec.get("resources") or {}
    return PodState(
        name=metadata["name"],
        stage=labels.get(names.STAGE, ""),
        revision=labels.get(names.REVISION, ""),
        phase=status.get("phase", "Pending"),
        ip=status.get("podIP"),
        ready=holds(found.get("Ready")),
        deleting="deletionTimestamp" in metadata,
        created=metadata.get("creationTimestamp", ""),
        restarts=container.get("restartCount", 0),
        unschedulable=scheduled.get("message", "") if scheduled and not holds(scheduled) else None,
        waiting_reason=waiting.get("reason"),
        waiting_message=waiting.get("message", ""),
        exit=_exit(state.get("terminated") or (container.get("lastState") or {}).get("terminated")),
        image=spec.get("image", ""),
        requests=resources.get("requests") or {},
        limits=resources.get("limits") or {},
        claims=frozenset(
            volume["persistentVolumeClaim"]["claimName"]
            for volume in raw["spec"].get("volumes") or []
            if "persistentVolumeClaim" in volume
        ),
        index=labels.get(INDEX, ""),
        container=spec.get("name", ""),
        fetching=fetching,
        fetched=None if fetching or brought is None else brought.termination,
    )


def _named(name: str, containers: Sequence[Raw] | None) -> Raw:
    return next((found for found in containers or [] if found["name"] == name), {})


def _held_up(container: Raw) -> bool:
    """Whether something has to be mended before a container can start, or stay."""
    reason = ((container.get("state") or {}).get("waiting") or {}).get("reason")
    crashes = container.get("restartCount", 0) >= RESTARTS and not container.get("ready")
    return crashes or (reason is not None and reason not in _BY_ITSELF)


def main_container(metadata: Raw, spec: Raw) -> Raw:
    """The container that the pod is there for: others, such as a service mesh's, may stand before it."""
    name = (metadata.get("annotations") or {}).get(MAIN_CONTAINER)
    containers: list[Raw] = spec["containers"]
    return next((found for found in containers if found["name"] == name), containers[0])


def conditions(raw: Raw) -> dict[str, Raw]:
    """An object's conditions by type."""
    return {condition["type"]: condition for condition in (raw.get("status") or {}).get("conditions") or []}


def holds(condition: Raw | None) -> bool:
    """Whether a condition is there and True."""
    return condition is not None and condition["status"] == "True"


def _exit(terminated: Raw | None) -> ContainerExit | None:
    if terminated is None:
        return None
    text = terminated.get("message", "").strip()
    oom_killed = terminated.get("reason") == "OOMKilled"
    return ContainerExit(
        terminated["exitCode"],
        oom_killed,
        text,
        _termination(text),
        _seconds(terminated),
        terminated.get("finishedAt") or "",
    )


def _seconds(terminated: Raw) -> float:
    started, finished = terminated.get("startedAt"), terminated.get("finishedAt")
    if not started or not finished:
        return 0
    return (datetime.fromisoformat(finished) - datetime.fromisoformat(started)).total_seconds()


def _termination(text: str) -> Termination | None:
    """The trainer's own message; None for anything else that can stand there, such as the end of a log."""
    try:
        return Termination.model_validate_json(text)
    except ValidationError:
        return None
