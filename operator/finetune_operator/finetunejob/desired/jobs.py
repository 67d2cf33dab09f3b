"""The Jobs of the trainer image: prepare, train and evaluate. Used by the stages of those names."""

from typing import Any

from finetune_trainer.outcome import TERMINATION_LOG, Outcome
from finetune_trainer.report import STATUS_PORT

from finetune_operator import names
from finetune_operator.api.pods import Pod, Toleration
from finetune_operator.api.values import seconds
from finetune_operator.finetunejob.desired import volumes
from finetune_operator.finetunejob.desired.hosting import candidate_url
from finetune_operator.finetunejob.desired.run_config import data_uris
from finetune_operator.finetunejob.desired.volumes import Mount
from finetune_operator.finetunejob.target import Manifest, Target
from finetune_operator.pods.environment import Variable, credentials, judge_key, merged, threads, variables
from finetune_operator.pods.metadata import metadata
from finetune_operator.pods.resources import accelerators, devices, resources, without_devices
from finetune_operator.pods.template import ENVIRONMENT, container, template

PREPARE, TRAIN, EVALUATE = "prepare", "train", "evaluate"
# A stage that is asked to stop ends its step; train then writes a checkpoint: minutes for all weights of a large model.
GRACE_SECONDS = {PREPARE: 30, TRAIN: 300, EVALUATE: 30}


def prepare_job(target: Target, inputs: str, suspended: bool) -> Manifest:
    """The Job that fetches the model and checks the rows.

    It runs where training can, since a local or zonal volume pins all that follows.
    """
    environment = [*variables(ENVIRONMENT), *credentials(target.spec)]
    sources = [target.spec.model.source, *data_uris(target.spec.dataset)]
    mounts = [*volumes.evaluation(target), *volumes.user_mounts(sources)]
    return _without_devices(target, PREPARE, inputs, suspended, environment, mounts)


def evaluate_job(target: Target, inputs: str, suspended: bool) -> Manifest:
    """The Job that asks the candidate. It reads rows and tokenizer from the volume, and of the Secrets the judge's."""
    environment = [*variables(ENVIRONMENT | {"HF_HUB_OFFLINE": "1"}), *judge_key(target.spec)]
    mounts = [*volumes.evaluation(target), *volumes.user_mounts([target.spec.model.source])]
    job = _without_devices(target, EVALUATE, inputs, suspended, environment, mounts)
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    arguments += ["--evaluation", str(volumes.EVALUATION), "--endpoint", candidate_url(target)]
    return job


def train_job(target: Target, inputs: str, suspended: bool) -> Manifest:
    """The Job that trains. What it needs lies on the volume: it gets no credential and asks no hub."""
    training = target.spec.training
    environment = variables(ENVIRONMENT | {"HF_HUB_OFFLINE": "1"})
    # With several devices the trainer launches a process for each: they share the cores, and none may take them all.
    if accelerators(training.resources) <= 1:
        environment += threads(training.resources.limits)
    mounts = volumes.user_mounts([target.spec.model.source])
    run = _container(target, TRAIN, resources(training.resources), merged(environment, training.pod.env))
    return _job(target, TRAIN, inputs, suspended, training.pod, run, mounts)


def failure_policy(stage: str) -> Manifest:
    """What the Job does with a failed pod: a disruption costs no retry, and what no retry can mend fails at once."""
    final = sorted(outcome.exit.code for outcome in Outcome if outcome.exit.code and not outcome.exit.retry)
    return {
        "rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": stage, "operator": "In", "values": final}},
        ]
    }


def _container(target: Target, stage: str, wanted: dict[str, Any], environment: list[Variable]) -> Manifest:
    image = target.spec.training.image or target.settings.trainer_image
    return container(target, stage, image, wanted) | {
        "command": ["python", "-m", "finetune_trainer", stage],
        "args": [
            *("--config", str(volumes.RUN_CONFIG)),
            *("--workspace", str(volumes.WORKSPACE)),
            *("--termination-log", TERMINATION_LOG),
            *("--status-port", str(STATUS_PORT)),
        ],
        "env": environment,
        "ports": [{"name": names.STATUS_PORT_NAME, "containerPort": STATUS_PORT, "protocol": "TCP"}],
    }


def _without_devices(
    target: Target, stage: str, inputs: str, suspended: bool, environment: list[Variable], mounts: list[Mount]
) -> Manifest:
    """A Job with the CPU and memory of training but none of its devices.

    The taints that guard those are tolerated, as the cluster does for pods that ask for them: the volume may be there.
    """
    training = target.spec.training
    guarded = [Toleration(key=name, operator="Exists", effect="NoSchedule") for name in devices(training.resources)]
    settings = training.pod.model_copy(update={"tolerations": [*training.pod.tolerations, *guarded]})
    wanted = without_devices(training.resources)
    environment = merged([*environment, *threads(wanted.limits)], settings.env)
    run = _container(target, stage, resources(wanted), environment)
    return _job(target, stage, inputs, suspended, settings, run, mounts)


def _job(
    target: Target, stage: str, inputs: str, suspended: bool, settings: Pod, run: Manifest, mounts: list[Mount]
) -> Manifest:
    mounts = [volumes.workspace(target), volumes.run_config(target), *volumes.scratch(), *mounts]
    pod = template(target, stage, settings, run, mounts)
    pod["spec"] |= {"restartPolicy": "Never", "terminationGracePeriodSeconds": GRACE_SECONDS[stage]}
    training = target.spec.training
    spec: Manifest = {
        "suspend": suspended,
        "backoffLimit": training.retries,
        "podFailurePolicy": failure_policy(stage),
        # The volume is one pod's at a time: the next starts when the last has ended.
        "podReplacementPolicy": "Failed",
        "template": pod,
    }
    if training.max_runtime:
        spec["activeDeadlineSeconds"] = seconds(training.max_runtime)
    name = names.of_stage(target.name, target.revision, stage)
    labels = names.labels(target.name, target.revision, stage)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(target, name, labels, {names.INPUTS: inputs}),
        "spec": spec,
    }
