"""What of a split is trained: its rows cut to the plan's length, without those that teach nothing, in a file of tokens.

Called by `prepare`; `training.rows` reads the file, memory-mapped. Nothing is cut or left out in silence: `findings`
tell how many rows and where the first of them stand.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import pyarrow as pa

from finetune_trainer.data import tokens
from finetune_trainer.data.batch import batches
from finetune_trainer.data.examples import Example
from finetune_trainer.data.findings import Finding, Places
from finetune_trainer.data.spool import lists

IDS = pa.list_(pa.int32())
SCHEMA = pa.schema([("input_ids", IDS), ("labels", IDS), ("place", pa.string())])
# Of rows of preference: the columns above have the chosen answer, the others the rejected one.
PAIRS = pa.schema([*SCHEMA, ("other_input_ids", IDS), ("other_labels", IDS)])
# Of unpaired ones the others have the same prompt with another row's answer.
UNPAIRED = pa.schema([*PAIRS, ("desirable", pa.bool_())])
# Rows that are written at once.
BATCH = 1_000


@dataclass
class Trained:
    """How many rows of a split are trained, with how many tokens, and which were cut or have nothing to learn.

    `alike`: rows of preference without a difference. `learned`: how many of the tokens are.
    """

    rows: int = 0
    tokens: int = 0
    learned: int = 0
    cut: Places = field(default_factory=Places)
    teaching_nothing: Places = field(default_factory=Places)
    alike: Places = field(default_factory=Places)

    @property
    def left_out(self) -> int:
        """Rows that are not trained."""
        return self.teaching_nothing.count + self.alike.count

    def fit(self, row: Example, longest: int) -> Example | None:
        """The row as it is trained, none longer than `longest` tokens; None when that teaches nothing."""
        found = replace(row, tokens=row.tokens.cut(longest), rejected=row.rejected and row.rejected.cut(longest))
        if not all(each.learned for each in found.sequences):
            self.teaching_nothing.add(row.place)
            return None
        if found.tokens == found.rejected:
            self.alike.add(row.place)
            return None
        count = sum(map(len, found.sequences))
        if count < sum(map(len, row.sequences)):
            self.cut.add(row.place)
        self.rows += 1
        self.tokens += count
        self.learned += sum(end - start for each in found.sequences for start, end in each.learned)
        return found


def write(path: Path, rows: Iterable[Example], longest: int) -> Trained:
    """Write what is trained of the rows as an Arrow IPC stream."""
    found = Trained()
    fitting = (kept for row in rows if (kept := found.fit(row, longest)))
    first = next(fitting, None)
    there: Iterator[Example] = chain([first] if first else [], fitting)
    schema = PAIRS if first and first.rejected else SCHEMA
    if first and first.desirable is not None:
        schema, there = UNPAIRED, _with_unrelated(there, longest)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        for batch in batches(there, BATCH):
            stream.write_batch(pa.record_batch(list(_columns(batch)), schema=schema))
    return found


def _with_unrelated(rows: Iterator[Example], longest: int) -> Iterator[Example]:
    """Each row with the answer of the one before it beside its own, as TRL has them; the first row comes last."""
    first = before = next(rows)
    for row in chain(rows, [first]):
        yield replace(row, rejected=tokens.unrelated(row.tokens, before.tokens, longest))
        before = row


def findings(split: str, found: Trained, longest: int) -> Iterator[Finding]:
    """What happened to rows of a split."""
    if found.cut.count:
        many = _rows(found.cut, split, "is", "are")
        yield found.cut.finding("cut", f"{many} longer than maxLength ({longest} tokens) and cut")
    if found.teaching_nothing.count:
        many = _rows(found.teaching_nothing, split, "is", "are")
        yield found.teaching_nothing.finding("teachingNothing", f"{many} left out, with no answer left to learn")
    if found.alike.count:
        many = _rows(found.alike, split, "is", "are")
        yield found.alike.finding(
            "alike",
            f"{many} left out, whose chosen and rejected answers are the same up to maxLength ({longest} tokens)",
        )


def _rows(places: Places, split: str, one: str, more: str) -> str:
    return f"1 row of {split} {one}" if places.count == 1 else f"{places.count} rows of {split} {more}"


def _columns(rows: Sequence[Example]) -> Iterator[pa.Array]:
    yield lists([row.tokens.ids for row in rows])
    yield lists([row.tokens.labels for row in rows])
    yield pa.array([row.place for row in rows])
    if rejected := [row.rejected for row in rows if row.rejected]:
        yield lists([each.ids for each in rejected])
        yield lists([each.labels for each in rejected])
    if rows[0].desirable is not None:
        yield pa.array([row.desirable for row in rows])
