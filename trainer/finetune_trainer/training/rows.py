"""The rows as prepare made them, memory-mapped: token ids and labels, which the trainer takes as they are.

Called by `train`, `fitting` and `whole`.
"""

from dataclasses import dataclass
from functools import reduce

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


def shares(count: int, together: int, process: int, processes: int) -> list[tuple[list[int], bool]]:
    """Which of so many rows a process looks at, `together` by all processes at once, and whether that counts.

    All look as often, for they may wait for each other at each look. So a row that is left over is looked at by all in
    a round of its own, in which some look at one that another counts.
    """
    found: list[tuple[list[int], bool]] = []
    for start in range(0, count, together):
        each, over = divmod(min(together, count - start), processes)
        if each:
            first = start + process * each
            found.append((list(range(first, first + each)), True))
        if over:
            counts = process < over
            found.append(([start + each * processes + (process if counts else 0)], counts))
    return found


def lengths(rows: Dataset) -> list[int]:
    """Tokens of each row, of all its sequences, without reading them."""
    each = (pc.list_value_length(rows.data.column(name)) for name in _ending(rows, "input_ids"))
    found: list[int] = reduce(pc.add, each).to_pylist()
    return found


def learned(rows: Dataset) -> int:
    """How many of all tokens are learned."""
    labels = (pc.list_flatten(rows.data.column(name)) for name in _ending(rows, "labels"))
    found: int = sum(pc.sum(pc.not_equal(each, IGNORED)).as_py() for each in labels)
    return found


def _ending(rows: Dataset, name: str) -> list[str]:
    """Rows of pairs have such a column twice."""
    return [column for column in rows.column_names if column.endswith(name)]
