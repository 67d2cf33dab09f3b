"""The Deployment that serves a revision, its Service, and the stable Service. For `hosting` and `stages.promote`."""

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

HOST = "host"
# Until a pod that ends is no longer sent requests by any node; uvicorn closes idle connections after 5.
WITHDRAWAL_SECONDS = 10
# In which requests under way at SIGTERM may finish; vLLM's own default, 0, cuts them off.
DRAIN_SECONDS = 120
# Until an engine that has answered its last request has let go of its device.
_TEARDOWN_SECONDS = 20
GRACE_SECONDS = WITHDRAWAL_SECONDS + DRAIN_SECONDS + _TEARDOWN_SECONDS
# What a pod may take to be scheduled, to pull an image of 10 GB and to load its model.
PROGRESS_SECONDS = STARTUP_SECONDS + 900


def pod_template(target: Target, run_config: RunConfig, context_length: int) -> Manifest:
    """The engine's pods: the model of `run_config`, hosted as the target's spec and this operator say.

    Without the user's variables: this is kept in the record, and their values are nobody else's to read.
    """
    mounts = [
        volumes.workspace(target, read_only=True),
        *scratch(),
        inside.mount(),
        *volumes.user_mounts([run_config.model.source.uri]),
    ]
    settings, run = target.spec.hosting.pod, _engine(target, run_config, context_length)
    pod = template(names.labels(target.name, target.revision, HOST), settings, run, mounts, target.together)
    pod["spec"]["terminationGracePeriodSeconds"] = GRACE_SECONDS
    pod["metadata"]["annotations"] |= inside.annotations()
    return pod


def deployment(target: Target, pod: Manifest, replicas: int) -> Manifest:
    """The Deployment of a revision, whose pods were made by `pod_template`, by this version or by an earlier one."""
    name = names.of_revision(target.name, target.revision)
    (run,) = pod["spec"]["containers"]
    run = {**run, "env": merged(run["env"], target.spec.hosting.pod.env)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(target.owner, name, names.labels(target.name, target.revision, HOST)),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": _selector(target.name, target.revision)},
            "strategy": _strategy(target.spec.hosting.rollout),
            "progressDeadlineSeconds": PROGRESS_SECONDS,
            "revisionHistoryLimit": 2,
            "template": {**pod, "spec": {**pod["spec"], "containers": [run]}},
        },
    }


def candidate_service(target: Target) -> Manifest:
    """The Service of one revision, for whoever wants that one and no other."""
    name = names.of_revision(target.name, target.revision)
    described = metadata(target.owner, name, names.labels(target.name, target.revision, HOST))
    return _service(described, target, target.revision)


def candidate_url(target: Target) -> str:
    """Where an OpenAI client within the cluster finds that one revision."""
    return f"http://{names.of_revision(target.name, target.revision)}.{target.namespace}.svc/v1"


def stable_service(target: Target, revision: str) -> Manifest:
    """The Service that users know; it answers with `revision`."""
    return _service(metadata(target.owner, target.name, names.labels(target.name)), target, revision)


def _engine(target: Target, config: RunConfig, context_length: int) -> Manifest:
    hosting = target.spec.hosting
    gpus = bool(devices(hosting.resources))
    settings = target.settings
    image = hosting.image or (settings.hosting_image if gpus else settings.hosting_cpu_image)
    return container(names.ENGINE, image, settings.image_pull_policy, resources(hosting.resources)) | {
        # No command: images of vLLM differ in how it is started, and all of them take its arguments.
        "args": _arguments(target, config, context_length),
        "env": _environment(target),
        "ports": [{"name": names.ENGINE_PORT_NAME, "containerPort": names.ENGINE_PORT, "protocol": "TCP"}],
        # An engine that gets SIGTERM takes no new request, so its clients have to be elsewhere by then.
        "lifecycle": {"preStop": {"exec": {"command": ["python3", str(inside.DRAIN), str(WITHDRAWAL_SECONDS)]}}},
        **probes(config.name),
    }


def _arguments(target: Target, config: RunConfig, context_length: int) -> list[str]:
    wanted = target.spec.hosting.resources
    gpus = ["--tensor-parallel-size", str(max(1, accelerators(wanted)))]
    return [
        *engine.arguments(config, Workspace(volumes.WORKSPACE), context_length),
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


def _selector(name: str, revision: str) -> dict[str, str]:
    return {names.JOB: name, names.REVISION: revision, names.STAGE: HOST}


def _service(described: Manifest, target: Target, revision: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": described,
        "spec": {
            "selector": _selector(target.name, revision),
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
