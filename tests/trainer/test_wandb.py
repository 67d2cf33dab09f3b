"""A training as Weights & Biases shows it: one run for a revision, whatever interrupts it.

Its real client asks what stands in for the cloud, on loopback; what every tracker has in common is in test_tracking.
"""

import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import wandb
from finetune_trainer.contract.config import AdapterConfig, AdapterType, TrackerType, TrackingConfig
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.stages.train import train
from finetune_trainer.training import track, weights_and_biases
from finetune_trainer.training.build import Beside
from finetune_trainer.training.trackers import End, Point, Run, Unreachable
from finetune_trainer.training.weights_and_biases import WeightsAndBiases
from ports import free_port
from test_tracking import listening, told
from trainings import CHATS, Case, MakeCase, Recorder
from weights_and_biases_server import Kept, Server

STEPS = 6
# In seconds; a machine that is busy may take a while, which is no part of any of these tests.
PATIENCE = 600.0
KEY = "canary4711" * 4
RUN = Run("0" * 32, "colours-0a1b2c3d", {"finetune.dev/job": "colours"}, {})


@pytest.fixture
def server() -> Iterator[Server]:
    """It knows each request, or the test fails."""
    with listening(Server(KEY)) as server:
        yield server
    assert server.unknown == []


@pytest.fixture(autouse=True)
def sent_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(track, "SEND_SECONDS", 0.0)
    monkeypatch.setattr(weights_and_biases, "BEGIN_SECONDS", PATIENCE)
    monkeypatch.setattr(weights_and_biases, "END_SECONDS", PATIENCE)
    monkeypatch.setenv("FINETUNE_TRACKING_WANDB_API_KEY", KEY)
    # What the library keeps for itself.
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


def tracking(server: str, **fields: object) -> TrackingConfig:
    return TrackingConfig.model_validate({"type": TrackerType.WANDB, "url": server, "project": "food", **fields})


def only(server: Server) -> Kept:
    (run,) = server.runs.values()
    return run


def keep_sending(tracker: WeightsAndBiases) -> None:
    """Step after step, until it says that something is wrong: it hears of that later."""
    deadline = time.monotonic() + PATIENCE
    for step in itertools.count(1):
        tracker.send([Point("loss", step, 0.5)])
        assert time.monotonic() < deadline, f"nothing was said in {PATIENCE} s"
        threading.Event().wait(0.05)


def left(case: Case, text: str) -> list[Path]:
    """The files of a training that have it."""
    return [path for path in case.root.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_a_revision_is_a_run_with_its_hyperparameters_and_what_metrics_jsonl_has(
    make_case: MakeCase, recorder: Recorder, server: Server
) -> None:
    case = make_case(validation=CHATS[:2], total_steps=STEPS)

    result = train(case.config, case.workspace, recorder, Beside(tracking=tracking(server.url)))

    run = only(server)
    assert (run.project, run.entity, run.group) == ("food", None, "colours")
    assert (run.name, run.tags, run.state) == ("colours-0a1b2c3d", [], "finished")
    assert run.config["finetune.dev/revision"] == "0a1b2c3d"
    assert run.config["training.adapter.rank"] == 8
    assert run.config["plan.learningRate"] == 0.005
    for metric in ("loss", "validationLoss", "learningRate", "tokens", "epoch"):
        assert run.shown(metric) == told(case, metric)
    assert result.tracked
    assert result.tracked.url == f"{server.url}/the-team/food/runs/{run.id}"
    assert recorder.values("tracking")[0] == result.tracked.url
    assert result.tracked.problem == ""


def test_it_says_nothing_of_the_machine_or_the_code_and_leaves_nothing_behind(
    make_case: MakeCase, recorder: Recorder, server: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    case = make_case(total_steps=1)

    train(case.config, case.workspace, recorder, Beside(tracking=tracking(server.url)))

    said = "".join(server.said)
    for untold in (socket.gethostname(), str(case.root), sys.executable, sys.argv[0], "system.", "cpu_count"):
        assert f'"{untold}' not in said
    assert not list(Path(tempfile.gettempdir()).rglob("run-*"))
    assert not list(case.root.rglob("*wandb*"))
    assert left(case, KEY) == []
    assert "wandb:" not in "".join(capfd.readouterr())


def test_a_run_is_called_and_filed_as_the_manifest_says(
    make_case: MakeCase, recorder: Recorder, server: Server
) -> None:
    case = make_case(total_steps=1)
    asked = tracking(server.url, entity="cooks", name="the first", tags=("a", "b"))

    result = train(case.config, case.workspace, recorder, Beside(tracking=asked))

    run = only(server)
    assert (run.entity, run.name, run.tags) == ("cooks", "the first", ["a", "b"])
    assert result.tracked
    assert result.tracked.url == f"{server.url}/cooks/food/runs/{run.id}"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_that_goes_on_is_the_same_and_has_no_step_twice(
    make_case: MakeCase, server: Server, end: signal.Signals
) -> None:
    case = make_case(validation=CHATS[:2], total_steps=STEPS)
    asked = tracking(server.url)
    program = Path(__file__).with_name("interrupted.py")
    command = [program, case.config_file, case.workspace.root, int(end), 4, asked.model_dump_json(by_alias=True)]
    subprocess.run([sys.executable, *map(str, command)], env=dict(os.environ), check=False)
    before = only(server)
    if end == signal.SIGTERM:
        # The fourth is validated by whoever goes on.
        assert [step for step, _ in before.shown("loss")] == [1, 2, 3]
        assert before.state == "preempted"

    train(case.config, case.workspace, Recorder(), Beside(tracking=asked))

    run = only(server)
    assert run.state == "finished"
    for metric in ("loss", "validationLoss", "tokens"):
        assert run.shown(metric) == told(case, metric)


def test_a_training_that_failed_is_shown_as_that(make_case: MakeCase, recorder: Recorder, server: Server) -> None:
    case = make_case(adapter=AdapterConfig(type=AdapterType.NONE), learning_rate=1e30)

    with pytest.raises(StageError) as raised:
        train(case.config, case.workspace, recorder, Beside(tracking=tracking(server.url)))

    assert raised.value.outcome == Outcome.DIVERGED
    assert only(server).state == "failed"


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("canary4712" * 4, "returned error 401: "),
        ("canary", "API key must have 40+ characters, has 6."),
        ("", "No API key configured."),
    ],
    ids=["another's", "none that can be", "none"],
)
def test_a_key_that_is_refused_is_told_and_is_nowhere_else(
    make_case: MakeCase,
    recorder: Recorder,
    server: Server,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    why: str,
) -> None:
    # A training is a process of its own: this one may have told another's run, whose key the library keeps.
    wandb.teardown()
    monkeypatch.setenv("FINETUNE_TRACKING_WANDB_API_KEY", key)
    case = make_case(total_steps=1)

    result = train(case.config, case.workspace, recorder, Beside(tracking=tracking(server.url)))

    assert case.workspace.trained.exists()
    assert result.tracked
    assert result.tracked.problem.startswith(f"Weights & Biases at {server.url} did not take the metrics (")
    assert why in result.tracked.problem
    assert "training goes on without it" in caplog.text
    assert server.runs == {}
    assert "canary" not in result.model_dump_json() + caplog.text
    assert left(case, "canary") == []


@pytest.mark.parametrize("url", [f"http://127.0.0.1:{free_port()}", "http://[::1"], ids=["nobody", "no address"])
def test_training_goes_on_without_a_server_and_says_so(
    make_case: MakeCase, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr(weights_and_biases, "BEGIN_SECONDS", 1.0)
    case = make_case(total_steps=2)

    result = train(case.config, case.workspace, recorder, Beside(tracking=tracking(url)))

    assert case.workspace.trained.exists()
    assert result.tracked
    assert result.tracked.problem.startswith(f"Weights & Biases at {url} did not take the metrics (")


def test_a_server_that_is_away_at_the_end_is_not_waited_for_long(
    make_case: MakeCase, recorder: Recorder, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_and_biases, "END_SECONDS", 1.0)
    server.refuses = 503
    case = make_case(total_steps=2)

    result = train(case.config, case.workspace, recorder, Beside(tracking=tracking(server.url)))

    assert case.workspace.trained.exists()
    assert result.tracked
    assert result.tracked.problem.endswith("did not take the metrics (Timed out finishing run.).")


def test_a_key_that_is_taken_back_is_told_and_what_is_missing_is_sent_once_it_is_right_again(server: Server) -> None:
    tracker = WeightsAndBiases(tracking(server.url), RUN)
    points = [Point(metric, step, step / 8) for step in (1, 2, 3) for metric in ("loss", "tokens")]
    assert tracker.open(["loss", "tokens"]) == {"loss": 0, "tokens": 0}
    server.refuses = 401
    refused = rf"Weights & Biases at {server.url} did not take the metrics \(filestream: failed to upload: 401 "
    with pytest.raises(Unreachable, match=refused):
        keep_sending(tracker)

    server.refuses = None
    assert tracker.open(["loss", "tokens"]) == {"loss": 0, "tokens": 0}
    tracker.send(points[:4])
    tracker.close(End.PAUSED)
    again = WeightsAndBiases(tracking(server.url), RUN)
    assert again.open(["loss"]) == {"loss": 1}
    again.send(points[2:])
    again.close(End.DONE)

    assert only(server).shown("loss") == only(server).shown("tokens") == [(1, 0.125), (2, 0.25), (3, 0.375)]


def test_a_library_whose_process_is_gone_ends_nothing_and_is_started_again(server: Server) -> None:
    tracker = WeightsAndBiases(tracking(server.url), RUN)
    tracker.open(["loss"])
    for child in psutil.Process().children():
        if child.name() == "wandb-core":
            child.kill()
            child.wait()
    with pytest.raises(Unreachable, match="did not take the metrics"):
        keep_sending(tracker)

    assert tracker.open(["loss"]) == {"loss": 0}
    tracker.send([Point("loss", 1, 0.5)])
    tracker.close(End.DONE)

    assert only(server).shown("loss") == [(1, 0.5)]


def test_a_key_with_a_lines_end_is_the_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_TRACKING_WANDB_API_KEY", f"{KEY}\n")
    tracker = WeightsAndBiases(tracking(server.url), RUN)
    assert tracker.open(["loss"]) == {"loss": 0}
    tracker.close(End.DONE)
