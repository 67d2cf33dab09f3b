"""The operator as its image runs it: a process of its own, one user of the API server, started and killed by tests."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from control_plane import PATIENCE
from ports import free_port


class OperatorProcess:
    """`python -m finetune_operator` against the API server of `kubeconfig`.

    With `debug` the event loop complains when it is used from another thread, and is slower.
    """

    def __init__(self, kubeconfig: Path, log: Path, *, debug: bool = True, **settings: object) -> None:
        self.metrics, self.health = free_port(), free_port()
        # An image has its libraries compiled.
        python = {"PYTHONDONTWRITEBYTECODE": ""} | ({"PYTHONASYNCIODEBUG": "1"} if debug else {})
        self._environment = {**os.environ, **python, "KUBECONFIG": str(kubeconfig)}
        ports = {"metrics_port": self.metrics, "health_port": self.health, "progress_seconds": 1}
        self.configure(**(ports | settings))
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self, **settings: object) -> None:
        """Settings from its next start on."""
        self._environment |= {f"FINETUNE_{name.upper()}": str(value) for name, value in settings.items()}

    def start(self) -> "OperatorProcess":
        """Start it, and wait until it is healthy."""
        self.process = self._spawn()
        self.eventually(lambda: self._get(self.health, "/healthz") == "{}")
        return self

    def run(self) -> int:
        """Start it where it can't go on; the exit code with which it ends by itself."""
        self.process = self._spawn()
        return self.process.wait(PATIENCE)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "finetune_operator"]
            return subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    @property
    def running(self) -> bool:
        """Whether it was started and hasn't ended."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL."""
        if self.process and self.running:
            self.process.kill()
            self.process.wait(PATIENCE)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """SIGSTOP, and SIGCONT afterwards."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def ends(self) -> int:
        """The exit code with which it ends by itself."""
        assert self.process
        return self.process.wait(PATIENCE)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.terminate()
        return self.ends()

    def terminate(self) -> None:
        """SIGTERM."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)

    def metric(self, sample: str) -> float:
        """A sample of /metrics, such as `finetune_jobs{phase="Serving"}`; 0 when there is none."""
        return self._sum(rf"^{re.escape(sample)} (\S+)$")

    def known(self) -> float:
        """The FineTuneJobs that it has looked at since it started, and that are there."""
        return self._sum(r"^finetune_jobs\{.*\} (\S+)$")

    def _sum(self, pattern: str) -> float:
        return sum(map(float, re.findall(pattern, self._get(self.metrics, "/metrics"), re.MULTILINE)))

    def leads(self) -> bool:
        """Whether it is the one that works."""
        return self.metric("finetune_leader") == 1

    def reconciles(self) -> float:
        """Reconciles that ended well."""
        return self.metric('finetune_reconciles_total{result="success"}')

    def eventually(self, holds: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Wait until something holds that is told only by asking again."""
        assert self.within(seconds, holds), f"not within {seconds} s; the operator says:\n{self.log()}"

    def within(self, seconds: float, holds: Callable[[], bool], every: float = 0.05) -> bool:
        """Wait for it so long; whether it came to hold."""
        deadline = time.monotonic() + seconds
        while not (held := holds()) and time.monotonic() < deadline:
            assert self.running, f"the operator ended by itself:\n{self.log()}"
            time.sleep(every)
        return held

    def settle(self, seconds: float = PATIENCE) -> None:
        """Wait until it has had nothing to look at for a second, but no longer than so many."""
        seen, since = self.reconciles(), time.monotonic()

        def quiet() -> bool:
            nonlocal seen, since
            now = self.reconciles()
            if now != seen or self.metric("finetune_queue_depth"):
                seen, since = now, time.monotonic()
            return time.monotonic() - since > 1

        self.within(seconds, quiet)

    def log(self) -> str:
        """What it printed."""
        return self._log.read_text()

    def memory(self, line: str = "VmRSS") -> float:
        """Resident memory in MB, now; with VmHWM, the most that it was."""
        assert self.process
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(rf"{line}:\s+(\d+) kB", status)
        assert found
        return int(found[1]) / 1000

    def _get(self, port: int, path: str) -> str:
        try:
            # An answer that comes late is no answer of nothing, which would be counted as none.
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            return ""
