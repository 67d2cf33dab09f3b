"""What of an object `observe` reads, which is all that the store keeps of it."""

from collections.abc import Callable, Mapping
from typing import Any

from finetune_operator import names
from finetune_operator.api.v1alpha1 import GROUP
from finetune_operator.finetunejob.queue import WORKLOAD_CONDITIONS, made_for
from finetune_operator.pods.applied import ours
from finetune_operator.pods.state import INDEX, main_container
from finetune_operator.pods.template import MAIN_CONTAINER
from finetune_operator.shell.kinds import KINDS

Raw = dict[str, Any]
# Kinds whose managed fields tell whether they still are as they were applied.
_APPLIED_KINDS = ("Deployment", "Service", "NetworkPolicy")
# Labels of others.
_READ = (names.QUEUE, INDEX)


def trim(kind: str, raw: Mapping[str, Any]) -> Raw:
    """What `observe` reads of an object, without what the store's Entry has beside it."""
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
    read = (main["name"], names.ADAPTERS)
    states = [found for found in status.get("containerStatuses") or [] if found["name"] in read]
    # The main one first: what says which it is is not kept.
    loads = [found for found in spec["containers"] if found["name"] == names.ADAPTERS and found is not main]
    told = [found for found in status.get("conditions") or [] if found["type"] in ("Ready", "PodScheduled")]
    return {
        "spec": {
            "containers": [*map(_container, (main, *loads))],
            "volumes": claims,
            **_init(spec, "initContainers", _container),
        },
        "status": {
            **_picked("phase", "podIP")(status),
            "conditions": [_picked("type", "status", "message")(found) for found in told],
            "containerStatuses": [_state(found) for found in states],
            **_init(status, "initContainerStatuses", _state),
        },
    }


def _init(raw: Mapping[str, Any], field: str, trimmed: Callable[[Mapping[str, Any]], Raw]) -> Raw:
    """What there is about the container that fetches a model; others are none of our business."""
    found = [trimmed(each) for each in raw.get(field) or [] if each["name"] == names.FETCH]
    return {field: found} if found else {}


def _state(raw: Mapping[str, Any]) -> Raw:
    return _picked("name", "ready", "restartCount", "state", "lastState")(raw)


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
    **dict.fromkeys(KINDS, _picked("spec", "status")),
    "Job": _job,
    "Deployment": _deployment,
    "Service": lambda raw: {"spec": _picked("selector")(raw["spec"])},
    "PersistentVolumeClaim": _claim,
    "ConfigMap": _picked("data"),
    "Pod": _pod,
    "Workload": _workload,
    "Event": _picked("involvedObject", "message", "lastTimestamp"),
}
