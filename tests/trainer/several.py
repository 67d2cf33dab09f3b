"""Workers of several machines, on loopback: where they meet, and training in them until a signal comes."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ports import free_port
from trainings import Case

# Seconds; libraries alone are read for half a minute where others share the cores.
PATIENCE = 1200


def meeting() -> str:
    return f"127.0.0.1:{free_port()}"


def workers_until(case: Case, number: signal.Signals, step: int, *more: str) -> list[int]:
    """Train in the workers of two machines, of which the second gets the signal at the end of `step`; exit codes."""
    program = Path(__file__).with_name("interrupted.py")
    host, port = meeting().split(":")
    launched = {"WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    where = {"MASTER_ADDR": host, "MASTER_PORT": port}
    told = [str(case.config_file), str(case.workspace.root), str(int(number)), str(step), *more]
    workers = [
        subprocess.Popen(
            [sys.executable, str(program), *told], env={**os.environ, **launched, **where, "RANK": str(rank)}
        )
        for rank in range(2)
    ]
    return codes(workers)


def codes(workers: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    """How each of them ended; none outlives this."""
    try:
        return [worker.wait(timeout=PATIENCE) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
