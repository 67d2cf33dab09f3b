"""A revision's record: from it everything is known again, whatever became of status, of Jobs, or of the operator."""

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from finetune_operator import names
from finetune_operator.pods.template import MAIN_CONTAINER
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.contract.results import Progress
from rehearsal import PREPARED, TEST, TRAINED, Rehearsal


@pytest.fixture
def second(serving: Rehearsal) -> Rehearsal:
    """A second revision serves; the first is kept."""
    serving.edit(training=serving.job["spec"]["training"] | {"seed": 7})
    serving.serve()
    return serving


def told(status: dict[str, Any]) -> dict[str, Any]:
    """A status without what only it can know: when things happened, and the history of earlier revisions."""
    conditions = [
        {key: value for key, value in found.items() if key != "lastTransitionTime"} for found in status["conditions"]
    ]
    return {**status, "conditions": conditions, "history": status["history"][:1]}


class TestStatusIsForPeople:
    @pytest.mark.parametrize("lost", [{}, {"conditions": "none", "revision": 7, "history": [{"outcome": "?"}]}])
    def test_lost_it_is_made_again_and_nothing_is_touched(self, second: Rehearsal, lost: dict[str, Any]) -> None:
        before, objects = told(second.status), copy.deepcopy(second.objects)
        second.job["status"] = lost
        second.reconcile()
        assert told(second.status) == before
        assert second.objects == objects, "kept revisions are known by their records"

    def test_written_by_a_later_version_it_is_read_as_far_as_it_is_known(self, second: Rehearsal) -> None:
        before, objects = copy.deepcopy(second.status), copy.deepcopy(second.objects)
        second.job["status"] = {**second.status, "phase": "Levitating", "aura": {"colour": "green"}}
        second.job["status"]["history"][0]["aura"] = "green"
        second.reconcile()
        assert second.status == before
        assert second.objects == objects

    def test_a_measurement_is_remembered_without_it(self) -> None:
        cluster = Rehearsal(dataset=TEST, evaluation={"gate": {"minimum": 0.5}})
        cluster.train()
        cluster.measure()
        before = cluster.status["evaluation"]
        cluster.delete("Job", f"recipes-{cluster.revision}-evaluate")
        cluster.job["status"] = {}
        cluster.reconcile()
        assert cluster.status["evaluation"] == before
        assert not cluster.exists("Job", "-evaluate")

    def test_a_failure_is_remembered_without_it_and_without_its_job(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        cluster.fail("prepare", Outcome.DATA_INVALID, "train.jsonl:3: no messages.")
        cluster.reconcile()
        cluster.delete("Job", f"recipes-{cluster.revision}-prepare")
        cluster.job["status"] = {}
        cluster.reconcile()
        assert not cluster.exists("Job", "-prepare")
        assert cluster.condition("DataReady") == ("False", "DataInvalid", "train.jsonl:3: no messages.")

    def test_what_serves_is_never_dropped_from_the_history(self, serving: Rehearsal) -> None:
        served = serving.revision
        for seed in range(12):
            serving.edit(training=serving.job["spec"]["training"] | {"seed": seed})
            serving.reconcile()
        history = [entry["revision"] for entry in serving.status["history"]]
        assert len(history) == 10
        assert served in history
        assert serving.exists("Deployment", revision=served)


class TestTheOperatorChanges:
    def test_an_upgrade_rolls_no_engine_and_trains_nothing(self, serving: Rehearsal) -> None:
        before = copy.deepcopy(serving.objects)
        serving.settings = replace(
            serving.settings, hosting_image="vllm:next", hosting_cpu_image="vllm-cpu:next", trainer_image="trainer:next"
        )
        serving.reconcile()
        assert serving.objects == before

    def test_an_engine_that_is_made_again_after_an_upgrade_is_the_same(self, serving: Rehearsal) -> None:
        before = serving.get("Deployment")["spec"]
        serving.settings = replace(serving.settings, hosting_image="vllm:next")
        serving.delete("Deployment", f"recipes-{serving.revision}")
        serving.reconcile()
        assert serving.get("Deployment")["spec"] == before

    def test_the_annotation_asks_for_the_new_default(self, serving: Rehearsal) -> None:
        serving.settings = replace(serving.settings, hosting_image="vllm:next")
        serving.annotate(names.UPGRADE, "2026-02")
        serving.reconcile()
        assert "vllm:next" in str(serving.get("Deployment")["spec"])

    def test_so_does_the_next_revision(self, serving: Rehearsal) -> None:
        serving.settings = replace(serving.settings, hosting_image="vllm:next")
        serving.edit(training=serving.job["spec"]["training"] | {"seed": 7})
        serving.train()
        assert "vllm:next" in str(serving.get("Deployment")["spec"])

    def test_a_record_of_a_later_version_is_read_as_far_as_it_is_known(self, serving: Rehearsal) -> None:
        data = serving.get("ConfigMap")["data"]
        for key in ("run.json", "prepare.json", "train.json"):
            data[key] = json.dumps({**json.loads(data[key]), "aura": "green"})
        serving.edit(hosting=serving.job["spec"]["hosting"] | {"contextLength": 1024})
        serving.reconcile()
        assert "1024" in str(serving.get("Deployment")["spec"])
        assert serving.condition("Ready")[0] != "False"


class TestWhatRestartsATraining:
    @pytest.fixture
    def training(self, cluster: Rehearsal) -> Rehearsal:
        cluster.reconcile()
        cluster.complete("prepare", PREPARED)
        cluster.reconcile()
        cluster.running("train")
        cluster.reconcile()
        return cluster

    @pytest.mark.parametrize(
        "edit",
        [
            {"training": {"pod": {"labels": {"team": "a"}}}},
            {"training": {"pod": {"annotations": {"note": "x"}}}},
            {"training": {"retries": 5}},
            {"training": {"maxRuntime": "6h"}},
            {"dataset": {"credentials": {"secretRef": {"name": "another"}}}},
            {"hosting": {"replicas": 1, "contextLength": 512}},
            {"workspace": {"size": "40Gi"}},
        ],
        ids=str,
    )
    def test_not_what_its_pods_are_not_made_from(self, training: Rehearsal, edit: dict[str, Any]) -> None:
        uid = training.get("Job", "-train")["metadata"]["uid"]
        training.edit(**{section: training.job["spec"].get(section, {}) | fields for section, fields in edit.items()})
        training.reconcile()
        assert training.get("Job", "-train")["metadata"]["uid"] == uid
        assert training.condition("Trained")[1] == "Running"

    def test_limits_change_on_the_job_that_runs(self, training: Rehearsal) -> None:
        training.edit(training=training.job["spec"]["training"] | {"retries": 5, "maxRuntime": "2h"})
        training.reconcile()
        spec = training.get("Job", "-train")["spec"]
        assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (5, 7200)
        training.edit(
            training={key: value for key, value in training.job["spec"]["training"].items() if key != "maxRuntime"}
        )
        training.reconcile()
        assert "activeDeadlineSeconds" not in training.get("Job", "-train")["spec"]

    def test_a_node_selector_does(self, training: Rehearsal) -> None:
        uid = training.get("Job", "-train")["metadata"]["uid"]
        pod = {"pod": {"nodeSelector": {"zone": "b"}}}
        training.edit(training=training.job["spec"]["training"] | pod)
        training.reconcile()
        training.end_pods()
        training.reconcile()
        assert training.get("Job", "-train")["metadata"]["uid"] != uid

    def test_a_longer_runtime_tries_again_what_took_too_long(self, training: Rehearsal) -> None:
        training.edit(training=training.job["spec"]["training"] | {"maxRuntime": "1h"})
        training.reconcile()
        training.job_failed("train", "DeadlineExceeded")
        training.reconcile()
        assert training.condition("Trained")[:2] == ("False", "DeadlineExceeded")
        training.end_pods()
        training.edit(training=training.job["spec"]["training"] | {"maxRuntime": "2h"})
        training.ended("train", 143, "")
        training.reconcile()
        assert training.condition("Trained")[:2] == ("Unknown", "Starting")


class TestAFullVolume:
    @pytest.fixture
    def full(self, cluster: Rehearsal) -> Rehearsal:
        cluster.reconcile()
        cluster.fail("prepare", Outcome.WORKSPACE_FULL, "The workspace is full; raise workspace.size.")
        cluster.reconcile()
        return cluster

    def test_a_larger_size_grows_it_and_tries_again(self, full: Rehearsal) -> None:
        full.edit(workspace={"size": "40Gi"})
        full.reconcile()
        assert full.get("PersistentVolumeClaim")["spec"]["resources"]["requests"]["storage"] == "40Gi"
        assert full.condition("DataReady")[:2] == ("Unknown", "Starting")

    def test_a_class_that_can_not_grow_is_told_with_what_to_do(self, full: Rehearsal) -> None:
        claim = f"recipes-{full.revision}"
        full.refuse["patch", "PersistentVolumeClaim", claim] = "the storageclass must support resize"
        full.edit(workspace={"size": "40Gi"})
        full.reconcile()
        status, reason, message = full.condition("DataReady")
        assert (status, reason) == ("False", "Refused")
        assert "the storageclass must support resize" in message
        assert "Set workspace.size back; a volume of the new size comes with the next revision" in message

    def test_a_smaller_size_asks_for_nothing(self, full: Rehearsal) -> None:
        full.edit(workspace={"size": "5Gi"})
        full.reconcile()
        assert full.get("PersistentVolumeClaim")["spec"]["resources"]["requests"]["storage"] == "20Gi"


class TestWhatPodsTell:
    def test_a_sidecar_before_the_trainer_is_not_taken_for_it(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        cluster.complete("prepare", PREPARED)
        pod = cluster.objects["Pod", f"recipes-{cluster.revision}-prepare-x"]
        assert pod["metadata"]["annotations"][MAIN_CONTAINER] == "prepare"
        pod["spec"]["containers"].insert(0, {"name": "mesh", "image": "mesh:1"})
        proxy = {"name": "mesh", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
        pod["status"]["containerStatuses"].insert(0, proxy)
        cluster.reconcile()
        assert cluster.condition("DataReady")[0] == "True"

    @pytest.mark.parametrize("stage", ["prepare", "train"])
    def test_why_a_job_has_no_pod_is_told_at_every_stage(self, cluster: Rehearsal, stage: str) -> None:
        cluster.reconcile()
        if stage == "train":
            cluster.complete("prepare", PREPARED)
            cluster.reconcile()
        cluster.pod_refused(stage, "exceeded quota: gpus")
        cluster.reconcile()
        condition = "Trained" if stage == "train" else "DataReady"
        assert cluster.condition(condition)[:2] == ("False", "PodNotCreated")
        assert "exceeded quota: gpus" in cluster.condition("Ready")[2]

    def test_an_image_that_can_not_be_pulled_is_blocked_and_not_training(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        cluster.complete("prepare", PREPARED)
        cluster.reconcile()
        cluster.container("train", {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}})
        cluster.reconcile()
        assert cluster.status["phase"] == "Blocked"

    def test_the_fourth_restart_of_an_engine_that_ran_for_days_is_no_failure(self, serving: Rehearsal) -> None:
        def crash(started: str, finished: str) -> None:
            ended = {"exitCode": 1, "startedAt": started, "finishedAt": finished}
            waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
            serving.container("host", waiting, restartCount=4, lastState={"terminated": ended})
            serving.get("Deployment")["status"]["availableReplicas"] = 0
            serving.reconcile()

        crash("2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z")
        assert serving.condition("Hosted")[:2] == ("Unknown", "EngineUnavailable")
        crash("2026-01-03T00:00:10Z", "2026-01-03T00:00:40Z")
        assert serving.condition("Hosted")[:2] == ("False", "EngineFailed")


class TestAPinThatCanNotBe:
    def test_a_revision_that_never_was_is_said_and_nothing_waits_for_it(self, serving: Rehearsal) -> None:
        serving.annotate(names.PROMOTE, "0badc0de")
        serving.reconcile()
        assert serving.condition("Ready")[0] == "True"
        assert "names 0badc0de, which is not kept" in serving.condition("Promoted")[2]

    def test_so_is_one_that_was_never_trained(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        first = cluster.revision
        cluster.edit(training=cluster.job["spec"]["training"] | {"seed": 7})
        cluster.annotate(names.PROMOTE, first)
        cluster.serve()
        assert cluster.condition("Ready")[0] == "True"
        assert cluster.status["servedRevision"] == cluster.revision


def test_every_entry_of_a_record_is_written_once(serving: Rehearsal) -> None:
    """The rehearsal refuses a second write; here is that there was one of each."""
    entries = serving.get("ConfigMap")["data"]
    assert {"run.json", "prepare.json", "train.json"} < set(entries)
    assert [key for key in entries if key.startswith("engine-")]
    before = copy.deepcopy(entries)
    serving.edit(hosting=serving.job["spec"]["hosting"] | {"contextLength": 1024})
    serving.reconcile()
    after = serving.get("ConfigMap")["data"]
    assert {key: after[key] for key in before} == before
    assert len(after) == len(before) + 1


def test_the_result_is_read_from_the_record_when_job_and_pod_are_gone(cluster: Rehearsal) -> None:
    cluster.train()
    for stage in ("prepare", "train"):
        cluster.delete("Job", f"recipes-{cluster.revision}-{stage}")
    cluster.job["status"] = {}
    cluster.reconcile()
    assert cluster.status["artifact"]["digest"] == TRAINED["artifact"]["digest"]
    assert not cluster.exists("Job", "-train")


@pytest.mark.parametrize("result", [{}, {"artifact": "none"}, TRAINED | {"steps": -1}, TRAINED | {"steps": 10**30}])
def test_a_result_that_can_not_be_read_is_a_failure_of_its_stage(cluster: Rehearsal, result: dict[str, Any]) -> None:
    cluster.reconcile()
    cluster.complete("prepare", PREPARED)
    cluster.reconcile()
    cluster.complete("train", result)
    cluster.reconcile()
    status, reason, message = cluster.condition("Trained")
    assert (status, reason) == ("False", "InternalError")
    assert "a result that this operator can't read; see training.image" in message


def test_the_users_variables_are_in_the_pods_and_not_in_the_record(cluster: Rehearsal) -> None:
    pod = {"env": [{"name": "NOTE", "value": "canary"}]}
    cluster.edit(hosting=cluster.job["spec"]["hosting"] | {"pod": pod})
    cluster.serve()
    assert "canary" in str(cluster.get("Deployment")["spec"])
    assert "canary" not in str(cluster.get("ConfigMap"))


class TestATracker:
    RUN = "https://mlflow/#/experiments/1/runs/2"

    def test_the_run_is_shown_once_training_is_done(self, cluster: Rehearsal) -> None:
        cluster.train(TRAINED | {"tracked": {"type": "mlflow", "url": self.RUN, "problem": ""}})
        assert cluster.status["tracking"] == {"type": "mlflow", "url": self.RUN}

    def test_and_while_it_goes_on(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        cluster.complete("prepare", PREPARED)
        cluster.reconcile()
        cluster.running("train")
        cluster.progress = Progress(stage="train", step=3, total_steps=40, tracking=self.RUN)
        cluster.reconcile()
        assert cluster.status["progress"]["tracking"] == self.RUN

    def test_a_revision_goes_on_with_the_cache_that_it_began_with(self) -> None:
        cluster = Rehearsal(workspace={"cache": "pvc://shared/models"})
        cluster.reconcile()
        cluster.edit(workspace={"cache": "pvc://faster/models"})
        cluster.complete("prepare", PREPARED)
        cluster.reconcile()
        cluster.complete("train", TRAINED)
        cluster.reconcile()
        for raw in (cluster.get("Job", "-train"), cluster.get("Deployment")):
            volumes = raw["spec"]["template"]["spec"]["volumes"]
            claims = {volume.get("persistentVolumeClaim", {}).get("claimName") for volume in volumes}
            assert "shared" in claims
            assert "faster" not in claims

    def test_event_files_are_found_on_the_volume(self, cluster: Rehearsal) -> None:
        cluster.train(TRAINED | {"tracked": {"type": "tensorboard"}})
        assert cluster.status["tracking"]["url"] == f"pvc://recipes-{cluster.revision}/tensorboard"

    def test_what_did_not_get_there_is_said_and_no_failure(self, cluster: Rehearsal) -> None:
        problem = "MLflow at https://mlflow did not take the metrics (timed out)."
        cluster.train(TRAINED | {"tracked": {"type": "mlflow", "problem": problem}})
        status, _, message = cluster.condition("Trained")
        assert status == "True"
        assert message.endswith(f"{problem} Training went on without it.")
        assert cluster.status["tracking"] == {"type": "mlflow"}
