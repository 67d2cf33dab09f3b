"""A reward model is measured by which answer of a pair gets the higher reward, as the engine tells it."""

import json
from typing import Any

import pytest
from evaluating import FOODS, Case
from finetune_trainer.contract.config import EvaluationConfig, GateConfig, Method, Metric
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.evaluation.decision import Decision
from finetune_trainer.evaluation.failures import pairs
from finetune_trainer.evaluation.inspection import Row
from finetune_trainer.server import Reporter
from finetune_trainer.stages.prepare import prepare

WRONG = "no idea at all"


def pair(number: int, place: str) -> dict[str, Any]:
    asked = [{"role": "user", "content": f"what is in {place} {number} of {FOODS[number % 5]}"}]
    answers = {"chosen": FOODS[number % 5], "rejected": WRONG}
    return {"prompt": asked} | {name: [{"role": "assistant", "content": said}] for name, said in answers.items()}


TRAIN, TEST = [pair(number, "bowl") for number in range(20)], [pair(number, "the big dish") for number in range(10)]


def said(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


def honest(body: dict[str, Any]) -> float:
    """It likes food, and what is no food as much as leek; eggs it can't stand."""
    return {"egg": -3.5, "leek": 0.25, WRONG: 0.25}.get(said(body), 1.5)


@pytest.fixture
def judge(case: Case) -> Case:
    """Pairs, and an engine that rates answers."""
    case.engine.reward, case.engine.models = honest, ("recipes",)
    case.prepared(TRAIN, TEST, method=Method.REWARD)
    return case


def report(case: Case) -> Decision:
    (path,) = case.workspace.evaluations.glob("*/report.json")
    return Decision.model_validate_json(path.read_bytes())


def kept(case: Case) -> list[dict[str, Any]]:
    """The rewards in the workspace."""
    file = case.workspace.evaluations / "ratings.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_the_share_of_pairs_whose_chosen_answer_has_the_higher_reward(judge: Case) -> None:
    result = judge.evaluate(baselines=())
    assert (result.metrics, result.rows) == ((Metric.RANKING_ACCURACY,), 10)
    # Of five kinds egg is ranked the wrong way round, and of leek the two answers are as good.
    assert result.tuned.scores[Metric.RANKING_ACCURACY].score == 0.7
    assert (result.baselines, result.drift) == ({}, None)
    assert result.reason == "A reward model is measured by how it ranks answers."


def test_the_whole_chat_is_rated_as_a_client_sends_it(judge: Case) -> None:
    judge.evaluate(baselines=(), chat_template_kwargs={"mood": "strict"})
    assert len(judge.engine.asked) == 20
    first = next(body for body in judge.engine.asked if said(body) == WRONG)
    assert [message["role"] for message in first["messages"]] == ["user", "assistant"]
    assert first["model"] == "recipes"
    assert first["chat_template_kwargs"] == {"mood": "strict"}


def test_what_rating_takes_is_told_for_one_answer(judge: Case) -> None:
    took = judge.evaluate(baselines=()).tuned.requests
    assert (took.prompt_tokens, took.completion_tokens) == (30, 0)
    assert took.latency_p50 > 0


def test_the_report_says_what_guessing_has_and_what_would_decide(judge: Case) -> None:
    judge.evaluate(baselines=())
    assert report(judge).headline == (
        "Not clear: ranking_accuracy 0.700, where guessing has 0.5. Add a gate with a minimum."
    )


def test_a_minimum_decides(judge: Case) -> None:
    judge.evaluate(baselines=(), gate=GateConfig(minimum=0.6))
    assert report(judge).headline == "Ship it: ranking_accuracy 0.700, where guessing has 0.5."


def test_its_failures_are_the_pairs_that_it_does_not_rank_right(judge: Case) -> None:
    judge.evaluate(baselines=())
    (path,) = judge.workspace.evaluations.glob("*/rows.jsonl")
    rows = [Row.model_validate_json(line) for line in path.read_text().splitlines()]
    found = [
        (each["chosen"][0]["content"], each["rejected"][0]["content"]) for each in pairs(rows, Metric.RANKING_ACCURACY)
    ]
    assert sorted(found) == [("egg", WRONG)] * 2 + [("leek", WRONG)] * 2


def test_rewards_are_kept_and_nothing_is_rated_twice(judge: Case) -> None:
    judge.engine.healthy = 12
    error = judge.refused(baselines=())
    assert error.outcome == Outcome.UNAVAILABLE
    before, asked = len(kept(judge)), len(judge.engine.asked)
    judge.engine.healthy = 1000
    assert judge.evaluate(baselines=()).tuned.scores[Metric.RANKING_ACCURACY].score == 0.7
    # What was under way when the first one ended may reach the engine only now, and is rated anew: it isn't kept.
    new = {json.dumps(body["messages"]) for body in judge.engine.asked[asked:]}
    assert len(new) == 20 - before
    assert {(line["text"], line["reward"]) for line in kept(judge) if line["row"] == 0} == {
        ("egg", -3.5),
        (WRONG, 0.25),
    }


def test_a_pair_that_does_not_fit_the_context_counts_as_ranked_wrong(case: Case) -> None:
    long = pair(11, "the biggest dish")
    long["rejected"][0]["content"] = "and " * 3000
    case.engine.reward, case.engine.models = honest, ("recipes",)
    case.prepared(TRAIN, [*TEST[1:5], long], method=Method.REWARD)
    result = case.evaluate(baselines=())
    assert result.tuned.requests.too_long == 1
    assert result.tuned.scores[Metric.RANKING_ACCURACY].score == (3 + 0.5) / 5


def test_a_model_without_a_chat_template_is_sent_the_text_that_it_learned(case: Case) -> None:
    rows = [
        {"prompt": f"{place} {number} of {FOODS[number % 5]}:", "chosen": " egg", "rejected": " flour"}
        for place, count in (("bowl", 20), ("the big dish", 5))
        for number in range(count)
    ]
    case.engine.reward, case.engine.models = (lambda body: float(" egg<" in body["input"])), ("recipes",)
    case.prepared(rows[:20], rows[20:], template=None, method=Method.REWARD)
    assert case.evaluate(baselines=()).tuned.scores[Metric.RANKING_ACCURACY].score == 1.0
    assert "the big dish 0 of egg: egg<|im_end|>" in [body["input"] for body in case.engine.asked]


def test_an_engine_that_writes_is_no_judge(judge: Case) -> None:
    judge.engine.reward = None
    error = judge.refused(baselines=())
    assert error.outcome == Outcome.CONFIG_INVALID
    assert "/v1 answered 404: " in error.message


def test_prepare_takes_the_evaluation_of_a_reward_model(judge: Case) -> None:
    assert judge.config is not None
    found = prepare(judge.config, judge.workspace, Reporter("prepare"), EvaluationConfig())
    assert found.dataset.rows.test == 10
