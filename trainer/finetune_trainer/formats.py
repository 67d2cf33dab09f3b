"""Files of rows: JSON Lines, JSON, CSV and Parquet, read one row at a time, each with the place it stands at.

Called by `data`. A file that can't be read at all is a StageError; a line that can't is a problem of that line.
"""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_trainer.outcome import Outcome, StageError

# A CSV cell may hold a whole document.
csv.field_size_limit(2**27)


@dataclass(frozen=True)
class Line:
    """A row, or what is wrong with its line; `place` is what a user looks for, such as train.jsonl:17."""

    place: str
    row: dict[str, Any] | None
    problem: str = ""


def read(path: Path, name: str) -> Iterator[Line]:
    """The lines of a file whose ending says what it is. `name` is what messages call it. Raises StageError."""
    reader = _READERS.get(Path(name).suffix.lower())
    if reader is None:
        endings = ", ".join(_READERS)
        raise StageError(Outcome.DATA_INVALID, f"{name} has none of the endings {endings}, so its format is unknown.")
    try:
        yield from reader(path, name)
    except UnicodeDecodeError as error:
        raise StageError(
            Outcome.DATA_INVALID, f"{name} is not UTF-8: byte {error.start} can't be decoded; convert it to UTF-8."
        ) from error


def _json_lines(path: Path, name: str) -> Iterator[Line]:
    # Some editors begin a file with a byte order mark.
    with path.open(encoding="utf-8-sig") as lines:
        for number, text in enumerate(lines, 1):
            if text.strip():
                yield _parsed(f"{name}:{number}", text)


def _parsed(place: str, text: str) -> Line:
    try:
        return _object(place, json.loads(text))
    except json.JSONDecodeError as error:
        return Line(place, None, f"is not JSON: {error.msg} at column {error.colno}")


def _object(place: str, value: Any) -> Line:
    if isinstance(value, dict):
        return Line(place, value)
    return Line(place, None, f"is {_kind(value)}, where an object is expected")


def _kind(value: Any) -> str:
    kinds = {list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return kinds.get(type(value), "null")


def _json(path: Path, name: str) -> Iterator[Line]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise StageError(
            Outcome.DATA_INVALID, f"{name}:{error.lineno} is not JSON: {error.msg} at column {error.colno}."
        ) from error
    if not isinstance(document, list):
        raise StageError(
            Outcome.DATA_INVALID,
            f"{name} is {_kind(document)}, where a list of objects is expected; one object a "
            "line is JSON Lines, with the ending .jsonl.",
        )
    for number, value in enumerate(document, 1):
        yield _object(f"{name} item {number}", value)


def _csv(path: Path, name: str) -> Iterator[Line]:
    with path.open(encoding="utf-8-sig", newline="") as text:
        reader = csv.DictReader(text, strict=True)
        try:
            for row in reader:
                yield _csv_line(f"{name}:{reader.line_num}", row)
        except csv.Error as error:
            yield Line(f"{name}:{reader.line_num}", None, f"is not CSV: {error}")


def _csv_line(place: str, row: dict[Any, Any]) -> Line:
    if None in row or None in row.values():
        return Line(place, None, "has another number of columns than the first line")
    return Line(place, row)


def _parquet(path: Path, name: str) -> Iterator[Line]:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    try:
        file = parquet.ParquetFile(path)
    except arrow.ArrowInvalid as error:
        raise StageError(Outcome.DATA_INVALID, f"{name} is not a Parquet file: {error}") from error
    number = 0
    for batch in file.iter_batches():
        for row in batch.to_pylist():
            number += 1
            yield Line(f"{name} row {number}", row)


_READERS: dict[str, Callable[[Path, str], Iterator[Line]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
