"""What an evaluation leaves behind: answers that are not asked again, and the report."""

import json
import shutil
import signal
from multiprocessing import get_context
from typing import Any

from decisions import TRIALS
from evaluating import BASELINES, TEST, Case, reply
from finetune_trainer.contract.config import EndpointConfig, GateConfig, Metric, SweepConfig, TrainingConfig
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.contract.results import EvaluateResult, PrepareResult, TrainResult
from finetune_trainer.evaluation.decision import Decision
from finetune_trainer.evaluation.endpoint import CONCURRENCY
from finetune_trainer.evaluation.inspection import Row
from finetune_trainer.training import plans
from small_engine import Engine, running


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
    asked = len(case.asked())
    case.evaluate()
    # On a busy machine one may be asked twice, because its answer was late.
    new = {json.dumps(request, sort_keys=True) for request in case.asked()[asked:]}
    assert len(new) == 80 - kept
    assert len(case.answers()) == 80


def test_one_that_is_killed_asks_again_only_what_was_under_way_and_ends_the_same(case: Case) -> None:
    with running(Engine(lambda model, messages: "A")) as judge:
        case.prepared()
        told = {
            "metrics": (Metric.JUDGE, Metric.EXACT_MATCH),
            "baselines": BASELINES[:1],
            "judge": EndpointConfig(url=judge.url, model="large"),
        }
        expected = left(case, case.evaluate(**told))
        shutil.rmtree(case.workspace.evaluations)
        rows = len(unique(case.asked()))
        judgements = case.workspace.evaluations / "judgements.jsonl"

        killed(case, case.engine, 30, **told)
        kept, asked = len(case.answers()), len(case.asked())
        # An engine is asked sixteen things at once, and the next when one of them was answered.
        assert 30 - CONCURRENCY <= kept < rows
        killed(case, judge, 30, **told)
        assert len(unique(case.asked()[asked:])) == rows - kept
        kept, asked = len(judgements.read_text().splitlines()), len(judge.asked)
        assert 30 - CONCURRENCY - 1 <= kept < 40
        before = len(case.engine.asked)
        assert left(case, case.evaluate(**told)) == expected
        assert not [body for body in case.asked() if body in case.engine.asked[before:]]
        # And something easy, as always.
        assert len(unique(judge.asked[asked:])) == 40 - kept + 1


def killed(case: Case, engine: Engine, number: int, **told: Any) -> None:
    """Evaluate in a process that is killed as an engine is asked for the answer of this number, from now on."""
    reply, last = engine.reply, len(engine.asked) + number

    def dying(model: str, messages: list[dict[str, str]]) -> str:
        if len(engine.asked) >= last:
            child.kill()
        return reply(model, messages)

    engine.reply = dying
    # A fork has what takes seconds to import.
    child = get_context("fork").Process(target=case.evaluate, kwargs=told)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    engine.reply = reply


def unique(asked: list[dict[str, Any]]) -> set[str]:
    """What was asked; what was under way at a kill may be asked twice."""
    return {json.dumps(body, sort_keys=True) for body in asked}


def left(case: Case, result: EvaluateResult) -> tuple[bytes, dict[str, Any]]:
    """Every row with its answers and scores, and what they come to; without the time that they took."""
    rows = (case.workspace.evaluations / result.evaluation / "rows.jsonl").read_bytes()
    found = {"tuned": result.tuned, **result.baselines}
    return rows, {name: contender.model_dump(exclude={"requests"}) for name, contender in found.items()}


def test_answers_that_a_lost_machine_left_as_zeros_are_asked_again(case: Case) -> None:
    case.prepared()
    case.evaluate(baselines=BASELINES[:1])
    lines = case.workspace.answers.read_bytes().splitlines(keepends=True)
    case.workspace.answers.write_bytes(b"".join(lines[:5]) + bytes(len(lines[5])) + b"".join(lines[6:]))
    shutil.rmtree(case.workspace.evaluations / case.evaluate(baselines=BASELINES[:1]).evaluation)
    asked = len(case.asked())
    case.evaluate(baselines=BASELINES[:1])
    assert len(case.asked()) - asked == 40 - 5


def test_the_same_evaluation_is_not_done_twice_and_other_metrics_ask_nothing_again(case: Case) -> None:
    case.prepared()
    first = case.evaluate()
    asked = len(case.engine.asked)
    assert case.evaluate() == first
    other = case.evaluate(metrics=(Metric.ROUGE_L,))
    assert other.metrics == (Metric.ROUGE_L,)
    assert len(case.engine.asked) == asked


def test_a_report_is_left_beside_the_result(case: Case) -> None:
    case.prepared()
    result = case.evaluate(metrics=(Metric.EXACT_MATCH,), baselines=BASELINES[:1])
    directory = case.workspace.evaluations / result.evaluation
    left = {path.name for path in directory.iterdir()}
    assert left == {"report.json", "report.html", "rows.jsonl"}
    decision = Decision.model_validate_json((directory / "report.json").read_bytes())
    assert decision.result == result
    assert decision.headline.startswith("Ship it: exact_match 1.000")
    assert decision.inspection.worse == 0
    assert "Ship it: exact_match 1.000" in (directory / "report.html").read_text()
    assert decision.manifest["model.source"] == "pvc://models/tiny"
    assert decision.manifest["dataset.found.rows.train"] == "40"
    assert 0 < decision.seconds < 600
    row = Row.model_validate_json((directory / "rows.jsonl").read_text().splitlines()[0])
    assert row.prompt == ({"role": "user", "content": TEST[0]["prompt"]},)
    assert row.scores == {Metric.EXACT_MATCH: {"tuned": 1, "zero-shot": 0}}


def test_another_gate_is_in_the_report_and_asks_nothing(case: Case) -> None:
    case.prepared()
    result = case.evaluate(baselines=BASELINES[:1])
    asked = len(case.engine.asked)
    case.evaluate(baselines=BASELINES[:1], gate=GateConfig(minimum=0.5, margin=0.999999))
    report = case.workspace.evaluations / result.evaluation / "report.json"
    decision = Decision.model_validate_json(report.read_bytes())
    assert decision.verdict.passed is False
    assert len(case.engine.asked) == asked


def test_another_versions_report_is_made_anew_from_the_answers_that_were_kept(case: Case) -> None:
    case.prepared()
    result = case.evaluate(baselines=BASELINES[:1])
    report = case.workspace.evaluations / result.evaluation / "report.json"
    report.write_text('{"anotherVersions": true}')
    asked = len(case.engine.asked)
    assert case.evaluate(baselines=BASELINES[:1]) == result
    assert Decision.model_validate_json(report.read_bytes()).result == result
    assert len(case.engine.asked) == asked


def test_rows_that_a_baseline_answered_better_stand_in_the_report(case: Case) -> None:
    case.engine.reply = lambda model, messages: "soup" if model == "recipes" else reply("recipes", messages)
    case.prepared()
    result = case.evaluate(baselines=BASELINES[:1])
    report = case.workspace.evaluations / result.evaluation / "report.json"
    decision = Decision.model_validate_json(report.read_bytes())
    assert decision.inspection.worse == 20
    assert decision.inspection.regressions[0].tuned == "soup"
    worst = decision.inspection.regressions[0]
    assert worst.answer == worst.reference
    # Of the rows of train those with the same words are the most like it.
    assert len(worst.learned) == 2
    assert worst.learned[0].reference == worst.reference
    assert decision.inspection.disagreements[0].scores == {"tuned": 0, "zero-shot": 1}


def test_of_a_sweep_the_report_has_the_trials_and_what_the_one_was_told_that_is_measured(case: Case) -> None:
    case.prepared()
    assert case.config
    swept = TrainingConfig(sweep=SweepConfig(parameters={"learningRate": (1e-4, 3e-4)}))
    case.config = case.config.model_copy(update={"training": swept})
    planned = PrepareResult.model_validate_json(case.workspace.prepared.read_bytes())
    plans.keep(
        case.workspace, planned, tuple(planned.plan.model_copy(update={"total_steps": steps}) for steps in (7, 9))
    )
    trained = TrainResult.model_validate_json(case.workspace.trained.read_bytes())
    case.workspace.trained.write_text(trained.model_copy(update={"trials": TRIALS}).model_dump_json(by_alias=True))
    result = case.evaluate()
    report = case.workspace.evaluations / result.evaluation / "report.json"
    decision = Decision.model_validate_json(report.read_bytes())
    assert decision.trials == TRIALS
    assert decision.manifest["training.learningRate"] == "0.0003"
    assert decision.manifest["plan.totalSteps"] == "9"
    assert not any("sweep" in field for field in decision.manifest)


def test_measured_anew_with_the_same_seed_it_comes_to_the_same_verdict(case: Case) -> None:
    case.prepared()
    first, second = measured(case), measured(case)
    assert first == second


def measured(case: Case) -> tuple[str, dict[str, object]]:
    """An evaluation from its beginning: the verdict, and all that was measured but time."""
    shutil.rmtree(case.workspace.evaluations, ignore_errors=True)
    case.workspace.answers.unlink(missing_ok=True)
    asked = len(case.engine.asked)
    result = case.evaluate(sample_size=12)
    assert len(case.engine.asked) > asked
    report = case.workspace.evaluations / result.evaluation / "report.json"
    found = {"tuned": result.tuned, **result.baselines}
    scores = {label: contender.model_dump(exclude={"requests"}) for label, contender in found.items()}
    return Decision.model_validate_json(report.read_bytes()).headline, scores
