"""What the libraries' errors during training mean to the user.

Called by `train`, around everything that loads, trains and writes. The sentences are made by pure functions; no torch.
"""

import errno
import shutil
from pathlib import Path

from finetune_trainer.contract.config import AdapterType, RunConfig
from finetune_trainer.contract.outcome import Outcome, StageError

GIB = 1024**3
# Less than any checkpoint needs: the libraries' writers don't all say why a write failed.
NOTHING_LEFT = 1024**2


def out_of_memory(config: RunConfig, tokens: int, max_length: int, device: str, memory: int) -> StageError:
    """The accelerator, which has `memory` bytes, took less than a pass of `tokens`, of rows of up to `max_length`."""
    advice = [f"lower training.maxLength (it was {max_length})"]
    if tokens > max_length:
        advice.insert(0, "lower training.batchSize")
    if config.training.adapter.type == AdapterType.NONE:
        advice.append("train an adapter (training.adapter.type lora) instead of every weight")
    advice.append("ask for an accelerator with more memory")
    return StageError(
        Outcome.OUT_OF_MEMORY,
        f"{device} ran out of its {memory / GIB:.0f} GiB of memory, training up to {tokens} tokens at "
        f"once: {', '.join(advice[:-1])}, or {advice[-1]}.",
    )


def workspace_full(workspace: Path, total: int) -> StageError:
    """The volume, which has `total` bytes, took no more."""
    return StageError(
        Outcome.WORKSPACE_FULL,
        f"The workspace volume at {workspace} is full ({total / GIB:.1f} GiB): raise workspace.size.",
    )


def peer_lost(why: str) -> StageError:
    """Another pod of the same training is gone: this one has nothing to say but that, and begins again with it."""
    return StageError(
        Outcome.PEER_LOST,
        f"Another pod of this training ended first ({why}): see its own message. All go on from the last checkpoint.",
    )


def is_full(error: BaseException, workspace: Path) -> bool:
    """Whether a write failed for want of space: by the code of an error behind this one, or by what is left."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        found = found.__cause__ or found.__context__
    return not isinstance(error, OSError) and shutil.disk_usage(workspace).free < NOTHING_LEFT
