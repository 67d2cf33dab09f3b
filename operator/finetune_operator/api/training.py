"""The manifest's `training`."""

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from finetune_trainer.contract.config import AdapterType, Method
from pydantic import Field

from finetune_operator.api.methods import Dpo, Kto
from finetune_operator.api.pods import Pod
from finetune_operator.api.resources import Resources
from finetune_operator.api.rules import ApiModel, Rule
from finetune_operator.api.tracking import Tracking
from finetune_operator.api.values import MOST_TOKENS, QUEUE, Duration, Image, QueueName, distinct

# The ranks that vLLM can serve (`--max-lora-rank`), without 1.
Rank = Literal[8, 16, 32, 64, 128, 256, 320, 512]

ALL_LINEAR = "all-linear"
_MODULE = f"{ALL_LINEAR}|[a-zA-Z0-9_]+([.][a-zA-Z0-9_]+)*"
TargetModule = Annotated[
    str,
    Field(max_length=255),
    Rule(
        f"self.matches('^({_MODULE})$')",
        "must be all-linear or a module's name, such as q_proj; patterns are not known here",
        lambda name: re.fullmatch(_MODULE, name) is not None,
    ),
]


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
    alpha: Annotated[int, Field(ge=1, le=65536)] | None = None
    """LoRA's scaling numerator. Left out: twice the rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout on the adapter's input."""
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
    """The modules that get an adapter, by name; all-linear is every linear layer but the output's."""

    rules = (
        _of_an_adapter("alpha", "!has(self.alpha)", lambda adapter: adapter.alpha is None),
        # The API server has filled in the defaults when it checks: it can't tell one that was written out.
        _of_an_adapter("rank", "!has(self.rank) || self.rank == 16", lambda adapter: adapter.rank == 16),
        _of_an_adapter("dropout", "!has(self.dropout) || self.dropout == 0.0", lambda adapter: adapter.dropout == 0),
        _of_an_adapter(
            "targetModules",
            "!has(self.targetModules) || self.targetModules == ['all-linear']",
            lambda adapter: adapter.target_modules == [ALL_LINEAR],
        ),
    )


class Training(ApiModel):
    """How the model learns."""

    method: Method = Method.SFT
    """sft: supervised fine-tuning, on right answers; dpo: direct preference optimisation, on pairs of answers of which
    one is preferred (dataset.format preference or openai-preference); kto: Kahneman-Tversky optimisation, on answers
    that are labelled good or bad (unpaired-preference)."""
    dpo: Dpo | None = None
    """Of method dpo. Left out: its defaults."""
    kto: Kto | None = None
    """Of method kto. Left out: its defaults."""
    adapter: Adapter = Adapter()
    """What is trained beside the frozen base model."""
    epochs: Annotated[float, Field(gt=0, le=10_000)] | None = None
    """Passes over the training rows. Left out, with maxSteps left out: chosen, see status.plan."""
    max_steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Optimizer steps, in place of epochs."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """The peak learning rate. Left out: chosen, see status.plan."""
    batch_size: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Rows per optimizer step, over all devices. Left out: chosen, see status.plan."""
    max_length: Annotated[int, Field(ge=8, le=MOST_TOKENS)] | None = None
    """Tokens per row; status.dataset.longerThanMaxLength counts the rows that are cut. Left out: chosen, see
    status.plan."""
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
    queue: QueueName | None = None
    """The Kueue LocalQueue that training waits in until there is quota for what resources ask for. Preparing and
    evaluating, which hold no accelerator, don't wait. Left out: no queue."""
    max_runtime: Duration | None = None
    """The longest that each of preparing, training and evaluating may take, waiting for a node included; waiting in a
    queue is not counted."""
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
            "!has(self.keepCheckpoints) || self.keepCheckpoints == 1 || self.adapter.type != 'dora'",
            "more than 1 is not there for dora adapters, of which only the artifact is merged into a model to serve",
            lambda training: training.keep_checkpoints == 1 or training.adapter.type != AdapterType.DORA,
            "keepCheckpoints",
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
