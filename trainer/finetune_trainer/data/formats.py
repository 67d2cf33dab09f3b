"""Files of rows: JSON Lines, JSON, CSV, TSV, Parquet and Arrow, read one row at a time, each with its place.

Called by `stages.prepare` and the API server's `files`. A file that can't be read at all is a StageError; a row that
can't is a problem of that row. What is text may be compressed (`compressed`); `document` and `tables` read what has no
lines.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from finetune_trainer.data import document
from finetune_trainer.data.compressed import OPENERS, opened
from finetune_trainer.data.line import BOM, Line, fault, row, unreadable

# A CSV cell may hold a whole document.
csv.field_size_limit(2**27)


def read(path: Path, name: str) -> Iterator[Line]:
    """The rows of a file whose ending says what it is. `name` is what messages call it. Raises StageError."""
    outer = Path(name).suffix.lower()
    inner = Path(Path(name).stem).suffix.lower() if outer in OPENERS else outer
    if inner in _TABLES and outer in OPENERS:
        raise unreadable(f"{name}: files of {inner} are compressed inside; decompress it, and give it without {outer}.")
    reader = (_TEXTS | _TABLES).get(inner)
    if reader is None:
        raise unreadable(
            f"{name} has none of the endings {', '.join(_TEXTS | _TABLES)}, so how it is written can't be told; those "
            f"of text may have {' or '.join(OPENERS)} behind them."
        )
    return reader(path, name)


def _json_lines(path: Path, name: str) -> Iterator[Line]:
    with opened(path, name) as lines:
        yield from json_lines(lines, name)


def json_lines(lines: Iterable[bytes], name: str) -> Iterator[Line]:
    """The rows of JSON Lines, wherever they come from."""
    for number, line in enumerate(lines, 1):
        content = line.removeprefix(BOM) if number == 1 else line
        if content.strip():
            yield _json_line(f"{name}:{number}", content)


def _json_line(place: str, content: bytes) -> Line:
    try:
        return row(place, json.loads(content.rstrip().decode()))
    except (ValueError, RecursionError) as error:
        return Line(place, None, fault(error))


def _separated(delimiters: str, path: Path, name: str) -> Iterator[Line]:
    """CSV and TSV. Of the `delimiters`, the first is what the ending promises."""
    with opened(path, name) as lines:
        text = _decoded(lines, name)
        first = next(text, "")
        reader = csv.reader(chain([first], text), delimiter=_delimiter(first, delimiters), strict=True)
        number = 1
        try:
            header = next(reader, [])
            _check_header(header, name)
            number = reader.line_num + 1
            for cells in reader:
                if cells:
                    yield _cells(f"{name}:{number}", header, cells)
                number = reader.line_num + 1
        except csv.Error as error:
            raise unreadable(f"{name}:{number}: is not CSV: {error}.") from error


def _delimiter(first: str, delimiters: str) -> str:
    """The one that makes the most columns of the first line: spreadsheets of many countries write `;` into CSV."""
    return max(delimiters, key=lambda delimiter: len(next(csv.reader([first], delimiter=delimiter), [])))


def _decoded(lines: Iterable[bytes], name: str) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        try:
            yield (line.removeprefix(BOM) if number == 1 else line).decode()
        except UnicodeDecodeError as error:
            raise unreadable(f"{name}:{number}: {fault(error)}; save the file as UTF-8.") from error


def _check_header(header: list[str], name: str) -> None:
    if repeated := sorted({column for column in header if header.count(column) > 1}):
        raise unreadable(f"{name}:1: the columns' names, its first line, repeat {', '.join(map(repr, repeated))}.")


def _cells(place: str, header: list[str], cells: list[str]) -> Line:
    if len(cells) != len(header):
        return Line(place, None, f"has {len(cells)} columns, where the first line has {len(header)}")
    return Line(place, dict(zip(header, cells, strict=True)))


def _parquet(path: Path, name: str) -> Iterator[Line]:
    # pyarrow is costly to import, and needed by tables alone.
    from finetune_trainer.data.tables import parquet

    return parquet(path, name)


def _arrow(path: Path, name: str) -> Iterator[Line]:
    from finetune_trainer.data.tables import arrow

    return arrow(path, name)


Reader = Callable[[Path, str], Iterator[Line]]
_TEXTS: dict[str, Reader] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": document.rows,
    ".csv": partial(_separated, ",;\t"),
    ".tsv": partial(_separated, "\t;,"),
}
_TABLES: dict[str, Reader] = {".parquet": _parquet, ".arrow": _arrow, ".feather": _arrow}
