"""The losses of a training in status: whole for whoever looks, whatever became of the pods that told them."""

from collections.abc import Sequence
from typing import Any

from finetune_trainer.contract.curve import Point
from finetune_trainer.contract.results import Progress
from rehearsal import MANIFEST, PREPARED, TRAINED, Rehearsal

CURVE = [[1, 2.5, None], [20, 1.25, 1.5], [40, 0.31, 0.36]]


def training() -> Rehearsal:
    """Its pod runs."""
    cluster = Rehearsal()
    cluster.reconcile()
    cluster.complete("prepare", PREPARED)
    cluster.reconcile()
    cluster.running("train")
    return cluster


def tells(cluster: Rehearsal, *steps: int) -> None:
    """The pod says that it has come by these, or that it has just started."""
    curve = tuple(Point(step, 10 / step, None) for step in steps)
    cluster.progress = Progress(stage="train", step=max(steps, default=0), total_steps=40, curve=curve)
    cluster.reconcile()


def known(cluster: Rehearsal) -> Sequence[int]:
    return [each["step"] for each in cluster.status.get("curve", ())]


def test_what_the_pod_tells_is_there_for_whoever_looks() -> None:
    cluster = training()
    point = Point(7, 1.23456, 0.5)
    cluster.progress = Progress(stage="train", step=9, total_steps=40, curve=(Point(3, 2.0, None), point))
    cluster.reconcile()
    assert cluster.status["curve"] == [
        {"step": 3, "loss": "2.0000"},
        {"step": 7, "loss": "1.2346", "validationLoss": "0.5000"},
    ]


def test_a_pod_that_tells_more_than_there_is_room_for_is_cut_short() -> None:
    cluster = training()
    tells(cluster, *range(1, 1000))
    assert known(cluster) == list(range(936, 1000))


def test_while_it_is_suspended_they_stay_and_then_go_on_from_the_checkpoint() -> None:
    cluster = training()
    tells(cluster, 10, 20, 30)
    cluster.progress = None
    cluster.edit(suspend=True)
    cluster.reconcile()
    assert cluster.condition("Trained")[1] == "Suspended"
    assert known(cluster) == [10, 20, 30]
    cluster.edit(suspend=False)
    cluster.reconcile()
    cluster.running("train")
    # It loads the model.
    tells(cluster)
    assert known(cluster) == [10, 20, 30]
    # The pod was killed at step 30, and its last checkpoint was of step 20.
    tells(cluster, 10, 20)
    assert known(cluster) == [10, 20]
    tells(cluster, 10, 20, 25)
    assert known(cluster) == [10, 20, 25]


def test_at_the_end_they_are_those_of_the_record_and_outlive_jobs_and_status() -> None:
    cluster = training()
    tells(cluster, 10, 20, 30)
    cluster.complete("train", TRAINED | {"curve": CURVE})
    cluster.progress = None
    cluster.reconcile()
    told = [
        {"step": 1, "loss": "2.5000"},
        {"step": 20, "loss": "1.2500", "validationLoss": "1.5000"},
        {"step": 40, "loss": "0.3100", "validationLoss": "0.3600"},
    ]
    assert cluster.condition("Trained")[:2] == ("True", "Succeeded")
    assert cluster.status["curve"] == told
    cluster.job["status"] = {}
    cluster.reconcile()
    assert cluster.status["curve"] == told


def test_where_the_result_has_none_those_that_were_heard_stay() -> None:
    cluster = training()
    tells(cluster, 10, 20, 30)
    cluster.complete("train", TRAINED)
    cluster.progress = None
    cluster.reconcile()
    assert known(cluster) == [10, 20, 30]


def test_another_revision_has_its_own() -> None:
    cluster = training()
    tells(cluster, 10, 20, 30)
    changed: dict[str, Any] = MANIFEST["training"] | {"seed": 7}
    cluster.progress = None
    cluster.edit(training=changed)
    cluster.reconcile()
    assert "curve" not in cluster.status
