"""Which test rows were seen in training, exactly or nearly, and which of the others are evaluated.

Called by `stages.evaluate`. Pure. A model that repeats what it has learned by heart is right for the wrong
reason, so such rows are left out, and counted.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from finetune_trainer.evaluation.contenders import Question

# Rows are near duplicates when they share this much (Jaccard) of their shingles, runs of so many characters: the rule
# of Lee et al., "Deduplicating Training Data Makes Language Models Better" (2022), with exact counts in place of
# MinHash, and on characters since rows are short. The threshold is ours.
SIMILARITY = 0.9
SHINGLE = 5
# Of a shorter text one other letter may make another question.
SHORTEST = 20


@dataclass(frozen=True)
class Clean:
    """The rows of test that train does not have, and how many it has exactly and nearly."""

    kept: tuple[Question, ...]
    exact: int
    near: int


def without_leaks(test: Sequence[Question], train: Sequence[Question]) -> Clean:
    """Leave out of `test` what stands in `train`, compared by what is asked, without case and extra white space."""
    known = {_text(row) for row in train}
    index = _Index(known)
    fresh = [(row, text) for row in test if (text := _text(row)) not in known]
    kept = tuple(row for row, text in fresh if not index.has_near(text))
    return Clean(kept, exact=len(test) - len(fresh), near=len(fresh) - len(kept))


def sample(questions: Sequence[Question], size: int, seed: int) -> tuple[Question, ...]:
    """At most `size` rows, chosen by the seed and their content, in their order."""
    ranked = sorted(range(len(questions)), key=lambda row: _rank(questions[row], seed))
    chosen = sorted(ranked[:size])
    return tuple(questions[row] for row in chosen)


def _rank(question: Question, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\n{_text(question)}\n{question.reference}".encode()).digest()


def _text(question: Question) -> str:
    """What was asked, in all its turns; a system message is the same in every row."""
    if isinstance(question.prompt, str):
        asked = question.prompt
    else:
        turns = (message for message in question.prompt if message["role"] != "system")
        asked = "\n".join(str(message.get("content") or "") for message in turns)
    return " ".join(asked.casefold().split())


class _Index:
    """The shingles of many texts, to find the texts that share most of another's."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._sizes: list[int] = []
        self._holders: defaultdict[str, list[int]] = defaultdict(list)
        for text in sorted(texts):
            if len(text) >= SHORTEST:
                self._add(_shingles(text))

    def _add(self, shingles: set[str]) -> None:
        for shingle in shingles:
            self._holders[shingle].append(len(self._sizes))
        self._sizes.append(len(shingles))

    def has_near(self, text: str) -> bool:
        """Whether one of the texts is a near duplicate of this one."""
        if len(text) < SHORTEST:
            return False
        shingles = _shingles(text)
        shared = Counter(number for shingle in shingles for number in self._holders.get(shingle, ()))
        return any(both / (len(shingles) + self._sizes[number] - both) >= SIMILARITY for number, both in shared.items())


def _shingles(text: str) -> set[str]:
    return {text[start : start + SHINGLE] for start in range(len(text) - SHINGLE + 1)}
