"""What a FineTuneJob's status tells of its own engine: pods that answer, requests, and what is left of the cache."""

from datetime import timedelta
from typing import Any

import pytest
from finetune_operator import names
from finetune_trainer.contract.results import Progress
from rehearsal import CHECKPOINTS, TRAINED, Rehearsal
from test_engine_sleep import load

READY = {"type": "Ready", "status": "True"}


@pytest.fixture
def serving(cluster: Rehearsal) -> Rehearsal:
    """One that serves, with a pod that answers."""
    cluster.serve()
    answers(cluster, "host-1")
    cluster.reconcile()
    return cluster


def answers(cluster: Rehearsal, name: str, **metadata: Any) -> None:
    status = {"phase": "Running", "podIP": "10.0.0.7", "conditions": [READY]}
    cluster.pod("host", status, name, **metadata)


def told(cluster: Rehearsal) -> Any:
    cluster.reconcile()
    return cluster.job["status"].get("requests")


def test_the_pods_behind_the_endpoint_are_asked_and_what_they_say_is_told(serving: Rehearsal) -> None:
    asked = {name: (each.address, each.topic.path, each.every) for name, each in serving.look().ask.items()}
    assert asked == {"host-1/load": ("10.0.0.7", "/metrics", 4)}
    status = serving.job["status"]
    assert (status["replicas"], status["availableReplicas"], status.get("requests")) == (1, 1, None)
    at = serving.now.isoformat().replace("+00:00", "Z")
    serving.loads = {"host-1/load": load(running=3, waiting=1, cache=0.41)}
    busy = {"running": 3, "waiting": 1, "cacheUsed": "0.41"}
    assert told(serving) == busy | {"pods": [{"pod": "host-1"} | busy], "at": at}


def test_another_count_is_told_half_a_minute_later_and_the_same_one_never(serving: Rehearsal) -> None:
    serving.loads = {"host-1/load": load(running=3)}
    first = told(serving)
    serving.loads = {"host-1/load": load(running=1)}
    assert told(serving) == first
    again = serving.look().again_after
    assert again is not None
    serving.now += timedelta(seconds=again)
    second = told(serving)
    assert (first["running"], second["running"]) == (3, 1)
    serving.now += timedelta(hours=1)
    assert told(serving) == second
    # Nor does an operator that has just started, and has asked nobody yet, say anything else.
    serving.loads = {}
    assert told(serving) == second


def test_what_pods_said_that_are_gone_is_not_told_of_others(serving: Rehearsal) -> None:
    serving.loads = {"host-1/load": load(running=3)}
    assert told(serving)
    # Another one takes its place, which has not been asked yet.
    del serving.objects["Pod", "host-1"]
    answers(serving, "host-2")
    serving.loads = {}
    assert told(serving) is None


def test_a_candidate_is_not_what_users_ask(serving: Rehearsal) -> None:
    serving.edit(training={"maxSteps": 60})
    serving.train()
    answers(serving, "candidate-1")
    assert set(serving.look().ask) == {"host-1/load"}


def test_a_checkpoint_that_a_person_chose_is_asked_in_its_place(cluster: Rehearsal) -> None:
    cluster.edit(training={"maxSteps": 40, "keepCheckpoints": 3})
    cluster.train(TRAINED | {"checkpoints": CHECKPOINTS})
    cluster.roll_out()
    cluster.reconcile()
    answers(cluster, "host-1")
    revision = cluster.job["status"]["servedRevision"]
    cluster.job["metadata"]["annotations"] = {names.PROMOTE: f"{revision}@30"}
    cluster.reconcile()
    name = names.of_stage("recipes", revision, "checkpoint-30")
    raw = cluster.objects["Deployment", name]
    counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), 1)
    raw["status"] = counts | {"observedGeneration": 1}
    cluster.reconcile()
    owner = {"ownerReferences": [{"uid": raw["metadata"]["uid"], "controller": True}]}
    answers(cluster, "checkpoint-1", labels=raw["spec"]["template"]["metadata"]["labels"], **owner)
    assert set(cluster.look().ask) == {"checkpoint-1/load"}


def test_progress_is_told_beside_it(serving: Rehearsal) -> None:
    serving.loads = {"host-1/load": load(running=3)}
    serving.edit(training={"maxSteps": 60})
    serving.reconcile()
    serving.running("prepare")
    assert len(serving.look().ask) == 2
    serving.progress = Progress(stage="prepare", activity="reading rows")
    assert told(serving)["running"] == 3
    assert serving.job["status"]["progress"]["activity"] == "reading rows"


def test_a_manifest_that_is_not_valid_keeps_nobody_from_asking_what_serves(serving: Rehearsal) -> None:
    serving.edit(model={"source": "nowhere"})
    assert set(serving.look().ask) == {"host-1/load"}
