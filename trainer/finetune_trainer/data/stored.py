"""What prepare leaves of the rows: those that are trained as tokens, those that are asked as text, and a digest of all.

Called by `prepare`, once everything about them is known.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from finetune_trainer.contract.config import Workspace
from finetune_trainer.data import trained
from finetune_trainer.data.spool import Spool
from finetune_trainer.data.trained import Trained

# Evaluation takes its examples from train.
LEARNED, ASKED = ("train", "validation"), ("train", "test")


@dataclass(frozen=True)
class Stored:
    """How many rows each split has, and what became of those that are trained. `digest`: of all rows."""

    rows: dict[str, int]
    learned: dict[str, Trained]
    digest: str


class _Passed:
    """The rows of a split that went by. `count`: of those that can be asked."""

    def __init__(self) -> None:
        self.count = 0
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def through(self, rows: Iterable[pa.RecordBatch], file: BinaryIO | None) -> Iterator[pa.RecordBatch]:
        """The same rows, written as text on their way where there is a file, but for those whose answer is bad."""
        for batch in rows:
            self._digest.update(_text(batch))
            asked = batch.filter(pc.fill_null(batch.column("desirable"), True))
            self.count += asked.num_rows
            if file:
                file.write(_text(asked))
            yield batch


def _text(batch: pa.RecordBatch) -> bytes:
    return b"".join(batch.column("line").to_pylist())


def store(splits: dict[str, Spool], longest: int, workspace: Workspace) -> Stored:
    """Write all splits, going through each of them once. What is trained is cut to `longest` tokens."""
    workspace.data.mkdir(parents=True, exist_ok=True)
    for left in workspace.data.iterdir():
        left.unlink()
    passed = {name: _Passed() for name in sorted(splits)}
    learned: dict[str, Trained] = {}
    for name, counted in passed.items():
        with workspace.rows(name).open("wb") if name in ASKED else nullcontext() as file:
            rows = counted.through(splits[name].batches(), file)
            if name in LEARNED:
                learned[name] = trained.write(workspace.learned(name), rows, longest)
            else:
                deque(rows, maxlen=0)
    digests = "".join(f"{name} {counted.digest}\n" for name, counted in passed.items())
    digest = f"sha256:{hashlib.sha256(digests.encode()).hexdigest()}"
    return Stored({name: counted.count for name, counted in passed.items()}, learned, digest)
