"""What trainers have in common that compare with the base model: its log-probabilities, computed once, and a tally.

`preference_trainer` and `unpaired_trainer` are made of it. What the base model makes of the rows is computed before
training, and kept beside the checkpoints: so there is no second model in memory, with an adapter or without, and no
second pass in each step.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from itertools import chain
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
from finetune_trainer.training import flat, preference
from finetune_trainer.training.flat import Inputs
from finetune_trainer.training.flat_trainer import FlatTrainer
from finetune_trainer.training.preference import REFERENCE, TOGETHER

# TRL's names, and of a validation's the library's prefix before them.
ACCURACY, MARGIN = "rewards/accuracies", "rewards/margins"


class ReferenceTrainer(FlatTrainer):
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
        super().__init__(tokens_per_pass, **options)
        self.data_collator = flatten
        self.train_dataset = self._with_reference(self.train_dataset, kept / "reference-train.npy").select(order)
        if self.eval_dataset is not None:
            self.eval_dataset = self._with_reference(self.eval_dataset, kept / "reference-validation.npy")
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
        with torch.no_grad(), self.compute_loss_context_manager():
            losses = [self.compute_loss(model, self._prepare_inputs(each)) for each in self._passes(inputs)]
        # Each is a pass's share of the batch's mean.
        count = len(inputs[REFERENCE])
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
        seen = torch.stack([torch.ones_like(margins).sum(), (margins > 0).sum(), margins.sum()])
        self._seen[torch.is_grad_enabled()] += seen.cpu()

    def parts(self, inputs: Inputs, together: int) -> Iterator[list[Inputs]]:
        """What goes through the model for each pass; `rows`: how many of its labels each row has."""
        if self.tokens_per_pass:
            for each in flat.passes(inputs, self.tokens_per_pass, together):
                at = torch.tensor(each["row_lengths"].each).cumsum(0)
                owner = torch.bucketize(each["logits_to_keep"].cpu(), at, right=True)
                yield [each | {"rows": tuple(torch.bincount(owner, minlength=len(at)).tolist())}]
        else:
            for some in batches(flat.alone(inputs), together):
                yield [each | {"rows": (each["labels"].shape[1],)} for each in some]

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
        mine = range(self.args.process_index, len(rows), self.args.world_size)
        plain = self.model.disable_adapter() if isinstance(self.model, PeftModel) else nullcontext()
        self.model.eval()
        found: list[torch.Tensor] = []
        with torch.no_grad(), plain, self.accelerator.autocast():
            for some in batches(mine, self.args.per_device_train_batch_size):
                inputs = preference.flatten([rows[number] for number in some])
                for parts in self.parts(inputs, TOGETHER):
                    found += [logprobs(self.model, self._prepare_inputs({"parts": parts})["parts"]).cpu()]
                # So that a long look is no reason to overstay.
                self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        both = torch.cat(found).view(-1, TOGETHER).tolist() if found else []
        numbered = gather_object(list(zip(mine, both, strict=True)))
        return np.array([pair for _, pair in sorted(numbered)], np.float32)


def counted(parts: Sequence[Inputs]) -> int:
    """How many rows go through the model."""
    return sum(len(part["rows"]) for part in parts)


def logprobs(model: torch.nn.Module, parts: Sequence[Inputs]) -> torch.Tensor:
    """The log-probability of what is learned of each row."""
    return torch.stack(list(chain.from_iterable(_of_rows(model, part) for part in parts)))


def _of_rows(model: torch.nn.Module, part: Inputs) -> Iterator[torch.Tensor]:
    asked = {name: value for name, value in part.items() if name not in ("labels", "rows")}
    logits, labels = model(**asked).logits[0].float(), part["labels"][0]
    losses = cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
    yield from (-row.sum() for row in losses.split(part["rows"]))
