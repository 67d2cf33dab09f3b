"""`finetune describe` and `finetune list`: jobs on a screen, wherever they are. Pure.

A description answers where a job is, why, and what comes next, and then shows what that is taken from.
"""

from collections.abc import Sequence
from datetime import datetime

from finetune_operator.api.status import Condition, EvaluationStatus, FineTuneJobStatus
from finetune_operator.conditions import KSTATUS, Reason
from finetune_trainer.contract.results import TUNED
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from finetune_cli.advice import advice
from finetune_cli.jobs import NO_JOB, Job
from finetune_cli.trials import trials_table
from finetune_cli.words import age, facts, of_status, where, why

MARKS = {"True": ("✔", "green"), "False": ("✘", "red"), "Unknown": ("…", "yellow")}


def listed(jobs: Sequence[Job], now: datetime) -> RenderableType:
    """A line for each."""
    if not jobs:
        return Text(NO_JOB)
    several = len({job.namespace for job in jobs}) > 1
    shown = _table(
        *(["NAMESPACE"] if several else []), "NAME", "PHASE", "PROGRESS", "METRIC", "BEST BASELINE", "ENDPOINT", "AGE"
    )
    shown.show_edge = False
    for job in jobs:
        status, measured = job.status, job.status.evaluation
        shown.add_row(
            *([job.namespace] if several else []),
            job.name,
            status.phase,
            status.progress_summary or "",
            measured.metric_summary if measured else "",
            (measured.best_baseline_summary or "") if measured else "",
            status.endpoint.url if status.endpoint else "",
            age(job.created, now) if job.created else "",
        )
    return shown


def described(job: Job, now: datetime) -> RenderableType:
    """Everything that is known of one, on a screen."""
    parts = [_answers(job, now), _facts(job.status), conditions(job.status.conditions, now)]
    if job.status.trials:
        parts.append(trials_table([of_status(trial) for trial in job.status.trials]))
    if job.status.evaluation:
        parts += _verdict(job.status.evaluation)
    if len(job.status.history) > 1 or job.status.checkpoints:
        parts.append(_history(job.status))
    return Group(*parts)


def _answers(job: Job, now: datetime) -> RenderableType:
    name = f"{job.namespace}/{job.name}" if job.namespace else job.name
    shown = Table.grid(padding=(0, 2))
    shown.add_column(no_wrap=True, style="bold")
    shown.add_column(overflow="fold")
    shown.add_row(name, f"{age(job.created, now)} old" if job.created else "")
    shown.add_row("Where is it", where(job, now))
    shown.add_row("Why", Text(why(job)))
    for number, step in enumerate(advice(job)):
        shown.add_row("What next" if number == 0 else "", Text(step))
    return shown


def _facts(status: FineTuneJobStatus) -> RenderableType:
    shown = Table.grid(padding=(0, 2))
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")
    for name, value in facts(status):
        shown.add_row(name, Text(value))
    return Group("", shown) if shown.row_count else Text("")


def conditions(found: Sequence[Condition], now: datetime) -> RenderableType:
    """A line for each condition."""
    shown = _table("", "CONDITION", "REASON", "SINCE", "MESSAGE")
    for each in (each for each in found if each.type not in KSTATUS):
        mark, style = ("-", "dim") if each.reason == Reason.DISABLED else MARKS[each.status]
        since = age(each.last_transition_time, now)
        shown.add_row(Text(mark, style), each.type, each.reason, since, Text(each.message))
    return shown


def _verdict(measured: EvaluationStatus) -> list[RenderableType]:
    passed = "passes the gate" if measured.passed else "misses the gate"
    shown = _table("", measured.metric, "prompt tokens a request")
    scores = {TUNED: measured.tuned, **measured.baselines}
    for name, score in scores.items():
        shown.add_row(name, score, measured.prompt_tokens_per_request.get(name, ""))
    return [Text.assemble(("Measured", "bold"), f" on {measured.rows} test rows; it {passed}."), shown]


def _history(status: FineTuneJobStatus) -> RenderableType:
    shown = _table("REVISION", "OUTCOME", "METRIC", "ARTIFACT")
    for entry in status.history:
        uri = entry.artifact.uri if entry.artifact else ""
        shown.add_row(entry.revision, entry.outcome, entry.metric or "", uri)
    for kept in (status.checkpoints or [])[1:]:
        loss = f"validation loss {kept.validation_loss}" if kept.validation_loss else ""
        shown.add_row(kept.name, "kept checkpoint", loss, kept.uri)
    return shown


def _table(*columns: str) -> Table:
    shown = Table(box=box.SIMPLE, pad_edge=False)
    for column in columns:
        shown.add_column(column, overflow="fold")
    return shown
