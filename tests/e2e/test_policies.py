"""The chart's NetworkPolicies, enforced: the operator does its work through them, and others reach what is theirs.

Every story runs with them; here is what they keep out.
"""

import subprocess
from typing import Any

import pytest
from kube import ENVIRONMENT, KUBECTL, SYSTEM, get, wait
from recipes import answers, client, manifest
from stages import FTJ, STAGE_SECONDS, apply_job, first_revision, operator_pods, running

# Others restart the operator, whose pod is asked here.
pytestmark = pytest.mark.alone

ASK_S3 = "import urllib.request; urllib.request.urlopen('http://s3.s3.svc:7070', timeout=5)"


def url(namespace: str, pod: str, port: str, path: str) -> str:
    """Where a pod answers on a named port."""
    found = get("pod", pod, namespace)
    ports = {port["name"]: port["containerPort"] for port in found["spec"]["containers"][0]["ports"]}
    return f"http://{found['status']['podIP']}:{ports[port]}/{path}"


def operator_pod() -> str:
    return operator_pods()[0]


@pytest.fixture(scope="module")
def asked(namespace: str) -> dict[str, dict[str, Any]]:
    """What another pod is answered while a stage runs whose progress the operator has read."""
    job = manifest(maxSteps=100_000)
    job["spec"]["hosting"] = {"enabled": False}
    apply_job(namespace, job)
    pod = running(namespace, "train", first_revision(namespace))
    wait(namespace, FTJ, "jsonpath={.status.progress.stage}=train", STAGE_SECONDS)
    urls = {
        "status": url(namespace, pod, "status", "status"),
        "health": url(SYSTEM, operator_pod(), "health", "healthz"),
        "metrics": url(SYSTEM, operator_pod(), "metrics", "metrics"),
    }
    client(namespace, "reach", "reach", *urls.values())
    return dict(zip(urls, answers(namespace, "reach", STAGE_SECONDS), strict=True))


def test_another_pod_does_not_reach_a_stages_status(asked: dict[str, dict[str, Any]]) -> None:
    assert "timed out" in asked["status"]["error"]


def test_another_pod_reaches_the_operators_metrics_and_no_more(asked: dict[str, dict[str, Any]]) -> None:
    assert asked["metrics"]["ok"]
    assert "timed out" in asked["health"]["error"]


def test_the_operator_itself_reaches_nothing_else(ground: None) -> None:
    tried = subprocess.run(
        [str(KUBECTL), "exec", "-n", SYSTEM, operator_pod(), "--", "python", "-c", ASK_S3],
        capture_output=True,
        text=True,
        timeout=300,
        env=ENVIRONMENT,
    )
    assert "timed out" in tried.stderr
