"""The chart as Helm renders it, for the tests of the chart and for the rights that the operator's process is given."""

import json
import subprocess
from collections.abc import Iterable
from typing import Any

import yaml
from control_plane import PATIENCE, ControlPlane, Kubectl, binary
from paths import ROOT

CHART = ROOT / "charts" / "finetune-operator"
RELEASE, SYSTEM = "finetune-operator", "finetune-system"
# Helm built from its module doesn't know which Kubernetes it was built for.
KUBERNETES = "1.34.4"

Manifest = dict[str, Any]


def render(**values: Any) -> list[Manifest]:
    """The manifests of a release with these values, those of `helm test` included."""
    done = _template(values)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def refusal(**values: Any) -> str:
    """What Helm says about values that it refuses."""
    done = _template(values)
    assert done.returncode != 0, f"Helm takes {values}"
    return done.stderr


def one(manifests: list[Manifest], kind: str, name: str = RELEASE) -> Manifest:
    """The one object of that kind and name."""
    (found,) = (each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name)
    return found


def rights(*users: str, **values: Any) -> list[Manifest]:
    """The rules of a release, bound to users instead of its ServiceAccount."""
    kinds = ("ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
    found = [manifest for manifest in render(**values) if manifest["kind"] in kinds]
    subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user} for user in users]
    return [manifest | ({"subjects": subjects} if "subjects" in manifest else {}) for manifest in found]


def give(plane: ControlPlane, kubectl: Kubectl, manifests: Iterable[Manifest]) -> None:
    """Apply the rules of a release, and wait until the API server heeds each that is bound to a user."""
    manifests = list(manifests)
    for manifest in manifests:
        kubectl("apply", "-f-", document=manifest)
    roles = {
        (found["kind"], found["metadata"].get("namespace", ""), found["metadata"]["name"]): found
        for found in manifests
        if "rules" in found
    }
    for binding in (found for found in manifests if "subjects" in found):
        namespace = binding["metadata"].get("namespace", "")
        kind, name = binding["roleRef"]["kind"], binding["roleRef"]["name"]
        role = roles[kind, namespace if kind == "Role" else "", name]
        rule = next(found for found in role["rules"] if "resourceNames" not in found)
        for subject in binding["subjects"]:
            right = (rule[key][0] for key in ("verbs", "resources", "apiGroups"))
            plane.until_allowed(subject["name"], *right, namespace)


def _template(values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    command = [binary("helm"), "template", RELEASE, CHART, "-n", SYSTEM, "--kube-version", KUBERNETES, "--values=-"]
    return subprocess.run(
        command, input=json.dumps(values), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
