"""Which test rows were seen in training, exactly or nearly, and which of the others are evaluated.

Called by `stages.evaluate`. `foreseen` tells exact ones by a digest of the same, which `data.batch` makes. Pure.

A model that repeats what it has learned by heart is right for the wrong reason, so such rows are left out, and counted.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from finetune_trainer.evaluation.contenders import INSTRUCTING, Message, Question

# Rows are near duplicates when they share this much (Jaccard) of their shingles, runs of so many characters: the rule
# of Lee et al., "Deduplicating Training Data Makes Language Models Better" (2022), with exact counts in place of
# MinHash, and on characters since rows are short. The threshold is ours.
SIMILARITY = 0.9
SHINGLE = 5
# Of a shorter text one other letter may make another question.
SHORTEST = 20
# In so many rows of train, or in half of them, a text may stand by chance.
FEW = 10
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
    exact = near = 0
    while left and len(kept) < size:
        some, left = left[: size - len(kept)], left[size - len(kept) :]
        seen = _seen({_text(test[row]) for row in some}, train)
        kept += [row for row in some if _text(test[row]) not in seen]
        alike = [seen[text] for row in some if (text := _text(test[row])) in seen]
        exact, near = exact + alike.count(EXACTLY), near + alike.count(NEARLY)
    return Clean(tuple(test[row] for row in sorted(kept)), exact, near)


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
    exact = {text for row in train if (text := _text(row)) in asked}
    return dict.fromkeys(exact, EXACTLY) | dict.fromkeys(_near(asked - exact, train), NEARLY)


def _near(asked: set[str], train: Sequence[Question]) -> set[str]:
    """The texts of which a row of train is a near duplicate."""
    whole = {text: _shingles(text) for text in sorted(asked) if len(text) >= SHORTEST}
    common = _common(set().union(*whole.values()), train)
    own = {text: shingles - common for text, shingles in whole.items()}
    holders: defaultdict[str, list[str]] = defaultdict(list)
    for text, shingles in own.items():
        for shingle in shingles:
            holders[shingle].append(text)
    near: set[str] = set()
    for row in train:
        if len(told := _text(row)) >= SHORTEST:
            theirs = _shingles(told) - common
            shared = Counter(text for shingle in theirs for text in holders.get(shingle, ()))
            alike = {text: both / (len(theirs) + len(own[text]) - both) for text, both in shared.items()}
            near |= {text for text, share in alike.items() if share >= SIMILARITY}
    return near


def _common(shingles: set[str], train: Sequence[Question]) -> set[str]:
    """Shingles that most rows of train have: an instruction's, which every row repeats, and which make none alike."""
    held = dict.fromkeys(shingles, 0)
    for row in train:
        for shingle in held.keys() & _shingles(_text(row)):
            held[shingle] += 1
    return {shingle for shingle, rows in held.items() if rows > max(FEW, len(train) / 2)}


def _shingles(text: str) -> set[str]:
    return {text[start : start + SHINGLE] for start in range(len(text) - SHINGLE + 1)}
