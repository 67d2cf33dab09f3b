"""The Deployment and the Service of engines, whatever kind they are made for."""

from finetune_operator import names
from finetune_operator.api.hosting import Rollout
from finetune_operator.pods.metadata import Manifest
from finetune_operator.serving.probes import STARTUP_SECONDS

# What a pod may take to be scheduled, to pull an image of 10 GB and to load its model.
PROGRESS_SECONDS = STARTUP_SECONDS + 900


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


def url(service: str, namespace: str) -> str:
    """Where an OpenAI client within the cluster finds it."""
    return f"http://{service}.{namespace}.svc/v1"


def _strategy(rollout: Rollout) -> Manifest:
    if rollout == Rollout.RECREATE:
        return {"type": "Recreate"}
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
