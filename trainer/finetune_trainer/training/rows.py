"""The rows as prepare made them, memory-mapped: token ids and labels, which the trainer takes as they are.

Called by `train`.
"""

from dataclasses import dataclass

import pyarrow.compute as pc
from datasets import Dataset

from finetune_trainer.contract.config import Workspace
from finetune_trainer.data.tokens import IGNORED


@dataclass(frozen=True)
class Splits:
    """The rows."""

    train: Dataset
    validation: Dataset | None


def load(workspace: Workspace) -> Splits:
    """Map prepare's files."""
    validation = workspace.learned("validation")
    return Splits(
        Dataset.from_file(str(workspace.learned("train"))),
        Dataset.from_file(str(validation)) if validation.exists() else None,
    )


def lengths(rows: Dataset) -> list[int]:
    """Tokens of each row, without reading them."""
    found: list[int] = pc.list_value_length(rows.data.column("input_ids")).to_pylist()
    return found


def learned(rows: Dataset) -> int:
    """How many of all tokens are learned."""
    labels = pc.list_flatten(rows.data.column("labels"))
    found: int = pc.sum(pc.not_equal(labels, IGNORED)).as_py()
    return found
