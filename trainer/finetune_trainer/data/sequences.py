"""Sequences of tokens of many rows at once, as arrays: cut, compared and written without a look at each token.

Called by `trained`, for a million rows on one core.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import pyarrow as pa
from numpy.typing import NDArray

from finetune_trainer.data.tokens import IGNORED

Numbers = NDArray[Any]


@dataclass(frozen=True)
class Sequences:
    """A sequence of each row: the ids and labels of all, one row behind the other, and how many each row has."""

    ids: Numbers
    labels: Numbers
    lengths: Numbers

    @property
    def learned(self) -> Numbers:
        """How many tokens of each row are learned."""
        return _sums(self.labels != IGNORED, self.lengths)

    @property
    def prompts(self) -> Numbers:
        """How many tokens of each row stand before the first that is learned."""
        return numpy.array([(labels != IGNORED).argmax() for labels in self.each(self.labels)])

    def each(self, values: Numbers) -> list[Numbers]:
        """Ids or labels by row."""
        return numpy.split(values, _starts(self.lengths)[1:])

    def part(self, start: int, end: int) -> "Sequences":
        """Some of the rows, from `start` and before `end`."""
        numbers = numpy.arange(len(self.lengths))
        return self.filter((start <= numbers) & (numbers < end))

    def cut(self, longest: int) -> "Sequences":
        """At most the first `longest` tokens of each row, as TRL cuts."""
        if self.lengths.max(initial=0) <= longest:
            return self
        kept = _places(self.lengths) < longest
        return Sequences(self.ids[kept], self.labels[kept], numpy.minimum(self.lengths, longest))

    def filter(self, chosen: Numbers) -> "Sequences":
        """Some of the rows: a boolean for each."""
        kept = numpy.repeat(chosen, self.lengths)
        return Sequences(self.ids[kept], self.labels[kept], self.lengths[chosen])

    def same(self, other: "Sequences") -> Numbers:
        """Which rows are the same in both, and as much of them learned."""
        found: Numbers = numpy.asarray(self.lengths == other.lengths)
        ours, theirs = self.filter(found), other.filter(found)
        differing = (ours.ids != theirs.ids) | (ours.labels != theirs.labels)
        found[found] = _sums(differing, ours.lengths) == 0
        return found

    def columns(self) -> tuple[pa.ListArray, pa.ListArray]:
        """Ids and labels."""
        ends = pa.array(numpy.append(0, numpy.cumsum(self.lengths)), pa.int32())
        return tuple(pa.ListArray.from_arrays(ends, pa.array(part, pa.int32())) for part in (self.ids, self.labels))


def read(batch: pa.RecordBatch, which: str = "") -> Sequences:
    """The sequences of a batch of `spool`, or those with the answer to avoid (`which`: rejected_)."""
    ids, lengths = _parts(batch.column(f"{which}ids"))
    ends, counts = _parts(batch.column(f"{which}learned"))
    ends = ends + numpy.repeat(_starts(lengths), counts)
    # One more from the beginning of each span on, and one less from its end on.
    within = numpy.zeros(len(ids) + 1, numpy.int32)
    numpy.add.at(within, ends[::2], 1)
    numpy.add.at(within, ends[1::2], -1)
    labels = numpy.where(numpy.cumsum(within[:-1]) > 0, ids, IGNORED)
    return Sequences(ids, labels, lengths)


def crossed(asked: Sequences, answered: Sequences) -> Sequences:
    """The prompt of each row of the one with the answer of the same row of the other. Every row has an answer."""
    until, since = asked.prompts, answered.prompts

    def mixed(ours: Numbers, theirs: Numbers) -> Numbers:
        rows = zip(asked.each(ours), until, answered.each(theirs), since, strict=True)
        return _joined([part for mine, end, other, start in rows for part in (mine[:end], other[start:])])

    lengths = until + answered.lengths - since
    return Sequences(mixed(asked.ids, answered.ids), mixed(asked.labels, answered.labels), lengths)


def joined(parts: Sequence[Sequences]) -> Sequences:
    """The rows of all."""
    return Sequences(
        _joined([each.ids for each in parts]),
        _joined([each.labels for each in parts]),
        _joined([each.lengths for each in parts]),
    )


def _joined(parts: Sequence[Numbers]) -> Numbers:
    return numpy.concatenate(parts)


def _parts(column: pa.ListArray) -> tuple[Numbers, Numbers]:
    """All values of a column of lists, and how many each list has."""
    return column.flatten().to_numpy(), column.value_lengths().to_numpy().astype(numpy.int64)


def _starts(lengths: Numbers) -> Numbers:
    return numpy.asarray(numpy.cumsum(lengths) - lengths)


def _places(lengths: Numbers) -> Numbers:
    """The place of each value in its row."""
    return numpy.asarray(numpy.arange(lengths.sum()) - numpy.repeat(_starts(lengths), lengths))


def _sums(values: Numbers, lengths: Numbers) -> Numbers:
    """The sum of each row."""
    until = numpy.append(0, numpy.cumsum(values))
    ends = numpy.cumsum(lengths)
    return numpy.asarray(until[ends] - until[ends - lengths])
