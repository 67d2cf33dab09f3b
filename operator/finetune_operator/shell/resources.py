"""Every kind of object that the operator deals with, and what it may do to it; the chart's rules are held to this.

`cluster` calls by it, and `informer` watches.
"""

from dataclasses import dataclass

from finetune_operator import names
from finetune_operator.api import engine
from finetune_operator.api.v1alpha1 import API_VERSION, KIND, PLURAL
from finetune_operator.shell.kinds import KINDS


@dataclass(frozen=True, slots=True)
class NamespacedName:
    """Where an object of some kind is."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Key:
    """One of ours: what the queue works on."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"

    @property
    def place(self) -> NamespacedName:
        """Where it is."""
        return NamespacedName(self.namespace, self.name)


@dataclass(frozen=True)
class Resource:
    """A kind of object, the verbs that the operator uses on it, and what of it is watched.

    `optional`: a kind that clusters need not have.
    """

    api_version: str
    plural: str
    verbs: frozenset[str]
    label_selector: str = ""
    field_selector: str = ""
    optional: bool = False

    def path(self, namespace: str | None, name: str = "") -> str:
        """Where it lives in the API; all of it, when no namespace is given."""
        root = "/api/" if "/" not in self.api_version else "/apis/"
        within = f"/namespaces/{namespace}" if namespace else ""
        return f"{root}{self.api_version}{within}/{self.plural}{'/' if name else ''}{name}"


def _resource(
    api_version: str,
    plural: str,
    verbs: str,
    label_selector: str = "",
    field_selector: str = "",
    optional: bool = False,
) -> Resource:
    return Resource(api_version, plural, frozenset(verbs.split()), label_selector, field_selector, optional)


# No label of one of our kinds: a selector can't name one or another.
_OURS = f"{names.MANAGED_BY}={names.FIELD_MANAGER}"


def _made(api_version: str, plural: str, verbs: str = "") -> Resource:
    """What the operator makes; anything else of the kind is none of its business."""
    return _resource(api_version, plural, f"list watch create patch delete {verbs}", label_selector=_OURS)


def _seen(api_version: str, plural: str) -> Resource:
    """What others make from that, with its labels."""
    return _resource(api_version, plural, "list watch", label_selector=_OURS)


RESOURCES: dict[str, Resource] = {
    KIND: _resource(API_VERSION, PLURAL, "get list watch"),
    engine.KIND: _resource(API_VERSION, engine.PLURAL, "get list watch"),
    # A `get` shows what stands where an object of ours should go, or what the manifest names.
    "Job": _made("batch/v1", "jobs", "get"),
    "Deployment": _made("apps/v1", "deployments", "get"),
    "Service": _made("v1", "services", "get"),
    "NetworkPolicy": _resource(
        "networking.k8s.io/v1", "networkpolicies", "get list watch create patch", label_selector=_OURS
    ),
    "PersistentVolumeClaim": _made("v1", "persistentvolumeclaims", "get"),
    "ConfigMap": _made("v1", "configmaps", "get"),
    "ReplicaSet": _seen("apps/v1", "replicasets"),
    # What an Engine's pods should have is said in an annotation.
    "Pod": _resource("v1", "pods", "list watch patch", label_selector=_OURS),
    # Nothing else has the API server's words when it refuses a Job its pod.
    "Event": _resource(
        "v1", "events", "list watch create", field_selector="involvedObject.kind=Job,reason=FailedCreate"
    ),
    # What a queued Job waits for. No label tells those of our Jobs apart.
    "Workload": _resource("kueue.x-k8s.io/v1beta2", "workloads", "list watch", optional=True),
}
# These three and the verbs are read by tests/contract/test_shell_rights.py alone: it holds the chart's roles to them.
STATUSES = tuple(_resource(API_VERSION, f"{kind.plural}/status", "patch") for kind in KINDS.values())
# An Engine falls asleep, and is woken.
SCALES = (_resource(API_VERSION, f"{engine.PLURAL}/scale", "patch"),)
# Owner references that block deletion ask for this right where the cluster enforces it.
FINALIZERS = tuple(_resource(API_VERSION, f"{kind.plural}/finalizers", "update") for kind in KINDS.values())
# In the operator's own namespace alone, by its name; see `leases`.
LEASE = _resource("coordination.k8s.io/v1", "leases", "get create update")
