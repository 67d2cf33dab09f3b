"""The evaluate stage where the base model has an engine of its own: each is asked what is its own, and nothing else."""

from collections.abc import Iterator

import pytest
from evaluating import Case, reply
from finetune_trainer.contract.config import Metric
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.evaluation.general import PROMPTS
from small_engine import Engine, running


@pytest.fixture
def apart(case: Case) -> Iterator[Case]:
    """The tuned model and its base model, each on an engine of its own."""
    case.engine.models = ("recipes",)
    with running(Engine(reply, models=("recipes-base",))) as case.base:
        case.prepared()
        yield case


def test_a_base_model_on_an_engine_of_its_own_is_asked_there_and_nowhere_else(apart: Case) -> None:
    assert apart.base
    apart.engine.likelihoods, apart.base.likelihoods = {"recipes": 0.5}, {"recipes-base": 0.125}
    result = apart.evaluate(metrics=(Metric.EXACT_MATCH, Metric.INVERSE_PERPLEXITY), base_alone=True)
    assert {body["model"] for body in apart.engine.asked} == {"recipes"}
    assert {body["model"] for body in apart.base.asked} == {"recipes-base"}
    assert set(result.baselines) == {"zero-shot", "few-shot", "retrieval"}
    assert result.baselines["zero-shot"].comparisons[Metric.EXACT_MATCH].difference == 1
    assert result.baselines["zero-shot"].scores[Metric.INVERSE_PERPLEXITY].score == pytest.approx(0.125, abs=1e-4)
    assert result.drift is not None


def test_both_are_sent_their_key_and_not_the_shells(apart: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    assert apart.base
    monkeypatch.setenv("OPENAI_API_KEY", "sk-the-shells")
    monkeypatch.setenv("FINETUNE_ENGINE_OPENAI_API_KEY", "the-engines")
    apart.evaluate(metrics=(Metric.EXACT_MATCH,), base_alone=True)
    assert apart.engine.keys == apart.base.keys == {"Bearer the-engines"}


def test_each_engine_is_warmed_up_for_its_own_contenders_and_idle_while_the_other_is_asked(apart: Case) -> None:
    assert apart.base
    order: list[str] = []
    apart.engine.warm = apart.base.warm = lambda body: order.append(body["model"])
    apart.evaluate(metrics=(Metric.EXACT_MATCH,), base_alone=True)
    assert order == ["recipes"] * 16 + ["recipes-base"] * 48


def test_stopped_between_two_engines_it_asks_only_the_rest(apart: Case) -> None:
    assert apart.base
    apart.base.healthy = 0
    error = apart.refused(base_alone=True)
    assert error.outcome == Outcome.UNAVAILABLE
    assert error.message.startswith(f"The base model at {apart.base.url} answered 500")
    before = len(apart.engine.asked)
    apart.base.healthy = 10_000
    apart.evaluate(base_alone=True)
    assert len([body for body in apart.engine.asked[before:] if body["messages"][-1]["content"] not in PROMPTS]) == 0


def test_an_engine_that_serves_no_base_model_is_refused_as_such(apart: Case) -> None:
    assert apart.base
    apart.base.models = ("translator",)
    error = apart.refused(base_alone=True)
    assert error.outcome == Outcome.CONFIG_INVALID
    assert f"{apart.base.url} serves translator, and not recipes-base" in error.message


def test_a_comparison_that_nobody_can_make_is_no_measurement(apart: Case) -> None:
    apart.base = None
    error = apart.refused(base_alone=True)
    assert error.outcome == Outcome.CONFIG_INVALID
    assert error.message == "The base model has an engine of its own: --base-endpoint must say where."
    assert apart.engine.asked == []
