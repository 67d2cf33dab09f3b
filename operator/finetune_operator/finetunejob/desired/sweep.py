"""What the train Job of a sweep has to know: how many trials and pods there are, and what the pods are told.

Which trials there are the run config says; that several pods share them, and how often each is tried again, is no part
of a revision. Used by `jobs` and the stage, and by the local backend.
"""

from finetune_trainer.contract.sweep import count

from finetune_operator.api.training import Training
from finetune_operator.finetunejob.desired.run_config import sweep_config


def trials(training: Training) -> int:
    """How many; 1 without a sweep."""
    return count(sweep_config(training.sweep)) if training.sweep else 1


def pods(training: Training) -> int:
    """How many pods take trials at the same time: no more than there are trials."""
    return min(training.sweep.parallel, trials(training)) if training.sweep else 1


def arguments(training: Training, pods: int = 1) -> tuple[str, ...]:
    """What train is told: how often it tries a trial again, and of several pods which one it is."""
    if training.sweep is None:
        return ()
    shared = ("--pods", str(pods), "--pod", "$(JOB_COMPLETION_INDEX)") if pods > 1 else ()
    return ("--retries", str(training.retries), *shared)
