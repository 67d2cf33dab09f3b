"""Volumes: the revision's own, the users' sources, and pods that have to share a node."""

import json
from pathlib import Path

import pytest
from finetune_operator.finetunejob.desired import workspace
from finetune_operator.finetunejob.desired.run_config import run_config
from finetune_trainer.contract.config import RunConfig, Source, Workspace
from rendering import evaluate, example, host, main, mounts, pods, prepare, publish, target, train

TOGETHER = {
    "labelSelector": {"matchLabels": {"finetune.dev/job": "recipes", "finetune.dev/revision": target().revision}},
    "topologyKey": "kubernetes.io/hostname",
}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def affinities(found):
    return [pod["spec"].get("affinity", {}) for pod in pods(found)]


def test_the_trainer_reads_the_run_config_that_the_operator_writes():
    found = example("gpu.yaml")
    written = workspace.record_map(found)["data"]["run.json"]
    assert RunConfig.model_validate_json(written) == run_config(found.name, found.revision, found.spec)


def test_the_run_config_says_what_the_manifest_says():
    found = example("gpu.yaml")
    written = json.loads(workspace.record_map(found)["data"]["run.json"])
    spec = found.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    training = {key: value for key, value in spec["training"].items() if key in written["training"]}
    assert written["training"].pop("adapter") == training.pop("adapter") | {"modulesToSave": []}
    assert written["training"] == training
    assert (written["name"], written["revision"]) == ("support-assistant", found.revision)
    assert written["dataset"]["columns"] == {"prompt": "question", "completion": "answer"}
    assert written["dataset"]["systemPrompt"] == spec["dataset"]["systemPrompt"]
    assert written["dataset"]["validation"] == {"fraction": 0.05}
    assert written["dataset"]["test"]["source"] == {"uri": "s3://support/test.jsonl"}
    assert written["model"]["revision"] == "main"


def test_a_claim_is_what_the_manifest_asks_for():
    claim = workspace.claim(
        target(workspace={"size": "5Gi", "storageClassName": "fast", "accessModes": ["ReadWriteMany"]})
    )
    assert claim["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "5Gi"}},
        "storageClassName": "fast",
    }
    assert "storageClassName" not in workspace.claim(target())["spec"]


def test_each_pod_mounts_its_revisions_volume():
    found = target()
    claim = workspace.claim(found)["metadata"]["name"]
    for workload in (prepare(found), train(found), host(found)):
        assert mounts(workload)["/workspace"]["persistentVolumeClaim"]["claimName"] == claim


def test_mounted_sources_lie_where_the_run_config_says():
    dataset = {
        "train": {"source": "pvc://rows/a/train.jsonl"},
        "validation": {"source": "pvc://rows/a/validation.jsonl"},
        "test": {"source": "configmap://held.out/test.jsonl"},
    }
    found = target(model={"source": "pvc://models/llama"}, dataset=dataset)
    config = run_config(found.name, found.revision, found.spec)
    paths = mounts(prepare(found))
    assert str(config.dataset.train.path) == "/mnt/claims/rows/a/train.jsonl"
    assert paths["/mnt/claims/rows"]["persistentVolumeClaim"] == {"claimName": "rows", "readOnly": True}
    assert config.dataset.test is not None
    assert config.dataset.test.source is not None
    assert str(config.dataset.test.source.path) == "/mnt/configmaps/held.out/test.jsonl"
    assert paths["/mnt/configmaps/held.out"]["configMap"] == {"name": "held.out"}
    assert str(Workspace(Path("/workspace")).base_model(config)) == "/mnt/claims/models/llama"
    assert "/mnt/claims/models" in paths


def test_users_volumes_are_mounted_read_only():
    found = target(
        model={"source": "pvc://models/llama"}, dataset={"train": {"source": "configmap://rows/train.jsonl"}}
    )
    for mount in main(prepare(found))["volumeMounts"]:
        assert mount.get("readOnly", False) == mount["mountPath"].startswith(("/mnt", "/etc"))


def test_a_cache_is_written_by_prepare_and_read_by_whoever_needs_the_model():
    found = target(workspace={"cache": "pvc://shared/models"})
    config = run_config(found.name, found.revision, found.spec)
    assert config.model.cache == Source(uri="pvc://shared/models", path=Path("/mnt/claims/shared/models"))
    for workload, read_only in (
        (prepare(found), {}),
        (train(found), {"readOnly": True}),
        (host(found), {"readOnly": True}),
    ):
        claim = mounts(workload)["/mnt/claims/shared"]["persistentVolumeClaim"]
        assert claim == {"claimName": "shared"} | read_only


def test_a_claim_may_have_the_rows_and_the_cache():
    found = target(
        dataset={"train": {"source": "pvc://shared/train.jsonl"}}, workspace={"cache": "pvc://shared/models"}
    )
    (mount,) = [each for each in main(prepare(found))["volumeMounts"] if each["mountPath"].startswith("/mnt")]
    assert "readOnly" not in mount


@pytest.mark.parametrize("whole", [{"merge": True}, {"formats": ["gguf"]}])
def test_a_destination_on_a_claim_is_written_by_publish_and_seen_by_nobody_else(whole):
    found = target(model={"source": "pvc://models/llama"}, output={"destination": "pvc://models/published"} | whole)
    (mount,) = [each for each in main(publish(found))["volumeMounts"] if each["mountPath"].startswith("/mnt")]
    assert mount["mountPath"] == "/mnt/claims/models"
    assert "readOnly" not in mount
    assert mounts(publish(found))["/mnt/claims/models"]["persistentVolumeClaim"] == {"claimName": "models"}
    for workload in (prepare(found), train(found), evaluate(found), host(found)):
        source = mounts(workload)["/mnt/claims/models"]["persistentVolumeClaim"]
        assert source == {"claimName": "models", "readOnly": True}
    apart = target(model={"source": "hf://org/model"}, output={"destination": "pvc://models/published"})
    assert "/mnt/claims/models" in mounts(publish(apart))
    assert [path for each in (prepare, train, evaluate, host) for path in mounts(each(apart)) if "/mnt" in path] == []


def test_what_is_published_on_a_claim_is_read_from_it_by_its_address():
    found = target(model={"source": "pvc://models/published/0a1b2c3d"})
    config = run_config(found.name, found.revision, found.spec)
    assert str(config.model.source.path) == "/mnt/claims/models/published/0a1b2c3d"
    assert mounts(host(found))["/mnt/claims/models"]["persistentVolumeClaim"]["readOnly"]


def test_training_sees_the_users_model_and_not_the_users_rows():
    found = target(model={"source": "pvc://models/llama"}, dataset={"train": {"source": "pvc://rows/train.jsonl"}})
    assert [path for path in mounts(train(found)) if path.startswith("/mnt")] == ["/mnt/claims/models"]


@pytest.mark.parametrize("source", ["hf://org/model", "s3://bucket/model"])
def test_what_prepare_fetches_has_no_path(source):
    found = target(model={"source": source})
    assert run_config(found.name, found.revision, found.spec).model.source.path is None


def test_a_local_path_is_taken_as_it_is():
    """The local backend parses the manifest without the cluster's rules; absolute paths are its own doing."""
    found = target()
    spec = found.spec.model_copy(update={"model": found.spec.model.model_copy(update={"source": "file:///models/a"})})
    assert str(run_config("a", "0", spec).model.source.path) == "/models/a"


def test_pods_of_one_read_write_once_volume_land_on_one_node():
    assert affinities(target()) == [{"podAffinity": {REQUIRED: [TOGETHER]}}] * 5


def test_a_pod_matches_its_own_term_or_the_first_would_wait_for_ever():
    for pod in pods(target()):
        (term,) = pod["spec"]["affinity"]["podAffinity"][REQUIRED]
        assert term["labelSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_pods_of_a_read_write_many_volume_may_spread():
    assert affinities(target(workspace={"accessModes": ["ReadWriteOnce", "ReadWriteMany"]})) == [{}] * 5


def test_the_users_affinity_is_kept():
    users = {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": []}}, "podAffinity": {PREFERRED: [{"weight": 1}]}}
    found = target(training={"pod": {"affinity": users}}, hosting={"pod": {"affinity": users}})
    wanted = {**users, "podAffinity": {PREFERRED: [{"weight": 1}], REQUIRED: [TOGETHER]}}
    assert affinities(found) == [wanted] * 5


def test_beside_the_users_required_term_ours_is_a_preference():
    """The scheduler wants one existing pod to match all required terms, which no first pod of a revision would find."""
    users = {"podAffinity": {REQUIRED: [{"topologyKey": "zone"}], PREFERRED: [{"weight": 1}]}}
    (affinity, *_) = affinities(target(training={"pod": {"affinity": users}}))
    assert affinity["podAffinity"] == {
        REQUIRED: [{"topologyKey": "zone"}],
        PREFERRED: [{"weight": 1}, {"weight": 100, "podAffinityTerm": TOGETHER}],
    }
