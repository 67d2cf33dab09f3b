"""What the cluster looks like, as far as a decision needs it: raw objects in, frozen dataclasses out.

The shell fetches a Snapshot; `plan` turns it into a World and decides on nothing else. Every field that the API server
may leave out is looked up with a default here, so that no other module does.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetune_trainer.config import RunConfig
from finetune_trainer.outcome import Termination
from finetune_trainer.report import Progress
from pydantic import ValidationError

from finetune_operator import names
from finetune_operator.api.status import FineTuneJobStatus

Raw = Mapping[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """The raw objects around one FineTuneJob: its children by kind, and what others own but it depends on."""

    job: Raw
    children: Mapping[str, Sequence[Raw]] = field(default_factory=dict)
    stable_service: Raw | None = None
    user_claims: Mapping[str, Raw | None] = field(default_factory=dict)
    user_config_maps: Mapping[str, Raw | None] = field(default_factory=dict)
    job_events: Sequence[Raw] = field(default_factory=list)
    progress: Progress | None = None


@dataclass(frozen=True)
class Ref:
    """One object that was made for the FineTuneJob. `revision` is None for what belongs to no single one."""

    kind: str
    name: str
    uid: str
    revision: str | None


@dataclass(frozen=True)
class Exit:
    """How a container ended. `termination` when the trainer left one, else `text` has the end of its log."""

    code: int
    oom_killed: bool
    text: str
    termination: Termination | None


@dataclass(frozen=True)
class PodState:
    """One pod of a stage, seen through its main container."""

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
    exit: Exit | None = None
    image: str = ""
    requests: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        """Whether it may still write to the workspace."""
        return self.phase not in ("Succeeded", "Failed")


@dataclass(frozen=True)
class JobState:
    """A stage's Job. `failure` is the reason of its Failed condition."""

    ref: Ref
    inputs: str
    suspended: bool
    complete: bool
    deleting: bool
    failure: str | None
    failure_message: str


@dataclass(frozen=True)
class DeploymentState:
    """A revision's hosting. `rolled_out`: every replica is of the newest template and available, and stays."""

    ref: Ref
    rolled_out: bool
    deleting: bool
    available: int
    failure_message: str | None


@dataclass(frozen=True)
class ClaimState:
    """A volume claim."""

    name: str
    phase: str


@dataclass(frozen=True)
class ServiceState:
    """The stable Service: who owns it, and the revision that it points at."""

    owned: bool
    revision: str | None


@dataclass(frozen=True)
class World:
    """Everything that a decision about one FineTuneJob is made from. `url`: where an OpenAI client finds the result."""

    name: str
    namespace: str
    uid: str
    url: str
    generation: int
    deleting: bool
    retry: str
    promote: str
    spec: Raw
    status: FineTuneJobStatus
    refs: tuple[Ref, ...]
    jobs: Mapping[str, JobState]
    pods: tuple[PodState, ...]
    deployments: Mapping[str, DeploymentState]
    claims: Mapping[str, ClaimState]
    run_configs: Mapping[str, RunConfig]
    stable_service: ServiceState | None
    missing: tuple[str, ...]
    job_events: Mapping[str, str]
    progress: Progress | None

    @property
    def served_revision(self) -> str | None:
        """The revision that the stable Service points at."""
        return self.stable_service.revision if self.stable_service and self.stable_service.owned else None

    def pods_of(self, stage: str, revision: str) -> tuple[PodState, ...]:
        """A stage's pods, oldest first."""
        found = (pod for pod in self.pods if pod.stage == stage and pod.revision == revision)
        return tuple(sorted(found, key=lambda pod: (pod.created, pod.name)))


def observe(snapshot: Snapshot) -> World:
    """Read a snapshot."""
    metadata = snapshot.job["metadata"]
    children = snapshot.children
    jobs = (_job(raw) for raw in children.get("Job", []))
    deployments = (_deployment(raw) for raw in children.get("Deployment", []))
    return World(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        url=f"http://{metadata['name']}.{metadata['namespace']}.svc/v1",
        generation=metadata.get("generation", 0),
        deleting="deletionTimestamp" in metadata,
        retry=metadata.get("annotations", {}).get(names.RETRY, ""),
        promote=metadata.get("annotations", {}).get(names.PROMOTE, ""),
        spec=snapshot.job.get("spec", {}),
        status=_status(snapshot.job),
        refs=tuple(_ref(kind, raw) for kind, raws in children.items() for raw in raws if kind != "Pod"),
        jobs={job.ref.name: job for job in jobs},
        pods=tuple(_pod(raw) for raw in children.get("Pod", [])),
        deployments={deployment.ref.name: deployment for deployment in deployments},
        claims={name: _claim(raw) for name, raw in _by_name(children.get("PersistentVolumeClaim", [])).items()},
        run_configs=_run_configs(children.get("ConfigMap", [])),
        stable_service=_service(snapshot.stable_service, metadata["uid"]),
        missing=_missing(snapshot),
        job_events={event["involvedObject"]["name"]: event.get("message", "") for event in snapshot.job_events},
        progress=snapshot.progress,
    )


def _by_name(raws: Sequence[Raw]) -> dict[str, Raw]:
    return {raw["metadata"]["name"]: raw for raw in raws}


def _ref(kind: str, raw: Raw) -> Ref:
    metadata = raw["metadata"]
    return Ref(kind, metadata["name"], metadata["uid"], metadata.get("labels", {}).get(names.REVISION))


def _status(job: Raw) -> FineTuneJobStatus:
    """The last status; an unreadable one (of a version to come, or written by hand) counts as none."""
    try:
        return FineTuneJobStatus.model_validate(job.get("status", {}))
    except ValidationError:
        return FineTuneJobStatus()


def _conditions(raw: Raw) -> dict[str, Raw]:
    return {condition["type"]: condition for condition in raw.get("status", {}).get("conditions") or []}


def _holds(condition: Raw | None) -> bool:
    return condition is not None and condition["status"] == "True"


def _job(raw: Raw) -> JobState:
    conditions = _conditions(raw)
    failed = conditions.get("Failed")
    return JobState(
        ref=_ref("Job", raw),
        inputs=raw["metadata"].get("annotations", {}).get(names.INPUTS, ""),
        suspended=raw["spec"].get("suspend", False),
        complete=_holds(conditions.get("Complete")),
        deleting="deletionTimestamp" in raw["metadata"],
        failure=failed.get("reason", "") if failed and _holds(failed) else None,
        failure_message=failed.get("message", "") if failed else "",
    )


def _pod(raw: Raw) -> PodState:
    metadata, status = raw["metadata"], raw.get("status", {})
    labels = metadata.get("labels", {})
    spec = raw["spec"]["containers"][0]
    statuses: list[Raw] = status.get("containerStatuses") or []
    container: Raw = next((found for found in statuses if found["name"] == spec["name"]), {})
    state = container.get("state", {})
    waiting = state.get("waiting", {})
    scheduled = _conditions(raw).get("PodScheduled")
    resources = spec.get("resources", {})
    return PodState(
        name=metadata["name"],
        stage=labels.get(names.STAGE, ""),
        revision=labels.get(names.REVISION, ""),
        phase=status.get("phase", "Pending"),
        ip=status.get("podIP"),
        ready=_holds(_conditions(raw).get("Ready")),
        deleting="deletionTimestamp" in metadata,
        created=metadata.get("creationTimestamp", ""),
        restarts=container.get("restartCount", 0),
        unschedulable=scheduled.get("message", "") if scheduled and not _holds(scheduled) else None,
        waiting_reason=waiting.get("reason"),
        waiting_message=waiting.get("message", ""),
        exit=_exit(state.get("terminated") or container.get("lastState", {}).get("terminated")),
        image=spec.get("image", ""),
        requests=resources.get("requests", {}),
        limits=resources.get("limits", {}),
    )


def _exit(terminated: Raw | None) -> Exit | None:
    if terminated is None:
        return None
    text = terminated.get("message", "").strip()
    return Exit(terminated["exitCode"], terminated.get("reason") == "OOMKilled", text, _termination(text))


def _termination(text: str) -> Termination | None:
    """The trainer's own message; None for anything else that can stand there, such as the end of a log."""
    try:
        return Termination.model_validate_json(text)
    except ValidationError:
        return None


def _deployment(raw: Raw) -> DeploymentState:
    wanted, status = raw["spec"].get("replicas", 1), raw.get("status", {})
    current = status.get("observedGeneration", 0) >= raw["metadata"].get("generation", 0)
    counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
    failure = _conditions(raw).get("ReplicaFailure")
    deleting = "deletionTimestamp" in raw["metadata"]
    return DeploymentState(
        ref=_ref("Deployment", raw),
        rolled_out=not deleting and current and wanted > 0 and counts == [wanted] * 3,
        deleting=deleting,
        available=status.get("availableReplicas", 0),
        failure_message=failure.get("message", "") if failure and _holds(failure) else None,
    )


def _claim(raw: Raw) -> ClaimState:
    return ClaimState(raw["metadata"]["name"], raw.get("status", {}).get("phase", "Pending"))


def _run_configs(raws: Sequence[Raw]) -> dict[str, RunConfig]:
    texts = (raw.get("data", {}).get(names.RUN_CONFIG_KEY) for raw in raws)
    configs = (RunConfig.model_validate(json.loads(text)) for text in texts if text)
    return {config.revision: config for config in configs}


def _service(raw: Raw | None, uid: str) -> ServiceState | None:
    if raw is None:
        return None
    owners = raw["metadata"].get("ownerReferences", [])
    selector = raw["spec"].get("selector") or {}
    return ServiceState(any(owner["uid"] == uid for owner in owners), selector.get(names.REVISION))


def _missing(snapshot: Snapshot) -> tuple[str, ...]:
    """The user's own objects that the spec names and the namespace lacks, as `Kind NAME`."""
    claims = [f"PersistentVolumeClaim {name}" for name, raw in snapshot.user_claims.items() if raw is None]
    maps = [f"ConfigMap {name}" for name, raw in snapshot.user_config_maps.items() if raw is None]
    return tuple(sorted(claims + maps))
