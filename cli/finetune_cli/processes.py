"""Child processes: started in a group of their own, logging to a file, stopped without leaving anything behind.

A group of its own keeps the terminal's Ctrl-C from the child: `local` hears it and asks the child to end.
"""

import fcntl
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import FrameType, TracebackType

LOOPBACK = "127.0.0.1"
# A wrapper (make, timeout, npm) may pass on a Ctrl-C that the terminal has sent already; the user insists later.
INSISTENCE_SECONDS = 1.0


class Stop:
    """A handler of signals that ask this process to end: a KeyboardInterrupt for each that somebody meant.

    The second of two that come at once would interrupt what the first has made it say and tidy up.
    """

    def __init__(self) -> None:
        self._heard = -math.inf

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt, unless that has only just been done."""
        now = time.monotonic()
        if now - self._heard > INSISTENCE_SECONDS:
            self._heard = now
            raise KeyboardInterrupt

    def dropped(self, exception: "sys.UnraisableHookArgs") -> None:
        """A hook of `sys` for what a destructor or a callback raises, which Python drops: a KeyboardInterrupt is raised
        again, outside of it.
        """
        if not isinstance(exception.exc_value, KeyboardInterrupt):
            sys.__unraisablehook__(exception)
            return
        self._heard = -math.inf
        # Asked here, the handler would run in this hook, and Python would drop that, too.
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()


class Child:
    """A running process. Leaving the `with` block stops it."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str], grace: float) -> None:
        """Start `command`; its output goes to `log`. `grace` is how long it may take to end when asked, in seconds."""
        self.log = log
        self.grace = grace
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own programs, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
                # The job's lock is inherited (`store.Store.lock`).
                close_fds=False,
            )

    def __enter__(self) -> "Child":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id, and its group's."""
        return self._process.pid

    def wait(self, seconds: float) -> int | None:
        """The exit code, as soon as there is one; None after `seconds`. A signal's number is negative."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """Ask the whole group to end, and make it end when it takes longer than `grace` or the user insists."""
        with suppress(KeyboardInterrupt):
            self._signal(signal.SIGTERM)
            self.wait(self.grace)
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        # A group outlives its leader when that leaves children behind, so its exit is no reason to stop here.
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            return

    def tail(self, characters: int) -> str:
        """The end of the log."""
        return self.log.read_text(errors="replace").strip()[-characters:]


def free_port(preferred: int = 0) -> int:
    """`preferred` when nothing on this machine listens there or is about to, else one that the kernel picks."""
    for port in (preferred, 0, 0, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            found = int(probe.getsockname()[1])
        if _claimed(found):
            return found
    raise OSError("no free port on the loopback interface")


@cache
def _ports() -> int:
    """The file in which runs of this user keep ports, each the byte of its number. Closed, it would keep none."""
    return os.open(Path(tempfile.gettempdir(), f"finetune-{os.getuid()}.ports"), os.O_WRONLY | os.O_CREAT, 0o600)


def _claimed(port: int) -> bool:
    """Keep a port from other runs as long as this process lives; whether it is this one's.

    A program takes a minute to listen where it was told to, and meanwhile the port looks free to the runs beside this.
    """
    try:
        fcntl.lockf(_ports(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except (BlockingIOError, PermissionError):
        return False
    return True
