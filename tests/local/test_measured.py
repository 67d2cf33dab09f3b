"""A job measured on a laptop by the real engine, in the smallest way: too short a training, which the gate refuses.

It learns from answers that are good or bad. End to end they are all right ones, and `test_preferences` has pairs.
"""

import json
from collections.abc import Callable
from pathlib import Path

import foods
import pytest
from finetune_cli.errors import ExitCode
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.evaluation.decision import Decision
from laptop import NAME, ROWS, SMOLLM2, Finetune

EVALUATION = {
    "metrics": ["token_f1", "inverse_perplexity"],
    "baselines": [{"type": "zero-shot"}, {"type": "retrieval", "topK": 1}],
    "sampleSize": 4,
    "lmEval": {"source": "file://tasks", "tasks": ["foods"], "limit": 3},
}


def labelled(number: int, line: str) -> str:
    """A row of the recipes with its own answer, which is good, or every fourth one with an answer that says nothing."""
    *prompt, answer = json.loads(line)["messages"]
    good = number % 4 != 3
    said = answer if good else answer | {"content": "It depends on what you have at home."}
    return json.dumps({"prompt": prompt, "completion": [said], "label": good}) + "\n"


@pytest.fixture(scope="module", autouse=True)
def rows(directory: Path) -> None:
    found = [labelled(number, line) for number, line in enumerate(ROWS.read_text().splitlines()[:46])]
    (directory / "train.jsonl").write_text("".join(found[:40]))
    (directory / "test.jsonl").write_text("".join(found[40:]))
    foods.write(directory / "tasks")


@pytest.fixture
def measured(write: Callable[..., None]) -> Callable[..., None]:
    """Writes the manifest with this gate."""

    def job(**gate: object) -> None:
        write(
            model={"source": f"file://{SMOLLM2}"},
            dataset={"train": {"source": "file://train.jsonl"}, "test": {"source": "file://test.jsonl"}},
            training={"method": "kto", "maxSteps": 2, "batchSize": 2, "maxLength": 128},
            evaluation=EVALUATION | ({"gate": gate} if gate else {}),
            hosting={"contextLength": 512},
        )

    return job


def decision(directory: Path) -> Decision:
    (report,) = (directory / ".finetune" / NAME).glob("*/evaluations/*/report.json")
    return Decision.model_validate_json(report.read_bytes())


def test_what_misses_the_gate_is_not_served(finetune: Finetune, measured: Callable[..., None], directory: Path) -> None:
    measured(minimum=0.99)
    run = finetune("run", "job.yaml")
    assert run.ends() == ExitCode.GATE_NOT_MET
    assert "evaluate failed (GateNotMet): token_f1 0." in run.said
    assert "It misses gate.minimum 0.99 by 0." in run.said
    assert "The report: " in run.said
    status = json.loads((directory / ".finetune" / NAME / "status.json").read_text())
    assert status["phase"] == "Rejected"
    reasons = {found["type"]: found["reason"] for found in status["conditions"]}
    assert (reasons["Hosted"], reasons["Evaluated"], reasons["Promoted"]) == ("Released", "GateNotMet", "Waiting")


def test_the_engine_itself_tells_how_likely_it_finds_the_references(directory: Path) -> None:
    result = decision(directory).result
    assert result.rows == 4
    for contender in (result.tuned, *result.baselines.values()):
        # A model that guessed among 49,152 tokens would reach 0.00002.
        assert 0.01 < contender.scores["inverse_perplexity"].score < 1
        assert contender.requests.requests_per_second > 0
    assert result.drift is not None


def test_lm_evaluation_harness_asks_the_engine_itself(directory: Path) -> None:
    (found,) = decision(directory).result.benchmarks.values()
    assert found.metric == "acc"
    # Of three rows each, with two choices.
    assert {found.tuned, found.base} <= {0, 1 / 3, 2 / 3, 1}


def test_the_report_can_be_read_again_with_prices(finetune: Finetune, directory: Path) -> None:
    report = finetune("report", "--million-prompt-tokens", "1", "--save", "priced.html")
    assert report.ends() == 0
    assert "token_f1" in report.said
    assert "retrieval" in report.said
    assert "Should you ship it?" in (directory / "priced.html").read_text()


def test_without_the_gate_it_is_served_and_nothing_is_asked_again(
    finetune: Finetune, measured: Callable[..., None], directory: Path
) -> None:
    (answers,) = (directory / ".finetune" / NAME).glob("*/evaluations/answers.jsonl")
    before = answers.stat().st_mtime_ns
    measured()
    run = finetune("run", "job.yaml")
    status = run.until(lambda status: status.get("phase") == "Serving")
    assert status["evaluation"]["passed"] is True
    assert answers.stat().st_mtime_ns == before
    assert run.interrupt() == 0
    assert "No gate was set." in run.said
    assert decision(directory).gate is None


def test_metrics_that_do_not_fit_are_refused_before_anything_is_trained(
    finetune: Finetune, write: Callable[..., None], directory: Path
) -> None:
    write(
        dataset={"train": {"source": "file://train.jsonl"}},
        training={"maxSteps": 2, "seed": 8},
        evaluation={"metrics": ["json_valid"]},
    )
    run = finetune("run", "job.yaml")
    assert run.ends() == Outcome.CONFIG_INVALID.exit.code
    assert "prepare failed (ConfigInvalid): evaluation.metrics: json_valid can't be used with these rows" in run.said


def test_plain_text_is_trained_and_not_measured(
    finetune: Finetune, write: Callable[..., None], directory: Path
) -> None:
    rows = "".join(json.dumps({"text": f"{number} eggs and {number} leeks"}) + "\n" for number in range(20))
    (directory / "text.jsonl").write_text(rows)
    write(
        dataset={"train": {"source": "file://text.jsonl"}},
        training={"maxSteps": 1, "batchSize": 2, "maxLength": 64},
        evaluation={},
        hosting={"enabled": False},
    )
    run = finetune("run", "job.yaml")
    assert run.ends() == 0
    assert "The artifact is in " in run.said
    assert "host" not in [line.partition(":")[0] for line in run.said.splitlines()]
