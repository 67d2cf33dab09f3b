"""A sweep as one pod, or each of several, carries it out; trials are played, so that this takes no training."""

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from finetune_trainer.__main__ import _passed_on, _rivals, _trial, parse
from finetune_trainer.contract.config import (
    DatasetConfig,
    ModelConfig,
    RunConfig,
    Source,
    SweepConfig,
    TrainingConfig,
    Workspace,
)
from finetune_trainer.contract.outcome import TERMINATION_BYTES, Outcome, StageError, Termination
from finetune_trainer.contract.results import TrainResult
from finetune_trainer.server import Reporter
from finetune_trainer.stages import complete
from finetune_trainer.stages.frame import encode
from finetune_trainer.stages.sweep import Share, Sweep
from finetune_trainer.training.rivals import Rivals

RATES = (1e-4, 2e-4, 3e-4, 4e-4)
CONFIG = RunConfig(
    name="recipes",
    revision="0a1b2c3d",
    model=ModelConfig(source=Source(uri="hf://org/model")),
    dataset=DatasetConfig(train=Source(uri="s3://b/train.jsonl")),
    training=TrainingConfig(sweep=SweepConfig(parameters={"learningRate": RATES})),
)
DIVERGED = {"code": Outcome.DIVERGED.exit.code, "termination": {"reason": "Diverged", "message": "The loss is nan."}}
BROKEN = {"code": Outcome.INTERNAL.exit.code, "termination": {"reason": "InternalError", "message": "A fault."}}
PROGRAM = Path(__file__).with_name("played_trial.py")


class Stage:
    """A volume, and what its trials will come to."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root / "workspace")
        self.workspace.root.mkdir()
        self.played = root / "play"
        self.played.mkdir()

    def play(self, *trials: Any) -> None:
        """What each trial does, in order: a loss, a document, or a list with one for each attempt."""
        for number, told in enumerate(trials, 1):
            for attempt, each in enumerate(told if isinstance(told, list) else [told], 1):
                document = each if isinstance(each, dict) else {"loss": each}
                (self.played / f"{number}-{attempt}").write_text(json.dumps(document))

    def sweep(self, pod: int = 0, pods: int = 1, retries: int = 1) -> Sweep:
        program = (sys.executable, str(PROGRAM), str(self.played))
        arguments = ("--workspace", str(self.workspace.root))
        return Sweep(CONFIG, self.workspace, Share(pod, pods, retries), arguments, program)

    def started(self) -> list[str]:
        """The attempts that were made."""
        return sorted(path.stem for path in self.played.glob("*.done"))

    def weights(self) -> list[str]:
        """The trials whose weights lie there."""
        return sorted(path.parent.name for path in self.workspace.trials.glob("*/artifact"))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_what_each_trial_came_to_is_kept_as_it_ends(stage: Stage) -> None:
    stage.play(0.4, 0.3, 0.5, DIVERGED)
    ended: list[int] = []
    sweep = replace(stage.sweep(), kept=lambda: ended.append(len(list(stage.workspace.trials.glob("*/ended.json")))))
    sweep.carry_out()
    assert ended == [1, 2, 3, 4]


def test_the_trial_with_the_lowest_loss_is_the_artifact_and_all_are_told_of(stage: Stage) -> None:
    stage.play(0.9, 0.7, 0.8, 0.7)
    result = stage.sweep().carry_out()
    assert result is not None
    assert result.artifact.digest == "sha256:2"
    assert [trial.validation_loss for trial in result.trials] == [0.9, 0.7, 0.8, 0.7]
    assert [trial.taken for trial in result.trials] == [False, True, False, False]
    assert [trial.parameters for trial in result.trials] == [{"learningRate": rate} for rate in RATES]
    assert result.usage.trained_tokens == 400
    assert "Trial 2 of 4 was taken (learningRate 0.0002), with the lowest validation loss, 0.7000." in result.swept
    assert complete.result("train", CONFIG, stage.workspace) == result
    assert stage.weights() == []


def test_the_curves_of_all_stay_and_nothing_else_of_the_others(stage: Stage) -> None:
    stage.play(0.9, 0.7, 0.8, 0.7)
    stage.sweep().carry_out()
    left = sorted(path.name for path in (stage.workspace.trials / "1").iterdir())
    assert left == ["ended.json", "metrics.jsonl"]


def test_weights_that_were_outdone_take_no_room_while_others_train(stage: Stage) -> None:
    stage.play(0.9, 0.7, 0.8, {"waits": True})
    thread = threading.Timer(0, lambda: _when(stage.played / "waiting", lambda: os.kill(os.getpid(), signal.SIGTERM)))
    thread.start()
    with pytest.raises(StageError):
        stage.sweep().carry_out()
    assert stage.weights() == ["2"]


def test_a_trial_that_fails_fails_alone(stage: Stage) -> None:
    stage.play(DIVERGED, 0.7, [BROKEN, BROKEN], 0.8)
    result = stage.sweep(retries=1).carry_out()
    assert result is not None
    assert [trial.outcome for trial in result.trials] == ["Diverged", "Succeeded", "InternalError", "Succeeded"]
    assert result.trials[0].message == "The loss is nan."
    assert result.taken == 2
    assert "2 failed (status.trials says why)" in result.swept
    assert stage.started() == ["1-1", "2-1", "3-1", "3-2", "4-1"]


def test_what_a_retry_can_mend_is_tried_again(stage: Stage) -> None:
    stage.play([BROKEN, 0.5], [{"code": -9}, 0.6], 0.7, 0.8)
    result = stage.sweep(retries=1).carry_out()
    assert result is not None
    assert result.taken == 1
    assert {trial.outcome for trial in result.trials} == {"Succeeded"}


def test_a_trial_that_dies_without_a_word_is_told_of(stage: Stage) -> None:
    stage.play({"code": -9}, 0.7, 0.8, 0.9)
    result = stage.sweep(retries=0).carry_out()
    assert result is not None
    assert result.trials[0].outcome == "InternalError"
    assert result.trials[0].message == "The process ended with signal 9."


def test_where_all_fail_the_first_one_is_told_of_and_the_next_run_tries_them_again(stage: Stage) -> None:
    stage.play(*[[DIVERGED, 0.5 + number / 10] for number in range(4)])
    with pytest.raises(StageError) as failed:
        stage.sweep().carry_out()
    assert failed.value.outcome == Outcome.DIVERGED
    assert failed.value.message == "All 4 trials failed; the first (learningRate 0.0001): The loss is nan."
    result = stage.sweep().carry_out()
    assert result is not None
    assert result.taken == 1


def test_one_that_others_outdid_early_counts_with_what_it_came_to(stage: Stage) -> None:
    stage.play(0.9, {"loss": 0.8, "stopped": True}, {"loss": 0.95, "stopped": True}, DIVERGED)
    result = stage.sweep().carry_out()
    assert result is not None
    assert [trial.outcome for trial in result.trials] == ["Succeeded", "Stopped", "Stopped", "Diverged"]
    assert result.taken == 2
    assert "0.8000; 2 stopped early; 1 failed (status.trials says why)." in result.swept
    assert stage.weights() == []


def test_several_pods_share_the_trials_and_the_last_to_end_takes_the_best(stage: Stage) -> None:
    stage.play(0.9, 0.8, 0.6, 0.7)
    assert stage.sweep(pod=1, pods=2).carry_out() is None
    assert stage.started() == ["2-1", "4-1"]
    result = stage.sweep(pod=0, pods=2).carry_out()
    assert result is not None
    assert result.taken == 3
    assert stage.sweep(pod=1, pods=2).carry_out() == result


def test_asked_to_stop_it_asks_the_trial_and_goes_on_with_it(stage: Stage) -> None:
    stage.play(0.9, [{"waits": True}, 0.7], 0.8, 0.7)
    thread = threading.Timer(0, lambda: _when(stage.played / "waiting", lambda: os.kill(os.getpid(), signal.SIGTERM)))
    thread.start()
    with pytest.raises(StageError) as stopped:
        stage.sweep().carry_out()
    assert stopped.value.outcome == Outcome.INTERRUPTED
    result = stage.sweep().carry_out()
    assert result is not None
    assert result.taken == 2
    assert stage.started() == ["1-1", "2-1", "2-2", "3-1", "4-1"]


def test_a_trial_is_told_what_the_sweep_was_told() -> None:
    tracking = '{"type": "tensorboard"}'
    given = ["--config", "c", "--workspace", "w", "--status-port", "1", "--status-host", "h", "--bucket", "s3://b/c"]
    options = parse(["train", *given, "--keep-checkpoints", "3", "--tracking", tracking, "--retries", "2"])
    trial = parse(["train", "--trial", "2", *_passed_on(options)])
    alone = {"trial": 2, "retries": 0}
    assert vars(trial) == vars(options) | alone


def test_a_trial_tells_which_it_is_and_how_those_before_it_ended(stage: Stage) -> None:
    stage.play({"code": 78, "termination": {"reason": "ConfigInvalid", "message": "x" * 999}}, 0.7, 0.8, 0.9)
    stage.sweep(pod=0, pods=4).carry_out()
    reporter = Reporter("train")
    config, workspace = _trial(2, CONFIG, stage.workspace, reporter)
    assert (reporter.progress.trial, reporter.progress.trials) == (2, 4)
    (ended,) = reporter.progress.ended
    assert (ended.number, ended.outcome, len(ended.message)) == (1, "ConfigInvalid", 100)
    assert config.training.learning_rate == RATES[1]
    assert workspace.artifact == stage.workspace.trials / "2" / "artifact"


def test_trials_have_rivals_where_the_sweep_stops_early(stage: Stage) -> None:
    swept = SweepConfig(parameters={"learningRate": RATES}, early_stopping=True)
    early = CONFIG.model_copy(update={"training": TrainingConfig(sweep=swept)})
    assert _rivals(2, early, stage.workspace) == Rivals(stage.workspace, 2, 4)
    assert _rivals(2, CONFIG, stage.workspace) is None
    assert _rivals(None, early, stage.workspace) is None


@pytest.mark.parametrize("step", ["the others' weights", "the mark", "what is kept", "the artifact"])
def test_killed_while_it_takes_the_best_it_takes_the_same_again(
    stage: Stage, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before each of the changes that taking makes."""
    stage.play(0.9, 0.7, 0.8, 0.6)
    (stage.workspace.trial(4).kept / "5").mkdir(parents=True)
    changes = {
        "the others' weights": (shutil, "rmtree", 1),
        "the mark": (Path, "replace", 3),
        "what is kept": (Path, "rename", 1),
        "the artifact": (Path, "rename", 2),
    }
    owner, name, call = changes[step]
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, _dying(getattr(owner, name), stage, call))
        with pytest.raises(_Killed):
            stage.sweep().carry_out()
    result = stage.sweep().carry_out()
    assert result is not None
    assert result.taken == 4
    assert (stage.workspace.kept / "5").is_dir()
    assert stage.started() == ["1-1", "2-1", "3-1", "4-1"]


def test_the_table_of_the_most_trials_fits_a_termination_message() -> None:
    """Different numbers and words in each."""
    trial = {
        "number": 1,
        "parameters": {"adapter.rank": 8, "learningRate": 0.000123},
        "outcome": "OutOfMemory",
        "message": "x" * 100,
        "validationLoss": 1.2345678901234567,
        "usage": {"trainedTokens": 12345678, "seconds": 12345.678901234567, "acceleratorSeconds": 12345.678901234567},
    }
    words = [Path(__file__).read_text()[100 * number : 100 * number + 100] for number in range(32)]
    trials = [
        trial | {"message": said, "validationLoss": 1.2345678901234567 * number} for number, said in enumerate(words)
    ]
    checkpoint = {"step": 1, "validationLoss": 1.23456789, "digest": f"sha256:{'0' * 64}", "bytes": 10}
    result = TrainResult.model_validate(
        {
            "artifact": {"digest": f"sha256:{'1' * 64}", "bytes": 1},
            "usage": trial["usage"],
            "steps": 9,
            "checkpoints": [checkpoint] * 10,
            "trials": trials,
        }
    )
    document = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert len(encode(Termination(reason="Succeeded", result=document))) <= TERMINATION_BYTES


class _Killed(BaseException):
    """The process is gone."""


def _dying(whole: Callable[..., Any], stage: Stage, call: int) -> Callable[..., Any]:
    """A function that ends the process at that call of those after the last trial has ended."""
    made = []

    def change(*arguments: Any, **named: Any) -> Any:
        if (stage.workspace.trials / "4" / "ended.json").exists() or made:
            made.append(arguments)
            if len(made) == call:
                raise _Killed
        return whole(*arguments, **named)

    return change


def _when(path: Path, act: Callable[[], None]) -> None:
    while not path.exists():
        threading.Event().wait(0.01)
    act()
