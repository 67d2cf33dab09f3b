"""What can be told of a measurement before training: rows of test that train has too, and those that fit no context.

Called by `prepare`. Pure, but for the tokenizer. Rows of train stream; those of test are read once, and held.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from finetune_trainer.contract.config import EvaluationConfig, Method, Metric
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data.base import Base
from finetune_trainer.data.examples import Example
from finetune_trainer.data.findings import Finding, Places
from finetune_trainer.evaluation import contenders
from finetune_trainer.evaluation.contenders import END_TOKENS, Framing, Prompt, Question


@dataclass(frozen=True)
class HeldOutRow:
    """A row of test where it stands, and how many tokens it has with its longest answer. `digest`: of what it asks."""

    place: str
    tokens: int
    question: Question
    digest: bytes | None


def asked(test: Iterable[Example]) -> list[HeldOutRow]:
    """The rows of test that can be asked: of labelled answers the good ones alone are right."""
    return [
        HeldOutRow(row.place, max(map(len, row.sequences)), contenders.read(row.line), row.asked)
        for row in test
        if row.desirable is not False
    ]


@dataclass(frozen=True)
class ContextLength:
    """Tokens that the engine has by default, and those that the model could have."""

    planned: int
    longest: int


def findings(
    test: Sequence[HeldOutRow],
    train: Iterable[bytes | None],
    context: ContextLength,
    base: Base,
    evaluation: EvaluationConfig,
    method: Method,
) -> list[Finding]:
    """What the measurement will leave out, or count as wrong. `train`: digests of what its rows ask."""
    if not test:
        return []
    needs = Needs(base, evaluation)
    found = [leaked(test, train), too_long(test, context, needs.asked if method.writes else needs.rated)]
    if Metric.REWARD_ACCURACY in evaluation.metrics:
        found.append(too_long_rejected(test, context, needs))
    return [each for each in found if each]


def leaked(test: Sequence[HeldOutRow], train: Iterable[bytes | None]) -> Finding | None:
    """Rows of test that stand in train too, of which these are digests. Raises StageError when all do."""
    known = {row.digest for row in test}
    seen = known.intersection(train)
    places = Places()
    for row in test:
        if row.digest in seen:
            places.add(row.place)
    if not places.count:
        return None
    if places.count == len(test):
        raise StageError(
            Outcome.DATA_INVALID,
            f"All {len(test)} rows of test stand in train too ({', '.join(places.first)}), so nothing would be left "
            "to evaluate with: give dataset.test rows that train does not have, or set evaluation.enabled to false.",
        )
    one, more = "1 row of test stands in train too and is", f"{places.count} rows of test stand in train too and are"
    return places.finding("leaked", f"{one if places.count == 1 else more} left out when the result is measured")


def too_long(test: Sequence[HeldOutRow], context: ContextLength, need: Callable[[Question], int]) -> Finding | None:
    """Rows of test that can't be asked: prompt and room for the right answer are more than the context.

    Of a reward model the longer answer, since it rates both. `need`: how many tokens a row takes.
    """
    places, most = _beyond(test, context, need)
    if not places.count:
        return None
    one, more = "1 row of test needs", f"{places.count} rows of test need up to"
    wrong = "it counts" if places.count == 1 else "they count"
    return places.finding(
        "tooLong",
        f"{one if places.count == 1 else more} {most} tokens for prompt and answer, where the context has "
        f"{context.planned}: not asked, {wrong} as answered wrong, {_mend(most, context)}",
    )


def too_long_rejected(test: Sequence[HeldOutRow], context: ContextLength, needs: "Needs") -> Finding | None:
    """Rows of test that can be asked, and whose rejected answer does not fit the context: how likely it is, is told of
    what fits.
    """

    def need(question: Question) -> int:
        return needs.avoided(question) if needs.asked(question) <= context.planned else 0

    places, most = _beyond(test, context, need)
    if not places.count:
        return None
    one, more = "1 row of test has a rejected answer that needs", f"{places.count} rows of test have rejected answers"
    return places.finding(
        "rejectedTooLong",
        f"{one if places.count == 1 else f'{more} that need up to'} {most} tokens with the prompt, where the context "
        f"has {context.planned}: reward_accuracy compares as much of it as fits, {_mend(most, context)}",
    )


def _beyond(test: Sequence[HeldOutRow], context: ContextLength, need: Callable[[Question], int]) -> tuple[Places, int]:
    """The rows that need more than the context, and the most that one needs."""
    places, most = Places(), 0
    for row in test:
        # Only of a row that may be too long it is counted what it needs.
        if row.tokens + END_TOKENS > context.planned and (found := need(row.question)) > context.planned:
            places.add(row.place)
            most = max(most, found)
    return places, most


def _mend(most: int, context: ContextLength) -> str:
    if most <= context.longest:
        return f"unless hosting.contextLength is {most} or more"
    return f"and the model has no more than {context.longest}, so shorten or remove what is longer"


class Needs:
    """Tokens that a question needs of the context."""

    def __init__(self, base: Base, evaluation: EvaluationConfig) -> None:
        self._count, self._most = base.count, evaluation.max_answer_tokens
        self._tokenizer = base.tokenizer
        self._framing = contenders.template(evaluation.chat_template_kwargs) if base.chat else Framing()

    def asked(self, question: Question) -> int:
        """Its prompt alone, and room for the right answer, as `contenders.fit` has it."""
        answer = self._count(question.reference) + END_TOKENS
        prompt = contenders.measure_with(self._tokenizer)(self._prompt(question))
        return prompt + (min(answer, self._most) if self._most else answer)

    def rated(self, question: Question) -> int:
        """Its prompt with the longer answer behind it, as `ranking` sends it."""
        return max(contenders.tokens_with(self._tokenizer, self._prompt(question), each) for each in question.answers)

    def avoided(self, question: Question) -> int:
        """Its prompt with the rejected answer, and the one token that the engine wants room for behind it."""
        return contenders.tokens_with(self._tokenizer, self._prompt(question), question.answers[1]) + 1

    def _prompt(self, question: Question) -> Prompt:
        return contenders.with_examples(question, (), self._framing)
