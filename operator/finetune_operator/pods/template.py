"""The pod template that pods of every kind share: the `restricted` Pod Security Standard in full, no API token, and of
the user's settings those that the manifest offers.
"""

from typing import Any

from finetune_operator.api.pods import Pod
from finetune_operator.pods.affinity import affinity, preferring
from finetune_operator.pods.metadata import Manifest
from finetune_operator.pods.mounts import HOME, Mount

# The user and group `nonroot` of distroless images, which exists in no image of ours: nothing may depend on a name.
USER = 65532
# Programs that ask who they are (getpass.getuser, in torch's compile cache) find no entry for it in /etc/passwd.
ENVIRONMENT = {"HOME": str(HOME), "USER": "finetune"}
# Kubernetes' own annotation: the container that `kubectl logs` takes, and that a diagnosis is about.
MAIN_CONTAINER = "kubectl.kubernetes.io/default-container"


def template(
    labels: dict[str, str],
    settings: Pod,
    container: Manifest,
    mounts: list[Mount],
    together: dict[str, str] | None = None,
    near: dict[str, str] | None = None,
) -> Manifest:
    """PodTemplateSpec with one container; `settings` are the user's.

    `together`: the labels of pods that have to be on one node, this one among them; None where they may spread.
    `near`: those of pods that it had better be with.
    """
    spec: Manifest = {
        "automountServiceAccountToken": False,
        # Service environment variables could be taken for the engine's own settings (a Service named vllm).
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container | {"volumeMounts": [mount.mount() for mount in mounts]}],
        "volumes": [mount.volume() for mount in mounts],
        **_placement(settings, together, near),
    }
    annotations = {**settings.annotations, MAIN_CONTAINER: container["name"]}
    return {"metadata": {"labels": {**settings.labels, **labels}, "annotations": annotations}, "spec": spec}


def container(name: str, image: str, pull_policy: str, resources: dict[str, Any]) -> Manifest:
    """What every container has: an image, its resources, no privileges, and a last word when it crashes."""
    found: Manifest = {
        "name": name,
        "image": image,
        "imagePullPolicy": pull_policy,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    return found | ({"resources": resources} if resources else {})


def _placement(settings: Pod, together: dict[str, str] | None, near: dict[str, str] | None) -> dict[str, Any]:
    given = settings.affinity.model_dump(by_alias=True, exclude_defaults=True)
    found = {
        "nodeSelector": settings.node_selector,
        "tolerations": [toleration.model_dump(by_alias=True, exclude_none=True) for toleration in settings.tolerations],
        "affinity": affinity(preferring(given, near), together),
        "serviceAccountName": settings.service_account_name,
        "imagePullSecrets": [{"name": secret.name} for secret in settings.image_pull_secrets],
        "priorityClassName": settings.priority_class_name,
    }
    return {field: value for field, value in found.items() if value}
