"""Parquet and Arrow: tables in batches, whose rows are told by their number. Called by `formats`."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import ipc
from pyarrow.parquet import ParquetFile

from finetune_trainer.data.line import Line, unreadable

# What an Arrow file begins with; a stream, as datasets saves it, does not.
FILE = b"ARROW1"
# Rows in memory as Python's objects at a time: a batch may be a whole file.
ROWS = 1000


def parquet(path: Path, name: str) -> Iterator[Line]:
    """The rows of a Parquet file. Raises StageError."""
    with _explained(name, "Parquet"):
        yield from _rows(ParquetFile(path).iter_batches(), name)


def arrow(path: Path, name: str) -> Iterator[Line]:
    """The rows of an Arrow IPC file or stream. Raises StageError."""
    with path.open("rb") as file:
        is_file = file.read(len(FILE)) == FILE
    with _explained(name, "Arrow"), pyarrow.memory_map(str(path)) as source:
        if is_file:
            reader = ipc.open_file(source)
            yield from _rows((reader.get_batch(number) for number in range(reader.num_record_batches)), name)
        else:
            yield from _rows(ipc.open_stream(source), name)


def _rows(batches: Iterable[Any], name: str) -> Iterator[Line]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, ROWS):
            for row in batch.slice(start, ROWS).to_pylist():
                number += 1
                yield Line(f"{name} row {number}", row)


@contextmanager
def _explained(name: str, what: str) -> Iterator[None]:
    try:
        yield
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, OSError, UnicodeDecodeError) as error:
        raise unreadable(f"{name} can't be read as {what}: {error}") from error
