"""Writes train.jsonl and test.jsonl: a table, a question about it, and the SQL that answers it.

    python make_dataset.py [DIRECTORY]

Every table of tables.txt is asked all kinds of questions of KINDS, in one of the ways to put each. The tables of [test]
are in no row of train. Same seed, same bytes.
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SEED = 11
# Questions of each kind about a table.
PER_KIND = {"train": 2, "test": 1}

# Ways to ask, and the answer. {row}, {rows}: what is in the table; {name}, {kind}, {number}, {other}: its columns;
# {value}, {limit}: what is compared with.
KINDS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("List the {name} of every {row}.", "What {name} does each {row} have?"), "SELECT {name} FROM {row}"),
    (
        (
            "Which {rows} have the {kind} {value}? Give the {name}.",
            "Give the {name} of all {rows} whose {kind} is {value}.",
        ),
        "SELECT {name} FROM {row} WHERE {kind} = '{value}'",
    ),
    (
        (
            "Show {name} and {number} of {rows} with a {number} above {limit}.",
            "For all {rows} of more than {limit} {number}, show {name} and {number}.",
        ),
        "SELECT {name}, {number} FROM {row} WHERE {number} > {limit}",
    ),
    (
        (
            "Which {rows} of {kind} {value} have at most {limit} {number}? Give the {name}.",
            "Give the {name} of the {rows} with {kind} {value} and a {number} of {limit} or less.",
        ),
        "SELECT {name} FROM {row} WHERE {kind} = '{value}' AND {number} <= {limit}",
    ),
    (("How many {rows} are there?", "Count the {rows}."), "SELECT COUNT(*) FROM {row}"),
    (
        ("How many {rows} have the {kind} {value}?", "Count the {rows} with {kind} {value}."),
        "SELECT COUNT(*) FROM {row} WHERE {kind} = '{value}'",
    ),
    (
        ("What is the average {number} of the {rows}?", "Give the mean {number} over all {rows}."),
        "SELECT AVG({number}) FROM {row}",
    ),
    (
        (
            "What is the highest {number} among {rows} of {kind} {value}?",
            "Of the {rows} with {kind} {value}, what is the greatest {number}?",
        ),
        "SELECT MAX({number}) FROM {row} WHERE {kind} = '{value}'",
    ),
    (
        ("How many {rows} are there for each {kind}?", "Count the {rows} by {kind}."),
        "SELECT {kind}, COUNT(*) FROM {row} GROUP BY {kind}",
    ),
    (
        ("What is the total {number} for each {kind}?", "Sum up the {number} by {kind}."),
        "SELECT {kind}, SUM({number}) FROM {row} GROUP BY {kind}",
    ),
    (
        (
            "For which {kind} is the average {number} above {limit}?",
            "Which {kind} has a mean {number} of more than {limit}?",
        ),
        "SELECT {kind} FROM {row} GROUP BY {kind} HAVING AVG({number}) > {limit}",
    ),
    (
        ("Which different {kind} do the {rows} have?", "List each {kind} once."),
        "SELECT DISTINCT {kind} FROM {row}",
    ),
    (
        (
            "Give the {name} of the {rows} that have more {number} than the average.",
            "Which {rows} lie above the average {number}? Give the {name}.",
        ),
        "SELECT {name} FROM {row} WHERE {number} > (SELECT AVG({number}) FROM {row})",
    ),
)


@dataclass(frozen=True)
class Table:
    """A line of tables.txt. `numbers`: column → the highest that is asked for."""

    row: str
    rows: str
    name: str
    kind: str
    values: tuple[str, ...]
    numbers: dict[str, int]

    @property
    def schema(self) -> str:
        """The statement that makes it."""
        numbers = ", ".join(f"{column} INTEGER" for column in self.numbers)
        return f"CREATE TABLE {self.row} ({self.name} TEXT, {self.kind} TEXT, {numbers})"


def read_tables() -> dict[str, list[Table]]:
    """The tables of each split."""
    found: dict[str, list[Table]] = {}
    for line in (HERE / "tables.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            tables = found.setdefault(line.strip("[]"), [])
        elif not line.startswith("#"):
            tables.append(table(line))
    return found


def table(line: str) -> Table:
    """Read one line."""
    words, columns = line.split(": ")
    row, rows = words.split(", ")
    name, kinds, numbers = columns.split("; ")
    kind, values = kinds.split(" = ")
    highest = dict(number.split(" ") for number in numbers.split(", "))
    return Table(
        row, rows, name, kind, tuple(values.split(", ")), {column: int(most) for column, most in highest.items()}
    )


def row(of: Table, ways: tuple[str, ...], answer: str, rng: random.Random) -> dict[str, str]:
    """One question about a table."""
    number = rng.choice(list(of.numbers))
    words = {
        "row": of.row, "rows": of.rows, "name": of.name, "kind": of.kind, "number": number,
        "value": rng.choice(of.values), "limit": rng.randrange(1, of.numbers[number]),
    }  # fmt: skip
    return {"prompt": f"{of.schema}\n{rng.choice(ways).format(**words)}", "completion": answer.format(**words)}


def main(directory: Path) -> None:
    """Write both files into the directory."""
    rng = random.Random(SEED)
    for split, tables in read_tables().items():
        rows = [row(of, *kind, rng) for of in tables for kind in KINDS for _ in range(PER_KIND[split])]
        rng.shuffle(rows)
        # Two questions may have come out alike.
        lines = dict.fromkeys(json.dumps(each, ensure_ascii=False) + "\n" for each in rows)
        (directory / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
