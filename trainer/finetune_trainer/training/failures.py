"""What the libraries' errors during training mean to the user.

Called by `train` and `fitting`. The sentences are made by pure functions; no torch.
"""

import shutil
from pathlib import Path

from finetune_trainer.contract.config import AdapterType
from finetune_trainer.contract.outcome import DISK_FULL, Outcome, StageError
from finetune_trainer.training.memory import GIB, TrainingFootprint

# Less than any checkpoint needs: the libraries' writers don't all say why a write failed.
NOTHING_LEFT = 1024**2


def out_of_memory(device: str, memory: int | None) -> str:
    """What ran out, as a sentence's beginning. `device`: the accelerator's name; none on CPUs."""
    what = device or "The pod or machine"
    return f"{what} ran out of its {(memory or 0) / GIB:.0f} GiB of memory"


def remedy(training: TrainingFootprint) -> str:
    """What a user can do where no smaller passes are left to try."""
    advice = [f"lower training.maxLength (the longest row has {training.load.longest} tokens)"]
    if training.adapter.type == AdapterType.NONE:
        advice.append("train an adapter (training.adapter.type lora) instead of every weight")
        if training.device.processes > 1 and not training.sharded:
            advice.append("divide the weights among the devices (training.sharding full)")
    if training.adapter.modules_to_save:
        advice.append("remove training.adapter.modulesToSave")
    elif training.adapter.type == AdapterType.LORA and training.quantisable:
        advice.append("hold the base model in four bits (training.adapter.type qlora)")
    if training.device.accelerators:
        return f"{', '.join(advice)}, or ask for an accelerator with more memory"
    return f"{', '.join(advice)}, or raise training.resources.limits.memory"


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
        if isinstance(found, OSError) and found.errno in DISK_FULL:
            return True
        found = found.__cause__ or found.__context__
    return not isinstance(error, OSError) and shutil.disk_usage(workspace).free < NOTHING_LEFT
