"""Ports of the tests' own, for programs that have to be told theirs before they listen."""

import itertools
import os
import socket
from collections.abc import Iterator
from pathlib import Path

# Each process of the tests has its own share of the ports below those that the kernel gives to connections: neither a
# connection nor another process takes one between the moment that it is found free and the moment that it is used.
PORTS_EACH = 2000


def free_port() -> int:
    """A port that nobody listens on, and that is given to nobody else of the tests."""
    while True:
        port = next(_ports)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def _share() -> Iterator[int]:
    """The ports of this process of the tests, over and over. It begins anywhere: others may use this machine."""
    end = max(12_000, int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = range(end - PORTS_EACH * (worker + 1), end - PORTS_EACH * worker)
    first = os.getpid() % len(ports)
    return itertools.cycle((*ports[first:], *ports[:first]))


_ports = _share()
