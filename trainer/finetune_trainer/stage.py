"""The frame around a stage: whatever happens in it ends as a Termination and an exit code of `outcome`'s table.

`__main__` runs every stage through `run`. A StageError has its sentence; a full disk and a request to stop get theirs
here; anything else is a fault of ours, and its traceback goes with it.
"""

import errno
import json
import logging
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

from finetune_trainer.config import Contract
from finetune_trainer.outcome import TERMINATION_BYTES, Outcome, StageError, Termination

logger = logging.getLogger(__name__)


class Ending:
    """How the stage inside a `with` block ended. Every exception ends here: `code` and `termination` say which."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self.code = Outcome.SUCCEEDED.exit.code
        self.termination = Termination(reason=Outcome.SUCCEEDED.exit.reason)

    def succeed(self, result: Contract) -> None:
        """The stage's result."""
        document = result.model_dump(mode="json", by_alias=True, exclude_none=True)
        self.termination = Termination(reason=Outcome.SUCCEEDED.exit.reason, result=document)

    def __enter__(self) -> "Ending":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            return False
        outcome, message = _explain(error, self._workspace)
        logger.error("%s", message, exc_info=error if outcome == Outcome.INTERNAL else None)
        self.code = outcome.exit.code
        self.termination = Termination(reason=outcome.exit.reason, message=message)
        return True


def _explain(error: BaseException, workspace: Path) -> tuple[Outcome, str]:
    if isinstance(error, StageError):
        return error.outcome, error.message
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Outcome.WORKSPACE_FULL, f"The workspace volume at {workspace} is full: raise workspace.size."
    if isinstance(error, KeyboardInterrupt):
        return Outcome.INTERRUPTED, "The stage was asked to stop; the next run goes on from where it was."
    lines = traceback.format_exception(error)
    return Outcome.INTERNAL, f"{type(error).__name__}: {error}\n{''.join(lines[-3:])}"


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM, a pod's request to stop, is Ctrl-C inside; train listens for itself and ends its step first."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run(stage: Callable[[], Contract], workspace: Path, termination_log: Path) -> int:
    """Run a stage, leave its Termination and give its exit code."""
    with Ending(workspace) as ending, interruptible():
        ending.succeed(stage())
    termination_log.write_bytes(encode(ending.termination))
    return ending.code


def encode(termination: Termination) -> bytes:
    """The Termination as JSON that the kubelet keeps whole: an overlong message loses its middle."""
    document = termination.model_dump(mode="json", by_alias=True, exclude_none=True)
    encoded = json.dumps(document, ensure_ascii=False).encode()
    while len(encoded) > TERMINATION_BYTES and len(document["message"]) > 1:
        keep = max(1, len(document["message"]) - (len(encoded) - TERMINATION_BYTES) - 8)
        document["message"] = f"{document['message'][: keep // 2]} … {document['message'][-(keep // 2) :]}"[:keep]
        encoded = json.dumps(document, ensure_ascii=False).encode()
    return encoded
