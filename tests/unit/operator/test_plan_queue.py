"""A training that Kueue holds back: what is told of it, and that its admission and its eviction are left alone."""

from typing import Any

import pytest
from rehearsal import MANIFEST, PREPARED, TRAINED, Rehearsal

QUEUE = "kueue.x-k8s.io/queue-name"
NO_QUOTA = "insufficient unused quota for nvidia.com/gpu in flavor gpus, 1 more needed"
MISSING = "LocalQueue team-a doesn't exist"
PREEMPTED = "Preempted to accommodate a workload (UID: 0) due to prioritization in the ClusterQueue"


@pytest.fixture
def queued() -> Rehearsal:
    """A training whose Job is made, and of which Kueue does not know yet."""
    cluster = Rehearsal(training=MANIFEST["training"] | {"queue": "team-a"})
    cluster.reconcile()
    cluster.complete("prepare", PREPARED)
    cluster.reconcile()
    return cluster


def condition(kind: str, status: str, reason: str, message: str) -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def says(cluster: Rehearsal, *conditions: dict[str, str], stage: str = "train", **rest: Any) -> None:
    """What Kueue writes into the Workload that it makes of the Job."""
    job = cluster.get("Job", f"-{stage}")
    owner = {"kind": "Job", "name": job["metadata"]["name"], "uid": job["metadata"]["uid"], "controller": True}
    cluster.objects["Workload", "job-recipes"] = {
        "metadata": {"name": "job-recipes", "uid": "workload", "ownerReferences": [owner]},
        "spec": {"queueName": job["metadata"]["labels"].get(QUEUE, ""), **rest.get("spec", {})},
        "status": {"conditions": list(conditions), "admissionChecks": rest.get("checks", [])},
    }
    cluster.reconcile()


def admitted(cluster: Rehearsal) -> None:
    """Kueue admits the Job, and lets it go on."""
    cluster.get("Job", "-train")["spec"]["suspend"] = False
    says(
        cluster, condition("QuotaReserved", "True", "QuotaReserved", ""), condition("Admitted", "True", "Admitted", "")
    )


def suspended(cluster: Rehearsal) -> bool:
    return bool(cluster.get("Job", "-train")["spec"]["suspend"])


def test_it_waits_for_quota_with_kueues_words(queued: Rehearsal) -> None:
    says(queued, condition("QuotaReserved", "False", "Pending", NO_QUOTA))
    status, reason, message = queued.condition("Trained")
    assert (status, reason) == ("Unknown", "Queued")
    assert message == (
        f"Job recipes-{queued.revision}-train waits for quota of LocalQueue team-a. Kueue says: {NO_QUOTA}."
    )
    assert queued.status["phase"] == "Queued"
    assert queued.condition("Ready")[1] == "Queued"
    assert suspended(queued)


def test_before_kueue_has_seen_it_the_message_says_what_may_be_missing(queued: Rehearsal) -> None:
    status, reason, message = queued.condition("Trained")
    assert (status, reason) == ("Unknown", "Queued")
    assert "Kueue has not taken it up yet. If that lasts, look whether Kueue is installed" in message
    assert suspended(queued)


@pytest.mark.parametrize("reason", ["Inadmissible", "Misconfigured"])
def test_a_queue_that_is_not_there_waits_for_somebody(queued: Rehearsal, reason: str) -> None:
    says(queued, condition("QuotaReserved", "False", reason, MISSING))
    status, found, message = queued.condition("Trained")
    assert (status, found, queued.status["phase"]) == ("False", "Queued", "Queued")
    assert f"Kueue says: {MISSING}. Mend the queue, or name another one in training.queue." in message


def test_what_is_admitted_starts_and_runs(queued: Rehearsal) -> None:
    says(queued, condition("Admitted", "True", "Admitted", ""))
    assert suspended(queued), "it is Kueue that lets it go on"
    assert queued.condition("Trained")[1] == "Starting"
    admitted(queued)
    queued.running("train")
    queued.reconcile()
    assert queued.condition("Trained")[1] == "Running"
    queued.complete("train", TRAINED)
    queued.reconcile()
    assert queued.condition("Trained")[0] == "True"


def test_admission_checks_are_told(queued: Rehearsal) -> None:
    pending = {"name": "capacity", "state": "Pending", "message": "nodes are being made"}
    says(queued, condition("QuotaReserved", "True", "QuotaReserved", ""), checks=[pending])
    assert "Kueue waits for capacity: nodes are being made." in queued.condition("Trained")[2]


def test_what_kueue_stops_is_not_started_again(queued: Rehearsal) -> None:
    admitted(queued)
    queued.running("train")
    queued.get("Job", "-train")["spec"]["suspend"] = True
    evicted = condition("Evicted", "True", "Preempted", PREEMPTED)
    says(queued, condition("QuotaReserved", "False", "Pending", NO_QUOTA), evicted)
    assert suspended(queued)
    status, reason, message = queued.condition("Trained")
    assert (status, reason) == ("Unknown", "Queued")
    assert f"Kueue stopped it ({PREEMPTED}); it goes on from where it was. Kueue says: {NO_QUOTA}." in message


def test_a_workload_that_somebody_deactivated_waits_for_them(queued: Rehearsal) -> None:
    evicted = condition("Evicted", "True", "Deactivated", "The workload is deactivated")
    says(queued, condition("QuotaReserved", "False", "Pending", ""), evicted, spec={"active": False})
    assert queued.condition("Trained")[:2] == ("False", "Queued")
    assert "Set spec.active of the Workload to true" in queued.condition("Trained")[2]


def test_a_job_that_kueue_manages_without_being_asked_is_left_to_it_too() -> None:
    """manageJobsWithoutQueueName, or a LocalQueue named default."""
    cluster = Rehearsal()
    cluster.reconcile()
    cluster.get("Job", "-prepare")["spec"]["suspend"] = True
    says(cluster, condition("QuotaReserved", "False", "Inadmissible", "LocalQueue  doesn't exist"), stage="prepare")
    assert cluster.get("Job", "-prepare")["spec"]["suspend"] is True
    assert cluster.condition("DataReady")[:2] == ("False", "Queued")


def test_suspended_it_leaves_the_queue_and_resumed_it_waits_again(queued: Rehearsal) -> None:
    """A Job that only was suspended Kueue would let go on."""
    admitted(queued)
    queued.running("train")
    queued.edit(suspend=True)
    queued.reconcile()
    assert not queued.exists("Job", "-train")
    assert queued.status["phase"] == "Suspended"
    queued.collect()
    queued.edit(suspend=False)
    queued.reconcile()
    assert suspended(queued)
    assert queued.status["phase"] == "Queued"


def test_in_another_queue_it_waits_anew_and_trains_no_other_model(queued: Rehearsal) -> None:
    revision = queued.revision
    queued.edit(training=queued.job["spec"]["training"] | {"queue": "team-b"})
    queued.reconcile()
    assert queued.get("Job", "-train")["metadata"]["labels"][QUEUE] == "team-b"
    assert queued.revision == revision


def test_retries_are_raised_while_it_waits(queued: Rehearsal) -> None:
    queued.edit(training=queued.job["spec"]["training"] | {"retries": 7})
    queued.reconcile()
    assert queued.get("Job", "-train")["spec"]["backoffLimit"] == 7
    assert suspended(queued)
