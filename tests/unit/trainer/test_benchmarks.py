"""Benchmarks by lm-evaluation-harness: what prepare refuses, and what the report says; tests/trainer runs them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from decisions import decision, result
from evaluating import Case, reply
from finetune_trainer.contract.config import EvaluationConfig, LmEvalConfig, Source
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.results import Benchmark
from finetune_trainer.evaluation import benchmarks
from finetune_trainer.evaluation.benchmarks import check, told
from finetune_trainer.evaluation.page import render
from finetune_trainer.server import Reporter
from finetune_trainer.stages.prepare import prepare
from foods import ROWS, TASK
from small_engine import Engine, running

Wanted = Callable[..., LmEvalConfig]


@pytest.fixture
def wanted(tmp_path: Path) -> Wanted:
    """Writes a task, in part another one, and asks for it."""

    def written(text: str | None = None, tasks: tuple[str, ...] = ("foods",), **fields: object) -> LmEvalConfig:
        directory = tmp_path / "tasks"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        (directory / "foods.yaml").write_text(text or yaml.safe_dump(TASK | fields))
        (directory / "foods.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        return LmEvalConfig(source=Source(uri="pvc://benchmarks/tasks", path=directory), tasks=tasks, limit=3)

    return written


def refused(wanted: LmEvalConfig) -> str:
    with pytest.raises(StageError) as error:
        check(wanted)
    assert error.value.outcome == Outcome.CONFIG_INVALID
    return error.value.message


def test_an_image_without_the_harness_is_named_before_anything_is_trained(
    wanted: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmarks, "LIBRARY", "no_such_harness")
    message = refused(wanted())
    assert message.startswith(
        "evaluation.lmEval: needs lm-evaluation-harness, which this trainer lacks: build its image"
    )
    assert "EXTRAS=trainer,lm-eval" in message


def test_what_can_not_be_run_is_refused_by_prepare(wanted: Wanted, tmp_path: Path) -> None:
    with running(Engine(reply)) as engine:
        case = Case(tmp_path, engine)
        case.prepared()
    assert case.config is not None
    with pytest.raises(StageError, match="has no task drinks"):
        prepare(case.config, case.workspace, Reporter("prepare"), EvaluationConfig(lm_eval=wanted(tasks=("drinks",))))


def test_a_task_that_is_in_no_file_is_named(wanted: Wanted) -> None:
    message = refused(wanted(tasks=("foods", "drinks")))
    assert message == "evaluation.lmEval: pvc://benchmarks/tasks has no task drinks; there: foods."


def test_rows_of_the_hub_and_code_are_refused(wanted: Wanted) -> None:
    assert "task foods takes its rows from cais/mmlu; put them beside it" in refused(wanted(dataset_path="cais/mmlu"))
    message = refused(wanted("task: foods\nprocess_docs: !function utils.process\n"))
    assert "foods.yaml is no plain YAML, and code (!function) is not run" in message


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageError) as error:
        check(LmEvalConfig(source=Source(uri="configmap://tasks", path=tmp_path / "nowhere"), tasks=("foods",)))
    assert error.value.message == "evaluation.lmEval.source: configmap://tasks is no directory."


def test_the_report_has_both_scores_and_the_difference() -> None:
    found = {"foods": Benchmark(metric="acc", tuned=0.5, base=0.75)}
    sentence = "foods, by lm-evaluation-harness: acc 0.500, the base model 0.750, a difference of -0.250."
    assert told(found) == [sentence]
    assert sentence in render(decision(result(benchmarks=found)))
    assert "is not served beside this one" in told({"foods": Benchmark(metric="acc", tuned=0.5)})[0]
