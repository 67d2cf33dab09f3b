"""A job as the page shows it: frozen, and plain text and numbers alone. Pure; the templates decide nothing.

What is said is `finetune describe`'s; `pages` gives it to the templates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import yaml
from finetune_cli.advice import advice
from finetune_cli.jobs import Job
from finetune_cli.words import age, facts, of_status, where, why
from finetune_operator.api.status import EvaluationStatus, FineTuneJobStatus, Phase
from finetune_operator.conditions import KSTATUS, Reason
from finetune_trainer.contract.curve import Point
from finetune_trainer.contract.results import TUNED
from finetune_trainer.evaluation.trials import TrialRow, trial_rows

_GOOD = (Phase.SERVING, Phase.SUCCEEDED)
_BAD = (Phase.FAILED, Phase.REJECTED, Phase.INVALID, Phase.BLOCKED)
_WORDS = {"True": "done", "False": "failed", "Unknown": "not yet"}
_TONES = {"True": "good", "False": "bad", "Unknown": "open"}


@dataclass(frozen=True)
class JobLine:
    """A job in the list. `share`: of its steps, in percent; None where it has none under way."""

    name: str
    phase: str
    tone: str
    where: str
    share: int | None
    metric: str
    baseline: str
    age: str


@dataclass(frozen=True)
class ConditionLine:
    """A condition on the way. `state` is `tone` in a word, for who sees no colours."""

    name: str
    state: str
    tone: str
    reason: str
    since: str
    at: str
    message: str


@dataclass(frozen=True)
class Score:
    """A contender's score, from 0 to 1, and its prompt's length. `length`: of its bar, in percent."""

    name: str
    score: str
    tokens: str
    length: int
    tuned: bool


@dataclass(frozen=True)
class EvaluationView:
    """What was measured, and whether that was enough."""

    passed: bool
    said: str
    metric: str
    reason: str
    scores: tuple[Score, ...]


@dataclass(frozen=True)
class HistoryLine:
    """A revision or a checkpoint of the history."""

    name: str
    outcome: str
    metric: str
    uri: str


@dataclass(frozen=True)
class JobView:
    """A job on its page."""

    name: str
    phase: str
    tone: str
    where: str
    why: str
    share: int | None
    next: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    steps: tuple[ConditionLine, ...]
    trials: tuple[TrialRow, ...]
    evaluation: EvaluationView | None
    history: tuple[HistoryLine, ...]
    tracking: str
    answers: bool


def line(job: Job, now: datetime) -> JobLine:
    """A job in the list."""
    status, measured = job.status, job.status.evaluation
    return JobLine(
        name=job.name,
        phase=str(status.phase),
        tone=_tone(status),
        where=where(job, now),
        share=_share(status),
        metric=measured.metric_summary if measured else "",
        baseline=(measured.best_baseline_summary or "") if measured else "",
        age=age(job.created, now) if job.created else "",
    )


def job_view(job: Job, now: datetime) -> JobView:
    """A job on its page."""
    status = job.status
    return JobView(
        name=job.name,
        phase=str(status.phase),
        tone=_tone(status),
        where=where(job, now),
        why=why(job),
        share=_share(status),
        next=tuple(advice(job)),
        facts=tuple(facts(status)),
        steps=tuple(_steps(status, now)),
        trials=tuple(trial_rows([of_status(trial) for trial in status.trials])) if status.trials else (),
        evaluation=_evaluation(status.evaluation) if status.evaluation else None,
        history=_history(status),
        tracking=(status.tracking.url or "") if status.tracking else "",
        answers=status.endpoint is not None,
    )


def manifest(asked: Mapping[str, object]) -> str:
    """What was asked for, as people write it."""
    return yaml.safe_dump(dict(asked), sort_keys=False, allow_unicode=True) if asked else ""


def losses(status: FineTuneJobStatus) -> list[Point]:
    """The losses of its revision's training that a status tells, in order: the curve, and the ones of this moment."""
    found = {each.step: Point(each.step, _loss(each.loss), _loss(each.validation_loss)) for each in status.curve or ()}
    now = status.progress
    if now and now.loss is not None and now.step > max(found, default=-1):
        found[now.step] = Point(now.step, float(now.loss), _loss(now.validation_loss))
    return [found[step] for step in sorted(found)]


def told(points: Sequence[Point]) -> str:
    """A curve in a sentence, for who can't see it."""
    training = [(step, loss) for step, loss, _ in points if loss is not None]
    validation = [(step, loss) for step, _, loss in points if loss is not None]
    if not training:
        return "No loss is known yet."
    said = (
        f"Training loss {training[0][1]:.3f} at step {training[0][0]}, {training[-1][1]:.3f} at step {training[-1][0]}."
    )
    if not validation:
        return said
    step, best = min(validation, key=lambda each: each[1])
    return f"{said} Validation loss is lowest at step {step}: {best:.3f}."


def _loss(text: str | None) -> float | None:
    return None if text is None else float(text)


def _tone(status: FineTuneJobStatus) -> str:
    return "good" if status.phase in _GOOD else "bad" if status.phase in _BAD else "open"


def _share(status: FineTuneJobStatus) -> int | None:
    progress = status.progress
    return round(100 * progress.step / progress.total_steps) if progress and progress.total_steps else None


def _steps(status: FineTuneJobStatus, now: datetime) -> list[ConditionLine]:
    found = [each for each in status.conditions if each.type not in KSTATUS]
    return [
        ConditionLine(
            name=each.type,
            state="not wanted" if each.reason == Reason.DISABLED else _WORDS[each.status],
            tone="none" if each.reason == Reason.DISABLED else _TONES[each.status],
            reason=each.reason,
            since=age(each.last_transition_time, now),
            at=each.last_transition_time.isoformat(),
            message=each.message,
        )
        for each in found
    ]


def _evaluation(measured: EvaluationStatus) -> EvaluationView:
    scores = {TUNED: measured.tuned, **measured.baselines}
    tokens = measured.prompt_tokens_per_request
    return EvaluationView(
        passed=measured.passed,
        said=f"Measured on {measured.rows} test rows; it {'passes' if measured.passed else 'misses'} the gate.",
        metric=measured.metric,
        reason=measured.reason,
        scores=tuple(
            Score(name, score, tokens.get(name, ""), _percent(score), name == TUNED) for name, score in scores.items()
        ),
    )


def _percent(score: str) -> int:
    return min(100, max(0, round(100 * float(score))))


def _history(status: FineTuneJobStatus) -> tuple[HistoryLine, ...]:
    history = [
        HistoryLine(each.revision, each.outcome, each.metric or "", each.artifact.uri if each.artifact else "")
        for each in status.history
    ]
    checkpoints = [
        HistoryLine(
            each.name,
            "kept checkpoint",
            f"validation loss {each.validation_loss}" if each.validation_loss else "",
            each.uri,
        )
        for each in (status.checkpoints or [])[1:]
    ]
    return (*history, *checkpoints)
