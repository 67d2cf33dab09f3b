"""Every object and every pod: who owns it, what it may do, and that the cluster can apply it again and again."""

import copy
import re

import pytest
from finetune_operator import names
from finetune_operator.finetunejob.desired import hosting
from finetune_operator.finetunejob.seat import Seat
from paths import FINETUNEJOBS
from rendering import EXAMPLES, GPUS, environment, example, host, mounts, objects, pods, target, train, values
from restricted import violations

TARGETS = {
    "smallest": target(),
    "everything": example("gpu.yaml"),
    "in a bucket": example("bucket.yaml"),
    "gpu": target(training={"resources": GPUS}, hosting={"resources": GPUS}),
    "mounted": target(
        model={"source": "pvc://models/llama"}, dataset={"train": {"source": "configmap://rows/train.jsonl"}}
    ),
    "longest-name": target("n" * 45),
}
every_target = pytest.mark.parametrize("found", TARGETS.values(), ids=TARGETS)


@every_target
def test_every_pod_meets_the_restricted_standard(found):
    for pod in pods(found):
        assert violations(pod["spec"]) == []


@every_target
def test_every_container_has_a_read_only_root_and_no_token(found):
    for pod in pods(found):
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in pod["spec"]["containers"])


@every_target
def test_a_process_can_write_to_its_home_and_to_shared_memory(found):
    for workload in (train(found), host(found)):
        assert environment(workload)["HOME"] == "/tmp"
        assert "emptyDir" in mounts(workload)["/tmp"]
        assert mounts(workload)["/dev/shm"]["emptyDir"] == {"medium": "Memory"}


@every_target
def test_everything_goes_with_its_finetunejob(found):
    for manifest in objects(found):
        (owner,) = manifest["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("FineTuneJob", found.name, "the-uid")
        assert owner["controller"] is True


@every_target
def test_everything_is_found_by_its_labels(found):
    for manifest in objects(found):
        labels = manifest["metadata"]["labels"]
        assert labels[names.JOB] == found.name
        assert labels[names.MANAGED_BY] == "finetune-operator"
        assert all(re.fullmatch(r"[a-z0-9A-Z]([\w.-]{0,61}[a-z0-9A-Z])?", value) for value in labels.values())


@every_target
def test_names_fit_the_cluster_and_no_two_are_alike(found):
    identities = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in objects(found)]
    assert len(set(identities)) == len(identities)
    assert all(re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", name) for _, name in identities)


@every_target
def test_nothing_is_null_and_nothing_is_a_status(found):
    for manifest in objects(found):
        assert "status" not in manifest
        assert None not in values(manifest)


@every_target
def test_the_same_manifest_becomes_the_same_objects(found):
    assert repr(objects(found)) == repr(objects(copy.deepcopy(found)))


def test_the_stable_service_belongs_to_no_revision():
    """It outlives every one of them, so it must not be pruned with the revision that it was made for."""
    found = target()
    assert names.REVISION not in hosting.stable_service(found, Seat(found.revision))["metadata"]["labels"]


@pytest.mark.parametrize("path", [path for path in FINETUNEJOBS if path.parent == EXAMPLES], ids=lambda path: path.name)
def test_every_example_is_rendered(path):
    found = example(path.name)
    kinds = {"ConfigMap", "Job", "Deployment", "Service", "NetworkPolicy"}
    volume = set() if found.bucket else {"PersistentVolumeClaim"}
    assert {manifest["kind"] for manifest in objects(found)} == kinds | volume
