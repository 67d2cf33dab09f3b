"""What the machine can do: its devices, and the precision that is fast on them.

Called by `train` before the model is loaded. On CPUs precision is measured and not looked up: with AMX bfloat16 may
halve a step, without such instructions it is a hundred times slower, and some builds of torch have them for plain
products but not for attention's batched ones. So what is timed is one small layer, as training uses it.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaModel

from finetune_trainer.data.disk import write_whole

# How long a process waits for others in a collective, in seconds: for those on other machines as long as torch does by
# itself; on one machine for as long as the first may need to put a checkpoint into a bucket. There the launcher sees
# who has died.
APART_SECONDS, TOGETHER_SECONDS = 1800, 4 * 3600
# bfloat16 costs accuracy: it has to win by far.
WORTHWHILE = 1.5
BF16, FP32 = "bfloat16", "float32"
ROUNDS = 3
WAIT_SECONDS = 0.1
ROWS = (4, 96)
LAYER = LlamaConfig(
    vocab_size=8,
    hidden_size=512,
    intermediate_size=1536,
    num_hidden_layers=1,
    num_attention_heads=8,
    num_key_value_heads=4,
)


@dataclass(frozen=True)
class Machine:
    """Where training runs. `accelerators` counts those of all processes; zero means CPU.

    `local_processes`: those that share this machine.
    """

    accelerators: int
    processes: int
    local_processes: int
    bf16: bool


def look(kept: Path) -> Machine:
    """Probe the machine of this process, one of torchrun's WORLD_SIZE. `kept`: the file that keeps the precision."""
    processes, local = (int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if torch.cuda.is_available():
        return Machine(processes, processes, local, torch.cuda.is_bf16_supported(including_emulation=False))
    return Machine(0, processes, local, _precision(kept) == BF16)


def has_peers() -> bool:
    """Whether this is one of several machines that train together, as torch's launcher says."""
    return int(os.environ.get("GROUP_WORLD_SIZE", "1")) > 1


def collective_seconds() -> int:
    """How long a process waits for the others in a collective."""
    return APART_SECONDS if has_peers() else TOGETHER_SECONDS


def lost_peer(error: BaseException) -> bool:
    """Whether an error is that of a collective whose other end, on another machine, is gone.

    gloo's are bare RuntimeErrors that begin with the name of its source file.
    """
    lost = isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error)
    return has_peers() and isinstance(error, RuntimeError) and lost


def _precision(kept: Path) -> str:
    """What was measured when the training began.

    Where both are nearly as fast, a run that goes on could measure the other one, and end with other weights. Of
    several processes, on however many machines, the first one measures for all.
    """
    if os.environ.get("RANK", "0") == "0" and not kept.exists():
        write_whole(kept, BF16 if _bf16_is_fast() else FP32)
    while not kept.exists():
        time.sleep(WAIT_SECONDS)
    return kept.read_text()


def _bf16_is_fast() -> bool:
    """Compared on one thread by its own CPU time, which other programs' load doesn't reach."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _seconds(torch.float32) > WORTHWHILE * _seconds(torch.bfloat16)
    finally:
        torch.set_num_threads(threads)


def _seconds(dtype: torch.dtype) -> float:
    """CPU time of one layer, forward and backward; the first round, which prepares kernels, doesn't count."""
    layer = LlamaModel(LAYER).to(dtype).requires_grad_(False)
    tokens = torch.ones(*ROWS, LAYER.hidden_size, dtype=dtype, requires_grad=True)
    # Padded rows go through other kernels than whole ones.
    mask = torch.ones(ROWS, dtype=torch.long)
    mask[0, -1] = 0
    seconds = []
    for _ in range(1 + ROUNDS):
        start = time.thread_time()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            output = layer(inputs_embeds=tokens, attention_mask=mask, use_cache=False).last_hidden_state
        torch.autograd.grad(output.sum(), tokens)
        seconds.append(time.thread_time() - start)
    return min(seconds[1:])
