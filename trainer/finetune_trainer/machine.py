"""What the machine can do: its devices, and the precision that is fast on them.

Called by `train` before the model is loaded. Precision is measured and not looked up: bfloat16 products run at a
hundredth of float32's speed on a CPU without instructions for them, and up to ten times faster on one that has AMX.
"""

import os
import time
from dataclasses import dataclass

import torch

# bfloat16 costs precision and is slower in everything but products: it has to win those by far.
WORTHWHILE = 2.0
PROBE_SIZE = 512
PROBE_ROUNDS = 3


@dataclass(frozen=True)
class Machine:
    """Where training runs. `accelerators` counts those of all processes; zero means CPU."""

    accelerators: int
    processes: int
    bf16: bool


def look() -> Machine:
    """Probe the machine of this process, one of torchrun's WORLD_SIZE."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if torch.cuda.is_available():
        return Machine(processes, processes, torch.cuda.is_bf16_supported(including_emulation=False))
    return Machine(0, processes, _bf16_is_fast())


def _bf16_is_fast() -> bool:
    return _product_seconds(torch.float32) > WORTHWHILE * _product_seconds(torch.bfloat16)


def _product_seconds(dtype: torch.dtype) -> float:
    """The fastest of a few matrix products: the others met somebody else's load."""
    left, right = (torch.ones(PROBE_SIZE, PROBE_SIZE, dtype=dtype) for _ in range(2))
    torch.mm(left, right)
    seconds = []
    for _ in range(PROBE_ROUNDS):
        start = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - start)
    return min(seconds)
