"""The plan of a training, or of each trial of a sweep. Called by `prepare`; what a trial is planned lies with it."""

from finetune_trainer.contract.config import RunConfig, Sharding, TrainingConfig, Workspace
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.results import Plan, PrepareResult
from finetune_trainer.contract.sweep import of_trial, told, trials
from finetune_trainer.data.base import ModelFigures
from finetune_trainer.data.disk import write_whole
from finetune_trainer.training import hyperparameters
from finetune_trainer.training.hyperparameters import TrainCounts
from finetune_trainer.training.memory import Device


def trainings(config: RunConfig) -> tuple[TrainingConfig, ...]:
    """What is trained: one, or each trial of a sweep."""
    count = len(trials(config.training))
    return tuple(of_trial(config, number).training for number in range(1, count + 1)) or (config.training,)


def choose(
    config: RunConfig, counts: TrainCounts, model: ModelFigures, device: Device, sharding: Sharding, validated: bool
) -> tuple[Plan, ...]:
    """A plan for each of them. Raises StageError as `hyperparameters.choose` does, and says of which trial.

    `validated`: there are rows for it; without any no trial is better than another.
    """
    found = trials(config.training)
    if not found:
        return (hyperparameters.choose(config.training, counts, model, device, sharding),)
    if not validated:
        raise StageError(
            Outcome.CONFIG_INVALID,
            "training.sweep takes the trial with the lowest loss on rows for validation, and there are none: set "
            "dataset.validation.",
        )
    plans = []
    for parameters, training in zip(found, trainings(config), strict=True):
        try:
            plans.append(hyperparameters.choose(training, counts, model, device, sharding))
        except StageError as error:
            raise StageError(error.outcome, f"The trial with {told(parameters)}: {error.message}") from error
    return tuple(plans)


def of_all(config: RunConfig, plans: tuple[Plan, ...]) -> Plan:
    """What is told of them: the plan of the one that needs the most memory, and the tokens of all."""
    sweep = config.training.sweep
    largest = max(plans, key=lambda plan: plan.estimated_memory_bytes)
    if sweep is None:
        return largest
    why = f"of the trial of {len(plans)} that needs the most memory; training.sweep tries"
    swept = {name: f"{why} {', '.join(f'{value:g}' for value in values)}" for name, values in sweep.parameters.items()}
    return largest.model_copy(
        update={
            "estimated_trained_tokens": sum(plan.estimated_trained_tokens for plan in plans),
            "reasons": largest.reasons | swept,
        }
    )


def keep(workspace: Workspace, result: PrepareResult, plans: tuple[Plan, ...]) -> None:
    """Leave each trial of a sweep its own plan, where train looks for it."""
    for number, plan in enumerate(plans, 1):
        told_alone = result.model_copy(update={"plan": plan})
        write_whole(workspace.trial(number).prepared, told_alone.model_dump_json(by_alias=True, exclude_none=True))
