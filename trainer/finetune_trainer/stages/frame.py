"""The frame around a stage: whatever happens in it ends as a Termination and an exit code of `outcome`'s table.

`__main__` runs every stage through `run`. A StageError has its sentence; a full disk, too little memory and a request
to stop get theirs here; anything else is a fault of ours, and the end of its traceback goes with it.
"""

import json
import logging
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from finetune_trainer import signals
from finetune_trainer.contract.config import Contract
from finetune_trainer.contract.outcome import DISK_FULL, TERMINATION_BYTES, Outcome, StageError, Termination, pack
from finetune_trainer.contract.redaction import redacted

logger = logging.getLogger(__name__)

# Frames of a traceback that go into the termination message; the log has all of them.
FRAMES = 3
ELLIPSIS = " … "
# The most that JSON makes of one character.
BYTES = 6


class Ending:
    """How the stage inside a `with` block ended. Every exception ends here: `code` and `termination` say which.

    It is the one boundary that lets nothing through: past it a process has only its exit code to say what happened.
    """

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self.code = Outcome.SUCCEEDED.exit.code
        self.termination = Termination(reason=Outcome.SUCCEEDED.exit.reason)

    def succeed(self, result: Contract | None) -> None:
        """The stage's result; None where another pod will have it. Raises StageError (INTERNAL) where no message could
        carry it: nobody would hear of it.
        """
        if result is None:
            return
        termination = ended(result)
        if not fits(termination):
            size = len(encode(termination))
            message = f"The result takes {size} bytes, and a termination message {TERMINATION_BYTES}."
            raise StageError(Outcome.INTERNAL, message)
        self.termination = termination

    def __enter__(self) -> "Ending":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            return False
        outcome, message = _explain(error, self._workspace)
        message = redacted(message)
        logger.error("%s", message, exc_info=error if outcome == Outcome.INTERNAL else None)
        self.code = outcome.exit.code
        self.termination = Termination(reason=outcome.exit.reason, message=message)
        return True


def _explain(error: BaseException, workspace: Path) -> tuple[Outcome, str]:
    if isinstance(error, StageError):
        return error.outcome, error.message
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return Outcome.WORKSPACE_FULL, f"The workspace volume at {workspace} is full: raise workspace.size."
    if isinstance(error, MemoryError):
        return Outcome.OUT_OF_MEMORY, "The stage ran out of host memory: raise the memory in training.resources."
    end = "".join(traceback.format_exception(error, limit=-FRAMES))
    return Outcome.INTERNAL, f"{type(error).__name__}: {error}\n{end}"


@contextmanager
def interruptible(termination_log: Path) -> Iterator[None]:
    """SIGTERM, a pod's request to stop, and Ctrl-C end the process inside; train listens for itself and ends its step.

    It ends as a kill would end it, which every stage outlives: what they write is complete or absent. An exception
    would have to wait for the threads of a library's download.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        outcome = Outcome.INTERRUPTED
        message = "The stage was asked to stop; the next run goes on from where it was."
        logger.warning("%s", message)
        leave(Termination(reason=outcome.exit.reason, message=message), termination_log)
        os._exit(outcome.exit.code)

    with signals.handled(stop):
        yield


def run(stage: Callable[[], Contract | None], workspace: Path, termination_log: Path) -> int:
    """Run a stage, leave its Termination and give its exit code."""
    with interruptible(termination_log), Ending(workspace) as ending:
        ending.succeed(stage())
    leave(ending.termination, termination_log)
    return ending.code


def leave(termination: Termination, termination_log: Path) -> None:
    """Write the last word of a stage."""
    try:
        # In one call and in place: in a pod it is a file that the kubelet mounted, which no rename can replace.
        termination_log.write_bytes(encode(termination))
    except OSError as error:
        logger.warning("The termination message could not be written to %s: %s", termination_log, error)


def ended(result: Contract) -> Termination:
    """The last word of a stage that succeeded."""
    document = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    return Termination(reason=Outcome.SUCCEEDED.exit.reason, result=document)


def fits(termination: Termination) -> bool:
    """Whether the kubelet keeps it whole."""
    return len(encode(termination)) <= TERMINATION_BYTES


def encode(termination: Termination) -> bytes:
    """The Termination as JSON that the kubelet keeps whole: a result too long is packed, a message too long cut."""
    message, keep = termination.message, len(termination.message)
    while len(encoded := _json(termination, message)) > TERMINATION_BYTES and keep > 0:
        keep -= max(1, (len(encoded) - TERMINATION_BYTES) // BYTES)
        message = _shortened(termination.message, keep)
    return encoded


def _json(termination: Termination, message: str) -> bytes:
    document = termination.model_copy(update={"message": message}).model_dump(
        mode="json", by_alias=True, exclude_none=True
    )
    encoded = _bytes(document)
    if len(encoded) <= TERMINATION_BYTES or termination.result is None:
        return encoded
    bare = {key: value for key, value in document.items() if key != "result"}
    return _bytes(bare | {"packed": pack(termination.result)})


def _bytes(document: dict[str, Any]) -> bytes:
    # A lone surrogate, which a broken file name or row may hold, has no bytes.
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _shortened(text: str, keep: int) -> str:
    """At most `keep` characters and an ellipsis: most of its beginning, and its end."""
    end = max(0, keep) // 3
    return text[: max(0, keep) - end] + ELLIPSIS + (text[-end:] if end else "")
