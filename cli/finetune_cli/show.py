"""`finetune status`: the status document of a local run as a table, or as it is."""

from finetune_operator.api.status import Condition, FineTuneJobStatus
from finetune_operator.conditions import KSTATUS
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from finetune_cli.errors import UserError
from finetune_cli.store import as_json, find

_MARKS = {"True": ("✔", "green"), "False": ("✘", "red"), "Unknown": ("…", "yellow")}


def show_status(name: str | None, whole: bool, console: Console) -> None:
    """Print it; UserError when there is none."""
    store = find(name)
    status = store.read()
    if status is None:
        raise UserError(f"{store.status_file} can't be read; `finetune run` writes it anew.")
    if whole:
        console.print(as_json(status), markup=False, highlight=False, soft_wrap=True)
    else:
        console.print(table(store.name, status, store.running))


def table(name: str, status: FineTuneJobStatus, running: bool) -> RenderableType:
    """The summary line, the conditions, and a word when nothing is running that the document says is."""
    unfinished = any(found.status == "Unknown" for found in status.conditions) or status.endpoint is not None
    parts: list[RenderableType] = [_head(name, status), _conditions(status.conditions)]
    if unfinished and not running:
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


def _conditions(conditions: list[Condition]) -> Table:
    shown = Table(box=box.SIMPLE, pad_edge=False)
    for column in ("", "CONDITION", "REASON", "MESSAGE"):
        shown.add_column(column, overflow="fold")
    for found in (each for each in conditions if each.type not in KSTATUS):
        mark, style = _MARKS[found.status]
        shown.add_row(Text(mark, style), found.type, found.reason, Text(found.message))
    return shown
