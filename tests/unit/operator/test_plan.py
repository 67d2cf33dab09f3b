"""The path of a FineTuneJob, told by what the cluster and the user would see at each turn."""

import copy
import json
from datetime import timedelta

from finetune_operator.kinds.plan import MISSING_SECONDS, REFUSED_SECONDS
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.contract.results import Progress
from rehearsal import PREPARED, TRAINED, Rehearsal


def recreated(cluster: Rehearsal) -> str:
    """Train again with rollout recreate; the revision that serves meanwhile."""
    old = cluster.revision
    cluster.edit(hosting=cluster.job["spec"]["hosting"] | {"rollout": "recreate"})
    edit_training(cluster, seed=7)
    cluster.reconcile()
    return old


def replicas(cluster: Rehearsal, revision: str) -> int:
    return int(cluster.objects["Deployment", f"recipes-{revision}"]["spec"]["replicas"])


def edit_training(cluster: Rehearsal, **training: object) -> None:
    cluster.edit(training=cluster.job["spec"]["training"] | training)


class TestThePathToReady:
    def test_data_is_prepared_before_anything_holds_an_accelerator(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        assert cluster.exists("Job", "-prepare")
        assert cluster.exists("PersistentVolumeClaim")
        assert not cluster.exists("Job", "-train")
        assert cluster.status["phase"] == "Preparing"
        assert cluster.condition("Ready")[0] == "Unknown"

    def test_training_starts_once_the_data_is_ready_and_status_says_what_was_found(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        cluster.complete("prepare", PREPARED)
        cluster.reconcile()
        assert cluster.exists("Job", "-train")
        assert cluster.condition("DataReady")[:2] == ("True", "Succeeded")
        assert cluster.status["dataset"]["rows"] == {"train": 270, "validation": 30, "test": 0}
        assert cluster.status["plan"]["learningRate"] == "0.0005"
        assert cluster.status["plan"]["estimatedMemory"] == "2.0Gi"
        assert cluster.status["model"]["commit"] == "abc123"

    def test_rows_that_are_cut_or_left_out_are_told_and_counted(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        warning = "2 rows of train are left out, with no answer left to learn (train.jsonl:1, train.jsonl:7)."
        found = {"longerThanMaxLength": 3, "teachingNothing": 2}
        cluster.complete("prepare", PREPARED | {"dataset": PREPARED["dataset"] | found, "warnings": [warning]})
        cluster.reconcile()
        assert cluster.condition("DataReady")[2] == f"270 rows to train on, 30 to validate, 0 set aside. {warning}"
        assert cluster.status["dataset"]["longerThanMaxLength"] == 3
        assert cluster.status["dataset"]["teachingNothing"] == 2

    def test_a_candidate_is_hosted_and_the_stable_service_waits_until_it_answers(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        cluster.complete("prepare", PREPARED)
        cluster.reconcile()
        cluster.complete("train", TRAINED)
        cluster.reconcile()
        assert cluster.exists("Deployment")
        assert ("Service", "recipes") not in cluster.objects
        assert cluster.status["artifact"]["uri"] == f"pvc://recipes-{cluster.revision}/artifact"

    def test_the_stable_service_moves_to_the_candidate_that_answers(self, serving: Rehearsal) -> None:
        stable = serving.objects["Service", "recipes"]
        assert stable["spec"]["selector"]["finetune.dev/revision"] == serving.revision
        assert serving.status["servedRevision"] == serving.revision
        assert serving.status["phase"] == "Serving"
        assert serving.condition("Ready")[:2] == ("True", "Serving")
        assert serving.status["endpoint"] == {"url": "http://recipes.kitchen.svc/v1", "model": "recipes"}

    def test_every_transition_is_told_once_as_an_event(self, cluster: Rehearsal) -> None:
        first = cluster.look()
        assert [(event.type, event.reason) for event in first.events] == [("Normal", "Accepted")]
        cluster.reconcile()
        assert cluster.look().events == ()

    def test_at_rest_the_status_does_not_change(self, serving: Rehearsal) -> None:
        before = copy.deepcopy(serving.job)
        assert serving.reconcile().again_after is None
        assert serving.job == before

    def test_without_hosting_the_job_ends_with_the_artifact(self) -> None:
        cluster = Rehearsal(hosting={"enabled": False})
        cluster.reconcile()
        cluster.complete("prepare", PREPARED)
        cluster.reconcile()
        cluster.complete("train", TRAINED)
        cluster.reconcile()
        assert cluster.condition("Ready")[:2] == ("True", "Succeeded")
        assert cluster.condition("Hosted")[:2] == ("False", "Disabled")
        assert cluster.status["phase"] == "Succeeded"
        assert not cluster.exists("Deployment")

    def test_progress_of_the_running_pod_is_shown_and_asked_for_again(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        cluster.complete("prepare", PREPARED)
        cluster.reconcile()
        cluster.running("train")
        cluster.progress = Progress(stage="train", step=12, total_steps=40, loss=1.23456, tokens_per_second=181.6)
        planned = cluster.reconcile()
        assert [each.address for each in planned.ask.values()] == ["10.0.0.7"]
        assert cluster.status["progressSummary"] == "12/40"
        assert cluster.status["progress"]["loss"] == "1.2346"
        assert cluster.status["progress"]["tokensPerSecond"] == "182"

    def test_memory_that_ran_out_once_is_told_while_training_goes_on_and_when_it_is_done(
        self, cluster: Rehearsal
    ) -> None:
        said = "H100 ran out of its 80 GiB of memory, with up to 4096 tokens at once; the next run takes 2048."
        cluster.reconcile()
        cluster.complete("prepare", PREPARED)
        cluster.reconcile()
        cluster.ended("train", 137, "", "OOMKilled")
        (name,) = [name for kind, name in cluster.objects if kind == "Pod" and "-train-" in name]
        killed = copy.deepcopy(cluster.objects["Pod", name])
        killed["metadata"] |= {"name": f"{name}-killed", "uid": "killed"}
        cluster.objects["Pod", f"{name}-killed"] = killed
        cluster.running("train")
        cluster.progress = Progress(stage="train", notice=said)
        cluster.reconcile()
        assert cluster.condition("Trained")[2].endswith("the last one: it was killed at its memory limit")
        assert cluster.status["progress"]["notice"] == said
        cluster.complete("train", TRAINED | {"notice": said})
        cluster.reconcile()
        assert cluster.condition("Trained")[2].endswith(f"/artifact. {said}")


class TestRevisions:
    def test_hosting_changes_retrain_nothing(self, serving: Rehearsal) -> None:
        revision = serving.revision
        serving.edit(hosting={"contextLength": 1024})
        serving.reconcile()
        assert serving.revision == revision
        assert "1024" in str(serving.get("Deployment")["spec"])
        assert serving.condition("Trained")[1] != "Running"

    def test_a_new_seed_trains_a_new_revision_while_the_old_one_serves(self, serving: Rehearsal) -> None:
        old = serving.revision
        edit_training(serving, seed=7)
        serving.reconcile()
        assert serving.revision != old
        assert serving.exists("Deployment", revision=old)
        assert serving.status["servedRevision"] == old
        status, reason, message = serving.condition("Ready")
        assert (status, reason) == ("Unknown", "Starting")
        assert f"Revision {old} goes on serving" in message

    def test_the_old_revision_is_removed_after_the_new_one_is_promoted(self, serving: Rehearsal) -> None:
        old = serving.revision
        edit_training(serving, seed=7)
        serving.serve()
        assert serving.status["servedRevision"] == serving.revision != old
        assert not serving.exists("Deployment", revision=old)
        assert not serving.exists("Job", "-train", revision=old)
        assert [(entry["revision"], entry["outcome"]) for entry in serving.status["history"]] == [
            (serving.revision, "Serving"),
            (old, "Superseded"),
        ]

    def test_the_old_revision_keeps_its_own_model_when_the_manifest_names_another(self, serving: Rehearsal) -> None:
        old = serving.revision
        before = serving.objects["Deployment", f"recipes-{old}"]["spec"]
        serving.edit(model={"source": "pvc://models/other"})
        serving.reconcile()
        assert serving.objects["Deployment", f"recipes-{old}"]["spec"] == before

    def test_recreate_gives_the_accelerators_to_the_new_revision_and_takes_them_back(self, serving: Rehearsal) -> None:
        old = recreated(serving)
        assert replicas(serving, old) == 1, "preparing needs no accelerator"
        serving.complete("prepare", PREPARED)
        serving.reconcile()
        assert replicas(serving, old) == 1, "nobody has said that there are none left"
        serving.unschedulable("train", "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
        serving.reconcile()
        assert replicas(serving, old) == 0
        assert f"Revision {old} has made room for it" in serving.condition("Ready")[2]
        serving.running("train")
        serving.reconcile()
        assert replicas(serving, old) == 0
        serving.fail("train", Outcome.DIVERGED, "The loss became NaN at step 3; lower learningRate.")
        serving.reconcile()
        assert replicas(serving, old) == 1

    def test_recreate_gives_nothing_for_an_image_that_can_not_be_pulled(self, serving: Rehearsal) -> None:
        old = recreated(serving)
        serving.complete("prepare", PREPARED)
        serving.reconcile()
        waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
        serving.container("train", waiting)
        serving.reconcile()
        assert replicas(serving, old) == 1
        assert f"Revision {old} goes on serving" in serving.condition("Ready")[2]
        serving.unschedulable("train", "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
        serving.reconcile()
        serving.container("train", waiting)
        serving.reconcile()
        assert replicas(serving, old) == 1, "it takes back what is of no use to the new one"

    def test_recreate_gives_nothing_for_what_it_does_not_hold(self, serving: Rehearsal) -> None:
        old = recreated(serving)
        serving.complete("prepare", PREPARED)
        serving.reconcile()
        serving.unschedulable("train", "0/1 nodes are available: 1 Insufficient memory, 1 Insufficient nvidia.com/gpu.")
        serving.reconcile()
        assert replicas(serving, old) == 1

    def test_what_could_not_be_written_for_a_moment_is_not_told_as_done(self, serving: Rehearsal) -> None:
        serving.edit(hosting=serving.job["spec"]["hosting"] | {"contextLength": 1024})
        told = serving.look().status
        ready = next(found for found in told.conditions if found.type == "Ready")
        assert (ready.status, ready.reason) == ("Unknown", "Running")
        assert ready.observed_generation == told.observed_generation == 2
        assert ready.message.startswith("What the manifest asks for is being written.")
        serving.reconcile()
        serving.roll_out()
        serving.reconcile()
        assert serving.condition("Ready")[:2] == ("True", "Serving")

    def test_disabling_hosting_removes_the_endpoint(self, serving: Rehearsal) -> None:
        serving.edit(hosting={"enabled": False})
        serving.reconcile()
        assert not serving.exists("Deployment")
        assert ("Service", "recipes") not in serving.objects
        assert "endpoint" not in serving.status


class TestSuspend:
    def test_suspending_removes_the_job_and_resuming_makes_it_again(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        cluster.running("prepare")
        cluster.edit(suspend=True)
        cluster.reconcile()
        assert not cluster.exists("Job", "-prepare")
        assert cluster.status["phase"] == "Suspended"
        cluster.edit(suspend=False)
        cluster.reconcile()
        assert not cluster.exists("Job", "-prepare"), "the first one's pod still writes"
        cluster.end_pods()
        cluster.reconcile()
        assert cluster.exists("Job", "-prepare")

    def test_a_job_that_somebody_else_suspended_is_theirs_to_resume(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        cluster.get("Job", "-prepare")["spec"]["suspend"] = True
        cluster.reconcile()
        assert cluster.get("Job", "-prepare")["spec"]["suspend"] is True
        status, reason, message = cluster.condition("DataReady")
        assert (status, reason) == ("Unknown", "Suspended")
        assert message.endswith(
            "is suspended, and not by spec.suspend; set its own spec.suspend to false and it goes on."
        )

    def test_what_serves_goes_on_serving(self, serving: Rehearsal) -> None:
        old = serving.revision
        serving.edit(suspend=True)
        edit_training(serving, seed=7)
        serving.reconcile()
        assert serving.exists("Deployment", revision=old)
        assert not serving.exists("Job", "-prepare")
        assert serving.condition("Ready")[1] == "Suspended"

    def test_a_candidate_that_does_not_serve_yet_is_taken_down(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        cluster.complete("prepare", PREPARED)
        cluster.reconcile()
        cluster.complete("train", TRAINED)
        cluster.reconcile()
        cluster.edit(suspend=True)
        cluster.reconcile()
        assert not cluster.exists("Deployment")


class TestNothingIsLost:
    def test_a_finished_stage_stays_finished_when_its_job_is_gone(self, serving: Rehearsal) -> None:
        for stage in ("prepare", "train"):
            serving.delete("Job", f"recipes-{serving.revision}-{stage}")
        serving.reconcile()
        assert not serving.exists("Job", "-prepare")
        assert not serving.exists("Job", "-train")
        assert serving.condition("Ready")[0] == "True"

    def test_a_failed_stage_stays_failed_when_its_job_is_gone(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        cluster.fail("prepare", Outcome.DATA_INVALID, "train.jsonl:3: no messages.")
        cluster.reconcile()
        cluster.delete("Job", f"recipes-{cluster.revision}-prepare")
        cluster.reconcile()
        assert not cluster.exists("Job", "-prepare")
        assert cluster.condition("DataReady") == ("False", "DataInvalid", "train.jsonl:3: no messages.")

    def test_a_running_stage_whose_job_is_deleted_is_started_again(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        cluster.delete("Job", f"recipes-{cluster.revision}-prepare")
        cluster.reconcile()
        assert cluster.exists("Job", "-prepare")

    def test_two_trainers_never_share_a_workspace(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        cluster.running("prepare")
        del cluster.objects["Job", f"recipes-{cluster.revision}-prepare"]
        cluster.reconcile()
        assert not cluster.exists("Job", "-prepare"), "its pod still runs"

    def test_a_complete_job_whose_pod_is_gone_is_run_again_to_say_its_result(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        cluster.complete("prepare", PREPARED)
        del cluster.objects["Pod", f"recipes-{cluster.revision}-prepare-x"]
        first = cluster.get("Job", "-prepare")["metadata"]["uid"]
        cluster.reconcile()
        assert cluster.get("Job", "-prepare")["metadata"]["uid"] != first

    def test_a_lost_status_is_found_again_from_the_jobs(self, serving: Rehearsal) -> None:
        before = serving.status
        serving.job["status"] = {}
        serving.reconcile()
        assert serving.status["dataset"] == before["dataset"]
        assert serving.status["artifact"] == before["artifact"]
        assert serving.condition("Ready")[0] == "True"

    def test_a_deleted_service_or_deployment_comes_back(self, serving: Rehearsal) -> None:
        serving.delete("Deployment", f"recipes-{serving.revision}")
        serving.reconcile()
        assert serving.exists("Deployment")

    def test_what_is_being_deleted_is_left_alone(self, serving: Rehearsal) -> None:
        serving.job["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        assert serving.look().actions == ()


class TestTryingAgain:
    def test_changing_what_a_failed_stage_was_started_with_tries_it_again(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        cluster.complete("prepare", PREPARED)
        cluster.reconcile()
        cluster.ended("train", 137, "", "OOMKilled")
        cluster.job_failed("train", "BackoffLimitExceeded")
        cluster.reconcile()
        assert cluster.condition("Trained")[:2] == ("False", "MemoryLimitExceeded")
        revision = cluster.revision
        edit_training(cluster, resources={"limits": {"memory": "16Gi"}})
        cluster.reconcile()
        assert cluster.revision == revision, "resources do not change what the weights are"
        assert cluster.condition("Trained")[:2] == ("Unknown", "Starting")

    def test_the_retry_annotation_tries_a_failed_stage_again(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        cluster.fail("prepare", Outcome.NOT_FOUND, "s3://data/train.jsonl does not exist.")
        cluster.reconcile()
        assert cluster.status["phase"] == "Failed"
        cluster.annotate("finetune.dev/retry", "1")
        cluster.reconcile()
        assert cluster.status["phase"] == "Preparing"
        assert cluster.exists("Job", "-prepare")

    def test_an_operator_upgrade_leaves_a_running_job_alone(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        cluster.get("Job", "-prepare")["spec"]["template"]["spec"]["containers"][0]["image"] = "trainer:old"
        cluster.reconcile()
        image = cluster.get("Job", "-prepare")["spec"]["template"]["spec"]["containers"][0]["image"]
        assert image == "trainer:old"


class TestWhatStandsInTheWay:
    def test_a_claim_that_is_not_there_is_named_and_looked_for_again(self) -> None:
        cluster = Rehearsal(model={"source": "pvc://models/base"})
        cluster.absent.add(("PersistentVolumeClaim", "models"))
        planned = cluster.reconcile()
        assert planned.again_after == MISSING_SECONDS
        assert cluster.condition("Accepted")[:2] == ("False", "ObjectNotFound")
        assert "PersistentVolumeClaim models" in cluster.condition("Accepted")[2]
        assert cluster.objects == {}

    def test_so_is_the_claim_of_a_cache(self) -> None:
        cluster = Rehearsal(workspace={"cache": "pvc://shared/models"})
        cluster.absent.add(("PersistentVolumeClaim", "shared"))
        cluster.reconcile()
        assert cluster.condition("Accepted")[:2] == ("False", "ObjectNotFound")
        assert "PersistentVolumeClaim shared" in cluster.condition("Accepted")[2]

    def test_so_is_the_claim_that_the_artifact_is_to_go_to(self) -> None:
        cluster = Rehearsal(output={"destination": "pvc://published/recipes"})
        cluster.absent.add(("PersistentVolumeClaim", "published"))
        cluster.reconcile()
        assert cluster.condition("Accepted") == (
            "False",
            "ObjectNotFound",
            "Not in namespace kitchen: PersistentVolumeClaim published. Create what is missing, or correct the address "
            "that names it.",
        )
        assert cluster.objects == {}

    def test_a_dataset_that_is_removed_after_it_was_prepared_disturbs_nothing(self, serving: Rehearsal) -> None:
        serving.absent.add(("ConfigMap", "rows"))
        serving.reconcile()
        assert serving.condition("Ready")[0] == "True"

    def test_somebody_elses_service_is_not_taken_over(self, cluster: Rehearsal) -> None:
        foreign = {
            "kind": "Service",
            "metadata": {"name": "recipes", "uid": "x", "resourceVersion": "1"},
            "spec": {"selector": {"app": "shop"}},
        }
        cluster.objects["Service", "recipes"] = foreign
        planned = cluster.reconcile()
        assert list(cluster.objects) == [("Service", "recipes")], "told before anything is made"
        assert cluster.condition("Accepted")[:2] == ("False", "NameTaken")
        assert planned.again_after == MISSING_SECONDS
        del cluster.objects["Service", "recipes"]
        cluster.train()
        cluster.objects["Service", "recipes"] = foreign
        cluster.roll_out()
        cluster.reconcile()
        assert cluster.objects["Service", "recipes"] == foreign
        assert cluster.condition("Promoted")[:2] == ("False", "NameTaken")
        assert "Service recipes exists" in cluster.condition("Ready")[2]

    def test_a_spec_that_an_older_schema_let_through_is_refused_with_the_field(self) -> None:
        cluster = Rehearsal(hosting={"replicas": 3})
        cluster.reconcile()
        status, reason, message = cluster.condition("Accepted")
        assert (status, reason) == ("False", "Invalid")
        assert "ReadWriteMany" in message

    def test_a_refusal_is_told_once_and_keeps_its_time(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        job = f"recipes-{cluster.revision}-train"
        cluster.refuse["create", "Job", job] = "exceeded quota: jobs"
        cluster.complete("prepare", PREPARED)
        first = cluster.reconcile()
        assert cluster.condition("Trained") == (
            "False",
            "Refused",
            f"The API server refused Job {job}: exceeded quota: jobs",
        )
        assert cluster.status["phase"] == "Blocked"
        assert first.again_after == REFUSED_SECONDS
        before = cluster.status
        cluster.now += timedelta(minutes=1)
        again = cluster.reconcile()
        assert cluster.status == before
        assert again.events == ()

    def test_a_failing_stage_tells_ready_what_it_tells_its_own_condition(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        cluster.fail("prepare", Outcome.DATA_INVALID, "train.jsonl:3: no messages.")
        planned = cluster.reconcile()
        assert planned.again_after is None
        assert cluster.condition("Ready") == ("False", "DataInvalid", "DataReady: train.jsonl:3: no messages.")

    def test_a_failure_of_the_new_revision_names_the_one_that_serves(self, serving: Rehearsal) -> None:
        old = serving.revision
        edit_training(serving, seed=7)
        serving.reconcile()
        serving.fail("prepare", Outcome.ACCESS_DENIED, "The bucket refused the key.")
        serving.reconcile()
        assert f"Revision {old} goes on serving" in serving.condition("Ready")[2]
        assert serving.exists("Deployment", revision=old)


def test_what_passes_in_a_moment_is_not_told() -> None:
    """Between a Job's creation and its container's start, and between its pod's end and its own, status stays."""
    found = Rehearsal()
    found.reconcile()
    started = found.status
    found.container("prepare", {"waiting": {"reason": "ContainerCreating"}})
    found.reconcile()
    assert found.status == started
    found.running("prepare")
    found.reconcile()
    running = found.status
    assert running != started
    found.ended("prepare", 0, json.dumps({"reason": "Succeeded", "result": PREPARED}), "Completed")
    found.reconcile()
    assert found.status == running


def test_accelerators_that_cannot_share_the_planned_batch_are_never_held() -> None:
    cluster = Rehearsal()
    cluster.reconcile()
    cluster.complete("prepare", PREPARED)
    cluster.edit(training={"maxSteps": 40, "resources": {"limits": {"nvidia.com/gpu": 3}}})
    cluster.reconcile()
    status, reason, message = cluster.condition("Trained")
    assert (status, reason) == ("False", "ConfigInvalid")
    assert "batch of 8 rows (status.plan.batchSize) can't be shared evenly by the 3 accelerators" in message
    assert not cluster.exists("Job", "-train")
    cluster.edit(training={"maxSteps": 40, "resources": {"limits": {"nvidia.com/gpu": 4}}})
    cluster.reconcile()
    assert cluster.exists("Job", "-train")
