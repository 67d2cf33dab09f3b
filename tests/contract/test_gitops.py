"""The commands of docs/gitops.md, as they stand there, against a real API server."""

import json
import os
import re
import subprocess

from control_plane import ControlPlane, Kubectl, binary
from paths import ROOT

KEY = "resource.customizations.health.finetune.dev_FineTuneJob"


def test_the_health_script_is_added_to_what_argo_cd_has(control_plane: ControlPlane, admin: Kubectl) -> None:
    admin("create", "namespace", "argocd")
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm", "namespace": "argocd"}}
    admin("apply", "-f-", document=theirs | {"data": {"url": "https://argocd.example.com"}})
    (command,) = re.findall(r"(?m)^    kubectl patch configmap argocd-cm(?:.*\n)+?(?=\n)", page())
    tools = f"{binary('kubectl').parent}:{os.environ['PATH']}"
    environment = {**os.environ, "KUBECONFIG": str(control_plane.kubeconfig()), "PATH": tools}
    for _ in range(2):
        subprocess.run(["bash", "-eo", "pipefail", "-c", command], cwd=ROOT, env=environment, check=True, timeout=60)
    data = json.loads(admin("get", "configmap", "argocd-cm", "-n", "argocd", "-o", "json"))["data"]
    assert data == {
        "url": "https://argocd.example.com",
        KEY: (ROOT / "docs" / "argocd" / "health.lua").read_text(),
    }


def page() -> str:
    return (ROOT / "docs" / "gitops.md").read_text()
