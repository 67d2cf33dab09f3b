"""Rows made examples as prepare makes them, with a tokenizer of the test's own."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from finetune_trainer.data import batch
from finetune_trainer.data.batch import BATCH, Made, Reading, batches
from finetune_trainer.data.examples import Example, Shape
from finetune_trainer.data.findings import Finding
from finetune_trainer.data.gather import gather
from finetune_trainer.data.line import Line
from finetune_trainer.data.tokens import Tokenizer
from letters import Letters


def gathered(
    lines: Iterable[Line],
    shape: Shape,
    uri: str = "s3://bucket/train.jsonl",
    tokenizer: Tokenizer | None = None,
    special: tuple[str, ...] = (),
) -> tuple[list[Example], list[Finding]]:
    """The examples, and what is odd about the rows."""
    reading = Reading(shape, special)

    def made(left: Iterable[Line]) -> Iterable[Made]:
        return (batch.make(lines, reading, tokenizer or Letters()) for lines in batches(left, BATCH))

    with tempfile.TemporaryDirectory() as directory:
        found, odd = gather(lines, uri, reading, made, Path(directory) / "train.arrow")
        return list(found), odd
