"""A kind cluster with the operator installed by its chart, and an S3 server with the model and the rows.

`make e2e` makes the cluster and loads the images; everything after that happens here, as a user would do it.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from kube import HELM, KUBECONFIG, KUBECTL, ROOT, apply, kubectl, picture, run
from recipes import upload

RELEASE, SYSTEM = "finetune-operator", "finetune-system"
NAMESPACE = "kitchen"


@pytest.fixture(scope="session", autouse=True)
def cluster() -> None:
    """The cluster that `make cluster` left."""
    for needed in (KUBECTL, HELM, Path(KUBECONFIG)):
        assert needed.exists(), f"{needed} is not there; run `make cluster images` first, or `make e2e`, which does"
    run([KUBECTL, "wait", "node", "--all", "--for=condition=Ready", "--timeout=120s"], timeout=150)


@pytest.fixture(scope="session", autouse=True)
def operator(cluster: None) -> Iterator[None]:
    """The operator, installed by Helm with the images of this tree."""
    images = {
        "image": "finetune.dev/operator",
        "images.trainer": "finetune.dev/trainer",
        "images.hostingCpu": "finetune.dev/vllm-cpu",
    }
    settings = [f"--set={key}.repository={value},{key}.tag=dev" for key, value in images.items()]
    chart = ROOT / "charts" / "finetune-operator"
    flags = ["--namespace", SYSTEM, "--create-namespace", "--wait", "--timeout", "3m"]
    run([HELM, "upgrade", "--install", RELEASE, chart, *flags, *settings], timeout=240)
    yield
    run([HELM, "uninstall", RELEASE, "--namespace", SYSTEM, "--wait"], timeout=240)


@pytest.fixture(scope="session")
def bucket(cluster: None) -> dict[str, str]:
    """The credentials of the in-cluster S3 server, with the model and the rows in it."""
    run(["bash", ROOT / "hack" / "s3.sh"], timeout=240)
    data = json.loads(kubectl("get", "secret", "s3", "-n", "s3", "-o", "json"))["data"]
    return upload(data)


@pytest.fixture(scope="session")
def kitchen(operator: None, bucket: dict[str, str]) -> Iterator[str]:
    """A namespace that enforces the restricted Pod Security Standard, with the Secret `bucket`."""
    # What an interrupted run left is on its way out, its trainers with a grace of five minutes.
    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=400s", timeout=420)
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bucket", "namespace": NAMESPACE}}
    apply(secret | {"stringData": bucket})
    yield NAMESPACE
    kubectl("delete", "namespace", NAMESPACE, "--timeout=400s", timeout=420)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failed test shows what the cluster looked like."""
    report = yield
    if report.failed and "kitchen" in getattr(item, "fixturenames", ()):
        report.sections.append(("the cluster", picture(NAMESPACE)))
    return report
