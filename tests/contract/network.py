"""A way to a real server on which what a test names goes wrong: a reverse proxy on a loopback port.

Used by `test_transfer_faults`. The operator's own is `fault_proxy`, which knows what the API server is asked.
"""

import http.client
import os
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

from http_server import Handler, answering

_HOP = ("connection", "transfer-encoding", "keep-alive")


class Trouble(Enum):
    """What happens to a request."""

    TOO_MANY = "429"
    BROKEN = "500"
    # In the midst of what is sent, else of what is brought.
    RESET = "reset"
    SILENT = "silent"


STATUS = {Trouble.TOO_MANY: 429, Trouble.BROKEN: 500}


@dataclass
class Network:
    """`upstream`: the server's host and port. `trouble` happens to requests whose method and path have `words` in this
    order, `left` times; `spoilt` are those to which it did.
    """

    upstream: str
    address: str = ""
    trouble: Trouble | None = None
    words: tuple[str, ...] = ()
    left: float = 0
    spoilt: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def spoil(self, trouble: Trouble, words: tuple[str, ...], times: float = float("inf")) -> None:
        """Have it happen so often; for good, if not told."""
        self.trouble, self.words, self.left = trouble, words, times

    def asked(self, line: str) -> Trouble | None:
        """What happens to a request."""
        with self.lock:
            if self.left < 1 or not _has(line, self.words):
                return None
            self.left -= 1
            self.spoilt.append(line)
            return self.trouble


def _has(line: str, words: tuple[str, ...]) -> bool:
    at = 0
    for word in words:
        found = line.find(word, at)
        if found < 0:
            return False
        at = found + len(word)
    return True


@contextmanager
def between(upstream: str, tls: ssl.SSLContext | None = None) -> Iterator[Network]:
    """The way to HOST:PORT, encrypted up to here where there is a certificate."""
    network = Network(upstream)

    class Between(_Way):
        way = network

    with answering(Between, tls=tls) as network.address:
        try:
            yield network
        finally:
            network.over.set()


class _Way(Handler):
    way: Network

    def do_GET(self) -> None:
        trouble = self.way.asked(f"{self.command} {self.path}")
        size = int(self.headers["Content-Length"] or 0)
        if trouble is Trouble.SILENT:
            self.way.over.wait()
            return self._reset()
        if trouble is Trouble.RESET and size:
            self.rfile.read(size // 2)
            return self._reset()
        body = self.rfile.read(size)
        if trouble in STATUS:
            # At once: who waits as long as he would by himself is not heard of again.
            return self._tell(STATUS[trouble], [("Retry-After", "0")], b"")
        status, headers, answer = self._forward(body)
        if trouble is Trouble.RESET:
            self._tell(status, headers, answer, len(answer) // 2)
            return self._reset()
        return self._tell(status, headers, answer)

    do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = do_GET

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        host, _, port = self.way.upstream.partition(":")
        connection = http.client.HTTPConnection(host, int(port))
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in (*_HOP, "expect"):
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, [pair for pair in answer.getheaders() if pair[0].lower() not in _HOP], content

    def _tell(self, status: int, headers: list[tuple[str, str]], body: bytes, sent: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD" and status != http.HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:sent])

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
