"""What prepare tells of the measurement to come: rows of test that train has too, and rows that fit no context."""

import json
from array import array
from typing import Any

import pytest
from finetune_trainer.contract.config import EvaluationConfig, Method, Metric, ModelConfig, Source
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data import base
from finetune_trainer.data.base import Base
from finetune_trainer.data.examples import Example
from finetune_trainer.data.tokens import Tokens
from finetune_trainer.evaluation import contenders, foreseen, leakage, likelihood
from finetune_trainer.evaluation.foreseen import ContextLength, HeldOutRow
from tiny import CHATML, write_model


def row(asked: str, answer: str = "egg", system: str | None = None) -> bytes:
    told = [] if system is None else [{"role": "system", "content": system}]
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": [*told, *turns]}).encode()


def stored(*rows: bytes) -> list[HeldOutRow]:
    long = Tokens(array("i", [0] * 1000), ())
    return foreseen.asked(
        Example(line, f"test.jsonl:{number}", long, asked=print_of(line)) for number, line in enumerate(rows, 1)
    )


def print_of(line: bytes) -> bytes:
    """The digest by which prepare knows what a row asks."""
    return leakage.fingerprint(json.loads(line)["messages"][:-1])


def leaked(test: list[HeldOutRow], train: list[bytes]) -> Any:
    return foreseen.leaked(test, map(print_of, train))


class TestLeaked:
    def test_rows_that_train_has_are_counted_with_their_places(self) -> None:
        test = stored(row("a"), row("b"), row("c"), row("D  e"))
        found = leaked(test, [row("b", "onion"), row("x"), row("d E", system="Be brief.")])
        assert found is not None
        assert found.model_dump() == {
            "kind": "leaked",
            "count": 2,
            "places": ("test.jsonl:2", "test.jsonl:4"),
            "sentence": "2 rows of test stand in train too and are left out when the result is measured "
            "(test.jsonl:2, test.jsonl:4).",
        }

    def test_a_test_without_them_says_nothing(self) -> None:
        assert leaked(stored(row("a"), row("b")), [row("ab"), row("c")]) is None
        assert leaked([], [row("a")]) is None

    def test_no_more_than_three_places_are_named(self) -> None:
        rows = [row(str(number)) for number in range(6)]
        found = leaked(stored(*rows), rows[:5])
        assert found is not None
        assert found.sentence.endswith("measured (test.jsonl:1, test.jsonl:2, test.jsonl:3, …).")

    def test_a_test_of_nothing_else_is_refused_before_anything_is_trained(self) -> None:
        with pytest.raises(StageError) as error:
            leaked(stored(row("a"), row("b")), [row("a"), row("b"), row("c")])
        assert error.value.outcome == Outcome.DATA_INVALID
        assert error.value.message == (
            "All 2 rows of test stand in train too (test.jsonl:1, test.jsonl:2), so nothing would be left to evaluate "
            "with: give dataset.test rows that train does not have, or set evaluation.enabled to false."
        )

    def test_they_are_those_that_evaluate_leaves_out_as_exact(self) -> None:
        test, train = [row("a"), row("B "), row("c")], [row("b"), row("z", system="c")]
        asked, known = ([contenders.read(line) for line in lines] for lines in (test, train))
        found = leaked(stored(*test), train)
        assert found is not None
        assert found.count == leakage.without_leaks(asked, known, len(test), seed=0).exact == 1


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Base:
    path = write_model(tmp_path_factory.mktemp("model") / "chat", CHATML)
    return base.read(path, ModelConfig(source=Source(uri="pvc://models/tiny", path=path)))


class TestTooLong:
    def told(self, model: Base, test: list[HeldOutRow], planned: int, longest: int = 4096, **config: Any) -> Any:
        needs = foreseen.Needs(model, EvaluationConfig(**config))
        return foreseen.too_long(test, ContextLength(planned, longest), needs.asked)

    def test_it_tells_what_evaluate_could_not_ask(self, model: Base) -> None:
        test = stored(row("two " * 30), row("two"), row("two", "eggs " * 40))
        measure = contenders.measure_with(model.tokenizer)
        for planned in range(8, 80, 3):
            room = contenders.room(["eggs " * 40], model.count, planned)
            asked = [contenders.fit(each.question, (), measure, room) for each in test]
            found = self.told(model, test, planned)
            assert (found.count if found else 0) == asked.count(None)

    def test_the_sentence_says_how_much_context_they_need(self, model: Base) -> None:
        test = stored(row("two"), row("two", "eggs " * 40))
        found = self.told(model, test, planned=40)
        assert (found.kind, found.count, found.places) == ("tooLong", 1, ("test.jsonl:2",))
        need = contenders.measure_with(model.tokenizer)(contenders.with_examples(test[1].question, ())) + model.count(
            "eggs " * 40
        )
        assert found.sentence == (
            f"1 row of test needs {need + 8} tokens for prompt and answer, where the context has 40: not asked, "
            f"it counts as answered wrong, unless hosting.contextLength is {need + 8} or more (test.jsonl:2)."
        )

    def test_beyond_what_the_model_has_only_shorter_rows_help(self, model: Base) -> None:
        found = self.told(model, stored(row("two", "eggs " * 40)), planned=40, longest=40)
        assert found.sentence.endswith(
            "and the model has no more than 40, so shorten or remove what is longer (test.jsonl:1)."
        )

    def test_a_long_answer_needs_no_more_room_than_answers_get(self, model: Base) -> None:
        assert self.told(model, stored(row("two", "eggs " * 40)), planned=40, max_answer_tokens=4) is None


def pair(asked: str, chosen: str, rejected: str) -> bytes:
    answers = {
        name: [{"role": "assistant", "content": said}] for name, said in (("chosen", chosen), ("rejected", rejected))
    }
    return json.dumps({"prompt": [{"role": "user", "content": asked}]} | answers).encode()


class TestTooLongRejected:
    """The right answer of each fits; of one the answer to avoid does not."""

    ROWS = (pair("two", "eggs", "eggs"), pair("two", "eggs", "eggs " * 40))

    def told(self, model: Base, planned: int, method: Method, longest: int = 4096, **config: Any) -> list[Any]:
        short, long = (Tokens(array("i", [0] * count), ()) for count in (4, 1000))
        rows = enumerate(self.ROWS, 1)
        test = foreseen.asked(Example(line, f"test.jsonl:{at}", short, rejected=long) for at, line in rows)
        context = ContextLength(planned, longest)
        return foreseen.findings(test, [], context, model, EvaluationConfig(**config), method)

    def needed(self, model: Base) -> int:
        question = contenders.read(self.ROWS[1])
        assert question.rejected
        prompt, text = likelihood.reference(model.tokenizer, contenders.with_examples(question, ()), question.rejected)
        return len(prompt) + len(text)

    def test_of_a_reward_model_the_pair_is_not_asked(self, model: Base) -> None:
        need = self.needed(model)
        (found,) = self.told(model, need - 1, Method.REWARD)
        assert (found.kind, found.count, found.places) == ("tooLong", 1, ("test.jsonl:2",))
        assert found.sentence == (
            f"1 row of test needs {need} tokens for prompt and answer, where the context has {need - 1}: not asked, "
            f"it counts as answered wrong, unless hosting.contextLength is {need} or more (test.jsonl:2)."
        )
        assert self.told(model, need, Method.REWARD) == []

    def test_of_a_model_that_writes_what_fits_of_it_is_compared(self, model: Base) -> None:
        need = self.needed(model) + 1
        (found,) = self.told(model, need - 1, Method.DPO, metrics=(Metric.REWARD_ACCURACY,))
        assert found.sentence == (
            f"1 row of test has a rejected answer that needs {need} tokens with the prompt, where the context has "
            f"{need - 1}: reward_accuracy compares as much of it as fits, unless hosting.contextLength is {need} or "
            "more (test.jsonl:2)."
        )
        assert (found.kind, found.count) == ("rejectedTooLong", 1)
        assert self.told(model, need, Method.DPO, metrics=(Metric.REWARD_ACCURACY,)) == []

    def test_where_nobody_compares_with_it_there_is_nothing_to_say(self, model: Base) -> None:
        assert self.told(model, 40, Method.DPO) == []
