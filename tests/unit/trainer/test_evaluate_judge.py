"""The judge of an evaluation: another model behind an endpoint of its own, which may refuse, think or fail."""

from collections.abc import Iterator
from typing import Any

import pytest
from evaluating import BASELINES, Case
from finetune_trainer.contract import gate
from finetune_trainer.contract.config import EndpointConfig, Metric
from finetune_trainer.contract.outcome import Outcome
from small_engine import Engine, running


@pytest.fixture
def judge() -> Iterator[Engine]:
    """Likes what is longer, and finds texts of one length equally good."""

    def longer(model: str, messages: list[dict[str, str]]) -> str:
        told = messages[-1]["content"]
        first, second = told.split("Answer A:\n")[1].split("\n\nWhich")[0].split("\n\nAnswer B:\n")
        return "tie" if len(first) == len(second) else "A." if len(first) > len(second) else "B"

    with running(Engine(longer)) as engine:
        yield engine


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_JUDGE_OPENAI_API_KEY", "sk-secret")


def judged(judge: Engine) -> dict[str, Any]:
    return {
        "metrics": (Metric.JUDGE,),
        "baselines": BASELINES[:1],
        "judge": EndpointConfig(url=judge.url, model="large"),
    }


def test_it_compares_each_answer_with_the_reference(case: Case, judge: Engine) -> None:
    case.engine.reply = lambda model, messages: "a long answer" if model == "recipes" else "x"
    case.prepared()
    result = case.evaluate(**judged(judge))
    assert result.tuned.scores[Metric.JUDGE].score == 1
    assert result.baselines["zero-shot"].scores[Metric.JUDGE].score == 0
    assert judge.keys == {"Bearer sk-secret"}


def test_the_same_words_are_as_good_and_need_no_judge(case: Case, judge: Engine) -> None:
    case.prepared()
    result = case.evaluate(**judged(judge) | {"baselines": ()})
    assert result.tuned.scores[Metric.JUDGE].score == 0.5
    assert len(judge.asked) == 1, "the easy question alone"


def test_one_that_always_likes_the_first_likes_nobody(case: Case, judge: Engine) -> None:
    judge.reply = lambda model, messages: "A"
    case.engine.reply = lambda model, messages: "anything else"
    case.prepared()
    result = case.evaluate(**judged(judge))
    assert result.tuned.scores[Metric.JUDGE].score == 0.5


def test_one_that_says_neither_is_a_tie(case: Case, judge: Engine) -> None:
    judge.reply = lambda model, messages: "Both have merits."
    case.engine.reply = lambda model, messages: "anything else"
    case.prepared()
    result = case.evaluate(**judged(judge))
    assert result.tuned.scores[Metric.JUDGE].score == 0.5


def test_words_that_could_not_be_read_are_counted_and_told(case: Case, judge: Engine) -> None:
    judge.reply = lambda model, messages: "Both have merits."
    case.engine.reply = lambda model, messages: "anything else"
    case.prepared()
    result = case.evaluate(**judged(judge))
    assert (result.tuned.unread, result.baselines["zero-shot"].unread) == (40, 40)
    message = gate.check(result, None).message
    assert "The judge named neither answer nor a tie 80 times, which count as ties." in message


def test_one_that_thinks_is_asked_in_its_own_words(case: Case, judge: Engine) -> None:
    judge.thinks = True
    judge.reply = lambda model, messages: "<think>Is it A? B.</think> A"
    case.engine.reply = lambda model, messages: "anything else"
    case.prepared()
    result = case.evaluate(**judged(judge))
    assert result.tuned.unread == 0
    assert {tuple(sorted(body)) for body in judge.asked} == {("max_completion_tokens", "messages", "model")}


@pytest.mark.parametrize("thinks", [True, False])
def test_one_that_says_neither_is_asked_as_it_allows(case: Case, judge: Engine, thinks: bool) -> None:
    judge.thinks = thinks
    judge.reply = lambda model, messages: "Both have merits."
    case.engine.reply = lambda model, messages: "anything else"
    case.prepared()
    assert case.evaluate(**judged(judge)).tuned.unread == 40
    assert ("max_completion_tokens" in judge.asked[-1]) is thinks


def test_one_that_cannot_be_asked_costs_nobody_an_answer(case: Case, judge: Engine) -> None:
    judge.healthy, judge.broken = 0, 404
    case.prepared()
    error = case.refused(**judged(judge))
    assert error.outcome == Outcome.CONFIG_INVALID
    assert error.message.startswith(f"The judge at {judge.url} answered 404")
    assert case.engine.asked == []


@pytest.mark.parametrize(
    ("status", "outcome", "said"),
    [(503, Outcome.UNAVAILABLE, "answered 503"), (401, Outcome.ACCESS_DENIED, "refused the key")],
)
def test_one_that_is_down_loses_nothing(case: Case, judge: Engine, status: int, outcome: Outcome, said: str) -> None:
    judge.healthy, judge.broken = 5, status
    case.engine.reply = lambda model, messages: "anything else"
    case.prepared()
    error = case.refused(**judged(judge))
    assert error.outcome == outcome
    assert error.message.startswith(f"The judge at {judge.url} {said}")
    assert "is kept" in error.message
    asked = len(case.engine.asked)
    judge.healthy = 10_000
    case.evaluate(**judged(judge))
    assert len(case.asked()) == 40
    # The general prompts alone come after the judge.
    assert len(case.engine.asked) - asked == 48


def test_its_key_stands_nowhere(case: Case, judge: Engine) -> None:
    judge.healthy, judge.broken = 3, 401
    case.engine.reply = lambda model, messages: "anything else"
    case.prepared()
    assert "sk-secret" not in case.refused(**judged(judge)).message
    files = [path for path in case.workspace.root.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"sk-secret" in path.read_bytes()]
