"""Files of rows: JSON Lines, JSON, CSV and Parquet, read one row at a time, each with the place it stands at.

Called by `data`. A file that can't be read at all is a StageError; a row that can't is a problem of that row.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_trainer.contract.outcome import Outcome, StageError

# A CSV cell may hold a whole document.
csv.field_size_limit(2**27)
# Some editors begin a file with a byte order mark.
BOM = b"\xef\xbb\xbf"
_WHITESPACE = " \t\r\n"


@dataclass(frozen=True)
class Line:
    """A row, or what is wrong with it; `place` is what a user looks for, such as train.jsonl:17."""

    place: str
    row: dict[str, Any] | None
    problem: str = ""


def read(path: Path, name: str) -> Iterator[Line]:
    """The rows of a file whose ending says what it is. `name` is what messages call it. Raises StageError."""
    reader = _READERS.get(Path(name).suffix.lower())
    if reader is None:
        raise _unreadable(f"{name} has none of the endings {', '.join(_READERS)}, so how it is written can't be told.")
    return reader(path, name)


def _unreadable(sentence: str) -> StageError:
    return StageError(Outcome.DATA_INVALID, sentence)


def _json_lines(path: Path, name: str) -> Iterator[Line]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            content = line.removeprefix(BOM) if number == 1 else line
            if content.strip():
                yield _json_line(f"{name}:{number}", content)


def _json_line(place: str, content: bytes) -> Line:
    try:
        return _object(place, json.loads(content.rstrip().decode()))
    except (ValueError, RecursionError) as error:
        return Line(place, None, _fault(error))


def _fault(error: Exception) -> str:
    """What is wrong with something that is no JSON."""
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON: {error.msg} at column {error.colno}"
    if isinstance(error, UnicodeDecodeError):
        return f"is not UTF-8: byte {error.start + 1} is 0x{error.object[error.start]:02x}"
    return "is nested too deeply" if isinstance(error, RecursionError) else f"is not JSON: {error}"


def _object(place: str, value: Any) -> Line:
    if isinstance(value, dict):
        return Line(place, value)
    return Line(place, None, f"is {kind(value)}, where an object is expected")


def kind(value: Any) -> str:
    """What JSON calls a value."""
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return "null" if value is None else kinds.get(type(value), f"a {type(value).__name__}")


def _json(path: Path, name: str) -> Iterator[Line]:
    """One list of objects, each at the line where it begins."""
    try:
        text = path.read_bytes().removeprefix(BOM).decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise _unreadable(f"{name}:{line}: is not UTF-8; save the file as UTF-8.") from error
    position, number, seen = _skip(text, 0), 1, 0
    if text[position : position + 1] != "[":
        raise _unreadable(
            f"{name} is no list of objects: it has to begin with [. One object a line is JSON Lines, whose ending is "
            ".jsonl."
        )
    decoder, end = json.JSONDecoder(), _skip(text, position + 1)
    while text[end : end + 1] != "]":
        number, seen = number + text.count("\n", seen, end), end
        try:
            value, end = decoder.raw_decode(text, end)
        except (ValueError, RecursionError) as error:
            raise _unreadable(f"{_place(name, number, error)}: {_fault(error)}.") from error
        yield _object(f"{name}:{number}", value)
        end = _separated(text, end, name)
    if _skip(text, end + 1) < len(text):
        raise _unreadable(f"{name}:{text.count(chr(10), 0, end) + 1}: something stands behind the list's end.")


def _skip(text: str, position: int) -> int:
    while text[position : position + 1] in _WHITESPACE and position < len(text):
        position += 1
    return position


def _separated(text: str, end: int, name: str) -> int:
    """Past the comma after an item, or at the bracket that ends the list."""
    end = _skip(text, end)
    if text[end : end + 1] == "]":
        return end
    after = _skip(text, end + 1)
    if text[end : end + 1] != "," or text[after : after + 1] in ("", "]"):
        line = text.count("\n", 0, end) + 1
        raise _unreadable(f"{name}:{line}: is not JSON: the list's items are separated by commas and end with ].")
    return after


def _place(name: str, number: int, error: Exception) -> str:
    return f"{name}:{error.lineno if isinstance(error, json.JSONDecodeError) else number}"


def _csv(path: Path, name: str) -> Iterator[Line]:
    with path.open("rb") as lines:
        reader = csv.reader(_decoded(lines, name), strict=True)
        number = 1
        try:
            header = next(reader, [])
            _check_header(header, name)
            number = reader.line_num + 1
            for cells in reader:
                if cells:
                    yield _csv_line(f"{name}:{number}", header, cells)
                number = reader.line_num + 1
        except csv.Error as error:
            raise _unreadable(f"{name}:{number}: is not CSV: {error}.") from error


def _decoded(lines: Iterable[bytes], name: str) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        try:
            yield (line.removeprefix(BOM) if number == 1 else line).decode()
        except UnicodeDecodeError as error:
            raise _unreadable(f"{name}:{number}: {_fault(error)}; save the file as UTF-8.") from error


def _check_header(header: list[str], name: str) -> None:
    if repeated := sorted({column for column in header if header.count(column) > 1}):
        raise _unreadable(f"{name}:1: the columns' names, its first line, repeat {', '.join(map(repr, repeated))}.")


def _csv_line(place: str, header: list[str], cells: list[str]) -> Line:
    if len(cells) != len(header):
        return Line(place, None, f"has {len(cells)} columns, where the first line has {len(header)}")
    return Line(place, dict(zip(header, cells, strict=True)))


def _parquet(path: Path, name: str) -> Iterator[Line]:
    import pyarrow as arrow
    from pyarrow.parquet import ParquetFile

    try:
        number = 0
        for batch in ParquetFile(path).iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield Line(f"{name} row {number}", row)
    except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError, OSError, UnicodeDecodeError) as error:
        raise _unreadable(f"{name} can't be read as Parquet: {error}") from error


_READERS: dict[str, Callable[[Path, str], Iterator[Line]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
