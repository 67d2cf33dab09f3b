"""The program of stage pods and of the local backend: `python -m finetune_trainer prepare|train|evaluate`."""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from finetune_trainer.contract.config import (
    Contract,
    EvaluationConfig,
    OnSensitive,
    RunConfig,
    TrackingConfig,
    Workspace,
)
from finetune_trainer.contract.outcome import TERMINATION_LOG, Outcome, StageError
from finetune_trainer.contract.report import STATUS_PORT
from finetune_trainer.server import Reporter, serving
from finetune_trainer.stages import complete
from finetune_trainer.stages.frame import Ending, leave, run

logger = logging.getLogger(__name__)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line; its defaults are a stage pod's."""
    parser = argparse.ArgumentParser(prog="finetune_trainer", description=__doc__)
    parser.add_argument("stage", choices=["prepare", "train", "evaluate"])
    parser.add_argument("--config", type=Path, default=Path("/etc/finetune/run.json"))
    parser.add_argument("--workspace", type=Path, default=Path("/workspace"))
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
    parser.add_argument("--keep-checkpoints", type=int, default=1, help="how many, the artifact included; for train")
    parser.add_argument(
        "--tracking", type=TrackingConfig.model_validate_json, help="where training is followed; for prepare and train"
    )
    parser.add_argument("--endpoint", help="the candidate's OpenAI-compatible URL; for evaluate alone")
    parser.add_argument("--base-endpoint", help="the base model's, where it has an engine of its own")
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
    if done := complete.result(options.stage, config, workspace, options.on_sensitive):
        logger.info("%s is complete already.", options.stage)
        return done
    if options.tracking:
        from finetune_trainer.training import trackers

        # By prepare, and once more by train: the manifest may ask for another one by then.
        trackers.check(options.tracking)
    reporter = Reporter(options.stage)
    # Of several workers the first one reports; the others' ports are nobody's.
    port = options.status_port if os.environ.get("RANK", "0") == "0" else 0
    with serving(reporter, port, options.status_host):
        if options.stage == "prepare":
            from finetune_trainer.stages.prepare import prepare
            from finetune_trainer.training import host

            evaluation = load(EvaluationConfig, options.evaluation) if options.evaluation.exists() else None
            device = host.device(options.devices, options.device_memory, options.nodes)
            return prepare(config, workspace, reporter, evaluation, device, options.on_sensitive)
        if options.stage == "evaluate":
            from finetune_trainer.stages.evaluate import evaluate

            evaluation = load(EvaluationConfig, options.evaluation)
            return evaluate(config, evaluation, workspace, options.endpoint, reporter, options.base_endpoint)
        from finetune_trainer.stages.train import train
        from finetune_trainer.training.build import Beside

        return train(config, workspace, reporter, Beside(options.keep_checkpoints, options.tracking))


# Threads that wait for one another sleep instead of spinning: on cores shared with anything else, spinning made a step
# five times slower (two threads of matrix products beside another such program: 21 s against 4 s).
PATIENCE = {"OMP_WAIT_POLICY": "PASSIVE"}


def main() -> None:
    """Run the stage and exit with its outcome's code."""
    # Read when torch is loaded, which happens after this.
    os.environ.update(PATIENCE | os.environ)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for library in ("httpx", "huggingface_hub"):
        # Their lines hold addresses, and a signed address is a key.
        logging.getLogger(library).setLevel(logging.ERROR)
    # It tells whoever trains anything of a kernel that only answering would use.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    options = parse()
    if options.stage == "train" and (options.nodes > 1 or _workers() > 1):
        sys.exit(_launch(options))
    sys.exit(run(lambda: stage(options), options.workspace, options.termination_log))


def _workers() -> int:
    from finetune_trainer.training.launch import devices

    return devices()


def _launch(options: argparse.Namespace) -> int:
    from finetune_trainer.training.launch import Node, launch

    places = ["--config", str(options.config), "--workspace", str(options.workspace)]
    status = ["--status-port", str(options.status_port), "--status-host", options.status_host]
    kept = ["--keep-checkpoints", str(options.keep_checkpoints)]
    if options.tracking:
        kept += ["--tracking", options.tracking.model_dump_json(by_alias=True)]
    node = Node(options.node, options.nodes, options.meet)
    with Ending(options.workspace) as ending:
        arguments = [options.stage, *places, *status, *kept]
        return launch(max(1, _workers()), arguments, options.termination_log, node)
    leave(ending.termination, options.termination_log)
    return ending.code


if __name__ == "__main__":
    main()
