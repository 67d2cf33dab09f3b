"""What of a split is trained: its rows cut to the plan's length, without those that teach nothing, in a file of tokens.

Called by `prepare`; `training.rows` reads the file, memory-mapped. Nothing is cut or left out in silence: `findings`
tell how many rows and where the first of them stand.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from finetune_trainer.data.batch import batches
from finetune_trainer.data.examples import Example
from finetune_trainer.data.findings import Finding, Places
from finetune_trainer.data.spool import lists

SCHEMA = pa.schema(
    [("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32())), ("place", pa.string())],
)
# Rows that are written at once.
BATCH = 1_000


@dataclass
class Trained:
    """How many rows of a split are trained, with how many tokens, and which were cut or have nothing to learn.

    `learned`: how many of the tokens are.
    """

    rows: int = 0
    tokens: int = 0
    learned: int = 0
    cut: Places = field(default_factory=Places)
    teaching_nothing: Places = field(default_factory=Places)

    def fit(self, row: Example, longest: int) -> Example | None:
        """The row as it is trained, none longer than `longest` tokens; None when that teaches nothing."""
        tokens = row.tokens.cut(longest)
        if not tokens.learned:
            self.teaching_nothing.add(row.place)
            return None
        if len(tokens) < len(row.tokens):
            self.cut.add(row.place)
        self.rows += 1
        self.tokens += len(tokens)
        self.learned += sum(end - start for start, end in tokens.learned)
        return replace(row, tokens=tokens)


def write(path: Path, rows: Iterable[Example], longest: int) -> Trained:
    """Write what is trained of the rows as an Arrow IPC stream."""
    found = Trained()
    fitting = (kept for row in rows if (kept := found.fit(row, longest)))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as stream:
        for batch in batches(fitting, BATCH):
            stream.write_batch(_batch(batch))
    return found


def findings(split: str, found: Trained, longest: int) -> Iterator[Finding]:
    """What happened to rows of a split."""
    if found.cut.count:
        many = _rows(found.cut, split, "is", "are")
        yield found.cut.finding("cut", f"{many} longer than maxLength ({longest} tokens) and cut")
    if found.teaching_nothing.count:
        many = _rows(found.teaching_nothing, split, "is", "are")
        yield found.teaching_nothing.finding("teachingNothing", f"{many} left out, with no answer left to learn")


def _rows(places: Places, split: str, one: str, more: str) -> str:
    return f"1 row of {split} {one}" if places.count == 1 else f"{places.count} rows of {split} {more}"


def _batch(rows: Sequence[Example]) -> pa.RecordBatch:
    ids = lists([row.tokens.ids for row in rows])
    labels = lists([row.tokens.labels for row in rows])
    return pa.record_batch([ids, labels, pa.array([row.place for row in rows])], schema=SCHEMA)
