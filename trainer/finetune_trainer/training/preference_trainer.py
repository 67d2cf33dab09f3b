"""The trainer over pairs: flattened as other rows are, a chosen answer and the rejected one in the same pass.

Made by `methods.dpo`. TRL's DPOTrainer takes text alone, pads, and has no flattened rows; its losses are ours.
"""

from collections.abc import Iterator
from typing import Any

import torch

from finetune_trainer.contract.config import DpoConfig
from finetune_trainer.data.tokens import IGNORED
from finetune_trainer.training import preference, rows
from finetune_trainer.training.flat import Inputs
from finetune_trainer.training.preference import REFERENCE, TOGETHER, Pairs
from finetune_trainer.training.reference_trainer import ReferenceTrainer, logprobs
from finetune_trainer.training.rewarding_trainer import counted


class PreferenceTrainer(ReferenceTrainer):
    """The trainer."""

    together = TOGETHER

    def __init__(self, tokens_per_pass: int | None, dpo: DpoConfig, **options: Any) -> None:
        super().__init__(tokens_per_pass, preference.flatten, **options)
        self.dpo = dpo
        chosen = self.eval_dataset and self.eval_dataset.select_columns("labels")
        self._validated_usual = rows.learned(chosen) / len(chosen) if chosen else 0.0

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Inputs,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """A pass's share of the mean over the step's pairs."""
        policy = logprobs(model, inputs["parts"]).view(-1, TOGETHER)
        pairs = Pairs(policy, inputs[REFERENCE], inputs["tokens"], inputs["usual"])
        self.tally(preference.rewards(pairs, self.dpo).diff(dim=1).neg())
        return preference.loss(pairs, self.dpo).sum() / inputs["pairs"]

    def _passes(self, inputs: Inputs) -> Iterator[Inputs]:
        ends = inputs["row_ends"].tolist()
        learned = (inputs["labels"][0] != IGNORED).cpu()
        lengths = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        tokens = torch.tensor([int(row.sum()) for row in learned.split(lengths)]).view(-1, TOGETHER)
        usual = self._usual(tokens[:, 0])
        at = 0
        for parts in self.parts(inputs, TOGETHER):
            pairs = slice(at, at + counted(parts) // TOGETHER)
            at = pairs.stop
            yield {
                "parts": parts,
                REFERENCE: inputs[REFERENCE][pairs],
                "tokens": tokens[pairs],
                "usual": usual,
                "pairs": len(tokens),
            }

    def _usual(self, chosen: torch.Tensor) -> float:
        """Tokens of a chosen answer, on average: over the step of all devices, or over all rows of validation."""
        if not torch.is_grad_enabled():
            return self._validated_usual
        return float(self.accelerator.reduce(chosen.float().mean().to(self.args.device), "mean"))
