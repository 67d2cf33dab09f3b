"""evaluate: the tuned model and each baseline answer the same test rows, on the engine that will serve.

A reward model rates the rows' answers there. Called by the program's `evaluate` command, on a pod without an
accelerator. `report.json` is written last: a run for the same evaluation that finds it asks nothing.
"""

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from finetune_trainer.contract.config import (
    METRICS_FILE,
    REPORT_PAGE,
    REPORT_ROWS,
    EvaluationConfig,
    Metric,
    RunConfig,
    Workspace,
)
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.results import EvaluateResult, PrepareResult, TrainResult
from finetune_trainer.contract.sweep import of_trial
from finetune_trainer.data.disk import write_whole
from finetune_trainer.evaluation import choosers, decision, manifest, page, testset
from finetune_trainer.evaluation.ask import Whom
from finetune_trainer.evaluation.contenders import Question
from finetune_trainer.evaluation.decision import Decision, Found
from finetune_trainer.evaluation.inspection import Learned, Row, Similar
from finetune_trainer.evaluation.measuring import Measuring
from finetune_trainer.evaluation.ranking import Ranking
from finetune_trainer.evaluation.result import Measured, summed_up
from finetune_trainer.server import Reporter

logger = logging.getLogger(__name__)

# Rows of train to hold beside a row that got worse.
LEARNED = 2


def evaluate(
    config: RunConfig, evaluation: EvaluationConfig, workspace: Workspace, whom: Whom, reporter: Reporter
) -> EvaluateResult:
    """Ask, score and write the report. Raises StageError."""
    if before := decision.reported(workspace.evaluation(evaluation)):
        logger.info("This was evaluated already.")
        # The gate and the prices may be others by now.
        decided = decision.again(before, evaluation.gate, evaluation.prices, evaluation.accelerators)
        _write_report(workspace.evaluation(evaluation), decided)
        return before.result
    if evaluation.base_alone and not whom.base_url:
        message = "The base model has an engine of its own: --base-endpoint must say where."
        raise StageError(Outcome.CONFIG_INVALID, message)
    workspace.evaluation(evaluation).mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    reporter.update(activity="comparing the test rows with train")
    test, train = (testset.questions(workspace, split) for split in ("test", "train"))
    clean = testset.clean(test, train, evaluation)
    chosen, reason = testset.chosen(evaluation, test, config.training.method)
    measures = Measuring if config.training.method.writes else Ranking
    measuring = measures(config, evaluation, workspace, whom, clean.kept, train, reporter)
    found = measuring.all(chosen)
    result = summed_up(evaluation, clean, chosen, reason, found, measuring.drift(), measuring.benchmarks())
    table, seconds = _table(clean.kept, found, chosen), time.monotonic() - began
    _report(config, evaluation, workspace, result, table, seconds, _similar(train))
    logger.info("%s", result.model_dump_json(by_alias=True))
    return result


def _table(questions: Sequence[Question], contenders: Sequence[Measured], chosen: Sequence[Metric]) -> list[Row]:
    """Every row with each contender's answer and scores."""
    found = {each.name: each for each in contenders}
    scores = {
        metric: {name: each.statistics[metric].rows for name, each in found.items() if metric in each.statistics}
        for metric in chosen
    }
    return [
        Row(
            prompt=question.prompt,
            tools=question.tools,
            reference=question.reference,
            answers={name: each.predictions.texts[row] for name, each in found.items()},
            scores={metric: {name: rows[row] for name, rows in by.items()} for metric, by in scores.items()},
        )
        for row, question in enumerate(questions)
    ]


def _similar(train: Sequence[Question]) -> Similar:
    """The rows of train that are most like one of test, the most similar first."""
    # Whoever has no regression needs no index.
    index = cache(lambda: choosers.retrieval(train, LEARNED))

    def similar(row: Row) -> list[Learned]:
        found = index()(Question(row.prompt, row.reference, row.tools))
        return [Learned(prompt=each.asked, reference=each.reference) for each in reversed(found)]

    return similar


def _report(
    config: RunConfig,
    evaluation: EvaluationConfig,
    workspace: Workspace,
    result: EvaluateResult,
    table: list[Row],
    seconds: float,
    similar: Similar,
) -> None:
    """Leave rows.jsonl, report.html and report.json."""
    trained = TrainResult.model_validate_json(workspace.trained.read_bytes())
    curve = decision.curve(workspace.artifact / METRICS_FILE)
    # Of a sweep, what the trial was told that is measured.
    number = trained.taken
    trial, place = (of_trial(config, number), workspace.trial(number)) if number else (config, workspace)
    told = manifest.fields(trial, evaluation, PrepareResult.model_validate_json(place.prepared.read_bytes()))
    lines = "".join(row.model_dump_json(by_alias=True) + "\n" for row in table)
    (workspace.evaluation(evaluation) / REPORT_ROWS).write_text(lines)
    found = Found(result, table, trained.usage, curve, seconds, similar, told, trained.chosen, trained.trials)
    _write_report(workspace.evaluation(evaluation), decision.decide(config, evaluation, found, datetime.now(UTC)))


def _write_report(directory: Path, decided: Decision) -> None:
    (directory / REPORT_PAGE).write_text(page.render(decided))
    write_whole(directory / decision.REPORT, decided.model_dump_json(by_alias=True, indent=2) + "\n")
