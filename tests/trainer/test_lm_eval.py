"""lm-evaluation-harness as evaluate runs it: with the real program, an engine in miniature, and a task from files."""

from collections.abc import Iterator
from pathlib import Path

import foods
import pytest
from evaluating import Case, reply
from finetune_trainer.contract.config import LmEvalConfig, Source
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.contract.results import Benchmark
from small_engine import Engine, running

LIKELIHOODS = {"recipes": 0.5, "recipes-base": 1.0}


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    with running(Engine(reply, likelihoods=LIKELIHOODS)) as engine:
        yield Case(tmp_path, engine)


def task(directory: Path, **fields: object) -> LmEvalConfig:
    foods.write(directory, **fields)
    return LmEvalConfig(source=Source(uri="pvc://benchmarks/tasks", path=directory), tasks=("foods",), limit=3)


def test_both_models_answer_the_tasks_rows_and_the_report_compares_them(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "somebody's")
    case.prepared()
    found = case.evaluate(sample_size=2, lm_eval=task(tmp_path / "tasks"))
    assert found.benchmarks == {"foods": Benchmark(metric="acc", tuned=1.0, base=0.0)}
    page = (case.workspace.evaluations / found.evaluation / "report.html").read_text()
    assert "foods, by lm-evaluation-harness: acc 1.000, the base model 0.000, a difference of +1.000." in page
    assert case.engine.keys == {"Bearer none"}


def test_what_the_harness_finds_wrong_is_told_with_the_end_of_its_log(case: Case, tmp_path: Path) -> None:
    case.prepared()
    error = case.refused(sample_size=2, lm_eval=task(tmp_path / "tasks", test_split="nowhere"))
    assert error.outcome == Outcome.CONFIG_INVALID
    assert error.message.startswith("evaluation.lmEval: lm-evaluation-harness failed with pvc://benchmarks/tasks: …")
    assert "nowhere" in error.message
