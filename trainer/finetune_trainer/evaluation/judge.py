"""Another model as the judge of answers, behind an OpenAI-compatible endpoint of its own.

Called by `others`, for the metric judge. It is asked which of two answers is better, a contender's or the reference,
and again with their places swapped, since judges favour a place (Zheng et al. 2023, "Judging LLM-as-a-Judge with
MT-Bench and Chatbot Arena"). Before anything else it is asked something easy (`probe`).
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import openai

from finetune_trainer.contract.config import EndpointConfig
from finetune_trainer.evaluation.contenders import Question
from finetune_trainer.evaluation.endpoint import Endpoint, Response, ResponseFile, choice_of, digest, key_of
from finetune_trainer.evaluation.manner import BRIEF, Manner, understood

INSTRUCTION = (
    "You compare two answers to the same request. Judge how correct, complete and helpful they are; neither their "
    "order nor their length matters. Reply with one word: A if the first is better, B if the second is, or tie."
)
MEND = "Mend evaluation.judge: its url, model and credentials."
# Room for one word.
WORD_TOKENS = 8
THOUGHT = "</THINK>"
# What a place in the comparison is worth to the answer that stands first.
WORTH = {"A": 1.0, "B": 0.0, "TIE": 0.5}


@dataclass(frozen=True)
class PairwiseRequest:
    """Which of two answers to one question is better."""

    model: str
    asked: str
    first: str
    second: str

    @property
    def key(self) -> str:
        """A digest of all that the judgement depends on."""
        return digest(self.model, self.asked, self.first, self.second)


class Judgement(Response):
    """One line of judgements.jsonl. `winner`: A, B or TIE; None when the judge said something else."""

    winner: str | None


@dataclass(frozen=True)
class Judged:
    """By row how much better an answer is than the reference: 1 better, 0.5 as good, 0 worse.

    `unread`: judgements that named neither answer nor a tie, and count as ties.
    """

    scores: tuple[float, ...]
    unread: int


class Judge:
    """The judge, and what it said before. Raises StageError when it says no more."""

    def __init__(self, config: EndpointConfig, file: Path) -> None:
        self._endpoint = Endpoint("The judge", config.url, key_of("JUDGE"), MEND)
        self._model = config.model
        self._kept = ResponseFile(Judgement, file)
        self._manner = BRIEF

    def probe(self) -> None:
        """Ask it something easy, and from then on in the manner that it understood."""
        self._manner = asyncio.run(self._probe())

    async def _probe(self) -> Manner:
        easy = PairwiseRequest(self._model, "How much is two and two?", "Four.", "I like cheese.")
        async with self._endpoint.client(kept="") as client:

            async def ask(manner: Manner) -> bool:
                return (await _judge(manner, client, easy)).winner is not None

            return await understood(self._endpoint.name, ask)

    def judged(self, questions: Sequence[Question], predictions: Sequence[str], told: Callable[[int], None]) -> Judged:
        """Each answer held against its question's reference."""
        pairs = list(zip(questions, predictions, strict=True))
        # The same text needs no judge.
        duels = [self._duel(question, prediction) for question, prediction in pairs if prediction != question.reference]
        found = self._endpoint.ask(
            [each for duel in duels for each in duel], self._kept, partial(_judge, self._manner), told
        )
        both = zip(found[::2], found[1::2], strict=True)
        worth = iter([(_worth(ours) + 1 - _worth(swapped)) / 2 for ours, swapped in both])
        unread = sum(judgement.winner is None for judgement in found)
        scores = tuple(0.5 if prediction == question.reference else next(worth) for question, prediction in pairs)
        return Judged(scores, unread)

    def _duel(self, question: Question, prediction: str) -> tuple[PairwiseRequest, PairwiseRequest]:
        asked = question.text
        return (
            PairwiseRequest(self._model, asked, prediction, question.reference),
            PairwiseRequest(self._model, asked, question.reference, prediction),
        )


def _worth(judgement: Judgement) -> float:
    return WORTH[judgement.winner or "TIE"]


async def _judge(manner: Manner, client: openai.AsyncOpenAI, asked: PairwiseRequest) -> Judgement:
    text = f"Request:\n{asked.asked}\n\nAnswer A:\n{asked.first}\n\nAnswer B:\n{asked.second}\n\nWhich is better?"
    messages: Any = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": text}]
    options = manner.options(WORD_TOKENS)
    completion = await client.chat.completions.create(model=asked.model, messages=messages, **options)
    words = (choice_of(completion).message.content or "").upper().rpartition(THOUGHT)[2].split()
    said = words[0].strip(".,:;*\"'()[]") if words else ""
    return Judgement(key=asked.key, winner=said if said in WORTH else None)
