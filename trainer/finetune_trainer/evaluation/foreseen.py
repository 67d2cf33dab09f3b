"""What can be told of a measurement before training: rows of test that train has too, and those that fit no context.

Called by `prepare`. Pure, but for the tokenizer. Rows of train stream; those of test are read once, and held.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from finetune_trainer.contract.config import EvaluationConfig
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data.base import Base
from finetune_trainer.data.examples import Example
from finetune_trainer.data.findings import Finding, Places
from finetune_trainer.evaluation import contenders
from finetune_trainer.evaluation.contenders import END_TOKENS, Framing, Question


@dataclass(frozen=True)
class Asked:
    """A row of test where it stands, and how many tokens it has with its answer. `digest`: of what it asks."""

    place: str
    tokens: int
    question: Question
    digest: bytes | None


def asked(test: Iterable[Example]) -> list[Asked]:
    """The rows of test that can be asked: of labelled answers the good ones alone are right."""
    return [
        Asked(row.place, len(row.tokens), contenders.read(row.line), row.asked)
        for row in test
        if row.desirable is not False
    ]


@dataclass(frozen=True)
class Context:
    """Tokens that the engine has by default, and those that the model could have."""

    planned: int
    longest: int


def findings(
    test: Sequence[Asked], train: Iterable[bytes | None], context: Context, base: Base, evaluation: EvaluationConfig
) -> list[Finding]:
    """What the measurement will leave out, or count as wrong. `train`: digests of what its rows ask."""
    found = (leaked(test, train), too_long(test, context, base, evaluation)) if test else ()
    return [each for each in found if each]


def leaked(test: Sequence[Asked], train: Iterable[bytes | None]) -> Finding | None:
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


def too_long(test: Sequence[Asked], context: Context, base: Base, evaluation: EvaluationConfig) -> Finding | None:
    """Rows of test that can't be asked: prompt and room for the right answer are more than the context."""
    needs = _Needs(base, evaluation)
    places, most = Places(), 0
    for row in test:
        # Only of a row that may be too long it is counted what its prompt needs by itself.
        if row.tokens + END_TOKENS > context.planned:
            need = needs.of(row.question)
            if need > context.planned:
                places.add(row.place)
                most = max(most, need)
    if not places.count:
        return None
    one, more = "1 row of test needs", f"{places.count} rows of test need up to"
    wrong = "it counts" if places.count == 1 else "they count"
    mend = (
        f"unless hosting.contextLength is {most} or more"
        if most <= context.longest
        else f"and the model has no more than {context.longest}, so shorten or remove what is longer"
    )
    return places.finding(
        "tooLong",
        f"{one if places.count == 1 else more} {most} tokens for prompt and answer, where the context has "
        f"{context.planned}: not asked, {wrong} as answered wrong, {mend}",
    )


class _Needs:
    """Tokens that a question needs: its prompt alone, and room for the right answer, as `contenders.fit` has it."""

    def __init__(self, base: Base, evaluation: EvaluationConfig) -> None:
        self._count, self._most = base.count, evaluation.max_answer_tokens
        self._measure = contenders.measure_with(base.tokenizer)
        self._framing = contenders.template(evaluation.chat_template_kwargs) if base.chat else Framing()

    def of(self, question: Question) -> int:
        answer = self._count(question.reference) + END_TOKENS
        prompt = self._measure(contenders.with_examples(question, (), self._framing))
        return prompt + (min(answer, self._most) if self._most else answer)
