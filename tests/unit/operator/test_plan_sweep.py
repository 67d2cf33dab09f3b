"""A sweep on a cluster: one Job of one pod or several, what becomes of its trials, and what is told of them."""

from typing import Any

import pytest
from finetune_operator.api.training import Training
from finetune_operator.finetunejob.desired import sweep
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.contract.results import Progress, Trial
from rehearsal import MANIFEST, PREPARED, TRAINED, Rehearsal
from rendering import host, main, prepare, target, train

INDEX = "batch.kubernetes.io/job-completion-index"
SHARED = {"accessModes": ["ReadWriteMany"]}
PARAMETERS = {"learningRate": [1e-4, 3e-4], "adapter.rank": [8, 32]}
TRIALS = [
    {
        "number": 1,
        "parameters": {"adapter.rank": 8, "learningRate": 1e-4},
        "outcome": "Diverged",
        "message": "The loss is nan.",
    },
    {
        "number": 2,
        "parameters": {"adapter.rank": 8, "learningRate": 3e-4},
        "outcome": "Succeeded",
        "validationLoss": 0.31,
        "usage": {"trainedTokens": 30_000, "seconds": 60.2},
        "taken": True,
    },
]
SWEPT = TRAINED | {"trials": TRIALS}


def training(parameters: dict[str, list[Any]] = PARAMETERS, **more: Any) -> dict[str, Any]:
    return MANIFEST["training"] | {"sweep": {"parameters": parameters, **more}}


def prepared(**spec: Any) -> Rehearsal:
    """A sweep whose data is ready."""
    found = Rehearsal(**{"training": training(), **spec})
    found.reconcile()
    found.complete("prepare", PREPARED)
    found.reconcile()
    return found


def test_one_pod_takes_all_trials_and_tries_each_again_as_often_as_a_training() -> None:
    job = train(target(training={"sweep": {"parameters": PARAMETERS}, "retries": 2}))
    assert "completionMode" not in job["spec"]
    assert main(job)["args"][-2:] == ["--retries", "2"]
    assert job["spec"]["backoffLimit"] == 2 * 4
    final = job["spec"]["podFailurePolicy"]["rules"][-1]["onExitCodes"]["values"]
    assert Outcome.INTERNAL.exit.code in final
    assert Outcome.INTERRUPTED.exit.code not in final


def test_several_pods_are_an_indexed_job_and_know_their_number() -> None:
    job = train(target(training={"sweep": {"parameters": PARAMETERS, "parallel": 3}}, workspace=SHARED))
    assert {key: job["spec"][key] for key in ("completionMode", "completions", "parallelism")} == {
        "completionMode": "Indexed",
        "completions": 3,
        "parallelism": 3,
    }
    assert main(job)["args"][-4:] == ["--pods", "3", "--pod", "$(JOB_COMPLETION_INDEX)"]
    assert "subdomain" not in job["spec"]["template"]["spec"]
    other = prepare(target(training={"sweep": {"parameters": PARAMETERS, "parallel": 3}}, workspace=SHARED))
    assert "completionMode" not in other["spec"]
    assert other["spec"]["backoffLimit"] == 3


@pytest.mark.parametrize(("more", "pods"), [({}, 1), ({"parallel": 9}, 4), ({"parallel": 9, "maxTrials": 2}, 2)])
def test_no_pod_is_asked_for_that_would_have_no_trial(more: dict[str, int], pods: int) -> None:
    found = Training.model_validate({"sweep": {"parameters": PARAMETERS, **more}})
    assert sweep.pods(found) == pods


def test_how_many_pods_there_are_is_no_part_of_the_revision() -> None:
    one, two = ({"sweep": {"parameters": PARAMETERS, "parallel": pods}} for pods in (1, 2))
    assert target(training=one, workspace=SHARED).revision == target(training=two, workspace=SHARED).revision


def test_the_engine_is_ready_for_the_largest_rank() -> None:
    (engine,) = host(target(training={"sweep": {"parameters": PARAMETERS}}))["spec"]["template"]["spec"]["containers"]
    assert engine["args"][engine["args"].index("--max-lora-rank") + 1] == "32"


def test_what_became_of_each_trial_is_told_and_which_was_taken() -> None:
    cluster = prepared()
    cluster.complete("train", SWEPT)
    cluster.reconcile()
    status, reason, message = cluster.condition("Trained")
    assert (status, reason) == ("True", "Succeeded")
    assert "Trial 2 of 2 was taken (adapter.rank 8, learningRate 0.0003), with the lowest validation loss, " in message
    assert "1 failed (status.trials says why)" in message
    assert cluster.status["trials"] == [
        {
            "number": 1,
            "parameters": {"adapter.rank": "8", "learningRate": "0.0001"},
            "outcome": "Diverged",
            "message": "The loss is nan.",
            "taken": False,
        },
        {
            "number": 2,
            "parameters": {"adapter.rank": "8", "learningRate": "0.0003"},
            "outcome": "Succeeded",
            "validationLoss": "0.3100",
            "trainedTokens": 30_000,
            "seconds": 60,
            "taken": True,
        },
    ]


def test_progress_says_which_trial_is_under_way() -> None:
    cluster = prepared()
    cluster.running("train")
    cluster.progress = Progress(stage="train", trial=2, trials=4, step=12, total_steps=40)
    cluster.reconcile()
    assert cluster.status["progressSummary"] == "12/40 of trial 2/4"
    assert (cluster.status["progress"]["trial"], cluster.status["progress"]["trials"]) == (2, 4)


def test_trials_that_have_ended_are_told_while_others_train_and_stay_while_no_pod_says_so() -> None:
    cluster = prepared()
    cluster.running("train")
    ended = [Trial.model_validate(trial | {"message": "x" * 999}) for trial in TRIALS[:1] * 40]
    cluster.progress = Progress(stage="train", trial=2, trials=4, ended=tuple(ended))
    cluster.reconcile()
    told = cluster.status["trials"]
    assert (told[0]["number"], told[0]["outcome"]) == (1, "Diverged")
    assert (len(told), len(told[0]["message"])) == (32, 200)
    cluster.progress = None
    cluster.reconcile()
    assert cluster.status["trials"] == told
    cluster.complete("train", SWEPT)
    cluster.reconcile()
    assert len(cluster.status["trials"]) == 2
    cluster.edit(training=training() | {"seed": 7})
    cluster.reconcile()
    assert "trials" not in cluster.status


def test_of_several_pods_the_first_that_runs_is_asked_and_one_of_them_has_the_result() -> None:
    cluster = prepared(training=training(parallel=2), workspace=SHARED)
    labels = cluster.get("Job", "-train")["spec"]["template"]["metadata"]["labels"]

    def pod(index: int, status: dict[str, Any]) -> None:
        cluster.pod("train", status, name=f"train-{index}", labels=labels | {INDEX: str(index)})

    pod(1, {"phase": "Running", "podIP": "10.0.0.2"})
    cluster.reconcile()
    assert cluster.condition("Trained")[1] == "Starting"
    pod(0, {"phase": "Running", "podIP": "10.0.0.1"})
    assert [each.address for each in cluster.reconcile().ask.values()] == ["10.0.0.1"]
    done = {"exitCode": 0, "message": '{"reason": "Succeeded"}'}
    pod(0, {"phase": "Succeeded", "containerStatuses": [{"name": "train", "state": {"terminated": done}}]})
    assert [each.address for each in cluster.reconcile().ask.values()] == ["10.0.0.2"]
    assert cluster.condition("Trained")[1] == "Running"
    cluster.complete("train", SWEPT)
    cluster.reconcile()
    assert cluster.condition("Trained")[0] == "True"


def test_batches_that_accelerators_cannot_share_start_no_job() -> None:
    cluster = Rehearsal(training=training({"batchSize": [8, 6]}) | {"resources": {"limits": {"nvidia.com/gpu": 4}}})
    cluster.reconcile()
    cluster.complete("prepare", PREPARED)
    cluster.reconcile()
    assert not cluster.exists("Job", "-train")
    assert "The batch of 6 rows (training.sweep) can't be shared evenly by the 4 acc" in cluster.condition("Trained")[2]


def test_a_volume_of_before_that_only_one_node_can_mount_is_named() -> None:
    cluster = Rehearsal(training=training())
    cluster.reconcile()
    cluster.complete("prepare", PREPARED)
    cluster.edit(training=training(parallel=2), workspace=SHARED)
    cluster.reconcile()
    assert (
        "so training.sweep.parallel 2 can't share it: set sweep.parallel back to 1" in cluster.condition("Trained")[2]
    )


def test_on_another_number_of_pods_the_job_is_replaced_and_more_retries_replace_it_too() -> None:
    cluster = prepared(training=training(parallel=2), workspace=SHARED)
    revision = cluster.revision
    cluster.edit(training=training(parallel=3))
    cluster.reconcile()
    assert cluster.get("Job", "-train")["spec"]["completions"] == 3
    cluster.edit(training=training(parallel=3) | {"retries": 5})
    cluster.reconcile()
    assert cluster.get("Job", "-train")["spec"]["backoffLimit"] == 20
    assert "5" in main(cluster.get("Job", "-train"))["args"]
    assert cluster.revision == revision
