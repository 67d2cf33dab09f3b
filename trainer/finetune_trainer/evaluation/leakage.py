"""Which test rows were seen in training, exactly or nearly, and which of the others are evaluated.

Called by `testset`. `foreseen` tells exact ones by a digest of the same, which `data.batch` makes. Pure.

A model that repeats what it has learned by heart is right for the wrong reason, so such rows are left out, and counted.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from finetune_trainer.evaluation import near
from finetune_trainer.evaluation.contenders import INSTRUCTING, Message, Question

EXACTLY, NEARLY = "exactly", "nearly"


@dataclass(frozen=True)
class Clean:
    """The rows of test that are asked, and how many that were looked at train has exactly and nearly."""

    kept: tuple[Question, ...]
    exact: int
    near: int


def without_leaks(test: Sequence[Question], train: Sequence[Question], size: int, seed: int) -> Clean:
    """At most `size` rows of `test` that don't stand in `train`, chosen by the seed and their content, in their order.

    Rows are compared by what is asked, without case and extra white space, and no more of them than it takes.
    """
    left = sorted(range(len(test)), key=lambda row: _rank(test[row], seed))
    kept: list[int] = []
    exact = nearly = 0
    while left and len(kept) < size:
        some, left = left[: size - len(kept)], left[size - len(kept) :]
        seen = _seen({_text(test[row]) for row in some}, train)
        kept += [row for row in some if _text(test[row]) not in seen]
        alike = [seen[text] for row in some if (text := _text(test[row])) in seen]
        exact, nearly = exact + alike.count(EXACTLY), nearly + alike.count(NEARLY)
    return Clean(tuple(test[row] for row in sorted(kept)), exact, nearly)


def fingerprint(prompt: str | Sequence[Message]) -> bytes:
    """Eight bytes of a digest of what a row asks: rows that are exactly alike have the same."""
    return hashlib.blake2b(_said(prompt).encode(), digest_size=8).digest()


def _rank(question: Question, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\n{_text(question)}\n{question.reference}".encode()).digest()


def _text(question: Question) -> str:
    return _said(question.prompt)


def _said(prompt: str | Sequence[Message]) -> str:
    """What was asked, in all its turns; a system message is the same in every row."""
    if isinstance(prompt, str):
        asked = prompt
    else:
        turns = (message for message in prompt if message["role"] not in INSTRUCTING)
        asked = "\n".join(str(message.get("content") or "") for message in turns)
    return " ".join(asked.casefold().split())


def _seen(asked: set[str], train: Sequence[Question]) -> dict[str, str]:
    """Which of these texts stand in train, EXACTLY or NEARLY. Of train no more is held than there is already."""
    exact, nearly = near.found(asked, lambda: map(_text, train), len(train))
    return dict.fromkeys(exact, EXACTLY) | dict.fromkeys(nearly, NEARLY)
