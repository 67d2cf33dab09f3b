"""The manifest's `training`."""

import re
from collections.abc import Callable
from typing import Annotated, Any

from finetune_trainer.contract.config import AdapterType, Method, Sharding
from pydantic import Field

from finetune_operator.api.budget import Budget
from finetune_operator.api.methods import Dpo, Kto, Reward
from finetune_operator.api.pods import Pod
from finetune_operator.api.resources import Resources
from finetune_operator.api.rules import ApiModel, Rule
from finetune_operator.api.sweep import Sweep, swept_alone
from finetune_operator.api.tracking import Tracking
from finetune_operator.api.values import (
    MOST_TOKENS,
    QUEUE,
    Alpha,
    BatchSize,
    Dropout,
    Duration,
    Epochs,
    Image,
    LearningRate,
    QueueName,
    Rank,
    distinct,
)

ALL_LINEAR = "all-linear"
_NAME = "[a-zA-Z0-9_]+([.][a-zA-Z0-9_]+)*"


def _is(pattern: str, what: str) -> Rule:
    return Rule(
        f"self.matches('^({pattern})$')",
        f"must be {what}; patterns are not known here",
        lambda name: re.fullmatch(pattern, name) is not None,
    )


TargetModule = Annotated[
    str, Field(max_length=255), _is(f"{ALL_LINEAR}|{_NAME}", "all-linear or a module's name, such as q_proj")
]
SavedModule = Annotated[str, Field(max_length=255), _is(_NAME, "a module's name, such as embed_tokens")]


def _of_an_adapter(field: str, unset: str, is_unset: Callable[[Any], bool]) -> Rule:
    return Rule(
        f"self.type != 'none' || {unset}",
        "has no meaning with adapter.type none: remove it, or choose lora, qlora or dora",
        lambda adapter: adapter.type != AdapterType.NONE or is_unset(adapter),
        field,
    )


class Adapter(ApiModel):
    """What is trained beside the frozen base model (PEFT's LoraConfig)."""

    type: AdapterType = AdapterType.LORA
    """lora, qlora (LoRA beside a base model in four bits, which takes less memory and more time; served as lora is),
    dora (merged into the base model for serving, since vLLM loads no DoRA adapters), or none for full fine-tuning."""
    rank: Rank = 16
    """The adapter's rank; the values are those that vLLM can serve."""
    alpha: Alpha | None = None
    """LoRA's scaling numerator. Left out: twice the rank; with useRslora 16."""
    dropout: Dropout = 0.0
    """Dropout on the adapter's input."""
    use_rslora: bool = False
    """Rank-stabilised LoRA: the adapter is scaled by alpha/√rank in place of alpha/rank, so that a high rank still
    learns."""
    loraplus_lr_ratio: Annotated[float, Field(ge=1, le=1000)] | None = None
    """LoRA+: how many times the learning rate the half of an adapter learns with that is zero at first (B); its authors
    take 16. Left out: both halves learn alike."""
    target_modules: Annotated[
        list[TargetModule],
        Field(min_length=1, max_length=64),
        Rule(
            "self.all(a, self.exists_one(b, a == b))",
            "names a module twice",
            distinct,
        ),
        Rule(
            "self.size() == 1 || !('all-linear' in self)",
            "has all-linear among others: it stands alone",
            lambda modules: len(modules) == 1 or ALL_LINEAR not in modules,
        ),
    ] = [ALL_LINEAR]
    """The modules that get an adapter, by name: linear layers of the model's blocks, of which adapters can be served;
    all-linear is all of them."""
    modules_to_save: (
        Annotated[
            list[SavedModule],
            Field(min_length=1, max_length=8),
            Rule("self.all(a, self.exists_one(b, a == b))", "names a module twice", distinct),
        ]
        | None
    ) = None
    """The modules that are trained as a whole beside the adapter, by name: embeddings (embed_tokens) and the output
    layer (lm_head). vLLM loads no such adapter, so train merges it into a copy of the base model, which is served as of
    dora; hosting.engine serves none. Left out: none."""

    @property
    def beside_base(self) -> bool:
        """Whether vLLM serves it beside its base model: see AdapterConfig."""
        return self.type.beside_base and not self.modules_to_save

    rules = (
        _of_an_adapter("alpha", "!has(self.alpha)", lambda adapter: adapter.alpha is None),
        # The API server has filled in the defaults when it checks: it can't tell one that was written out.
        _of_an_adapter("rank", "!has(self.rank) || self.rank == 16", lambda adapter: adapter.rank == 16),
        _of_an_adapter("dropout", "!has(self.dropout) || self.dropout == 0.0", lambda adapter: adapter.dropout == 0),
        _of_an_adapter("useRslora", "!has(self.useRslora) || !self.useRslora", lambda adapter: not adapter.use_rslora),
        _of_an_adapter(
            "loraplusLrRatio", "!has(self.loraplusLrRatio)", lambda adapter: adapter.loraplus_lr_ratio is None
        ),
        _of_an_adapter(
            "targetModules",
            "!has(self.targetModules) || self.targetModules == ['all-linear']",
            lambda adapter: adapter.target_modules == [ALL_LINEAR],
        ),
        _of_an_adapter("modulesToSave", "!has(self.modulesToSave)", lambda adapter: adapter.modules_to_save is None),
        Rule(
            "self.type != 'qlora' || !has(self.modulesToSave)",
            "is not there for qlora, since what is served then is merged with the base model, which qlora has in four "
            "bits: remove it, or choose lora or dora",
            lambda adapter: adapter.type != AdapterType.QLORA or adapter.modules_to_save is None,
            "modulesToSave",
        ),
    )


# More than one accelerator, by the names that `pods.resources` knows them by.
_ACCELERATOR = "^[^/]+/(gpu|mig-)"
_COUNTED = f"name.matches('{_ACCELERATOR}') && string(self.resources.limits[name]) != '0'"
_SEVERAL = (
    f"(self.resources.limits.exists(name, {_COUNTED} && string(self.resources.limits[name]) != '1') || "
    f"self.resources.limits.filter(name, {_COUNTED}).size() > 1)"
)


def _several(resources: Resources) -> bool:
    counts = [str(value) for name, value in resources.limits.items() if re.match(_ACCELERATOR, name)]
    asked = [count for count in counts if count != "0"]
    return len(asked) > 1 or any(count != "1" for count in asked)


class Training(ApiModel):
    """How the model learns."""

    method: Method = Method.SFT
    """sft: supervised fine-tuning, on right answers; dpo: direct preference optimisation, on pairs of answers of which
    one is preferred (dataset.format preference or openai-preference); kto: Kahneman-Tversky optimisation, on answers
    that are labelled good or bad (unpaired-preference); reward: a reward model, which gives each answer a number, on
    pairs as dpo; it writes nothing, is asked at /classify, and measured by how it ranks pairs."""
    dpo: Dpo | None = None
    """Of method dpo. Left out: its defaults."""
    kto: Kto | None = None
    """Of method kto. Left out: its defaults."""
    reward: Reward | None = None
    """Of method reward. Left out: its defaults."""
    adapter: Adapter = Adapter()
    """What is trained beside the frozen base model."""
    epochs: Epochs | None = None
    """Passes over the training rows. Left out, with maxSteps left out: chosen, see status.plan."""
    max_steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Optimizer steps, in place of epochs."""
    learning_rate: LearningRate | None = None
    """The peak learning rate. Left out: chosen, see status.plan."""
    batch_size: BatchSize | None = None
    """Rows per optimizer step, over all devices. Left out: chosen, see status.plan."""
    max_length: Annotated[int, Field(ge=8, le=MOST_TOKENS)] | None = None
    """Tokens per row; status.dataset.longerThanMaxLength counts the rows that are cut. Left out: chosen, see
    status.plan."""
    sweep: Sweep | None = None
    """Several trainings of the same rows, of which the one with the lowest validation loss is taken."""
    seed: Annotated[int, Field(ge=0, le=2147483647)] = 42
    """The seed of splits, initial weights and order."""
    keep_checkpoints: Annotated[int, Field(ge=1, le=10)] = 1
    """How many of the weights that training came by are kept, those with the lowest validation loss. The best are the
    artifact, the others lie beside it: status.checkpoints lists them, and the annotation finetune.dev/promote takes
    their names. A training that is done keeps what it kept."""
    tracking: Tracking | None = None
    """Where training is followed from outside. Left out: nowhere; status.progress and the report have it, too."""
    resources: Resources = Resources()
    """The training pod's resources."""
    nodes: Annotated[int, Field(ge=1, le=64)] = 1
    """How many pods train together, each with these resources. More than one needs a ReadWriteMany workspace."""
    sharding: Sharding = Sharding.AUTO
    """Whether the devices of full fine-tuning divide weights, gradients and optimizer states among them (FSDP2: full),
    or each holds all (none). auto divides them where the plan says that one device can't hold them. Adapters are not
    divided: each device holds their base model. No part of the revision: the model is the same."""
    queue: QueueName | None = None
    """The Kueue LocalQueue that training waits in until there is quota for what resources ask for. Preparing and
    evaluating, which hold no accelerator, don't wait. Left out: no queue."""
    max_runtime: Duration | None = None
    """The longest that each of preparing, training and evaluating may take, waiting for a node included; waiting in a
    queue is not counted."""
    budget: Budget | None = None
    """The most that training may take, over all its tries. It is no part of the revision: raised before it is used up,
    training goes on. Left out: as much as the plan takes."""
    retries: Annotated[int, Field(ge=0, le=10)] = 3
    """How often a stage is run again after a failure that a retry can mend. Disruptions (a drained node) are not
    counted."""
    pod: Pod = Pod()
    """Settings of the stage pods; the pod that prepares the data runs where the training pod can."""
    image: Image | None = None
    """The trainer image. Left out: the operator's."""

    rules = (
        Rule(
            "!(has(self.epochs) && has(self.maxSteps))",
            "training takes either epochs or maxSteps",
            lambda training: training.epochs is None or training.max_steps is None,
            "maxSteps",
        ),
        *swept_alone(),
        Rule(
            "!has(self.dpo) || self.method == 'dpo'",
            "goes with method dpo only: remove it, or choose that method",
            lambda training: training.dpo is None or training.method == Method.DPO,
            "dpo",
        ),
        Rule(
            "!has(self.kto) || self.method == 'kto'",
            "goes with method kto only: remove it, or choose that method",
            lambda training: training.kto is None or training.method == Method.KTO,
            "kto",
        ),
        Rule(
            "!has(self.reward) || self.method == 'reward'",
            "goes with method reward only: remove it, or choose that method",
            lambda training: training.reward is None or training.method == Method.REWARD,
            "reward",
        ),
        Rule(
            "!has(self.method) || self.method != 'reward' || self.adapter.type != 'qlora'",
            "qlora is not there for reward models, whose adapter is merged with the base model: choose lora, dora or "
            "none",
            lambda training: training.method != Method.REWARD or training.adapter.type != AdapterType.QLORA,
            "adapter.type",
        ),
        Rule(
            "!has(self.sharding) || self.sharding != 'full' || self.adapter.type == 'none'",
            "full is for full fine-tuning (adapter.type none): an adapter is small, and each device holds its base "
            "model whole, in four bits with adapter.type qlora; remove it",
            lambda training: training.sharding != Sharding.FULL or training.adapter.type == AdapterType.NONE,
            "sharding",
        ),
        Rule(
            "!has(self.sharding) || self.sharding != 'full' || (has(self.nodes) && self.nodes > 1) || "
            f"(has(self.resources) && has(self.resources.limits) && {_SEVERAL})",
            "full divides the weights among several devices: ask for more than one accelerator in resources.limits, "
            "or for more nodes, or remove it",
            lambda training: training.sharding != Sharding.FULL or training.nodes > 1 or _several(training.resources),
            "sharding",
        ),
        Rule(
            "!has(self.queue) || (has(self.resources) && "
            "((has(self.resources.limits) && self.resources.limits.size() > 0) || "
            "(has(self.resources.requests) && self.resources.requests.size() > 0)))",
            "has quota for what training.resources asks for, which is nothing: ask there for accelerators, cpu or "
            "memory",
            lambda training: training.queue is None or bool(training.resources.limits or training.resources.requests),
            "queue",
        ),
        Rule(
            f"!has(self.pod) || !has(self.pod.labels) || !('{QUEUE}' in self.pod.labels)",
            f"has {QUEUE}: remove it, and name the queue in training.queue",
            lambda training: QUEUE not in training.pod.labels,
            "pod.labels",
        ),
    )
