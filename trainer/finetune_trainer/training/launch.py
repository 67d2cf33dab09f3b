"""Several devices or machines: a worker process for each device, by torch's elastic launcher, and one ending for them.

`__main__` launches the train stage here when the pod has more than one GPU, or is one of several that train together.
torchrun would do the same but ends with code 1 whatever its workers end with; a Job's podFailurePolicy and the operator
need the code and the words of the first worker that failed.
"""

import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.distributed import DistError, PrefixStore, TCPStore
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import (
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)
from torch.distributed.elastic.rendezvous.static_tcp_rendezvous import StaticTCPRendezvous
from torch.distributed.elastic.rendezvous.utils import parse_rendezvous_endpoint
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from finetune_trainer.contract.outcome import Outcome, StageError

# torch's launcher puts a worker's rank here.
RANK = "${local_rank}"
# How long torch's launcher waits for workers that were asked to stop, in seconds: they write a checkpoint, for which a
# pod has 300. Left to itself it kills them after 30, as versions that don't know the variable do.
PATIENCE = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "290"}
# The workers' own store is of the kind that every build of torch has, too; see Meeting.
STORE = {"USE_LIBUV": "0"}
# How long machines wait for one another to begin, in seconds: the last one's image has to be pulled.
MEET_SECONDS = 1800
# Our name for `Meeting` among torch's ways to meet.
MEETING = "finetune"


class Meeting(StaticTCPRendezvous):  # type: ignore[misc]  # the library comes without types
    """torch's static rendezvous over stores that every build of it has: Debian's lacks libuv, which it asks for.

    The workers get a store of their own, opened by the first of them: as clients of their launchers' they ask for libuv
    whatever the variable says.
    """

    _store: TCPStore | None

    def get_backend(self) -> str:
        """The name that it is asked for by."""
        return MEETING

    @property
    def use_agent_store(self) -> bool:
        """Whether workers are clients of the launchers' store."""
        return False

    def next_rendezvous(self) -> RendezvousInfo:
        """Number 0 opens the store and says there where its first worker will open theirs."""
        if self._store is None:
            first = self.rank == 0
            self._store = TCPStore(
                self.master_addr,
                self.master_port,
                self.world_size,
                first,
                self.timeout,
                multi_tenant=True,
                use_libuv=False,
            )
        store = PrefixStore(self.run_id, self._store)
        workers = RendezvousStoreInfo.build(self.rank, store, self.master_addr)
        return RendezvousInfo(store, self.rank, self.world_size, workers)


def _meet(parameters: RendezvousParameters) -> Meeting:
    host, port = parse_rendezvous_endpoint(parameters.endpoint, -1)
    rank, timeout = parameters.config["rank"], parameters.config["timeout"]
    return Meeting(host, port, rank, parameters.max_nodes, parameters.run_id, timeout)


rendezvous_handler_registry.register(MEETING, _meet)


@dataclass(frozen=True)
class Node:
    """One of `count` machines that train together, by its number; `meet` is HOST:PORT of number 0."""

    number: int = 0
    count: int = 1
    meet: str = ""

    def config(self, workers: int) -> LaunchConfig:
        """How torch's launcher is to meet the others. Numbers are given, so that number 0 has the first worker."""
        alone = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}
        together = {
            "rdzv_backend": MEETING,
            "rdzv_endpoint": self.meet,
            "rdzv_configs": {"rank": self.number, "timeout": MEET_SECONDS},
        }
        return LaunchConfig(
            min_nodes=self.count,
            max_nodes=self.count,
            nproc_per_node=workers,
            run_id="train",
            max_restarts=0,
            **(together if self.count > 1 else alone),
        )


def devices() -> int:
    """How many workers this process is to launch: one for each GPU, none inside a worker."""
    return 0 if "RANK" in os.environ else torch.cuda.device_count()


def launch(workers: int, arguments: list[str], termination_log: Path, node: Node) -> int:
    """Run the trainer with `arguments` in each of several workers; the exit code of this machine's.

    Raises StageError (UNAVAILABLE) where the others don't come. `arguments` must not name a termination log: each
    worker gets one of its own, and the one that counts is kept.
    """
    os.environ.update(PATIENCE | STORE | os.environ)
    with tempfile.TemporaryDirectory() as directory:
        command = ["-m", "finetune_trainer", *arguments, "--termination-log", f"{directory}/{RANK}"]
        rank, code = 0, Outcome.SUCCEEDED.exit.code
        try:
            elastic_launch(node.config(workers), entrypoint=sys.executable)(*command)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            # A worker that a signal ended has a negative code; a shell would say it so.
            code = failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode
        except SignalException:
            code = Outcome.INTERRUPTED.exit.code
        except DistError as error:
            raise StageError(
                Outcome.UNAVAILABLE,
                f"The {node.count} pods of this training did not meet at {node.meet} within {MEET_SECONDS} seconds: "
                f"{error} Look whether all of them run, and whether a NetworkPolicy keeps them apart.",
            ) from error
        said = Path(directory) / str(rank)
        if said.exists():
            shutil.copyfile(said, termination_log)
        return code
