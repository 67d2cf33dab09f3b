"""What the watches have told so far, trimmed to what `observe` reads, and found by who controls it.

`informer` fills it, `reconcile` takes Snapshots from it and puts in what its own calls were answered, so
that it knows what it did before a watch tells. Being behind by a moment is harmless: changes name the object that they
are meant for, and what deletes is looked at live first.

A hundred thousand objects have to fit: each is kept as JSON, compressed against the first one of its kind.
"""

import zlib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from finetune_operator import names
from finetune_operator.api.v1alpha1 import GROUP, KIND
from finetune_operator.finetunejob.observe import OWNED, Snapshot
from finetune_operator.finetunejob.queue import WORKLOAD_CONDITIONS, made_for
from finetune_operator.pods.applied import ours
from finetune_operator.pods.metadata import controller_of
from finetune_operator.pods.state import INDEX, main_container
from finetune_operator.pods.template import MAIN_CONTAINER
from finetune_operator.shell.resources import Key

Raw = dict[str, Any]
_APPLIED_KINDS = ("Deployment", "Service")
# Labels of others.
_READ = (names.QUEUE, INDEX)


class Entry(NamedTuple):
    """One object: its uid, the version that was seen last, who controls it, and what `observe` reads of it."""

    uid: str
    version: int
    controller: str | None
    data: bytes


class Store:
    """Objects by kind, namespace and name, and by controller."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Key, Entry]] = defaultdict(dict)
        self._controlled: dict[str, list[tuple[str, Key]]] = defaultdict(list)
        self._pods: dict[Key, list[Key]] = defaultdict(list)
        self._samples: dict[str, bytes] = {}
        # An answer to a call of ours may come after the watch has told that the object is gone.
        self._gone: deque[str] = deque(maxlen=1000)

    def put(self, kind: str, raw: Mapping[str, Any]) -> bool:
        """Keep an object as it is now; whether that is news. What is older than what is there is ignored, and so are
        the Workloads of others, which no label tells apart.
        """
        if kind == "Workload" and made_for(raw) is None:
            return False
        metadata = raw["metadata"]
        key = Key(metadata["namespace"], metadata["name"])
        uid, version = metadata["uid"], int(metadata["resourceVersion"])
        before = self._objects[kind].get(key)
        if uid in self._gone or (before and before.version >= version):
            return False
        entry = Entry(uid, version, _controller(kind, raw), self._packed(kind, trim(kind, raw)))
        if before:
            self._forget(kind, key, before)
        self._objects[kind][key] = entry
        if entry.controller:
            self._controlled[entry.controller].append((kind, key))
        if kind == "Pod" and (job := _job_of(raw)):
            self._pods[job].append(key)
        return before is None or before.uid != entry.uid or before.data != entry.data

    def drop(self, kind: str, key: Key, uid: str) -> bool:
        """Forget an object that is gone, unless another one has taken its name since; whether that is news."""
        self._gone.append(uid)
        entry = self._objects[kind].get(key)
        if entry is None or entry.uid != uid:
            return False
        self._forget(kind, key, entry)
        del self._objects[kind][key]
        return True

    def drop_unseen(self, kind: str, namespace: str | None, seen: Iterable[Key], version: int) -> list[Raw]:
        """Forget what a complete list, of this version, did not have; what that was."""
        known = set(seen)
        gone = [
            (key, entry)
            for key, entry in self._objects[kind].items()
            if key not in known and entry.version <= version and namespace in (None, key.namespace)
        ]
        found = [self._unpacked(kind, key, entry) for key, entry in gone]
        for key, entry in gone:
            self.drop(kind, key, entry.uid)
        return found

    def job_of(self, kind: str, raw: Mapping[str, Any]) -> Key | None:
        """The FineTuneJob that an object says it was made for: whom to tell of a change, and no more than that."""
        if kind == "Event":
            metadata = raw["metadata"]
            key = Key(metadata["namespace"], raw["involvedObject"].get("name", ""))
            entry = self._objects["Job"].get(key)
            return _job_of(self._unpacked("Job", key, entry)) if entry else None
        if kind == KIND:
            return Key(raw["metadata"]["namespace"], raw["metadata"]["name"])
        if kind == "Workload":
            name = made_for(raw)
            return Key(raw["metadata"]["namespace"], name) if name else None
        return _job_of(raw)

    def snapshot(self, key: Key) -> Snapshot | None:
        """Everything around a FineTuneJob; None when there is none."""
        entry = self._objects[KIND].get(key)
        if entry is None:
            return None
        children = self._children(entry.uid)
        known = {pod["metadata"]["uid"] for pod in children["Pod"]}
        others = ((pod, self._objects["Pod"][pod]) for pod in self._pods.get(key, ()))
        strangers = [self._unpacked("Pod", pod, found) for pod, found in others if found.uid not in known]
        return Snapshot(job=self._unpacked(KIND, key, entry), children=children, strangers=strangers)

    def _children(self, uid: str) -> dict[str, list[Raw]]:
        """What a FineTuneJob controls, and what is controlled by that in turn, by kind."""
        found: dict[str, list[Raw]] = {kind: [] for kind in (*OWNED, "Pod", "Event", "Workload")}
        pending = [uid]
        while pending:
            for kind, key in sorted(self._controlled.get(pending.pop(), ()), key=str):
                entry = self._objects[kind][key]
                if kind in found:
                    found[kind].append(self._unpacked(kind, key, entry))
                if kind in ("Job", "Deployment", "ReplicaSet"):
                    pending.append(entry.uid)
        return found

    def _packed(self, kind: str, raw: Raw) -> bytes:
        text = to_json(raw)
        packer = zlib.compressobj(zdict=self._samples.setdefault(kind, text))
        return packer.compress(text) + packer.flush()

    def _unpacked(self, kind: str, key: Key, entry: Entry) -> Raw:
        raw: Raw = from_json(zlib.decompressobj(zdict=self._samples[kind]).decompress(entry.data))
        identity = {
            "name": key.name,
            "namespace": key.namespace,
            "uid": entry.uid,
            "resourceVersion": str(entry.version),
        }
        raw["metadata"] |= identity
        return raw

    def _forget(self, kind: str, key: Key, entry: Entry) -> None:
        if entry.controller:
            _discard(self._controlled, entry.controller, (kind, key))
        if kind == "Pod" and (job := _job_of(self._unpacked(kind, key, entry))):
            _discard(self._pods, job, key)


def _discard(index: dict[Any, list[Any]], at: Any, what: Any) -> None:
    index[at].remove(what)
    if not index[at]:
        del index[at]


def _controller(kind: str, raw: Mapping[str, Any]) -> str | None:
    return raw["involvedObject"].get("uid") if kind == "Event" else controller_of(raw)


def _job_of(raw: Mapping[str, Any]) -> Key | None:
    metadata = raw["metadata"]
    name = (metadata.get("labels") or {}).get(names.JOB)
    return Key(metadata["namespace"], name) if name else None


def trim(kind: str, raw: Mapping[str, Any]) -> Raw:
    """What `observe` reads of an object, without what the Entry has beside it."""
    return {"metadata": _metadata(kind, raw["metadata"]), **_TRIMMED.get(kind, _nothing)(raw)}


def _metadata(kind: str, metadata: Mapping[str, Any]) -> Raw:
    found = {
        key: metadata[key]
        for key in ("generation", "deletionTimestamp", "creationTimestamp", "ownerReferences")
        if key in metadata
    }
    for section in ("labels", "annotations"):
        found_there = metadata.get(section) or {}
        own = {key: value for key, value in found_there.items() if key.startswith(f"{GROUP}/") or key in _READ}
        if own:
            found[section] = own
    if kind in _APPLIED_KINDS and (fields := ours(metadata.get("managedFields") or [])) is not None:
        entry = {"manager": names.FIELD_MANAGER, "operation": "Apply", "fieldsV1": fields}
        found["managedFields"] = [entry]
    return found


def _nothing(raw: Mapping[str, Any]) -> Raw:
    return {}


def _picked(*fields: str) -> Callable[[Mapping[str, Any]], Raw]:
    return lambda raw: {field: raw[field] for field in fields if field in raw}


def _job(raw: Mapping[str, Any]) -> Raw:
    fields = ("suspend", "backoffLimit", "activeDeadlineSeconds")
    conditions = (raw.get("status") or {}).get("conditions")
    return {"spec": _picked(*fields)(raw["spec"]), "status": {"conditions": conditions}}


def _pod(raw: Mapping[str, Any]) -> Raw:
    spec, metadata = raw["spec"], raw["metadata"]
    main = main_container(metadata, spec)
    status = raw.get("status") or {}
    claims = [volume for volume in spec.get("volumes") or [] if "persistentVolumeClaim" in volume]
    states = [found for found in status.get("containerStatuses") or [] if found["name"] == main["name"]]
    told = [found for found in status.get("conditions") or [] if found["type"] in ("Ready", "PodScheduled")]
    return {
        "spec": {"containers": [_container(main)], "volumes": claims},
        "status": {
            **_picked("phase", "podIP")(status),
            "conditions": [_picked("type", "status", "message")(found) for found in told],
            "containerStatuses": [_picked("name", "restartCount", "state", "lastState")(found) for found in states],
        },
    }


def _container(raw: Mapping[str, Any]) -> Raw:
    return _picked("name", "image", "resources")(raw)


def _deployment(raw: Mapping[str, Any]) -> Raw:
    pod = raw["spec"]["template"]
    main = main_container(pod["metadata"], pod["spec"])
    status = raw.get("status") or {}
    failures = [found for found in status.get("conditions") or [] if found["type"] == "ReplicaFailure"]
    counts = ("observedGeneration", "replicas", "updatedReplicas", "availableReplicas")
    template = {"metadata": {"annotations": {MAIN_CONTAINER: main["name"]}}, "spec": {"containers": [_container(main)]}}
    return {
        "spec": {**_picked("replicas")(raw["spec"]), "template": template},
        "status": {**_picked(*counts)(status), "conditions": failures},
    }


def _workload(raw: Mapping[str, Any]) -> Raw:
    spec, status = raw["spec"], raw.get("status") or {}
    told = [found for found in status.get("conditions") or [] if found["type"] in WORKLOAD_CONDITIONS]
    checks = [_picked("name", "state", "message")(found) for found in status.get("admissionChecks") or []]
    # Of its pods no more than whose they are.
    template = {"metadata": {"labels": {names.JOB: made_for(raw)}}}
    return {
        "spec": {**_picked("queueName", "active")(spec), "podSets": [{"template": template}]},
        "status": {
            "conditions": [_picked("type", "status", "reason", "message")(found) for found in told],
            "admissionChecks": checks,
        },
    }


def _claim(raw: Mapping[str, Any]) -> Raw:
    return {
        "spec": _picked("resources", "accessModes")(raw["spec"]),
        "status": _picked("phase")(raw.get("status") or {}),
    }


_TRIMMED: dict[str, Callable[[Mapping[str, Any]], Raw]] = {
    KIND: _picked("spec", "status"),
    "Job": _job,
    "Deployment": _deployment,
    "Service": lambda raw: {"spec": _picked("selector")(raw["spec"])},
    "PersistentVolumeClaim": _claim,
    "ConfigMap": _picked("data"),
    "Pod": _pod,
    "Workload": _workload,
    "Event": _picked("involvedObject", "message", "lastTimestamp"),
}
