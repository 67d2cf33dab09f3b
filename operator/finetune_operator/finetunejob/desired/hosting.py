"""The Deployment that serves a revision, its Service, and the stable Service; and those of the base model that it is
compared with, where the first engine can't answer as that. For `hosting` and `stages`.
"""

from finetune_trainer.contract.config import RunConfig, Workspace

from finetune_operator import names
from finetune_operator.api.hosting import Rollout
from finetune_operator.finetunejob.desired import engine, inside, volumes
from finetune_operator.finetunejob.desired.probes import STARTUP_SECONDS, probes
from finetune_operator.finetunejob.target import Target
from finetune_operator.pods.environment import Variable, merged, threads, variables
from finetune_operator.pods.metadata import Manifest, metadata
from finetune_operator.pods.mounts import scratch
from finetune_operator.pods.resources import accelerators, devices, resources
from finetune_operator.pods.template import ENVIRONMENT, container, template

# The stages that label an engine's pods: the revision's own, and the base model's that it is compared with.
HOST, BASE = "host", "base"
# Until a pod that ends is no longer sent requests by any node; uvicorn closes idle connections after 5.
WITHDRAWAL_SECONDS = 10
# In which requests under way at SIGTERM may finish; vLLM's own default, 0, cuts them off.
DRAIN_SECONDS = 120
# Until an engine that has answered its last request has let go of its device.
_TEARDOWN_SECONDS = 20
GRACE_SECONDS = WITHDRAWAL_SECONDS + DRAIN_SECONDS + _TEARDOWN_SECONDS
# What a pod may take to be scheduled, to pull an image of 10 GB and to load its model.
PROGRESS_SECONDS = STARTUP_SECONDS + 900


def pod_template(target: Target, run_config: RunConfig, context_length: int, stage: str = HOST) -> Manifest:
    """The engine's pods: the model of `run_config`, its base model, or one of its checkpoints, as `stage` says.

    Without the user's variables: this is kept in the record, and their values are nobody else's to read.
    """
    mounts = [
        volumes.workspace(target, read_only=True),
        *scratch(),
        inside.mount(),
        *volumes.user_mounts([run_config.model.source.uri]),
    ]
    settings, run = target.spec.hosting.pod, _engine(target, run_config, context_length, stage)
    labels = names.labels(target.name, target.revision, stage)
    pod = template(labels, settings, run, mounts, target.together)
    pod["spec"]["terminationGracePeriodSeconds"] = GRACE_SECONDS
    pod["metadata"]["annotations"] |= inside.annotations()
    return pod


def deployment(target: Target, pod: Manifest, replicas: int, stage: str = HOST) -> Manifest:
    """The Deployment of a revision, whose pods were made by `pod_template`, by this version or by an earlier one."""
    (run,) = pod["spec"]["containers"]
    run = {**run, "env": merged(run["env"], target.spec.hosting.pod.env)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(target, stage),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": _selector(target.name, target.revision, stage)},
            # Nobody misses the base model for a moment, and a pod more would need accelerators more.
            "strategy": _strategy(Rollout.RECREATE if stage == BASE else target.spec.hosting.rollout),
            "progressDeadlineSeconds": PROGRESS_SECONDS,
            "revisionHistoryLimit": 2,
            "template": {**pod, "spec": {**pod["spec"], "containers": [run]}},
        },
    }


def candidate_service(target: Target) -> Manifest:
    """The Service of one revision, for whoever wants that one and no other."""
    return _service(_metadata(target), target, target.revision)


def candidate_url(target: Target) -> str:
    """Where an OpenAI client within the cluster finds that one revision."""
    return _url(names.of_revision(target.name, target.revision), target)


def base_service(target: Target) -> Manifest:
    """The Service of the base model that a revision is compared with."""
    return _service(_metadata(target, BASE), target, target.revision, BASE)


def base_url(target: Target) -> str:
    """Where an OpenAI client within the cluster finds that base model."""
    return _url(names.of_base(target.name, target.revision), target)


def stable_service(target: Target, address: str) -> Manifest:
    """The Service that users know; it answers with the revision, or the checkpoint, at `address`."""
    revision, step = names.parted(address)
    described = metadata(target.owner, target.name, names.labels(target.name))
    return _service(described, target, revision, HOST if step is None else names.checkpoint(step))


def engine_name(name: str, revision: str, stage: str) -> str:
    """The name of an engine's Deployment."""
    return names.of_revision(name, revision) if stage == HOST else names.of_stage(name, revision, stage)


def _metadata(target: Target, stage: str = HOST) -> Manifest:
    name = engine_name(target.name, target.revision, stage)
    return metadata(target.owner, name, names.labels(target.name, target.revision, stage))


def _url(service: str, target: Target) -> str:
    return f"http://{service}.{target.namespace}.svc/v1"


def _engine(target: Target, config: RunConfig, context_length: int, stage: str) -> Manifest:
    hosting = target.spec.hosting
    gpus = bool(devices(hosting.resources))
    settings = target.settings
    image = hosting.image or (settings.hosting_image if gpus else settings.hosting_cpu_image)
    return container(names.ENGINE, image, settings.image_pull_policy, resources(hosting.resources)) | {
        # No command: images of vLLM differ in how it is started, and all of them take its arguments.
        "args": _arguments(target, config, context_length, stage),
        "env": _environment(target),
        "ports": [{"name": names.ENGINE_PORT_NAME, "containerPort": names.ENGINE_PORT, "protocol": "TCP"}],
        # An engine that gets SIGTERM takes no new request, so its clients have to be elsewhere by then.
        "lifecycle": {"preStop": {"exec": {"command": ["python3", str(inside.DRAIN), str(WITHDRAWAL_SECONDS)]}}},
        **probes(config.base_name if stage == BASE else config.name),
    }


def _arguments(target: Target, config: RunConfig, context_length: int, stage: str) -> list[str]:
    wanted = target.spec.hosting.resources
    gpus = ["--tensor-parallel-size", str(max(1, accelerators(wanted)))]
    return [
        *engine.arguments(config, Workspace(volumes.WORKSPACE), context_length, stage == BASE, names.step_of(stage)),
        *("--port", str(names.ENGINE_PORT)),
        *("--shutdown-timeout", str(DRAIN_SECONDS)),
        *("--middleware", inside.MIDDLEWARE),
        *(gpus if devices(wanted) else engine.CPU_ARGUMENTS),
    ]


def _environment(target: Target) -> list[Variable]:
    wanted = target.spec.hosting.resources
    environment = ENVIRONMENT | engine.ENVIRONMENT | {"PYTHONPATH": str(inside.DIRECTORY)}
    if devices(wanted):
        return variables(environment)
    return [*variables(environment | engine.CPU_ENVIRONMENT), *threads(wanted.limits)]


def _strategy(rollout: Rollout) -> Manifest:
    if rollout == Rollout.RECREATE:
        return {"type": "Recreate"}
    return {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


def _selector(name: str, revision: str, stage: str) -> dict[str, str]:
    return {names.JOB: name, names.REVISION: revision, names.STAGE: stage}


def _service(described: Manifest, target: Target, revision: str, stage: str = HOST) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": described,
        "spec": {
            "selector": _selector(target.name, revision, stage),
            "ports": [
                {
                    "name": names.ENGINE_PORT_NAME,
                    "port": 80,
                    "targetPort": names.ENGINE_PORT_NAME,
                    "protocol": "TCP",
                }
            ],
        },
    }
