"""A training as its tracker shows it: one run for a revision, whatever interrupts it, and no training waits for one.

MLflow's own server answers, on loopback.
"""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from finetune_trainer.contract.config import AdapterConfig, AdapterType, TrackerType, TrackingConfig
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.results import TrainResult
from finetune_trainer.stages.train import train
from finetune_trainer.training import track
from finetune_trainer.training.build import Beside
from http_server import Handler, answering
from mlflow import MlflowClient
from mlflow.entities import Run
from ports import free_port
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_resume import metrics
from trainings import CHATS, Case, MakeCase, Recorder

STEPS = 6
# In seconds; a server that shares its cores with a training may take a while, which is no part of any of these tests.
PATIENCE = 600
S = TypeVar("S", bound=ThreadingHTTPServer)
TOKEN = "canary-of-a-token"


@contextmanager
def started(command: list[str], place: Path, says: str, stop: signal.Signals, **environment: str) -> Iterator[None]:
    """A server while inside, that says so once it answers, and its workers."""
    with subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=place,
        start_new_session=True,
    ) as process:
        assert process.stdout
        lines = iter(process.stdout)
        said = list(takewhile(lambda line: says not in line, lines))
        assert process.poll() is None, "".join(said)
        rest = threading.Thread(target=deque, args=(lines, 0))
        rest.start()
        yield
        os.killpg(process.pid, stop)
        rest.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server of its own."""
    place, port = tmp_path_factory.mktemp("mlflow"), free_port()
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", f"sqlite:///{place}/runs.db", "--default-artifact-root", str(place / "artifacts")]
    command = ["-m", "mlflow", "server", *options, *stores]
    with started(command, place, "Application startup complete", signal.SIGTERM, MLFLOW_DISABLE_TELEMETRY="true"):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(autouse=True)
def sent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track, "SEND_SECONDS", 0.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", str(PATIENCE))
    for key in ("MLFLOW_TRACKING_TOKEN", "FINETUNE_TRACKING_MLFLOW_TRACKING_TOKEN"):
        # Put back whatever a tracker made of it.
        monkeypatch.setenv(key, "")


def followed(url: str, project: str) -> Beside:
    return Beside(tracking=TrackingConfig(type=TrackerType.MLFLOW, url=url, project=project))


def runs(url: str, project: str) -> list[Run]:
    client = MlflowClient(tracking_uri=url)
    experiment = client.get_experiment_by_name(project)
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def shown(url: str, run: Run, metric: str) -> list[tuple[int, float]]:
    """A metric's values as the server has them, each as often as it has it."""
    found = MlflowClient(tracking_uri=url).get_metric_history(run.info.run_id, metric)
    return [(each.step, each.value) for each in found]


def told(case: Case, metric: str) -> list[tuple[int, float]]:
    return [(int(row["step"]), row[metric]) for row in metrics(case) if metric in row]


class Killed(BaseException):
    """What a process does not outlive."""


class Deadly(Recorder):
    """Ends the training at a step, before any checkpoint."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def update(self, **fields: Any) -> None:
        super().update(**fields)
        if fields.get("step") == self.step and "eta" in fields:
            raise Killed


def test_a_revision_is_a_run_with_its_hyperparameters_and_what_metrics_jsonl_has(
    make_case: MakeCase, recorder: Recorder, server: str
) -> None:
    case = make_case(validation=CHATS[:2], total_steps=STEPS)

    result = train(case.config, case.workspace, recorder, followed(server, "whole"))

    (run,) = runs(server, "whole")
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "colours-0a1b2c3d"
    assert run.data.tags["finetune.dev/job"] == "colours"
    assert run.data.tags["finetune.dev/revision"] == "0a1b2c3d"
    assert run.data.params["training.adapter.rank"] == "8"
    assert run.data.params["plan.learningRate"] == "0.005"
    for metric in ("loss", "validationLoss", "learningRate", "tokens", "epoch"):
        assert shown(server, run, metric) == told(case, metric)
    assert result.tracked
    assert result.tracked.url == f"{server}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    assert recorder.values("tracking")[0] == result.tracked.url
    assert result.tracked.problem == ""


def test_a_run_that_goes_on_is_the_same_and_has_no_step_twice(make_case: MakeCase, server: str) -> None:
    case = make_case(validation=CHATS[:2], total_steps=STEPS)
    with pytest.raises(Killed):
        train(case.config, case.workspace, Deadly(4), followed(server, "killed"))
    (before,) = runs(server, "killed")
    assert [step for step, _ in shown(server, before, "loss")] == [1, 2, 3]
    assert before.info.status == "RUNNING"

    train(case.config, case.workspace, Recorder(), followed(server, "killed"))

    (run,) = runs(server, "killed")
    assert run.info.run_id == before.info.run_id
    assert run.info.status == "FINISHED"
    for metric in ("loss", "validationLoss", "tokens"):
        assert shown(server, run, metric) == told(case, metric)


def test_a_training_that_failed_is_shown_as_that(make_case: MakeCase, recorder: Recorder, server: str) -> None:
    case = make_case(adapter=AdapterConfig(type=AdapterType.NONE), learning_rate=1e30)

    with pytest.raises(StageError) as raised:
        train(case.config, case.workspace, recorder, followed(server, "diverged"))

    assert raised.value.outcome == Outcome.DIVERGED
    (run,) = runs(server, "diverged")
    assert run.info.status == "FAILED"


def test_a_training_that_its_budget_ended_is_finished(make_case: MakeCase, recorder: Recorder, server: str) -> None:
    case = make_case(total_steps=STEPS)
    # Of a step and loading, nothing takes less.
    beside = Beside(budget=1e-9, tracking=followed(server, "spent").tracking)

    result = train(case.config, case.workspace, recorder, beside)

    assert result.steps == 1
    (run,) = runs(server, "spent")
    assert run.info.status == "FINISHED"
    assert shown(server, run, "loss") == told(case, "loss")


def test_training_goes_on_without_a_server_and_says_so(
    make_case: MakeCase, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    case = make_case(total_steps=2)
    nobody = f"http://127.0.0.1:{free_port()}"

    result = train(case.config, case.workspace, recorder, followed(nobody, "none"))

    assert case.workspace.trained.exists()
    assert result.tracked
    assert result.tracked.problem.startswith(f"MLflow at {nobody} did not take the metrics (")
    assert "training goes on without it" in caplog.text


def test_a_key_gets_to_the_server_and_nowhere_else(
    make_case: MakeCase, recorder: Recorder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_TRACKING_MLFLOW_TRACKING_TOKEN", TOKEN)
    case, heard = make_case(total_steps=1), []

    class Refusing(Handler):
        def do_GET(self) -> None:
            heard.append(self.headers["Authorization"])
            self.answer(401)

    with answering(Refusing) as place:
        result = train(case.config, case.workspace, recorder, followed(f"http://{place}", "closed"))

    assert set(heard) == {f"Bearer {TOKEN}"}
    assert result.tracked
    assert "401" in result.tracked.problem
    assert TOKEN not in result.model_dump_json() + caplog.text
    assert not [path for path in case.root.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


def test_tensorboard_finds_the_same_and_no_step_twice(make_case: MakeCase, recorder: Recorder) -> None:
    beside = Beside(tracking=TrackingConfig(type=TrackerType.TENSORBOARD))
    case = make_case(validation=CHATS[:2], total_steps=STEPS)
    with pytest.raises(Killed):
        train(case.config, case.workspace, Deadly(4), beside)
    assert scalars(case, "loss")

    result: TrainResult = train(case.config, case.workspace, recorder, beside)

    assert scalars(case, "loss") == pytest.approx(dict(told(case, "loss")))
    assert scalars(case, "validationLoss") == pytest.approx(dict(told(case, "validationLoss")))
    assert result.tracked
    assert result.tracked.url is None


def scalars(case: Case, metric: str) -> dict[int, float]:
    """As TensorBoard reads them; a step that is there twice fails."""
    events = EventAccumulator(str(case.workspace.tensorboard / "colours-0a1b2c3d"), purge_orphaned_data=False)
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars(metric)]
    assert len(dict(found)) == len(found)
    return dict(found)


def test_a_server_that_is_gone_for_a_while_is_told_the_rest_when_it_is_back(make_case: MakeCase, server: str) -> None:
    case = make_case(total_steps=STEPS)
    gate = Gate(server)

    class Closing(Recorder):
        def update(self, **fields: Any) -> None:
            super().update(**fields)
            if "eta" in fields:
                gate.open = fields["step"] not in (3, 4)

    with listening(gate), pytest.MonkeyPatch.context() as patch:
        patch.setattr(track, "AGAIN_SECONDS", 0.0)
        result = train(case.config, case.workspace, Closing(), followed(address(gate), "away"))

    (run,) = runs(server, "away")
    assert gate.refused > 0
    assert shown(server, run, "loss") == told(case, "loss")
    assert result.tracked
    assert result.tracked.problem == ""


class Gate(ThreadingHTTPServer):
    """A proxy before the server that lets nothing through while it is shut."""

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.server, self.open, self.refused = server, True, 0


class Passing(Handler):
    server: Gate

    def _pass(self) -> None:
        body = self.body()
        if not self.server.open:
            self.server.refused += 1
            self.answer(503)
            return
        headers = {"Content-Type": "application/json"}
        url = self.server.server + self.path
        answer = httpx.request(self.command, url, content=body, headers=headers, timeout=PATIENCE, trust_env=False)
        self.answer(answer.status_code, answer.content, headers)

    do_GET = do_POST = do_PATCH = _pass


@contextmanager
def listening(server: S) -> Iterator[S]:
    """A server that answers while inside."""
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def address(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"
