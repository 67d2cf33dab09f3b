"""What the machine can do: devices, threads, and the precision that is fast on it.

Called by `train` before the model is loaded. Precision is measured and not looked up: bfloat16 products run at a
hundredth of float32's speed on a CPU without instructions for them, and up to ten times faster on one that has AMX.
"""

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
CGROUP_V1 = Path("/sys/fs/cgroup/cpu")
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
    description: str


def look() -> Machine:
    """Probe this process's machine, and give torch as many threads as the container may use."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if torch.cuda.is_available():
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return Machine(processes, processes, bf16, torch.cuda.get_device_name())
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(cpus())
    return Machine(0, processes, _bf16_is_fast(), f"a CPU with {torch.get_num_threads()} threads")


def cpus() -> int:
    """CPUs that this process may use: its affinity, cut to the container's limit, which torch doesn't look at."""
    allowed = len(os.sched_getaffinity(0))
    limit = _cgroup_limit()
    return allowed if limit is None else max(1, min(allowed, math.ceil(limit)))


def _cgroup_limit() -> float | None:
    """The CPU limit of this container in CPUs (https://docs.kernel.org/admin-guide/cgroup-v2.html, cpu.max)."""
    try:
        if CGROUP_V2.exists():
            quota, period = CGROUP_V2.read_text().split()
        else:
            quota = (CGROUP_V1 / "cpu.cfs_quota_us").read_text()
            period = (CGROUP_V1 / "cpu.cfs_period_us").read_text()
    except FileNotFoundError:
        return None
    return None if quota == "max" or int(quota) < 0 else int(quota) / int(period)


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
