"""What was prepared, for a person to look at: how long the rows are, and some of them as the model sees them.

Called by `finetune check` and the laptop's page.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from finetune_trainer.data.base import Base
from finetune_trainer.data.tokens import IGNORED

# Of `trained`'s files: ids and labels, and those of rows of preference beside them.
COLUMNS = (("input_ids", "labels"), ("other_input_ids", "other_labels"))
Parts = tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class Seen:
    """A row where it stands, its tokens, and its text in parts, each with whether it is learned.

    `rejected`: of a row of preference the same with the answer to avoid.
    """

    place: str
    tokens: int
    parts: Parts
    rejected: Parts = ()


@dataclass(frozen=True)
class Prepared:
    """The rows of one split. `lengths` in tokens, in the order of the file; `learned`: tokens that are, of all rows.

    A row of preference is as long as its longer answer makes it.
    """

    lengths: Sequence[int]
    learned: int
    _table: pa.Table

    def rows(self, numbers: Iterable[int], base: Base) -> Iterator[Seen]:
        """These rows, as the model sees them."""
        for number in numbers:
            row = self._table.slice(number, 1).to_pylist()[0]
            both = [_parts(row[ids], row[labels], base) for ids, labels in _shown(self._table)]
            yield Seen(row["place"], self.lengths[number], *both)


def read(path: Path) -> Prepared:
    """A split as `trained` wrote it, memory-mapped."""
    table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
    there = _shown(table)
    learned = sum(pc.sum(pc.not_equal(pc.list_flatten(table[labels]), IGNORED)).as_py() or 0 for _, labels in there)
    lengths = zip(*(pc.list_value_length(table[ids]).to_pylist() for ids, _ in there), strict=True)
    return Prepared([max(each) for each in lengths], learned, table)


def _shown(table: pa.Table) -> Sequence[tuple[str, str]]:
    """The columns of what a row is; the answer of another beside a labelled one is no part of it."""
    return COLUMNS if COLUMNS[1][0] in table.column_names and "desirable" not in table.column_names else COLUMNS[:1]


def examples(lengths: Sequence[int]) -> list[int]:
    """The numbers of a short, a middling and a long row: fewer where there are fewer."""
    ordered = sorted(range(len(lengths)), key=lambda number: lengths[number])
    return [ordered[at] for at in sorted({0, len(ordered) // 2, len(ordered) - 1})] if ordered else []


def histogram(lengths: Sequence[int], bins: int) -> list[tuple[int, int, int]]:
    """(from, to, how many rows) in steps of one size that cover all lengths; both ends belong to a step."""
    step = -(-max(lengths) // bins)
    counts = [0] * bins
    for length in lengths:
        counts[max(0, length - 1) // step] += 1
    return [(at * step + 1, (at + 1) * step, count) for at, count in enumerate(counts)]


def _parts(ids: Sequence[int], labels: Sequence[int], base: Base) -> Parts:
    groups = groupby(zip(ids, labels, strict=True), key=lambda pair: pair[1] != IGNORED)
    return tuple((base.text([token for token, _ in pairs]), learned) for learned, pairs in groups)
