"""kubectl, which knows its user's clusters, contexts and logins: whatever is asked of a cluster goes through it.

`cluster` says what to ask. What kubectl refuses is a UserError in its own words.
"""

import json
import re
import select
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from tempfile import TemporaryFile
from threading import Event, Timer
from typing import IO, Any

from finetune_cli.errors import UserError

Raw = dict[str, Any]

# Lines of klog (E1126 20:00:00.000000 ...) and of the API server's warnings, and the words before a complaint.
_NOISE = re.compile(r"[IWEF]\d{4} \d\d:\d\d:\d\d|Warning: |Flag --|Defaulted container")
_LABEL = re.compile(r"^(error: |Error from server( \(\w+\))?: )")
_MISSING = "kubectl is not on PATH; it is what `finetune` asks a cluster with."


@dataclass(frozen=True)
class Kubectl:
    """kubectl, pointed at one namespace. `namespace` and `context` None: its own defaults."""

    namespace: str | None = None
    context: str | None = None

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """What it prints."""
        try:
            done = subprocess.run(  # noqa: S603  (a name and a namespace, each an argument of its own)
                self._command(arguments), input=stdin, capture_output=True, text=True
            )
        except FileNotFoundError as error:
            raise UserError(_MISSING) from error
        if done.returncode:
            raise _refused(arguments, done.stderr)
        return done.stdout

    def json(self, *arguments: str, stdin: str = "") -> Raw:
        """The object that it prints."""
        return dict(json.loads(self(*arguments, stdin=stdin)))

    @contextmanager
    def bytes(self, *arguments: str) -> Iterator[IO[bytes]]:
        """What it prints, as it comes; UserError at the end where it fails, whatever became of what it had printed."""
        with TemporaryFile("w+") as said:
            try:
                process = subprocess.Popen(  # noqa: S603  (as above)
                    self._command(arguments), stdout=subprocess.PIPE, stderr=said
                )
            except FileNotFoundError as error:
                raise UserError(_MISSING) from error
            with process:
                read = False
                try:
                    yield process.stdout or BytesIO()
                    read = True
                finally:
                    if ended := not read and not _closed(process.stdout):
                        process.terminate()
                    # Asked to end, kubectl may still say that it failed.
                    if process.wait() > 0 and not ended:
                        said.seek(0)
                        raise _refused(arguments, said.read())

    def lines(self, *arguments: str, seconds: float | None = None) -> Generator[str, None, None]:
        """What it prints, line by line as it comes, until it ends by itself or `seconds` have passed."""
        with TemporaryFile("w+") as said:
            try:
                process = subprocess.Popen(  # noqa: S603  (as above)
                    self._command(arguments), stdout=subprocess.PIPE, stderr=said, text=True
                )
            except FileNotFoundError as error:
                raise UserError(_MISSING) from error
            overdue = Event()

            def end() -> None:
                overdue.set()
                process.terminate()

            timer = Timer(seconds or 0, end)
            if seconds is not None:
                timer.start()
            with process:
                try:
                    yield from process.stdout or ()
                finally:
                    timer.cancel()
                    process.terminate()
            said.seek(0)
            # Asked to end, kubectl may still say that it failed.
            if process.returncode > 0 and not overdue.is_set():
                raise _refused(arguments, said.read())

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        return [
            "kubectl",
            *([f"--namespace={self.namespace}"] if self.namespace else []),
            *([f"--context={self.context}"] if self.context else []),
            *arguments,
        ]


def _closed(pipe: IO[bytes] | None) -> bool:
    """Whether what writes there has ended by itself, or is about to."""
    if pipe is None:
        return True
    asked = select.poll()
    asked.register(pipe, 0)
    return bool(asked.poll(0))


def _refused(arguments: tuple[str, ...], said: str) -> UserError:
    return UserError(f"kubectl {' '.join(arguments[:2])}: {complaint(said)}")


def complaint(said: str) -> str:
    """What kubectl says went wrong, without its log and what it only warns of."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    told = [line for line in lines if not _NOISE.match(line)] or lines[-1:] or ["it ended without a word."]
    return _LABEL.sub("", " ".join(told))
