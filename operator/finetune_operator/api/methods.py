"""What a method of learning takes beside what all take: the manifest's `training.dpo`, `training.kto`
and `training.reward`."""

from typing import Annotated

from finetune_trainer.contract.config import DpoLoss
from pydantic import Field

from finetune_operator.api.rules import ApiModel, Rule
from finetune_operator.api.values import distinct


class Dpo(ApiModel):
    """Direct preference optimisation (TRL's DPOConfig)."""

    beta: Annotated[float, Field(gt=0, le=100)] = 0.1
    """How strongly the model is held to what the base model says; for ipo its τ."""
    loss_type: Annotated[
        list[DpoLoss],
        Field(min_length=1, max_length=8),
        Rule("self.all(a, self.exists_one(b, a == b))", "names a loss twice", distinct),
    ] = [DpoLoss.SIGMOID]
    """The losses that are added up: TRL's names of those that judge each pair by itself. sft is supervised fine-tuning
    on the chosen answers; [sigmoid, sft] is what people use ORPO for."""
    loss_weights: Annotated[list[Annotated[float, Field(ge=0, le=1000)]], Field(max_length=8)] | None = None
    """How much each loss of lossType counts. Left out: 1 each."""
    label_smoothing: Annotated[
        float,
        Field(ge=0, le=1),
        # The API server takes a whole number for an integer, and such a one's bounds, too: 0 would not be below 0.5.
        Rule("self < 0.5", "must be less than 0.5", lambda share: share < 0.5),
    ] = 0.0
    """For robust: the share of pairs that are the wrong way round."""

    rules = (
        Rule(
            "!has(self.lossWeights) || self.lossWeights.size() == self.lossType.size()",
            "needs a weight for each loss of lossType",
            lambda dpo: dpo.loss_weights is None or len(dpo.loss_weights) == len(dpo.loss_type),
            "lossWeights",
        ),
        Rule(
            "self.labelSmoothing == 0.0 || 'robust' in self.lossType",
            "is robust's alone: remove it, or add robust to lossType",
            lambda dpo: dpo.label_smoothing == 0 or DpoLoss.ROBUST in dpo.loss_type,
            "labelSmoothing",
        ),
    )


Weight = Annotated[float, Field(gt=0, le=1000)]


class Kto(ApiModel):
    """Kahneman-Tversky optimisation (TRL's KTOConfig)."""

    beta: Annotated[float, Field(gt=0, le=100)] = 0.1
    """How strongly the model is held to what the base model says."""
    desirable_weight: Weight = 1.0
    """How much good completions count: more where they are few."""
    undesirable_weight: Weight = 1.0
    """How much bad completions count: more where they are few."""


class Reward(ApiModel):
    """A reward model (TRL's RewardConfig)."""

    center_rewards_coefficient: Annotated[float, Field(gt=0, le=100)] | None = None
    """How strongly rewards are held to a mean of zero, so that they can be compared between prompts; 0.01 is usual.
    Left out: not at all."""
