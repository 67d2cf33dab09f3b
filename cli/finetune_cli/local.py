"""The local backend: a job's stages as processes of this machine, one after the other, then the engine.

`run` starts it. The trainer keeps checkpoints and completion marks in the workspace, so nothing here remembers what
was done: running again runs every stage again, and a complete one ends at once.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from finetune_operator.api.status import Endpoint, FineTuneJobStatus
from finetune_operator.api.values import seconds
from finetune_operator.conditions import Reason
from finetune_operator.finetunejob.stages import JOBS, wanted
from finetune_operator.finetunejob.stages.base import State, Step
from finetune_operator.finetunejob.stages.evaluate import REPORT, Evaluate, evaluated, without_answers
from finetune_operator.finetunejob.stages.prepare import prepared
from finetune_operator.finetunejob.stages.train import trained
from finetune_operator.pods.diagnose import LOG_TAIL
from finetune_trainer.contract.config import Format
from finetune_trainer.contract.report import EvaluateResult, Plan, PrepareResult, TrainResult

from finetune_cli import state
from finetune_cli.ending import Again, Done, Ending, Failed, after
from finetune_cli.engine import START_SECONDS, Engine
from finetune_cli.errors import UserError, code_of
from finetune_cli.job import LocalJob
from finetune_cli.processes import LOOPBACK, Child, free_port
from finetune_cli.progress import View
from finetune_cli.store import Store
from finetune_cli.trainer import Attempt, write_evaluation_config, write_run_config

# How often a stage is asked how far it is, and the engine whether it answers, in seconds.
POLL_SECONDS = 0.5


class Shown(Protocol):
    """Who tells the user of what came out."""

    def measured(self, page: Path) -> None:
        """The candidate is measured; `page` is the report."""

    def answering(self, endpoint: Endpoint) -> None:
        """The model is served."""


class Backend:
    """Carries one job through its stages and keeps its status document up to date."""

    def __init__(self, job: LocalJob, store: Store, view: View) -> None:
        self._job = job
        self._store = store
        self._view = view
        self._workspace = store.workspace(job.revision)
        self._stage = "prepare"
        # Whether the rows have answers to measure by, once they are prepared.
        self._answers = True
        self._run = state.Run(
            name=job.name,
            revision=job.revision,
            wanted=wanted(job.spec),
            old=store.read() or FineTuneJobStatus(),
        )

    def make(self) -> Plan:
        """Prepare and train, and return prepare's plan; what is complete ends at once. UserError when a stage fails."""
        write_run_config(self._job, self._store)
        write_evaluation_config(self._job, self._store)
        result = self._carry_out("prepare", lambda result: prepared(PrepareResult.model_validate(result)))
        found = PrepareResult.model_validate(result)
        self._answers = found.dataset.format != Format.TEXT
        artifact = self._workspace.artifact.as_uri()
        self._carry_out("train", lambda result: trained(TrainResult.model_validate(result), artifact))
        return found.plan

    def serve(self, plan: Plan, cpu: bool, wanted_port: int, shown: Shown) -> None:
        """Start the engine, measure the candidate where there are rows for that, and serve it where that is wanted.

        Until KeyboardInterrupt. UserError when the engine ends, or the gate is not met.
        """
        self._begin("host", "the engine loads the model")
        port = free_port(wanted_port)
        if port != wanted_port:
            self._view.say(f"Port {wanted_port} is taken; the model is served on port {port}.")
        endpoint = Endpoint(url=f"http://{LOOPBACK}:{port}/v1", model=self._job.name)
        self._run = replace(self._run, url=endpoint.url)
        context_length = self._job.spec.hosting.context_length or plan.context_length
        engine = Engine(self._job, self._workspace, context_length, port, cpu)
        with engine.start(self._store.log(self._job.revision, "host")) as child:
            with self._stoppable():
                self._await(engine, child)
            self._end(state.done(f"The engine answers completions at {endpoint.url}."))
            self._measure(endpoint, shown)
            if not self._job.spec.hosting.enabled:
                return self._release(
                    "Nothing is left to measure, and hosting.enabled is false; the engine was stopped."
                )
            self._tell("promote", state.done(f"{endpoint.url} is revision {self._job.revision}."))
            # From here on it is the engine that a stop ends.
            self._stage = "host"
            shown.answering(endpoint)
            with self._stoppable():
                while child.wait(POLL_SECONDS) is None:
                    pass
            step = state.failed(Reason.ENGINE_FAILED, _with_log("The engine ended", child))
            self._without_engine(step)
            raise _failure("host", step)

    def _measure(self, endpoint: Endpoint, shown: Shown) -> None:
        if not Evaluate().wanted(self._job.spec):
            return None
        if not self._answers:
            return self._tell("evaluate", without_answers(self._job.spec))
        try:
            self._evaluate(endpoint, shown)
        except UserError:
            self._release("The candidate is not promoted; the engine was stopped.")
            raise

    def _release(self, why: str) -> None:
        self._run = self._run.released(why)
        self._write()

    def _evaluate(self, endpoint: Endpoint, shown: Shown) -> None:
        spec = self._job.spec
        config = write_evaluation_config(self._job, self._store)
        page = self._workspace.evaluation(config) / REPORT
        try:
            self._carry_out(
                "evaluate",
                lambda result: evaluated(EvaluateResult.model_validate(result), spec, page.as_uri()),
                endpoint.url,
            )
        finally:
            # What missed the gate is worth a look, too.
            if page.exists():
                shown.measured(page)

    def _await(self, engine: Engine, child: Child) -> None:
        started = time.monotonic()
        while not engine.answers():
            late = time.monotonic() - started > START_SECONDS
            if late or child.wait(POLL_SECONDS) is not None:
                raise self._fail(Reason.ENGINE_FAILED, _with_log("The engine does not start", child))

    @property
    def needs_engine(self) -> bool:
        """Whether a candidate is started: to serve it, or to measure it."""
        return self._job.spec.hosting.enabled or (Evaluate().wanted(self._job.spec) and self._answers)

    @property
    def artifact(self) -> Path:
        """Where the result lies."""
        return self._workspace.artifact

    @property
    def serving(self) -> bool:
        """Whether the model answers."""
        return "promote" in self._run.steps

    def stopped(self) -> None:
        """The user stopped the run: say in status what comes next."""
        if self.serving:
            self._without_engine(state.stopped("host"))
        else:
            self._tell(self._stage, state.stopped(self._stage))

    def _without_engine(self, step: Step) -> None:
        self._run = self._run.without_engine(step)
        self._write()

    def _carry_out(
        self, stage: str, told: Callable[[Mapping[str, Any]], Step], endpoint: str | None = None
    ) -> Mapping[str, Any]:
        """Run a stage's process, again where that can help, until it is done. `endpoint`: what evaluate asks."""
        self._begin(stage, "starting")
        limit = self._job.spec.training.max_runtime
        deadline = time.monotonic() + seconds(limit) if limit else None
        retries = self._job.spec.training.retries
        failures = 0
        while True:
            match after(self._attempt(deadline, endpoint), failures, retries):
                case Done(result):
                    step = told(result)
                    if step.state == State.FAILED:
                        raise self._refuse(step)
                    self._end(step)
                    return result
                case Failed(reason, message):
                    raise self._fail(reason, message)
                case Again(delay, why):
                    failures += 1
                    first_line = why.partition("\n")[0]
                    self._view.say(f"{stage} is tried again in {delay:.0f} s ({failures} of {retries}): {first_line}")
                    time.sleep(delay)

    def _attempt(self, deadline: float | None, endpoint: str | None) -> Ending:
        with Attempt(JOBS[self._stage], self._job, self._store, endpoint) as attempt, self._stoppable():
            while (ending := attempt.wait(POLL_SECONDS)) is None:
                self._follow(attempt)
                if deadline is not None and time.monotonic() > deadline:
                    raise self._fail(
                        Reason.DEADLINE_EXCEEDED,
                        f"{self._stage} took longer than training.maxRuntime ({self._job.spec.training.max_runtime}); "
                        "raise it, and `finetune run` goes on from its last checkpoint.",
                    )
        return ending

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Tell a user who presses Ctrl-C why it does not end at once."""
        keeps = {"train": "finishes its step and keeps a checkpoint", "evaluate": "keeps its answers"}
        first = keeps.get(self._stage, "ends by itself")
        try:
            yield
        except KeyboardInterrupt:
            self._view.say(f"Stopping: {self._stage} {first}; Ctrl-C again kills it.")
            raise

    def _follow(self, attempt: Attempt) -> None:
        progress = attempt.progress()
        if progress and progress != self._run.progress:
            self._view.update(progress)
            self._run = self._run.at(progress)
            self._write()

    def _begin(self, stage: str, activity: str) -> None:
        self._stage = stage
        self._view.begin(stage, activity)
        self._tell(stage, state.running(f"The {stage} process is running."))

    def _end(self, step: Step) -> None:
        self._tell(self._stage, step)
        self._view.end(step.message)

    def _fail(self, reason: Reason, message: str) -> UserError:
        return self._refuse(state.failed(reason, message))

    def _refuse(self, step: Step) -> UserError:
        self._tell(self._stage, step)
        return _failure(self._stage, step)

    def _tell(self, stage: str, step: Step) -> None:
        self._run = self._run.after(stage, step)
        self._write()

    def _write(self) -> None:
        """Write the status document, and remember it: what it says of times and history goes into the next one."""
        status = self._run.status(datetime.now(UTC))
        self._store.write(status)
        self._run = replace(self._run, old=status)


def _failure(stage: str, step: Step) -> UserError:
    return UserError(f"{stage} failed ({step.reason}): {step.message}", code_of(step.reason))


def _with_log(what: str, child: Child) -> str:
    log = child.tail(LOG_TAIL)
    return f"{what}; the end of {child.log}:\n{log}" if log else f"{what}, and logged nothing."
