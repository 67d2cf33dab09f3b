"""Helm against a real API server: what a release leaves when it is upgraded and when it is uninstalled."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chart import CHART, RELEASE, SYSTEM
from control_plane import Kubectl, binary
from finetune_operator.api.crd import FINETUNEJOB
from rehearsal import MANIFEST

CRD = "crd/finetunejobs.finetune.dev"
Helm = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def helm(admin: Kubectl, tmp_path: Path) -> Iterator[Helm]:
    """Helm as the administrator, in a release namespace of its own; no release is left."""
    homes = {f"HELM_{kind}_HOME": str(tmp_path / kind) for kind in ("CACHE", "CONFIG", "DATA")}
    environment = {**os.environ, **homes, "KUBECONFIG": str(admin.kubeconfig)}

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(each) for each in (binary("helm"), *arguments, "--namespace", SYSTEM)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    yield run
    run("uninstall", RELEASE, "--ignore-not-found")
    admin("label", CRD, "app.kubernetes.io/managed-by-")
    admin("annotate", CRD, "meta.helm.sh/release-name-", "meta.helm.sh/release-namespace-")


def succeed(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def earlier_chart(tmp_path: Path) -> Path:
    """The chart of a version whose schema called a column otherwise."""
    chart = shutil.copytree(CHART, tmp_path / "earlier")
    crd = chart / "templates" / FINETUNEJOB.chart_path.name
    assert "name: Progress\n" in crd.read_text()
    crd.write_text(crd.read_text().replace("name: Progress\n", "name: HowFar\n"))
    return chart


def columns(admin: Kubectl) -> list[str]:
    return admin("get", CRD, "-o", "jsonpath={.spec.versions[0].additionalPrinterColumns[*].name}").split()


def test_the_definition_and_the_users_jobs_survive_upgrade_and_uninstall(
    helm: Helm, admin: Kubectl, kubectl: Kubectl, earlier_chart: Path
) -> None:
    # The tests' API server has the definition already, from no release.
    succeed(helm("install", RELEASE, earlier_chart, "--create-namespace", "--take-ownership"))
    assert "HowFar" in columns(admin)
    job = {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "recipes"}}
    kubectl("apply", "-f-", document=job | {"spec": MANIFEST})
    uid = kubectl("get", "ftj", "recipes", "-o", "jsonpath={.metadata.uid}")

    succeed(helm("upgrade", RELEASE, CHART, "--set", "logFormat=text"))
    assert "HowFar" not in columns(admin)
    assert "Progress" in columns(admin)

    succeed(helm("uninstall", RELEASE))
    assert kubectl("get", "ftj", "recipes", "-o", "jsonpath={.metadata.uid}") == uid
    kinds = "all,serviceaccounts,roles,rolebindings,netpol,pdb"
    left = json.loads(admin("get", kinds, "--namespace", SYSTEM, "-o", "json"))["items"]
    assert left == []
    assert RELEASE not in admin("get", "clusterroles,clusterrolebindings", "-o", "name")

    succeed(helm("install", RELEASE, CHART))
    assert kubectl("get", "ftj", "recipes", "-o", "jsonpath={.metadata.uid}") == uid


def test_a_definition_that_is_there_already_stays_whose_it_is(helm: Helm, admin: Kubectl) -> None:
    done = helm("install", RELEASE, CHART, "--create-namespace")
    assert 'CustomResourceDefinition "finetunejobs.finetune.dev"' in done.stderr
    before = admin("get", CRD, "-o", "jsonpath={.metadata.resourceVersion}")
    succeed(helm("install", RELEASE, CHART, "--create-namespace", "--set", "crds.install=false"))
    assert admin("get", CRD, "-o", "jsonpath={.metadata.resourceVersion}") == before


def test_namespaces_to_watch_must_exist(helm: Helm, namespace: str) -> None:
    values = ("--create-namespace", "--set", "crds.install=false")
    done = helm("install", RELEASE, CHART, *values, "--set", f"watchNamespaces={{{namespace},nowhere}}")
    assert 'namespaces "nowhere" not found' in done.stderr
    succeed(helm("upgrade", "--install", RELEASE, CHART, *values, "--set", f"watchNamespaces={{{namespace}}}"))
