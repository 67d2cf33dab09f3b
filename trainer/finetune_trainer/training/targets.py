"""Which modules of a model an adapter can have, and which can be trained as a whole beside it, by the names and shapes
of its weights.

Called by `prepare`, so that a slip is told before an accelerator is held. Adapters are served of linear layers within a
model's blocks; vLLM adapts embeddings and the output layer for some architectures only, and whoever asks for a module
that isn't there gets no word from PEFT if others are.
"""

from collections.abc import Mapping

from finetune_trainer.contract.config import AdapterConfig, AdapterType
from finetune_trainer.contract.outcome import Outcome, StageError

ALL_LINEAR = ("all-linear",)
_WEIGHT = ".weight"


def check(adapter: AdapterConfig, weights: Mapping[str, tuple[int, ...]]) -> None:
    """Raise StageError (CONFIG_INVALID) for modules that can't be trained and served."""
    _check_saved(adapter, weights)
    if adapter.type == AdapterType.NONE or adapter.target_modules == ALL_LINEAR:
        return
    there = linear_layers(weights)
    # Of a path its end alone: what stands before it may differ between the file and the loaded model.
    unknown = [target for target in adapter.target_modules if target.rpartition(".")[2] not in there]
    if unknown:
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"training.adapter.targetModules has {', '.join(unknown)}, and adapters are trained and served of linear "
            f"layers in the model's blocks alone: choose among {', '.join(there)}, or leave it out, which takes all "
            "of them.",
        )


def _check_saved(adapter: AdapterConfig, weights: Mapping[str, tuple[int, ...]]) -> None:
    there = outside(weights)
    unknown = [name for name in adapter.modules_to_save if name.rpartition(".")[2] not in there]
    if unknown:
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"training.adapter.modulesToSave has {', '.join(unknown)}, and whole modules are trained beside an adapter "
            f"where they stand outside of the model's blocks: choose among {', '.join(there)}, or leave it out. An "
            "output layer that is not among them is the embeddings.",
        )


def linear_layers(weights: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The last names of those in blocks, which are numbered; what stands outside is embeddings and the output layer."""
    return sorted({parts[-1] for parts in _matrices(weights) if any(map(str.isdecimal, parts))})


def outside(weights: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The last names of the others: embeddings, and the output layer where it has weights of its own."""
    return sorted({parts[-1] for parts in _matrices(weights) if not any(map(str.isdecimal, parts))})


def _matrices(weights: Mapping[str, tuple[int, ...]]) -> list[list[str]]:
    return [name.removesuffix(_WEIGHT).split(".") for name, shape in weights.items() if len(shape) == 2]
