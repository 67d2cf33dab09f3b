"""Every failure that a user can cause has its sentence: what happened, to which object, and what to do."""

import pytest
from finetune_operator.names import REVISION
from rehearsal import PREPARED, TRAINED, Rehearsal


@pytest.fixture
def preparing() -> Rehearsal:
    cluster = Rehearsal()
    cluster.reconcile()
    return cluster


@pytest.fixture
def training(preparing: Rehearsal) -> Rehearsal:
    preparing.complete("prepare", PREPARED)
    preparing.reconcile()
    return preparing


@pytest.fixture
def hosting(training: Rehearsal) -> Rehearsal:
    training.complete("train", TRAINED)
    training.reconcile()
    return training


def said(cluster: Rehearsal, kind: str) -> tuple[str, str]:
    """The reason and the message of a condition that is False."""
    cluster.reconcile()
    status, reason, message = cluster.condition(kind)
    assert status == "False"
    assert cluster.condition("Ready")[0] == "False"
    return reason, message


def waits(cluster: Rehearsal, stage: str, reason: str, message: str = "") -> None:
    cluster.container(stage, {"waiting": {"reason": reason, "message": message}})


def unschedulable(cluster: Rehearsal, stage: str, message: str) -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    cluster.pod(stage, {"phase": "Pending", "conditions": [condition]})


def test_a_missing_secret(preparing: Rehearsal) -> None:
    waits(preparing, "prepare", "CreateContainerConfigError", 'secret "bucket" not found')
    reason, message = said(preparing, "DataReady")
    assert reason == "SecretNotFound"
    assert message.startswith("Secret bucket does not exist; create it in this namespace")


def test_a_secret_without_a_key(preparing: Rehearsal) -> None:
    words = "couldn't find key AWS_ACCESS_KEY_ID in Secret kitchen/bucket"
    waits(preparing, "prepare", "CreateContainerConfigError", words)
    reason, message = said(preparing, "DataReady")
    assert reason == "SecretKeyNotFound"
    assert message.startswith("Secret bucket has no key AWS_ACCESS_KEY_ID; add it")


def test_a_container_that_can_not_be_created(preparing: Rehearsal) -> None:
    waits(preparing, "prepare", "CreateContainerError", "no such device")
    assert said(preparing, "DataReady")[0] == "ContainerNotCreated"
    assert "no such device" in said(preparing, "DataReady")[1]


@pytest.mark.parametrize("waiting", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"])
def test_an_image_that_can_not_be_pulled(hosting: Rehearsal, waiting: str) -> None:
    waits(hosting, "host", waiting, "not found")
    reason, message = said(hosting, "Hosted")
    assert reason == "ImageNotPulled"
    assert "Image vllm/vllm-openai" in message
    assert "pod.imagePullSecrets" in message


def test_a_pod_that_no_node_can_take_and_what_it_asked_for(training: Rehearsal) -> None:
    unschedulable(training, "train", "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")
    reason, message = said(training, "Trained")
    assert reason == "Unschedulable"
    assert "nvidia.com/gpu: 1" in message
    assert message.endswith("3 Insufficient nvidia.com/gpu; add such a node, or ask for less in resources.")


def test_accelerators_that_the_serving_revision_holds(hosting: Rehearsal) -> None:
    hosting.roll_out()
    hosting.running("host")
    hosting.reconcile()
    old = hosting.revision
    hosting.edit(training=hosting.job["spec"]["training"] | {"seed": 7})
    hosting.reconcile()
    hosting.complete("prepare", PREPARED)
    hosting.reconcile()
    unschedulable(hosting, "train", "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
    reason, message = said(hosting, "Trained")
    assert reason == "AcceleratorsInUse"
    assert f"Deployment recipes-{old}, the serving revision, holds nvidia.com/gpu" in message
    assert "hosting.rollout: recreate" in message
    assert hosting.objects["Service", "recipes"]["spec"]["selector"][REVISION] == old


def test_a_volume_that_stays_pending(preparing: Rehearsal) -> None:
    unschedulable(preparing, "prepare", "pod has unbound immediate PersistentVolumeClaims.")
    reason, message = said(preparing, "DataReady")
    assert reason == "VolumePending"
    assert f"kubectl describe pvc recipes-{preparing.revision}" in message
    assert "workspace.storageClassName" in message


def test_a_pod_that_a_quota_or_policy_refuses(preparing: Rehearsal) -> None:
    name = f"recipes-{preparing.revision}-prepare"
    preparing.pod_refused("prepare", "exceeded quota: pods")
    reason, message = said(preparing, "DataReady")
    assert reason == "PodNotCreated"
    assert message == (
        f"Job {name} can't create its pod: exceeded quota: pods; raise the quota or mend the policy, and it goes on by "
        "itself."
    )


def test_host_memory_is_told_apart_from_training_memory(training: Rehearsal) -> None:
    training.ended("train", 137, "", "OOMKilled")
    training.job_failed("train", "BackoffLimitExceeded")
    reason, message = said(training, "Trained")
    assert reason == "MemoryLimitExceeded"
    assert "more host memory than its limit of 8Gi" in message
    assert "resources.limits.memory" in message


def test_a_deadline(training: Rehearsal) -> None:
    training.edit(training=training.job["spec"]["training"] | {"maxRuntime": "1h"})
    training.reconcile()
    training.job_failed("train", "DeadlineExceeded")
    reason, message = said(training, "Trained")
    assert reason == "DeadlineExceeded"
    assert "training.maxRuntime (1h)" in message


def test_a_container_that_ends_without_a_word(training: Rehearsal) -> None:
    training.ended("train", 1, "ImportError: libfoo.so")
    training.job_failed("train", "BackoffLimitExceeded")
    reason, message = said(training, "Trained")
    assert reason == "ContainerFailed"
    assert "ended with code 1" in message
    assert "ImportError: libfoo.so" in message


def test_an_engine_that_will_not_start_shows_the_end_of_its_log_and_gives_its_accelerator_back(
    hosting: Rehearsal,
) -> None:
    last = {"terminated": {"exitCode": 1, "reason": "Error", "message": "ValueError: max_model_len is too large"}}
    hosting.container("host", {"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=3, lastState=last)
    reason, message = said(hosting, "Hosted")
    assert reason == "EngineFailed"
    assert "ValueError: max_model_len is too large" in message
    assert not hosting.exists("Deployment")


def test_an_engine_that_failed_is_tried_again_when_hosting_changes(hosting: Rehearsal) -> None:
    hosting.container("host", {"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=3)
    hosting.reconcile()
    hosting.end_pods()
    hosting.edit(hosting={"contextLength": 512})
    hosting.reconcile()
    assert hosting.exists("Deployment")


def test_the_serving_revision_is_never_taken_down_for_a_crash(hosting: Rehearsal) -> None:
    hosting.roll_out()
    hosting.reconcile()
    hosting.get("Deployment")["status"]["availableReplicas"] = 0
    hosting.container("host", {"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=5)
    assert said(hosting, "Hosted")[0] == "EngineFailed"
    assert hosting.exists("Deployment")


def test_a_restart_says_what_ended_the_pod_before(training: Rehearsal) -> None:
    training.ended("train", 69, '{"reason": "SourceUnavailable", "message": "The bucket did not answer."}')
    first = training.objects.pop(("Pod", f"recipes-{training.revision}-train-x"))
    training.running("train")
    training.objects["Pod", "first"] = first | {"metadata": first["metadata"] | {"name": "first"}}
    training.reconcile()
    assert training.condition("Trained")[2].endswith("The bucket did not answer.")
