"""The trials of a sweep, a pure function of the run config: which there are, and what each of them is told.

Asked by prepare, which plans each trial, by train, which carries them out, and by the operator, which asks for as many
pods as can be of use. Trials have numbers from 1, the same wherever they are asked for.
"""

import math
import random
from typing import Any

from finetune_trainer.contract.config import RunConfig, SweepConfig, TrainingConfig

# By its path in training, a value.
Parameters = dict[str, int | float]


def count(sweep: SweepConfig) -> int:
    """How many trials it has."""
    return min(_combinations(sweep), sweep.max_trials)


def trials(training: TrainingConfig) -> tuple[Parameters, ...]:
    """The parameters of each trial, in order; of none where there is no sweep.

    Parameters come in the order of their names, for an API server keeps no other, and the first changes slowest. Of
    more combinations than trials it is a sample by training.seed.
    """
    sweep = training.sweep
    if sweep is None:
        return ()
    whole = _combinations(sweep)
    chance = random.Random(training.seed)  # noqa: S311 - a sample, no secret
    chosen = range(whole) if whole <= sweep.max_trials else sorted(chance.sample(range(whole), sweep.max_trials))
    return tuple(_combination(sweep, place) for place in chosen)


def of_trial(config: RunConfig, number: int) -> RunConfig:
    """What a trial is told: the run config with its parameters set, as if the manifest had had them."""
    document: dict[str, Any] = config.training.model_dump(by_alias=True, exclude={"sweep"})
    for path, value in trials(config.training)[number - 1].items():
        *parents, last = path.split(".")
        part = document
        for name in parents:
            part = part[name]
        part[last] = value
    return config.model_copy(update={"training": TrainingConfig.model_validate(document)})


def told(parameters: Parameters) -> str:
    """Parameters for people."""
    return ", ".join(f"{name} {value:g}" for name, value in parameters.items())


def largest_rank(training: TrainingConfig) -> int:
    """The rank that an engine has to be ready for, whichever trial is taken."""
    swept = training.sweep.parameters.get("adapter.rank", ()) if training.sweep else ()
    return int(max(swept, default=training.adapter.rank))


def _combinations(sweep: SweepConfig) -> int:
    return math.prod(len(values) for values in sweep.parameters.values())


def _combination(sweep: SweepConfig, place: int) -> Parameters:
    """The one at a place in the order of all: the digits of a number whose bases are the numbers of values."""
    found: Parameters = {}
    for name in sorted(sweep.parameters, reverse=True):
        place, digit = divmod(place, len(sweep.parameters[name]))
        found[name] = sweep.parameters[name][digit]
    return dict(sorted(found.items()))
