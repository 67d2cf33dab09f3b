"""Whose an object is, only its controller's uid says. What is going is waited for; what is somebody's is left alone."""

import copy
from typing import Any

from finetune_operator import names
from finetune_operator.api.v1alpha1 import FineTuneJobSpec
from finetune_operator.kinds.actions import Apply
from rehearsal import PREPARED, TRAINED, Rehearsal


def wanted(cluster: Rehearsal) -> str:
    """The manifest's revision, whether the operator has seen it or not."""
    return names.revision_of(FineTuneJobSpec.model_validate(cluster.job["spec"]))


def claim(cluster: Rehearsal) -> dict[str, Any]:
    return cluster.get("PersistentVolumeClaim")


class TestANamesake:
    """The FineTuneJob is deleted and applied again while what the first one owned is still there."""

    def test_nothing_of_the_dead_one_is_adopted(self, serving: Rehearsal) -> None:
        before = copy.deepcopy(serving.objects)
        serving.replace_job()
        serving.reconcile()
        assert serving.objects == before, "it is the garbage collector's to remove"
        assert "artifact" not in serving.status
        assert "servedRevision" not in serving.status
        status, reason, message = serving.condition("Ready")
        assert (status, reason) == ("Unknown", "Restarting")
        assert "of an earlier FineTuneJob is still there; the work waits until it is gone" in message

    def test_it_goes_on_by_itself_once_that_is_gone(self, serving: Rehearsal) -> None:
        old = claim(serving)["metadata"]["uid"]
        serving.replace_job()
        serving.reconcile()
        serving.collect()
        serving.serve()
        assert claim(serving)["metadata"]["uid"] != old
        assert serving.condition("Ready")[0] == "True"

    def test_it_starts_no_job_on_a_volume_that_is_going(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        cluster.running("prepare")
        cluster.replace_job(hosting={"enabled": False})
        cluster.reconcile()
        assert cluster.condition("DataReady")[:2] == ("Unknown", "Restarting")
        assert "which is not of this FineTuneJob, still uses the volume" in cluster.condition("DataReady")[2]
        cluster.collect()
        cluster.reconcile()
        assert cluster.get("Job", "-prepare")["metadata"]["ownerReferences"][0]["uid"] == cluster.uid
        assert claim(cluster)["metadata"]["ownerReferences"][0]["uid"] == cluster.uid


class TestStrangers:
    def test_an_object_with_our_labels_is_neither_read_nor_removed(self, serving: Rehearsal) -> None:
        labels = {"finetune.dev/job": "recipes", "finetune.dev/revision": "0badc0de"}
        for kind in ("ConfigMap", "Job", "Deployment", "NetworkPolicy", "PersistentVolumeClaim", "Service"):
            metadata = {"name": "mine", "uid": f"theirs-{kind}", "labels": labels, "resourceVersion": "1"}
            serving.objects[kind, "mine"] = {"kind": kind, "metadata": metadata, "data": {"run.json": "not even JSON"}}
        before = copy.deepcopy(serving.objects)
        serving.reconcile()
        assert serving.objects == before
        assert serving.condition("Ready")[0] == "True"

    def test_a_pod_that_nothing_controls_keeps_its_volume_to_itself(self, cluster: Rehearsal) -> None:
        """Its Job was deleted with --cascade=orphan: it still writes."""
        cluster.reconcile()
        cluster.running("prepare")
        pod = cluster.objects["Pod", f"recipes-{cluster.revision}-prepare-x"]
        pod["metadata"]["ownerReferences"] = []
        del cluster.objects["Job", f"recipes-{cluster.revision}-prepare"]
        cluster.reconcile()
        assert not cluster.exists("Job", "-prepare")
        assert (
            f"Pod {pod['metadata']['name']}, which is not of this FineTuneJob, still uses"
            in cluster.condition("DataReady")[2]
        )


class TestWhatIsGoing:
    def test_back_to_the_first_manifest_while_its_trainer_still_ends(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        cluster.complete("prepare", PREPARED)
        cluster.reconcile()
        cluster.running("train")
        first, seed = cluster.revision, cluster.job["spec"]["training"]
        cluster.edit(training=seed | {"seed": 7})
        cluster.reconcile()
        assert "deletionTimestamp" in cluster.objects["PersistentVolumeClaim", f"recipes-{first}"]["metadata"]
        cluster.edit(training=seed)
        cluster.reconcile()
        assert cluster.revision == first
        status, reason, message = cluster.condition("DataReady")
        assert (status, reason) == ("Unknown", "Restarting")
        assert f"PersistentVolumeClaim recipes-{first} is being deleted" in message
        cluster.end_pods()
        cluster.serve()
        assert cluster.condition("Ready")[0] == "True"

    def test_a_claim_deleted_by_hand_goes_with_the_model_and_it_is_made_anew(self, serving: Rehearsal) -> None:
        serving.running("host")
        serving.delete("PersistentVolumeClaim", f"recipes-{serving.revision}")
        serving.reconcile()
        status, _, message = serving.condition("Ready")
        assert status == "True", "its pods still have it"
        assert "is being deleted: once no pod uses it, the model is gone" in message
        del serving.objects["Pod", f"recipes-{serving.revision}-x"]
        serving.end_pods()
        serving.reconcile()
        assert serving.exists("PersistentVolumeClaim"), "a new one"
        assert not serving.exists("Deployment"), "there is nothing to serve"
        assert serving.condition("Ready")[:2] == ("Unknown", "Starting")
        serving.complete("prepare", PREPARED)
        serving.reconcile()
        serving.complete("train", TRAINED)
        serving.reconcile()
        serving.roll_out()
        serving.reconcile()
        assert serving.condition("Ready")[0] == "True"

    def test_a_record_deleted_by_hand_takes_nothing_down(self, serving: Rehearsal) -> None:
        """What was made is still in the workspace: the stages find it there and say so again."""
        serving.delete("ConfigMap", f"recipes-{serving.revision}")
        serving.reconcile()
        assert serving.exists("Deployment")
        assert serving.objects["Service", "recipes"]["spec"]["selector"]["finetune.dev/revision"] == serving.revision


class TestOneActionFailing:
    def test_a_quota_on_claims_frees_the_abandoned_revision_and_restores_what_serves(self, serving: Rehearsal) -> None:
        served = serving.revision
        training = serving.job["spec"]["training"]
        serving.edit(training=training | {"seed": 7})
        serving.reconcile()
        serving.complete("prepare", PREPARED)
        serving.reconcile()
        abandoned = serving.revision
        serving.edit(training=training | {"seed": 8})
        serving.delete("Deployment", f"recipes-{served}")
        serving.refuse["create", "PersistentVolumeClaim", f"recipes-{wanted(serving)}"] = "exceeded quota: claims"
        serving.reconcile()
        assert not serving.exists("Job", "-train", revision=abandoned), "its accelerator is free"
        assert serving.exists("Deployment", revision=served)
        assert "exceeded quota: claims" in serving.condition("DataReady")[2]
        assert not serving.exists("Job", "-prepare"), "a Job without its volume"

    def test_a_policy_that_denies_deleting_a_claim_does_not_hide_what_serves(self, serving: Rehearsal) -> None:
        old = serving.revision
        serving.edit(hosting=serving.job["spec"]["hosting"] | {"revisionHistoryLimit": 0})
        serving.edit(training=serving.job["spec"]["training"] | {"seed": 7})
        serving.refuse["delete", "PersistentVolumeClaim", f"recipes-{old}"] = "denied by policy keep-claims"
        serving.serve()
        assert serving.status["servedRevision"] == serving.revision != old
        assert serving.condition("Promoted")[0] == "True"
        status, reason, message = serving.condition("Ready")
        assert (status, reason) == ("True", "Serving")
        assert f"The API server refused to delete PersistentVolumeClaim recipes-{old}: denied by policy" in message
        assert not serving.exists("Deployment", revision=old)


def test_a_stable_service_deleted_by_hand_comes_back_for_what_served(serving: Rehearsal) -> None:
    served = serving.revision
    serving.edit(training=serving.job["spec"]["training"] | {"seed": 7})
    serving.reconcile()
    serving.delete("Service", "recipes")
    serving.reconcile()
    assert serving.objects["Service", "recipes"]["spec"]["selector"]["finetune.dev/revision"] == served
    assert serving.exists("Deployment", revision=served)


def test_a_stable_service_that_is_missing_is_made_once_though_hosting_changes(serving: Rehearsal) -> None:
    serving.edit(hosting=serving.job["spec"]["hosting"] | {"contextLength": 512, "rollout": "surge"})
    serving.reconcile()
    serving.delete("Service", "recipes")
    applied = [action.manifest["kind"] for action in serving.look().actions if isinstance(action, Apply)]
    assert applied.count("Service") == 1
    serving.reconcile()
    assert ("Service", "recipes") in serving.objects


def test_a_status_written_by_hand_serves_nothing_that_was_never_trained(cluster: Rehearsal) -> None:
    cluster.reconcile()
    cluster.job["status"]["servedRevision"] = "0badc0de"
    cluster.reconcile()
    assert ("Service", "recipes") not in cluster.objects
