"""What happens to pods and volumes of a cluster: memory runs out, a volume is full, a node is drained."""

from collections.abc import Iterator
from typing import Any

import pytest
from kube import apply, evict, get, kubectl, node, wait
from recipes import NAME, load, manifest, until_answered
from stages import (
    FTJ,
    READY_SECONDS,
    STAGE_SECONDS,
    apply_job,
    condition,
    first_revision,
    patch_job,
    running,
    stage_pod,
    trains,
)

FULL = "full"
DIRECTORY = f"/var/lib/finetune-{FULL}"


def engine_memory(limit: str) -> dict[str, Any]:
    return {"hosting": {"contextLength": 512, "resources": {"limits": {"memory": limit}}}}


@pytest.fixture(scope="module")
def served(namespace: str) -> str:
    apply_job(namespace, manifest(maxSteps=2))
    wait(namespace, FTJ, "condition=Ready", READY_SECONDS)
    return namespace


def test_an_engine_killed_by_memory_is_told_while_the_one_before_it_answers(served: str) -> None:
    with load(served, "memory", NAME) as said:
        patch_job(served, engine_memory("200Mi"))
        wait(served, FTJ, "condition=Hosted=False", STAGE_SECONDS)
        found = condition(served, "Hosted")
        assert found["reason"] == "MemoryLimitExceeded"
        assert "its limit of 200Mi and was killed; raise resources.limits.memory" in found["message"]
        patch_job(served, engine_memory("6Gi"))
        wait(served, FTJ, "condition=Ready", READY_SECONDS)
    assert [answer for answer in said if not answer["ok"]] == []


def test_an_evicted_engine_is_started_again_and_answers(served: str) -> None:
    with load(served, "eviction", NAME) as said:
        pod = running(served, "host", first_revision(served))
        evict(served, pod)
        wait(served, f"pod/{pod}", "delete", STAGE_SECONDS)
        until_answered(served, "eviction")
        wait(served, FTJ, "condition=Ready", READY_SECONDS)
    # One replica: nobody answers until the next engine is up. Then it does, without anybody's help.
    ok = [answer["ok"] for answer in said]
    assert (ok[0], all(ok), ok[-1]) == (True, False, True), said


def test_an_evicted_trainer_costs_no_retry(namespace: str) -> None:
    job = manifest("evicted", maxSteps=500, retries=0)
    job["spec"]["hosting"] = {"enabled": False}
    apply_job(namespace, job)
    rev = first_revision(namespace, "evicted")
    pod = stage_pod(namespace, "train", rev, "evicted")
    trains(namespace, pod)
    evict(namespace, pod)
    wait(namespace, f"pod/{pod}", "delete", STAGE_SECONDS)
    assert running(namespace, "train", rev, "evicted") != pod
    wait(namespace, "ftj/evicted", "condition=Ready", READY_SECONDS)
    assert get("ftj", "evicted", namespace)["status"]["phase"] == "Succeeded"


@pytest.fixture
def small_volume() -> Iterator[None]:
    """A volume of 8 MiB that says it has 2 GiB: a claim's size is a promise that a class need not keep."""
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": FULL},
        "spec": {
            "storageClassName": FULL,
            "capacity": {"storage": "2Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": DIRECTORY},
        },
    }
    node("sh", "-c", f"mkdir -p {DIRECTORY} && mount -t tmpfs -o size=8m,mode=777 {FULL} {DIRECTORY}")
    apply(volume)
    yield
    kubectl("delete", "pv", FULL, "--wait=false")
    node("umount", "--lazy", DIRECTORY)


def test_a_full_volume_is_told_and_goes_on_once_there_is_room(namespace: str, small_volume: None) -> None:
    job = manifest(FULL, maxSteps=2)
    job["spec"]["hosting"] = {"enabled": False}
    job["spec"]["workspace"]["storageClassName"] = FULL
    apply_job(namespace, job)
    wait(namespace, f"ftj/{FULL}", "condition=DataReady=False", STAGE_SECONDS)
    assert condition(namespace, "DataReady", FULL)["reason"] == "WorkspaceFull"
    node("mount", "-o", "remount,size=256m", DIRECTORY)
    kubectl("annotate", "ftj", FULL, "-n", namespace, "finetune.dev/retry=1")
    wait(namespace, f"ftj/{FULL}", "condition=Ready", READY_SECONDS)
    assert get("ftj", FULL, namespace)["status"]["phase"] == "Succeeded"
