"""The program of stage pods and of the local backend: `python -m finetune_trainer prepare|train|evaluate`."""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from finetune_trainer.contract.config import Contract, EvaluationConfig, OnSensitive, RunConfig, Workspace
from finetune_trainer.contract.outcome import TERMINATION_LOG, Outcome, StageError
from finetune_trainer.contract.report import STATUS_PORT
from finetune_trainer.server import Reporter, serving
from finetune_trainer.stages import complete
from finetune_trainer.stages.frame import run

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
    parser.add_argument("--devices", type=int, help="how many accelerators will train; for prepare's plan")
    parser.add_argument("--device-memory", type=int, help="the bytes that each of them has, where that is known")
    parser.add_argument(
        "--on-sensitive", type=OnSensitive, default=OnSensitive.WARN, help="warn, fail or ignore; for prepare alone"
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
    reporter = Reporter(options.stage)
    # Of several workers the first one reports; the others' ports are nobody's.
    port = options.status_port if os.environ.get("RANK", "0") == "0" else 0
    with serving(reporter, port, options.status_host):
        if options.stage == "prepare":
            from finetune_trainer.stages.prepare import prepare
            from finetune_trainer.training import host

            evaluation = load(EvaluationConfig, options.evaluation) if options.evaluation.exists() else None
            device = host.device(options.devices, options.device_memory)
            return prepare(config, workspace, reporter, evaluation, device, options.on_sensitive)
        if options.stage == "evaluate":
            from finetune_trainer.stages.evaluate import evaluate

            evaluation = load(EvaluationConfig, options.evaluation)
            return evaluate(config, evaluation, workspace, options.endpoint, reporter, options.base_endpoint)
        from finetune_trainer.stages.train import train

        return train(config, workspace, reporter)


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
    if options.stage == "train" and (workers := _workers()) > 1:
        sys.exit(_launch(workers, options))
    sys.exit(run(lambda: stage(options), options.workspace, options.termination_log))


def _workers() -> int:
    from finetune_trainer.training.launch import devices

    return devices()


def _launch(workers: int, options: argparse.Namespace) -> int:
    from finetune_trainer.training.launch import launch

    places = ["--config", str(options.config), "--workspace", str(options.workspace)]
    status = ["--status-port", str(options.status_port), "--status-host", options.status_host]
    return launch(workers, [options.stage, *places, *status], options.termination_log)


if __name__ == "__main__":
    main()
