"""Where a training is followed from outside: an MLflow or a trackio server, Weights & Biases, or TensorBoard's files.

`Track` sends to one of them; `prepare` asks `check`. Their libraries are extras of this distribution, imported only
where they are used; trackio's would bring 140 MB for three requests. transformers' own callbacks won't do: with
a server that does not answer they end the training, a run that goes on sends the steps since its checkpoint again, and
what they tell of the run is the library's arguments, the machine's paths among them.
"""

import json
import math
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from importlib.util import find_spec
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import httpx

from finetune_trainer.contract.config import (
    TRACKING_KEYS,
    RunConfig,
    TrackerType,
    TrackingConfig,
    Workspace,
)
from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.results import PrepareResult
from finetune_trainer.data.disk import fsync
from finetune_trainer.evaluation.manifest import trained

# Of a library that waits: one more try, and no longer than that for each. Training waits with it.
_MLFLOW = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
# What an MLflow server takes at once, and of a parameter's value.
_BATCH, _LENGTH = 500, 500
_RUN = "finetune.dev/run"
# Trackers that a library is needed for, of the same name.
_LIBRARIES = (TrackerType.MLFLOW, TrackerType.TENSORBOARD, TrackerType.WANDB)
# Of trackio's servers. How long one is waited for, in seconds; training waits with it.
_TRACKIO_API, _TRACKIO_SECONDS = 1, 10.0


class Unreachable(Exception):
    """The tracker did not take what it was sent. The sentence says why."""


@dataclass(frozen=True)
class Point:
    """A metric's value at a step."""

    metric: str
    step: int
    value: float


@dataclass(frozen=True)
class Run:
    """What a tracker is told of a run beside its metrics. `id`: the same for every process that trains for it."""

    id: str
    name: str
    tags: Mapping[str, str]
    parameters: Mapping[str, str]


class End(Enum):
    """How a training ended; a paused one goes on later."""

    DONE = "done"
    FAILED = "failed"
    PAUSED = "paused"


class Tracker(Protocol):
    """One run at a tracker. What does not get there raises Unreachable."""

    url: str | None

    def open(self, metrics: Iterable[str]) -> dict[str, int]:
        """Find the run, or make it; the last step that it has of each of these metrics."""

    def send(self, points: list[Point]) -> None:
        """Add to it."""

    def close(self, end: End) -> None:
        """Nothing follows from this process."""


def check(tracking: TrackingConfig) -> None:
    """Raises StageError (CONFIG_INVALID) where the library of a tracker is not there."""
    name = tracking.type.value
    if tracking.type in _LIBRARIES and find_spec(name) is None:
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"training.tracking: {name} is a library that this trainer lacks: build its image with --build-arg "
            f"EXTRAS=trainer,{name} and name it in training.image (on a laptop: pip install "
            f"'finetune-operator[{name}]'), or remove training.tracking.",
        )


def run_of(tracking: TrackingConfig, config: RunConfig, prepared: PrepareResult, workspace: Workspace) -> Run:
    """This revision's run. Its id lies beside the checkpoints, and lasts as long as they do."""
    if not workspace.tracked.exists():
        # Before any tracker hears of it, so that none ever has two of one training.
        draft = workspace.tracked.with_name(f"{workspace.tracked.name}.partial")
        draft.write_text(uuid.uuid4().hex)
        fsync(draft)
        draft.rename(workspace.tracked)
        fsync(workspace.tracked.parent)
    found = workspace.tracked.read_text()
    tags = {"finetune.dev/job": config.name, "finetune.dev/revision": config.revision, _RUN: found}
    name = tracking.name or f"{config.name}-{config.revision}"
    if workspace.number is not None:
        name, tags = f"{name}-trial-{workspace.number}", tags | {"finetune.dev/trial": str(workspace.number)}
    return Run(found, name, tags, trained(config, prepared))


def tracker(tracking: TrackingConfig, run: Run, workspace: Workspace) -> Tracker:
    """The tracker that the manifest asks for."""
    if tracking.type == TrackerType.TENSORBOARD:
        return TensorBoard(workspace.tensorboard, run)
    if tracking.type == TrackerType.TRACKIO:
        return Trackio(str(tracking.url), tracking.project or "Default", run)
    if tracking.type == TrackerType.WANDB:
        from finetune_trainer.training.weights_and_biases import WeightsAndBiases

        return WeightsAndBiases(tracking, run)
    return MLflow(str(tracking.url), tracking.project or "Default", run)


class MLflow:
    """A run at an MLflow server, found by its tag."""

    def __init__(self, server: str, experiment: str, run: Run) -> None:
        for key in TRACKING_KEYS[TrackerType.MLFLOW]:
            if secret := os.environ.get(f"FINETUNE_TRACKING_{key}"):
                os.environ[key] = secret
        os.environ.update(_MLFLOW | os.environ)
        import mlflow

        self.url: str | None = None
        self._server, self._experiment, self._run = server.rstrip("/"), experiment, run
        self._errors = mlflow.exceptions.MlflowException
        self._entities = mlflow.entities
        self._client = mlflow.MlflowClient(tracking_uri=self._server)
        self._id = ""

    def open(self, metrics: Iterable[str]) -> dict[str, int]:
        """Ask for the run by its tag."""
        try:
            return self._open(metrics)
        except self._errors as error:
            raise self._unreachable(error) from error

    def _open(self, metrics: Iterable[str]) -> dict[str, int]:
        client = self._client
        experiment = client.get_experiment_by_name(self._experiment)
        place = experiment.experiment_id if experiment else client.create_experiment(self._experiment)
        found = client.search_runs([place], f"tags.`{_RUN}` = '{self._run.id}'", max_results=1)
        run = found[0] if found else client.create_run(place, tags=dict(self._run.tags), run_name=self._run.name)
        self._id = run.info.run_id
        client.update_run(self._id, status="RUNNING")
        parameters = [self._entities.Param(key, value[:_LENGTH]) for key, value in self._run.parameters.items()]
        for start in range(0, len(parameters), 100):
            client.log_batch(self._id, params=parameters[start : start + 100])
        self.url = f"{self._server}/#/experiments/{place}/runs/{self._id}"
        sent = {name: client.get_metric_history(self._id, name) for name in metrics}
        return {name: max((point.step for point in points), default=0) for name, points in sent.items()}

    def send(self, points: list[Point]) -> None:
        """In batches."""
        now = int(time.time() * 1000)
        found = [self._entities.Metric(point.metric, point.value, now, point.step) for point in points]
        try:
            for start in range(0, len(found), _BATCH):
                self._client.log_batch(self._id, metrics=found[start : start + _BATCH])
        except self._errors as error:
            raise self._unreachable(error) from error

    def close(self, end: End) -> None:
        """Say how it ended; one that goes on later is still running."""
        if end == End.PAUSED:
            return
        try:
            self._client.set_terminated(self._id, "FINISHED" if end == End.DONE else "FAILED")
        except self._errors as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(f"MLflow at {self._server} did not take the metrics ({str(error).splitlines()[0][:200]})")


class Trackio:
    """A run at a trackio server of somebody's own, by its id. Such a run has no state: what is there is all of it."""

    def __init__(self, server: str, project: str, run: Run) -> None:
        self._server, self._project, self._run = server.rstrip("/"), project, run
        self.url: str | None = f"{self._server}/?project={quote(project)}"
        (key,) = TRACKING_KEYS[TrackerType.TRACKIO]
        # Files end with a line's end, and so do the Secrets that are made of them.
        token = (os.environ.get(f"FINETUNE_TRACKING_{key}") or os.environ.get(key) or "").strip().encode()
        headers = [(b"X-Trackio-Write-Token", token)] if token else []
        self._client = httpx.Client(headers=headers, timeout=_TRACKIO_SECONDS)

    def open(self, metrics: Iterable[str]) -> dict[str, int]:
        """Ask what it has of the run, which is made with its first metric."""
        spoken = self._ask("GET", "version").get("api_version")
        if spoken != _TRACKIO_API:
            raise self._unreachable(f"it speaks version {spoken} of its API, and this trainer version {_TRACKIO_API}")
        where = {"project": self._project, "run": self._run.name, "run_id": self._run.id}
        sent = {name: self._call("get_metric_values", **where, metric_name=name) for name in metrics}
        try:
            steps = {name: [int(point["step"]) for point in points or ()] for name, points in sent.items()}
        except (KeyError, TypeError, ValueError) as error:
            raise self._unreachable("it has steps in a form that this trainer doesn't know") from error
        return {name: max(there, default=0) for name, there in steps.items()}

    def send(self, points: list[Point]) -> None:
        """A step's metrics together, with an id by which the server knows what it has been sent before."""
        logs = []
        for step, some in groupby(sorted(points, key=attrgetter("step")), key=attrgetter("step")):
            values = {point.metric: _json(point.value) for point in some}
            logs.append(
                {
                    "project": self._project,
                    "run": self._run.name,
                    "run_id": self._run.id,
                    "step": step,
                    "metrics": values,
                    "config": {**self._run.tags, **self._run.parameters},
                    "log_id": "-".join([self._run.id, str(step), *sorted(values)]),
                }
            )
        for start in range(0, len(logs), _BATCH):
            self._call("bulk_log", logs=logs[start : start + _BATCH], hf_token=None)

    def close(self, end: End) -> None:
        """Nothing has to be said."""
        self._client.close()

    def _call(self, name: str, **arguments: Any) -> Any:
        return self._ask("POST", f"api/{name}", json={"args": [], "kwargs": arguments}).get("data")

    def _ask(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        try:
            answer = self._client.request(method, f"{self._server}/{path}", **content)
            told = answer.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise self._unreachable(str(error) or type(error).__name__) from error
        if not isinstance(told, dict) or answer.is_error or told.get("error"):
            why = told.get("error") if isinstance(told, dict) else None
            raise self._unreachable(f"{answer.status_code}: {why or answer.reason_phrase}")
        return told

    def _unreachable(self, why: str) -> Unreachable:
        said = (why.splitlines() or [""])[0][:200]
        return Unreachable(f"trackio at {self._server} did not take the metrics ({said})")


def _json(value: float) -> float | str:
    """JSON has no word for some numbers; these are trackio's."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


class TensorBoard:
    """Event files in a directory. A process that goes on writes them anew: so no step is there twice."""

    def __init__(self, directory: Path, run: Run) -> None:
        self.url: str | None = None
        self._directory, self._run = directory, run
        self._writer: Any = None

    def open(self, metrics: Iterable[str]) -> dict[str, int]:
        """Begin anew, with what the run was told."""
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._writer = SummaryWriter(self._directory / self._run.name)
            told = json.dumps({**self._run.tags, **self._run.parameters}, indent=2)
            self._writer.add_text("run", f"```\n{told}\n```", 0)
        return {}

    def send(self, points: list[Point]) -> None:
        """Add to the files."""
        for point in points:
            self._writer.add_scalar(point.metric, point.value, point.step)
        self._writer.flush()

    def close(self, end: End) -> None:
        """Close the files."""
        self._writer.close()
