"""Lines become examples, a batch at a time: in this process, or where there are many in one for each core.

Called by `gather`. What costs time is done here, and processes hand it on in files: rows are checked, rendered,
tokenized, and looked at by themselves.
"""

import os
import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TypeVar

import pyarrow as pa

from finetune_trainer.contract.config import Format, ModelConfig
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data import base, examples, notices, sensitive, spool, tokens
from finetune_trainer.data.base import Base
from finetune_trainer.data.examples import Checked, Example, Shape
from finetune_trainer.data.line import Line
from finetune_trainer.data.notices import Odd
from finetune_trainer.data.tokens import Tokenizer, Tokens
from finetune_trainer.evaluation import leakage

T = TypeVar("T")
# Rows of a batch: enough to be worth its way between processes, and few enough to tell how far it is.
BATCH = 512
# The batches that take about as long here as other processes take to start; fewer would not be worth these.
HERE = 16


@dataclass(frozen=True)
class Reading:
    """How lines become examples. `special`: the model's special tokens. `learn`: they are trained, not only asked.

    `private`: they are searched for secrets and personal data.
    """

    shape: Shape
    special: tuple[str, ...] = ()
    learn: bool = True
    private: bool = True

    @property
    def odd(self) -> tuple[str, ...]:
        """The special tokens that are odd in a row: text may be a conversation as the template would write it."""
        return () if self.shape.format == Format.TEXT else self.special


@dataclass(frozen=True)
class Made:
    """What a batch of so many rows became: the faults, or without any the examples and what is odd about each."""

    rows: int
    faults: tuple[str, ...]
    examples: pa.RecordBatch
    lengths: tuple[int, ...]
    odd: tuple[Odd, ...]


def make(lines: Sequence[Line], reading: Reading, tokenizer: Tokenizer) -> Made:
    """Check a batch, and tokenize it where nothing is wrong."""
    good: list[Checked] = []
    faults: list[str] = []
    for line in lines:
        found, checked = examples.check(line, reading.shape, tokenizer, reading.learn)
        faults += [f"{line.place}: {problem}" for problem in found]
        good += [checked] if checked else []
    kept = [] if faults else good
    made = tokens.encode([each.rendered for each in kept], tokenizer)
    # All rows have one, or none.
    avoided = tokens.encode([each.rejected for each in kept if each.rejected], tokenizer)
    rejected: Sequence[Tokens | None] = avoided or [None] * len(kept)
    rows = [
        Example(row.line, row.place, found, other, row.desirable, _asked(row))
        for row, found, other in zip(kept, made, rejected, strict=True)
    ]
    return Made(
        rows=len(lines),
        faults=tuple(faults),
        examples=spool.pack(rows),
        lengths=tuple(max(map(len, row.sequences)) for row in rows),
        odd=tuple(_look(each, reading) for each in kept),
    )


def _asked(row: Checked) -> bytes | None:
    """Here, where there is a process for each core: by it rows of test are known that train has, too."""
    if "text" in row.row:
        return None
    return leakage.fingerprint(row.row["messages"][:-1] if "messages" in row.row else row.row["prompt"])


def _look(row: Checked, reading: Reading) -> Odd:
    return notices.look(row.row, reading.odd, sensitive.kinds(row.line) if reading.private else ())


def each(
    lines: Iterable[Line], reading: Reading, found: Base, model: tuple[Path, ModelConfig], between: Path
) -> Iterator[Made]:
    """Every batch, in order. `model`: where other processes find the base model that was read as `found`.

    `between`: a directory for what they hand on; a batch lies there until it is taken.
    """
    left = batches(lines, BATCH)
    for batch in islice(left, HERE):
        yield make(batch, reading, found)
    for batch in left:
        yield from _spread(chain([batch], left), reading, model, between)


def _spread(
    left: Iterator[list[Line]], reading: Reading, model: tuple[Path, ModelConfig], between: Path
) -> Iterator[Made]:
    # Not worth its import for a small dataset.
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    # As many as there are cores, or as the container may use; twice as many batches are under way.
    spread = Parallel(n_jobs=-1, return_as="generator", batch_size=1, max_nbytes=None)
    between.mkdir(parents=True, exist_ok=True)
    try:
        for file in spread(delayed(_make)(batch, reading, *model, between) for batch in left):
            made = pickle.loads(file.read_bytes())  # noqa: S301, a process of ours wrote it
            file.unlink()
            yield made
    except BrokenProcessPool as error:
        raise StageError(
            Outcome.OUT_OF_MEMORY,
            "One of the processes that made tokens of the dataset was killed, which is done when memory is full: raise "
            "the memory in training.resources.",
        ) from error


def _make(lines: list[Line], reading: Reading, directory: Path, config: ModelConfig, between: Path) -> Path:
    """`make` in another process, which reads the base model once. The file in `between` that has what it made.

    The processes share one pipe: if one is killed with half of what it made in there, the reader waits forever for the
    rest. A path is written at once.
    """
    made = make(lines, reading, _base(directory, config))
    with NamedTemporaryFile(dir=between, suffix=".batch", delete=False) as file:
        pickle.dump(made, file, pickle.HIGHEST_PROTOCOL)
    return Path(file.name)


@cache
def _base(directory: Path, config: ModelConfig) -> Base:
    # There is a process for each core.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return base.read(directory, config)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items, `size` at a time."""
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch
