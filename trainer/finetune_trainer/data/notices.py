"""What is odd about rows that are none of them wrong: told as warnings, which stop nothing.

`stages.prepare` shows one `Notices` the rows of each file; `trained` adds what was cut or left out. All of it is in
data-report.json and, a sentence each, in the condition DataReady.
"""

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from statistics import median
from typing import Any

from finetune_trainer.contract.config import Contract, Format
from finetune_trainer.data.examples import COLUMNS, Example, Shape, unused
from finetune_trainer.data.line import Line
from finetune_trainer.data.tokens import Row

# Places that are named of each kind.
NAMED = 3
# A row so many times as long as the one in the middle is far longer than the rest; of fewer rows none is the rest.
FAR, REST = 10, 10
# A sentence goes into a condition, and the names in it are the user's.
SENTENCE = 400


class Finding(Contract):
    """One kind of oddity in one file: how many rows have it, the first places, and the sentence that tells it."""

    kind: str
    count: int
    places: tuple[str, ...]
    sentence: str


class DataReport(Contract):
    """What data-report.json holds."""

    findings: tuple[Finding, ...]


@dataclass
class _Places:
    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, place: str) -> None:
        self.count += 1
        if len(self.first) < NAMED:
            self.first.append(place)


# In the order in which they are told, for one row and for several.
SENTENCES = {
    "duplicates": ("1 row of {name} repeats an earlier one", "{count} rows of {name} repeat earlier ones"),
    "contradictions": (
        "1 row of {name} asks what an earlier one asks and is answered otherwise",
        "{count} rows of {name} ask what earlier ones ask and are answered otherwise",
    ),
    "specialTokens": (
        "1 row of {name} has a special token of the model in its text, {token}",
        "{count} rows of {name} have special tokens of the model in their text, such as {token}",
    ),
    "nul": ("1 row of {name} has the character NUL in its text", "{count} rows of {name} have the character NUL"),
    "farLonger": (
        "1 row of {name} is far longer than the rest, {longest} tokens where {usual} are usual",
        "{count} rows of {name} are far longer than the rest, up to {longest} tokens where {usual} are usual",
    ),
}


class Notices:
    """Looks at one file. `special`: the model's special tokens, which mean something where a template writes them."""

    def __init__(self, name: str, shape: Shape, special: Sequence[str]) -> None:
        self._name, self._shape = name, shape
        self._special = () if shape.format == Format.TEXT else tuple(special)
        self._first: Row | None = None
        self._answers: dict[int, int] = {}
        self._found = {kind: _Places() for kind in SENTENCES}
        self._token = ""
        self._lengths = array("L")
        self._longest: list[tuple[int, str]] = []

    def lines(self, lines: Iterable[Line]) -> Iterator[Line]:
        """The same lines; the first one's columns stand for all."""
        for line in lines:
            if self._first is None:
                self._first = line.row
            yield line

    def findings(self, rows: Iterable[Example]) -> list[Finding]:
        """All that is odd about the rows that these lines became."""
        for row in rows:
            self._look(row)
        usual = median(self._lengths) if len(self._lengths) >= REST else 0
        if usual:
            self._found["farLonger"] = self._far(usual)
        told = {
            "name": self._name,
            "token": self._token,
            "longest": max(self._lengths, default=0),
            "usual": round(usual),
        }
        found = [_finding(kind, places, told) for kind, places in self._found.items() if places.count]
        return [*self._columns(), *found]

    def _look(self, example: Example) -> None:
        row = json.loads(example.line)
        self._repeated(row, example.place)
        texts = list(_texts(row))
        if any("\0" in text for text in texts):
            self._found["nul"].add(example.place)
        if token := next((token for token in self._special if any(token in text for text in texts)), None):
            self._token = self._token or token
            self._found["specialTokens"].add(example.place)
        self._lengths.append(len(example.tokens))
        self._longest = sorted([*self._longest, (len(example.tokens), example.place)], reverse=True)[:NAMED]

    def _repeated(self, row: Row, place: str) -> None:
        asked, answered = (_print(part) for part in _halves(row))
        known = self._answers.get(asked)
        if known is None:
            self._answers[asked] = answered
        else:
            self._found["duplicates" if known == answered else "contradictions"].add(place)

    def _far(self, usual: float) -> _Places:
        far = [place for tokens, place in self._longest if tokens > FAR * usual]
        return _Places(sum(tokens > FAR * usual for tokens in self._lengths), far)

    def _columns(self) -> list[Finding]:
        found = unused(self._first or {}, self._shape)
        if not found:
            return []
        there = set(map(str, self._first or {}))
        needed, possible = COLUMNS[self._shape.format]
        missing = [name for name in (*needed, *possible) if self._shape.columns.get(name, name) not in there]
        told = ", ".join(_suggested(column, missing) for column in found)
        sentence = f"Format {self._shape.format.value} has no use for these columns of {self._name}: {told}."
        return [Finding(kind="columns", count=len(found), places=(), sentence=_short(sentence))]


def _suggested(column: str, missing: Sequence[str]) -> str:
    near = get_close_matches(column.lower(), missing, n=1)
    return f"{column} (is it {near[0]}?)" if near else column


def _finding(kind: str, places: _Places, told: dict[str, Any]) -> Finding:
    one, many = SENTENCES[kind]
    said = (one if places.count == 1 else many).format(count=places.count, **told)
    more = ", …" if places.count > len(places.first) else ""
    sentence = f"{said} ({', '.join(places.first)}{more})."
    return Finding(kind=kind, count=places.count, places=tuple(places.first), sentence=_short(sentence))


def _short(sentence: str) -> str:
    return sentence if len(sentence) <= SENTENCE else f"{sentence[:SENTENCE]}…"


def _halves(row: Row) -> tuple[Any, Any]:
    """What is asked, and what is answered."""
    if "messages" in row:
        return [row["messages"][:-1], row.get("tools")], row["messages"][-1]
    return (row["prompt"], row["completion"]) if "prompt" in row else (row["text"], None)


def _print(part: Any) -> int:
    """Eight bytes of a digest: a million rows cost 150 MB, and one in 40 million such sets mistakes two of them."""
    text = json.dumps(part, sort_keys=True, ensure_ascii=False).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


def _texts(row: Row) -> Iterator[str]:
    for value in (row.get(name) for name in ("messages", "prompt", "completion", "text")):
        if isinstance(value, str):
            yield value
        for message in value if isinstance(value, list) else ():
            if isinstance(content := message.get("content"), str):
                yield content
