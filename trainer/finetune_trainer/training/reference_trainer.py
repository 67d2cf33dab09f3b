"""What trainers have in common that compare with the base model: its log-probabilities, computed once.

`preference_trainer` and `unpaired_trainer` are made of it. What the base model makes of the rows is computed before
training, and kept beside the checkpoints: so there is no second model in memory, with an adapter or without, and no
second pass in each step.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import chain
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from peft import PeftModel
from torch.nn.functional import cross_entropy

from finetune_trainer.data.batch import batches
from finetune_trainer.data.tokens import IGNORED
from finetune_trainer.training import compiling, preference
from finetune_trainer.training.flat import Inputs
from finetune_trainer.training.preference import REFERENCE, TOGETHER
from finetune_trainer.training.rewarding_trainer import RewardingTrainer


class ReferenceTrainer(RewardingTrainer):
    """The trainer over rows of two sequences. `order`: of the rows of train; `kept`: where the reference is kept."""

    train_dataset: Dataset
    eval_dataset: Dataset | None

    def __init__(
        self,
        tokens_per_pass: int | None,
        flatten: Callable[[Sequence[dict[str, Any]]], Inputs],
        order: Sequence[int],
        kept: Path,
        **options: Any,
    ) -> None:
        super().__init__(tokens_per_pass, flatten, **options)
        self.train_dataset = self._with_reference(self.train_dataset, kept / "reference-train.npy").select(order)
        if self.eval_dataset is not None:
            self.eval_dataset = self._with_reference(self.eval_dataset, kept / "reference-validation.npy")

    def _with_reference(self, rows: Dataset, file: Path) -> Dataset:
        if not file.exists():
            found = self._reference(rows)
            if self.is_world_process_zero():
                draft = file.with_suffix(".partial.npy")
                np.save(draft, found)
                draft.replace(file)
            self.accelerator.wait_for_everyone()
        return rows.add_column(REFERENCE, np.load(file).tolist())

    def _reference(self, rows: Dataset) -> np.ndarray[Any, np.dtype[np.float32]]:
        """What the base model makes of both sequences; of several processes each takes its share of the rows."""
        first, others = self.args.process_index, self.args.world_size
        # All have as many, for weights that are divided are gathered by all at once. So some are asked twice.
        mine = [number % len(rows) for number in range(first, others * ceil(len(rows) / others), others)]
        plain = self.model.disable_adapter() if isinstance(self.model, PeftModel) else nullcontext()
        self.model.eval()
        found: list[torch.Tensor] = []
        with torch.no_grad(), plain, self.accelerator.autocast(), compiling.uncompiled():
            for some in batches(mine, self.args.per_device_train_batch_size):
                inputs = preference.flatten([rows[number] for number in some])
                for parts in self.parts(inputs, TOGETHER):
                    found += [logprobs(self.model, self._prepare_inputs({"parts": parts})["parts"]).cpu()]
                # So that a long look is no reason to overstay.
                self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        both = torch.cat(found).view(-1, TOGETHER).tolist()
        numbered = gather_object(list(zip(mine, both, strict=True)))
        return np.array([pair for _, pair in sorted(dict(numbered).items())], np.float32)


def logprobs(model: torch.nn.Module, parts: Sequence[Inputs]) -> torch.Tensor:
    """The log-probability of what is learned of each row."""
    return torch.stack(list(chain.from_iterable(_of_rows(model, part) for part in parts)))


def _of_rows(model: torch.nn.Module, part: Inputs) -> Iterator[torch.Tensor]:
    asked = {name: value for name, value in part.items() if name not in ("labels", "rows")}
    logits, labels = model(**asked).logits[0].float(), part["labels"][0]
    losses = cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
    yield from (-row.sum() for row in losses.split(part["rows"]))
