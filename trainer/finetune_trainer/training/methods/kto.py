"""kto, Kahneman-Tversky optimisation: answers that are good become likelier and bad ones less so, without pairs.

(Ethayarajh et al. 2024, arXiv:2402.01306)
"""

from typing import TYPE_CHECKING

from finetune_trainer.contract.config import Format, KtoConfig
from finetune_trainer.training.methods.recipe import Recipe

if TYPE_CHECKING:
    from finetune_trainer.training.flat_trainer import FlatTrainer
    from finetune_trainer.training.given import Given


def _trainer(given: "Given") -> "FlatTrainer":
    from finetune_trainer.training.unpaired_trainer import UnpairedTrainer

    kto = given.training.kto or KtoConfig()
    with given.asking_base():
        return UnpairedTrainer(given.tokens_per_pass, kto, **given.compared())


RECIPE = Recipe(
    formats=(Format.UNPAIRED_PREFERENCE,),
    sequences=1,
    # KTOConfig's default in TRL.
    rate=1e-6,
    trainer=_trainer,
)
