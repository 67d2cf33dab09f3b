"""What the end of a stage's process means: done, worth another try, or failed. Pure.

Asked by `local` and `check`. A Job's podFailurePolicy decides the same in a cluster, from the same table of exit codes.
"""

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune_operator.conditions import Reason
from finetune_trainer.contract.outcome import Outcome, Termination

# A Job's own back-off: 10 s, doubled with each failure.
FIRST_DELAY = 10.0


@dataclass(frozen=True)
class Ending:
    """How a stage's process ended. A negative code is a signal's number; `log` is the end of its output."""

    stage: str
    code: int
    termination: Termination | None
    log: str


@dataclass(frozen=True)
class Done:
    """The stage is complete."""

    result: Mapping[str, Any]


@dataclass(frozen=True)
class Again:
    """It is worth another try, `delay` seconds from now."""

    delay: float
    why: str


@dataclass(frozen=True)
class Failed:
    """It has failed for good."""

    reason: Reason
    message: str


Next = Done | Again | Failed


def after(ending: Ending, failures: int, retries: int) -> Next:
    """What comes after a process that ended by itself, and `failures` earlier ones that did not succeed."""
    if ending.code == 0 and ending.termination and ending.termination.result is not None:
        return Done(ending.termination.result)
    failed = failure(ending)
    if _retryable(ending.code) and failures < retries:
        return Again(FIRST_DELAY * 2**failures, failed.message)
    return failed


def _retryable(code: int) -> bool:
    """Whether another run could end otherwise. A kill could not: on one machine it is the memory that is short."""
    outcome = Outcome.of_code(code)
    return outcome.exit.retry if outcome else code not in (-signal.SIGKILL, 0)


def failure(ending: Ending) -> Failed:
    """Why a process that did not succeed ended, in the trainer's own words where it left some."""
    if ending.code == -signal.SIGKILL:
        return Failed(
            Reason.MEMORY_LIMIT_EXCEEDED,
            f"The {ending.stage} process was killed, most likely because this machine ran out of memory; lower "
            "training.batchSize or training.maxLength, or take a smaller model.",
        )
    if ending.termination and ending.termination.reason in set(Reason):
        return Failed(Reason(ending.termination.reason), ending.termination.message)
    how = f"by signal {signal.Signals(-ending.code).name}" if ending.code < 0 else f"with code {ending.code}"
    log = f"; the end of its log:\n{ending.log}" if ending.log else " and logged nothing."
    return Failed(Reason.CONTAINER_FAILED, f"The {ending.stage} process ended {how}{log}")
