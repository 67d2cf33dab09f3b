"""A FineTuneJob that starts from another one's artifact: what it takes, what it waits for, and what it says then."""

from datetime import timedelta
from typing import Any

import pytest
import yaml
from finetune_operator.api.status import Condition
from finetune_operator.api.v1alpha1 import KIND
from finetune_operator.finetunejob.plan import plan
from finetune_operator.shell.resources import Key, NamespacedName
from finetune_operator.shell.store import Store
from finetune_trainer.contract.config import RunConfig
from finetune_trainer.contract.outcome import Outcome
from paths import EXAMPLES
from rehearsal import CHECKPOINTS, MANIFEST, PREPARED, TRAINED, Rehearsal
from test_plan import edit_training

OFF = {"hosting": {"enabled": False}}


@pytest.fixture
def sft() -> Rehearsal:
    """The source, of which nothing is there yet but the manifest."""
    found = Rehearsal("sft", **OFF)
    found.reconcile()
    return found


@pytest.fixture
def dpo(sft: Rehearsal) -> Rehearsal:
    return starting(sft)


def starting(source: Rehearsal, address: str = "", **spec: Any) -> Rehearsal:
    found = Rehearsal(model={"source": f"ftj://{source.name}{address}"}, **(OFF | spec))
    found.source = source
    return found


def told(cluster: Rehearsal) -> RunConfig:
    """What its stages are told."""
    return RunConfig.model_validate_json(cluster.get("ConfigMap")["data"]["run.json"])


def begun(cluster: Rehearsal) -> bool:
    cluster.reconcile()
    return cluster.exists("Job", "-prepare")


class TestOnceTheSourceIsTrained:
    def test_it_starts_from_that_revision_and_says_so(self, sft: Rehearsal, dpo: Rehearsal) -> None:
        sft.train()
        assert begun(dpo)
        model = told(dpo).model
        assert model.source.uri == f"ftj://sft/{sft.revision}"
        assert model.origin is not None
        assert model.origin.digest == TRAINED["artifact"]["digest"]
        lineage = [f"ftj://sft/{sft.revision}", "s3://models/base@abc123"]
        assert list(model.origin.lineage) == lineage
        # As the trainer would tell of it.
        found = {**PREPARED["model"], "commit": None, "lineage": lineage, "digest": "sha256:bb"}
        dpo.complete("prepare", PREPARED | {"model": found})
        dpo.reconcile()
        assert dpo.status["model"]["lineage"] == lineage
        assert dpo.status["model"]["digest"] == "sha256:bb"

    def test_prepare_alone_mounts_its_volume_and_only_to_read(self, sft: Rehearsal, dpo: Rehearsal) -> None:
        sft.train()
        assert begun(dpo)
        pod = dpo.get("Job", "-prepare")["spec"]["template"]["spec"]
        claim = {"claimName": f"sft-{sft.revision}", "readOnly": True}
        (volume,) = [each for each in pod["volumes"] if each.get("persistentVolumeClaim") == claim]
        (mount,) = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == volume["name"]]
        assert mount == {"name": volume["name"], "mountPath": str(files(dpo)), "readOnly": True}
        dpo.complete("prepare", PREPARED)
        dpo.reconcile()
        train = dpo.get("Job", "-train")["spec"]["template"]["spec"]
        assert claim not in [each.get("persistentVolumeClaim") for each in train["volumes"]]

    def test_where_its_base_model_is_kept_for_many_is_mounted_too(self) -> None:
        source = Rehearsal("sft", workspace={"cache": "pvc://shared/models"}, **OFF)
        source.train()
        copying = starting(source)
        assert begun(copying)
        pod = copying.get("Job", "-prepare")["spec"]["template"]["spec"]
        claims = [volume.get("persistentVolumeClaim") for volume in pod["volumes"]]
        assert {"claimName": "shared", "readOnly": True} in claims

    def test_its_pod_prefers_the_node_that_may_have_the_volume(self, sft: Rehearsal, dpo: Rehearsal) -> None:
        sft.train()
        assert begun(dpo)
        affinity = dpo.get("Job", "-prepare")["spec"]["template"]["spec"]["affinity"]["podAffinity"]
        (preferred,) = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
        wanted = {"finetune.dev/job": "sft", "finetune.dev/revision": sft.revision}
        assert preferred["podAffinityTerm"]["labelSelector"]["matchLabels"] == wanted
        assert affinity["requiredDuringSchedulingIgnoredDuringExecution"]

    def test_the_base_model_of_a_claim_is_mounted_too(self) -> None:
        sft = Rehearsal("sft", model={"source": "pvc://models/llama"}, **OFF)
        sft.train()
        dpo = starting(sft)
        assert begun(dpo)
        volumes = dpo.get("Job", "-prepare")["spec"]["template"]["spec"]["volumes"]
        assert {"claimName": "models", "readOnly": True} in [each.get("persistentVolumeClaim") for each in volumes]
        dpo = starting(sft)
        dpo.absent = {("PersistentVolumeClaim", "models")}
        dpo.reconcile()
        assert "Not in namespace kitchen: PersistentVolumeClaim models." in dpo.condition("Accepted")[2]

    def test_what_it_serves_comes_before_what_is_newer(self) -> None:
        sft = Rehearsal("sft")
        sft.serve()
        served = sft.revision
        edit_training(sft, seed=7)
        sft.train()
        assert sft.revision != served
        dpo = starting(sft)
        assert begun(dpo)
        assert told(dpo).model.source.uri == f"ftj://sft/{served}"

    def test_of_what_it_does_not_serve_the_newest_is_taken(self, sft: Rehearsal, dpo: Rehearsal) -> None:
        sft.train()
        edit_training(sft, seed=7)
        sft.train()
        assert begun(dpo)
        assert told(dpo).model.source.uri == f"ftj://sft/{sft.revision}"

    def test_a_revision_or_a_checkpoint_may_be_named(self, sft: Rehearsal) -> None:
        sft.train(TRAINED | {"checkpoints": CHECKPOINTS})
        first = sft.revision
        edit_training(sft, seed=7)
        sft.train()
        dpo = starting(sft, f"/{first}@30")
        assert begun(dpo)
        origin = told(dpo).model.origin
        assert origin is not None
        assert (origin.digest, origin.step, origin.lineage[0]) == ("sha256:cc", 30, f"ftj://sft/{first}@30")

    def test_what_becomes_of_the_source_later_changes_nothing(self, sft: Rehearsal, dpo: Rehearsal) -> None:
        sft.train()
        assert begun(dpo)
        revision, before = dpo.revision, told(dpo)
        edit_training(sft, seed=7)
        sft.train()
        dpo.reconcile()
        assert (dpo.revision, told(dpo)) == (revision, before)
        dpo.complete("prepare", PREPARED)
        dpo.reconcile()
        dpo.source = None
        assert dpo.exists("Job", "-train")
        dpo.complete("train", TRAINED)
        dpo.reconcile()
        assert dpo.condition("Ready")[:2] == ("True", "Succeeded")

    def test_it_may_be_trained_further_in_turn(self, sft: Rehearsal, dpo: Rehearsal) -> None:
        sft.train()
        dpo.train()
        third = Rehearsal("third", model={"source": "ftj://recipes"}, **OFF)
        third.source = dpo
        assert begun(third)
        origin = told(third).model.origin
        assert origin is not None
        assert origin.lineage == (f"ftj://recipes/{dpo.revision}", *told(dpo).model.origin.lineage)  # type: ignore[union-attr]

    def test_a_job_may_go_on_from_its_own_earlier_revision(self, sft: Rehearsal) -> None:
        sft.train()
        first = sft.revision
        sft.source = Rehearsal("sft", **OFF)
        sft.source.job, sft.source.objects = sft.job, sft.objects
        sft.edit(model={"source": f"ftj://sft/{first}"})
        assert begun(sft)
        assert told(sft).model.source.uri == f"ftj://sft/{first}"
        assert sft.revision != first

    def test_so_does_the_example(self) -> None:
        spec = yaml.safe_load((EXAMPLES / "continue.yaml").read_text())["spec"]
        manifest = yaml.safe_load((EXAMPLES / "recipe-assistant/finetunejob.yaml").read_text())
        sft = Rehearsal(manifest["metadata"]["name"], **manifest["spec"])
        dpo = Rehearsal(**spec)
        dpo.source = sft
        sft.reconcile()
        assert not begun(dpo)
        sft.train()
        assert begun(dpo)
        assert told(dpo).model.source.uri == f"ftj://recipe-assistant/{sft.revision}"


class TestUntilThen:
    def test_it_waits_for_a_source_that_trains(self, sft: Rehearsal, dpo: Rehearsal) -> None:
        assert not begun(dpo)
        assert dpo.condition("Accepted")[0] == "True"
        assert dpo.condition("DataReady") == (
            "Unknown",
            "SourceNotTrained",
            "FineTuneJob sft, which it starts from, is not trained yet (Preparing); the work begins once it is.",
        )
        assert dpo.status["phase"] == "Pending"
        assert not dpo.objects
        # Nobody looks again by the clock.
        assert dpo.look().again_after is None
        sft.train()
        assert begun(dpo)

    def test_it_names_one_that_is_not_there(self) -> None:
        dpo = starting(Rehearsal("sft"))
        dpo.source = None
        assert not begun(dpo)
        told = "Not in namespace kitchen: FineTuneJob sft. Create it, or correct model.source."
        assert dpo.condition("Accepted") == ("False", "ObjectNotFound", told)

    def test_one_that_is_being_deleted_is_as_good_as_gone(self, sft: Rehearsal, dpo: Rehearsal) -> None:
        sft.train()
        sft.job["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        assert not begun(dpo)
        assert "Not in namespace kitchen: FineTuneJob sft." in dpo.condition("Accepted")[2]

    def test_it_tells_why_a_source_failed_and_begins_once_that_is_mended(self, sft: Rehearsal, dpo: Rehearsal) -> None:
        sft.fail("prepare", Outcome.DATA_INVALID, "train.jsonl:3: no answer.")
        sft.reconcile()
        assert not begun(dpo)
        assert dpo.condition("DataReady") == (
            "False",
            "SourceFailed",
            "FineTuneJob sft, which it starts from, has no trained revision. Its DataReady is False (DataInvalid): "
            "train.jsonl:3: no answer. The work begins by itself once it has one.",
        )
        assert dpo.status["phase"] == "Blocked"
        edit_training(sft, seed=7)
        sft.train()
        assert begun(dpo)

    def test_it_names_the_revisions_that_there_are(self, sft: Rehearsal) -> None:
        sft.train()
        dpo = starting(sft, "/0a1b2c3d")
        assert not begun(dpo)
        assert dpo.condition("DataReady") == (
            "False",
            "ObjectNotFound",
            f"FineTuneJob sft has no 0a1b2c3d that was trained and is kept; its revisions that are: {sft.revision}. "
            "Name one of those in model.source, or none for the one that it serves.",
        )

    def test_a_revision_under_way_is_waited_for_by_its_name(self, sft: Rehearsal) -> None:
        dpo = starting(sft, f"/{sft.revision}")
        assert not begun(dpo)
        assert dpo.condition("DataReady")[1] == "SourceNotTrained"
        sft.train()
        assert begun(dpo)

    def test_one_whose_files_are_gone_is_not_waited_for(self) -> None:
        sft = Rehearsal("sft", ttlAfterFinished="1h", output={"destination": "s3://artifacts/sft"}, **OFF)
        sft.reconcile()
        sft.train()
        sft.complete("publish", {"uri": f"s3://artifacts/sft/{sft.revision}", "artifact": TRAINED["artifact"]})
        sft.reconcile()
        sft.now += timedelta(hours=2)
        sft.reconcile()
        assert ("PersistentVolumeClaim", f"sft-{sft.revision}") not in sft.objects
        dpo = starting(sft)
        dpo.reconcile()
        assert dpo.condition("DataReady") == (
            "False",
            "ObjectNotFound",
            "FineTuneJob sft, which it starts from, keeps the files of no revision that it has trained: their "
            "workspaces are gone (ttlAfterFinished). Name its artifact in model.source, where that is published and "
            "whole, or have sft trained again, by another training.seed.",
        )
        # A revision under way is waited for.
        sft.edit(training={"seed": 2})
        sft.reconcile()
        dpo.reconcile()
        assert dpo.condition("DataReady")[1] == "SourceNotTrained"

    def test_suspended_it_says_that(self, dpo: Rehearsal) -> None:
        dpo.edit(suspend=True)
        assert not begun(dpo)
        assert dpo.condition("DataReady")[:2] == ("Unknown", "Suspended")


class TestWhileItIsCopied:
    def test_a_volume_that_was_deleted_before_is_told(self, sft: Rehearsal, dpo: Rehearsal) -> None:
        sft.train()
        claim = sft.get("PersistentVolumeClaim")
        dpo.reconcile()
        dpo.delete("Job", f"recipes-{dpo.revision}-prepare")
        claim["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        assert not begun(dpo)
        found = sft.revision
        assert dpo.condition("DataReady") == (
            "False",
            "ObjectNotFound",
            f"PersistentVolumeClaim sft-{found}, which has ftj://sft/{found}, was deleted before that was copied; name "
            "another revision in model.source.",
        )

    def test_a_pod_that_has_it_goes_on_whatever_is_deleted(self, sft: Rehearsal, dpo: Rehearsal) -> None:
        sft.train()
        dpo.reconcile()
        dpo.running("prepare")
        sft.get("PersistentVolumeClaim")["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        assert begun(dpo)
        assert dpo.condition("DataReady")[1] == "Running"

    def test_a_pod_that_may_wait_for_the_volume_says_for_whom(self) -> None:
        sft = Rehearsal("sft")
        sft.train()
        sft.running("host")
        dpo = starting(sft)
        assert begun(dpo)
        assert dpo.condition("DataReady") == (
            "Unknown",
            "Starting",
            f"The pod of Job recipes-{dpo.revision}-prepare is starting. It copies from PersistentVolumeClaim "
            f"sft-{sft.revision}, which is ReadWriteOnce: while Pod sft-{sft.revision}-x uses that, both have to be on "
            "one node.",
        )
        dpo.running("prepare")
        dpo.reconcile()
        assert "both have to be" not in dpo.condition("DataReady")[2]


def stored(*clusters: Rehearsal) -> tuple[Store, list[Key]]:
    woken: list[Key] = []
    store = Store(woken.append)
    for cluster in clusters:
        put(store, cluster)
    woken.clear()
    return store, woken


def put(store: Store, cluster: Rehearsal) -> None:
    """Tell the store of everything, as of now."""
    number = str(next(cluster.uids) + 1000)
    for kind, raw in [(KIND, cluster.job), *((kind, raw) for (kind, _), raw in cluster.objects.items())]:
        metadata = raw["metadata"] | {"namespace": "kitchen", "resourceVersion": number}
        store.put(kind, raw | {"metadata": metadata})


def seen(store: Store, cluster: Rehearsal) -> dict[str, Condition]:
    """The conditions that a look at the store comes to."""
    snapshot = store.snapshot(Key(KIND, "kitchen", cluster.name))
    assert snapshot is not None
    return {found.type: found for found in plan(snapshot, cluster.settings, cluster.now).status.conditions}


class TestTheStore:
    def test_whoever_waits_is_woken_when_the_source_is_trained(self, sft: Rehearsal, dpo: Rehearsal) -> None:
        dpo.reconcile()
        store, woken = stored(sft, dpo)
        other = store.snapshot(Key(KIND, "kitchen", "recipes"))
        assert other is not None
        assert not plan(other, dpo.settings, dpo.now).work
        sft.train()
        put(store, sft)
        assert set(woken) == {Key(KIND, "kitchen", "recipes")}
        now = store.snapshot(Key(KIND, "kitchen", "recipes"))
        assert now is not None
        assert now.source is not None
        assert {kind for kind, raws in now.source.children.items() if raws} >= {"ConfigMap", "PersistentVolumeClaim"}

    def test_whoever_starts_from_another_one_by_now_is_left_alone(self, sft: Rehearsal, dpo: Rehearsal) -> None:
        store, woken = stored(sft, dpo)
        dpo.edit(model={"source": "hf://org/model"})
        put(store, dpo)
        sft.train()
        put(store, sft)
        assert not woken

    def test_whoever_waits_hears_of_a_source_that_is_gone(self, sft: Rehearsal, dpo: Rehearsal) -> None:
        store, woken = stored(sft, dpo)
        store.drop(KIND, NamespacedName("kitchen", "sft"), sft.uid)
        assert woken == [Key(KIND, "kitchen", "recipes")]

    def test_a_circle_is_told_by_each(self) -> None:
        jobs = [Rehearsal(name, model={"source": f"ftj://{after}"}, **OFF) for name, after in ("ab", "bc", "ca")]
        store, _ = stored(*jobs)
        for job, told in zip(jobs, ("a b c a", "b c a b", "c a b c"), strict=True):
            found = seen(store, job)["Accepted"]
            assert (found.status, found.reason) == ("False", "Invalid")
            assert found.message == (
                f"model.source: {told.replace(' ', ' starts from ')}, and none of them is trained, so that none can "
                "begin. Let one of them start from another model."
            )

    def test_itself_is_a_circle_of_one(self) -> None:
        job = Rehearsal(model={"source": "ftj://recipes"}, **OFF)
        store, _ = stored(job)
        told = seen(store, job)["Accepted"].message
        assert told.startswith("model.source: recipes starts from recipes, and none of them is trained")

    def test_who_waits_for_one_that_can_begin_is_in_no_circle(self, sft: Rehearsal, dpo: Rehearsal) -> None:
        """recipes is trained, and edited to start from sft, which starts from what recipes has trained."""
        dpo.edit(model=MANIFEST["model"])
        dpo.train()
        sft = Rehearsal("sft", model={"source": "ftj://recipes"}, **OFF)
        dpo.edit(model={"source": "ftj://sft"})
        store, _ = stored(sft, dpo)
        assert seen(store, dpo)["DataReady"].reason == "SourceNotTrained"


def files(cluster: Rehearsal) -> Any:
    origin = told(cluster).model.origin
    assert origin is not None
    return origin.files
