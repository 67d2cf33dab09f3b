"""The Deployment, the Service and the NetworkPolicy of engines, whatever kind they are made for."""

from collections.abc import Sequence

from finetune_operator import names
from finetune_operator.api.hosting import Rollout
from finetune_operator.pods.metadata import Manifest
from finetune_operator.serving.probes import STARTUP_SECONDS
from finetune_operator.settings import Settings

# What a pod may take to be scheduled, to pull an image of 10 GB and to load its model.
PROGRESS_SECONDS = STARTUP_SECONDS + 900
# Every namespace has this label.
_NAMESPACE = "kubernetes.io/metadata.name"
# Who may ask, as NetworkPolicyPeers, by the operator's setting. Policies add up: where only the pods of stages may, one
# of which evaluates, it is for the policies of others to say who else.
_CLIENTS: dict[str, Manifest] = {
    "everyone": {},
    "namespace": {"from": [{"podSelector": {}}]},
    "none": {"from": [{"podSelector": {"matchExpressions": [{"key": names.JOB, "operator": "Exists"}]}}]},
}


def deployment(
    described: Manifest, selector: dict[str, str], pod: Manifest, replicas: int, rollout: Rollout
) -> Manifest:
    """A Deployment; `described` is its metadata, `pod` the template of its pods, which have the `selector`'s labels."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": described,
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": selector},
            "strategy": _strategy(rollout),
            "progressDeadlineSeconds": PROGRESS_SECONDS,
            "revisionHistoryLimit": 2,
            "template": pod,
        },
    }


def service(described: Manifest, selector: dict[str, str]) -> Manifest:
    """The Service of the pods that have these labels."""
    port = {"name": names.ENGINE_PORT_NAME, "port": 80, "targetPort": names.ENGINE_PORT_NAME, "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": described,
        "spec": {"selector": selector, "ports": [port]},
    }


def policy(described: Manifest, pods: Manifest, settings: Settings, told: Sequence[int] = ()) -> Manifest:
    """A NetworkPolicy: of the pods that this selector finds, the engine's port is all that can be reached, by those
    whom the operator's settings name. `told`: further ports, of what they tell the operator alone.
    """
    clients = _CLIENTS[settings.engine_clients]
    operator: Manifest = {}
    ports = [*told]
    if settings.lease_namespace:
        # finetune-api asks engines, too.
        ports += [names.ENGINE_PORT] if clients else []
        operator = {"from": [{"namespaceSelector": {"matchLabels": {_NAMESPACE: settings.lease_namespace}}}]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": described,
        "spec": {
            "podSelector": pods,
            "policyTypes": ["Ingress"],
            "ingress": [
                {"ports": _tcp([names.ENGINE_PORT])} | clients,
                *([operator | {"ports": _tcp(ports)}] if ports else ()),
            ],
        },
    }


def url(service: str, namespace: str) -> str:
    """Where an OpenAI client within the cluster finds it."""
    return f"http://{service}.{namespace}.svc/v1"


def _strategy(rollout: Rollout) -> Manifest:
    if rollout == Rollout.RECREATE:
        return {"type": "Recreate"}
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def _tcp(ports: Sequence[int]) -> list[Manifest]:
    return [{"port": port, "protocol": "TCP"} for port in ports]
