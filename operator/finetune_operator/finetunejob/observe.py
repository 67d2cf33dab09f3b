"""What the cluster looks like, as far as a decision needs it: raw objects in, frozen dataclasses out.

The shell hands over a Snapshot; `plan` turns it into a World and decides on nothing else. Every field that the API
server may leave out is looked up with a default here, so that no other module does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from finetune_trainer.contract.asked import asked_at
from finetune_trainer.contract.results import Progress

from finetune_operator import names
from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.api.v1alpha1 import KIND
from finetune_operator.finetunejob.queue import WorkloadState, workload_state
from finetune_operator.finetunejob.record import Record
from finetune_operator.finetunejob.seat import Seat, loaded_on, pointer_of
from finetune_operator.finetunejob.shared import AdapterState, EngineState, adapter_state, engine_state, served_seat
from finetune_operator.kinds.actions import Id, Ref, ref_of
from finetune_operator.kinds.snapshot import DeploymentState, Snapshot, deployment_state, is_going, status_as
from finetune_operator.pods.metadata import Raw, controller_of
from finetune_operator.pods.state import PodState, conditions, holds, pod_state
from finetune_operator.serving.load import Load
from finetune_operator.serving.objects import url
from finetune_operator.serving.requests import heard


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
    """Everything that a decision about one FineTuneJob is made from."""

    name: str
    namespace: str
    uid: str
    # Where an OpenAI client finds the engine.
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
    # What asks Engines for adapters, by name.
    adapters: Mapping[str, AdapterState] = field(default_factory=dict)
    # The one that the manifest names.
    engine: EngineState | None = None
    # What the stable Service says.
    pointer: Seat | None = None
    # What answers there; a checkpoint by its address.
    served_revision: str | None = None
    # The shared Engine that does; empty for an engine of its own.
    served_on: str = ""
    # Whether what it depends on was there.
    named: Mapping[Id, bool] = field(default_factory=dict)
    # Why what is to be in `named` could not be looked up, in a sentence.
    unread: str = ""
    # By claim: a live pod that mounts it and that nothing of it controls any more.
    mounted: Mapping[str, str] = field(default_factory=dict)
    # Why a Job has no pod, by the Job's name.
    refusals: Mapping[str, str] = field(default_factory=dict)
    # What Kueue makes of a Job, by the Job's name.
    workloads: Mapping[str, WorkloadState] = field(default_factory=dict)
    # What it owns, raw.
    objects: Mapping[Id, Raw] = field(default_factory=dict)
    progress: Progress | None = None
    # The same of the FineTuneJob whose artifact it starts from.
    source: "World | None" = None
    # Another one starts from this one's.
    referred: bool = False
    # The first of those that publish to the same place, where another one is.
    before: str | None = None
    # What engines' pods told last of their load, by name.
    busy: Mapping[str, Load] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where clients ask what serves."""
        config = self.record(self.served_revision or "").run_config
        return asked_at(self.url, config.training.method) if config else self.url

    @property
    def holder(self) -> DeploymentState | None:
        """The Deployment behind the endpoint."""
        return self.deployment_of(Seat(self.served_revision, self.served_on)) if self.served_revision else None

    def deployment_of(self, seat: Seat) -> DeploymentState | None:
        """That of what is at a seat; None where there is none, as on a shared Engine."""
        return None if seat.on else self.deployments.get(names.of_served(self.name, seat.address))

    def pods_of(self, stage: str, revision: str) -> tuple[PodState, ...]:
        """A stage's pods, oldest first."""
        found = (pod for pod in self.pods if pod.stage == stage and pod.revision == revision)
        return tuple(sorted(found, key=lambda pod: (pod.created, pod.name)))

    def record(self, address: str) -> Record:
        """The record of a revision, or of the one that a checkpoint is of; an empty one where there is none."""
        revision, _ = names.revision_and_step(address)
        found = self.records.get(revision)
        return found.record if found else Record(revision)

    def keeps(self, revision: str) -> bool:
        """Whether a revision's files are there, as far as a cluster tells: its volume is, or they are in a bucket."""
        return names.of_revision(self.name, revision) in self.claims or self.record(revision).bucket is not None

    def has(self, address: str) -> bool:
        """Whether there is a model to serve at an address: a revision that was trained, or a checkpoint it kept."""
        _, step = names.revision_and_step(address)
        trained = self.record(address).trained
        # The first one is the artifact, which the revision itself stands for.
        return trained is not None and (step is None or step in [found.step for found in trained.checkpoints[1:]])


def observe(snapshot: Snapshot) -> World:
    """Read a snapshot."""
    metadata = snapshot.subject["metadata"]
    annotations = metadata.get("annotations") or {}
    children = snapshot.children
    jobs = [_job(raw) for raw in children.get("Job", [])]
    status, maps = status_of(snapshot.subject), children.get("ConfigMap", [])
    stable = next((raw for raw in children.get("Service", []) if raw["metadata"]["name"] == metadata["name"]), None)
    adapters = {raw["metadata"]["name"]: adapter_state(raw) for raw in maps if loaded_on(raw)}
    engine = engine_state(snapshot.followed, snapshot.subject.get("spec", {}))
    pointer = pointer_of(stable) if stable else None
    seat = served_seat(metadata["name"], pointer, engine, adapters, status.served_revision)
    return World(
        name=metadata["name"],
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        url=url(metadata["name"], metadata["namespace"]),
        generation=metadata.get("generation", 0),
        deleting="deletionTimestamp" in metadata,
        retry=annotations.get(names.RETRY, ""),
        promote=annotations.get(names.PROMOTE, ""),
        upgrade=annotations.get(names.UPGRADE, ""),
        spec=snapshot.subject.get("spec", {}),
        status=status,
        refs=tuple(ref_of(kind, raw) for kind, raws in children.items() for raw in raws if kind in OWNED),
        jobs={job.ref.name: job for job in jobs},
        pods=tuple(pod_state(raw) for raw in children.get("Pod", [])),
        deployments={raw["metadata"]["name"]: deployment_state(raw) for raw in children.get("Deployment", [])},
        claims={raw["metadata"]["name"]: _claim(raw) for raw in children.get("PersistentVolumeClaim", [])},
        records=_records([raw for raw in maps if not loaded_on(raw)]),
        adapters=adapters,
        engine=engine,
        pointer=pointer,
        served_revision=seat.address if seat else None,
        served_on=seat.on if seat else "",
        named={
            found: raw is not None and not is_going(raw, KIND, metadata["name"])
            for found, raw in snapshot.named.items()
        },
        unread=snapshot.unread,
        mounted=_mounted(snapshot.strangers),
        refusals=_refusals(jobs, children.get("Event", [])),
        workloads=_workloads(jobs, children.get("Workload", [])),
        objects={(kind, raw["metadata"]["name"]): raw for kind in OWNED for raw in children.get(kind, [])},
        progress=next((told for told in snapshot.answers.values() if isinstance(told, Progress)), None),
        source=_source(snapshot.source),
        referred=snapshot.referred,
        before=_before(snapshot),
        busy=heard(snapshot.answers),
    )


def _before(snapshot: Snapshot) -> str | None:
    """One that is being deleted publishes nothing any more."""
    staying = [raw["metadata"] for raw in snapshot.rivals if "deletionTimestamp" not in raw["metadata"]]
    own = snapshot.subject["metadata"]
    first = min([own, *staying], key=lambda each: (each.get("creationTimestamp", ""), each["uid"]))
    return None if first["uid"] == own["uid"] else str(first["name"])


def _source(snapshot: Snapshot | None) -> World | None:
    """One that is being deleted is of no use any more."""
    found = snapshot and observe(snapshot)
    return found if found and not found.deleting else None


# The kinds that are made for a FineTuneJob, and that it controls itself.
OWNED = ("Job", "Deployment", "Service", "NetworkPolicy", "PersistentVolumeClaim", "ConfigMap")


def status_of(job: Raw) -> FineTuneJobStatus:
    """The last status as far as it can be read."""
    return status_as(FineTuneJobStatus, job)


def _job(raw: Raw) -> JobState:
    found, spec = conditions(raw), raw["spec"]
    failed = found.get("Failed")
    return JobState(
        ref=ref_of("Job", raw),
        inputs=(raw["metadata"].get("annotations") or {}).get(names.INPUTS, ""),
        suspended=spec.get("suspend", False),
        complete=holds(found.get("Complete")),
        failure=failed.get("reason", "") if failed and holds(failed) else None,
        failure_message=failed.get("message", "") if failed else "",
        limits={key: spec[key] for key in ("backoffLimit", "activeDeadlineSeconds") if key in spec},
        queue=(raw["metadata"].get("labels") or {}).get(names.QUEUE, ""),
    )


def _claim(raw: Raw) -> ClaimState:
    requests = raw["spec"].get("resources", {}).get("requests", {})
    phase = (raw.get("status") or {}).get("phase", "Pending")
    modes = tuple(raw["spec"].get("accessModes") or ())
    return ClaimState(ref_of("PersistentVolumeClaim", raw), phase, str(requests.get("storage", "")), modes)


def _records(raws: Sequence[Raw]) -> dict[str, RecordState]:
    found = {}
    for raw in raws:
        metadata, ref = raw["metadata"], ref_of("ConfigMap", raw)
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
