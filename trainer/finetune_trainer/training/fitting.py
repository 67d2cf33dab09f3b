"""The passes of a training on the device that it finds, and what becomes of them when memory runs out all the same.

Called by `train`. They are kept beside the checkpoints. On an accelerator the library says that memory ran out. On CPUs
the kernel kills the process without a word; `host.watched` leaves a mark while hardly any memory is left, and one that
is there at the next start tells of that. A process that is killed with memory to spare leaves none, and goes on as it
was.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch

from finetune_trainer.contract.config import RunConfig, Workspace
from finetune_trainer.contract.results import Plan
from finetune_trainer.data import base
from finetune_trainer.data.disk import write_whole
from finetune_trainer.training import attempts, failures, host, memory, methods, rows, schedule
from finetune_trainer.training.activations import BFLOAT16, FLOAT32
from finetune_trainer.training.attempts import Attempt, Ended
from finetune_trainer.training.machine import Machine
from finetune_trainer.training.memory import Device, TokenLoad, TrainingFootprint
from finetune_trainer.training.rows import Splits

# How torch begins what it says where the system gives it no more memory.
NO_MORE = "DefaultCPUAllocator"
# The share of the memory up to which the C library may keep what is freed: that was up to two thirds as much again.
ROOMY = 0.5


def training(config: RunConfig, workspace: Workspace, plan: Plan, splits: Splits, found: Machine) -> TrainingFootprint:
    """What the memory of this training depends on."""
    lengths, recipe = rows.lengths(splits.train), methods.RECIPES[config.training.method]
    learned = rows.learned(splits.train) / sum(lengths)
    step = schedule.share(plan.batch_size, found.processes) * max(lengths)
    return TrainingFootprint(
        base.figures(workspace.base_model(config), config.model),
        config.training.adapter,
        _device_of(found),
        TokenLoad(max(lengths), step, learned, recipe.sequences, config.training.method.writes),
    )


def _device_of(found: Machine) -> Device:
    precision = BFLOAT16 if found.bf16 else FLOAT32
    nodes = found.processes // found.local_processes
    if found.accelerators == 0:
        return Device(_memory(found), 0, precision, found.processes)
    return Device(_memory(found), found.accelerators // nodes, precision, nodes)


def _memory(found: Machine) -> int:
    """Bytes of each device; several processes share a machine's."""
    if found.accelerators:
        total: int = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        return total
    return host.memory() // found.local_processes


@dataclass(frozen=True)
class Fitting:
    """One training and its memory."""

    config: RunConfig
    workspace: Workspace
    training: TrainingFootprint

    def begin(self) -> Attempt:
        """The passes to take. Raises StageError where none fit, or where those that were taken were too much."""
        before = self._before()
        if before is None and (refused := memory.refusal(self.training)):
            raise refused
        if before is not None and (held := self._killed()) is not None:
            ended = self._ended(before, attempts.killed(held, before.memory))
            if ended.attempt.given_up:
                raise ended.error
            before = ended.attempt
        attempt = attempts.begin(self.training, before)
        self._keep(attempt)
        return attempt

    @contextmanager
    def told(self, attempt: Attempt) -> Iterator[None]:
        """While the block trains, notice that memory runs out. Raises StageError for that."""
        try:
            with self._watched(attempt):
                yield
        except (RuntimeError, MemoryError) as error:
            if not isinstance(error, (torch.OutOfMemoryError, MemoryError)) and NO_MORE not in str(error):
                raise
            raise self._ended(attempt, failures.out_of_memory(_device(), self.training.device.memory)).error from error

    def _watched(self, attempt: Attempt) -> AbstractContextManager[None]:
        device = self.training.device
        if device.accelerators or device.memory is None:
            return nullcontext()
        if self.training.memory(attempt.passes) > ROOMY * device.memory:
            host.give_back_freed_memory()
        return host.watched(device.memory, self.workspace.memory_mark)

    def _ended(self, attempt: Attempt, what: str) -> Ended:
        ended = attempts.ran_out(self.training, attempt, what, failures.remedy(self.training))
        self._keep(ended.attempt)
        return ended

    def _before(self) -> Attempt | None:
        path = self.workspace.attempt
        return Attempt.model_validate_json(path.read_bytes()) if path.exists() else None

    def _killed(self) -> int | None:
        """What a process held that was killed for it."""
        mark = self.workspace.memory_mark
        text = mark.read_text() if mark.exists() else ""
        mark.unlink(missing_ok=True)
        return int(text) if text.isdecimal() else None

    def _keep(self, attempt: Attempt) -> None:
        """Several processes of a training may do so at once, with the same words."""
        write_whole(self.workspace.attempt, attempt.model_dump_json(by_alias=True, indent=2) + "\n")


def _device() -> str:
    return torch.cuda.get_device_properties(torch.cuda.current_device()).name if torch.cuda.is_available() else ""
