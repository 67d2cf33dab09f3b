"""Training on several nodes: the pods of one Job, where they meet, and whose word counts when they end."""

from typing import Any

import pytest
from finetune_operator.finetunejob.desired.jobs import failure_policy
from finetune_trainer.contract.outcome import Outcome
from rehearsal import MANIFEST, PREPARED, TRAINED, Rehearsal
from rendering import main, prepare, target, train

SHARED = {"accessModes": ["ReadWriteMany"]}
INDEX = "batch.kubernetes.io/job-completion-index"


def training(**more: Any) -> dict[str, Any]:
    return MANIFEST["training"] | {"nodes": 2} | more


@pytest.fixture
def cluster() -> Rehearsal:
    """A training on two nodes whose Job is made."""
    found = Rehearsal(training=training(), workspace=SHARED)
    found.reconcile()
    found.complete("prepare", PREPARED)
    found.reconcile()
    return found


def pod(
    cluster: Rehearsal, index: int, address: str, phase: str = "Running", state: dict[str, Any] | None = None
) -> None:
    """The pod of that number."""
    status = {"phase": phase, "podIP": address}
    if state:
        status["containerStatuses"] = [{"name": "train", "restartCount": 0, "state": state}]
    cluster.pod("train", status, name=f"train-{index}", labels=numbered(cluster, index))


def numbered(cluster: Rehearsal, index: int) -> dict[str, str]:
    """The labels that the Job controller gives a pod."""
    return cluster.get("Job", "-train")["spec"]["template"]["metadata"]["labels"] | {INDEX: str(index)}


def ended(outcome: Outcome, message: str, finished: str) -> dict[str, Any]:
    said = f'{{"reason": "{outcome.exit.reason}", "message": "{message}"}}'
    return {
        "terminated": {"exitCode": outcome.exit.code, "message": said, "startedAt": finished, "finishedAt": finished}
    }


def test_it_is_an_indexed_job_whose_pods_find_the_first_one_by_name() -> None:
    found = target(training={"nodes": 3, "resources": {"limits": {"nvidia.com/gpu": 2}}}, workspace=SHARED)
    job, name = train(found), f"recipes-{found.revision}-train"
    assert {key: job["spec"][key] for key in ("completionMode", "completions", "parallelism")} == {
        "completionMode": "Indexed",
        "completions": 3,
        "parallelism": 3,
    }
    assert job["spec"]["template"]["spec"]["subdomain"] == name
    arguments = ["--nodes", "3", "--node", "$(JOB_COMPLETION_INDEX)", "--meet", f"{name}-0.{name}:29500"]
    assert main(job)["args"][-6:] == arguments
    assert main(prepare(found))["args"][-4:] == ["--devices", "2", "--nodes", "3"]
    assert "completionMode" not in prepare(found)["spec"]


def test_prepare_and_train_are_told_whether_devices_divide_the_weights() -> None:
    divided = {"nodes": 2, "sharding": "full", "adapter": {"type": "none"}}
    found = target(training=divided, workspace=SHARED)
    for job in (prepare(found), train(found)):
        assert " --sharding full" in " ".join(main(job)["args"])
    assert found.revision == target(training=divided | {"sharding": "auto"}, workspace=SHARED).revision


def test_when_that_changes_the_job_is_replaced_and_the_model_is_the_same(cluster: Rehearsal) -> None:
    revision = cluster.revision
    cluster.edit(training=training(sharding="none"))
    cluster.reconcile()
    assert "--sharding" in main(cluster.get("Job", "-train"))["args"]
    assert cluster.revision == revision


def test_nodes_are_no_part_of_the_revision() -> None:
    """The batch is the same, shared by more: as with resources."""
    assert target(training={"nodes": 2}, workspace=SHARED).revision == target().revision


def test_a_pod_that_only_followed_another_costs_no_retry() -> None:
    lost = {"containerName": "train", "operator": "In", "values": [Outcome.PEER_LOST.exit.code]}
    assert {"action": "Ignore", "onExitCodes": lost} in failure_policy("train", 2, swept=False)["rules"]
    assert "onExitCodes" not in failure_policy("train", 1, swept=False)["rules"][0]
    assert len(failure_policy("train", 1, swept=False)["rules"]) == 2


def test_where_they_meet_is_made_before_them_and_goes_with_the_revision(cluster: Rehearsal) -> None:
    service = cluster.get("Service", "-train")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    labels = cluster.get("Job", "-train")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    revision = cluster.revision
    cluster.edit(training=training(seed=7))
    cluster.reconcile()
    assert not cluster.exists("Service", "-train", revision)


def test_it_runs_once_all_of_them_do_and_the_first_one_is_asked(cluster: Rehearsal) -> None:
    pod(cluster, 1, "10.0.0.2")
    cluster.reconcile()
    assert cluster.condition("Trained")[1] == "Starting"
    pod(cluster, 0, "10.0.0.1")
    planned = cluster.reconcile()
    assert cluster.condition("Trained") == ("Unknown", "Running", "2 pods are running.")
    assert [each.address for each in planned.ask.values()] == ["10.0.0.1"]


def test_one_that_no_node_can_take_holds_up_all(cluster: Rehearsal) -> None:
    pod(cluster, 0, "10.0.0.1")
    waiting = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient nvidia.com/gpu."}
    cluster.pod("train", {"phase": "Pending", "conditions": [waiting]}, name="train-1", labels=numbered(cluster, 1))
    cluster.reconcile()
    assert cluster.condition("Trained")[:2] == ("False", "Unschedulable")


def test_the_root_cause_is_told_of_the_one_that_failed_first(cluster: Rehearsal) -> None:
    diverged = ended(Outcome.DIVERGED, "The loss became nan.", "2026-01-01T00:00:05Z")
    lost = ended(Outcome.PEER_LOST, "Another pod ended first.", "2026-01-01T00:00:04Z")
    stopped = ended(Outcome.INTERRUPTED, "Training was asked to stop.", "2026-01-01T00:00:09Z")
    pod(cluster, 0, "10.0.0.1", "Failed", lost)
    pod(cluster, 1, "10.0.0.2", "Failed", diverged)
    pod(cluster, 2, "10.0.0.3", "Failed", stopped)
    cluster.job_failed("train", "PodFailurePolicy")
    cluster.reconcile()
    assert cluster.condition("Trained") == ("False", "Diverged", "The loss became nan.")


def test_its_result_is_that_of_any(cluster: Rehearsal) -> None:
    cluster.complete("train", TRAINED)
    cluster.reconcile()
    assert cluster.condition("Trained")[0] == "True"


def test_a_batch_that_they_cannot_share_starts_no_job() -> None:
    cluster = Rehearsal(training=training(nodes=3), workspace=SHARED)
    cluster.reconcile()
    cluster.complete("prepare", PREPARED)
    cluster.reconcile()
    assert not cluster.exists("Job", "-train")
    assert "can't be shared evenly by the 3 accelerators of 3 pods (training.nodes)" in cluster.condition("Trained")[2]


def test_a_volume_of_before_that_only_one_node_can_mount_is_named() -> None:
    cluster = Rehearsal()
    cluster.reconcile()
    cluster.complete("prepare", PREPARED)
    cluster.edit(training=training(), workspace=SHARED)
    cluster.reconcile()
    status, reason, message = cluster.condition("Trained")
    assert (status, reason) == ("False", "ConfigInvalid")
    assert "was made ReadWriteOnce, so training.nodes 2 can't share it: set nodes back to 1, or train a new" in message


def test_on_other_numbers_of_nodes_the_job_is_replaced_and_the_model_is_the_same(cluster: Rehearsal) -> None:
    revision = cluster.revision
    cluster.edit(training=training(nodes=4))
    cluster.reconcile()
    assert cluster.get("Job", "-train")["spec"]["completions"] == 4
    assert cluster.revision == revision
