"""A baseline behind an endpoint of its own: another model, which may refuse, think, limit or fail."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from evaluating import BASELINES, FOODS, TEST, TRAIN, Case
from finetune_trainer.contract.config import (
    BaselineConfig,
    BaselineType,
    EndpointConfig,
    EvaluationConfig,
    Metric,
    Prices,
    TokenPrices,
)
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.results import EvaluateResult
from finetune_trainer.evaluation import endpoint
from finetune_trainer.evaluation.decision import Decision
from finetune_trainer.evaluation.page import render
from finetune_trainer.server import Reporter
from finetune_trainer.stages.prepare import prepare
from small_engine import Engine, running
from tiny import CHATML


def knows(model: str, messages: list[dict[str, str]]) -> str:
    """It finds the food in any question, and thinks that four is a number."""
    return next((food for food in FOODS if food in messages[-1]["content"]), "4")


@pytest.fixture
def other() -> Iterator[Engine]:
    with running(Engine(knows)) as engine:
        yield engine


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_BASELINE_1_OPENAI_API_KEY", "sk-secret")


def baseline(engine: Engine, model: str = "large", **fields: Any) -> BaselineConfig:
    return BaselineConfig(type=BaselineType.ENDPOINT, endpoint=EndpointConfig(url=engine.url, model=model), **fields)


def asked(engine: Engine) -> list[dict[str, Any]]:
    """What it was asked about the test rows."""
    return [body for body in engine.asked if "two and two" not in body["messages"][-1]["content"]]


def report(case: Case, result: EvaluateResult) -> Decision:
    file = case.workspace.evaluations / result.evaluation / "report.json"
    return Decision.model_validate_json(file.read_bytes())


def test_it_is_a_contender_on_the_same_rows(case: Case, other: Engine) -> None:
    case.prepared()
    result = case.evaluate(metrics=(Metric.EXACT_MATCH,), baselines=(BASELINES[0], baseline(other)))
    found = result.baselines["large"]
    assert (found.model, result.baselines["zero-shot"].model) == ("large", None)
    assert found.scores[Metric.EXACT_MATCH].score == 1
    assert found.comparisons[Metric.EXACT_MATCH].difference == 0
    assert len(asked(other)) == 20
    assert other.keys == {"Bearer sk-secret"}
    assert case.engine.keys == {"Bearer none"}
    assert "large is large behind an endpoint of its own" in render(report(case, result))


def test_it_is_asked_in_no_words_of_vllms(case: Case, other: Engine) -> None:
    case.prepared()
    told = baseline(other, name="theirs", prompt="Name the food.")
    result = case.evaluate(baselines=(told,), sample_size=2, chat_template_kwargs={"enable_thinking": False})
    assert list(result.baselines) == ["theirs"]
    for body in asked(other):
        assert body.keys() == {"model", "messages", "max_tokens", "temperature"}
        assert body["model"] == "large"
        assert body["messages"][0] == {"role": "system", "content": "Name the food."}


def test_without_a_chat_template_it_gets_messages_all_the_same(case: Case, other: Engine) -> None:
    case.prepared(template=None)
    result = case.evaluate(metrics=(Metric.EXACT_MATCH,), baselines=(baseline(other),), sample_size=2)
    assert {body["messages"][0]["role"] for body in asked(other)} == {"user"}
    assert not any("stop" in body for body in asked(other))
    assert result.baselines["large"].scores[Metric.EXACT_MATCH].score == 1


def test_it_may_call_the_tools(case: Case, other: Engine) -> None:
    call = {"type": "function", "function": {"name": "book", "arguments": "{}"}}
    tools = [{"type": "function", "function": {"name": "book", "parameters": {"type": "object", "properties": {}}}}]

    def row(number: int) -> dict[str, Any]:
        question = {"role": "user", "content": f"I want a very good table number {number} for the {number} of us"}
        answer = {"role": "assistant", "content": "", "tool_calls": [call]}
        return {"messages": [question, answer], "tools": tools}

    template = CHATML.replace(
        " <|im_end|>", "{% for call in message.tool_calls or [] %} {{ call.function | tojson }}{% endfor %} <|im_end|>"
    )
    case.prepared([row(number) for number in range(40)], [row(1111 * number) for number in range(1, 5)], template)
    case.evaluate(baselines=(baseline(other),))
    assert {(len(body["tools"]), "tool_choice" in body) for body in asked(other)} == {(1, False)}


def test_likelihoods_which_it_does_not_tell_are_left_out_and_said(case: Case, other: Engine) -> None:
    case.engine.likelihoods = {"recipes": 0.5, "recipes-base": 0.125}
    case.prepared()
    metrics = (Metric.EXACT_MATCH, Metric.INVERSE_PERPLEXITY)
    result = case.evaluate(metrics=metrics, baselines=(BASELINES[0], baseline(other)))
    assert set(result.baselines["large"].scores) == {Metric.EXACT_MATCH}
    assert set(result.baselines["zero-shot"].scores) == set(metrics)
    page = render(report(case, result))
    assert "An endpoint tells no likelihoods, so that large has no inverse_perplexity." in page


def test_one_that_thinks_is_asked_in_its_own_words(case: Case, other: Engine) -> None:
    other.thinks = True
    case.prepared()
    result = case.evaluate(metrics=(Metric.EXACT_MATCH,), baselines=(baseline(other),), sample_size=2)
    assert {tuple(sorted(body)) for body in asked(other)} == {("max_completion_tokens", "messages", "model")}
    assert {body["max_completion_tokens"] for body in asked(other)} == {8192 + 256}
    assert result.baselines["large"].scores[Metric.EXACT_MATCH].score == 1


def test_one_that_thinks_aloud_gets_room_for_it(case: Case, other: Engine) -> None:
    thoughts = "<think>" + "hm " * 300 + "</think> "
    other.reply = lambda model, messages: thoughts + knows(model, messages)
    case.prepared()
    result = case.evaluate(metrics=(Metric.EXACT_MATCH,), baselines=(baseline(other),), sample_size=2)
    found = result.baselines["large"]
    assert (found.scores[Metric.EXACT_MATCH].score, found.requests.cut) == (1, 0)


def test_a_model_of_the_same_name_elsewhere_is_another(case: Case, other: Engine) -> None:
    other.models = ("recipes-base",)
    case.prepared()
    named = baseline(other, "recipes-base", name="theirs")
    result = case.evaluate(metrics=(Metric.EXACT_MATCH,), baselines=(BASELINES[0], named))
    assert result.baselines["zero-shot"].scores[Metric.EXACT_MATCH].score == 0
    assert result.baselines["theirs"].scores[Metric.EXACT_MATCH].score == 1


def test_it_is_compared_with_where_no_base_model_is_served(case: Case, other: Engine) -> None:
    case.engine.models = ("recipes",)
    case.prepared()
    assert list(case.evaluate(baselines=(BASELINES[0], baseline(other))).baselines) == ["large"]


def test_its_answers_are_not_asked_again(case: Case, other: Engine) -> None:
    case.prepared()
    case.evaluate(baselines=(baseline(other),))
    case.evaluate(baselines=(baseline(other, name="theirs"),), metrics=(Metric.ROUGE_L,))
    assert len(asked(other)) == 20


def test_it_is_asked_again_after_as_long_as_it_says(case: Case, other: Engine) -> None:
    case.prepared()
    other.limited = 1
    case.evaluate(baselines=(baseline(other),), sample_size=1)
    refused, again, _ = other.times
    assert again - refused >= 1
    assert len(asked(other)) == 1


@pytest.mark.parametrize(
    ("status", "outcome", "said"),
    [
        (401, Outcome.ACCESS_DENIED, "refused the key."),
        (404, Outcome.CONFIG_INVALID, "answered 404: "),
        (429, Outcome.UNAVAILABLE, "answered 429: "),
        (503, Outcome.UNAVAILABLE, "answered 503: "),
    ],
)
def test_one_that_fails_under_way_fails_the_evaluation_and_loses_nothing(
    case: Case, other: Engine, monkeypatch: pytest.MonkeyPatch, status: int, outcome: Outcome, said: str
) -> None:
    monkeypatch.setattr(endpoint, "RETRIES", 1)
    other.healthy, other.broken = 5, status
    case.prepared()
    error = case.refused(baselines=(BASELINES[0], baseline(other)))
    assert error.outcome == outcome
    assert error.message.startswith(f"The baseline large at {other.url} {said}")
    assert "Mend evaluation.baselines[1]: its url, model and credentials; or remove it." in error.message
    assert error.message.endswith("What was answered so far is kept, and the next run asks the rest.")
    other.healthy = 10_000
    before = len(case.asked())
    assert set(case.evaluate(baselines=(BASELINES[0], baseline(other))).baselines) == {"zero-shot", "large"}
    assert len(case.asked()) == before


class TestBeforeAnythingIsTrained:
    def refused(self, case: Case, **fields: Any) -> StageError:
        case.prepared()
        assert case.config is not None
        with pytest.raises(StageError) as error:
            prepare(case.config, case.workspace, Reporter("prepare"), EvaluationConfig(**fields))
        assert not case.workspace.prepared.exists()
        return error.value

    def test_a_wrong_key_is_told(self, case: Case, other: Engine) -> None:
        other.healthy, other.broken = 0, 401
        error = self.refused(case, baselines=(BASELINES[0], baseline(other)))
        assert error.outcome == Outcome.ACCESS_DENIED
        assert error.message == (
            f"The baseline large at {other.url} refused the key. Mend evaluation.baselines[1]: its url, model and "
            "credentials; or remove it."
        )

    def test_so_is_a_model_that_is_not_there(self, case: Case, other: Engine) -> None:
        other.healthy, other.broken = 0, 404
        error = self.refused(case, baselines=(baseline(other),))
        assert error.outcome == Outcome.CONFIG_INVALID
        assert error.message.startswith(f"The baseline large at {other.url} answered 404: ")

    def test_so_is_a_page_in_place_of_an_api(self, case: Case, other: Engine) -> None:
        other.page = "<!doctype html>Welcome!"
        error = self.refused(case, baselines=(baseline(other),))
        assert error.outcome == Outcome.CONFIG_INVALID
        assert error.message == (
            f"The baseline large at {other.url} does not answer as OpenAI's API does; its URL ends where "
            "/chat/completions begins. Mend evaluation.baselines[0]: its url, model and credentials; or remove it."
        )

    def test_so_is_one_that_does_not_answer(self, case: Case, other: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(endpoint, "RETRIES", 0)
        other.url = "http://127.0.0.1:9/v1"
        error = self.refused(case, baselines=(baseline(other),))
        assert error.outcome == Outcome.UNAVAILABLE
        assert error.message.startswith("The baseline large at http://127.0.0.1:9/v1 does not answer. Mend ")

    def test_so_is_a_judge_that_cannot_be_asked(self, case: Case, other: Engine) -> None:
        other.healthy, other.broken = 0, 403
        judge = EndpointConfig(url=other.url, model="large")
        error = self.refused(case, metrics=(Metric.JUDGE,), judge=judge)
        assert error.outcome == Outcome.ACCESS_DENIED
        assert error.message == (
            f"The judge at {other.url} refused the key. Mend evaluation.judge: its url, model and credentials."
        )

    def test_whoever_answers_keeps_nothing_from_being_prepared(self, case: Case, other: Engine) -> None:
        case.prepared()
        assert case.config is not None
        evaluation = EvaluationConfig(baselines=(baseline(other),))
        prepare(case.config, case.workspace, Reporter("prepare"), evaluation)
        assert len(other.asked) == 1


def test_its_key_stands_nowhere(case: Case, other: Engine) -> None:
    other.healthy, other.broken = 3, 400
    other.complaint = "There is no deployment for sk-secret."
    case.prepared()
    error = case.refused(baselines=(BASELINES[0], baseline(other)))
    assert "sk-secret" not in error.message
    files = [path for path in case.workspace.root.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"sk-secret" in path.read_bytes()]


def test_on_a_laptop_the_shells_key_serves_and_each_may_have_its_own(
    case: Case, other: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-shell")
    case.prepared()
    case.evaluate(baselines=(baseline(other, name="a"), baseline(other, name="b", prompt="Name it.")), sample_size=1)
    assert other.keys == {"Bearer sk-shell", "Bearer sk-secret"}
    assert case.engine.keys == {"Bearer none"}


def test_its_price_is_its_own_and_its_cached_tokens_have_one(case: Case, other: Engine) -> None:
    other.cached, case.engine.cached = 4, 2
    case.prepared()
    theirs = TokenPrices(million_prompt_tokens=10, million_completion_tokens=100, million_cached_tokens=1)
    prices = Prices(million_prompt_tokens=1, endpoints={"large": theirs})
    result = case.evaluate(baselines=(BASELINES[0], baseline(other)), prices=prices)
    found = result.baselines["large"].requests
    assert (found.cached_tokens, result.tuned.requests.cached_tokens) == (4, 2)
    decided = report(case, result)
    assert decided.costs["large"].money_by_tokens == pytest.approx(
        ((found.prompt_tokens - 4) * 10 + 4 * 1 + 100) * 1000 / 1e6
    )
    assert decided.costs["tuned"].money_by_tokens == pytest.approx(result.tuned.requests.prompt_tokens / 1000)
    page = render(decided)
    assert "Those of tuned and zero-shot count at the full price: no other is given." in page


def test_rows_are_kept_with_its_answers(case: Case, other: Engine) -> None:
    case.prepared(TRAIN, TEST)
    result = case.evaluate(baselines=(baseline(other),))
    lines = (case.workspace.evaluations / result.evaluation / "rows.jsonl").read_text().splitlines()
    assert {json.loads(line)["answers"]["large"] for line in lines} == set(FOODS)
