"""How a running stage is asked how far it is: `/status` (JSON) and `/metrics` (Prometheus) on one port.

`__main__` starts it before a stage and stops it after; the stages report through `Reporter`, and `adapters` has answers
of its own. It takes no request that changes anything: there is no way into the pod from here.
"""

import errno
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.contract.results import Progress

# Seconds; how often the server looks whether its stage has ended.
STOP_WITHIN = 0.05
_METRICS = (
    *("step", "total_steps", "epoch", "loss", "validation_loss", "validation_reward_accuracy", "tokens_per_second"),
)


class Reporter:
    """The current progress of a stage, written by the stage's thread and read by the server's."""

    def __init__(self, stage: str) -> None:
        self._lock = threading.Lock()
        self._progress = Progress(stage=stage)

    def update(self, **fields: Any) -> None:
        """Replace fields of `finetune_trainer.contract.results.Progress`."""
        with self._lock:
            self._progress = self._progress.model_copy(update=fields)

    @property
    def progress(self) -> Progress:
        """The progress so far."""
        with self._lock:
            return self._progress


def metrics(progress: Progress) -> bytes:
    """The progress in Prometheus' text format; what is not known yet is left out."""
    registry = CollectorRegistry()
    for name in _METRICS:
        value = getattr(progress, name)
        if value is not None:
            gauge = Gauge(f"finetune_trainer_{name}", name.replace("_", " "), ["stage"], registry=registry)
            gauge.labels(progress.stage).set(value)
    return generate_latest(registry)


class _Server(ThreadingHTTPServer):
    """Listens on one address."""

    daemon_threads = True


class _EverywhereServer(_Server):
    """Listens on IPv6 too where the machine has it: a pod may have addresses of either kind alone."""

    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def _listen(host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    try:
        return _Server((host, port), handler) if host else _EverywhereServer(("", port), handler)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise StageError(
            Outcome.CONFIG_INVALID, f"Port {port} is taken by another process: choose another --status-port."
        ) from error


@dataclass(frozen=True)
class Response:
    """What a request is answered with."""

    body: bytes
    content_type: str = "application/json"
    status: int = 200


@contextmanager
def serving(reporter: Reporter, port: int, host: str = "") -> Iterator[int]:
    """Serve `reporter` while inside; gives the port, chosen by the system when it is 0. Raises StageError.

    No `host`: on every address that the machine has, as a pod has to.
    """

    def answer(path: str) -> Response | None:
        if path == "/status":
            return Response(reporter.progress.model_dump_json(by_alias=True).encode())
        return Response(metrics(reporter.progress), CONTENT_TYPE_LATEST) if path == "/metrics" else None

    with answering(answer, port, host) as found:
        yield found


@contextmanager
def answering(answer: Callable[[str], Response | None], port: int, host: str = "") -> Iterator[int]:
    """Answer requests for paths while inside, likewise; None is for a path that there is not."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = answer(self.path.partition("?")[0])
            if found is None:
                self.send_error(404)
                return
            self.send_response(found.status)
            self.send_header("Content-Type", found.content_type)
            self.send_header("Content-Length", str(len(found.body)))
            self.end_headers()
            self.wfile.write(found.body)

        def log_message(self, format: str, *args: Any) -> None:
            """A request every few seconds is no news."""

    server = _listen(host, port, Handler)
    thread = threading.Thread(target=server.serve_forever, args=(STOP_WITHIN,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
