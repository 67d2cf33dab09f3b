"""How a model learns from rows: one module a method, each with its Recipe, and here the list of them.

Called by `prepare`, which asks what a method learns from and how fast, and by `build`, for its trainer. To add a method
is to add its module, its line here, its name in `contract.config.Method` and its paragraph in docs/methods.md. No
torch: a recipe imports its trainer when it makes one.
"""

from finetune_trainer.contract.config import Format, Method
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.training.methods import dpo, kto, reward, sft
from finetune_trainer.training.methods.recipe import Recipe

RECIPES: dict[Method, Recipe] = {
    Method.SFT: sft.RECIPE,
    Method.DPO: dpo.RECIPE,
    Method.KTO: kto.RECIPE,
    Method.REWARD: reward.RECIPE,
}


def check(method: Method, format: Format, uri: str) -> None:
    """Raise StageError (CONFIG_INVALID) for rows that a method can't learn from."""
    own = RECIPES[method].formats
    if format in own:
        return
    others = [each.value for each, recipe in RECIPES.items() if format in recipe.formats]
    raise StageError(
        Outcome.CONFIG_INVALID,
        f"{uri} has rows of format {format.value}, and training.method {method.value} learns from others "
        f"({', '.join(each.value for each in own)}): set training.method to {' or '.join(others)}, or give it such "
        "rows.",
    )
