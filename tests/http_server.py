"""Servers in a few lines, on the standard library alone, for what a test has others say over HTTP.

What stands in for a hub, a bucket, a registry, an engine or a tracker is a `Handler` of its test's. `listening` is for
this project's own applications.
"""

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """One connection: do_GET and the like take the `body`, and give an `answer`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def body(self) -> bytes:
        """What was sent."""
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def answer(self, status: int, content: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Bytes, with their length unless the headers tell another; to HEAD the headers alone."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def answer_json(self, document: Any, status: int = 200) -> None:
        """A document."""
        self.answer(status, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


class _Server(ThreadingHTTPServer):
    # Of more connections at once than wait here, the rest try again after a second.
    request_queue_size = 128


@contextmanager
def answering(
    handler: type[Handler], address: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Answer while inside, encrypted where there is a certificate, on a free port unless one is given; HOST:PORT."""
    server = _Server((address, port), handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"{address}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
