"""`finetune status`: a job's status document as a table, or as it is."""

from datetime import UTC, datetime

from finetune_operator.api.status import FineTuneJobStatus
from rich.console import Group, RenderableType
from rich.text import Text

from finetune_cli.describe import conditions
from finetune_cli.jobs import Job
from finetune_cli.trials import trials_table
from finetune_cli.words import of_status


def table(job: Job) -> RenderableType:
    """The summary line, the conditions, and a word when nothing is under way that could be."""
    status = job.status
    parts: list[RenderableType] = [_head(job.name, status), conditions(status.conditions, datetime.now(UTC))]
    if status.trials:
        parts.append(trials_table([of_status(trial) for trial in status.trials]))
    if job.idle and any(found.status == "Unknown" for found in status.conditions):
        parts.append(Text("No `finetune run` of it is under way; running it again goes on from here."))
    return Group(*parts)


def _head(name: str, status: FineTuneJobStatus) -> Text:
    head = Text.assemble((name, "bold"), f"  {status.phase}  revision {status.revision}")
    if status.progress_summary:
        head.append(f"  step {status.progress_summary}")
    if status.evaluation:
        best = status.evaluation.best_baseline_summary
        head.append(f"  {status.evaluation.metric_summary}{f' ({best})' if best else ''}")
    if status.endpoint:
        head.append(f"  {status.endpoint.url}")
    return head
