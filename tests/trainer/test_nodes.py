"""Several machines train one model: they meet where they are told to, end together and go on together.

Programs on loopback with gloo stand in for pods; launcher, trainer and libraries are the real ones.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from finetune_trainer.contract.outcome import Outcome, StageError, Termination
from finetune_trainer.contract.results import TrainResult
from finetune_trainer.stages.train import train
from finetune_trainer.training import launch
from finetune_trainer.training.launch import Node
from safetensors.torch import load_file
from several import codes, meeting, workers_until
from torch.testing import assert_close
from trainings import STEPS, Case, MakeCase, Recorder

MIDWAY = 8
LOST, STOPPED = Outcome.PEER_LOST.exit.code, Outcome.INTERRUPTED.exit.code

WITHOUT_LIBUV = """
import sys

from torch import distributed


class TCPStore(distributed.TCPStore):
    def __init__(self, *arguments, use_libuv=True, **named):
        if use_libuv:
            raise RuntimeError("use_libuv was requested but PyTorch was built without libuv support")
        super().__init__(*arguments, use_libuv=False, **named)


distributed.TCPStore = sys.modules["torch.distributed.rendezvous"].TCPStore = TCPStore
"""


def log(case: Case, node: int) -> Path:
    return case.root / f"termination-log-{node}"


def together(case: Case) -> list[int]:
    """Train as the containers of two pods do, with torch as Debian builds it, without libuv; their exit codes."""
    places = ["--config", str(case.config_file), "--workspace", str(case.workspace.root), "--status-port", "0"]
    command = [sys.executable, "-m", "finetune_trainer", "train", *places, "--nodes", "2", "--meet", meeting()]
    (case.root / "sitecustomize.py").write_text(WITHOUT_LIBUV)
    paths = [str(case.root), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    programs = [
        subprocess.Popen([*command, "--node", str(node), "--termination-log", str(log(case, node))], env=env)
        for node in range(2)
    ]
    return codes(programs)


def checkpoints(case: Case) -> list[str]:
    return sorted(path.name for path in case.workspace.checkpoints.glob("checkpoint-*"))


def test_killed_they_go_on_together_and_end_with_the_weights_of_one(make_case: MakeCase) -> None:
    whole, case = make_case("whole"), make_case("together")
    train(whole.config, whole.workspace, Recorder())

    assert workers_until(case, signal.SIGKILL, MIDWAY) == [LOST, -signal.SIGKILL]
    assert checkpoints(case) == [f"checkpoint-{MIDWAY - 1}"]
    assert together(case) == [0, 0]

    results = [
        TrainResult.model_validate(Termination.model_validate_json(log(case, node).read_bytes()).result)
        for node in (0, 1)
    ]
    assert results[0] == results[1]
    assert results[0].steps == STEPS
    ours, theirs = (load_file(found.workspace.artifact / "adapter_model.safetensors") for found in (case, whole))
    assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_when_one_is_asked_to_stop_the_others_say_so_and_the_step_is_kept(make_case: MakeCase) -> None:
    case = make_case()

    assert workers_until(case, signal.SIGTERM, MIDWAY) == [LOST, STOPPED]

    assert checkpoints(case) == [f"checkpoint-{MIDWAY}"]
    assert not case.workspace.artifact.exists()


def test_who_waits_in_vain_for_the_others_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "MEET_SECONDS", 1)
    where = meeting()
    with pytest.raises(StageError) as failure:
        launch.launch(1, ["train"], tmp_path / "log", Node(1, 2, where))
    assert failure.value.outcome == Outcome.UNAVAILABLE
    assert f"The 2 pods of this training did not meet at {where} within 1 seconds" in failure.value.message
