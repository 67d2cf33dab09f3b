"""`finetune` as its users start it: a command under way, what it says and what its status document says."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest

ROOT = Path(__file__).parents[2]
# The tiny one for what becomes of processes and files; the real one where a number must mean something.
TINY, SMOLLM2 = (ROOT / ".cache/models" / name for name in ("tiny-smollm2", "SmolLM2-135M-Instruct"))
ROWS = ROOT / "examples/recipe-assistant/train.jsonl"
# One that is in no row: what is asked, and the right answer.
RECIPE, INGREDIENTS = (
    message["content"]
    for message in json.loads(ROWS.with_name("test.jsonl").read_text().splitlines()[0])["messages"][1:]
)
FINETUNE = Path(sys.executable).with_name("finetune")
NAME = "recipes"
# In seconds, for an engine to answer and for a command to end: many times what they take on two idle cores.
ANSWERS, ENDS = 1200, 3600
T = TypeVar("T")
_numbers = count(1)


def alike(answer: str, right: str) -> bool:
    """Whether two lists of ingredients have at least half of what they name in common."""
    first, second = (set(text.strip().split(", ")) for text in (answer, right))
    return len(first & second) * 2 >= len(first | second)


class Command:
    """A `finetune` command under way."""

    def __init__(self, directory: Path, *arguments: str, **environment: str) -> None:
        self.directory = directory
        # Two may be under way at once.
        self.output = directory / f"output-{next(_numbers)}-{arguments[0]}.txt"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [FINETUNE, *arguments],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
            )

    @property
    def said(self) -> str:
        return self.output.read_text()

    def status(self) -> dict[str, Any]:
        """The status document that this run has written; empty before it has."""
        directory = self.directory / ".finetune" / NAME
        lock = directory / "lock"
        if not lock.exists() or lock.read_text() != str(self.process.pid) or not (directory / "status.json").exists():
            return {}
        return dict(json.loads((directory / "status.json").read_text()))

    def until(self, reached: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The first status document for which `reached` holds; fails with all that was said when it ends before."""
        return self._until(self.status, reached)

    def until_said(self, words: str) -> str:
        """All that it has said, once these words are among it: people are told after the status document is."""
        return self._until(lambda: self.said, lambda said: words in said)

    def _until(self, look: Callable[[], T], reached: Callable[[T], object]) -> T:
        for _ in range(int(ANSWERS / 0.1)):
            if reached(found := look()):
                return found
            try:
                code = self.process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            pytest.fail(f"`finetune` ended with {code}:\n{self.said}")
        pytest.fail(f"not reached in {ANSWERS} s: {json.dumps(self.status(), indent=2)}\n{self.said}")

    def ends(self) -> int:
        """Its exit code."""
        return self.process.wait(ENDS)

    def interrupt(self) -> int:
        """Ctrl-C, and the exit code that follows."""
        self.process.send_signal(signal.SIGINT)
        return self.ends()


Finetune = Callable[..., Command]
