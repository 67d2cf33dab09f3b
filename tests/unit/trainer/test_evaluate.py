"""The evaluate stage as the operator runs it: prepared rows and an endpoint in, the result and answers.jsonl out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from finetune_trainer.config import (
    BaselineConfig,
    BaselineType,
    DatasetConfig,
    EvaluationConfig,
    Metric,
    ModelConfig,
    RunConfig,
    Source,
    SplitConfig,
    Workspace,
)
from finetune_trainer.evaluate import evaluate
from finetune_trainer.evaluation import ask
from finetune_trainer.outcome import Outcome, StageError
from finetune_trainer.prepare import prepare
from finetune_trainer.report import EvaluateResult
from finetune_trainer.server import Reporter
from small_engine import Engine, running
from tiny import write_model

FOODS = ["egg", "flour", "rice", "leek", "pork"]
TRAIN = [
    {"prompt": f"list {number} cups of {FOODS[number % 5]}", "completion": FOODS[number % 5]} for number in range(40)
]
TEST = [
    {"prompt": f"what is in my big bowl of {number} {FOODS[number % 5]} dish", "completion": FOODS[number % 5]}
    for number in range(20)
]
BASELINES = (
    BaselineConfig(type=BaselineType.ZERO_SHOT),
    BaselineConfig(type=BaselineType.FEW_SHOT, examples=2),
    BaselineConfig(type=BaselineType.RETRIEVAL, examples=2),
)


def reply(model: str, messages: list[dict[str, str]]) -> str:
    """The tuned model is always right; the base model only when an example in its prompt had the same answer."""
    right = next(food for food in FOODS if food in messages[-1]["content"])
    if model == "recipes":
        return right
    return right if right in [message["content"] for message in messages if message["role"] == "assistant"] else "soup"


class Case:
    """Prepared rows, and an engine that serves their model."""

    def __init__(self, root: Path, engine: Engine) -> None:
        self.root, self.engine = root, engine
        self.workspace = Workspace(root / "workspace")
        self.workspace.root.mkdir()
        self.reporter = Reporter("evaluate")
        self.config: RunConfig | None = None

    def prepared(self, train: list[Any] = TRAIN, test: list[Any] = TEST) -> None:
        sources = {}
        for split, rows in (("train", train), ("test", test)):
            path = self.root / f"{split}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            sources[split] = Source(uri=f"pvc://data/{split}.jsonl", path=path)
        self.config = RunConfig(
            name="recipes",
            revision="0a1b2c3d",
            model=ModelConfig(source=Source(uri="pvc://models/tiny", path=write_model(self.root / "model"))),
            dataset=DatasetConfig(train=sources["train"], test=SplitConfig(source=sources["test"])),
        )
        prepare(self.config, self.workspace, Reporter("prepare"))

    def evaluate(self, **fields: Any) -> EvaluateResult:
        assert self.config is not None
        evaluation = EvaluationConfig(**({"baselines": BASELINES} | fields))
        return evaluate(self.config, evaluation, self.workspace, self.engine.url, self.reporter)

    def refused(self, **fields: Any) -> StageError:
        with pytest.raises(StageError) as error:
            self.evaluate(**fields)
        return error.value

    def answers(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.workspace.answers.read_text().splitlines()]


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    with running(Engine(reply)) as engine:
        yield Case(tmp_path, engine)


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


def test_all_ask_at_temperature_0_and_for_as_long_an_answer(case: Case) -> None:
    case.prepared()
    case.evaluate()
    assert {(asked["temperature"], asked["max_tokens"]) for asked in case.engine.asked} == {(0, 10)}


def test_an_evaluation_that_was_stopped_asks_only_what_is_missing(case: Case) -> None:
    case.prepared()
    case.engine.healthy = 30
    error = case.refused()
    assert error.outcome == Outcome.UNAVAILABLE
    assert f"The candidate at {case.engine.url} answered 500" in error.message
    assert "the next run asks the rest" in error.message
    kept = len(case.answers())
    # A kill tore the last line.
    with case.workspace.answers.open("a") as file:
        file.write('{"key": "half')
    case.engine.healthy = 10_000
    asked = len(case.engine.asked)
    case.evaluate()
    assert len(case.engine.asked) - asked == 80 - kept
    assert len(case.answers()) == 80


def test_the_same_evaluation_is_not_done_twice_and_other_metrics_ask_nothing_again(case: Case) -> None:
    case.prepared()
    first = case.evaluate()
    asked = len(case.engine.asked)
    assert case.evaluate() == first
    other = case.evaluate(metrics=(Metric.ROUGE_L,))
    assert other.metrics == (Metric.ROUGE_L,)
    assert len(case.engine.asked) == asked


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
        "dataset.test rows that train does not have."
    )


def test_no_more_rows_are_asked_than_the_sample_has(case: Case) -> None:
    case.prepared()
    assert case.evaluate(sample_size=5).rows == 5
    assert len(case.engine.asked) == 20


def test_prompts_that_do_not_fit_are_said_and_not_cut(case: Case) -> None:
    case.prepared()
    # Room for a question of ten words and its frame, and for one example beside it, not for two.
    case.engine.context_length = 35
    result = case.evaluate()
    assert result.tuned.requests.too_long == 0
    assert result.baselines["few-shot"].requests.fewer_examples == 20
    case.engine.context_length = 12
    assert case.evaluate(sample_size=4).tuned.requests.too_long == 4


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


def test_a_metric_that_does_not_fit_the_rows_is_refused(case: Case) -> None:
    case.prepared()
    error = case.refused(metrics=(Metric.JSON_FIELDS_F1,))
    assert error.outcome == Outcome.CONFIG_INVALID
    assert error.message.startswith("evaluation.metrics: json_fields_f1 can't be used with these rows: ")
    assert case.engine.asked == []


def test_a_candidate_that_does_not_answer_is_worth_another_try(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.prepared()
    monkeypatch.setattr(ask, "RETRIES", 0)
    case.engine.url = "http://127.0.0.1:9/v1"
    assert case.refused().outcome == Outcome.UNAVAILABLE


def test_progress_counts_the_answers_of_all_contenders(case: Case) -> None:
    case.prepared()
    case.evaluate()
    progress = case.reporter.progress
    assert (progress.step, progress.total_steps) == (80, 80)
    assert progress.activity == "asking retrieval"
