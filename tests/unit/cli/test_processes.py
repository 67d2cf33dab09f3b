"""Child processes, real ones: they end with all they started, and leave their log."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from finetune_cli import processes
from finetune_cli.processes import INSISTENCE_SECONDS, LOOPBACK, Child, Stop, free_port

# Ignores SIGTERM when told to, tells the process ids, and waits to be ended.
PARENT = """
import os, signal, subprocess, sys
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print(child.pid, flush=True)
signal.pause()
"""


def start(log: Path, *arguments: str, grace: float = 30) -> Child:
    child = Child([sys.executable, "-c", PARENT, *arguments], log, os.environ, grace)
    while not child.tail(100):
        assert child.wait(0.02) is None, child.tail(1000)
    return child


def test_leaving_the_block_ends_what_the_child_started(tmp_path: Path) -> None:
    with start(tmp_path / "log") as child:
        grandchild = psutil.Process(int(child.tail(100)))
    assert child.wait(0) is not None
    assert psutil.wait_procs([grandchild], timeout=120)[1] == []


def test_a_child_that_does_not_listen_is_killed_after_its_grace(tmp_path: Path) -> None:
    child = start(tmp_path / "log", "stubborn", grace=0.2)
    grandchild = psutil.Process(int(child.tail(100)))
    child.stop()
    assert child.wait(0) == -9
    assert psutil.wait_procs([grandchild], timeout=120)[1] == []


def test_the_exit_code_and_the_end_of_the_log_remain(tmp_path: Path) -> None:
    with Child(
        [sys.executable, "-c", "print('x' * 50 + 'the end'); exit(7)"], tmp_path / "logs" / "a.log", {}, 1
    ) as child:
        assert child.wait(120) == 7
        assert child.tail(7) == "the end"


def test_a_port_that_is_taken_is_left_alone() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        taken = server.getsockname()[1]
        assert free_port(taken) != taken
    assert free_port(taken) == taken


def test_a_port_that_another_run_is_about_to_listen_on_is_not_free() -> None:
    wanted = free_port()
    beside = "import sys; from finetune_cli.processes import free_port; print(free_port(int(sys.argv[1])))"
    ended = subprocess.run([sys.executable, "-c", beside, str(wanted)], capture_output=True, text=True, check=True)
    assert int(ended.stdout) != wanted
    # This one asks for it again, as when its engine begins anew.
    assert free_port(wanted) == wanted


# A child that takes a second to end, and a parent that is interrupted, and once more while it waits for that.
TWICE = """
import os, signal, sys
from pathlib import Path
from finetune_cli import processes
# However long that takes on a busy machine.
processes.INSISTENCE_SECONDS = 60
SLOW = '''import os, signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
print("up", flush=True)
signal.sigwait({signal.SIGTERM})
os.kill(os.getppid(), signal.SIGINT)
time.sleep(1)
exit(75)'''
child = processes.Child([sys.executable, "-c", SLOW], Path(sys.argv[1]), os.environ, 60)
while not child.tail(10):
    child.wait(0.02)
signal.signal(signal.SIGINT, processes.Stop())
try:
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()
except KeyboardInterrupt:
    child.stop()
print(child.wait(0))
"""


def test_one_ctrl_c_that_comes_twice_kills_nothing(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", TWICE, tmp_path / "log"], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "75"


DROPPED = """
import signal
from finetune_cli.run import _hear_every_stop

class Held:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
        print("asked", flush=True)

_hear_every_stop()
try:
    Held()
    signal.pause()
except KeyboardInterrupt:
    print("heard")
"""


def test_who_asks_while_a_destructor_runs_is_heard() -> None:
    ended = subprocess.run([sys.executable, "-c", DROPPED], capture_output=True, text=True, timeout=120, check=True)
    assert (ended.stdout.split(), ended.stderr) == (["heard"], "")


def test_what_a_wrapper_passes_on_interrupts_once_and_who_insists_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(processes, "time", SimpleNamespace(monotonic=lambda: now[0]))
    stop = Stop()
    with pytest.raises(KeyboardInterrupt):
        stop(signal.SIGINT, None)
    now[0] += INSISTENCE_SECONDS / 2
    stop(signal.SIGTERM, None)
    now[0] += INSISTENCE_SECONDS
    with pytest.raises(KeyboardInterrupt):
        stop(signal.SIGINT, None)
