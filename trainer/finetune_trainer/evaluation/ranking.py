"""Which answer of a pair a reward model prefers: the engine rates both, as its clients have it rate theirs.

The stage evaluate makes a Ranking where it makes a Measuring of models that write, and asks it the same. There is one
contender: what the base model writes can't rank pairs, and with a head that has learned nothing it would guess.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openai
from pydantic import Field, ValidationError

from finetune_trainer.contract.asked import asked_at
from finetune_trainer.contract.config import Contract, EvaluationConfig, Metric, RunConfig, Workspace
from finetune_trainer.contract.results import TUNED, Benchmark, PrepareResult
from finetune_trainer.data import base
from finetune_trainer.evaluation import contenders, metrics
from finetune_trainer.evaluation.ask import WARMING, Prediction, Whom, engines, sent
from finetune_trainer.evaluation.contenders import PLAIN, TEMPLATE_KWARGS, Message, Prompt, Question, rendered
from finetune_trainer.evaluation.endpoint import CONCURRENCY, ResponseFile, Unreadable, digest
from finetune_trainer.evaluation.metrics import Statistic
from finetune_trainer.evaluation.result import ContenderPrompts, Measured, Predictions, took
from finetune_trainer.server import Reporter


@dataclass(frozen=True)
class RatingRequest:
    """One answer to one row that is to be rated, as vLLM's /classify takes it."""

    row: int
    model: str
    answer: str
    body: Message

    @property
    def key(self) -> str:
        """A digest of all that the reward depends on."""
        return digest(self.model, self.body)


class Rating(Prediction):
    """One line of ratings.jsonl: an answer to a row of test, and its reward."""

    reward: float


class _Rated(Contract, extra="ignore"):
    """A number for what was sent: of a model with one label."""

    probs: list[float] = Field(min_length=1, max_length=1)


class _Usage(Contract, extra="ignore"):
    prompt_tokens: int


class _Reply(Contract, extra="ignore"):
    data: list[_Rated] = Field(min_length=1, max_length=1)
    usage: _Usage


class Ranking:
    """Has the engine rate both answers of each row. Takes Measuring's arguments; `train` is not used."""

    def __init__(
        self,
        config: RunConfig,
        evaluation: EvaluationConfig,
        workspace: Workspace,
        whom: Whom,
        questions: Sequence[Question],
        train: Sequence[Question],
        reporter: Reporter,
    ) -> None:
        self._model, self._questions, self._reporter = whom.model, questions, reporter
        self._engine = engines(whom, ResponseFile(Prediction, workspace.answers))[whom.model]
        self._url = asked_at(whom.url, config.training.method)
        self._kept = ResponseFile(Rating, workspace.evaluations / "ratings.jsonl")
        found = base.read(workspace.base_model(config), config.model)
        self._tokenizer = found.tokenizer
        self._framing = contenders.template(evaluation.chat_template_kwargs) if found.chat else PLAIN
        planned = PrepareResult.model_validate_json(workspace.prepared.read_bytes()).plan.context_length
        self._context = self._engine.served().context_length or planned

    def all(self, chosen: Sequence[Metric]) -> list[Measured]:
        """The tuned model, by the one metric that there is for it."""
        prompts = tuple(self._fitting(question) for question in self._questions)
        asked = ContenderPrompts(TUNED, self._model, prompts, 0)
        requests = [
            self._request(row, prompt, answer)
            for row, prompt in enumerate(prompts)
            if prompt is not None
            for answer in self._questions[row].answers
        ]
        ratings = self._engine.endpoint.ask(requests, self._kept, self._rate, self._told(len(requests)), self._warm_up)
        rewards = iter(rating.reward for rating in ratings)
        pairs = [None if prompt is None else (next(rewards), next(rewards)) for prompt in prompts]
        scores = [0.0 if pair is None else ranked(*pair) for pair in pairs]
        preferred = [_preferred(question, score) for question, score in zip(self._questions, scores, strict=True)]
        predictions = Predictions(asked, tuple(preferred), took(ratings, asked))
        return [Measured(predictions, dict.fromkeys(chosen, metrics.mean(scores)))]

    def drift(self) -> Statistic | None:
        """None: it says nothing to general prompts."""
        return None

    def benchmarks(self) -> dict[str, Benchmark]:
        """None: they ask for answers."""
        return {}

    def _fitting(self, question: Question) -> Prompt | None:
        """The prompt, where the context has room for each of the answers behind it."""
        prompt = contenders.with_examples(question, (), self._framing)
        longest = max(contenders.tokens_with(self._tokenizer, prompt, each) for each in question.answers)
        return prompt if longest <= self._context else None

    def _request(self, row: int, prompt: Prompt, answer: Question) -> RatingRequest:
        if isinstance(prompt.prompt, str):
            told: Message = {"input": rendered(self._tokenizer, prompt, answer.reference)}
        else:
            said = answer.calls or {"role": "assistant", "content": answer.reference}
            told = {"messages": [sent(message) for message in (*prompt.prompt, said)]}
            # That endpoint knows no tools; its chat template does.
            tools = {"tools": list(prompt.tools)} if prompt.tools else {}
            if variables := prompt.extra.get(TEMPLATE_KWARGS, {}) | tools:
                told[TEMPLATE_KWARGS] = variables
        return RatingRequest(row, self._model, answer.reference, told)

    async def _rate(self, client: openai.AsyncOpenAI, request: RatingRequest, salt: str = TUNED) -> Rating:
        began = time.monotonic()
        # The number itself, where /classify would make a probability of it.
        body = {"model": request.model, "use_activation": False, "cache_salt": salt, **request.body}
        found = await client.post(self._url, body=body, cast_to=object)
        try:
            reply = _Reply.model_validate(found)
        except ValidationError as error:
            raise Unreadable from error
        return Rating(
            key=request.key,
            contender=TUNED,
            row=request.row,
            text=request.answer,
            prompt_tokens=reply.usage.prompt_tokens,
            completion_tokens=0,
            seconds=round(time.monotonic() - began, 4),
            reward=reply.data[0].probs[0],
        )

    async def _warm_up(self, client: openai.AsyncOpenAI, requests: Sequence[RatingRequest]) -> None:
        await asyncio.gather(*(self._rate(client, each, WARMING) for each in requests[:CONCURRENCY]))

    def _told(self, total: int) -> Any:
        return lambda there: self._reporter.update(activity="rating answers", step=there, total_steps=total)


def ranked(chosen: float, rejected: float) -> float:
    """1 where the chosen answer has the higher reward, 0 where the other has, and 0.5 for the same."""
    return float(np.sign(chosen - rejected) + 1) / 2


def _preferred(question: Question, score: float) -> str:
    """The answer that it prefers, which stands for one of its own; of equals the other one, which is not right."""
    chosen, rejected = question.answers
    return (chosen if score == 1 else rejected).reference
