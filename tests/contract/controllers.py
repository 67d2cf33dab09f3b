"""Kubernetes' own controllers beside an API server: Jobs, Deployments, quotas, garbage collection and protected claims.

Used by `ground`. What they do is not played; the kubelet is (`node`), since there is none.
"""

import signal
import subprocess
from pathlib import Path

from control_plane import PATIENCE, ControlPlane, binary

NAMES = (
    "job-controller",
    "deployment-controller",
    "replicaset-controller",
    "garbage-collector-controller",
    "persistentvolumeclaim-protection-controller",
    "resourcequota-controller",
)


class Controllers:
    """kube-controller-manager, with as few controllers as the tests need."""

    def __init__(self, plane: ControlPlane, directory: Path) -> None:
        self._plane = plane
        self._log = directory / "kube-controller-manager.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it waits for the API server by itself."""
        command = [
            str(binary("kube-controller-manager")),
            f"--kubeconfig={self._plane.kubeconfig()}",
            f"--controllers={','.join(NAMES)}",
            *("--leader-elect=false", "--secure-port=0", "--kube-api-qps=1000", "--kube-api-burst=2000"),
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self) -> None:
        """Kill it: there is nothing that it would have to finish."""
        if self._process:
            self._process.kill()
            self._process.wait(PATIENCE)

    def pause(self) -> None:
        """Let it do nothing for a while: the garbage collector has not run yet."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)
