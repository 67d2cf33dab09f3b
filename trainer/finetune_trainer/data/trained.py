"""What of a split is trained: its rows cut to the plan's length, without those that teach nothing, in a file of tokens.

Called by `prepare`; `training.rows` reads the file, memory-mapped. Nothing is cut or left out in silence: `findings`
tell how many rows and where the first of them stand.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import numpy
import pyarrow as pa

from finetune_trainer.data.examples import Example, batches
from finetune_trainer.data.notices import NAMED, Finding

SCHEMA = pa.schema(
    [("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32())), ("place", pa.string())],
)
# Rows that are written at once.
BATCH = 1_000


@dataclass(frozen=True)
class Trained:
    """The rows of a split that are trained, and the places of those that were cut, or have nothing to learn."""

    rows: Sequence[Example]
    cut: tuple[str, ...]
    teaching_nothing: tuple[str, ...]

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return sum(len(row.tokens) for row in self.rows)


def fit(rows: Iterable[Example], longest: int) -> Trained:
    """The rows as they are trained, none longer than `longest` tokens."""
    kept: list[Example] = []
    cut: list[str] = []
    nothing: list[str] = []
    for row in rows:
        tokens = row.tokens.cut(longest)
        if not tokens.learned:
            nothing.append(row.place)
            continue
        if len(tokens) < len(row.tokens):
            cut.append(row.place)
        kept.append(replace(row, tokens=tokens))
    return Trained(kept, tuple(cut), tuple(nothing))


def findings(split: str, found: Trained, longest: int) -> Iterator[Finding]:
    """What happened to rows of a split."""
    if found.cut:
        many = _rows(found.cut, split, "is", "are")
        yield _finding("cut", found.cut, f"{many} longer than maxLength ({longest} tokens) and cut")
    if found.teaching_nothing:
        many = _rows(found.teaching_nothing, split, "is", "are")
        yield _finding("teachingNothing", found.teaching_nothing, f"{many} left out, with no answer left to learn")


def _finding(kind: str, places: Sequence[str], told: str) -> Finding:
    return Finding(kind=kind, count=len(places), places=tuple(places[:NAMED]), sentence=f"{told}: {_places(places)}.")


def _rows(places: Sequence[str], split: str, one: str, more: str) -> str:
    return f"1 row of {split} {one}" if len(places) == 1 else f"{len(places)} rows of {split} {more}"


def _places(places: Sequence[str]) -> str:
    more = f" and {len(places) - NAMED} more" if len(places) > NAMED else ""
    return ", ".join(places[:NAMED]) + more


def write(path: Path, rows: Iterable[Example]) -> None:
    """Write the rows as an Arrow IPC stream."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as stream:
        for batch in batches(rows, BATCH):
            stream.write_batch(_batch(batch))


def _batch(rows: Sequence[Example]) -> pa.RecordBatch:
    ids = _lists([row.tokens.ids for row in rows])
    labels = _lists([row.tokens.labels for row in rows])
    return pa.record_batch([ids, labels, pa.array([row.place for row in rows])], schema=SCHEMA)


def _lists(rows: Sequence["array[int]"]) -> pa.ListArray:
    ends = pa.array([0, *accumulate(map(len, rows))], pa.int32())
    return pa.ListArray.from_arrays(ends, pa.array(numpy.concatenate(rows)))
