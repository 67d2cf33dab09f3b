"""Checkpoints that are complete or absent.

The library writes into a staging directory; `keep` makes what lies there durable and moves it to its final name in one
rename. Whatever is staged when the process dies is a half-written checkpoint, and the next start removes it.
Called by `build`, `candidates` and `follow`. No torch.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from finetune_trainer.data.disk import install

STAGING = "staging"
NAME = re.compile(r"checkpoint-(\d+)")
ELAPSED = "elapsed.json"


class Checkpoints:
    """The checkpoints of one revision, in `root`; only the last is kept, since it is never incomplete.

    `kept`: called for each that is complete.
    """

    def __init__(self, root: Path, kept: Callable[[], None] = lambda: None) -> None:
        self.root = root
        self._kept = kept
        self.staging = root / STAGING

    def clean(self) -> None:
        """Remove what an earlier process left half-written."""
        shutil.rmtree(self.staging, ignore_errors=True)
        self.staging.mkdir(parents=True)

    def latest(self) -> Path | None:
        """The last complete checkpoint."""
        return max(self._complete(), key=_step, default=None)

    def keep(self, step: int, seconds: float) -> None:
        """Turn the staged checkpoint of `step` into the last one. `seconds`: training time up to it."""
        staged = self.staging / f"checkpoint-{step}"
        (staged / ELAPSED).write_text(json.dumps({"seconds": seconds}))
        older = list(self._complete())
        install(staged, self.root / staged.name)
        for path in older:
            shutil.rmtree(path)
        self._kept()

    def _complete(self) -> list[Path]:
        return [path for path in self.root.glob("checkpoint-*") if NAME.fullmatch(path.name)]


def elapsed(checkpoint: Path | None) -> float:
    """Seconds of training that a checkpoint stands for."""
    return float(json.loads((checkpoint / ELAPSED).read_text())["seconds"]) if checkpoint else 0.0


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))
