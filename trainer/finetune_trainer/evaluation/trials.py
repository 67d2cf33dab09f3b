"""The trials of a sweep as a table: for the page, for `finetune report`, and for `finetune status`. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from finetune_trainer.contract.results import Trial


@dataclass(frozen=True)
class TrialRow:
    """A row: its number, and what stands under each of `columns` but the first, which is for the number."""

    number: int
    columns: tuple[str, ...]
    cells: tuple[str, ...]
    taken: bool


def trial_rows(trials: Sequence[Trial]) -> list[TrialRow]:
    """A row for each trial, in order."""
    names = sorted({name for trial in trials for name in trial.parameters})
    columns = ("trial", *names, "validation loss", "tokens", "seconds", "outcome")
    return [
        TrialRow(trial.number, columns, (*_values(trial, names), *_came_to(trial)), trial.taken) for trial in trials
    ]


def _values(trial: Trial, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{trial.parameters[name]:g}" for name in names)


def _came_to(trial: Trial) -> tuple[str, ...]:
    loss = "-" if trial.validation_loss is None else f"{trial.validation_loss:.4f}"
    took = (f"{trial.usage.trained_tokens:,}", f"{trial.usage.seconds:,.0f}") if trial.usage else ("-", "-")
    outcome = "taken" if trial.taken else trial.outcome if not trial.message else f"{trial.outcome}: {trial.message}"
    return (loss, *took, outcome)
