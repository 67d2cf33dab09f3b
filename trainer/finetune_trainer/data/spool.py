"""Examples on disk: a dataset of any size is gone through in the memory of a few batches.

`batch` packs them, `gather` writes a file for each source of rows, and `prepare` goes through it, once for each split.
"""

from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, chain, pairwise, repeat
from pathlib import Path

import numpy
import pyarrow as pa
import pyarrow.compute as pc

from finetune_trainer.data.examples import Example
from finetune_trainer.data.tokens import Tokens

# `learned` has the two ends of each span, one after the other. Rows of preference alone have what is
# rejected, and of unpaired preference whether they are desirable.
SCHEMA = pa.schema(
    [
        ("line", pa.large_binary()),
        ("place", pa.string()),
        ("ids", pa.list_(pa.int32())),
        ("learned", pa.list_(pa.int32())),
        ("rejected_ids", pa.list_(pa.int32())),
        ("rejected_learned", pa.list_(pa.int32())),
        ("desirable", pa.bool_()),
        ("asked", pa.binary()),
    ]
)


def pack(examples: Sequence[Example]) -> pa.RecordBatch:
    """Examples as they are written, and as they travel between processes."""
    rejected = [example.rejected for example in examples if example.rejected]
    columns = (
        pa.array([example.line for example in examples], pa.large_binary()),
        pa.array([example.place for example in examples], pa.string()),
        *_packed([example.tokens for example in examples]),
        *(_packed(rejected) if rejected else 2 * [pa.nulls(len(examples), pa.list_(pa.int32()))]),
        pa.array([example.desirable for example in examples], pa.bool_()),
        pa.array([example.asked for example in examples], pa.binary()),
    )
    return pa.record_batch(list(columns), schema=SCHEMA)


def _packed(rows: Sequence[Tokens]) -> tuple[pa.ListArray, pa.ListArray]:
    spans = [array("i", chain.from_iterable(row.learned)) for row in rows]
    return lists([row.ids for row in rows]), lists(spans)


def lists(rows: Sequence["array[int]"]) -> pa.ListArray:
    """A column of lists of 32-bit integers."""
    ends = pa.array([0, *accumulate(map(len, rows))], pa.int32())
    return pa.ListArray.from_arrays(ends, pa.array(numpy.concatenate([array("i"), *rows]), pa.int32()))


@contextmanager
def writing(path: Path) -> Iterator[pa.ipc.RecordBatchStreamWriter]:
    """A file that takes what `pack` makes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as stream:
        yield stream


class Spool:
    """The examples in a file, or some of them: those where `chosen`, which has a boolean for each, says so."""

    def __init__(self, path: Path, chosen: "numpy.ndarray[tuple[int], numpy.dtype[numpy.bool_]] | None" = None) -> None:
        self._path = path
        self._chosen = chosen

    def part(self, splits: Sequence[str], name: str) -> "Spool":
        """The examples of one split. `splits`: the name of each one's."""
        return Spool(self._path, numpy.fromiter((split == name for split in splits), numpy.bool_, len(splits)))

    def lines(self) -> Iterator[bytes]:
        """The examples' lines of JSON."""
        for batch in self.batches():
            yield from batch.column("line").to_pylist()

    def asked(self) -> Iterator[bytes | None]:
        """Digests of what the examples ask."""
        for batch in self.batches():
            yield from batch.column("asked").to_pylist()

    def longest(self) -> int:
        """The tokens of the longest example that has something to learn; 1 where there is none."""
        found = 1
        for batch in self.batches():
            taught = batch.filter(pc.greater(pc.list_value_length(batch.column("learned")), 0))
            for name in ("ids", "rejected_ids"):
                found = max(found, pc.max(pc.list_value_length(taught.column(name))).as_py() or 1)
        return found

    def __iter__(self) -> Iterator[Example]:
        for batch in self.batches():
            yield from _unpacked(batch)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The examples as they were packed, in batches of which some may be empty."""
        # Read, not mapped: the pages of a mapped file would count as this process's memory.
        with pa.OSFile(str(self._path)) as file, pa.ipc.open_stream(file) as stream:
            at = 0
            for batch in stream:
                end = at + batch.num_rows
                yield batch if self._chosen is None else batch.filter(pa.array(self._chosen[at:end]))
                at = end


def _unpacked(batch: pa.RecordBatch) -> Iterator[Example]:
    lines, places = batch.column("line").to_pylist(), batch.column("place").to_pylist()
    rejected = _tokens(batch, "rejected_") if not batch.column("rejected_ids").null_count else repeat(None)
    desirable, asked = batch.column("desirable").to_pylist(), batch.column("asked").to_pylist()
    # What is rejected may have no end.
    yield from map(Example, lines, places, _tokens(batch), rejected, desirable, asked)


def _tokens(batch: pa.RecordBatch, which: str = "") -> Iterator[Tokens]:
    ids, spans = _arrays(batch.column(f"{which}ids")), _arrays(batch.column(f"{which}learned"))
    for tokens, learned in zip(ids, spans, strict=True):
        yield Tokens(tokens, tuple(zip(learned[::2], learned[1::2], strict=True)))


def _arrays(lists: pa.ListArray) -> Iterator["array[int]"]:
    values = lists.values.to_numpy()
    for start, end in pairwise(lists.offsets.to_pylist()):
        yield array("i", values[start:end].tobytes())
