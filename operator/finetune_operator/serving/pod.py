"""The pods of engines: the container that runs vLLM, and what of the pod lets it start, answer and end in peace.

Each kind that serves says what its engine is told; `template` is kept by it, and `with_env` adds the user's variables
when a Deployment is made of it.
"""

from dataclasses import dataclass, field
from typing import Any

from finetune_operator import names
from finetune_operator.api.env import EnvVar
from finetune_operator.api.model import ApiKey
from finetune_operator.api.pods import Pod
from finetune_operator.api.resources import Resources
from finetune_operator.pods import template as pods
from finetune_operator.pods.environment import Variable, merged, threads, variables
from finetune_operator.pods.metadata import Manifest
from finetune_operator.pods.mounts import Mount, scratch
from finetune_operator.pods.resources import accelerators, devices, resources
from finetune_operator.serving import inside
from finetune_operator.serving.inside.finetune_answers import COMPLETIONS
from finetune_operator.serving.probes import probes
from finetune_operator.serving.vllm import CPU_ARGUMENTS, CPU_ENVIRONMENT, ENVIRONMENT
from finetune_operator.settings import Settings

# Until a pod that ends is no longer sent requests by any node; uvicorn closes idle connections after 5.
WITHDRAWAL_SECONDS = 10
# In which requests under way at SIGTERM may finish; vLLM's own default, 0, cuts them off.
DRAIN_SECONDS = 120
# Until an engine that has answered its last request has let go of its device.
_TEARDOWN_SECONDS = 20
# A client's own variable for it.
API_KEY = "OPENAI_API_KEY"
GRACE_SECONDS = WITHDRAWAL_SECONDS + DRAIN_SECONDS + _TEARDOWN_SECONDS


@dataclass(frozen=True)
class VllmContainer:
    """What one engine is asked for. `model`: the name that its probes ask for; `arguments`: what vLLM is told beside
    what all are; `image`: None for the operator's own; `asked`: the path that clients ask at; `ready`: where it says
    whether they may come.
    """

    model: str
    arguments: list[str]
    resources: Resources
    image: str | None
    environment: list[Variable] = field(default_factory=list)
    asked: str = COMPLETIONS
    ready: str = "/health"


@dataclass(frozen=True)
class Adapters:
    """Of a pod whose engine loads adapters: the `container` that does it, the volume with their `files`, as the engine
    has it, and those with the `lists` of what is wanted.
    """

    container: Manifest
    files: Mount
    lists: tuple[Mount, ...]


def template(
    labels: dict[str, str],
    settings: Pod,
    run: Manifest,
    mounts: list[Mount],
    together: dict[str, str] | None = None,
    before: tuple[Manifest, ...] = (),
    adapters: Adapters | None = None,
) -> Manifest:
    """PodTemplateSpec of an engine; `mounts` are the model's, `before` are containers that end before it starts,
    `adapters` what it has where it loads them while it runs.

    Without the user's variables: this is kept, and their values are nobody else's to read.
    """
    loads = adapters is not None
    mounts = [*mounts, *scratch(), inside.mount(loads), *([adapters.files] if adapters else ())]
    pod = pods.template(labels, settings, run, mounts, together)
    if before:
        pod["spec"]["initContainers"] = list(before)
    if adapters:
        pod["spec"]["containers"].append(adapters.container)
        pod["spec"]["volumes"] += [mount.volume() for mount in adapters.lists]
    pod["spec"]["terminationGracePeriodSeconds"] = GRACE_SECONDS
    pod["metadata"]["annotations"] |= inside.annotations(loads)
    return pod


def with_env(pod: Manifest, users: list[EnvVar]) -> Manifest:
    """The pods with the user's variables in each of their containers."""
    spec: dict[str, Any] = pod["spec"]
    told = {
        key: [{**each, "env": merged(each["env"], users)} for each in spec[key]]
        for key in ("initContainers", "containers")
        if key in spec
    }
    return {**pod, "spec": {**spec, **told}}


def container(engine: VllmContainer, settings: Settings) -> Manifest:
    """The container that runs it."""
    on_cpus = not devices(engine.resources)
    default = settings.hosting_cpu_image if on_cpus else settings.hosting_image
    wanted = resources(engine.resources)
    return pods.container(names.ENGINE, engine.image or default, settings.image_pull_policy, wanted) | {
        # No command: images of vLLM differ in how it is started, and all of them take its arguments.
        "args": _arguments(engine),
        "env": _environment(engine),
        "ports": [{"name": names.ENGINE_PORT_NAME, "containerPort": names.ENGINE_PORT, "protocol": "TCP"}],
        # An engine that gets SIGTERM takes no new request, so its clients have to be elsewhere by then.
        "lifecycle": {"preStop": {"exec": {"command": ["python3", str(inside.DRAIN), str(WITHDRAWAL_SECONDS)]}}},
        **probes(engine.model, engine.asked, engine.ready, on_cpus),
    }


def api_key(given: ApiKey | None) -> list[Variable]:
    """vLLM's own variable for its key: an argument would be for all to read."""
    if given is None:
        return []
    reference = {"name": given.secret_ref.name, "key": API_KEY}
    return [{"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": reference}}]


def _arguments(engine: VllmContainer) -> list[str]:
    gpus = ["--tensor-parallel-size", str(max(1, accelerators(engine.resources)))]
    return [
        *engine.arguments,
        *("--port", str(names.ENGINE_PORT)),
        *("--shutdown-timeout", str(DRAIN_SECONDS)),
        *("--middleware", inside.MIDDLEWARE),
        *(gpus if devices(engine.resources) else CPU_ARGUMENTS),
    ]


def _environment(engine: VllmContainer) -> list[Variable]:
    environment = pods.ENVIRONMENT | ENVIRONMENT | {"PYTHONPATH": str(inside.DIRECTORY)}
    if devices(engine.resources):
        return [*variables(environment), *engine.environment]
    return [*variables(environment | CPU_ENVIRONMENT), *threads(engine.resources.limits), *engine.environment]
