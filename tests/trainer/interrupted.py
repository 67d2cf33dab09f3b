"""Train in a process of its own that gets a signal at the end of a step. Run by test_resume and others.

    python interrupted.py RUN_CONFIG WORKSPACE SIGNAL STEP [near] [sharded] [TRACKING]

Of several workers the last one gets it. With near it believes that hardly any memory is left; sharded ones divide the
weights among them. TRACKING is where it is followed, in JSON; it is sent at once.

Saves after each step, so that the test needs no minute. Exits with the outcome's code.
"""

import math
import os
import sys
from pathlib import Path
from typing import Any

from finetune_trainer.contract.config import RunConfig, Sharding, TrackingConfig, Workspace
from finetune_trainer.contract.outcome import StageError
from finetune_trainer.server import Reporter
from finetune_trainer.stages.train import train
from finetune_trainer.training import follow, host, track
from finetune_trainer.training.build import Beside


class Sender(Reporter):
    """A reporter that sends this process a signal when it hears of a step."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__("train")
        self.number = number
        self.step = step

    def update(self, **fields: Any) -> None:
        """Take the news."""
        last = int(os.environ.get("RANK", "0")) == int(os.environ.get("WORLD_SIZE", "1")) - 1
        if last and fields.get("step") == self.step and "eta" in fields:
            os.kill(os.getpid(), self.number)


if __name__ == "__main__":
    config, workspace, number, step, *more = sys.argv[1:]
    if "near" in more:
        host.NEAR = math.inf
    followed = [TrackingConfig.model_validate_json(word) for word in more if word.startswith("{")]
    track.SEND_SECONDS = 0
    follow.SAVE_SECONDS = 0
    follow.SAVE_SHARE = float("inf")
    try:
        train(
            RunConfig.model_validate_json(Path(config).read_text()),
            Workspace(Path(workspace)),
            Sender(int(number), int(step)),
            Beside(tracking=next(iter(followed), None), sharding=Sharding.FULL if "sharded" in more else Sharding.AUTO),
        )
    except StageError as error:
        print(error.message)
        sys.exit(error.outcome.exit.code)
