"""What a tutorial of examples/ says to type, under way while a test plays the node."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from control_plane import PATIENCE


class Walk:
    """A tutorial's commands, under way."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ends(self) -> str:
        """All that was said, once it has ended well."""
        told, _ = self._process.communicate(timeout=PATIENCE)
        assert self._process.returncode == 0, told
        return told


@contextmanager
def walking(command: Sequence[str], directory: Path | None = None, **environment: str) -> Iterator[Walk]:
    """Start the commands; they end with the test."""
    with subprocess.Popen(
        command,
        cwd=directory,
        env=os.environ | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            yield Walk(process)
        finally:
            process.kill()
