"""The stage Jobs: what they run, what they may use, and which failures they retry."""

from dataclasses import replace

import pytest
from finetune_operator.finetunejob.observe import World
from finetune_operator.finetunejob.stages import JOBS
from finetune_operator.finetunejob.stages.base import Context
from finetune_operator.finetunejob.walk import begin
from finetune_trainer.__main__ import parse
from finetune_trainer.contract.config import IMAGE, TrackerType, TrackingConfig
from finetune_trainer.contract.outcome import Outcome
from rendering import GPUS, SETTINGS, environment, evaluate, example, main, prepare, target, train

STAGES = {"prepare": prepare, "train": train}
every_stage = pytest.mark.parametrize("stage", STAGES)
SECRET = {"secretRef": {"name": "keys"}}


def pod(job):
    return job["spec"]["template"]["spec"]


@every_stage
def test_an_exit_code_fails_the_job_exactly_when_a_retry_cannot_mend_it(stage):
    rules = STAGES[stage](target())["spec"]["podFailurePolicy"]["rules"]
    (final,) = (rule["onExitCodes"] for rule in rules if rule["action"] == "FailJob")
    assert final["containerName"] == main(STAGES[stage](target()))["name"] == stage
    assert final["operator"] == "In"
    for outcome in Outcome:
        assert (outcome.exit.code in final["values"]) == (outcome != Outcome.SUCCEEDED and not outcome.exit.retry)


def test_train_is_told_of_its_image_which_no_pod_can_ask():
    named = target(training={"image": "registry.example/mine@sha256:" + "ab" * 32})
    assert environment(train(named))[IMAGE] == main(train(named))["image"] == named.spec.training.image
    assert environment(train(target()))[IMAGE] == SETTINGS.trainer_image
    assert IMAGE not in environment(prepare(named))


@every_stage
def test_a_drained_node_costs_no_retry_whatever_the_exit_code(stage):
    first = STAGES[stage](target())["spec"]["podFailurePolicy"]["rules"][0]
    assert first == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


@every_stage
def test_retries_and_deadline_are_the_jobs_own(stage):
    found = target(training={"retries": 7, "maxRuntime": "1h30m5s"})
    spec = STAGES[stage](found)["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"], spec["suspend"]) == (7, 5405, False)
    assert "activeDeadlineSeconds" not in STAGES[stage](target())["spec"]


@every_stage
def test_a_pod_is_replaced_only_when_it_has_ended(stage):
    """Two pods on one volume would write over each other's checkpoints."""
    job = STAGES[stage](target())
    assert job["spec"]["podReplacementPolicy"] == "Failed"
    assert pod(job)["restartPolicy"] == "Never"


def test_training_has_minutes_to_write_a_checkpoint():
    assert pod(train(target()))["terminationGracePeriodSeconds"] >= 120


@every_stage
def test_a_pod_can_be_asked_how_far_it_is(stage):
    container = main(STAGES[stage](target()))
    (port,) = container["ports"]
    assert port["name"] == "status"
    assert f"--status-port {port['containerPort']}" in " ".join(container["args"])


@every_stage
def test_the_run_config_is_where_the_trainer_is_told_to_look(stage):
    job = STAGES[stage](target())
    arguments = main(job)["args"]
    config = arguments[arguments.index("--config") + 1]
    (mount,) = [found for found in main(job)["volumeMounts"] if config == f"{found['mountPath']}/run.json"]
    assert mount["readOnly"] is True


def test_prepare_plans_for_the_accelerators_that_will_train():
    gpus = {"limits": {"nvidia.com/gpu": 3, "rdma/hca": 1}}
    assert main(prepare(target(training={"resources": gpus})))["args"][-2:] == ["--devices", "3"]


@pytest.mark.parametrize(
    ("resource", "node", "memory"),
    [
        ("nvidia.com/gpu", "", 80 * 2**30),
        ("nvidia.com/gpu", "NVIDIA-L4", 24 * 2**30),
        ("nvidia.com/mig-3g.40gb", "", 40 * 10**9),
        ("amd.com/gpu", "", None),
    ],
)
def test_prepare_is_told_what_memory_the_accelerators_have_where_that_is_known(resource, node, memory):
    training = {"resources": {"limits": {resource: 1}}, "pod": {"nodeSelector": {"product": node} if node else {}}}
    known = replace(SETTINGS, accelerator_memory=("nvidia.com/gpu=80Gi", "NVIDIA-L4=24Gi"))
    told = main(prepare(replace(target(training=training), settings=known)))["args"]
    assert told[-2:] == (["--devices", "1"] if memory is None else ["--device-memory", str(memory)])


def test_prepare_is_told_what_to_do_about_secrets_and_personal_data():
    rows = {"train": {"source": "s3://bucket/train.jsonl"}}
    assert "--on-sensitive" not in main(prepare(target(dataset=rows | {"onSensitive": "warn"})))["args"]
    assert main(prepare(target(dataset=rows | {"onSensitive": "fail"})))["args"][-2:] == ["--on-sensitive", "fail"]


@every_stage
def test_the_manifests_image_is_used(stage):
    assert main(STAGES[stage](target()))["image"] == "trainer:1"
    assert main(STAGES[stage](target(training={"image": "mine:2"})))["image"] == "mine:2"


def test_one_process_takes_all_cores_and_several_share_them():
    def variables(**limits):
        found = main(train(target(training={"resources": {"limits": {"cpu": 8} | limits}})))["env"]
        return [variable["name"] for variable in found]

    assert "OMP_NUM_THREADS" in variables(**{"nvidia.com/gpu": 1, "rdma/hca": 8})
    assert "OMP_NUM_THREADS" not in variables(**{"nvidia.com/gpu": "4"})


def test_prepare_gets_the_cpu_and_memory_of_training_and_no_device():
    wanted = {"limits": {"nvidia.com/gpu": 1, "memory": "32Gi"}, "requests": {"nvidia.com/gpu": 1, "cpu": 4}}
    found = target(training={"resources": wanted})
    assert main(prepare(found))["resources"] == {"limits": {"memory": "32Gi"}, "requests": {"cpu": "4"}}
    assert main(train(found))["resources"]["limits"] == {"nvidia.com/gpu": "1", "memory": "32Gi"}
    assert "resources" not in main(prepare(target(training={"resources": GPUS})))


def test_prepare_runs_where_training_can():
    """A local or zonal volume pins what follows to the node or zone of the first pod."""
    found = example("gpu.yaml")
    for field in ("nodeSelector", "affinity", "serviceAccountName", "priorityClassName", "imagePullSecrets"):
        assert pod(prepare(found)).get(field) == pod(train(found)).get(field)
    assert [*pod(train(found))["tolerations"]] == pod(prepare(found))["tolerations"][:1]


def test_the_users_pod_settings_reach_the_pod():
    found = pod(train(example("gpu.yaml")))
    assert found["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    assert found["tolerations"] == [
        {"key": "reserved-for", "operator": "Equal", "value": "ml", "effect": "NoExecute", "tolerationSeconds": 3600}
    ]
    assert found["serviceAccountName"] == "training"
    assert found["imagePullSecrets"] == [{"name": "registry"}]
    assert found["priorityClassName"] == "batch"


def test_prepare_tolerates_the_taint_that_guards_the_accelerators():
    """The cluster adds this toleration to pods that ask for the device, which prepare does not."""
    tolerations = pod(prepare(target(training={"resources": GPUS})))["tolerations"]
    assert tolerations == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_prepare_gets_the_credentials_that_the_sources_need():
    found = target(
        model={"source": "hf://org/model", "credentials": {"secretRef": {"name": "hub"}}},
        dataset={"train": {"source": "s3://b/k"}, "credentials": {"secretRef": {"name": "bucket"}}},
    )
    given = {
        name: source["secretKeyRef"] for name, source in environment(prepare(found)).items() if "KeyRef" in str(source)
    }
    assert given["FINETUNE_MODEL_HF_TOKEN"] == {"name": "hub", "key": "HF_TOKEN", "optional": False}
    required = {name for name, reference in given.items() if not reference["optional"]}
    assert required == {
        "FINETUNE_MODEL_HF_TOKEN",
        "FINETUNE_DATASET_AWS_ACCESS_KEY_ID",
        "FINETUNE_DATASET_AWS_SECRET_ACCESS_KEY",
    }
    assert given["FINETUNE_DATASET_AWS_ENDPOINT_URL"] == {
        "name": "bucket",
        "key": "AWS_ENDPOINT_URL",
        "optional": True,
    }
    # Of no scheme that nobody asks.
    assert {name for name in given if name.startswith("FINETUNE_MODEL_")} == {
        "FINETUNE_MODEL_HF_TOKEN",
        "FINETUNE_MODEL_HF_ENDPOINT",
    }
    assert not {name for name in given if "AZURE" in name or "GOOGLE" in name}


def test_splits_from_two_stores_need_the_credentials_of_both():
    splits = {"train": {"source": "hf://datasets/org/name/train.jsonl"}, "test": {"source": "s3://bucket/test.jsonl"}}
    given = environment(prepare(target(dataset={**splits, "credentials": SECRET})))
    assert given["FINETUNE_DATASET_HF_TOKEN"]["secretKeyRef"]["optional"] is False
    assert given["FINETUNE_DATASET_AWS_SECRET_ACCESS_KEY"]["secretKeyRef"]["optional"] is False


def test_without_credentials_no_secret_is_asked_for():
    assert "secretKeyRef" not in str(prepare(target()))


def test_training_gets_no_credential_and_asks_no_hub():
    found = target(
        model={"source": "hf://org/model", "credentials": SECRET},
        dataset={"train": {"source": "s3://b/k"}, "credentials": SECRET},
    )
    assert "secret" not in str(train(found)).lower()
    assert environment(train(found))["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in environment(prepare(found))


@every_stage
def test_the_users_variable_takes_the_place_of_ours(stage):
    """The API server refuses a list with one name twice."""
    env = [{"name": "OMP_NUM_THREADS", "value": "3"}]
    container = main(STAGES[stage](target(training={"pod": {"env": env}, "resources": {"limits": {"cpu": 2}}})))
    assert [entry for entry in container["env"] if entry["name"] == "OMP_NUM_THREADS"] == env


@every_stage
def test_threads_follow_the_cpu_limit(stage):
    """A pod with two of a node's 64 cores that runs 64 threads spends its time being throttled."""
    limited = STAGES[stage](target(training={"resources": {"limits": {"cpu": 2}}}))
    assert environment(limited)["OMP_NUM_THREADS"] == {"resourceFieldRef": {"resource": "limits.cpu"}}
    assert "OMP_NUM_THREADS" not in environment(STAGES[stage](target()))


@every_stage
def test_a_job_and_its_pod_have_the_users_labels_beside_the_operators(stage):
    job = STAGES[stage](target(training={"pod": {"labels": {"team": "a"}, "annotations": {"note": "x"}}}))
    for metadata in (job["metadata"], job["spec"]["template"]["metadata"]):
        assert metadata["labels"]["team"] == "a"
        assert metadata["labels"]["finetune.dev/stage"] == stage
        assert metadata["annotations"]["note"] == "x"
    assert job["metadata"]["annotations"]["finetune.dev/inputs"] == "inputs"


def test_training_waits_in_its_queue_and_what_holds_no_accelerator_does_not():
    found = target(training={"queue": "team-a", "resources": GPUS})
    assert train(found)["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert train(found)["spec"]["suspend"] is True
    for stage in (prepare, evaluate):
        assert "kueue.x-k8s.io/queue-name" not in str(stage(found))
        assert stage(found)["spec"]["suspend"] is False


def test_a_queue_is_no_part_of_the_revision():
    assert target(training={"queue": "team-a", "resources": GPUS}).revision == target().revision


class TestATracker:
    """Only the pod that trains asks it, and has its keys; prepare is told, to see whether it can be had."""

    FOUND = target(
        training={
            "tracking": {"type": "mlflow", "url": "https://mlflow/x", "project": "food", "credentials": SECRET},
        }
    )

    def test_its_keys_are_in_the_pod_that_trains_alone(self):
        keys = {name: value for name, value in environment(train(self.FOUND)).items() if "TRACKING" in name}
        assert keys == {
            f"FINETUNE_TRACKING_{key}": {"secretKeyRef": {"name": "keys", "key": key, "optional": True}}
            for key in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
        }
        assert not [name for name in environment(prepare(self.FOUND)) if "TRACKING" in name]

    def test_each_tracker_has_its_own(self):
        trackio = target(training={"tracking": {"type": "trackio", "url": "https://trackio/x", "credentials": SECRET}})
        keys = [name for name in environment(train(trackio)) if "TRACKING" in name]
        assert keys == ["FINETUNE_TRACKING_TRACKIO_WRITE_TOKEN"]
        wandb = target(training={"tracking": {"type": "wandb", "credentials": SECRET}})
        assert [name for name in environment(train(wandb)) if "TRACKING" in name] == ["FINETUNE_TRACKING_WANDB_API_KEY"]

    def test_the_pod_still_asks_no_hub(self):
        assert environment(train(self.FOUND))["HF_HUB_OFFLINE"] == "1"

    @every_stage
    def test_both_are_told_where_it_is(self, stage):
        *_, option, told = main(STAGES[stage](self.FOUND))["args"]
        assert option == "--tracking"
        assert parse([stage, option, told]).tracking == TrackingConfig(
            type=TrackerType.MLFLOW, url="https://mlflow/x", project="food"
        )

    @every_stage
    def test_both_are_told_what_a_run_is_called(self, stage):
        called = {"entity": "cooks", "name": "first", "tags": ["a", "b"]}
        found = target(training={"tracking": {"type": "wandb", "credentials": SECRET, **called}})
        *_, option, told = main(STAGES[stage](found))["args"]
        assert parse([stage, option, told]).tracking == TrackingConfig(type=TrackerType.WANDB, **called)

    @every_stage
    def test_another_one_starts_an_unfinished_stage_again(self, stage):
        def inputs(found):
            world = World(found.name, found.namespace, found.uid)
            return JOBS[stage].pod_inputs(Context(found, world, begin(world, found.revision)))

        files = target(training={"tracking": {"type": "tensorboard"}})
        assert len({inputs(target()), inputs(self.FOUND), inputs(files)}) == 3
        assert self.FOUND.revision == files.revision == target().revision
