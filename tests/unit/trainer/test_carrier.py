"""A stage around which its files are brought and put, where the bucket fails at the end."""

from pathlib import Path
from typing import Any

import pytest
from finetune_trainer.contract.config import Workspace
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.stages.carried import Carrier


class Full:
    """A bucket that has everything, and takes nothing more."""

    def bring(self, name: str, wanted: Any) -> bool:
        return True

    def put(self, name: str, paths: list[Path], growing: bool = False) -> None:
        raise StageError(Outcome.UNAVAILABLE, "the bucket is full")


def carrier(stage: str, root: Path) -> Carrier:
    found = Carrier(stage, Workspace(root), "s3://work/recipes")
    found.__dict__["_parts"] = Full()
    return found


def test_an_evaluation_whose_report_can_not_be_put_is_none(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="the bucket is full"), carrier("evaluate", tmp_path).around():
        pass


def test_what_is_kept_on_the_way_may_wait(tmp_path: Path) -> None:
    carrier("train", tmp_path).keep()
