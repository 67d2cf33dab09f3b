"""The trainer over answers that are good or bad by themselves, with TRL's loss of Kahneman-Tversky optimisation.

Made by `methods.kto`. An answer's reward is compared with how far the model has moved on the whole, estimated on
prompts with answers that belong to others; prepare has put one of these beside each row. TRL's KTOTrainer takes text
alone, pads, and makes such pairs of the rows of a batch; a test holds loss and gradients to its.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput

from finetune_trainer.contract.config import KtoConfig
from finetune_trainer.training import compiling, flat
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
        # How far the model has moved on the rows that are being validated.
        self._validated_moved: torch.Tensor | None = None

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

    def evaluation_loop(self, dataloader: DataLoader[Any], *arguments: Any, **options: Any) -> EvalLoopOutput:
        """Batches of validation differ in size, and the last may have one row: the estimate is over all rows, once."""
        self.model.eval()
        found = torch.zeros(2, device=self.args.device)
        for inputs, counts in zip(dataloader, self._counts, strict=True):
            gained = self._gained(inputs)
            found += counts * torch.tensor([gained.sum(), len(gained)], device=found.device)
            self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        total, count = self.accelerator.reduce(found)
        self._validated_moved = (total / count).clamp(min=0)
        return super().evaluation_loop(dataloader, *arguments, **options)

    def _passes(self, inputs: Inputs) -> Iterator[Inputs]:
        own, _ = inputs[REFERENCE].unbind(1)
        moved = self._moved(inputs) if torch.is_grad_enabled() else self._validated_moved
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

    def _moved(self, inputs: Inputs) -> torch.Tensor:
        """How far the model has moved from the base model, in nats an answer, estimated over all devices' steps."""
        return self.accelerator.reduce(self._gained(inputs).mean(), "mean").clamp(min=0)

    def _gained(self, inputs: Inputs) -> torch.Tensor:
        """How much likelier the answers of others have become, in nats each. No gradient flows through it."""
        _, reference = inputs[REFERENCE].unbind(1)
        with torch.no_grad(), self.accelerator.autocast(), compiling.uncompiled():
            parts = self.parts(inputs[UNRELATED], together=1)
            passes = (self._prepare_inputs({"parts": each})["parts"] for each in parts)
            policy = torch.cat([logprobs(self.model, each) for each in passes])
        return policy - reference.to(policy.device)
