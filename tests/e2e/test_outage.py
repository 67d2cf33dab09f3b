"""The cluster itself fails for a while, or its operator is upgraded: what serves and what trains goes on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import RELEASE
from kube import HELM, ROOT, SYSTEM, get, items, kill, kubectl, node_name, paused, run, until_ready, until_told, wait
from recipes import NAME, load, manifest
from stages import FTJ, READY_SECONDS, STAGE_SECONDS, apply_job, first_revision, running

pytestmark = pytest.mark.alone

NEXT = "next"
# A FineTuneJob for each state beside that of NAME, which serves.
TRAINS, FAILED, SUSPENDED = "trains", "failed", "suspended"
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


@contextmanager
def upgraded() -> Iterator[None]:
    """To a release whose images the node does not have: what it starts anew would not run."""
    flags = ["--namespace", SYSTEM, "--wait", "--timeout", "10m"]
    images = "--set=images.trainer.tag=next,images.hostingCpu.tag=next"
    run([HELM, "upgrade", RELEASE, ROOT / "charts" / RELEASE, *flags, "--reuse-values", images], timeout=630)
    try:
        yield
    finally:
        run([HELM, "rollback", RELEASE, *flags], timeout=630)


def test_an_upgrade_of_the_operator_starts_nothing_and_rolls_no_engine(namespace: str, training: str) -> None:
    """After the outage, whose training has ended by now."""
    for job in (manifest(TRAINS, maxSteps=2000), manifest(FAILED, train="s3://recipes/bad.jsonl")):
        job["spec"]["hosting"] = {"enabled": False}
        apply_job(namespace, job)
    asleep = manifest(SUSPENDED)
    asleep["spec"]["suspend"] = True
    apply_job(namespace, asleep)
    wait(namespace, f"ftj/{FAILED}", "condition=DataReady=False", STAGE_SECONDS)
    wait(namespace, f"ftj/{SUSPENDED}", "jsonpath={.status.phase}=Suspended", STAGE_SECONDS)
    trains = running(namespace, "train", first_revision(namespace, TRAINS), TRAINS)
    before = _standing(namespace)
    with upgraded():
        for name in (NAME, NEXT, TRAINS, FAILED, SUSPENDED):
            _until_looked_at(namespace, name)
        assert _standing(namespace) == before
        assert get("pod", trains, namespace)["status"]["phase"] in ("Running", "Succeeded")
    for name in (TRAINS, FAILED, SUSPENDED):
        kubectl("delete", "ftj", name, "-n", namespace)


def _until_looked_at(namespace: str, name: str) -> None:
    """An edit that changes nothing of what is made, and that the operator has seen."""
    kubectl("patch", "ftj", name, "-n", namespace, "--type=merge", "-p", '{"spec": {"ttlAfterFinished": "99h"}}')
    generation = get("ftj", name, namespace)["metadata"]["generation"]
    wait(namespace, f"ftj/{name}", f"jsonpath={{.status.observedGeneration}}={generation}", STAGE_SECONDS)


def _standing(namespace: str) -> dict[str, tuple[str, int]]:
    """Which objects there are, and how often each was changed; of pods, how often they were started again."""
    kinds = ("job", "deployment", "persistentvolumeclaim", "pod")
    found = [raw for kind in kinds for raw in items(kind, namespace, "app.kubernetes.io/managed-by=finetune-operator")]
    return {f"{raw['kind']}/{raw['metadata']['name']}": (raw["metadata"]["uid"], _changes(raw)) for raw in found}


def _changes(raw: dict[str, Any]) -> int:
    if raw["kind"] != "Pod":
        return int(raw["metadata"].get("generation", 0))
    return sum(each["restartCount"] for each in raw["status"].get("containerStatuses", []))
