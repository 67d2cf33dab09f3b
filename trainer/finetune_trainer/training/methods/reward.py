"""reward: of two answers to a prompt the chosen one gets the higher number, from a head in place of the output layer.

A reward model writes nothing: it rates what others write (Ouyang et al. 2022, arXiv:2203.02155).
"""

from typing import TYPE_CHECKING

from finetune_trainer.contract.config import Format, RewardConfig
from finetune_trainer.training.methods.recipe import Recipe

if TYPE_CHECKING:
    from finetune_trainer.training.flat_trainer import FlatTrainer
    from finetune_trainer.training.given import Given


def _trainer(given: "Given") -> "FlatTrainer":
    from finetune_trainer.training.reward_trainer import RewardTrainer

    reward = given.training.reward or RewardConfig()
    train = given.splits.train.select(given.order)
    return RewardTrainer(given.tokens_per_pass, reward, train_dataset=train, **given.options())


RECIPE = Recipe(
    formats=(Format.PREFERENCE, Format.OPENAI_PREFERENCE),
    sequences=2,
    # An adapter's is ten times that: RewardConfig's default in TRL.
    rate=1e-5,
    trainer=_trainer,
)
