"""The trainer over answers that are good or bad by themselves, with TRL's loss of Kahneman-Tversky optimisation.

Made by `methods.kto`. An answer's reward is compared with how far the model has moved on the whole, estimated on
prompts with answers that belong to others; prepare has put one of these beside each row. TRL's KTOTrainer takes text
alone, pads, and makes such pairs of the rows of a batch; a test holds loss and gradients to its.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from finetune_trainer.contract.config import KtoConfig
from finetune_trainer.training import flat
from finetune_trainer.training.flat import Inputs
from finetune_trainer.training.preference import REFERENCE, SIDES
from finetune_trainer.training.reference_trainer import ReferenceTrainer, logprobs
from finetune_trainer.training.rewarding_trainer import counted

UNRELATED, DESIRABLE = "unrelated", "desirable"


def flatten(rows: Sequence[dict[str, Any]]) -> Inputs:
    """The rows one behind the other and, likewise, UNRELATED, their prompts with answers of others."""
    own, unrelated = (
        flat.flatten([{name: row[side + name] for name in ("input_ids", "labels")} for row in rows]) for side in SIDES
    )
    reference = torch.tensor([row[REFERENCE] for row in rows])
    return own | {UNRELATED: unrelated, REFERENCE: reference, DESIRABLE: torch.tensor([row[DESIRABLE] for row in rows])}


class UnpairedTrainer(ReferenceTrainer):
    """The trainer."""

    together = 1

    def __init__(self, tokens_per_pass: int | None, kto: KtoConfig, **options: Any) -> None:
        super().__init__(tokens_per_pass, flatten, **options)
        self.kto = kto

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Inputs,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """A pass's share of the mean over the step's rows (Ethayarajh et al. 2024, arXiv:2402.01306, equation 7)."""
        ratios = logprobs(model, inputs["parts"]) - inputs[REFERENCE]
        desirable = inputs[DESIRABLE]
        sign = desirable.to(ratios.dtype) * 2 - 1
        self.tally(self.kto.beta * sign * ratios)
        weights = torch.where(desirable, self.kto.desirable_weight, self.kto.undesirable_weight)
        losses = weights * (1 - torch.sigmoid(self.kto.beta * sign * (ratios - inputs["moved"])))
        return losses.sum() / inputs["count"]

    def _passes(self, inputs: Inputs) -> Iterator[Inputs]:
        own, unrelated = inputs[REFERENCE].unbind(1)
        moved = self._moved(inputs[UNRELATED], unrelated)
        at = 0
        for parts in self.parts(inputs, together=1):
            rows = slice(at, at + counted(parts))
            at = rows.stop
            yield {
                "parts": parts,
                REFERENCE: own[rows],
                DESIRABLE: inputs[DESIRABLE][rows],
                "moved": moved,
                "count": len(own),
            }

    def _moved(self, inputs: Inputs, reference: torch.Tensor) -> torch.Tensor:
        """How far the model has moved from the base model, in nats an answer: an estimate over the step of all devices.

        No gradient flows through it.
        """
        with torch.no_grad(), self.accelerator.autocast():
            passes = (self._prepare_inputs({"parts": each})["parts"] for each in self.parts(inputs, together=1))
            policy = torch.cat([logprobs(self.model, each) for each in passes])
        mean = (policy - reference.to(policy.device)).mean()
        return self.accelerator.reduce(mean, "mean").clamp(min=0)
