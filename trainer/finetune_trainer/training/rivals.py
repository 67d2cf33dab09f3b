"""Whether a trial of a sweep is worth going on with: asynchronous successive halving, by files on the shared volume.

Each trial leaves its validation loss at each rung, a share of its own steps, for there its learning rate is as far down
its curve as the others'. Who is not among the better half of those that came as far ends there; nobody waits for
anybody. Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning (arXiv:1810.05934), with a factor of two.
Asked by `follow`. No torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter

from finetune_trainer.contract.config import Contract, Workspace
from finetune_trainer.data.disk import write_whole

RUNGS = (1 / 4, 1 / 2)
FILE = "rungs.json"


class Reached(Contract):
    """What a trial's loss was at a rung, and at which step."""

    rung: float
    step: int
    loss: float


_FILE = TypeAdapter(tuple[Reached, ...])


@dataclass(frozen=True)
class Rivals:
    """The other trials of a sweep, as seen by one of `count`."""

    workspace: Workspace
    number: int
    count: int

    def outdo(self, step: int, steps: int, loss: float) -> bool:
        """Leave the loss of a step, of so many, for the others; whether they outdo it. Asked again it looks again."""
        rung = max((rung for rung in RUNGS if rung <= step / steps), default=None)
        if rung is None or step == steps or not math.isfinite(loss):
            return False
        mine = {found.rung: found for found in self._of(self.number)}
        if mine.setdefault(rung, Reached(rung=rung, step=step, loss=loss)).step != step:
            return False
        text = _FILE.dump_json(tuple(mine.values()), by_alias=True, indent=2).decode()
        write_whole(self.workspace.trial(self.number).root / FILE, text + "\n")
        others = (found for number in range(1, self.count + 1) if number != self.number for found in self._of(number))
        return outdone(loss, [found.loss for found in others if found.rung == rung])

    def _of(self, number: int) -> tuple[Reached, ...]:
        path = self.workspace.trial(number).root / FILE
        return _FILE.validate_json(path.read_bytes()) if path.exists() else ()


def outdone(loss: float, others: Sequence[float]) -> bool:
    """Whether it is not among the better half, of an odd number the larger one."""
    return sum(other < loss for other in others) >= math.ceil((len(others) + 1) / 2)
