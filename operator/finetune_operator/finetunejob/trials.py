"""The trials of a sweep as status has them: those of a result, and those that a running pod tells of."""

from collections.abc import Iterable

from finetune_trainer.contract.results import Trial

from finetune_operator.api.status import TrialStatus

# A pod may say what it likes.
MOST, NAMES, NAME_LENGTH, MESSAGE_LENGTH = 32, 16, 64, 200


def trial_statuses(trials: Iterable[Trial]) -> list[TrialStatus] | None:
    """Fractions as strings; None where there are no trials."""
    return [_status(trial) for trial in list(trials)[:MOST]] or None


def _status(trial: Trial) -> TrialStatus:
    told = list(trial.parameters.items())[:NAMES]
    return TrialStatus(
        number=trial.number,
        parameters={name[:NAME_LENGTH]: f"{value:g}" for name, value in told},
        outcome=trial.outcome[:NAME_LENGTH],
        message=trial.message[:MESSAGE_LENGTH] or None,
        validation_loss=None if trial.validation_loss is None else f"{trial.validation_loss:.4f}",
        trained_tokens=trial.usage.trained_tokens if trial.usage else None,
        seconds=round(trial.usage.seconds) if trial.usage else None,
        taken=trial.taken,
    )
