"""The trials of a sweep as a table, of `finetune report` and `finetune status`."""

from collections.abc import Sequence

from finetune_trainer.contract.results import Trial
from finetune_trainer.evaluation.trials import trial_rows
from rich import box
from rich.table import Table


def trials_table(trials: Sequence[Trial]) -> Table:
    """A line for each; the one that was taken stands out."""
    rows = trial_rows(trials)
    found = Table(box=box.SIMPLE, pad_edge=False)
    for name in rows[0].columns:
        found.add_column(name, overflow="fold")
    for row in rows:
        found.add_row(str(row.number), *row.cells, style="bold" if row.taken else "")
    return found
