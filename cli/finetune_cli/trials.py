"""The trials of a sweep as a table, of `finetune report` and `finetune status`."""

from collections.abc import Sequence

from finetune_operator.api.status import TrialStatus
from finetune_trainer.contract.report import Trial, Usage
from finetune_trainer.evaluation.trials import shown
from rich import box
from rich.table import Table


def trials_table(trials: Sequence[Trial]) -> Table:
    """A line for each; the one that was taken stands out."""
    rows = shown(trials)
    found = Table(box=box.SIMPLE, pad_edge=False)
    for name in rows[0].columns:
        found.add_column(name, overflow="fold")
    for row in rows:
        found.add_row(str(row.number), *row.cells, style="bold" if row.taken else "")
    return found


def of_status(told: TrialStatus) -> Trial:
    """A trial as status has it."""
    took = told.trained_tokens is not None and told.seconds is not None
    return Trial(
        number=told.number,
        parameters={name: float(value) for name, value in told.parameters.items()},
        outcome=told.outcome,
        message=told.message or "",
        validation_loss=None if told.validation_loss is None else float(told.validation_loss),
        usage=Usage(trained_tokens=told.trained_tokens or 0, seconds=told.seconds or 0) if took else None,
        taken=told.taken,
    )
