"""Which rows of train stand as examples in a baseline's prompts.

Called by `stages.evaluate`, which also finds by it the rows of train that are most like one that got worse. Pure: the
same rows and seed choose the same.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from finetune_trainer.contract.config import BaselineConfig, BaselineType
from finetune_trainer.evaluation.contenders import Question
from finetune_trainer.evaluation.words import TOKEN

Chooser = Callable[[Question], Sequence[Question]]


@dataclass(frozen=True)
class Choosers:
    """The chooser of each baseline, from the rows of train."""

    train: Sequence[Question]
    seed: int

    def of(self, baseline: BaselineConfig) -> Chooser:
        """The one that this baseline asks for."""
        match baseline.type:
            case BaselineType.FEW_SHOT:
                return few_shot(self.train, baseline.examples, self.seed)
            case BaselineType.RETRIEVAL:
                return retrieval(self.train, baseline.examples)
            case BaselineType.ZERO_SHOT | BaselineType.STRUCTURED | BaselineType.ENDPOINT:
                return none


def none(question: Question) -> Sequence[Question]:
    """No examples: the chooser of zero-shot."""
    return ()


def few_shot(train: Sequence[Question], count: int, seed: int) -> Chooser:
    """The same `count` rows for every question, chosen by the seed."""
    fixed = sorted(_distinct(train), key=lambda row: _fingerprint(row, seed))[:count]
    return lambda question: fixed


def retrieval(train: Sequence[Question], count: int) -> Chooser:
    """The `count` rows whose questions are most like this one by BM25; the most similar stands last, nearest to it.

    BM25 as Lucene has it (bm25s' default). Rows that score alike come in the order of train; a question that shares no
    word with train gets its first rows.
    """
    rows = _distinct(train)
    similar = _similar([row.asked for row in rows])

    def choose(question: Question) -> Sequence[Question]:
        scores = similar(question.asked)
        best = sorted(range(len(rows)), key=lambda row: (-scores[row], row))[:count]
        return [rows[row] for row in reversed(best)]

    return choose


def _similar(texts: list[str]) -> Callable[[str], Sequence[float]]:
    """How similar each of the texts is to another one, by BM25."""
    nothing, corpus = [0.0] * len(texts), _words(texts)
    # bm25s fails on texts without any word, such as sums of single digits.
    if not any(corpus):
        return lambda asked: nothing
    index = _bm25s().BM25()
    index.index(corpus, show_progress=False)

    def scores(asked: str) -> Sequence[float]:
        words = [word for word in _words([asked])[0] if word in index.vocab_dict]
        return index.get_scores(words) if words else nothing

    return scores


def _words(texts: list[str]) -> list[list[str]]:
    found: list[list[str]] = _bm25s().tokenize(
        texts, token_pattern=TOKEN, stopwords=None, return_ids=False, show_progress=False
    )
    return found


def _bm25s() -> Any:
    """It brings numba and scipy, a second to import, and prepare retrieves nothing."""
    import bm25s

    return bm25s


def _distinct(rows: Sequence[Question]) -> list[Question]:
    """Each question and answer once: an example twice in a prompt is an example wasted."""
    return list({(row.asked, row.reference): row for row in rows}.values())


def _fingerprint(row: Question, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\n{row.asked}\n{row.reference}".encode()).digest()
