"""A revision whose workspace is kept in a bucket: what its pods are told, who gets the keys, and what stays."""

import json
from typing import Any

import pytest
from finetune_operator.finetunejob.target import Target
from finetune_operator.names import BASE
from rehearsal import CHECKPOINTS, PREPARED, TRAINED, Rehearsal
from rendering import evaluate, host, prepare, publish, target, train

PLACE, KEYS = "s3://work/finetune", {"secretRef": {"name": "keys"}}
BUCKET = {"bucket": PLACE, "credentials": KEYS}


def kept(**spec: Any) -> Target:
    """A target whose files are kept in a bucket."""
    return target(**({"workspace": BUCKET} | spec))


def pod(raw: dict[str, Any]) -> dict[str, Any]:
    return dict(raw["spec"]["template"]["spec"])


def told(container: dict[str, Any]) -> str | None:
    """The bucket that a container is told of."""
    arguments = [*container["args"], "--bucket", None]
    return arguments[arguments.index("--bucket") + 1]


def secrets(container: dict[str, Any], prefix: str = "FINETUNE_WORKSPACE_") -> set[str]:
    """The Secrets that a container has the bucket's keys from."""
    given = [each["valueFrom"]["secretKeyRef"] for each in container["env"] if each["name"].startswith(prefix)]
    return {each["name"] for each in given}


def job(cluster: Rehearsal, stage: str) -> dict[str, Any]:
    (container,) = pod(cluster.get("Job", f"-{stage}"))["containers"]
    return dict(container)


@pytest.fixture
def cluster() -> Rehearsal:
    return Rehearsal(workspace=BUCKET, evaluation={"enabled": False})


class TestWhatPodsGet:
    def test_each_pod_has_a_volume_of_its_own_and_is_told_where_the_files_are(self) -> None:
        found = kept(output={"destination": "s3://models/recipes", "credentials": {"secretRef": {"name": "output"}}})
        for workload in (prepare(found), train(found), publish(found), evaluate(found)):
            (container,) = pod(workload)["containers"]
            (volume,) = [each for each in pod(workload)["volumes"] if each["name"] == "workspace"]
            assert volume == {"name": "workspace", "emptyDir": {"sizeLimit": "20Gi"}}
            assert told(container) == f"{PLACE}/team/the-uid/recipes-{found.revision}"
            assert secrets(container) == {"keys"}
            assert "affinity" not in pod(workload)

    def test_of_an_engine_one_container_has_the_keys_and_ends_before_it_starts(self) -> None:
        found = kept()
        (before,), (engine,) = pod(host(found))["initContainers"], pod(host(found))["containers"]
        assert before["args"][:2] == ["--bucket", f"{PLACE}/team/the-uid/recipes-{found.revision}"]
        assert [before["args"][at + 1] for at, each in enumerate(before["args"]) if each == "--only"] == [
            "model",
            "artifact",
        ]
        assert (secrets(before), secrets(engine)) == ({"keys"}, set())
        mounts = [
            next(each for each in container["volumeMounts"] if each["name"] == "workspace")
            for container in (before, engine)
        ]
        assert ["readOnly" in mount for mount in mounts] == [False, True]

    def test_what_the_user_mounts_is_not_brought(self) -> None:
        (before,) = pod(host(kept(model={"source": "pvc://models/base"})))["initContainers"]
        assert "model" not in before["args"]

    def test_a_base_model_that_the_user_mounts_needs_nothing_brought(self) -> None:
        found = kept(model={"source": "pvc://models/base"}, training={"adapter": {"type": "dora"}})
        assert "initContainers" not in pod(host(found, stage=BASE))

    def test_with_a_storage_class_a_pod_has_a_volume_of_that_which_goes_with_it(self) -> None:
        found = kept(workspace=BUCKET | {"storageClassName": "fast", "size": "200Gi"})
        for workload in (train(found), host(found)):
            (volume,) = [each for each in pod(workload)["volumes"] if each["name"] == "workspace"]
            asked = volume["ephemeral"]["volumeClaimTemplate"]["spec"]
            assert asked["storageClassName"] == "fast"
            assert asked["resources"]["requests"] == {"storage": "200Gi"}

    def test_without_credentials_it_is_the_pods_own_identity(self) -> None:
        (container,) = pod(train(kept(workspace={"bucket": f"{PLACE}/"})))["containers"]
        assert secrets(container) == set()
        assert str(told(container)).startswith(f"{PLACE}/team/")

    def test_a_volume_stays_as_it_was(self) -> None:
        assert "--bucket" not in json.dumps([train(target()), host(target())])


class TestALife:
    def test_it_serves_without_any_volume(self, cluster: Rehearsal) -> None:
        cluster.serve()
        assert [name for kind, name in cluster.objects if kind == "PersistentVolumeClaim"] == []
        assert cluster.condition("Ready")[0] == "True"
        files = f"{PLACE}/kitchen/{cluster.uid}/recipes-{cluster.revision}"
        assert cluster.status["artifact"]["uri"] == f"{files}/artifact"
        (before,) = pod(cluster.get("Deployment"))["initContainers"]
        assert f"artifact={TRAINED['artifact']['digest']}" in before["args"]
        # Nothing changes once it stands.
        assert cluster.look().actions == ()

    def test_another_bucket_is_the_next_revisions(self, cluster: Rehearsal) -> None:
        cluster.train()
        revision, there = cluster.revision, told(job(cluster, "train"))
        cluster.edit(
            workspace={"bucket": "gs://elsewhere/finetune", "credentials": {"secretRef": {"name": "others"}}},
            output={"destination": "s3://models/recipes"},
        )
        cluster.reconcile()
        assert cluster.revision == revision
        assert (told(job(cluster, "publish")), secrets(job(cluster, "publish"))) == (there, {"keys"})
        cluster.edit(training=cluster.job["spec"]["training"] | {"seed": 7})
        cluster.reconcile()
        assert str(told(job(cluster, "prepare"))).startswith("gs://elsewhere/finetune/kitchen/")
        assert secrets(job(cluster, "prepare")) == {"others"}

    def test_another_secret_for_the_same_bucket_is_taken_at_once(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        cluster.complete("prepare", PREPARED)
        cluster.reconcile()
        there = told(job(cluster, "train"))
        cluster.edit(workspace=BUCKET | {"credentials": {"secretRef": {"name": "exchanged"}}})
        cluster.reconcile()
        assert (told(job(cluster, "train")), secrets(job(cluster, "train"))) == (there, {"exchanged"})

    def test_engines_take_another_secret_and_a_larger_volume_too(self, cluster: Rehearsal) -> None:
        cluster.serve()
        cluster.edit(workspace=BUCKET | {"credentials": {"secretRef": {"name": "exchanged"}}, "size": "40Gi"})
        cluster.reconcile()
        found = pod(cluster.get("Deployment"))
        assert secrets(found["initContainers"][0]) == {"exchanged"}
        assert {"name": "workspace", "emptyDir": {"sizeLimit": "40Gi"}} in found["volumes"]

    def test_it_is_not_given_several_pods_by_what_the_manifest_says_since(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        cluster.complete("prepare", PREPARED)
        training = cluster.job["spec"]["training"] | {"nodes": 2}
        cluster.edit(workspace={"accessModes": ["ReadWriteMany"]}, training=training)
        cluster.reconcile()
        status, reason, message = cluster.condition("Trained")
        assert (status, reason) == ("False", "ConfigInvalid")
        assert "so training.nodes 2 can't share them: set nodes back to 1" in message

    def test_a_revision_that_has_a_volume_keeps_it(self) -> None:
        cluster = Rehearsal(evaluation={"enabled": False})
        cluster.train()
        cluster.edit(workspace=BUCKET, output={"destination": "s3://models/recipes"})
        cluster.reconcile()
        assert told(job(cluster, "publish")) is None
        assert cluster.exists("PersistentVolumeClaim")

    def test_one_that_was_applied_again_writes_elsewhere(self, cluster: Rehearsal) -> None:
        cluster.reconcile()
        before = told(job(cluster, "prepare"))
        cluster.objects.clear()
        cluster.replace_job()
        cluster.reconcile()
        assert told(job(cluster, "prepare")) != before

    def test_a_checkpoint_is_brought_by_its_own_digest(self, cluster: Rehearsal) -> None:
        cluster.train(TRAINED | {"checkpoints": CHECKPOINTS})
        cluster.serve()
        cluster.annotate("finetune.dev/promote", f"{cluster.revision}@30")
        cluster.reconcile()
        (before,) = pod(cluster.get("Deployment", "-checkpoint-30"))["initContainers"]
        assert "kept/30=sha256:cc" in before["args"]


class TestOneThatStartsFromAnother:
    def test_prepare_alone_gets_the_keys_of_its_bucket(self, cluster: Rehearsal) -> None:
        cluster.train()
        found = Rehearsal("dpo", model={"source": "ftj://recipes"}, hosting={"enabled": False})
        found.source = cluster
        found.reconcile()
        origin = json.loads(found.get("ConfigMap")["data"]["run.json"])["model"]["origin"]
        assert origin["bucket"] == f"{PLACE}/kitchen/{cluster.uid}/recipes-{cluster.revision}"
        assert origin["files"] == "/workspace/origin"
        assert secrets(job(found, "prepare"), "FINETUNE_ORIGIN_") == {"keys"}
        volumes = pod(found.get("Job", "-prepare"))["volumes"]
        claims = [each["persistentVolumeClaim"] for each in volumes if "persistentVolumeClaim" in each]
        assert claims == [{"claimName": f"dpo-{found.revision}"}]
        found.complete("prepare", PREPARED)
        found.reconcile()
        assert secrets(job(found, "train"), "FINETUNE_ORIGIN_") == set()
