"""Checkpoints that are complete or absent.

The library writes into a staging directory; `keep` makes what lies there durable and moves it to its final name in one
rename. Whatever is staged when the process dies is a half-written checkpoint, and the next start removes it.
Called by `build`, `follow` and `artifact`. No torch.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from finetune_trainer.data.disk import fsync

STAGING = "staging"
NAME = re.compile(r"checkpoint-(\d+)")
ELAPSED = "elapsed.json"


def write_whole(path: Path, text: str) -> None:
    """Write a small file that is whole or absent, whoever else writes it at once: on another machine, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{uuid4().hex}")
    try:
        draft.write_text(text)
        draft.replace(path)
    except OSError:
        # Each try on a full disk would leave another.
        draft.unlink(missing_ok=True)
        raise


def install(staged: Path, final: Path) -> None:
    """Make the directory `staged` durable and give it its final name; `final` must not exist."""
    for path in staged.rglob("*"):
        fsync(path)
    fsync(staged)
    staged.rename(final)
    fsync(final.parent)


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
