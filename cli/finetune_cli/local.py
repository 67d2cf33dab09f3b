"""The local backend: a job's stages as processes of this machine, one after the other, then the engine.

`run` starts it. The trainer keeps checkpoints and completion marks in the workspace, so nothing here remembers what
was done: running again runs every stage again, and a complete one ends at once. What a result comes to, and whether an
engine is of use, the operator's stages say here as they do in a cluster.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from finetune_operator.api.status import Endpoint, FineTuneJobStatus
from finetune_operator.api.values import seconds
from finetune_operator.conditions import Reason
from finetune_operator.finetunejob.desired import budget
from finetune_operator.finetunejob.desired.engine import is_merged
from finetune_operator.finetunejob.desired.evaluation import evaluation_config
from finetune_operator.finetunejob.desired.run_config import run_config
from finetune_operator.finetunejob.record import RUN_CONFIG, Failure, failure_key, failure_text, text
from finetune_operator.finetunejob.stages import HOST, wanted
from finetune_operator.finetunejob.stages.base import Context, Stage, Step
from finetune_operator.finetunejob.stages.job import JobStage
from finetune_operator.finetunejob.target import Target
from finetune_operator.kinds.plan import State
from finetune_operator.names import BASE
from finetune_operator.pods.diagnose import LOG_TAIL
from finetune_operator.settings import Settings
from finetune_trainer.contract.asked import asked_at
from finetune_trainer.contract.results import PrepareResult
from finetune_trainer.evaluation.decision import reported

from finetune_cli import state
from finetune_cli.ending import Again, Done, Failed, Next, after
from finetune_cli.engine import START_SECONDS, VllmProcess
from finetune_cli.errors import ExitCode, UserError, code_of
from finetune_cli.job import FILE, LocalJob
from finetune_cli.processes import LOOPBACK, Child, free_port
from finetune_cli.progress import View
from finetune_cli.store import Store
from finetune_cli.trainer import StageProcess, write_evaluation_config, write_run_config

# How often a stage is asked how far it is, and the engine whether it answers, in seconds.
POLL_SECONDS = 0.5


class Listener(Protocol):
    """Who tells the user of what came out."""

    def measured(self, page: Path) -> None:
        """The candidate is measured; `page` is the report."""

    def answering(self, endpoint: Endpoint) -> None:
        """The model is served."""


class Backend:
    """Carries one job through its stages and keeps its status document up to date.

    `port`: where the result is served, if it is free. `cpu`: whether the engine is one for CPUs.
    """

    def __init__(self, job: LocalJob, store: Store, view: View, cpu: bool, port: int) -> None:
        self._job = job
        self._store = store
        self._view = view
        self._cpu = cpu
        self._port = port
        self._workspace = store.workspace(job.revision)
        files = self._workspace.root.as_uri()
        self._target = Target(job.name, "", "", job.spec, job.revision, Settings.from_environment(), files)
        self._run = state.Run(
            name=job.name,
            revision=job.revision,
            wanted=wanted(job.spec),
            entries={RUN_CONFIG: text(run_config(job.name, job.revision, job.spec))},
            old=store.read() or FineTuneJobStatus(),
        )
        self._stage = self._run.wanted[0]
        self._child: Child | None = None

    def carry_out(self, listener: Listener) -> None:
        """Take each stage in turn; what is complete ends at once. Then serve the result, where that is wanted.

        Until KeyboardInterrupt. UserError when a stage fails, or the engine ends.
        """
        if unknown := budget.problem(self._job.spec.training, self._target.settings, local=True):
            raise UserError(unknown, ExitCode.USAGE)
        write_run_config(self._job, self._store)
        write_evaluation_config(self._job, self._store)
        try:
            for stage in self._run.wanted:
                self._stage = stage
                self._take(stage, listener)
            if self._child:
                self._answer(self._child, listener)
        finally:
            self._stop_engine()

    def _take(self, stage: Stage, listener: Listener) -> None:
        step = self._step(stage)
        self._tell(stage, step)
        if self._child and (why := HOST.released(self._context)):
            self._stop_engine()
            self._run = self._run.released(why)
            self._write()
        # What missed the gate is worth a look, too.
        if found := step.status.get("evaluation"):
            listener.measured(Path(unquote(found.report.removeprefix(FILE))))
        if not step.passed:
            raise _failure(stage, step)

    def _step(self, stage: Stage) -> Step:
        if isinstance(stage, JobStage):
            return self._carry_out(stage)
        if stage.hosts:
            return self._host()
        return state.done(f"{self._address} is revision {self._job.revision}.")

    def _carry_out(self, stage: JobStage) -> Step:
        """What a stage has come to, its process run unless that is known already."""
        ended = stage.ended(self._context)
        if ended is None:
            self._begin(stage, "starting")
            ended = self._tried(stage)
            if ended.passed:
                self._view.end(ended.message)
        return ended

    def _tried(self, stage: JobStage) -> Step:
        """Run a stage's process until it is done, beside the base model's engine where it asks that."""
        if not stage.asks_base(self._job.spec) or self._measured:
            return self._repeated(stage, None)
        self._view.say("The base model is loaded beside it, to compare with.")
        engine = self._engine(free_port(), base=True)
        with engine.start(self._store.log(self._job.revision, BASE)) as child:
            with self._stoppable(stage):
                step = _await(engine, child)
            if not step.passed:
                self._give_up(stage, Failure(step.reason, f"The base model, to compare with: {step.message}"))
            return self._repeated(stage, engine.url)

    @property
    def _measured(self) -> bool:
        """Whether it was measured before, so that nothing is asked again."""
        asked = evaluation_config(self._job.spec, self._target.settings)
        return reported(self._workspace.evaluation(asked)) is not None

    @property
    def _known(self) -> str | None:
        """Why no engine is of use though evaluate is still to come, as a sentence: it has only to say what it knows."""
        if self._job.spec.hosting.enabled or not self._measured:
            return None
        return "It was measured before, and is not to be served: no engine was started."

    def _repeated(self, stage: JobStage, base: str | None) -> Step:
        """Run it again where that can help. `base`: the URL of the base model's engine."""
        limit = self._job.spec.training.max_runtime
        deadline = time.monotonic() + seconds(limit) if limit else None
        failures = 0
        while (ended := stage.ended(self._context)) is None:
            match self._attempt(stage, base, deadline, failures):
                case Done(result):
                    self._remember(stage.entry(self._target), text(stage.result.model_validate(result)))
                case Failed(reason, message):
                    self._give_up(stage, Failure(reason, message))
                case Again(delay, why):
                    failures += 1
                    self._announce(stage, failures, delay, why)
                    time.sleep(delay)
        return ended

    def _give_up(self, stage: JobStage, failure: Failure) -> None:
        self._remember(failure_key(stage.name, stage.inputs(self._context)), failure_text(failure))

    def _attempt(self, stage: JobStage, base: str | None, deadline: float | None, failures: int) -> Next:
        endpoint = self._run.url if self._child else None
        with StageProcess(stage, self._job, self._store, endpoint, base) as process, self._stoppable(stage):
            while (ending := process.wait(POLL_SECONDS)) is None:
                self._follow(process)
                if deadline is not None and time.monotonic() > deadline:
                    return Failed(
                        Reason.DEADLINE_EXCEEDED,
                        f"{stage.name} took longer than training.maxRuntime ({self._job.spec.training.max_runtime}); "
                        "raise it, and `finetune run` goes on from its last checkpoint.",
                    )
        return after(ending, failures, self._job.spec.training.retries)

    def _announce(self, stage: JobStage, failures: int, delay: float, why: str) -> None:
        retries, first_line = self._job.spec.training.retries, why.partition("\n")[0]
        self._view.say(f"{stage.name} is tried again in {delay:.0f} s ({failures} of {retries}): {first_line}")

    def _host(self) -> Step:
        """Start the engine, unless there is nothing to serve and nothing to measure."""
        if why := HOST.released(self._context) or self._known:
            return Step(State.RELEASED, Reason.RELEASED, why)
        self._begin(HOST, "the engine loads the model")
        port = free_port(self._port)
        if port != self._port:
            self._view.say(f"Port {self._port} is taken; the model is served on port {port}.")
        self._run = replace(self._run, url=f"http://{LOOPBACK}:{port}/v1")
        engine = self._engine(port)
        self._child = engine.start(self._store.log(self._job.revision, HOST.name))
        with self._stoppable(HOST):
            step = _await(engine, self._child)
        if step.passed:
            self._view.end(step.message)
        return step

    def _answer(self, child: Child, listener: Listener) -> None:
        """Serve until the engine ends."""
        listener.answering(Endpoint(url=self._address, model=self._job.name))
        with self._stoppable(HOST):
            while child.wait(POLL_SECONDS) is None:
                pass
        step = state.failed(Reason.ENGINE_FAILED, _with_log("The engine ended", child))
        self._without_engine(step)
        raise _failure(HOST, step)

    @property
    def _address(self) -> str:
        return asked_at(self._run.url, self._job.spec.training.method)

    def _stop_engine(self) -> None:
        if self._child:
            self._child.stop()
            self._child = None

    @property
    def artifact(self) -> Path:
        """Where the result lies."""
        return self._workspace.artifact

    @property
    def serving(self) -> bool:
        """Whether the model answers."""
        return self._run.serves

    def stopped(self) -> None:
        """The user stopped the run: say in status what comes next."""
        if self.serving:
            self._without_engine(state.stopped(HOST))
        else:
            self._tell(self._stage, state.stopped(self._stage))

    def _without_engine(self, step: Step) -> None:
        self._run = self._run.without_engine(step)
        self._write()

    @property
    def _context(self) -> Context:
        """What the operator's stages decide from."""
        return Context(self._target, self._run.world, self._run.old)

    def _engine(self, port: int, base: bool = False) -> VllmProcess:
        length = self._job.spec.hosting.context_length
        if length is None:
            length = PrepareResult.model_validate_json(self._workspace.prepared.read_bytes()).plan.context_length
        merged = is_merged(self._job.spec, self._context.record)
        return VllmProcess(self._job, self._workspace, length, port, self._cpu, base, merged)

    def _remember(self, key: str, entry: str) -> None:
        self._run = self._run.remember(key, entry)

    @contextmanager
    def _stoppable(self, stage: Stage) -> Iterator[None]:
        """Tell a user who presses Ctrl-C why it does not end at once."""
        try:
            yield
        except KeyboardInterrupt:
            self._view.say(f"Stopping: {stage.name} {stage.stops}; Ctrl-C again kills it.")
            raise

    def _follow(self, process: StageProcess) -> None:
        progress = process.progress()
        if progress and progress != self._run.progress:
            self._view.update(progress)
            self._run = self._run.at(progress)
            self._write()

    def _begin(self, stage: Stage, activity: str) -> None:
        self._view.begin(stage.name, activity)
        self._tell(stage, state.running(f"The {stage.name} process is running."))

    def _tell(self, stage: Stage, step: Step) -> None:
        self._run = self._run.after(stage.name, step)
        self._write()

    def _write(self) -> None:
        """Write the status document, and remember it: what it says of times and history goes into the next one."""
        status = self._run.status(datetime.now(UTC))
        self._store.write(status)
        self._run = replace(self._run, old=status)


def _await(engine: VllmProcess, child: Child) -> Step:
    """Wait until the engine answers."""
    started = time.monotonic()
    while not engine.answers():
        late = time.monotonic() - started > START_SECONDS
        if late or child.wait(POLL_SECONDS) is not None:
            return state.failed(Reason.ENGINE_FAILED, _with_log("The engine does not start", child))
    return state.done(f"The engine answers at {engine.url}.")


def _failure(stage: Stage, step: Step) -> UserError:
    return UserError(f"{stage.name} failed ({step.reason}): {step.message}", code_of(step.reason))


def _with_log(what: str, child: Child) -> str:
    log = child.tail(LOG_TAIL)
    return f"{what}; the end of {child.log}:\n{log}" if log else f"{what}, and logged nothing."
