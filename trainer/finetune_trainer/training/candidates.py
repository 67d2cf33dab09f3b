"""What the artifact may be made of: the weights of the steps that did best on the validation rows, complete or absent.

`Follow` offers the weights of each step that was validated, `artifact` takes the best. They are weights alone, written
as the artifact has them; training goes on from `checkpoints`. A run that goes on from before a validation comes to the
same weights and replaces what the earlier one left of them, so that a kill changes nothing about which are kept.
No torch.
"""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from finetune_trainer.data.disk import install
from finetune_trainer.training.checkpoints import STAGING

VALIDATION = "validation.json"


@dataclass(frozen=True)
class Candidate:
    """The weights of a step, and their loss on the validation rows."""

    step: int
    loss: float
    path: Path

    @property
    def rank(self) -> tuple[float, int]:
        """The lowest loss first, and of equal ones the later step. What is no number is worse than any."""
        return self.loss if math.isfinite(self.loss) else math.inf, -self.step


class Candidates:
    """The best `count` of one revision's training, in `root`."""

    def __init__(self, root: Path, count: int) -> None:
        self.root = root
        self.count = count
        self.staging = root / STAGING

    def clean(self) -> None:
        """Remove what an earlier process left half-written."""
        shutil.rmtree(self.staging, ignore_errors=True)

    def ranked(self) -> list[Candidate]:
        """Those that are kept, the best first."""
        found = [_read(path.parent) for path in self.root.glob(f"step-*/{VALIDATION}")]
        return sorted(found, key=lambda candidate: candidate.rank)[: self.count]

    def offer(self, step: int, loss: float, write: Callable[[Path], None]) -> None:
        """Keep the weights of a step, which `write` puts into a directory, if they are among the best."""
        offered = Candidate(step, loss, self.root / f"step-{step}")
        shutil.rmtree(offered.path, ignore_errors=True)
        if sum(other.rank < offered.rank for other in self.ranked()) < self.count:
            self.clean()
            self.staging.mkdir(parents=True)
            write(self.staging)
            (self.staging / VALIDATION).write_text(json.dumps({"step": step, "loss": loss}))
            install(self.staging, offered.path)
        kept = {candidate.path for candidate in self.ranked()}
        for path in self.root.glob("step-*"):
            if path not in kept:
                shutil.rmtree(path)


def _read(path: Path) -> Candidate:
    found = json.loads((path / VALIDATION).read_text())
    return Candidate(found["step"], found["loss"], path)
