"""What of a split is trained: its rows cut to the plan's length, without those that teach nothing, in a file of tokens.

Called by `prepare`; `training.rows` reads the file, memory-mapped. Nothing is cut or left out in silence: `findings`
tell how many rows and where the first of them stand.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy
import pyarrow as pa

from finetune_trainer.data import sequences
from finetune_trainer.data.findings import Finding, Places
from finetune_trainer.data.sequences import Sequences

IDS = pa.list_(pa.int32())
SCHEMA = pa.schema([("input_ids", IDS), ("labels", IDS), ("place", pa.string())])
# Of rows of preference: the columns above have the chosen answer, the others the rejected one.
PAIRS = pa.schema([*SCHEMA, ("other_input_ids", IDS), ("other_labels", IDS)])
# Of unpaired ones the others have the same prompt with another row's answer.
UNPAIRED = pa.schema([*PAIRS, ("desirable", pa.bool_())])
# Rows that are written at once, or more.
BATCH = 1_000


@dataclass
class Trained:
    """How many rows of a split are trained, with how many tokens, and which were cut or have nothing to learn.

    `alike`: rows of preference without a difference. `learned`: how many of the tokens are. `highest`: the highest of
    their ids.
    """

    rows: int = 0
    tokens: int = 0
    learned: int = 0
    highest: int = -1
    cut: Places = field(default_factory=Places)
    teaching_nothing: Places = field(default_factory=Places)
    alike: Places = field(default_factory=Places)

    @property
    def left_out(self) -> int:
        """Rows that are not trained."""
        return self.teaching_nothing.count + self.alike.count

    def fit(self, batch: pa.RecordBatch, longest: int) -> "Kept":
        """The rows of a batch of `spool` as they are trained, none longer than `longest` tokens."""
        paired = not batch.column("rejected_ids").null_count
        whole = [sequences.read(batch, which) for which in (("", "rejected_") if paired else ("",))]
        found = [each.cut(longest) for each in whole]
        teaching = numpy.logical_and.reduce([each.learned > 0 for each in found])
        alike = teaching & found[0].same(found[1]) if len(found) > 1 else numpy.zeros_like(teaching)
        kept = teaching & ~alike
        shorter = numpy.logical_or.reduce([a.lengths < b.lengths for a, b in zip(found, whole, strict=True)])
        places = batch.column("place")
        for told, rows in ((self.teaching_nothing, ~teaching), (self.alike, alike), (self.cut, kept & shorter)):
            told.add_all(places.filter(pa.array(rows)).to_pylist())
        trained = [each if kept.all() else each.filter(kept) for each in found]
        self.rows += int(kept.sum())
        self.tokens += sum(int(each.lengths.sum()) for each in trained)
        self.learned += sum(int(each.learned.sum()) for each in trained)
        self.highest = max(self.highest, *(int(each.ids.max(initial=-1)) for each in trained))
        chosen = batch.filter(pa.array(kept))
        desirable = chosen.column("desirable")
        return Kept(tuple(trained), chosen.column("place"), None if desirable.null_count else desirable)


@dataclass(frozen=True)
class Kept:
    """Rows as they are trained. `desirable`: of rows of unpaired preference whether their answers are good."""

    sequences: tuple[Sequences, ...]
    places: pa.StringArray
    desirable: pa.BooleanArray | None

    def __len__(self) -> int:
        return len(self.places)

    @property
    def schema(self) -> pa.Schema:
        """The columns that are written."""
        if self.desirable is not None:
            return UNPAIRED
        return PAIRS if len(self.sequences) > 1 else SCHEMA

    def batch(self) -> pa.RecordBatch:
        """As they are written."""
        first, *others = (each.columns() for each in self.sequences)
        columns = [*first, self.places, *chain.from_iterable(others)]
        if self.desirable is not None:
            columns.append(self.desirable)
        return pa.record_batch(columns, schema=self.schema)

    def part(self, start: int, end: int) -> "Kept":
        """Some of the rows, from `start` and before `end`."""
        desirable = None if self.desirable is None else self.desirable[start:end]
        return Kept(tuple(each.part(start, end) for each in self.sequences), self.places[start:end], desirable)


def write(path: Path, rows: Iterable[pa.RecordBatch], longest: int) -> Trained:
    """Write what is trained of the rows, batches of `spool`, as an Arrow IPC stream."""
    found = Trained()
    fitting = (kept for batch in rows if len(kept := found.fit(batch, longest)))
    first = next(fitting, None)
    there: Iterator[Kept] = chain([first] if first else [], fitting)
    if first and first.desirable is not None:
        there = _with_unrelated(there, longest)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, first.schema if first else SCHEMA) as stream:
        for batch in _grouped((kept.batch() for kept in there), BATCH):
            stream.write_batch(batch)
    return found


def _with_unrelated(rows: Iterator[Kept], longest: int) -> Iterator[Kept]:
    """Each row with the answer of the one before it beside its own, as TRL has them; the first row comes last."""
    head = next(rows)
    first = before = head.part(0, 1)
    for kept in chain([head.part(1, len(head))], rows, [first]):
        if not len(kept):
            continue
        (own,) = kept.sequences
        others = sequences.joined([*before.sequences, own]).part(0, len(kept))
        yield replace(kept, sequences=(own, sequences.crossed(own, others).cut(longest)))
        before = kept.part(len(kept) - 1, len(kept))


def _grouped(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of at least so many, but for the last: of a split that was cut some have hardly any."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(each.num_rows for each in held) >= rows:
            yield pa.concat_batches(held)
            held = []
    if held:
        yield pa.concat_batches(held)


def findings(split: str, found: Trained, longest: int) -> Iterator[Finding]:
    """What happened to rows of a split."""
    if found.cut.count:
        many = _rows(found.cut, split, "is", "are")
        yield found.cut.finding("cut", f"{many} longer than maxLength ({longest} tokens) and cut")
    if found.teaching_nothing.count:
        many = _rows(found.teaching_nothing, split, "is", "are")
        yield found.teaching_nothing.finding("teachingNothing", f"{many} left out, with no answer left to learn")
    if found.alike.count:
        many = _rows(found.alike, split, "is", "are")
        yield found.alike.finding(
            "alike",
            f"{many} left out, whose chosen and rejected answers are the same up to maxLength ({longest} tokens)",
        )


def _rows(places: Places, split: str, one: str, more: str) -> str:
    return f"1 row of {split} {one}" if places.count == 1 else f"{places.count} rows of {split} {more}"
