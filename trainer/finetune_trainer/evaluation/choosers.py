"""Which rows of train stand as examples in a baseline's prompts.

Called by `stages.evaluate`, which also finds by it the rows of train that are most like one that got worse. Pure: the
same rows and seed choose the same. Train may be larger than memory: what is held of it is an index.
"""

import hashlib
import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy
import numpy.typing

from finetune_trainer.contract.config import BaselineConfig, BaselineType
from finetune_trainer.evaluation.contenders import Question
from finetune_trainer.evaluation.words import TOKEN

Chooser = Callable[[Question], Sequence[Question]]
Scores = numpy.typing.NDArray[Any]


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
    fixed = heapq.nsmallest(count, compress(train, _distinct(train)), key=lambda row: _fingerprint(row, seed))
    return lambda question: fixed


def retrieval(train: Sequence[Question], count: int) -> Chooser:
    """The `count` rows whose questions are most like this one by BM25; the most similar stands last, nearest to it.

    BM25 as Lucene has it (bm25s' default). Rows that score alike come in the order of train; a question that shares no
    word with train gets its first rows.
    """
    distinct = _distinct(train)
    rows: list[int] = numpy.flatnonzero(distinct).tolist()
    similar = _similar(row.asked for row in compress(train, distinct))

    def choose(question: Question) -> Sequence[Question]:
        best = numpy.argsort(-similar(question.asked), kind="stable")[:count]
        return [train[rows[at]] for at in reversed(best)]

    return choose


def _similar(texts: Iterable[str]) -> Callable[[str], Scores]:
    """How similar each of the texts is to another one, by BM25."""
    corpus = _tokenized(texts, return_ids=True)
    nothing = numpy.zeros(len(corpus.ids))
    # bm25s fails on texts without any word, such as sums of single digits.
    if not any(corpus.ids):
        return lambda asked: nothing
    index = _bm25s().BM25()
    index.index(corpus, show_progress=False)

    def scores(asked: str) -> Scores:
        words = [word for word in _tokenized([asked], return_ids=False)[0] if word in index.vocab_dict]
        found: Scores = index.get_scores(words) if words else nothing
        return found

    return scores


def _tokenized(texts: Iterable[str], return_ids: bool) -> Any:
    """Each text's words, or their numbers, which an index is made of. The texts may be read as they come."""
    return _bm25s().tokenize(texts, token_pattern=TOKEN, stopwords=None, return_ids=return_ids, show_progress=False)


def _bm25s() -> Any:
    """It brings numba and scipy, a second to import, and prepare retrieves nothing."""
    import bm25s

    return bm25s


def _distinct(rows: Sequence[Question]) -> numpy.typing.NDArray[numpy.bool]:
    """Of each question and answer the first row alone: an example twice in a prompt is an example wasted."""
    prints = numpy.fromiter((int.from_bytes(_fingerprint(row, 0)[:8]) for row in rows), numpy.uint64)
    found = numpy.zeros(len(rows), numpy.bool)
    found[numpy.unique(prints, return_index=True)[1]] = True
    return found


def _fingerprint(row: Question, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\n{row.asked}\n{row.reference}".encode()).digest()
