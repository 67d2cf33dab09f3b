"""The program of stage pods and of the local backend, `python -m finetune_trainer STAGE`, and of the containers beside
engines: `fetch` brings an Engine's model, `adapters` loads adapters into it, `bring` has files of a workspace that is
kept in a bucket.
"""

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from finetune_trainer.contract import sweep
from finetune_trainer.contract.adapters import LIST, VERIFY_KEY
from finetune_trainer.contract.config import (
    Contract,
    EvaluationConfig,
    ModelConfig,
    OnSensitive,
    RunConfig,
    Sharding,
    Source,
    TrackingConfig,
    Workspace,
)
from finetune_trainer.contract.outcome import TERMINATION_LOG, Outcome, StageError
from finetune_trainer.contract.published import ModelFormat
from finetune_trainer.contract.redaction import guard_log
from finetune_trainer.contract.results import STATUS_PORT
from finetune_trainer.server import Reporter, serving
from finetune_trainer.stages import complete
from finetune_trainer.stages.frame import Ending, interruptible, leave, run
from finetune_trainer.training import trials

if TYPE_CHECKING:
    from finetune_trainer.stages.carried import Carrier
    from finetune_trainer.training.rivals import Rivals

logger = logging.getLogger(__name__)

STAGES = ("prepare", "train", "publish", "merge", "evaluate")
T = TypeVar("T")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; its defaults are a stage pod's."""
    parser = argparse.ArgumentParser(prog="finetune_trainer", description=__doc__)
    parser.add_argument("stage", choices=[*STAGES, "fetch", "adapters", "bring"])
    parser.add_argument("--config", type=Path, default=Path("/etc/finetune/run.json"))
    parser.add_argument("--workspace", type=Path, default=Path("/workspace"))
    parser.add_argument("--bucket", help="where the workspace's files are kept, as a URI; left out: there alone")
    parser.add_argument("--only", action="append", help="PATH[=DIGEST], for bring alone: what is brought of them")
    parser.add_argument("--termination-log", type=Path, default=Path(TERMINATION_LOG))
    parser.add_argument("--status-port", type=int, default=STATUS_PORT)
    parser.add_argument("--status-host", default="", help="left out: every address of the machine")
    parser.add_argument("--evaluation", type=Path, default=Path("/etc/finetune/evaluation.json"))
    parser.add_argument("--devices", type=int, help="how many accelerators each machine trains on; for prepare's plan")
    parser.add_argument("--device-memory", type=int, help="the bytes that each of them has, where that is known")
    parser.add_argument("--nodes", type=int, default=1, help="how many machines train together")
    parser.add_argument("--node", type=int, default=0, help="which of them this is, counted from 0; for train alone")
    parser.add_argument("--meet", default="", help="HOST:PORT of the first one, where they meet; for train alone")
    parser.add_argument(
        "--on-sensitive", type=OnSensitive, default=OnSensitive.WARN, help="warn, fail or ignore; for prepare alone"
    )
    parser.add_argument("--trial", type=int, help="of a sweep, the trial to train; left out: all of this pod's share")
    parser.add_argument("--pods", type=int, default=1, help="how many pods share a sweep's trials; for train alone")
    parser.add_argument("--pod", type=int, default=0, help="which of them this is, counted from 0; for train alone")
    parser.add_argument("--retries", type=int, default=0, help="how often each trial of a sweep is tried again")
    parser.add_argument("--keep-checkpoints", type=int, default=1, help="how many, the artifact included; for train")
    parser.add_argument("--budget", type=float, help="hours of accelerators that it may take; for train alone")
    parser.add_argument(
        "--sharding", type=Sharding, default=Sharding.AUTO, help="auto, none or full; for prepare and train"
    )
    parser.add_argument(
        "--tracking", type=TrackingConfig.model_validate_json, help="where training is followed; for prepare and train"
    )
    parser.add_argument("--destination", help="where the artifact goes, as a URI; for publish alone, as is")
    parser.add_argument("--sign", action="store_true", help="with a signature of it, by SIGNING_KEY")
    parser.add_argument("--merge", action="store_true", help="and the whole model beside an adapter")
    parser.add_argument(
        "--formats", type=ModelFormat, nargs="+", default=[], help="and the whole model in these; for prepare, too"
    )
    parser.add_argument("--owner", help="whose it is, as no two FineTuneJobs are called")
    parser.add_argument("--source", help="the model, as a URI; this and the next three are for fetch alone")
    parser.add_argument("--revision", help="the branch, tag or commit of a hub's model")
    parser.add_argument("--trust-remote-code", action="store_true", help="bring the model's own code, too")
    parser.add_argument("--into", type=Path, default=Path("/model/files"), help="the directory that it is brought to")
    listed = Path("/etc/finetune-adapters")
    parser.add_argument("--wanted", type=Path, default=listed / "now" / LIST, help="the list; for adapters alone")
    parser.add_argument("--begin", type=Path, default=listed / "begin" / LIST, help="what is taken while that is empty")
    parser.add_argument("--endpoint", help="the candidate's OpenAI-compatible URL, or the engine's; evaluate, adapters")
    parser.add_argument("--base-endpoint", help="the base model's, where it has an engine of its own")
    parser.add_argument("--model", help="what it is asked for, where that is not the FineTuneJob's name")
    parser.add_argument("--base-model", help="and the base model, where that is not the same and -base")
    return parser.parse_args(arguments)


Config = TypeVar("Config", RunConfig, EvaluationConfig)


def load(kind: type[Config], path: Path) -> Config:
    """Read the run config, or evaluate's. Raises StageError (CONFIG_INVALID)."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise StageError(Outcome.CONFIG_INVALID, f"There is no run config at {path}.") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'it'}: {fault['msg']}" for fault in error.errors())
        raise StageError(
            Outcome.CONFIG_INVALID,
            f"The run config {path} is not valid: {faults}. Whatever wrote it and this trainer differ in version.",
        ) from error


def stage(options: argparse.Namespace) -> Contract:
    """Run the stage that was asked for, unless it is complete. Each is imported only then: prepare needs no torch."""
    config, workspace = load(RunConfig, options.config), Workspace(options.workspace)
    reporter = Reporter(options.stage)
    whole = config, workspace
    if options.trial:
        config, workspace = _trial(options.trial, config, workspace, reporter)
    if done := complete.result(options.stage, config, workspace, options.on_sensitive, options.formats):
        logger.info("%s is complete already.", options.stage)
        return done
    if options.tracking:
        from finetune_trainer.training import trackers

        # By prepare, and once more by train: the manifest may ask for another one by then.
        trackers.check(options.tracking)
    # Of several workers the first one reports; the others' ports are nobody's.
    port = options.status_port if os.environ.get("RANK", "0") == "0" else 0
    with serving(reporter, port, options.status_host):
        if options.stage == "prepare":
            from finetune_trainer.stages.prepare import prepare
            from finetune_trainer.training import host

            evaluation = load(EvaluationConfig, options.evaluation) if options.evaluation.exists() else None
            device = host.device(options.devices, options.device_memory, options.nodes)
            return prepare(
                config, workspace, reporter, evaluation, device, options.on_sensitive, options.sharding, options.formats
            )
        if options.stage == "evaluate":
            from finetune_trainer.evaluation.ask import Whom
            from finetune_trainer.stages.evaluate import evaluate

            evaluation = load(EvaluationConfig, options.evaluation)
            names = options.model or config.name, options.base_model or config.base_name
            whom = Whom(options.endpoint, options.base_endpoint, *names)
            return evaluate(config, evaluation, workspace, whom, reporter)
        if options.stage == "publish":
            from finetune_trainer.stages.publish import PublishOptions, publish

            wanted = PublishOptions(options.sign, options.merge, ModelFormat.GGUF in options.formats)
            return publish(config, workspace, options.destination, options.owner, reporter, wanted)
        if options.stage == "merge":
            from finetune_trainer.stages.merge import merge

            return merge(config, workspace, reporter)
        from finetune_trainer.stages.train import train
        from finetune_trainer.training.build import Beside

        rivals = _rivals(options.trial, *whole)
        kept = _keeping(options)
        beside = Beside(options.keep_checkpoints, options.tracking, options.sharding, options.budget, rivals, kept)
        return train(config, workspace, reporter, beside)


@contextmanager
def carried(options: argparse.Namespace) -> Iterator[None]:
    """Around a stage: where a workspace is kept in a bucket, what it needs is brought, and what it made is put there.

    Not around the processes that a training starts: those work on what is here.
    """
    if options.trial or "RANK" in os.environ:
        yield
        return
    config, workspace = load(RunConfig, options.config), Workspace(options.workspace)

    def done() -> object:
        return complete.result(options.stage, config, workspace, options.on_sensitive, options.formats)

    with ExitStack() as stack:
        if options.bucket:
            stack.enter_context(_carrier(options, done).around())
        if options.stage == "prepare" and (origin := config.model.origin) and origin.bucket and not done():
            from finetune_trainer.stages.carried import started_from

            stack.enter_context(started_from(origin))
        yield


def _keeping(options: argparse.Namespace) -> Callable[[], None]:
    """What to do about each checkpoint and trial."""
    return (lambda: None) if options.bucket is None else _carrier(options).keep


def _carrier(options: argparse.Namespace, done: Callable[[], object] = lambda: None) -> "Carrier":
    # Half a second of libraries, which only a bucket is worth.
    from finetune_trainer.stages.carried import Carrier

    return Carrier(options.stage, Workspace(options.workspace), options.bucket, done)


def _carrying(options: argparse.Namespace, work: Callable[[], T]) -> T:
    with carried(options):
        return work()


def _trial(number: int, config: RunConfig, workspace: Workspace, reporter: Reporter) -> tuple[RunConfig, Workspace]:
    """A trial's own part of a sweep. What asks for progress is told which it is, and how those before it ended."""
    count = len(sweep.trials(config.training))
    reporter.update(trial=number, trials=count, ended=trials.table(trials.all_ended(workspace, count)))
    return sweep.of_trial(config, number), workspace.trial(number)


def _rivals(trial: int | None, config: RunConfig, workspace: Workspace) -> "Rivals | None":
    """Those of a trial, where a sweep ends trials early."""
    swept = config.training.sweep
    if trial is None or swept is None or not swept.early_stopping:
        return None
    from finetune_trainer.training.rivals import Rivals

    return Rivals(workspace, trial, sweep.count(swept))


# Threads that wait for one another sleep instead of spinning: on cores shared with anything else, spinning made a step
# five times slower (two threads of matrix products beside another such program: 21 s against 4 s).
PATIENCE = {"OMP_WAIT_POLICY": "PASSIVE"}


def main() -> None:
    """Run the stage and exit with its outcome's code."""
    # Read when torch is loaded, which happens after this.
    os.environ.update(PATIENCE | os.environ)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    guard_log()
    for library in ("httpx", "huggingface_hub"):
        # Their lines hold addresses, and a signed address is a key.
        logging.getLogger(library).setLevel(logging.ERROR)
    # It tells whoever trains anything of a kernel that only answering would use.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    options = parse()
    if options.stage == "fetch":
        sys.exit(run(lambda: _fetch(options), options.into, options.termination_log))
    if options.stage == "adapters":
        sys.exit(run(lambda: _adapters(options), options.into, options.termination_log))
    if options.stage == "bring":
        sys.exit(run(lambda: _bring(options), options.workspace, options.termination_log))
    if _sweeps(options):
        sys.exit(run(lambda: _carrying(options, lambda: _sweep(options)), options.workspace, options.termination_log))
    if options.stage == "train" and (options.nodes > 1 or _workers() > 1):
        sys.exit(_launch(options))
    sys.exit(run(lambda: _carrying(options, lambda: stage(options)), options.workspace, options.termination_log))


def _fetch(options: argparse.Namespace) -> Contract:
    from finetune_trainer.stages.fetch import fetch

    source = Source(uri=options.source)
    model = ModelConfig(source=source, revision=options.revision, trust_remote_code=options.trust_remote_code)
    return fetch(model, options.into)


def _bring(options: argparse.Namespace) -> None:
    from finetune_trainer.data.parts import bring

    bring(options.bucket, options.workspace, options.only)


def _adapters(options: argparse.Namespace) -> None:
    from finetune_trainer.stages.adapters import KeeperSettings, adapters

    with tempfile.TemporaryDirectory() as directory:
        signed = None
        if public := os.environ.get(VERIFY_KEY):
            signed = Path(directory) / "lora.verifyKey"
            signed.write_text(public)
        settings = KeeperSettings(options.wanted, options.begin, options.into, signed)
        adapters(settings, options.endpoint, options.status_port, options.status_host)


def _workers() -> int:
    from finetune_trainer.training.launch import devices

    return devices()


def _sweeps(options: argparse.Namespace) -> bool:
    """Whether it is told of a sweep and of no single trial; a config that can't be read is the stage's to tell of."""
    if options.stage != "train" or options.trial:
        return False
    try:
        return load(RunConfig, options.config).training.sweep is not None
    except StageError:
        return False


def _sweep(options: argparse.Namespace) -> Contract | None:
    from finetune_trainer.stages.sweep import Share, Sweep

    config, workspace = load(RunConfig, options.config), Workspace(options.workspace)
    if done := complete.result("train", config, workspace):
        logger.info("The sweep is complete already.")
        return done
    share = Share(options.pod, options.pods, options.retries)
    return Sweep(config, workspace, share, _passed_on(options), kept=_keeping(options)).carry_out()


def _passed_on(options: argparse.Namespace) -> list[str]:
    """What each process of a training is told, as this one was."""
    places = ["--config", str(options.config), "--workspace", str(options.workspace)]
    status = ["--status-port", str(options.status_port), "--status-host", options.status_host]
    kept = ["--keep-checkpoints", str(options.keep_checkpoints), "--sharding", options.sharding]
    if options.tracking:
        kept += ["--tracking", options.tracking.model_dump_json(by_alias=True)]
    if options.bucket is not None:
        kept += ["--bucket", options.bucket]
    if options.budget is not None:
        kept += ["--budget", str(options.budget)]
    return [*places, *status, *kept]


def _launch(options: argparse.Namespace) -> int:
    from finetune_trainer.training.launch import Node, launch

    node = Node(options.node, options.nodes, options.meet)
    trial = ["--trial", str(options.trial)] if options.trial else []
    # Until the launcher listens for itself: files are brought before that, which may take minutes.
    with interruptible(options.termination_log), Ending(options.workspace) as ending, carried(options):
        arguments = [options.stage, *_passed_on(options), *trial]
        return launch(max(1, _workers()), arguments, options.termination_log, node)
    leave(ending.termination, options.termination_log)
    return ending.code


if __name__ == "__main__":
    main()
