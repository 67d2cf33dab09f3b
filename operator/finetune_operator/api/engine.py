"""The Engine: a vLLM server of one base model, on its own.

The second kind of the group; `api.v1alpha1` has the first. A field that nothing acts on does not belong here.
"""

import re
from typing import Annotated, Literal

from finetune_trainer.contract.schemes import listed, remote
from pydantic import ConfigDict, Field

from finetune_operator.api.hosting import Rollout
from finetune_operator.api.model import ApiKey, Credentials, Model
from finetune_operator.api.pods import Pod
from finetune_operator.api.requests import EngineRequests
from finetune_operator.api.resources import Resources
from finetune_operator.api.rules import ApiModel, Rule
from finetune_operator.api.status import Condition
from finetune_operator.api.values import (
    MOST_TOKENS,
    Duration,
    GitRevision,
    Image,
    KeyedBy,
    ModelUri,
    PublicKey,
    ServiceName,
    Size,
    StorageClassName,
    seconds,
)

KIND = "Engine"
PLURAL = "engines"

# What vLLM may be told beside what the fields say: nothing that opens a way in, loads code, or that the operator relies
# on. The first ones stand alone, the others have a value.
FLAGS = (
    *("async-scheduling", "no-async-scheduling"),
    *("enable-auto-tool-choice", "enforce-eager"),
    *("enable-chunked-prefill", "no-enable-chunked-prefill"),
    *("enable-prefix-caching", "no-enable-prefix-caching"),
)
VALUED = (
    *("block-size", "chat-template-content-format", "cpu-offload-gb", "dtype", "generation-config"),
    *("gpu-memory-utilization", "kv-cache-dtype", "kv-cache-memory-bytes", "limit-mm-per-prompt"),
    *("long-prefill-token-threshold", "max-logprobs", "max-num-batched-tokens", "max-num-seqs"),
    *("override-generation-config", "reasoning-parser", "scheduling-policy", "seed", "tool-call-parser"),
)
_ARGUMENT = f"--({'|'.join(FLAGS)}|({'|'.join(VALUED)})=.+)"
Argument = Annotated[
    str,
    Field(max_length=1024),
    Rule(
        f"self.matches('^{_ARGUMENT}$')",
        f"must be one of vLLM's arguments {', '.join(f'--{name}' for name in FLAGS)}, or "
        f"{', '.join(f'--{name}=…' for name in VALUED)}; others are the operator's to set, or have a field",
        lambda given: re.fullmatch(_ARGUMENT, given) is not None,
    ),
]


# Shorter than it takes to start, it would be awake for nothing else.
_SHORTEST_IDLE = 60
IdleAfter = Annotated[
    Duration,
    Rule(
        f"!self.matches('^([0-9]+[hms])+$') || duration(self) >= duration('{_SHORTEST_IDLE}s')",
        f"must be at least {_SHORTEST_IDLE}s, such as 30m",
        lambda given: seconds(given) >= _SHORTEST_IDLE,
    ),
]


class ServedModel(Model):
    """What is served."""

    source: ModelUri
    """The model: on the hub or in a bucket (hf://ORG/NAME, s3://BUCKET/PREFIX and the others of docs/addresses.md),
    which each pod fetches before its engine starts, or pvc://CLAIM/PATH, which the pods mount."""
    revision: GitRevision | None = None
    """A branch, tag or commit of an hf:// model. Each pod asks the hub what it stands for, so that only a commit is
    the same for all; status.model.commit says what they serve. Left out: main."""

    rules = (
        *Model.rules,
        Rule(
            "!self.source.startsWith('ftj://')",
            "can't be a FineTuneJob's artifact, which that FineTuneJob serves itself: name the model by "
            f"{listed([*remote('model'), 'pvc://'])}",
            lambda model: not model.source.startswith("ftj://"),
            "source",
        ),
    )


class Storage(ApiModel):
    """The volume that each pod has for the model that it fetches; it goes with the pod."""

    size: Size
    """How large: the size of the model's files, and some more."""
    storage_class_name: StorageClassName | None = None
    """Its storage class. Left out: the cluster's default."""


class Lora(ApiModel):
    """Room for adapters, which FineTuneJobs have loaded here while the engine runs."""

    at_once: Annotated[int, Field(ge=1, le=256)] = 4
    """How many adapters may have requests computed at the same time; requests for others wait. Each takes memory."""
    max_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 16
    """The largest rank that an adapter may have. Each adapter takes memory as if it had it."""
    in_memory: Annotated[int, Field(ge=1, le=4096)] | None = None
    """How many adapters are kept in the pod's memory, so that they are in use again without being read from disk. Left
    out: atOnce."""
    credentials: Credentials | None = None
    """For the places that FineTuneJobs publish their adapters to (output.destination)."""
    verify_key: PublicKey | None = None
    """A public key in PEM: an adapter is loaded only if its artifact was signed with the private one (output.sign of
    its FineTuneJob)."""

    rules = (
        Rule(
            "!has(self.inMemory) || self.inMemory >= self.atOnce",
            "can't be less than lora.atOnce",
            lambda lora: lora.in_memory is None or lora.in_memory >= lora.at_once,
            "inMemory",
        ),
    )


class EngineSpec(ApiModel):
    """What the user wants: a model that answers."""

    model: ServedModel
    """What is served."""
    replicas: Annotated[int, Field(ge=0, le=100)] = 1
    """Pods that answer; `kubectl scale` and autoscalers change it. 0 gives the accelerators back."""
    idle_after: IdleAfter | None = None
    """With no request for so long it falls asleep: replicas becomes 0, and its accelerators are free. A request to
    finetune-api wakes it, and so does a FineTuneJob that needs it, or `kubectl scale`. Left out: it stays awake."""
    resources: Resources = Resources()
    """Each pod's resources; an accelerator among its limits selects the GPU image."""
    context_length: Annotated[int, Field(ge=16, le=MOST_TOKENS)] | None = None
    """The longest prompt and answer together, in tokens. Left out: what the model was made for."""
    quantization: (
        Literal[
            "awq",
            "compressed-tensors",
            "fp8",
            "fp8_per_block",
            "gptq",
            "int8_per_channel_weight_only",
            "modelopt",
            "mxfp4",
        ]
        | None
    ) = None
    """vLLM's way to hold the weights in fewer bits. Left out: as the model's own config.json says."""
    arguments: Annotated[list[Argument], Field(max_length=32)] = []
    """More of vLLM's arguments, each with its value, such as --max-num-seqs=64; those that are allowed are listed in
    docs/engines.md."""
    lora: Lora | None = None
    """Room for adapters. Left out: it serves its model alone."""
    api_key: ApiKey | None = None
    """What clients have to send as their API key. Left out: whoever reaches the engine may ask it."""
    storage: Storage | None = None
    """The volume of each pod for a model that is fetched. Left out: the node's own disk, an emptyDir."""
    rollout: Rollout = Rollout.SURGE
    """How a change reaches the pods. surge: one more than replicas, of which none goes before a new one answers.
    recreate: the old ones give their accelerators to the new ones, and nothing answers in between."""
    pod: Pod = Pod()
    """Settings of the pods."""
    image: Image | None = None
    """A vLLM image. Left out: the operator's of when the Engine was made or changed; the annotation
    finetune.dev/upgrade takes that of now."""

    rules = (
        Rule(
            "!has(self.storage) || !self.model.source.startsWith('pvc://')",
            f"goes with {listed(remote('model'))} sources only, which have to be fetched: remove it",
            lambda spec: spec.storage is None or not spec.model.source.startswith("pvc://"),
            "storage",
        ),
    )

    @property
    def asleep(self) -> bool:
        """Whether it sleeps, or is about to, and may be woken; whoever scaled it to zero."""
        return self.replicas == 0 and self.idle_after is not None


class EngineModelStatus(ApiModel):
    """What is served."""

    name: str
    """The model's name for clients: the Engine's."""
    commit: str | None = None
    """The commit that an hf:// revision stands for, once all pods have the same."""


class AdapterFailure(ApiModel):
    """A pod that could not load an adapter."""

    pod: str
    """Its name."""
    message: str
    """Why, and what to do."""


class AdapterStatus(ApiModel):
    """An adapter that a FineTuneJob wants served here."""

    name: str
    """The model's name for clients: the FineTuneJob's, and its revision."""
    pods: Annotated[int, Field(ge=0)] = 0
    """Pods that answer: each of them should have it."""
    loaded: Annotated[int, Field(ge=0)] = 0
    """Those of them that have it."""
    missing: Annotated[list[str], Field(max_length=100)] | None = None
    """The others; left out where all have it."""
    answers_as: Annotated[list[str], Field(max_length=100)] = []
    """Further names that every pod which has it answers by: the FineTuneJob's, once the revision is promoted."""
    failed: Annotated[list[AdapterFailure], KeyedBy("pod"), Field(max_length=100)] = []
    """Pods that could not load it."""

    @property
    def everywhere(self) -> bool:
        """Whether every client gets its answers."""
        return 0 < self.pods <= self.loaded


class EngineStatus(ApiModel):
    """What the operator tells the user."""

    observed_generation: int = 0
    """The generation of the manifest that this status speaks of."""
    conditions: Annotated[list[Condition], KeyedBy("type")] = []
    """Accepted, Available and Ready; Reconciling or Stalled while they apply."""
    replicas: int | None = None
    """Pods that there are, ready or not; autoscalers read it."""
    available_replicas: int | None = None
    """Pods that answer."""
    wakes_to: int | None = None
    """Pods that there are to be once it is woken: as many as were asked for last."""
    requests: EngineRequests | None = None
    """How busy it is; left out while it has no pod."""
    selector: str | None = None
    """The pods' labels as a selector; autoscalers find the pods whose load they measure by it."""
    url: str | None = None
    """The base URL for an OpenAI client."""
    model: EngineModelStatus | None = None
    """What is served."""
    adapters: Annotated[list[AdapterStatus], KeyedBy("name")] = []
    """The adapters of FineTuneJobs that are served here."""


class EngineMetadata(ApiModel):
    """The part of an object's metadata that is read; the API server checks the rest."""

    model_config = ConfigDict(extra="ignore")

    name: ServiceName
    """The Engine's name, and its model's."""
    namespace: str | None = None
    """Its namespace."""


class Engine(ApiModel):
    """A vLLM server of one model, which answers as an OpenAI-compatible endpoint."""

    api_version: Literal["finetune.dev/v1alpha1"]
    """finetune.dev/v1alpha1."""
    kind: Literal["Engine"]
    """Engine."""
    metadata: EngineMetadata
    """Standard object metadata."""
    spec: EngineSpec
    """What the user wants."""
    status: EngineStatus | None = None
    """What the operator tells."""
