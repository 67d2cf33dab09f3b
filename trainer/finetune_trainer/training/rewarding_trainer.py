"""What trainers have in common that rank answers by a reward: how often it is as it should be, and by how much.

`reference_trainer` and `reward_trainer` are made of it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from finetune_trainer.data.batch import batches
from finetune_trainer.training import compiling, flat
from finetune_trainer.training.flat import Inputs
from finetune_trainer.training.flat_trainer import FlatTrainer

# TRL's names, and of a validation's the library's prefix before them.
ACCURACY, MARGIN = "rewards/accuracies", "rewards/margins"


class RewardingTrainer(FlatTrainer):
    """The trainer. `together`: how many sequences a row has, which pass together; `flatten` makes a step of rows."""

    together: int

    def __init__(
        self, tokens_per_pass: int | None, flatten: Callable[[Sequence[dict[str, Any]]], Inputs], **options: Any
    ) -> None:
        super().__init__(tokens_per_pass, **options)
        self.data_collator = flatten
        # Rows, those whose reward is as it should be, and by how much in all: since the last log.
        self._seen = {True: torch.zeros(3), False: torch.zeros(3)}

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: Inputs,
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor, None, None]:
        """The mean loss of these rows."""
        with torch.no_grad(), self.compute_loss_context_manager(), compiling.uncompiled():
            losses = [self.compute_loss(model, self._prepare_inputs(each)) for each in self._passes(inputs)]
        # Each is a pass's share of the batch's mean.
        count = len(inputs["row_ends"]) // self.together
        return self.mean(torch.stack(losses).sum() * count, count), None, None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add how often, and by how much, rewards are as they should be."""
        for trained, name, prefix in ((True, "loss", ""), (False, "eval_loss", "eval_")):
            if name in logs:
                seen = self.accelerator.reduce(self._seen[trained].to(self.args.device)).cpu()
                self._seen[trained] = torch.zeros(3)
                logs |= {f"{prefix}{ACCURACY}": float(seen[1] / seen[0]), f"{prefix}{MARGIN}": float(seen[2] / seen[0])}
        super().log(logs, start_time)

    def tally(self, margins: torch.Tensor) -> None:
        """Take note of rows, by how much the reward of each is as it should be."""
        margins = margins.detach()
        if not torch.is_grad_enabled() and not self._counts[0]:
            return
        seen = torch.stack([torch.ones_like(margins).sum(), (margins > 0).sum(), margins.sum()])
        self._seen[torch.is_grad_enabled()] += seen.cpu()

    def parts(self, inputs: Inputs, together: int) -> Iterator[list[Inputs]]:
        """What goes through the model for each pass; `rows`: how many of its labels each row has."""
        if self.tokens_per_pass:
            for each in self.flattened(inputs, together):
                at = torch.tensor(each["row_lengths"].each).cumsum(0)
                owner = torch.bucketize(each["logits_to_keep"].cpu(), at, right=True)
                yield [each | {"rows": tuple(torch.bincount(owner, minlength=len(at)).tolist())}]
        else:
            for some in batches(flat.alone(inputs), together):
                yield [each | {"rows": (each["labels"].shape[1],)} for each in some]


def counted(parts: Sequence[Inputs]) -> int:
    """How many rows go through the model."""
    return sum(len(part["rows"]) for part in parts)
