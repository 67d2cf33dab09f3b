"""The cluster itself fails for a while: what serves goes on serving, and what trains goes on training."""

import time

import pytest
from kube import get, items, kill, node_name, paused, until_ready, until_told, wait
from recipes import NAME, load, manifest
from stages import FTJ, READY_SECONDS, STAGE_SECONDS, apply_job, first_revision, running

pytestmark = pytest.mark.alone

NEXT = "next"
PAUSE_SECONDS = 60


@pytest.fixture(scope="module")
def training(namespace: str) -> str:
    """A job that serves, and the pod of another that trains."""
    apply_job(namespace, manifest(maxSteps=2))
    wait(namespace, FTJ, "condition=Ready", READY_SECONDS)
    job = manifest(NEXT, maxSteps=2000)
    job["spec"]["hosting"] = {"enabled": False}
    apply_job(namespace, job)
    pod = running(namespace, "train", first_revision(namespace, NEXT), NEXT)
    wait(namespace, f"ftj/{NEXT}", "jsonpath={.status.progress.activity}=training", STAGE_SECONDS)
    return pod


def test_the_api_server_and_the_node_come_back_to_the_same_pods(namespace: str, training: str) -> None:
    api_server = f"kube-apiserver-{node_name()}"
    engines, restarts = _engines(namespace), _restarts("kube-system", api_server)
    with load(namespace, "meanwhile", NAME) as said:
        kill("kube-system", api_server)
        until_ready()
    # The kubelet says so when it can be told again.
    path = "{.status.containerStatuses[0].restartCount}"
    until_told("kube-system", f"pod/{api_server}", path, lambda told: int(told.strip() or 0) > restarts)
    assert [answer for answer in said if not answer["ok"]] == []
    # No client is asked meanwhile: an engine that stood still drops what came in its last moment.
    with paused():
        time.sleep(PAUSE_SECONDS)
    until_ready()
    wait(namespace, f"ftj/{NEXT}", "condition=Ready", READY_SECONDS)
    wait(namespace, FTJ, "condition=Ready", READY_SECONDS)
    with load(namespace, "afterwards", NAME) as said:
        pass
    assert [answer for answer in said if not answer["ok"]] == []
    assert _engines(namespace) == engines
    # The same trainer, not one started again.
    pod = get("pod", training, namespace)
    assert pod["status"]["phase"] == "Succeeded"
    assert get("ftj", NEXT, namespace)["status"]["phase"] == "Succeeded"


def _engines(namespace: str) -> dict[str, int]:
    """The engine's pods and how often each was started again."""
    pods = items("pod", namespace, f"finetune.dev/job={NAME},finetune.dev/stage=host")
    return {name: _restarts(namespace, name) for name in (pod["metadata"]["name"] for pod in pods)}


def _restarts(namespace: str, pod: str) -> int:
    return int(get("pod", pod, namespace)["status"]["containerStatuses"][0]["restartCount"])
