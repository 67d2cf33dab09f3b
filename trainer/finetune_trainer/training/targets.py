"""Which modules of a model an adapter can have, and which can be trained as a whole beside it, by the names and shapes
of its weights.

Called by `prepare`, so that a slip is told before an accelerator is held. Adapters are served of linear layers within a
model's blocks; vLLM adapts embeddings and the output layer for some architectures only, and whoever asks for a module
that isn't there gets no word from PEFT if others are.
"""

from collections.abc import Iterable, Mapping

from finetune_trainer.contract.config import AdapterConfig, AdapterType
from finetune_trainer.contract.outcome import Outcome, StageError

ALL_LINEAR = ("all-linear",)
# The one name under which PEFT keeps embeddings and an output layer that are one matrix that.
EMBEDDINGS = "embed_tokens"
_WEIGHT = ".weight"


def check(adapter: AdapterConfig, weights: Mapping[str, tuple[int, ...]], writes: bool = True) -> None:
    """Raise StageError (CONFIG_INVALID) for modules that can't be trained and served. `writes`: see Method."""
    _check_saved(adapter, saved(weights, writes))
    if adapter.type == AdapterType.NONE or adapter.target_modules == ALL_LINEAR:
        return
    there = linear_layers(weights)
    if unknown := _unknown(adapter.target_modules, there):
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"training.adapter.targetModules has {', '.join(unknown)}, and adapters are trained and served of linear "
            f"layers in the model's blocks alone: choose among {', '.join(there)}, or leave it out, which takes all "
            "of them.",
        )


def _check_saved(adapter: AdapterConfig, there: list[str]) -> None:
    if unknown := _unknown(adapter.modules_to_save, there):
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"training.adapter.modulesToSave has {', '.join(unknown)}, and of this model what can be trained as a "
            f"whole beside an adapter is {', '.join(there) or 'nothing'}: leave out what is not among that, or set "
            "training.adapter.type to none, which trains everything.",
        )


def not_both(adapter: AdapterConfig) -> list[str]:
    """What it trains as a whole that PEFT would not keep one where embeddings are the output layer: what was learned of
    it would be lost in the whole model.
    """
    return [name for name in adapter.modules_to_save if name.rpartition(".")[2] != EMBEDDINGS]


def refusal_of_one_matrix(others: Iterable[str]) -> StageError:
    """Why these (`not_both`) can't be trained as a whole in a model whose embeddings are its output layer."""
    return StageError(
        Outcome.CONFIG_INVALID,
        f"training.adapter.modulesToSave has {', '.join(others)}, and this model's embeddings are its output layer: "
        f"name {EMBEDDINGS} alone, which is both, where the model has it; or set training.adapter.type to none.",
    )


def _unknown(wanted: Iterable[str], there: list[str]) -> list[str]:
    """Of a path its end alone counts: what stands before it may differ between the file and the loaded model."""
    return [name for name in wanted if name.rpartition(".")[2] not in there]


def linear_layers(weights: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The last names of those in blocks, which are numbered; what stands outside is embeddings and the output layer."""
    return sorted({parts[-1] for parts in _matrices(weights) if any(map(str.isdecimal, parts))})


def saved(weights: Mapping[str, tuple[int, ...]], writes: bool) -> list[str]:
    """The last names of what may be trained as a whole: matrices outside of blocks.

    Where the output layer is the embeddings, they are it alone, if their name lets PEFT keep the two one; and a reward
    model is loaded without an output layer.
    """
    outside = {
        parts[-1]: weights[f"{'.'.join(parts)}{_WEIGHT}"][0]
        for parts in _matrices(weights)
        if not any(map(str.isdecimal, parts))
    }
    tokens = {name for name, rows in outside.items() if rows == max(outside.values())}
    if not writes:
        return sorted(outside.keys() - tokens | {EMBEDDINGS} & tokens)
    return sorted(outside if len(tokens) > 1 else {EMBEDDINGS} & tokens)


def _matrices(weights: Mapping[str, tuple[int, ...]]) -> list[list[str]]:
    return [name.removesuffix(_WEIGHT).split(".") for name, shape in weights.items() if len(shape) == 2]
