"""The memory that this machine, or the container on it, has: what there is, and whether it is nearly used up.

Called by `__main__` and `fitting`. No torch.
"""

import ctypes
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune_trainer.data.disk import write_whole
from finetune_trainer.training.activations import BFLOAT16, FLOAT32
from finetune_trainer.training.memory import UNKNOWN, Device

# A container's own limit, where it has one: by cgroup v2, and by v1, which writes a number beyond any memory for none.
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
MACHINE, OWN = Path("/proc/meminfo"), Path("/proc/self/status")
# mallopt(3): the option's number, and from how many bytes on a piece has pages of its own.
MMAP_THRESHOLD, LARGE_PIECE = -3, 256 * 1024
# The share of its memory that a process is killed within: between two looks it takes less than that.
NEAR = 0.05
LOOK_SECONDS = 0.05


def memory() -> int:
    """Bytes that this process may hold: the container's limit, or all that the machine has."""
    limits = [int(text) for path in LIMITS if path.exists() and (text := path.read_text().strip()).isdecimal()]
    return min([_kilobytes(MACHINE, "MemTotal"), *limits])


def device(accelerators: int | None, memory_of_each: int | None, nodes: int) -> Device:
    """What prepare plans for. No word of accelerators (on a laptop) leaves it to train to look at what is there.

    Without any, training runs where prepare does, with the same limit. There bfloat16 may prove fast, which
    takes less; on accelerators it is.
    """
    if accelerators is None:
        return UNKNOWN
    if accelerators:
        return Device(memory_of_each, accelerators, BFLOAT16, nodes)
    return Device(memory(), 0, FLOAT32, nodes)


def give_back_freed_memory() -> None:
    """Have the C library give large pieces back to the system once they are free, as long as this process lives.

    By itself glibc keeps them in its heap, where what is kept of a pass and what comes and goes leave holes: training
    took half as much memory again (981 MB in place of 596). Pages that come and go cost time: a step took 1.45 of its
    own (SmolLM2-135M, 680 tokens, two cores). So it is for where memory is short.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(MMAP_THRESHOLD, LARGE_PIECE)


def _kilobytes(path: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", path.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


@contextmanager
def watched(limit: int, mark: Path) -> Iterator[None]:
    """While the block runs, from its first moment on, there is a file `mark` whenever hardly any memory is left.

    The kernel kills a process that takes more, without a word: the mark that it leaves tells the next one why.
    """
    ended = threading.Event()
    _look(limit, mark)
    watch = threading.Thread(target=_watch, args=(limit, mark, ended), daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()
        mark.unlink(missing_ok=True)


def _watch(limit: int, mark: Path, ended: threading.Event) -> None:
    while not ended.wait(LOOK_SECONDS):
        _look(limit, mark)


def _look(limit: int, mark: Path) -> None:
    held = _kilobytes(OWN, "RssAnon")
    # What others hold counts too, where the machine has no limit for this process alone.
    left = min(limit - held, _kilobytes(MACHINE, "MemAvailable"))
    if left < NEAR * limit:
        write_whole(mark, str(held))
    else:
        mark.unlink(missing_ok=True)
