"""The pod template that stage and hosting pods share: the `restricted` Pod Security Standard in full, no API token,
and of the user's settings those that the manifest offers.
"""

from typing import Any

from finetune_operator import names
from finetune_operator.api.pods import Pod
from finetune_operator.finetunejob.desired.volumes import HOME, Mount
from finetune_operator.finetunejob.target import Manifest, Target
from finetune_operator.pods.affinity import affinity

# The user and group `nonroot` of distroless images, which exists in no image of ours: nothing may depend on a name.
USER = 65532
# Programs that ask who they are (getpass.getuser, in torch's compile cache) find no entry for it in /etc/passwd.
ENVIRONMENT = {"HOME": str(HOME), "USER": "finetune"}


def template(target: Target, stage: str, settings: Pod, container: Manifest, mounts: list[Mount]) -> Manifest:
    """PodTemplateSpec with one container; `settings` are the user's."""
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
        **_placement(target, settings),
    }
    metadata: Manifest = {"labels": {**settings.labels, **names.labels(target.name, target.revision, stage)}}
    if settings.annotations:
        metadata["annotations"] = settings.annotations
    return {"metadata": metadata, "spec": spec}


def container(target: Target, name: str, image: str, resources: dict[str, Any]) -> Manifest:
    """What every container has: an image, its resources, no privileges, and a last word when it crashes."""
    found: Manifest = {
        "name": name,
        "image": image,
        "imagePullPolicy": target.settings.image_pull_policy,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    return found | ({"resources": resources} if resources else {})


def _placement(target: Target, settings: Pod) -> dict[str, Any]:
    found = {
        "nodeSelector": settings.node_selector,
        "tolerations": [toleration.model_dump(by_alias=True, exclude_none=True) for toleration in settings.tolerations],
        "affinity": affinity(target, settings.affinity),
        "serviceAccountName": settings.service_account_name,
        "imagePullSecrets": [{"name": secret.name} for secret in settings.image_pull_secrets],
        "priorityClassName": settings.priority_class_name,
    }
    return {field: value for field, value in found.items() if value}
