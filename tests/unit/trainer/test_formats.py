"""Files of rows as people save them: what is read, and the place and the fault that a broken one is told by."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data.formats import read
from finetune_trainer.data.line import Line
from pyarrow import ipc, parquet

ROWS = [{"text": "first, “quoted”"}, {"text": "second\nline"}, {"text": "drei €"}]
BOM = b"\xef\xbb\xbf"


def lines(tmp_path: Path, name: str, content: bytes) -> list[Line]:
    path = tmp_path / name
    path.write_bytes(content)
    return list(read(path, name))


def refused(tmp_path: Path, name: str, content: bytes) -> str:
    with pytest.raises(StageError) as error:
        lines(tmp_path, name, content)
    assert error.value.outcome == Outcome.DATA_INVALID
    return error.value.message


def json_lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


CSV = 'text\n"first, “quoted”"\n"second\nline"\ndrei €\n'.encode()
HELD = {"version": 1, "tags": ["a"], "data": ROWS}
SAME = {
    "rows.jsonl": (json_lines(ROWS), (1, 2, 3)),
    "rows.ndjson": (json_lines(ROWS).replace(b"\n", b"\r\n").rstrip(), (1, 2, 3)),
    "rows.JSONL": (b"\n" + json_lines(ROWS).replace(b"\n", b"\n\n"), (2, 4, 6)),
    "rows.json": (json.dumps(ROWS, ensure_ascii=False, indent=1).encode(), (2, 5, 8)),
    "held.json": (
        json.dumps(HELD, ensure_ascii=False, indent=1).encode(),
        (7, 10, 13),
    ),
    "rows.csv": (CSV, (2, 3, 5)),
    "rows.tsv": (CSV, (2, 3, 5)),
}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("mark", [b"", BOM], ids=["plain", "bom"])
def test_the_same_rows_are_read_from_every_format_each_with_its_line(tmp_path: Path, name: str, mark: bytes) -> None:
    content, places = SAME[name]
    found = lines(tmp_path, name, mark + content)
    assert [line.row for line in found] == ROWS
    assert [line.place for line in found] == [f"{name}:{place}" for place in places]


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("compressed", [".gz", ".zst"])
def test_what_is_compressed_is_read_as_what_was_compressed(tmp_path: Path, name: str, compressed: str) -> None:
    content, places = SAME[name]
    found = lines(tmp_path, f"{name}{compressed}", squeezed(content, compressed))
    assert [line.row for line in found] == ROWS
    assert [line.place for line in found] == [f"{name}{compressed}:{place}" for place in places]


def squeezed(content: bytes, compressed: str) -> bytes:
    if compressed == ".gz":
        return gzip.compress(content, mtime=0)
    found = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(found, "zstd") as stream:
        stream.write(content)
    return found.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'prompt;completion\n"a;b";c, d\n'),
        ("a.csv", "prompt\tcompletion\na;b\tc, d\n"),
        ("a.csv", 'prompt,completion\na;b,"c, d"\n'),
        ("a.tsv", "prompt\tcompletion\na;b\tc, d\n"),
        ("a.tsv", 'prompt;completion\n"a;b";c, d\n'),
    ],
)
def test_the_first_line_tells_what_separates_columns(tmp_path: Path, name: str, content: str) -> None:
    assert [line.row for line in lines(tmp_path, name, content.encode())] == [{"prompt": "a;b", "completion": "c, d"}]


@pytest.mark.parametrize("writer", [ipc.new_file, ipc.new_stream])
@pytest.mark.parametrize("name", ["rows.arrow", "rows.feather"])
def test_arrow_rows_are_told_by_their_number(tmp_path: Path, writer: Any, name: str) -> None:
    table = pyarrow.Table.from_pylist(ROWS)
    with writer(str(tmp_path / name), table.schema) as file:
        file.write_table(table, max_chunksize=2)
    found = list(read(tmp_path / name, name))
    assert [line.row for line in found] == ROWS
    assert [line.place for line in found] == [f"{name} row {number}" for number in (1, 2, 3)]


def test_parquet_rows_are_told_by_their_number(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "a"}]}, {"messages": [{"role": "tool", "content": None}]}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet", row_group_size=1)
    found = list(read(tmp_path / "rows.parquet", "rows.parquet"))
    assert [line.row for line in found] == rows
    assert [line.place for line in found] == ["rows.parquet row 1", "rows.parquet row 2"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"text": "a"', "is not JSON: Expecting ',' delimiter at column 13"),
        (b"[1]", "is a list, where an object is expected"),
        (b"null", "is null, where an object is expected"),
        (b"12", "is a number, where an object is expected"),
        (b'{"text": "caf\xe9"}', "is not UTF-8: byte 14 is 0xe9"),
        (b"[" * 200_000, "is nested too deeply"),
        (b"9" * 5000, "is not JSON: Exceeds the limit (4300 digits) for integer string conversion"),
    ],
)
def test_a_line_that_is_no_object_is_a_fault_of_that_line_alone(tmp_path: Path, line: bytes, problem: str) -> None:
    found = lines(tmp_path, "rows.jsonl", b'{"text": "a"}\n' + line + b'\n{"text": "b"}\n')
    assert [line.row for line in found] == [{"text": "a"}, None, {"text": "b"}]
    assert found[1].place == "rows.jsonl:2"
    assert found[1].problem.startswith(problem)


def test_a_list_item_that_is_no_object_is_a_fault_of_its_line(tmp_path: Path) -> None:
    assert lines(tmp_path, "rows.json", b'[\n{"text": "a"},\n"b"]')[1] == Line(
        "rows.json:3", None, "is a string, where an object is expected"
    )


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (
            "rows.txt",
            b"a",
            "rows.txt has none of the endings .jsonl, .ndjson, .json, .csv, .tsv, .parquet, .arrow, ",
        ),
        ("rows.txt.gz", b"a", "rows.txt.gz has none of the endings .jsonl, "),
        ("rows.gz", b"a", "rows.gz has none of the endings .jsonl, "),
        ("rows.jsonl.gz", b"no gzip", "rows.jsonl.gz can't be decompressed as .gz: Not a gzipped file (b'no')."),
        (
            "rows.jsonl.gz",
            gzip.compress(b'{"text": "a"}', mtime=0)[:-9],
            "rows.jsonl.gz can't be decompressed as .gz: Compress",
        ),
        ("rows.csv.zst", b"no zstandard", "rows.csv.zst can't be decompressed as .zst: ZSTD decompress failed: "),
        ("rows.json.zst", squeezed(b"[]", ".zst")[:-3], "rows.json.zst can't be decompressed as .zst: Truncated com"),
        (
            "rows.parquet.gz",
            b"",
            "rows.parquet.gz: files of .parquet are compressed inside; decompress it, and ",
        ),
        ("rows.json", b'{"a": [{}], "b": [{}]}', "rows.json holds several lists of objects (a, b): keep the one that "),
        (
            "rows.json",
            b'{"a": [1], "b": []}',
            "rows.json is no list of objects: it has to begin with [, or be an ",
        ),
        ("rows.json", b'{"a":\n[{}],}', "rows.json:2: is not JSON: "),
        ("rows.arrow", b"ARROW1", "rows.arrow can't be read as Arrow: "),
        ("rows.arrow", b"", "rows.arrow can't be read as Arrow: "),
        ("rows.feather", b"a stream?", "rows.feather can't be read as Arrow: "),
        ("rows.json", b'{"text": "a"}\n{"text": "b"}', "rows.json is no list of objects: it has to begin with [, or"),
        ("rows.json", b"", "rows.json is no list of objects"),
        ("rows.json", b'[{"text": "a"},\n{"text": }]', "rows.json:2: is not JSON: Expecting value at column 10."),
        ("rows.json", b'[{"text": "a"}\n{"text": "b"}]', "rows.json:2: is not JSON: the list's items are separated "),
        ("rows.json", b'[{"text": "a"},\n]', "rows.json:1: is not JSON: the list's items are separated by commas"),
        ("rows.json", b'[{"text": "a"}', "rows.json:1: is not JSON: the list's items are separated by commas and end"),
        ("rows.json", b"[]\n{}", "rows.json:1: something stands behind the list's end."),
        ("rows.json", b'[\n{"text": "caf\xe9"}]', "rows.json:2: is not UTF-8; save the file as UTF-8."),
        ("rows.csv", b"text\na\ncaf\xe9\n", "rows.csv:3: is not UTF-8: byte 4 is 0xe9; save the file as UTF-8."),
        ("rows.csv", b'text\na\n"b\nc\n', "rows.csv:3: is not CSV: unexpected end of data."),
        ("rows.csv", b"text,text\na,b\n", "rows.csv:1: the columns' names, its first line, repeat 'text'."),
        ("rows.parquet", b"PAR1", "rows.parquet can't be read as Parquet: "),
        ("rows.parquet", b"", "rows.parquet can't be read as Parquet: "),
    ],
)
def test_a_file_that_cannot_be_read_says_why_and_where(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    assert refused(tmp_path, name, content).startswith(sentence)


def test_a_file_of_another_encoding_is_told_by_its_first_byte(tmp_path: Path) -> None:
    found = lines(tmp_path, "rows.jsonl", '{"text": "a"}'.encode("utf-16"))
    assert found[0].problem == "is not UTF-8: byte 1 is 0xff"


@pytest.mark.parametrize(("cells", "count"), [(b"1", 1), (b"1,2,3", 3)])
def test_a_csv_line_of_another_width_is_a_fault_of_that_line(tmp_path: Path, cells: bytes, count: int) -> None:
    found = lines(tmp_path, "rows.csv", b"prompt,completion\n1,2\n" + cells + b"\n3,4\n")
    assert [line.row for line in found][::2] == [{"prompt": "1", "completion": "2"}, {"prompt": "3", "completion": "4"}]
    assert found[1] == Line("rows.csv:3", None, f"has {count} columns, where the first line has 2")


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", b"\n"), ("a.json", b" [ ] "), ("a.csv", b"text\n")])
def test_a_file_without_rows_has_none(tmp_path: Path, name: str, content: bytes) -> None:
    assert lines(tmp_path, name, content) == []
