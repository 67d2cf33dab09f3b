"""The operator, killed and started again within milliseconds: forked from a process that has imported it already.

What runs is the image's entry point, in a process of its own, which dies by a real SIGKILL. Used by `ground`.
"""

import multiprocessing
import os
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from kubernetes.aio.config import kube_config

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["finetune_operator.__main__"])


def _run(environment: dict[str, str], log: str, patience: float | None) -> None:
    """In the fork: what `python -m finetune_operator` does."""
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    # Read when the module was imported, which was before there was this fork.
    kube_config.KUBE_CONFIG_DEFAULT_LOCATION = environment["KUBECONFIG"]
    from finetune_operator.__main__ import main
    from finetune_operator.shell import progress

    if patience is not None:
        progress.DEADLINE_SECONDS = patience
    main()


class ForkedOperator:
    """One operator with its settings; `start` after `kill` is its next life.

    `patience`: the seconds that it waits for what a pod tells, where a test says how long.
    """

    def __init__(self, kubeconfig: Path, log: Path, **settings: object) -> None:
        self._environment = {"KUBECONFIG": str(kubeconfig)}
        self.patience: float | None = None
        self.set(**settings)
        self._log = log
        self._process: ForkServerProcess | None = None

    def set(self, **settings: object) -> None:
        """Other settings, from its next life on."""
        self._environment |= {f"FINETUNE_{name.upper()}": str(value) for name, value in settings.items()}

    def start(self) -> None:
        """Start it; it is at work when it says so to the API server."""
        told = (self._environment, str(self._log), self.patience)
        self._process = _FORKS.Process(target=_run, args=told, daemon=True)
        self._process.start()

    def kill(self) -> None:
        """SIGKILL."""
        if self._process:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None

    @property
    def pid(self) -> int:
        assert self._process
        assert self._process.pid
        return self._process.pid

    def log(self) -> str:
        """What it printed, over all its lives."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""
