"""dpo, direct preference optimisation: of two answers to each prompt the chosen one becomes likelier than the rejected.

How much likelier than it was for the base model, which stands in for a reward model (Rafailov et al. 2023,
arXiv:2305.18290).
"""

from typing import TYPE_CHECKING

from finetune_trainer.contract.config import DpoConfig, Format
from finetune_trainer.training.methods.recipe import Recipe

if TYPE_CHECKING:
    from finetune_trainer.training.flat_trainer import FlatTrainer
    from finetune_trainer.training.given import Given


def _trainer(given: "Given") -> "FlatTrainer":
    from finetune_trainer.training.preference_trainer import PreferenceTrainer

    dpo = given.training.dpo or DpoConfig()
    with given.asking_base():
        return PreferenceTrainer(given.tokens_per_pass, dpo, **given.compared())


RECIPE = Recipe(
    formats=(Format.PREFERENCE, Format.OPENAI_PREFERENCE),
    sequences=2,
    # DPOConfig's default in TRL.
    rate=1e-6,
    trainer=_trainer,
)
