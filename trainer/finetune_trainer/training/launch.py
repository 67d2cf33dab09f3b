"""Several devices in one pod: a worker process for each, by torch's elastic launcher, and one ending for all of them.

`__main__` launches the train stage here when the pod has more than one GPU. torchrun would do the same but ends with
code 1 whatever its workers end with; a Job's podFailurePolicy and the operator need the code and the words of the first
worker that failed.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from finetune_trainer.contract.outcome import Outcome

# torch's launcher puts a worker's rank here.
RANK = "${local_rank}"
# How long torch's launcher waits for workers that were asked to stop, in seconds: they write a checkpoint, for which a
# pod has 300. Left to itself it kills them after 30, as versions that don't know the variable do.
PATIENCE = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "290"}


def devices() -> int:
    """How many workers this process is to launch: one for each GPU, none inside a worker."""
    return 0 if "RANK" in os.environ else torch.cuda.device_count()


def launch(workers: int, arguments: list[str], termination_log: Path) -> int:
    """Run the trainer with `arguments` in each of several workers; the exit code of the whole.

    `arguments` must not name a termination log: each worker gets one of its own, and the one that counts is kept.
    """
    os.environ.update(PATIENCE | os.environ)
    with tempfile.TemporaryDirectory() as directory:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=workers,
            run_id="train",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
        )
        command = ["-m", "finetune_trainer", *arguments, "--termination-log", f"{directory}/{RANK}"]
        rank, code = 0, Outcome.SUCCEEDED.exit.code
        try:
            elastic_launch(config, entrypoint=sys.executable)(*command)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            # A worker that a signal ended has a negative code; a shell would say it so.
            code = failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode
        except SignalException:
            code = Outcome.INTERRUPTED.exit.code
        said = Path(directory) / str(rank)
        if said.exists():
            shutil.copyfile(said, termination_log)
        return code
