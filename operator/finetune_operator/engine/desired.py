"""What an Engine becomes: its pods, a Deployment of them, a Service, a NetworkPolicy, and the record of the pods.

Pure builders for `plan`. A manifest has no nulls and a deterministic order, so that applying it twice writes nothing
the second time.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from finetune_trainer.contract.adapters import LIST, READY, WantedAdapters
from finetune_trainer.contract.outcome import TERMINATION_LOG
from finetune_trainer.contract.results import STATUS_PORT

from finetune_operator import names
from finetune_operator.api.engine import KIND, EngineSpec, Storage
from finetune_operator.api.v1alpha1 import API_VERSION
from finetune_operator.engine.adapters import text as adapters_text
from finetune_operator.engine.observe import POD
from finetune_operator.pods.environment import threads, variables
from finetune_operator.pods.metadata import Manifest, Owner, metadata
from finetune_operator.pods.mounts import Mount, ephemeral, scratch
from finetune_operator.pods.resources import resources, without_devices
from finetune_operator.pods.sources import credentials, source, user_mounts
from finetune_operator.pods.template import ENVIRONMENT
from finetune_operator.pods.template import container as of_image
from finetune_operator.serving import adapters, objects, vllm
from finetune_operator.serving.pod import VllmContainer, api_key, container, template, with_env
from finetune_operator.settings import Settings

# Where a model that was fetched lies.
VOLUME = Path("/model")
_FILES = VOLUME / "files"
_NONE = WantedAdapters()


@dataclass(frozen=True)
class Target:
    """An Engine, and the operator's settings."""

    name: str
    namespace: str
    uid: str
    spec: EngineSpec
    settings: Settings

    @property
    def owner(self) -> Owner:
        """The Engine."""
        return Owner(API_VERSION, KIND, self.name, self.namespace, self.uid)

    @property
    def selector(self) -> dict[str, str]:
        """The label of its pods."""
        return {names.ENGINE_OF: self.name}


def pod_template(target: Target) -> Manifest:
    """The pods, without the user's variables: it is kept in the record."""
    spec, settings = target.spec, target.settings
    mounted = source(spec.model.source).path
    key = api_key(spec.api_key)
    engine = VllmContainer(target.name, _arguments(target, mounted or _FILES), spec.resources, spec.image, key)
    loads = None
    if spec.lora:
        loads = adapters.beside(spec.lora, names.of_engine(target.name), key, settings)
        engine = replace(engine, environment=[*key, *adapters.environment()], ready=READY)
    run, labels = container(engine, settings), names.engine_labels(target.name)
    if mounted:
        return template(labels, spec.pod, run, user_mounts([spec.model.source]), adapters=loads)
    volume = _volume(spec.storage)
    model = Mount("model", volume, VOLUME, read_only=True)
    before = (_fetch(target, Mount("model", volume, VOLUME)),)
    return template(labels, spec.pod, run, [model], before=before, adapters=loads)


def _arguments(target: Target, model: Path) -> list[str]:
    spec = target.spec
    return [
        *vllm.served(model, target.name),
        *vllm.common(spec.context_length, spec.model.trust_remote_code, adapters.PROBED if spec.lora else ()),
        *(("--quantization", spec.quantization) if spec.quantization else ()),
        *(adapters.arguments(spec.lora) if spec.lora else ()),
        *spec.arguments,
    ]


def record(target: Target, inputs: str, loads: WantedAdapters = _NONE) -> Manifest:
    """The ConfigMap that the pods are kept in, as they are made for such a manifest, and the adapters that a new one
    begins with.
    """
    name, labels = names.of_engine(target.name), names.engine_labels(target.name)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(target.owner, name, labels, {names.INPUTS: inputs}),
        "data": kept(target, loads),
    }


def kept(target: Target, loads: WantedAdapters = _NONE) -> dict[str, str]:
    """What the record holds."""
    listed = {LIST: adapters_text(loads)} if target.spec.lora else {}
    return {POD: json.dumps(pod_template(target))} | listed


def deployment(target: Target, pod: Manifest) -> Manifest:
    """The Deployment of pods that were made by `pod_template`, by this version or by an earlier one."""
    spec = target.spec
    pods = with_env(pod, spec.pod.env)
    return objects.deployment(_metadata(target), target.selector, pods, spec.replicas, spec.rollout)


def service(target: Target) -> Manifest:
    """The Service."""
    return objects.service(_metadata(target), target.selector)


def policy(target: Target) -> Manifest:
    """The NetworkPolicy. How busy a pod is, and which adapters it has, it tells the operator."""
    told = (STATUS_PORT,) if target.spec.lora else ()
    return objects.policy(_metadata(target), {"matchLabels": target.selector}, target.settings, told)


def _metadata(target: Target) -> Manifest:
    return metadata(target.owner, target.name, names.engine_labels(target.name))


def _volume(storage: Storage | None) -> Manifest:
    return {"emptyDir": {}} if storage is None else ephemeral(str(storage.size), storage.storage_class_name)


def _fetch(target: Target, model: Mount) -> Manifest:
    """The container that fetches the model: the only one with its credentials."""
    wanted, settings = target.spec.model, target.settings
    room = without_devices(target.spec.resources)
    environment = [
        *variables(ENVIRONMENT),
        *threads(room.limits),
        *credentials("FINETUNE_MODEL_", wanted.credentials, [wanted.source]),
    ]
    return of_image(names.FETCH, settings.trainer_image, settings.image_pull_policy, resources(room)) | {
        "command": ["python", "-m", "finetune_trainer", "fetch"],
        "args": [
            *("--source", wanted.source),
            *(("--revision", wanted.revision) if wanted.revision else ()),
            *(("--trust-remote-code",) if wanted.trust_remote_code else ()),
            *("--into", str(_FILES)),
            *("--termination-log", TERMINATION_LOG),
        ],
        "env": environment,
        "volumeMounts": [mount.mount() for mount in (model, *scratch())],
    }
