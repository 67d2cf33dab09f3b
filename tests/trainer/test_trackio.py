"""A training as a trackio server shows it: one run for a revision, whatever interrupts it.

trackio's own server answers, on loopback; what every tracker has in common is in test_tracking.
"""

import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from finetune_trainer.contract.config import TrackerType, TrackingConfig
from finetune_trainer.stages.train import train
from finetune_trainer.training import track, trackers
from finetune_trainer.training.build import Beside
from ports import free_port
from test_tracking import Deadly, Killed, started, told
from trainings import CHATS, MakeCase, Recorder

STEPS = 6
# In seconds; a server that shares its cores with a training may take a while, which is no part of any of these tests.
PATIENCE = 600.0
TOKEN = "canary-of-a-token"
SHOW = (
    "import sys, trackio; trackio.show(open_browser=False, share=False, host='127.0.0.1', server_port=int(sys.argv[1]))"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A trackio server of its own, that takes metrics from whoever has the token."""
    place, port = tmp_path_factory.mktemp("trackio"), free_port()
    offline = {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    given = {"TRACKIO_DIR": str(place), "TRACKIO_WRITE_TOKEN": TOKEN}
    with started(["-c", SHOW, str(port)], place, f":{port}", signal.SIGKILL, **given, **offline):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(autouse=True)
def sent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track, "SEND_SECONDS", 0.0)
    monkeypatch.setattr(trackers, "_TRACKIO_SECONDS", PATIENCE)
    monkeypatch.setenv("FINETUNE_TRACKING_TRACKIO_WRITE_TOKEN", TOKEN)


def followed(url: str, project: str) -> Beside:
    return Beside(tracking=TrackingConfig(type=TrackerType.TRACKIO, url=url, project=project))


def asked(url: str, name: str, **arguments: Any) -> Any:
    """The server's own answer, as its page asks for it."""
    content = {"args": [], "kwargs": arguments}
    return httpx.post(f"{url}/api/{name}", json=content, timeout=PATIENCE, trust_env=False).json()["data"]


def runs(url: str, project: str) -> list[tuple[str, str]]:
    return [(run["id"], run["name"]) for run in asked(url, "get_runs_for_project", project=project)]


def shown(url: str, project: str, metric: str) -> list[tuple[int, float]]:
    """A metric's values as the server has them, each as often as it has it."""
    ((id, name),) = runs(url, project)
    found = asked(url, "get_logs", project=project, run=name, run_id=id)
    return [(row["step"], row[metric]) for row in found if metric in row]


def test_a_revision_is_a_run_with_its_hyperparameters_and_what_metrics_jsonl_has(
    make_case: MakeCase, recorder: Recorder, server: str
) -> None:
    case = make_case(validation=CHATS[:2], total_steps=STEPS)

    result = train(case.config, case.workspace, recorder, followed(server, "whole runs"))

    ((_, name),) = runs(server, "whole runs")
    assert name == "colours-0a1b2c3d"
    (config,) = asked(server, "get_run_configs", project="whole runs").values()
    assert config["finetune.dev/revision"] == "0a1b2c3d"
    assert config["training.adapter.rank"] == "8"
    for metric in ("loss", "validationLoss", "learningRate", "tokens", "epoch"):
        assert shown(server, "whole runs", metric) == told(case, metric)
    assert result.tracked
    assert result.tracked.url == f"{server}/?project=whole%20runs"
    assert httpx.get(result.tracked.url, timeout=PATIENCE, trust_env=False).status_code == 200
    assert recorder.values("tracking")[0] == result.tracked.url
    assert result.tracked.problem == ""


def test_a_run_that_goes_on_is_the_same_and_has_no_step_twice(make_case: MakeCase, server: str) -> None:
    case = make_case(validation=CHATS[:2], total_steps=STEPS)
    with pytest.raises(Killed):
        train(case.config, case.workspace, Deadly(4), followed(server, "killed"))
    before = runs(server, "killed")
    assert [step for step, _ in shown(server, "killed", "loss")] == [1, 2, 3]

    train(case.config, case.workspace, Recorder(), followed(server, "killed"))

    assert runs(server, "killed") == before
    for metric in ("loss", "validationLoss", "tokens"):
        assert shown(server, "killed", metric) == told(case, metric)


def test_a_key_that_is_refused_is_told_and_is_nowhere_else(
    make_case: MakeCase,
    recorder: Recorder,
    server: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = "canary-of-another-token"
    monkeypatch.setenv("FINETUNE_TRACKING_TRACKIO_WRITE_TOKEN", other)
    case = make_case(total_steps=1)

    result = train(case.config, case.workspace, recorder, followed(server, "closed"))

    assert case.workspace.trained.exists()
    assert result.tracked
    assert result.tracked.problem.startswith(f"trackio at {server} did not take the metrics (400: A write_token is")
    assert "training goes on without it" in caplog.text
    assert asked(server, "get_runs_for_project", project="closed") == []
    assert other not in result.model_dump_json() + caplog.text
    assert not [path for path in case.root.rglob("*") if path.is_file() and other.encode() in path.read_bytes()]


def test_what_json_has_no_word_for_is_told_in_trackios(server: str) -> None:
    run = trackers.Run("0" * 32, "diverged", {}, {})
    tracker = trackers.Trackio(server, "diverged", run)
    tracker.send([trackers.Point("loss", 1, float("nan")), trackers.Point("loss", 2, float("inf"))])

    assert [step for step, _ in shown(server, "diverged", "loss")] == [1, 2]
    assert tracker.open(["loss"]) == {"loss": 2}


def test_what_is_no_trackio_server_is_told(make_case: MakeCase, recorder: Recorder) -> None:
    case, nobody = make_case(total_steps=1), f"http://127.0.0.1:{free_port()}"

    result = train(case.config, case.workspace, recorder, followed(nobody, "none"))

    assert result.tracked
    assert result.tracked.problem.startswith(f"trackio at {nobody} did not take the metrics (")


def test_nor_is_training_ended_by_an_address_that_is_none(make_case: MakeCase, recorder: Recorder) -> None:
    case = make_case(total_steps=1)

    result = train(case.config, case.workspace, recorder, followed("http://[::1", "none"))

    assert result.tracked
    assert "did not take the metrics (" in result.tracked.problem


def test_a_key_with_a_lines_end_is_the_key(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_TRACKING_TRACKIO_WRITE_TOKEN", f"{TOKEN}\n")
    tracker = trackers.Trackio(server, "line", trackers.Run("1" * 32, "line", {}, {}))
    tracker.send([trackers.Point("loss", 1, 0.5)])
    assert tracker.open(["loss", "epoch"]) == {"loss": 1, "epoch": 0}
