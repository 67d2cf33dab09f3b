"""train, of a sweep: its trials one after the other, each a process of its own; the best one's artifact is the sweep's.

Called by `__main__` in place of a single train. A trial is this program again, told its number: what it trains, keeps
and says is what a single training does, and a failure is its own. Of several pods each has every so-many-th trial; the
last to end takes the best. Killed at any moment, the next run goes on with the trial that was under way.
"""

import logging
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from pydantic import ValidationError

from finetune_trainer import signals
from finetune_trainer.contract import sweep
from finetune_trainer.contract.config import RunConfig, Workspace
from finetune_trainer.contract.outcome import Outcome, StageError, Termination
from finetune_trainer.contract.results import TrainResult, Trial
from finetune_trainer.stages import complete
from finetune_trainer.training import trials

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Share:
    """Which trials are this pod's, of `pods` the one with this number, from 0. `retries`: of each trial."""

    pod: int = 0
    pods: int = 1
    retries: int = 0

    def of(self, count: int) -> range:
        """The trials' numbers."""
        return range(1 + self.pod, count + 1, self.pods)


class Stop:
    """Whether somebody asked this process to end, and the process that is told so, too."""

    def __init__(self) -> None:
        self.made = False
        self.child: subprocess.Popen[bytes] | None = None

    def make(self, number: int, frame: FrameType | None) -> None:
        """The signal's handler."""
        self.made = True
        self.pass_on()

    def pass_on(self) -> None:
        """Tell the child."""
        if self.made and self.child:
            self.child.send_signal(signal.SIGTERM)

    def check(self) -> None:
        """Raise StageError (INTERRUPTED) when the request was made."""
        if self.made:
            raise StageError(
                Outcome.INTERRUPTED,
                "The sweep was asked to stop; the next run goes on with the trial that was under way.",
            )


@dataclass(frozen=True)
class Sweep:
    """One sweep on its volume. `arguments`: what this program was told, and each trial is; `program`: how it starts;
    `kept`: called once a trial has ended.
    """

    config: RunConfig
    workspace: Workspace
    share: Share
    arguments: Sequence[str] = ()
    program: Sequence[str] = (sys.executable, "-m", "finetune_trainer")
    kept: Callable[[], None] = lambda: None

    def carry_out(self) -> TrainResult | None:
        """Carry out this pod's trials; the artifact, or None where other pods have trials under way.

        Raises StageError: INTERRUPTED, or what the first trial failed with where all have.
        """
        stop = Stop()
        with signals.handled(stop.make):
            for number in self.share.of(self._count):
                stop.check()
                if trials.ended(self.workspace, number) is None:
                    trials.end(self.workspace, number, self._tried(number, stop), self._count)
                    self.kept()
        ended = trials.all_ended(self.workspace, self._count)
        if len(ended) < self._count:
            return None
        taken = trials.best(ended)
        if taken is None:
            raise self._failed(ended)
        trials.take(self.workspace, ended, taken)
        return complete.trained(self.workspace)

    @property
    def _count(self) -> int:
        return len(sweep.trials(self.config.training))

    def _tried(self, number: int, stop: Stop) -> Trial:
        """Run a trial until it ends in a way that no retry can change. Raises StageError when asked to stop."""
        for left in range(self.share.retries, -1, -1):
            logger.info("Trial %d of %d: %s.", number, self._count, sweep.told(self._parameters(number)))
            code, said = self._run(number, stop)
            if code == 0 and said and said.result:
                return trials.succeeded(self.config, number, TrainResult.model_validate(said.result))
            stop.check()
            outcome = Outcome.of_code(code)
            if left == 0 or (outcome and not outcome.exit.retry):
                break
        if said is None or outcome is None:
            how = f"signal {-code}" if code < 0 else f"code {code}"
            said = Termination(reason=Outcome.INTERNAL.exit.reason, message=f"The process ended with {how}.")
        logger.warning("Trial %d failed: %s", number, said.message)
        told = self._parameters(number)
        return Trial(number=number, parameters=told, outcome=said.reason, message=said.message)

    def _run(self, number: int, stop: Stop) -> tuple[int, Termination | None]:
        """Run the program for a trial: its exit code, and its last word."""
        with tempfile.TemporaryDirectory() as directory:
            log = Path(directory) / "termination"
            told = ["train", "--trial", str(number), "--termination-log", str(log), *self.arguments]
            # What this process holds open, such as a lock of whoever runs it on a laptop, is the trial's too.
            stop.child = subprocess.Popen([*self.program, *told], close_fds=False)  # noqa: S603 - ourselves, no shell
            stop.pass_on()
            code = stop.child.wait()
            stop.child = None
            return code, _read(log)

    def _parameters(self, number: int) -> sweep.Parameters:
        return sweep.trials(self.config.training)[number - 1]

    def _failed(self, ended: dict[int, Trial]) -> StageError:
        """Every trial failed: what the first one did. Whoever starts the sweep again wants another try of each."""
        for number in ended:
            trials.forget(self.workspace, number)
        first = ended[1]
        outcome = next((each for each in Outcome if each.exit.reason == first.outcome), Outcome.INTERNAL)
        others = f"All {len(ended)} trials failed; the first" if len(ended) > 1 else "The only trial failed"
        told = sweep.told(first.parameters)
        return StageError(outcome, f"{others} ({told}): {first.message}")


def _read(log: Path) -> Termination | None:
    try:
        return Termination.model_validate_json(log.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
