"""The metric sql_execution: an answer in SQL is right where it finds what the reference finds.

Called by `measuring`, and by `testset`, which refuses rows that it says nothing about. The tables are those of the
prompt's own CREATE TABLE statements, in SQLite and in memory. They are filled with rows that are drawn anew for each of
a few databases, so that queries which mean other things seldom agree by chance (Zhong et al. 2020); what the reference
compares a column with is drawn for it often, or conditions would leave nothing to compare.

Answers are a model's and schemas a user's, so that nothing of either is trusted: they can read those tables and no
more, for a bounded number of SQLite's own steps, none of which can be a large one, and in bounded memory.
"""

import random
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from finetune_trainer.evaluation.contenders import Question
from finetune_trainer.evaluation.metrics import Statistic, mean
from finetune_trainer.evaluation.normalise import said

DATABASES, ROWS = 4, 40
# For one query, and for all that makes a database.
STEPS, MOST_ROWS, MOST_BYTES = 1_000_000, 10_000, 256 * 2**20
# Of a value and of a pattern, in an answer: one step compares the one with the other.
_VALUE, _PATTERN = 4_000, 50
# Where steps are slow all the same: a minute, which no machine takes for those of an honest answer.
_SECONDS, _OFTEN = 60, 1_000
# Of a prompt, what is looked through for the end of a statement, and how many there are.
_STATEMENT, _STATEMENTS = 20_000, 200
_READING = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
_TABLE = re.compile(r"\bCREATE\s+TABLE\b", re.IGNORECASE)
_WORD = re.compile(r"""'((?:[^']|'')*)'|\b(\d+(?:\.\d+)?)\b""")
# A column, and what it is compared with.
_COMPARED = re.compile(
    r"""\b(\w+)["`\]]?\s*(?:=|<>|!=|<=?|>=?|\bLIKE\b|\bIN\s*\(|\bBETWEEN\b)\s*(?:'((?:[^']|'')*)'|(\d+(?:\.\d+)?))""",
    re.IGNORECASE,
)
_ORDERED = re.compile(r"\bORDER\s+BY\b", re.IGNORECASE)
# What an answer can do wrong: SQLite refuses it, or it is no text.
_FAULTS = (sqlite3.Error, sqlite3.Warning, UnicodeError, MemoryError)
_DEEPER = {"(": 1, ")": -1}
_LETTERS = "abcdefgh"

Found = list[tuple[Any, ...]]


@dataclass(frozen=True)
class SqlReference:
    """What is right for a row: the schema, the query, and what that finds in each database."""

    schema: tuple[str, ...]
    query: str
    found: tuple[Found, ...]

    def score(self, prediction: str) -> float:
        """1 for an answer that finds the same everywhere. Where the reference finds nothing, so does much that is
        wrong: there the answer has to be the reference, but for white space and case.
        """
        if not any(self.found):
            return float(_plain(prediction) == _plain(self.query))
        try:
            return float(all(self._agrees(prediction, number) for number in range(DATABASES)))
        except _FAULTS:
            return 0.0

    def _agrees(self, prediction: str, number: int) -> bool:
        found, right = _asked(self.schema, self.query, number, prediction), self.found[number]
        return found == right if _ordered(self.query) else Counter(found) == Counter(right)


def statistic(questions: Sequence[Question], predictions: Sequence[str]) -> Statistic:
    """The share of answers that find what their references find. Every question has a reference that runs."""
    references = (reference(question) for question in questions)
    return mean([found.score(said(prediction)) for found, prediction in zip(references, predictions, strict=True)])


def unfit(questions: Sequence[Question]) -> str | None:
    """None, or why the metric says nothing about these rows, as the end of a sentence."""
    for number, question in enumerate(questions, 1):
        if not tables(question.text):
            return f"the prompt of row {number} of test has no CREATE TABLE statement"
        query = said(question.reference)
        try:
            _asked(tables(question.text), query, 0, query)
        except _FAULTS as error:
            return f"the right answer of row {number} of test does not run on its prompt's tables in SQLite: {error}"
    return None


def reference(question: Question) -> SqlReference:
    """Run the right answer. Raises sqlite3.Error."""
    schema, query = tables(question.text), said(question.reference)
    return SqlReference(schema, query, tuple(_asked(schema, query, number, query) for number in range(DATABASES)))


def tables(text: str) -> tuple[str, ...]:
    """The CREATE TABLE statements in a text."""
    return tuple(_statements(text))


def _statements(text: str) -> Iterator[str]:
    for start in islice(_TABLE.finditer(text), _STATEMENTS):
        depth = 0
        for place in range(start.end(), min(len(text), start.end() + _STATEMENT)):
            depth += _DEEPER.get(text[place], 0)
            if text[place] == ")":
                if depth == 0:
                    yield text[start.start() : place + 1]
                if depth <= 0:
                    break


def _asked(schema: Sequence[str], query: str, number: int, prediction: str) -> Found:
    """What an answer finds in a database made for `query`. Raises sqlite3.Error, also where it takes too long, finds
    too much, or is more than one statement that reads.
    """
    with closing(sqlite3.connect(":memory:")) as database:
        database.set_progress_handler(_bound(), _OFTEN)
        for pragma in ("ignore_check_constraints = ON", "temp_store = MEMORY", f"hard_heap_limit = {MOST_BYTES}"):
            database.execute(f"PRAGMA {pragma}")
        for statement in schema:
            database.execute(statement)
        _fill(database, query, random.Random(f"{number} {schema}"))  # noqa: S311 (no secret)
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _VALUE)
        database.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, _PATTERN)
        database.set_progress_handler(_bound(), _OFTEN)
        database.set_authorizer(_reads)
        found = database.execute(prediction).fetchmany(MOST_ROWS + 1)
        if len(found) > MOST_ROWS:
            raise sqlite3.OperationalError(f"more than {MOST_ROWS} rows")
        return [tuple(map(_value, row)) for row in found]


def _bound() -> Callable[[], int]:
    """What SQLite asks every so many steps whether it is to stop."""
    calls, end = count(1), time.monotonic() + _SECONDS
    return lambda: int(next(calls) * _OFTEN > STEPS or time.monotonic() > end)


def _reads(action: int, *about: str | None) -> int:
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY


def _fill(database: sqlite3.Connection, query: str, draw: random.Random) -> None:
    """Rows for all tables; what a UNIQUE or a NOT NULL forbids is left out."""
    likely: dict[str, list[str]] = {}
    for column, word, number in _COMPARED.findall(query):
        likely.setdefault(column.lower(), []).append(number or word.replace("''", "'").replace("%", ""))
    words = [word.replace("''", "'").replace("%", "") or number for word, number in _WORD.findall(query)]
    for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
        name = '"{}"'.format(table.replace('"', '""'))
        columns = database.execute(f"PRAGMA table_info({name})").fetchall()
        holes = ", ".join("?" * len(columns))
        for _ in range(ROWS):
            row = [_drawn(kind.upper(), likely.get(column.lower(), ()), words, draw) for _, column, kind, *_ in columns]
            with suppress(sqlite3.IntegrityError):
                database.execute(f"INSERT INTO {name} VALUES ({holes})", row)  # noqa: S608 (its own table)


def _drawn(kind: str, likely: Sequence[str], words: Sequence[str], draw: random.Random) -> Any:
    """A value for a column of such a type. Few different ones, so that tables can be joined."""
    chance = draw.random()
    if likely and chance < 0.5:
        return _near(draw.choice(likely), draw)
    if chance > 0.95:
        return None
    if any(name in kind for name in ("INT", "BOOL")):
        return draw.randrange(10)
    if any(name in kind for name in ("REAL", "NUM", "DEC", "FLOA", "DOUB")):
        return draw.randrange(20) / 2
    return draw.choice([*_LETTERS, *words])


def _near(value: str, draw: random.Random) -> Any:
    """A value that a condition names, or a number beside it: < and <= are to differ."""
    try:
        return float(value) + draw.choice((-1, 0, 0, 1))
    except ValueError:
        return value


def _value(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


def _ordered(query: str) -> bool:
    """Whether it says in which order, itself and not in a subquery."""
    depth, outer = 0, []
    for letter in query:
        depth += _DEEPER.get(letter, 0)
        outer.append(letter if depth == 0 else " ")
    return _ORDERED.search("".join(outer)) is not None


def _plain(query: str) -> str:
    return " ".join(query.lower().rstrip("; \n").split())
