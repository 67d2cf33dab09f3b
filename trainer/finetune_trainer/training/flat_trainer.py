"""transformers' trainer over flattened rows: a step's rows go through the model in passes of so many tokens.

Made by `methods.sft`; other methods' trainers are its subclasses. The loss of a step is the mean over all its labels,
on whatever number of passes and devices, as it is with padded rows; what the model's own loss adds to that (a router's,
of a mixture of experts) is left out.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from peft.optimizers import create_loraplus_optimizer
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.trainer_utils import EvalLoopOutput

from finetune_trainer.data.tokens import IGNORED
from finetune_trainer.training import compiling, flat, rows, schedule
from finetune_trainer.training.flat import Inputs
from finetune_trainer.training.sharding import ShardingTrainer, is_sharded


class FlatTrainer(ShardingTrainer):
    """The trainer. `tokens_per_pass`: how many a pass has, but for a row that alone has more; None: a row is a pass.

    `loraplus_lr_ratio`: how much faster an adapter's second half learns.
    """

    optimizer: Optimizer | None
    lr_scheduler: LambdaLR | None

    def __init__(self, tokens_per_pass: int | None, loraplus_lr_ratio: float | None = None, **options: Any) -> None:
        super().__init__(data_collator=flat.flatten, compute_loss_func=self._loss, **options)
        # The loss is made here. The model would hand a step's labels on to its layers, as one more argument, of which
        # other methods know nothing: compiled layers would be compiled once more.
        self.model_accepts_loss_kwargs = False
        self.tokens_per_pass = tokens_per_pass
        self.loraplus_lr_ratio = loraplus_lr_ratio
        # Labels that were the most likely token, and all, since the last log.
        self._right = self._labels = 0
        # The sum of what was validated, and of how many.
        self._validated = torch.zeros(2, dtype=torch.float64)
        # Of each batch that is still to be validated, whether it counts here.
        self._counts: list[bool] = []

    def create_optimizer(self, model: torch.nn.Module | None = None) -> Optimizer:
        """PEFT's for LoRA+ (Hayou et al. 2024, arXiv:2402.12354) where that is asked for."""
        if self.optimizer is None and self.loraplus_lr_ratio:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args)
            learner = self.model if model is None else model
            self.optimizer = create_loraplus_optimizer(
                learner, kind, loraplus_lr_ratio=self.loraplus_lr_ratio, **options
            )
        made: Optimizer = super().create_optimizer(model)
        return made

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LambdaLR:
        """Our learning rate, by the method that the library gives for that."""
        if self.lr_scheduler is None:
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, partial(schedule.rate, total=num_training_steps))
        return self.lr_scheduler

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """This process's share of the rows. The library's fills up the last batch with rows that others count, too."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        mine = rows.shares(
            len(dataset), self.args.per_device_eval_batch_size, self.args.process_index, self.args.world_size
        )
        self._counts = [counts for _, counts in mine]
        # A loader draws a number of its own whenever it begins. Drawn from the steps', dropout would go on otherwise
        # where a validation is made up for: random state is restored after it.
        return DataLoader(
            dataset,
            batch_sampler=[some for some, _ in mine],
            collate_fn=self.data_collator,
            generator=torch.Generator(),
        )

    def training_step(
        self, model: torch.nn.Module, inputs: Inputs, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Go through a step's rows, pass by pass; gradients of several devices are joined after the last."""
        *others, last = self._passes(inputs)
        losses = []
        for each in [*others, last]:
            with nullcontext() if each is last else self.accelerator.no_sync(model):
                losses.append(super().training_step(model, each, num_items_in_batch))
        return torch.stack(losses).sum()

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: Inputs,
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[torch.Tensor, None, None]:
        """The mean loss over the labels of these rows."""
        total, count = torch.zeros((), device=self.args.device), 0
        with torch.no_grad(), self.compute_loss_context_manager(), compiling.uncompiled():
            for each in self._passes(inputs):
                labels = int((each["labels"] != IGNORED).sum())
                if labels:
                    total += self.compute_loss(model, self._prepare_inputs(each)) * labels
                count += labels
        return self.mean(total, count), None, None

    def mean(self, total: torch.Tensor, count: int) -> torch.Tensor:
        """Of a batch that is validated, of whatever size."""
        if self._counts.pop(0):
            self._validated += torch.tensor([float(total), count], dtype=torch.float64)
        return total / max(1, count)

    def evaluation_loop(self, *arguments: Any, **options: Any) -> EvalLoopOutput:
        """The library's loss is a mean over batches, of which the last may be small: here it is one over all."""
        self._validated.zero_()
        found = super().evaluation_loop(*arguments, **options)
        total, count = self.accelerator.reduce(self._validated.to(self.args.device, torch.float32)).tolist()
        found.metrics["eval_loss"] = total / max(1, count)
        return found

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add how many of the learned tokens the model would have written."""
        if "loss" in logs and self._labels:
            logs["mean_token_accuracy"] = float(self._right / self._labels)
            self._right = self._labels = 0
        super().log(logs, start_time)

    def _passes(self, inputs: Inputs) -> Iterator[Inputs]:
        return self.flattened(inputs) if self.tokens_per_pass else flat.alone(inputs)

    def flattened(self, inputs: Inputs, together: int = 1) -> Iterator[Inputs]:
        """Passes of whole rows, of which so many are never parted.

        Weights that are divided among devices are gathered by all of them at once, for each pass: so all have as many.
        """
        tokens, least = self.tokens_per_pass or 0, 1
        if is_sharded(self.model):
            count = torch.tensor(flat.count(inputs, tokens, together), device=self.args.device)
            least = int(self.accelerator.gather(count).max())
        return flat.passes(inputs, tokens, together, least)

    def _loss(
        self,
        outputs: CausalLMOutputWithPast,
        labels: torch.Tensor,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        logits, labels = outputs.logits[0].float(), labels[0]
        learned = (labels != IGNORED).sum()
        if torch.is_grad_enabled():
            self._right += (logits.argmax(-1) == labels).sum()
            self._labels += learned
        total = cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
        return total / (learned if num_items_in_batch is None else num_items_in_batch)
