"""The commands of docs/gitops.md, as they stand there, against a real API server."""

import json
import os
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import chart
import yaml
from control_plane import PATIENCE, ControlPlane, Kubectl, binary
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
        subprocess.run(
            ["bash", "-eo", "pipefail", "-c", command], cwd=ROOT, env=environment, check=True, timeout=PATIENCE
        )
    data = json.loads(admin("get", "configmap", "argocd-cm", "-n", "argocd", "-o", "json"))["data"]
    assert data == {
        "url": "https://argocd.example.com",
        KEY: (ROOT / "docs" / "argocd" / "health.lua").read_text(),
    }


def test_the_kustomize_base_is_taken_by_an_api_server(admin: Kubectl) -> None:
    """The definitions are there already; the namespace has to be there before what it holds."""
    admin("apply", "--server-side", "--force-conflicts", f"-f{ROOT / 'deploy/operator/namespace.yaml'}")
    taken = admin("apply", "--server-side", "--dry-run=server", "-o", "name", f"-k{ROOT / 'deploy'}").split()
    rendered = {f"{raw['kind'].lower()}/{raw['metadata']['name']}" for raw in chart.render() if raw["kind"] != "Pod"}
    assert {name.partition("/")[0].partition(".")[0] + "/" + name.partition("/")[2] for name in taken} == {
        *rendered,
        f"namespace/{chart.SYSTEM}",
    }


def test_the_documented_overlay_changes_images_and_settings_of_the_base(admin: Kubectl, tmp_path: Path) -> None:
    (text,) = [found for found in blocks() if "\nkind: Kustomization\nresources:" in found]
    (tmp_path / "kustomization.yaml").write_text(
        text.replace("../finetune-operator/deploy", os.path.relpath(ROOT / "deploy", tmp_path))
    )
    objects = list(yaml.safe_load_all(admin("kustomize", str(tmp_path))))
    ((container,),) = [
        each["spec"]["template"]["spec"]["containers"] for each in objects if each["kind"] == "Deployment"
    ]
    assert container["image"] == f"registry.example.com/finetune/operator:{version('finetune-operator')}"
    settings = {each["name"]: each.get("value") for each in container["env"]}
    assert settings["FINETUNE_TRAINER_IMAGE"].startswith("registry.example.com/finetune/trainer:")
    assert len(settings) > 10


def test_the_documented_values_are_the_charts() -> None:
    documents = {each["kind"]: each for text in blocks() for each in yaml.safe_load_all(text) if "chart" in str(each)}
    assert {"Application", "HelmRelease"} <= set(documents)
    for values in (
        documents["Application"]["spec"]["source"]["helm"]["valuesObject"],
        documents["HelmRelease"]["spec"]["values"],
    ):
        assert values
        assert chart.one(chart.render(**values), "Deployment")


def blocks() -> list[str]:
    """The YAML of the page."""
    return re.findall(r"(?s)```yaml\n(.*?)```", page())


def page() -> str:
    return (ROOT / "docs" / "gitops.md").read_text()
