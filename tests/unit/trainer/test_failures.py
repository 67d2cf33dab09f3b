"""What the libraries' errors during training mean to the user."""

import errno
from pathlib import Path

import pytest
from finetune_trainer.contract.outcome import Outcome
from finetune_trainer.training import failures


def test_a_full_volume_is_told_with_its_size() -> None:
    found = failures.workspace_full(Path("/workspace"), 5 * failures.GIB)

    assert found.outcome == Outcome.WORKSPACE_FULL
    assert found.message == "The workspace volume at /workspace is full (5.0 GiB): raise workspace.size."


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "no space"), True),
        (OSError(errno.EDQUOT, "quota"), True),
        (FileNotFoundError(errno.ENOENT, "none"), False),
        (RuntimeError("a fault of another kind"), False),
    ],
)
def test_only_a_want_of_space_is_a_full_volume(tmp_path: Path, error: Exception, full: bool) -> None:
    assert failures.is_full(error, tmp_path) == full


def test_a_full_volume_is_seen_behind_what_a_library_made_of_it(tmp_path: Path) -> None:
    behind = ValueError("I/O operation on closed file")
    behind.__context__ = OSError(errno.ENOSPC, "no space")

    assert failures.is_full(behind, tmp_path)
