"""What goes once nothing is left to do and ttlAfterFinished is over, and what never does."""

from datetime import timedelta
from typing import Any

import pytest
from finetune_trainer.contract.outcome import Outcome
from rehearsal import PREPARED, TRAINED, Rehearsal

PLACE = "s3://artifacts/recipes"
HOUR = timedelta(hours=1)
PUBLISHED: dict[str, Any] = {"output": {"destination": PLACE}, "hosting": {"enabled": False}}


def published(**spec: Any) -> Rehearsal:
    """A finished FineTuneJob whose artifact is in a bucket, and which serves nothing."""
    cluster = Rehearsal(ttlAfterFinished="2h", **(PUBLISHED | spec))
    cluster.train()
    if cluster.exists("Job", "-publish"):
        cluster.complete("publish", {"uri": f"{PLACE}/{cluster.revision}", "artifact": TRAINED["artifact"]})
        cluster.reconcile()
    return cluster


def later(cluster: Rehearsal, span: timedelta) -> None:
    cluster.now += span
    cluster.reconcile()


def test_jobs_go_when_its_time_is_over_and_what_they_found_stays() -> None:
    cluster = published()
    before = cluster.status
    later(cluster, HOUR)
    assert {stage for stage in ("prepare", "train", "publish") if cluster.exists("Job", f"-{stage}")} == {
        "prepare",
        "train",
        "publish",
    }
    later(cluster, HOUR)
    assert not cluster.exists("Job")
    assert cluster.exists("ConfigMap")
    assert cluster.status == before


def test_it_is_looked_at_again_just_then() -> None:
    cluster = published()
    cluster.now += HOUR
    again = cluster.look().again_after
    assert again is not None
    assert timedelta(minutes=55) < timedelta(seconds=again) <= HOUR
    later(cluster, HOUR)
    assert cluster.look().again_after is None


def test_the_workspace_goes_with_them_where_the_artifact_is_elsewhere_and_nothing_trains_again() -> None:
    cluster = published()
    later(cluster, 2 * HOUR)
    assert not cluster.exists("PersistentVolumeClaim")
    later(cluster, HOUR)
    assert cluster.condition("Ready")[:2] == ("True", "Succeeded")
    assert cluster.status["artifact"]["uri"] == f"{PLACE}/{cluster.revision}"
    assert not cluster.exists("Job")


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"output": {}}, id="it is the artifact's only place"),
        pytest.param({"hosting": {"enabled": True}}, id="the engine reads it"),
    ],
)
def test_the_workspace_stays_where_it_is_needed(spec: dict[str, Any]) -> None:
    cluster = published(**spec)
    if cluster.exists("Deployment"):
        cluster.roll_out()
        cluster.reconcile()
    assert cluster.condition("Ready")[0] == "True"
    later(cluster, 3 * HOUR)
    assert not cluster.exists("Job")
    assert cluster.exists("PersistentVolumeClaim")


def test_the_workspace_stays_while_another_one_starts_from_it() -> None:
    cluster = published()
    cluster.referred = True
    later(cluster, 3 * HOUR)
    assert cluster.exists("PersistentVolumeClaim")
    cluster.referred = False
    cluster.reconcile()
    assert not cluster.exists("PersistentVolumeClaim")


def test_a_change_that_needs_the_workspace_trains_anew() -> None:
    cluster = published()
    later(cluster, 2 * HOUR)
    cluster.edit(output={"destination": "s3://elsewhere/recipes"})
    cluster.reconcile()
    assert cluster.exists("PersistentVolumeClaim")
    assert cluster.exists("Job", "-prepare")


def test_what_failed_keeps_its_checkpoints_and_no_jobs() -> None:
    cluster = Rehearsal(ttlAfterFinished="2h")
    cluster.reconcile()
    cluster.complete("prepare", PREPARED)
    cluster.reconcile()
    cluster.fail("train", Outcome.DIVERGED, "The loss became infinite.")
    cluster.reconcile()
    later(cluster, 3 * HOUR)
    assert not cluster.exists("Job")
    assert cluster.exists("PersistentVolumeClaim")
    assert cluster.condition("Trained")[:2] == ("False", "Diverged")


def test_nothing_of_what_is_under_way_goes() -> None:
    cluster = Rehearsal(ttlAfterFinished="1s")
    cluster.reconcile()
    cluster.complete("prepare", PREPARED)
    later(cluster, HOUR)
    later(cluster, HOUR)
    assert cluster.exists("Job", "-prepare")
    assert cluster.exists("Job", "-train")
