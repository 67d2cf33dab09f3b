"""What a method makes its trainer of. Made by `build`, read by the modules of `methods`."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from finetune_trainer.contract.config import TrainingConfig
from finetune_trainer.training.follow import Follow
from finetune_trainer.training.rows import Splits
from finetune_trainer.training.track import Track


@dataclass(frozen=True)
class Given:
    """All that is known when training can begin. `order`: of the rows of train, over all steps.

    `tokens_per_pass`: see FlatTrainer. `kept`: a directory whose files outlive this process, and not the training.
    """

    training: TrainingConfig
    learner: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    splits: Splits
    order: Sequence[int]
    tokens_per_pass: int | None
    settings: TrainingArguments
    follow: Follow
    track: Track | None
    kept: Path

    def options(self) -> dict[str, Any]:
        """What every trainer takes."""
        return {
            "model": self.learner,
            "args": self.settings,
            "eval_dataset": self.splits.validation,
            "processing_class": self.tokenizer,
            "callbacks": [self.follow, *([self.track] if self.track else [])],
            "loraplus_lr_ratio": self.training.adapter.loraplus_lr_ratio,
        }

    def compared(self) -> dict[str, Any]:
        """What trainers take that compare with the base model."""
        return {"train_dataset": self.splits.train, "order": self.order, "kept": self.kept, **self.options()}

    @contextmanager
    def asking_base(self) -> Iterator[None]:
        """While the base model is asked what it makes of the rows: that belongs to training's time.

        A run that goes on has it in its checkpoint.
        """
        self.follow.reporter.update(activity="asking the base model how likely it finds the answers")
        began = time.monotonic()
        yield
        self.follow.seconds_before = self.follow.seconds_before or time.monotonic() - began
