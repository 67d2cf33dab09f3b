"""What the cluster looks like, as far as a decision needs it: raw objects in, frozen dataclasses out.

The shell hands over a Snapshot; `plan` turns it into a World and decides on nothing else. Every field that the API
server may leave out is looked up with a default here, so that no other module does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetune_trainer.contract.report import Progress
from pydantic import ValidationError

from finetune_operator import names
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.api.v1alpha1 import KIND
from finetune_operator.finetunejob.queue import WorkloadState, workload_state
from finetune_operator.finetunejob.record import Record
from finetune_operator.pods.metadata import controller_of
from finetune_operator.pods.state import PodState, conditions, holds, main_container, pod_state

Raw = Mapping[str, Any]
# An object by kind and name.
Id = tuple[str, str]


@dataclass(frozen=True)
class Snapshot:
    """The raw objects around one FineTuneJob.

    `children` by kind: what it controls, and what its Jobs and Deployments control. `strangers`: pods that carry its
    label and that nothing of it controls. `named`: what it depends on and does not own, read when it was asked for;
    None for what is not there.
    """

    job: Raw
    children: Mapping[str, Sequence[Raw]] = field(default_factory=dict)
    strangers: Sequence[Raw] = ()
    named: Mapping[Id, Raw | None] = field(default_factory=dict)
    progress: Progress | None = None


@dataclass(frozen=True)
class Ref:
    """One object that was made for the FineTuneJob. `revision` is None for what belongs to no single one."""

    kind: str
    name: str
    uid: str
    revision: str | None
    deleting: bool = False


@dataclass(frozen=True)
class JobState:
    """A stage's Job. `queue`: the LocalQueue that it is in. `failure` is the reason of its Failed condition."""

    ref: Ref
    inputs: str
    suspended: bool
    complete: bool
    failure: str | None
    failure_message: str
    limits: Mapping[str, int]
    queue: str = ""

    @property
    def ended(self) -> bool:
        """Whether it will start no more pods."""
        return self.complete or self.failure is not None


@dataclass(frozen=True)
class DeploymentState:
    """A revision's hosting: `replicas` are wanted, `pods` are there, `available` of them answer.

    `rolled_out`: every replica is of the newest template and available, and stays. `limits`: those of one engine.
    """

    ref: Ref
    replicas: int
    pods: int
    rolled_out: bool
    available: int
    limits: Mapping[str, str]
    failure_message: str | None


@dataclass(frozen=True)
class ClaimState:
    """A volume claim. `requested`: the size that it asks for; `access_modes`: how many may mount it."""

    ref: Ref
    phase: str
    requested: str
    access_modes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RecordState:
    """A revision's record, and the version of the object that it was read from."""

    ref: Ref
    version: str
    record: Record


@dataclass(frozen=True)
class World:
    """Everything that a decision about one FineTuneJob is made from.

    `url`: where an OpenAI client finds the result. `served_revision`: what the stable Service points at; a checkpoint
    by its address. `named`: whether what it depends on was there. `mounted`: the claims that pods mount which nothing
    of it controls any more. `refusals`: why a Job has no pod, by the Job's name; `workloads`: what Kueue makes of one,
    likewise. `objects`: what it owns, raw.
    """

    name: str
    namespace: str
    uid: str
    url: str = ""
    generation: int = 0
    deleting: bool = False
    retry: str = ""
    promote: str = ""
    upgrade: str = ""
    spec: Raw = field(default_factory=dict)
    status: FineTuneJobStatus = field(default_factory=FineTuneJobStatus)
    refs: tuple[Ref, ...] = ()
    jobs: Mapping[str, JobState] = field(default_factory=dict)
    pods: tuple[PodState, ...] = ()
    deployments: Mapping[str, DeploymentState] = field(default_factory=dict)
    claims: Mapping[str, ClaimState] = field(default_factory=dict)
    records: Mapping[str, RecordState] = field(default_factory=dict)
    served_revision: str | None = None
    named: Mapping[Id, bool] = field(default_factory=dict)
    mounted: Mapping[str, str] = field(default_factory=dict)
    refusals: Mapping[str, str] = field(default_factory=dict)
    workloads: Mapping[str, WorkloadState] = field(default_factory=dict)
    objects: Mapping[Id, Raw] = field(default_factory=dict)
    progress: Progress | None = None

    def pods_of(self, stage: str, revision: str) -> tuple[PodState, ...]:
        """A stage's pods, oldest first."""
        found = (pod for pod in self.pods if pod.stage == stage and pod.revision == revision)
        return tuple(sorted(found, key=lambda pod: (pod.created, pod.name)))

    def record(self, address: str) -> Record:
        """The record of a revision, or of the one that a checkpoint is of; an empty one where there is none."""
        revision, _ = names.parted(address)
        found = self.records.get(revision)
        return found.record if found else Record(revision)

    def has(self, address: str) -> bool:
        """Whether there is a model to serve at an address: a revision that was trained, or a checkpoint it kept."""
        _, step = names.parted(address)
        trained = self.record(address).trained
        # The first one is the artifact, which the revision itself stands for.
        return trained is not None and (step is None or step in [found.step for found in trained.checkpoints[1:]])


def observe(snapshot: Snapshot) -> World:
    """Read a snapshot."""
    metadata = snapshot.job["metadata"]
    annotations = metadata.get("annotations") or {}
    children = snapshot.children
    jobs = [_job(raw) for raw in children.get("Job", [])]
    stable = next((raw for raw in children.get("Service", []) if raw["metadata"]["name"] == metadata["name"]), None)
    return World(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        url=f"http://{metadata['name']}.{metadata['namespace']}.svc/v1",
        generation=metadata.get("generation", 0),
        deleting="deletionTimestamp" in metadata,
        retry=annotations.get(names.RETRY, ""),
        promote=annotations.get(names.PROMOTE, ""),
        upgrade=annotations.get(names.UPGRADE, ""),
        spec=snapshot.job.get("spec", {}),
        status=status_of(snapshot.job),
        refs=tuple(_ref(kind, raw) for kind, raws in children.items() for raw in raws if kind in OWNED),
        jobs={job.ref.name: job for job in jobs},
        pods=tuple(pod_state(raw) for raw in children.get("Pod", [])),
        deployments={raw["metadata"]["name"]: _deployment(raw) for raw in children.get("Deployment", [])},
        claims={raw["metadata"]["name"]: _claim(raw) for raw in children.get("PersistentVolumeClaim", [])},
        records=_records(children.get("ConfigMap", [])),
        served_revision=_served(stable["spec"].get("selector") or {}) if stable else None,
        named={found: raw is not None and not is_going(raw, metadata["name"]) for found, raw in snapshot.named.items()},
        mounted=_mounted(snapshot.strangers),
        refusals=_refusals(jobs, children.get("Event", [])),
        workloads=_workloads(jobs, children.get("Workload", [])),
        objects={(kind, raw["metadata"]["name"]): raw for kind in OWNED for raw in children.get(kind, [])},
        progress=snapshot.progress,
    )


def is_going(raw: Raw, job: str) -> bool:
    """Whether somebody else's object is on its way out: deleted, or left by an earlier FineTuneJob of the same name."""
    metadata = raw["metadata"]
    owners = [(owner["kind"], owner["name"]) for owner in metadata.get("ownerReferences") or []]
    return "deletionTimestamp" in metadata or (KIND, job) in owners


# The kinds that are made for a FineTuneJob, and that it controls itself.
OWNED = ("Job", "Deployment", "Service", "PersistentVolumeClaim", "ConfigMap")


def _ref(kind: str, raw: Raw) -> Ref:
    metadata = raw["metadata"]
    revision = (metadata.get("labels") or {}).get(names.REVISION)
    return Ref(kind, metadata["name"], metadata["uid"], revision, "deletionTimestamp" in metadata)


def status_of(job: Raw) -> FineTuneJobStatus:
    """The last status as far as it can be read: it may be of a version to come, or written by hand."""
    raw = job.get("status") or {}
    try:
        return FineTuneJobStatus.model_validate(raw, extra="ignore")
    except ValidationError as error:
        unreadable = {problem["loc"][0] for problem in error.errors() if problem["loc"]}
        readable = {key: value for key, value in raw.items() if key not in unreadable}
        return FineTuneJobStatus.model_validate(readable, extra="ignore")


def _job(raw: Raw) -> JobState:
    found, spec = conditions(raw), raw["spec"]
    failed = found.get("Failed")
    return JobState(
        ref=_ref("Job", raw),
        inputs=(raw["metadata"].get("annotations") or {}).get(names.INPUTS, ""),
        suspended=spec.get("suspend", False),
        complete=holds(found.get("Complete")),
        failure=failed.get("reason", "") if failed and holds(failed) else None,
        failure_message=failed.get("message", "") if failed else "",
        limits={key: spec[key] for key in ("backoffLimit", "activeDeadlineSeconds") if key in spec},
        queue=(raw["metadata"].get("labels") or {}).get(names.QUEUE, ""),
    )


def _deployment(raw: Raw) -> DeploymentState:
    metadata, wanted, status = raw["metadata"], raw["spec"].get("replicas", 1), raw.get("status") or {}
    current = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
    counts = (status.get(field, 0) for field in ("replicas", "updatedReplicas", "availableReplicas"))
    found = conditions(raw)
    failure = found.get("ReplicaFailure")
    pod = raw["spec"]["template"]
    limits = (main_container(pod["metadata"], pod["spec"]).get("resources") or {}).get("limits") or {}
    return DeploymentState(
        ref=_ref("Deployment", raw),
        replicas=wanted,
        pods=status.get("replicas", 0),
        rolled_out=current and wanted > 0 and all(count == wanted for count in counts),
        available=status.get("availableReplicas", 0),
        limits=limits,
        failure_message=failure.get("message", "") if failure and holds(failure) else None,
    )


def _claim(raw: Raw) -> ClaimState:
    requests = raw["spec"].get("resources", {}).get("requests", {})
    phase = (raw.get("status") or {}).get("phase", "Pending")
    modes = tuple(raw["spec"].get("accessModes") or ())
    return ClaimState(_ref("PersistentVolumeClaim", raw), phase, str(requests.get("storage", "")), modes)


def _served(selector: Mapping[str, str]) -> str | None:
    revision = selector.get(names.REVISION)
    return revision and names.address(revision, names.step_of(selector.get(names.STAGE, "")))


def _records(raws: Sequence[Raw]) -> dict[str, RecordState]:
    found = {}
    for raw in raws:
        metadata, ref = raw["metadata"], _ref("ConfigMap", raw)
        if ref.revision is not None:
            record = Record(ref.revision, metadata.get("creationTimestamp", ""), raw.get("data") or {})
            found[ref.revision] = RecordState(ref, metadata.get("resourceVersion", ""), record)
    return found


def _mounted(strangers: Sequence[Raw]) -> dict[str, str]:
    """The claims that live pods of nobody's mount, and the name of such a pod."""
    pods = (pod_state(raw) for raw in strangers)
    return {claim: pod.name for pod in pods if pod.live for claim in pod.claims}


def _refusals(jobs: Sequence[JobState], events: Sequence[Raw]) -> dict[str, str]:
    """Events say why a Job of ours has no pod; nothing else has the API server's refusal."""
    of_job = {job.ref.uid: job.ref.name for job in jobs}
    newest = sorted(events, key=lambda event: event.get("lastTimestamp") or "")
    return {
        of_job[event["involvedObject"]["uid"]]: event.get("message", "")
        for event in newest
        if event["involvedObject"].get("uid") in of_job
    }


def _workloads(jobs: Sequence[JobState], raws: Sequence[Raw]) -> dict[str, WorkloadState]:
    """One of a Job that is being deleted gives way to the next."""
    of_job = {job.ref.uid: job.ref.name for job in jobs}
    staying = (raw for raw in raws if "deletionTimestamp" not in raw["metadata"])
    return {of_job[owner]: workload_state(raw) for raw in staying if (owner := controller_of(raw)) in of_job}
