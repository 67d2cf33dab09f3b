"""The trainer of reward models: a number for each answer, from a head in place of the output layer, learned from pairs.

Made by `methods.reward`. The loss is TRL's RewardTrainer's, which pads; a test holds the two together.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.functional import logsigmoid

from finetune_trainer.contract.config import RewardConfig
from finetune_trainer.training import preference
from finetune_trainer.training.flat import Inputs
from finetune_trainer.training.model import HEAD
from finetune_trainer.training.preference import TOGETHER
from finetune_trainer.training.rewarding_trainer import RewardingTrainer


class RewardTrainer(RewardingTrainer):
    """The trainer."""

    together = TOGETHER

    def __init__(self, tokens_per_pass: int | None, reward: RewardConfig, **options: Any) -> None:
        super().__init__(tokens_per_pass, preference.flatten, **options)
        self.reward = reward

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Inputs,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """A pass's share of the mean over the step's pairs (Bradley and Terry's model of which answer is preferred)."""
        chosen, rejected = scores(model, inputs["parts"]).view(-1, TOGETHER).unbind(1)
        self.tally(chosen - rejected)
        losses = -logsigmoid(chosen - rejected)
        if self.reward.center_rewards_coefficient is not None:
            losses = losses + self.reward.center_rewards_coefficient * (chosen + rejected) ** 2
        return losses.sum() / inputs["pairs"]

    def _passes(self, inputs: Inputs) -> Iterator[Inputs]:
        count = len(inputs["row_ends"]) // TOGETHER
        for parts in self.parts(inputs, TOGETHER):
            yield {"parts": parts, "pairs": count}


def scores(model: torch.nn.Module, parts: Sequence[Inputs]) -> torch.Tensor:
    """What the head makes of the last token of each row."""
    return torch.cat([_of_rows(model, part) for part in parts])


def _of_rows(model: torch.nn.Module, part: Inputs) -> torch.Tensor:
    asked = {name: value for name, value in part.items() if name not in ("labels", "rows")}
    lengths = part["row_lengths"].each if "row_lengths" in part else (part["input_ids"].shape[1],)
    found: list[torch.Tensor] = []
    (head,) = (module for name, module in model.named_modules() if name.rpartition(".")[2] == HEAD)
    # The library's model tells the score of one token; the others' come by here.
    handle = head.register_forward_hook(lambda _module, _inputs, output: found.append(output))
    try:
        model(**asked)
    finally:
        handle.remove()
    ends = torch.tensor(lengths, device=found[0].device).cumsum(0) - 1
    return found[0][0, ends, 0].float()
