"""What is odd about rows that are none of them wrong: told as warnings, which stop nothing.

`batch` looks at each row by itself, and `gather` shows one `Notices` what that saw in all rows of a source.
"""

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from statistics import median
from typing import Any

from finetune_trainer.contract.config import Format
from finetune_trainer.data import sensitive
from finetune_trainer.data.examples import COLUMNS, LABEL, Shape, unused
from finetune_trainer.data.findings import NAMED, Finding, Places, short
from finetune_trainer.data.line import Line
from finetune_trainer.data.preference import ANSWERS
from finetune_trainer.data.tokens import Row

# A row so many times as long as the one in the middle is far longer than the rest; of fewer rows none is the rest.
FAR, REST = 10, 10
# Rows of text answer nothing, and of labelled ones what is compared is the label.
ANSWERLESS = (Format.TEXT, Format.UNPAIRED_PREFERENCE)


@dataclass(frozen=True)
class Odd:
    """What matters of one row: prints of what is asked and of what is answered, and what its text should not hold.

    `private`: the kinds of secrets and personal data, see `sensitive`.
    """

    asked: int
    answered: int
    nul: bool
    token: str | None
    private: tuple[str, ...] = ()


def look(row: Row, special: Sequence[str], private: tuple[str, ...] = ()) -> Odd:
    """Look at a checked row. `special`: the model's special tokens, which mean something where a template writes them.

    Pure, and all that costs time: `batch` calls it in as many processes as there are cores.
    """
    text = "\n".join(_texts(row))
    token = next((token for token in special if token in text), None)
    asked, answered = _halves(row)
    return Odd(_print(asked), _print(answered), "\0" in text, token, private)


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
} | {
    kind: (f"1 row of {{name}} seems to hold {what}", f"{{count}} rows of {{name}} seem to hold {what}")
    for kind, what in sensitive.NAMES.items()
}


class Notices:
    """Looks at one source, whose first row's columns stand for all."""

    def __init__(self, name: str, shape: Shape) -> None:
        self._name, self._shape = name, shape
        self._first: Row | None = None
        self._answers: dict[int, int] = {}
        self._given: set[int] = set()
        self._found = {kind: Places() for kind in SENTENCES}
        self._token = ""
        self._lengths = array("L")
        self._longest: list[tuple[int, str]] = []

    def lines(self, lines: Iterable[Line]) -> Iterator[Line]:
        """The same lines, the first one of them looked at."""
        for line in lines:
            if self._first is None:
                self._first = line.row
            yield line

    def add(self, place: str, length: int, odd: Odd) -> None:
        """The next row. `length` in tokens."""
        self._repeated(odd, place)
        if len(self._given) < 2:
            self._given.add(odd.answered)
        if odd.nul:
            self._found["nul"].add(place)
        if odd.token:
            self._token = self._token or odd.token
            self._found["specialTokens"].add(place)
        for kind in odd.private:
            self._found[kind].add(place)
        self._lengths.append(length)
        if len(self._longest) < NAMED or length > self._longest[-1][0]:
            self._longest = sorted([*self._longest, (length, place)], reverse=True)[:NAMED]

    def findings(self) -> list[Finding]:
        """All that is odd about the rows."""
        usual = median(self._lengths) if len(self._lengths) >= REST else 0
        if usual:
            self._found["farLonger"] = self._far(usual)
        told = {
            "name": self._name,
            "token": self._token,
            "longest": max(self._lengths, default=0),
            "usual": round(usual),
        }
        found = [
            places.finding(kind, _said(kind, places.count, told))
            for kind, places in self._found.items()
            if places.count
        ]
        return [*self._columns(), *self._one_answer(), *found]

    def _repeated(self, odd: Odd, place: str) -> None:
        known = self._answers.get(odd.asked)
        if known is None:
            self._answers[odd.asked] = odd.answered
        else:
            self._found["duplicates" if known == odd.answered else "contradictions"].add(place)

    def _one_answer(self) -> list[Finding]:
        """Whatever is asked, a model learns to say the same."""
        rows = len(self._lengths)
        if self._shape.format in ANSWERLESS or rows < REST or len(self._given) > 1:
            return []
        sentence = f"All {rows} rows of {self._name} have the same answer, so nothing is learned but to give it."
        return [Finding(kind="oneAnswer", count=rows, places=(), sentence=short(sentence))]

    def _far(self, usual: float) -> Places:
        far = [place for tokens, place in self._longest if tokens > FAR * usual]
        return Places(sum(tokens > FAR * usual for tokens in self._lengths), far)

    def _columns(self) -> list[Finding]:
        found = unused(self._first or {}, self._shape)
        if not found:
            return []
        there = set(map(str, self._first or {}))
        needed, possible = COLUMNS[self._shape.format]
        missing = [name for name in (*needed, *possible) if self._shape.columns.get(name, name) not in there]
        told = ", ".join(_suggested(column, missing) for column in found)
        sentence = f"Format {self._shape.format.value} has no use for these columns of {self._name}: {told}."
        return [Finding(kind="columns", count=len(found), places=(), sentence=short(sentence))]


def _suggested(column: str, missing: Sequence[str]) -> str:
    near = get_close_matches(column.lower(), missing, n=1)
    return f"{column} (is it {near[0]}?)" if near else column


def _said(kind: str, count: int, told: dict[str, Any]) -> str:
    one, many = SENTENCES[kind]
    return (one if count == 1 else many).format(count=count, **told)


def _halves(row: Row) -> tuple[Any, Any]:
    """What is asked, and what is answered."""
    if "messages" in row:
        return [row["messages"][:-1], row.get("tools")], row["messages"][-1]
    if "chosen" in row:
        # Several pairs for one prompt are usual; the same two answers the other way round are a contradiction.
        both = sorted(json.dumps(row[name], sort_keys=True) for name in ANSWERS)
        return [row["prompt"], row.get("tools"), both], row["chosen"]
    if LABEL in row:
        # Many answers to one prompt are usual; the same one both good and bad is a contradiction.
        return [row["prompt"], row["completion"]], row[LABEL]
    return (row["prompt"], row["completion"]) if "prompt" in row else (row["text"], None)


def _print(part: Any) -> int:
    """Eight bytes of a digest: a million rows cost 150 MB, and one in 40 million such sets mistakes two of them."""
    text = json.dumps(part, sort_keys=True, ensure_ascii=False).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


def _texts(row: Row) -> Iterator[str]:
    for value in (row.get(name) for name in ("messages", "prompt", "completion", "text", *ANSWERS)):
        if isinstance(value, str):
            yield value
        for message in value if isinstance(value, list) else ():
            if isinstance(content := message.get("content"), str):
                yield content
