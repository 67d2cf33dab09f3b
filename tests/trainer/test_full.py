"""A workspace that fills up ends as a sentence, whichever library's write fails first."""

import sys
from pathlib import Path

import pytest
from finetune_trainer.contract.outcome import Outcome, Termination
from finetune_trainer.data import base, digests
from finetune_trainer.server import Reporter
from finetune_trainer.stages import complete
from finetune_trainer.stages.merge import merge
from finetune_trainer.stages.train import train
from full_disks import on_a_small_disk, taken
from trainings import Case, MakeCase, Recorder


def told(case: Case, stage: str, size: int) -> str:
    """What a stage says whose workspace has so many bytes, too few."""
    log = case.root / "termination-log"
    program = [sys.executable, "-m", "finetune_trainer", stage, "--config", case.config_file, "--status-port", "0"]
    ended = on_a_small_disk(
        case.workspace.root, size, [*program, "--workspace", case.workspace.root, "--termination-log", log]
    )
    assert ended.returncode == Outcome.WORKSPACE_FULL.exit.code, ended.stderr
    return Termination.model_validate_json(log.read_bytes()).message


@pytest.mark.parametrize("size", [32 * 1024, 104 * 1024], ids=["checkpoint", "artifact"])
def test_a_full_workspace_is_told(make_case: MakeCase, size: int) -> None:
    assert "is full" in told(make_case(total_steps=2), "train", size)


def test_a_disk_that_fills_up_while_a_model_is_merged_is_told_and_with_room_the_same_comes_of_it(
    make_case: MakeCase, base_model: Path
) -> None:
    case = make_case(total_steps=1)
    train(case.config, case.workspace, Recorder())
    merge(case.config, case.workspace, Reporter("merge"))
    undisturbed = digests.digest(case.workspace.merged)
    files = {path.name for path in case.workspace.root.glob("merged*")}
    for left in (case.workspace.merged_with, *case.workspace.merged.iterdir()):
        left.unlink()
    case.workspace.merged.rmdir()

    # Room for the weights, as is looked at before, and for none of the files beside them.
    room = taken(case.workspace.root) + taken(*base.weights(base_model))
    assert told(case, "merge", room) == (
        f"The workspace volume at {case.workspace.root} became full while the adapter was merged with its base model: "
        "raise workspace.size, or remove hosting.adapter."
    )
    assert not list(case.workspace.root.glob("merged*"))
    assert complete.result("merge", case.config, case.workspace) is None
    merge(case.config, case.workspace, Reporter("merge"))
    assert digests.digest(case.workspace.merged) == undisturbed
    assert {path.name for path in case.workspace.root.glob("merged*")} == files
