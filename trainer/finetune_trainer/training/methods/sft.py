"""sft, supervised fine-tuning: the right answer to each prompt is learned, token by token."""

from typing import TYPE_CHECKING

from finetune_trainer.contract.config import Format
from finetune_trainer.training.methods.recipe import Recipe

if TYPE_CHECKING:
    from finetune_trainer.training.flat_trainer import FlatTrainer
    from finetune_trainer.training.given import Given


def _trainer(given: "Given") -> "FlatTrainer":
    from finetune_trainer.training.flat_trainer import FlatTrainer

    return FlatTrainer(given.tokens_per_pass, train_dataset=given.splits.train.select(given.order), **given.options())


RECIPE = Recipe(
    formats=(Format.CHAT, Format.PROMPT_COMPLETION, Format.INSTRUCTION, Format.TEXT, Format.SHAREGPT),
    sequences=1,
    # SFTConfig's default in TRL.
    rate=2e-5,
    trainer=_trainer,
)
