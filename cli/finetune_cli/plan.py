"""The plan of a job: how it trains, and why. `finetune plan` shows it by itself, `finetune check` behind the data.

Prepare makes it, wherever that runs.
"""

from finetune_operator.api.status import PlanStatus
from finetune_operator.conditions import Type
from rich.console import Console
from rich.table import Table

from finetune_cli.errors import UserError
from finetune_cli.jobs import Job
from finetune_cli.output import OutputFormat, dump


def plan_of(job: Job) -> PlanStatus:
    """The plan; UserError where there is none yet, with what stands in the way."""
    if job.status.plan:
        return job.status.plan
    found = job.condition(Type.DATA_READY)
    why = f" DataReady is {found.status} ({found.reason}): {found.message}" if found else ""
    raise UserError(f"{job.name} has no plan yet: prepare makes it, once it has seen the rows.{why}")


def is_file(what: str) -> bool:
    """Whether what is to be planned is a file: no job's name has a dot or a slash."""
    return "." in what or "/" in what


def print_plan(plan: PlanStatus, output: OutputFormat, console: Console) -> None:
    """Print it, or for programs what status.plan has."""
    if output == OutputFormat.TABLE:
        console.print(plan_table(plan))
    else:
        dump(plan.model_dump(mode="json", by_alias=True, exclude_none=True), output, console)


def plan_table(plan: PlanStatus) -> Table:
    """A line for each value, with why it was chosen."""
    shown = Table.grid(padding=(0, 2))
    shown.add_column(no_wrap=True)
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")
    for name, value in plan.model_dump(mode="json", by_alias=True, exclude={"reasons"}, exclude_none=True).items():
        shown.add_row(f" {name}", f"{value:,}" if isinstance(value, int) else f"{value}", plan.reasons.get(name))
    return shown
