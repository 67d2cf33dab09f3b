"""What the cluster looks like around one Engine: raw objects in, a frozen World out, on which `plan` decides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetune_trainer.contract.adapters import LIST, HeldAdapters

from finetune_operator import names
from finetune_operator.api.engine import KIND, EngineStatus
from finetune_operator.kinds.actions import Id, Ref, ref_of
from finetune_operator.kinds.snapshot import DeploymentState, Snapshot, deployment_state, is_going, status_as
from finetune_operator.pods.metadata import Raw
from finetune_operator.pods.state import PodState, pod_state
from finetune_operator.serving.load import Load
from finetune_operator.serving.requests import heard

# The kinds that are made for an Engine, and that it controls itself.
OWNED = ("Deployment", "Service", "NetworkPolicy", "ConfigMap")
# The entry of the record.
POD = "pod.json"


@dataclass(frozen=True)
class EngineRecord:
    """The record: the pods as they were made for a manifest, of which `inputs` is the digest; and the adapters that a
    new one begins with.
    """

    ref: Ref
    version: str
    inputs: str
    pod: str | None
    adapters: str | None = None


@dataclass(frozen=True)
class Loader:
    """A pod as one that loads adapters: those that it was told to have, and what it said that it has.

    `mute`: it was asked, and has never said anything.
    """

    ref: Ref
    address: str | None
    live: bool
    ready: bool
    wanted: str
    held: HeldAdapters | None
    mute: bool = False


@dataclass(frozen=True)
class World:
    """Everything that a decision about one Engine is made from.

    `named`: whether what it depends on was there. `objects`: what it owns, raw. `loads`: what FineTuneJobs have made
    that names this Engine, raw. `busy`: what its pods told last of their load, by name.
    """

    name: str
    namespace: str
    uid: str
    ref: Ref
    version: str
    generation: int = 0
    deleting: bool = False
    upgrade: str = ""
    spec: Raw = field(default_factory=dict)
    status: EngineStatus = field(default_factory=EngineStatus)
    deployment: DeploymentState | None = None
    pods: tuple[PodState, ...] = ()
    record: EngineRecord | None = None
    loaders: tuple[Loader, ...] = ()
    loads: Mapping[str, Sequence[Raw]] = field(default_factory=dict)
    named: Mapping[Id, bool] = field(default_factory=dict)
    # Why what is to be in `named` could not be looked up, in a sentence.
    unread: str = ""
    objects: Mapping[Id, Raw] = field(default_factory=dict)
    busy: Mapping[str, Load] = field(default_factory=dict)


def observe(snapshot: Snapshot) -> World:
    """Read a snapshot."""
    metadata, children = snapshot.subject["metadata"], snapshot.children
    name = metadata["name"]
    objects = {(kind, raw["metadata"]["name"]): raw for kind in OWNED for raw in children.get(kind, [])}
    deployment, record = objects.get(("Deployment", name)), objects.get(("ConfigMap", names.of_engine(name)))
    pods = (pod_state(raw) for raw in children.get("Pod", []))
    return World(
        name=name,
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        ref=ref_of(KIND, snapshot.subject),
        version=metadata.get("resourceVersion", ""),
        generation=metadata.get("generation", 0),
        deleting="deletionTimestamp" in metadata,
        upgrade=(metadata.get("annotations") or {}).get(names.UPGRADE, ""),
        spec=snapshot.subject.get("spec", {}),
        status=status_of(snapshot.subject),
        deployment=deployment_state(deployment) if deployment else None,
        pods=tuple(sorted(pods, key=lambda pod: (pod.created, pod.name))),
        record=_record(record) if record else None,
        loaders=tuple(_loader(raw, snapshot.answers) for raw in _by_name(children.get("Pod", []))),
        loads=snapshot.loads,
        named={found: raw is not None and not is_going(raw, KIND, name) for found, raw in snapshot.named.items()},
        unread=snapshot.unread,
        objects=objects,
        busy=heard(snapshot.answers),
    )


def status_of(engine: Raw) -> EngineStatus:
    """The last status as far as it can be read."""
    return status_as(EngineStatus, engine)


def _record(raw: Raw) -> EngineRecord:
    metadata = raw["metadata"]
    return EngineRecord(
        ref=ref_of("ConfigMap", raw),
        version=metadata.get("resourceVersion", ""),
        inputs=(metadata.get("annotations") or {}).get(names.INPUTS, ""),
        pod=(raw.get("data") or {}).get(POD),
        adapters=(raw.get("data") or {}).get(LIST),
    )


def _by_name(pods: Sequence[Raw]) -> list[Raw]:
    return sorted(pods, key=lambda raw: str(raw["metadata"]["name"]))


def _loader(raw: Raw, answers: Mapping[str, Any]) -> Loader:
    metadata, state = raw["metadata"], pod_state(raw)
    wanted = (metadata.get("annotations") or {}).get(names.ADAPTERS_WANTED, "")
    live = state.live and not state.deleting
    held = answers.get(state.name)
    mute = state.name in answers and held is None
    return Loader(ref_of("Pod", raw), state.ip, live, state.ready, wanted, held, mute)
