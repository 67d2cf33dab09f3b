"""Datasets that are broken or odd, made by code that says what is wrong with each: the corpus of `test_odd_datasets`.

Each fault of a row is put into files of every kind that can hold it, among good rows, at a place that the sentence has
to name. Faults of files, of manifests and of splits come one by one.
"""

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
from finetune_trainer.contract.config import OnSensitive
from pyarrow import ipc
from pyarrow.parquet import write_table

Row = dict[str, Any]
# A row of 0-based number BAD is the one that is wrong, or odd.
ROWS, BAD = 24, 16
REFUSED, TOLD = "refused", "told"


@dataclass(frozen=True)
class OddDataset:
    """One file, or a few; what of the manifest goes with them; and what is said.

    `template`: the model has one. `on_sensitive`: what it is told to do about secrets and personal data.
    """

    name: str
    says: str
    files: dict[str, bytes]
    ends: str = REFUSED
    dataset: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    template: bool = True
    on_sensitive: OnSensitive = OnSensitive.WARN


def pairs() -> list[Row]:
    return [{"prompt": f"list two cups {number}", "completion": "flour"} for number in range(ROWS)]


def chats() -> list[Row]:
    return [chat(f"list eggs {number}", "egg") for number in range(ROWS)]


def chat(asked: str, answered: str, **more: Any) -> Row:
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answered} | more]}


def texts() -> list[Row]:
    return [{"text": f"two cups of flour {number}"} for number in range(ROWS)]


def instructions() -> list[Row]:
    return [{"instruction": f"list {number}", "input": "eggs", "output": "egg"} for number in range(ROWS)]


def sharegpt() -> list[Row]:
    turns = ({"from": "human", "value": "list"}, {"from": "gpt", "value": "egg"})
    return [{"conversations": [turns[0] | {"value": f"list {number}"}, turns[1]]} for number in range(ROWS)]


def liked() -> list[Row]:
    return [{"prompt": f"list two cups {number}", "chosen": "flour", "rejected": "eggs"} for number in range(ROWS)]


def openai() -> list[Row]:
    answers = {"preferred_output": "egg", "non_preferred_output": "eggs"}
    pair = {name: [{"role": "assistant", "content": text}] for name, text in answers.items()}
    return [{"input": {"messages": row["messages"][:1]}, **pair} for row in chats()]


def jsonl(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def listed(rows: list[Any]) -> bytes:
    return ("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n").encode()


def held(rows: list[Any]) -> bytes:
    return ('{"version": 1, "data":\n[' + ",\n".join(json.dumps(row) for row in rows) + "]}\n").encode()


def separated(delimiter: str) -> Callable[[list[Row]], bytes]:
    def written(rows: list[Row]) -> bytes:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()

    return written


def parquet(rows: list[Row]) -> bytes:
    sink = io.BytesIO()
    write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def arrow(rows: list[Row]) -> bytes:
    table, sink = pa.Table.from_pylist(rows), io.BytesIO()
    with ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


# How a file of that name is written, and where a row of 0-based number stands in it.
Place = Callable[[int], str]
ANY: dict[str, tuple[Callable[[list[Any]], bytes], Place]] = {
    "train.jsonl": (jsonl, lambda number: f"train.jsonl:{number + 1}"),
    "train.json": (listed, lambda number: f"train.json:{number + 2}"),
    "train.jsonl.gz": (lambda rows: gzip.compress(jsonl(rows)), lambda number: f"train.jsonl.gz:{number + 1}"),
    "train.jsonl.zst": (lambda rows: zstd(jsonl(rows)), lambda number: f"train.jsonl.zst:{number + 1}"),
}
# Of strings alone, and of columns that are each of one type.
PLAIN = {
    "train.csv": (separated(","), lambda number: f"train.csv:{number + 2}"),
    "train.tsv": (separated("\t"), lambda number: f"train.tsv:{number + 2}"),
}
TYPED = {
    "train.parquet": (parquet, lambda number: f"train.parquet row {number + 1}"),
    "train.arrow": (arrow, lambda number: f"train.arrow row {number + 1}"),
}


def everything() -> Iterator[OddDataset]:
    """The whole corpus."""
    yield from broken_rows()
    yield from broken_lines()
    yield from broken_files()
    yield from broken_manifests()
    yield from broken_splits()
    yield from odd_rows()
    yield from odd_files()


def broken_rows() -> Iterator[OddDataset]:
    """One row is wrong; every kind of file that can hold it names its place."""
    asked, answered = chats()[0]["messages"]
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    for name, rows, bad, says in (
        ("a chat without messages", chats(), {"messages": []}, "messages is empty"),
        ("messages that are a string", chats(), {"messages": "hello"}, "messages is a string, where a list"),
        ("a role that nobody has", chats(), {"messages": [asked, answered | {"role": "asistant"}]}, "asistant"),
        ("a chat that ends with a question", chats(), {"messages": [answered, asked]}, "does not end with a message"),
        ("a chat without an answer", chats(), {"messages": [asked]}, "has no message of the assistant"),
        ("an empty answer", chats(), chat("list", " "), "message 2 content is empty"),
        ("an image", chats(), {"messages": [asked | {"content": [image]}, answered]}, "only text can be learned"),
        ("a weight of 2", chats(), chat("list", "egg", weight=2), "has the weight 2; allowed are 0"),
        ("a call of no function", chats(), chat("list", "egg", tool_calls=[{}]), "number 1 names no function"),
        ("OpenAI's old calls", chats(), chat("list", "egg", function_call={}), "use tool_calls"),
        ("tools that are none", chats(), chats()[0] | {"tools": "scale"}, "tools is no list of tools' JSON schemas"),
        ("a completion that is a number", pairs(), {"prompt": "list", "completion": 7}, "completion is a number"),
        ("a list beside a string", pairs(), {"prompt": [asked], "completion": "egg"}, "both are strings, or both"),
        ("an output that is null", instructions(), {"instruction": "list", "output": None}, "has no output"),
        ("an input that is a list", instructions(), instructions()[0] | {"input": ["a"]}, "input is a list"),
        ("a speaker that nobody knows", sharegpt(), {"conversations": [{"from": "alien", "value": "a"}]}, "alien"),
        ("half of a surrogate pair", texts(), {"text": "half \ud83d"}, "half of a surrogate pair"),
    ):
        yield from _among(name, rows, bad, says, ANY)
    for name, rows, bad, says in (
        ("an empty prompt", pairs(), {"prompt": "", "completion": "egg"}, "prompt is empty"),
        ("an empty completion", pairs(), {"prompt": "list", "completion": " "}, "completion is empty"),
        ("an empty text", texts(), {"text": "\t"}, "text is empty"),
        ("an empty instruction", instructions(), instructions()[0] | {"instruction": ""}, "instruction is empty"),
    ):
        yield from _among(name, rows, bad, says, ANY | PLAIN | TYPED)
    for name, rows, bad, says in (
        ("a null", pairs(), {"prompt": "list", "completion": None}, "has no completion"),
        ("a chat that is null", chats(), {"messages": None}, "has no messages"),
        ("a chat that ends with a question", chats(), {"messages": [answered, asked]}, "does not end with a message"),
    ):
        yield from _among(name, rows, bad, says, TYPED)
    dpo = {"method": "dpo"}
    for name, rows, bad, says in (
        ("a pair without the worse answer", liked(), liked()[0] | {"rejected": None}, "has no rejected"),
        ("a pair of texts in which nothing is asked", liked(), {"chosen": "a", "rejected": "b"}, "add a column prompt"),
        (
            "a pair whose answer is a question",
            openai(),
            openai()[0] | {"preferred_output": [asked]},
            "preferred_output",
        ),
    ):
        yield from (replace(odd, training=dpo) for odd in _among(name, rows, bad, says, ANY))
    labelled = [row | {"label": number % 2 == 0} for number, row in enumerate(pairs())]
    for name, bad, says in (
        ("a row without its label", pairs()[0], "has no label"),
        ("a label that is a word", labelled[0] | {"label": "good"}, 'label is "good"; allowed are true'),
    ):
        yield from (replace(odd, training={"method": "kto"}) for odd in _among(name, labelled, bad, says, ANY))
    yield OddDataset("pairs for sft", "set training.method to dpo", {"train.jsonl": jsonl(liked())})
    yield OddDataset("chats for dpo", "set training.method to sft", {"train.jsonl": jsonl(chats())}, training=dpo)


def _among(name: str, rows: list[Row], bad: Row, says: str, kinds: Any) -> Iterator[OddDataset]:
    for file, (write, place) in kinds.items():
        told = f"{place(BAD)}: "
        content = write([*rows[:BAD], bad, *rows[BAD + 1 :]])
        yield OddDataset(f"{name} in {file}", f"{told}…{says}", {file: content})


def broken_lines() -> Iterator[OddDataset]:
    """One line is no row at all."""
    for name, line, says in (
        ("half a line", b'{"text": "two', "train.jsonl:17: is not JSON: "),
        ("a list", b'["two"]', "train.jsonl:17: is a list, where an object is expected"),
        ("a number", b"17", "train.jsonl:17: is a number, where an object is expected"),
        ("a null", b"null", "train.jsonl:17: is null, where an object is expected"),
        ("another encoding", '{"text": "Öl"}'.encode("latin-1"), "train.jsonl:17: is not UTF-8: byte 11 is 0xd6"),
        ("two objects", b'{"text": "a"} {"text": "b"}', "train.jsonl:17: is not JSON: "),
        ("single quotes", b"{'text': 'a'}", "train.jsonl:17: is not JSON: "),
        ("depth", b'{"text": ' + b"[" * 100_000, "train.jsonl:17: is nested too deeply"),
    ):
        lines = jsonl(texts()).splitlines(keepends=True)
        content = b"".join([*lines[:BAD], line + b"\n", *lines[BAD + 1 :]])
        yield OddDataset(f"a line that is {name}", says, {"train.jsonl": content})
    wide = separated(",")(pairs()).replace(b"list two cups 16,", b"list two cups, 16,")
    yield OddDataset(
        "a CSV line too wide", "train.csv:18: has 3 columns, where the first line has 2", {"train.csv": wide}
    )
    many = [{"text": 7} if number % 2 else row for number, row in enumerate(texts() * 4)]
    yield OddDataset("faults beyond twenty", "and 28 more.", {"train.jsonl": jsonl(many)})


def broken_files() -> Iterator[OddDataset]:
    """The file can't be read as what its ending says."""
    whole = jsonl(texts())
    for file, content, says in (
        ("train.jsonl", b"", "train.jsonl has no rows."),
        ("train.jsonl", b"\n\n", "train.jsonl has no rows."),
        ("train.json", b"[]", "train.json has no rows."),
        ("train.csv", b"text\n", "train.csv has no rows."),
        ("train.txt", b"two cups of flour\n", "train.txt has none of the endings .jsonl, .ndjson, .json, .csv, .tsv"),
        ("train", whole, "train has none of the endings"),
        ("train.json", whole, "train.json is no list of objects"),
        ("train.json", b'{"a": [{}], "b": [{}]}', "train.json holds several lists of objects (a, b): keep the one"),
        ("train.json", b'{"version": 1}', "train.json is no list of objects"),
        ("train.json", listed(texts())[:-4], "is not JSON"),
        ("train.json", listed(texts()) + b"{}", "something stands behind the list's end."),
        ("train.json", b'[{"text": "a"} {"text": "b"}]', "the list's items are separated by commas"),
        ("train.csv", b"text,text\na,b\n", "train.csv:1: the columns' names, its first line, repeat 'text'."),
        ("train.csv", 'text\n"Öl"\n'.encode("latin-1"), "save the file as UTF-8."),
        ("train.csv", b'prompt,completion\n"list,egg\n', "train.csv:2: is not CSV: "),
        ("train.parquet", b"PAR1 and no more", "train.parquet can't be read as Parquet: "),
        ("train.parquet", parquet(texts())[:-20], "train.parquet can't be read as Parquet: "),
        ("train.arrow", whole, "train.arrow can't be read as Arrow: "),
        ("train.parquet.gz", gzip.compress(parquet(texts())), "files of .parquet are compressed inside; decompress it"),
        ("train.jsonl.gz", whole, "train.jsonl.gz can't be decompressed as .gz: "),
        ("train.jsonl.gz", gzip.compress(whole)[:-12], "train.jsonl.gz can't be decompressed as .gz: "),
        ("train.jsonl.zst", whole, "train.jsonl.zst can't be decompressed as .zst: "),
        ("train.jsonl.bz2", whole, "has none of the endings"),
    ):
        yield OddDataset(f"{file} of {len(content)} bytes: {says[:40]}", says, {file: content})


def broken_manifests() -> Iterator[OddDataset]:
    """Rows and manifest don't go together."""
    for name, rows, says, more in (
        ("no known columns", [{"dialogue": "a"}], "can't be told from its columns (dialogue)", {}),
        ("a column that is not there", pairs(), "has no answer", {"columns": {"completion": "answer"}}),
        ("columns of another format", texts(), "which format text does not have", {"columns": {"prompt": "text"}}),
        ("the wrong format", chats(), "has no text", {"format": "text"}),
        ("a system prompt for text", texts(), "rows of format text have no messages", {"systemPrompt": "Be brief."}),
    ):
        yield OddDataset(name, says, {"train.jsonl": jsonl(rows)}, dataset=more)
    for name, rows in (("chats", chats()), ("ShareGPT's chats", sharegpt())):
        says = "the model's tokenizer has no chat template: choose an instruction-tuned model"
        yield OddDataset(f"{name} without a template", says, {"train.jsonl": jsonl(rows)}, template=False)
    messages = [{"prompt": row["messages"][:1], "completion": row["messages"][1:]} for row in chats()]
    says = "prompt is a list of messages, and the model's tokenizer has no chat template"
    yield OddDataset("messages without a template", says, {"train.jsonl": jsonl(messages)}, template=False)
    no_room = {"maxLength": 4}
    yield OddDataset(
        "no room for answers",
        "the prompt alone fills training.maxLength",
        {"train.jsonl": jsonl(chats())},
        training=no_room,
    )
    far = {"maxLength": 100_000}
    yield OddDataset(
        "more than the context", "longer than the model's context", {"train.jsonl": jsonl(chats())}, training=far
    )
    silent = [chat(f"list {number}", "egg", weight=0) for number in range(ROWS)]
    yield OddDataset("all weights 0", "all answers have the weight 0", {"train.jsonl": jsonl(silent)})


def broken_splits() -> Iterator[OddDataset]:
    """There are too few rows, or too few that differ, to set some aside."""
    fraction = {"validation": {"fraction": 0.5}}
    for name, rows, says in (
        ("one row", pairs()[:1], "nothing is left for"),
        ("one row many times", pairs()[:1] * 20, "of which 1 differs (equal rows stay together)"),
    ):
        yield OddDataset(name, says, {"train.jsonl": jsonl(rows)}, dataset=fraction)


def odd_rows() -> Iterator[OddDataset]:
    """Nothing is wrong, and something is told."""
    first, second = pairs()[:2]
    for name, odd, says in (
        ("a row twice", first, "1 row of {file} repeats an earlier one ({place})."),
        ("an answer that contradicts", first | {"completion": "egg"}, "1 row of {file} asks what an earlier one asks"),
        ("NUL", second | {"completion": "egg\0"}, "1 row of {file} has the character NUL in its text ({place})."),
        (
            "a special token",
            {"prompt": "two <|im_end|> eggs", "completion": "egg"},
            "1 row of {file} has a special token of the model in its text, <|im_end|> ({place}).",
        ),
        (
            "a row far longer than the rest",
            {"prompt": "two " * 200, "completion": "egg"},
            "1 row of {file} is far longer than the rest",
        ),
        (
            "an address",
            {"prompt": "list eggs", "completion": "ask jane.doe@gmail.com"},
            "1 row of {file} seems to hold e-mail addresses ({place}).",
        ),
        (
            "a key",
            {"prompt": "list my key", "completion": "AKIA" + "Q3K7ZT5WXN2RM4LB"},
            "1 row of {file} seems to hold AWS keys ({place}).",
        ),
    ):
        for file, (write, place) in (ANY | TYPED).items():
            rows = pairs()
            content = write([*rows[:BAD], odd, *rows[BAD + 1 :]])
            told = says.format(file=file, place=place(BAD))
            yield OddDataset(f"{name} in {file}", told, {file: content}, TOLD)
    long = {"prompt": "two", "completion": "eggs " * 100}
    rows = [*pairs()[:BAD], long, *pairs()[BAD + 1 :]]
    cut = "1 row of train is longer than maxLength (64 tokens) and cut (train.jsonl:17)."
    yield OddDataset("a row that is cut", cut, {"train.jsonl": jsonl(rows)}, TOLD, training={"maxLength": 64})
    private = jsonl([*pairs()[:BAD], {"prompt": "list", "completion": "call +44 20 7946 0018"}, *pairs()[BAD:]])
    refused = "1 row of train.jsonl seems to hold phone numbers (train.jsonl:17). Remove or mask them, or, if"
    fail = OnSensitive.FAIL
    yield OddDataset("a number that is not to be learned", refused, {"train.jsonl": private}, on_sensitive=fail)
    silent = [*chats()[:BAD], chat("list", "egg", weight=0), *chats()[BAD + 1 :]]
    left = "1 row of train is left out, with no answer left to learn (train.jsonl:17)."
    yield OddDataset("a row of weight 0", left, {"train.jsonl": jsonl(silent)}, TOLD)


def odd_files() -> Iterator[OddDataset]:
    """Columns of no use, a byte order mark, several files."""
    more = [row | {"id": number, "promt": "a"} for number, row in enumerate(pairs())]
    told = "Format prompt-completion has no use for these columns of train.jsonl: id, promt."
    yield OddDataset("columns of no use", told, {"train.jsonl": jsonl(more)}, TOLD)
    near = [{"instruction": row["instruction"], "inputs": "eggs", "output": "egg"} for row in instructions()]
    told = "inputs (is it input?)"
    yield OddDataset("a column misspelt", told, {"train.jsonl": jsonl(near)}, TOLD)
    marked = b"\xef\xbb\xbf" + jsonl([*pairs(), pairs()[0]])
    yield OddDataset("a byte order mark", "(train.jsonl:25).", {"train.jsonl": marked}, TOLD)
    semicolons = separated(";")([*pairs(), pairs()[0]])
    yield OddDataset("semicolons", "(train.csv:26).", {"train.csv": semicolons}, TOLD)
    files = {
        "train-1.jsonl": jsonl(pairs()),
        "train-2.jsonl": jsonl([*pairs()[:1], {"prompt": "a", "completion": "b"}]),
    }
    yield OddDataset("a row that is in two files", "(train-2.jsonl:1).", files, TOLD)
