"""What the user can mend: raised anywhere below the commands, printed by `main` as one sentence.

`docs/exit-codes.md` is generated from the table here, beside the trainer's.
"""

from enum import IntEnum

from finetune_operator.conditions import Reason
from finetune_trainer.contract.outcome import Outcome


class ExitCode(IntEnum):
    """How a command can end. A stage that fails by itself ends it with the trainer's own code, above these."""

    DONE = 0
    CRASHED = 1
    USAGE = 2
    GATE_NOT_MET = 3
    FAILED = 4
    TIMED_OUT = 5
    INTERRUPTED = 130


MEANINGS: dict[ExitCode, str] = {
    ExitCode.DONE: "done; of `finetune run`, also that it was stopped while it served; of `wait` and `apply`, that the "
    "job is Ready",
    ExitCode.CRASHED: "a fault in `finetune` itself, with its traceback",
    ExitCode.USAGE: "the command line or the manifest is wrong, or it names a job or a file that is not there",
    ExitCode.GATE_NOT_MET: "the tuned model was measured and misses evaluation.gate",
    ExitCode.FAILED: "nothing is served, the engine does not start, kubectl refuses, the job is suspended: it can't be "
    "done as things are",
    ExitCode.TIMED_OUT: "of `wait` and `apply`, --timeout is over, and the work goes on",
    ExitCode.INTERRUPTED: "stopped by Ctrl-C or SIGTERM, `run` before anything was served; of others the work goes on",
}

# Of two with one reason it is the final one that a command can end with.
_STAGES: dict[str, int] = {
    outcome.exit.reason: outcome.exit.code for outcome in sorted(Outcome, key=lambda each: not each.exit.retry)
}


class UserError(Exception):
    """A sentence that says what happened, to what, and what to do; and the exit code that goes with it."""

    def __init__(self, message: str, code: int = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def code_of(reason: str) -> int:
    """The exit code for a stage that failed for this reason."""
    if reason == Reason.GATE_NOT_MET:
        return ExitCode.GATE_NOT_MET
    return _STAGES.get(reason, ExitCode.FAILED)
