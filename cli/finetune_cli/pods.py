"""Pods that read for `cluster` what only a revision's own reach: a file for `finetune report`, a claim for `fetch`.

Made from the template of one of those pods: same image, same place, same Pod Security; and small.
"""

from finetune_operator import names

from finetune_cli.kubectl import Raw

# A namespace with a quota takes no pod without.
_RESOURCES = {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
_KEPT = ("image", "imagePullPolicy", "securityContext")
# Of a template's, what no pod has that only reads.
_OTHERS = ("containers", "initContainers", "schedulerName", "subdomain")


def pod_like(template: Raw, name: str, revision: str, purpose: str, seconds: int, **spec: object) -> Raw:
    """One that ends after `seconds`, since whoever asked may be gone by then. `spec`: what else is its own.

    It carries none of the operator's labels, which would make it a stage's pod; so the term that keeps a revision's
    pods together, which it could not match itself, is a preference here.
    """
    together = {
        "weight": 100,
        "podAffinityTerm": {
            "labelSelector": {"matchLabels": {names.JOB: name, names.REVISION: revision}},
            "topologyKey": "kubernetes.io/hostname",
        },
    }
    node = {key: value for key, value in template.get("affinity", {}).items() if key == "nodeAffinity"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": f"{names.of_revision(name, revision)}-{purpose}-"},
        "spec": {
            **{key: value for key, value in template.items() if key not in _OTHERS},
            "affinity": {**node, "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [together]}},
            "activeDeadlineSeconds": seconds,
            "terminationGracePeriodSeconds": 0,
            **spec,
        },
    }


def container_like(like: Raw, name: str, *command: str, kept: tuple[str, ...] = (), **more: object) -> Raw:
    """One that runs a command, made from one of the template's. `kept`: what else it has of that."""
    found = {key: like[key] for key in (*_KEPT, *kept) if key in like}
    return found | {"name": name, "command": list(command), "resources": _RESOURCES} | more
