"""The `restricted` Pod Security Standard, as kubernetes.io/docs/concepts/security/pod-security-standards lists it;
and what a ResourceQuota for cpu and memory asks of containers.
"""

from collections.abc import Iterator
from typing import Any

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def violations(pod: dict[str, Any]) -> list[str]:
    """What in a PodSpec the standard forbids."""
    context = pod.get("securityContext", {})
    containers = [*pod.get("initContainers", []), *pod["containers"]]
    return [
        *(f"{field} is set" for field in ("hostNetwork", "hostPID", "hostIPC") if pod.get(field)),
        *(f"sysctls {context['sysctls']}" for _ in [0] if context.get("sysctls")),
        *(f"volume {volume}" for volume in pod.get("volumes", []) if not set(volume) - {"name"} <= VOLUMES),
        *(f"{container['name']}: {found}" for container in containers for found in _of_container(container, context)),
    ]


def bounded(container: dict[str, Any]) -> bool:
    """Whether a namespace with such a quota takes it."""
    resources = container.get("resources", {})
    return all({"cpu", "memory"} <= set(resources.get(kind, ())) for kind in ("requests", "limits"))


def _of_container(container: dict[str, Any], pod: dict[str, Any]) -> Iterator[str]:
    own = container.get("securityContext", {})
    either = {**pod, **own}
    capabilities = own.get("capabilities", {})
    forbidden = {
        "may run as root": either.get("runAsNonRoot") is not True or either.get("runAsUser") == 0,
        "has no seccomp profile": either.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"),
        "may escalate privileges": own.get("allowPrivilegeEscalation") is not False,
        "is privileged": own.get("privileged", False),
        "keeps capabilities": "ALL" not in capabilities.get("drop", []),
        "adds capabilities": bool(set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}),
        "unmasks /proc": own.get("procMount", "Default") != "Default",
        "takes a port of the node": any("hostPort" in port for port in container.get("ports", [])),
    }
    return (sentence for sentence, found in forbidden.items() if found)
