"""A stage as a process: the trainer's, its progress over loopback, and how it ended.

Used by `local` and `check`.
"""

import os
import sys
from types import TracebackType

import httpx
from finetune_operator.finetunejob.desired import budget, sweep, tracking
from finetune_operator.finetunejob.desired.evaluation import evaluation_config
from finetune_operator.finetunejob.desired.jobs import sharding
from finetune_operator.finetunejob.desired.run_config import run_config
from finetune_operator.finetunejob.record import text
from finetune_operator.finetunejob.stages.job import JobStage
from finetune_operator.finetunejob.stages.prepare import on_sensitive
from finetune_operator.finetunejob.stages.publish import destination
from finetune_operator.finetunejob.stages.train import keep_checkpoints
from finetune_operator.names import EVALUATION, RUN_CONFIG
from finetune_operator.pods.diagnose import LOG_TAIL
from finetune_operator.settings import Settings
from finetune_trainer.contract.config import Source
from finetune_trainer.contract.outcome import Termination
from finetune_trainer.contract.results import Progress
from pydantic import ValidationError

from finetune_cli import origin
from finetune_cli.ending import Ending
from finetune_cli.job import LocalJob
from finetune_cli.processes import LOOPBACK, Child, free_port
from finetune_cli.store import Store

STATUS_TIMEOUT = 2.0


class StageProcess:
    """A stage's process. Leaving the `with` block stops it; the trainer keeps a checkpoint then."""

    def __init__(
        self,
        stage: JobStage,
        job: LocalJob,
        store: Store,
        endpoint: str | None = None,
        base_endpoint: str | None = None,
    ) -> None:
        """Start it. `endpoint`: what evaluate asks; `base_endpoint`: the base model, where it has one of its own."""
        self.stage = stage.name
        self._endpoints = {"--endpoint": endpoint, "--base-endpoint": base_endpoint}
        self._termination_log = store.termination_log(job.revision, stage.name)
        self._termination_log.unlink(missing_ok=True)
        self._port = free_port()
        self._child = Child(
            self._command(store, job),
            store.log(job.revision, stage.name),
            {**os.environ, "PYTHONUNBUFFERED": "1"},
            stage.grace_seconds,
        )

    def _command(self, store: Store, job: LocalJob) -> list[str]:
        root = store.workspace(job.revision).root
        return [
            *(sys.executable, "-m", "finetune_trainer", self.stage),
            *("--config", str(root / RUN_CONFIG)),
            *("--workspace", str(root)),
            *("--termination-log", str(self._termination_log)),
            *("--status-port", str(self._port)),
            *("--status-host", LOOPBACK),
            *("--evaluation", str(root / EVALUATION)),
            *on_sensitive(job.spec.dataset),
            *keep_checkpoints(job.spec.training),
            *sharding(job.spec.training),
            *sweep.arguments(job.spec.training),
            *budget.arguments(job.spec.training, Settings.from_environment()),
            *tracking.arguments(job.spec.training),
            *destination(job.spec.output, root.as_uri()),
            *(part for option, url in self._endpoints.items() if url for part in (option, url)),
        ]

    def __enter__(self) -> "StageProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.stop()

    def wait(self, seconds: float) -> Ending | None:
        """How it ended; None while it runs, after `seconds`."""
        code = self._child.wait(seconds)
        if code is None:
            return None
        return Ending(self.stage, code, self._termination(), self._child.tail(LOG_TAIL))

    def progress(self) -> Progress | None:
        """How far it is; None while it can't be asked: it has only just started, or is about to end."""
        try:
            answer = httpx.get(f"http://{LOOPBACK}:{self._port}/status", timeout=STATUS_TIMEOUT, trust_env=False)
            return Progress.model_validate_json(answer.raise_for_status().content)
        except (httpx.HTTPError, ValidationError):
            return None

    def _termination(self) -> Termination | None:
        try:
            return Termination.model_validate_json(self._termination_log.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None


def write_run_config(job: LocalJob, store: Store) -> None:
    """Leave in the workspace what the ConfigMap holds in a cluster."""
    root = store.workspace(job.revision).root
    root.mkdir(parents=True, exist_ok=True)
    config = run_config(job.name, job.revision, job.spec, origin.found(job, store))
    # No revision on this machine needs a copy of its own.
    kept = None if config.model.origin else Source(uri=store.models.as_uri(), path=store.models)
    shared = config.model.model_copy(update={"cache": kept})
    (root / RUN_CONFIG).write_text(text(config.model_copy(update={"model": shared})))


def write_evaluation_config(job: LocalJob, store: Store) -> None:
    """Leave what prepare checks and evaluate measures beside the run config, where anything is measured."""
    path = store.workspace(job.revision).root / EVALUATION
    path.unlink(missing_ok=True)
    if job.spec.evaluation.enabled:
        path.write_text(text(evaluation_config(job.spec, Settings.from_environment())))
