"""Adapters that an engine loads while it runs: what vLLM is told of them, and the container beside it that loads them.

Used by `engine`. vLLM loads over its own port; `inside/finetune_adapters` keeps everybody else from doing so.
"""

from pathlib import Path

from finetune_trainer.contract.adapters import LIST, READY, VERIFY_KEY
from finetune_trainer.contract.results import STATUS_PORT
from finetune_trainer.contract.schemes import SCHEMES

from finetune_operator import names
from finetune_operator.api.engine import Lora
from finetune_operator.api.model import Credentials
from finetune_operator.pods.environment import Variable, from_secret, variables
from finetune_operator.pods.mounts import Mount, scratch
from finetune_operator.pods.template import ENVIRONMENT
from finetune_operator.pods.template import container as of_image
from finetune_operator.serving import inside
from finetune_operator.serving.pod import Adapters
from finetune_operator.settings import Settings

# What vLLM is asked for every second or so, beside its metrics.
PROBED = ("/v1/models", READY)
DIRECTORY = Path("/adapters")
_LISTS = Path("/etc/finetune-adapters")
# A file is read through once, and its digest made.
_RESOURCES = {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}


def arguments(lora: Lora) -> list[str]:
    """vLLM's. Left to itself it computes for one adapter at a time."""
    return [
        "--enable-lora",
        *("--max-loras", str(lora.at_once)),
        *("--max-lora-rank", str(lora.max_rank)),
        *(("--max-cpu-loras", str(lora.in_memory)) if lora.in_memory else ()),
        *("--middleware", inside.ADAPTERS_MIDDLEWARE),
    ]


def environment() -> list[Variable]:
    """The engine's."""
    return variables({"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"})


def beside(lora: Lora, record: str, key: list[Variable], settings: Settings) -> Adapters:
    """What a pod has beside the engine. `record`: the ConfigMap with the list that a new pod begins with; `key`: the
    variable with what the engine asks of its clients.
    """
    files = Mount("adapters", {"emptyDir": {}}, DIRECTORY)
    begin = {"configMap": {"name": record, "items": [{"key": LIST, "path": LIST}]}}
    # A ConfigMap takes the kubelet a minute; an annotation of the pod's own a second.
    path = f"metadata.annotations['{names.ADAPTERS_WANTED}']"
    now = {"downwardAPI": {"items": [{"path": LIST, "fieldRef": {"fieldPath": path}}]}}
    lists = (
        Mount("adapters-begin", begin, _LISTS / "begin", read_only=True),
        Mount("adapters-now", now, _LISTS / "now", read_only=True),
    )
    run = of_image(names.ADAPTERS, settings.trainer_image, settings.image_pull_policy, _RESOURCES) | {
        "command": ["python", "-m", "finetune_trainer", "adapters"],
        "args": ["--into", str(DIRECTORY), "--endpoint", f"http://127.0.0.1:{names.ENGINE_PORT}"],
        "env": [*variables(ENVIRONMENT | _verify_key(lora)), *_credentials(lora.credentials), *key],
        "ports": [{"name": names.STATUS_PORT_NAME, "containerPort": STATUS_PORT, "protocol": "TCP"}],
        "volumeMounts": [mount.mount() for mount in (files, *lists, *scratch())],
    }
    return Adapters(run, Mount(files.name, files.source, files.path, read_only=True), lists)


def _verify_key(lora: Lora) -> dict[str, str]:
    return {VERIFY_KEY: lora.verify_key} if lora.verify_key else {}


def _credentials(given: Credentials | None) -> list[Variable]:
    """Of every scheme that artifacts are published to: which of them, no manifest says that the pod is made from."""
    if given is None:
        return []
    keys = [key for scheme in SCHEMES if scheme.output for key in scheme.keys]
    return [from_secret("FINETUNE_LORA_", given.secret_ref.name, key, optional=True) for key in keys]
