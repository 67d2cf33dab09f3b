"""The Job that carries a stage: the trainer image, told what to do by the revision's record. Used by `stages.job`."""

from dataclasses import dataclass, field

from finetune_trainer.contract.config import IMAGE, Sharding
from finetune_trainer.contract.outcome import TERMINATION_LOG, Outcome
from finetune_trainer.contract.results import STATUS_PORT

from finetune_operator import names
from finetune_operator.api.pods import Pod, Toleration
from finetune_operator.api.training import Training
from finetune_operator.api.values import seconds
from finetune_operator.finetunejob.desired import bucket, sweep, volumes
from finetune_operator.finetunejob.target import Target
from finetune_operator.pods.environment import Variable, merged, threads, variables
from finetune_operator.pods.metadata import Manifest, metadata
from finetune_operator.pods.mounts import Mount, scratch
from finetune_operator.pods.resources import accelerators, devices, resources, without_devices
from finetune_operator.pods.template import ENVIRONMENT, container, template

# torch's own choice where nobody makes one.
MEETING_PORT = 29500


@dataclass(frozen=True)
class JobNeeds:
    """What a stage needs of its Job.

    `devices`: it gets training's accelerators, on as many nodes as the manifest asks for. `measured`: it is told what
    is evaluated. `trials`: more than one in a sweep, on as many pods as it asks for. `mounts` come beside the
    revision's volume and record, `environment` beside what every trainer pod has. `near`: the labels of pods that it
    had better share a node with, since it needs a volume of theirs.
    """

    devices: bool = False
    measured: bool = False
    trials: int = 1
    environment: list[Variable] = field(default_factory=list)
    mounts: list[Mount] = field(default_factory=list)
    arguments: tuple[str, ...] = ()
    near: dict[str, str] | None = None


def job(target: Target, stage: str, grace_seconds: int, needs: JobNeeds, inputs: str) -> Manifest:
    """The Job of a stage; `inputs` is a digest of what its pods are made from, `grace_seconds` lie between SIGTERM and
    SIGKILL.

    The one that trains is queued where there is a queue: it begins when Kueue admits it. The user's labels and
    annotations of pods are the Job's too, where Kueue and others look for theirs.
    """
    training = target.spec.training
    settings = training.pod if needs.devices else _beside_devices(training)
    mounts = [volumes.workspace(target), volumes.told(target, needs.measured), *scratch(), *needs.mounts]
    labels = names.labels(target.name, target.revision, stage)
    nodes = training.nodes if needs.devices else 1
    pod = template(labels, settings, _container(target, stage, needs, settings), mounts, target.together, needs.near)
    pod["spec"] |= {"restartPolicy": "Never", "terminationGracePeriodSeconds": grace_seconds}
    queue = {names.QUEUE: training.queue} if needs.devices and training.queue else {}
    spec: Manifest = {
        "suspend": bool(queue),
        "podFailurePolicy": failure_policy(stage, nodes, swept=needs.devices and training.sweep is not None),
        # The volume is one pod's at a time: the next starts when the last has ended.
        "podReplacementPolicy": "Failed",
        "template": pod,
        **limits(training, needs.trials),
    }
    name = names.of_stage(target.name, target.revision, stage)
    if (count := pods(training, needs)) > 1:
        spec |= {"completionMode": "Indexed", "completions": count, "parallelism": count}
    if nodes > 1:
        pod["spec"]["subdomain"] = name
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(
            target.owner, name, {**settings.labels, **labels, **queue}, {**settings.annotations, names.INPUTS: inputs}
        ),
        "spec": spec,
    }


def meeting_point(target: Target, stage: str) -> Manifest:
    """The Service that gives each pod of a stage a name: they look for one another before any of them is ready."""
    name, labels = (
        names.of_stage(target.name, target.revision, stage),
        names.labels(target.name, target.revision, stage),
    )
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(target.owner, name, labels),
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": labels},
    }


def processes(training: Training) -> int:
    """How many share a batch: one for each accelerator, or one for each node."""
    return training.nodes * max(1, accelerators(training.resources))


def sharding(training: Training) -> tuple[str, ...]:
    """The argument that tells prepare and train of training.sharding; none for the default.

    The run config can't: no weight depends on it.
    """
    wanted = training.sharding
    return () if wanted == Sharding.AUTO else ("--sharding", wanted.value)


def pods(training: Training, needs: JobNeeds) -> int:
    """How many pods carry the stage together."""
    return max(training.nodes, sweep.pods(training)) if needs.devices else 1


def limits(training: Training, trials: int = 1) -> Manifest:
    """What may change while a Job runs: how often it is tried again, each trial of a sweep, and for how long."""
    found: Manifest = {"backoffLimit": training.retries * trials}
    if training.max_runtime:
        found["activeDeadlineSeconds"] = seconds(training.max_runtime)
    return found


def failure_policy(stage: str, nodes: int, swept: bool) -> Manifest:
    """What the Job does with a failed pod: a disruption costs no retry, and what no retry can mend fails at once.

    Of several nodes the one that failed first is what counts: those that ended with it just begin again. The pods of a
    sweep try a trial again themselves, so that what they end with is final but for a request to stop.
    """
    lost = {"containerName": stage, "operator": "In", "values": [Outcome.PEER_LOST.exit.code]}
    retried = {outcome for outcome in Outcome if outcome.exit.retry} - ({Outcome.INTERNAL} if swept else set())
    final = sorted(outcome.exit.code for outcome in Outcome if outcome.exit.code and outcome not in retried)
    return {
        "rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            *([{"action": "Ignore", "onExitCodes": lost}] if nodes > 1 else []),
            {"action": "FailJob", "onExitCodes": {"containerName": stage, "operator": "In", "values": final}},
        ]
    }


def _container(target: Target, stage: str, needs: JobNeeds, settings: Pod) -> Manifest:
    training = target.spec.training
    image = training.image or target.settings.trainer_image
    wanted = training.resources if needs.devices else without_devices(training.resources)
    # No pod can ask what it runs: what trained is a part of the artifact's provenance.
    told = {IMAGE: image} if needs.devices else {}
    environment = [*variables(ENVIRONMENT | told), *bucket.keys(target.bucket), *needs.environment]
    # With several devices the trainer launches a process for each: they share the cores, and none may take them all.
    if not needs.devices or accelerators(training.resources) <= 1:
        environment += threads(wanted.limits)
    return container(stage, image, target.settings.image_pull_policy, resources(wanted)) | {
        "command": ["python", "-m", "finetune_trainer", stage],
        "args": [
            *("--config", str(volumes.TOLD / names.RUN_CONFIG)),
            *("--workspace", str(volumes.WORKSPACE)),
            *("--termination-log", TERMINATION_LOG),
            *("--status-port", str(STATUS_PORT)),
            *bucket.arguments(target.bucket),
            *needs.arguments,
            *(_together(target, stage) if needs.devices and training.nodes > 1 else ()),
        ],
        "env": merged(environment, settings.env),
        "ports": [{"name": names.STATUS_PORT_NAME, "containerPort": STATUS_PORT, "protocol": "TCP"}],
    }


def _together(target: Target, stage: str) -> tuple[str, ...]:
    """What a pod of several is told: how many they are, which one it is, and where the first one is found."""
    name = names.of_stage(target.name, target.revision, stage)
    number = "$(JOB_COMPLETION_INDEX)"
    return ("--nodes", str(target.spec.training.nodes), "--node", number, "--meet", f"{name}-0.{name}:{MEETING_PORT}")


def _beside_devices(training: Training) -> Pod:
    """Settings for a pod without devices that has to run where those are, because the volume may be there.

    The taints that guard them are tolerated, as the cluster does for pods that ask for them.
    """
    guarded = [Toleration(key=name, operator="Exists", effect="NoSchedule") for name in devices(training.resources)]
    return training.pod.model_copy(update={"tolerations": [*training.pod.tolerations, *guarded]})
