"""The evaluate stage as the operator runs it: prepared rows and an endpoint in, the result and answers.jsonl out."""

import pytest
from evaluating import BASELINES, FOODS, TEST, TRAIN, Case
from finetune_trainer.contract.config import EvaluationConfig, Method, Metric
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.evaluation import endpoint
from finetune_trainer.server import Reporter
from finetune_trainer.stages.prepare import prepare


def test_the_tuned_model_is_measured_against_each_baseline_on_the_same_rows(case: Case) -> None:
    case.prepared()
    result = case.evaluate(metrics=(Metric.EXACT_MATCH,))
    assert result.rows == 20
    assert result.tuned.scores[Metric.EXACT_MATCH].score == 1
    scores = {name: found.scores[Metric.EXACT_MATCH].score for name, found in result.baselines.items()}
    assert scores["zero-shot"] == 0
    assert scores["zero-shot"] < scores["few-shot"] < scores["retrieval"]
    assert result.baselines["zero-shot"].comparisons[Metric.EXACT_MATCH].difference == 1


def test_examples_are_paid_for_in_prompt_tokens(case: Case) -> None:
    case.prepared()
    result = case.evaluate()
    assert result.baselines["retrieval"].requests.prompt_tokens > result.tuned.requests.prompt_tokens
    assert result.baselines["zero-shot"].requests.prompt_tokens == result.tuned.requests.prompt_tokens


def test_every_number_can_be_traced_to_its_rows(case: Case) -> None:
    case.prepared()
    case.evaluate()
    answers = case.answers()
    assert len(answers) == 80
    assert {(answer["contender"], answer["row"]) for answer in answers} == {
        (name, row) for name in ("tuned", "zero-shot", "few-shot", "retrieval") for row in range(20)
    }


def test_rows_that_stand_in_train_are_left_out_and_counted(case: Case) -> None:
    case.prepared(test=[*TEST, TRAIN[0], TRAIN[7]])
    result = case.evaluate()
    assert (result.rows, result.leaked) == (20, 2)


def test_a_test_split_that_is_all_in_train_is_refused(case: Case) -> None:
    case.prepared(test=TRAIN[:3])
    error = case.refused()
    assert error.outcome == Outcome.DATA_INVALID
    assert error.message == (
        "All 3 test rows also stand in train (3 exactly, 0 nearly), so nothing is left to evaluate with: give "
        "dataset.test rows that train does not have, or set evaluation.enabled to false."
    )


def test_no_more_rows_are_asked_than_the_sample_has(case: Case) -> None:
    case.prepared()
    assert case.evaluate(sample_size=5).rows == 5
    assert len(case.asked()) == 20


def test_prompts_that_do_not_fit_are_said_and_not_cut(case: Case) -> None:
    case.prepared()
    # Room for a question of ten words, its frame and an answer, and for one example beside it, not for two.
    case.engine.context_length = 38
    result = case.evaluate()
    assert result.tuned.requests.too_long == 0
    assert result.baselines["few-shot"].requests.fewer_examples == 20
    case.engine.context_length = 12
    assert case.evaluate(sample_size=4).tuned.requests.too_long == 4


def test_one_long_answer_leaves_the_other_rows_whole(case: Case) -> None:
    long = {"prompt": "write me a whole book about leek", "completion": "leek " * 2000}
    case.prepared(test=[*TEST, long])
    result = case.evaluate(metrics=(Metric.EXACT_MATCH,))
    assert (result.rows, result.tuned.requests.too_long, result.tuned.requests.cut) == (21, 1, 0)
    assert result.tuned.scores[Metric.EXACT_MATCH].score == pytest.approx(20 / 21, abs=1e-4)
    assert result.baselines["retrieval"].requests.fewer_examples == 0


def test_without_the_base_model_there_is_nothing_to_compare_with(case: Case) -> None:
    case.engine.models = ("recipes",)
    case.prepared()
    assert case.evaluate().baselines == {}


def test_the_endpoint_of_another_job_is_refused(case: Case) -> None:
    case.engine.models = ("translator", "translator-base")
    case.prepared()
    error = case.refused()
    assert error.outcome == Outcome.CONFIG_INVALID
    assert "serves translator, translator-base, and not recipes" in error.message


def test_on_an_engine_that_it_shares_both_models_are_asked_for_by_their_names_there(case: Case) -> None:
    case.engine.models = ("chat", "translator-1a2b3c4d", "recipes-0a1b2c3d", "recipes")
    case.models = "recipes-0a1b2c3d", "chat"
    case.prepared()
    result = case.evaluate(metrics=(Metric.EXACT_MATCH,))
    assert {body["model"] for body in case.asked()} == {"recipes-0a1b2c3d", "chat"}
    assert result.baselines["zero-shot"].comparisons[Metric.EXACT_MATCH].difference == 1
    assert result.drift is not None


def test_a_metric_that_does_not_fit_the_rows_is_refused(case: Case) -> None:
    case.prepared()
    error = case.refused(metrics=(Metric.JSON_FIELDS_F1,))
    assert error.outcome == Outcome.CONFIG_INVALID
    assert error.message.startswith("evaluation.metrics: json_fields_f1 can't be used with these rows: ")
    assert case.engine.asked == []


def test_a_candidate_that_does_not_answer_is_worth_another_try(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.prepared()
    monkeypatch.setattr(endpoint, "RETRIES", 0)
    case.engine.url = "http://127.0.0.1:9/v1"
    assert case.refused().outcome == Outcome.UNAVAILABLE


def test_progress_says_who_is_asked(case: Case) -> None:
    case.prepared()
    case.evaluate()
    progress = case.reporter.progress
    assert (progress.step, progress.total_steps) == (24, 24)
    assert progress.activity == "asking general prompts"


def test_a_tuned_model_that_answers_as_before_has_not_drifted(case: Case) -> None:
    case.prepared()
    drift = case.evaluate(sample_size=2).drift
    assert drift is not None
    assert drift.score == 0


def test_a_tuned_model_that_answers_everything_alike_has_drifted(case: Case) -> None:
    case.engine.reply = lambda model, messages: "egg" if model == "recipes" else "a long answer"
    case.prepared()
    drift = case.evaluate(sample_size=2).drift
    assert drift is not None
    assert drift.score == 1


def test_empty_answers_are_wrong_and_no_error(case: Case) -> None:
    case.engine.reply = lambda model, messages: ""
    case.prepared()
    result = case.evaluate(metrics=(Metric.EXACT_MATCH, Metric.TOKEN_F1, Metric.ROUGE_L))
    assert {score.score for score in result.tuned.scores.values()} == {0}


def test_the_references_likelihood_is_asked_of_the_engine(case: Case) -> None:
    case.engine.likelihoods = {"recipes": 0.5, "recipes-base": 0.125}
    case.prepared()
    result = case.evaluate(metrics=(Metric.INVERSE_PERPLEXITY,), baselines=BASELINES[:1])
    assert result.tuned.scores[Metric.INVERSE_PERPLEXITY].score == 0.5
    assert result.baselines["zero-shot"].scores[Metric.INVERSE_PERPLEXITY].score == 0.125


def test_an_engine_that_knows_no_likelihoods_is_told_of(case: Case) -> None:
    case.prepared()
    error = case.refused(metrics=(Metric.INVERSE_PERPLEXITY,))
    assert error.outcome == Outcome.CONFIG_INVALID
    assert error.message.startswith("The engine gives no prompt_logprobs, which the metrics inverse_perplexity and ")


PAIRS = [row | {"chosen": row["completion"], "rejected": "no idea at all"} for row in TRAIN + TEST]


def test_of_pairs_it_is_told_which_answer_has_gained_more_over_the_base_model(case: Case) -> None:
    """Each token is so many times as likely as for the base model, so that of two answers the longer one gains more."""
    case.engine.likelihoods = {"recipes": 0.5, "recipes-base": 0.125}
    test = [row | {"prompt": f"{row['prompt']} of mine"} for row in PAIRS[len(TRAIN) :]]
    longer = [row | {"chosen": "of egg and flour and rice"} for row in test[:5]]
    as_long = [row | {"chosen": "egg", "rejected": "rice"} for row in test[5:10]]
    case.prepared(PAIRS[: len(TRAIN)], [*longer, *as_long, *test[10:]], method=Method.DPO)
    result = case.evaluate(metrics=(Metric.REWARD_ACCURACY, Metric.EXACT_MATCH), baselines=BASELINES[:1])
    assert result.rows == 20
    # The longer ones, and half of those that gain as much.
    assert result.tuned.scores[Metric.REWARD_ACCURACY].score == (5 + 2.5) / 20
    assert result.baselines["zero-shot"].scores[Metric.REWARD_ACCURACY].score == 0.5


def test_rows_without_rejected_answers_have_no_rewards(case: Case) -> None:
    case.prepared()
    error = case.refused(metrics=(Metric.REWARD_ACCURACY,))
    assert error.message == (
        "evaluation.metrics: reward_accuracy can't be used with these rows: they have no rejected answers."
    )


def test_a_metric_that_does_not_fit_is_refused_before_anything_is_trained(case: Case) -> None:
    case.prepared()
    assert case.config is not None
    evaluation = EvaluationConfig(metrics=(Metric.JSON_VALID,))
    with pytest.raises(StageError) as error:
        prepare(case.config, case.workspace, Reporter("prepare"), evaluation)
    assert error.value.message == (
        "evaluation.metrics: json_valid can't be used with these rows: their answers are not all JSON objects or "
        "arrays."
    )
    assert not case.workspace.prepared.exists()


def test_sql_is_held_to_what_it_finds_and_not_to_its_words(case: Case) -> None:
    rows = [
        {
            "prompt": f"CREATE TABLE dish (egg INTEGER, leek INTEGER)\n{FOODS[number % 5]} above {number}",
            "completion": f"SELECT leek FROM dish WHERE egg > {number}",
        }
        for number in range(50)
    ]
    case.prepared(rows[10:], rows[:10])

    def say(model: str, messages: list[dict[str, str]]) -> str:
        number = messages[-1]["content"].split()[-1]
        return f"select leek from dish where {number} < egg" if model == "recipes" else "SELECT leek FROM dish"

    case.engine.reply = say
    result = case.evaluate(baselines=BASELINES[:1])
    assert result.metrics == (Metric.SQL_EXECUTION, Metric.EXACT_MATCH)
    found = {"tuned": result.tuned, **result.baselines}
    scores = {name: [each.scores[metric].score for metric in result.metrics] for name, each in found.items()}
    assert scores == {"tuned": [1, 0], "zero-shot": [0, 0]}
