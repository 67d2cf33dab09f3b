"""How a stage ends: one table of exit codes that the trainer exits with and the operator reads.

The trainer writes a Termination to the container's termination log and exits with its outcome's code. The operator
builds each Job's podFailurePolicy from the same table, and turns the message into a condition. Codes follow sysexits(3)
where it has a fitting one. `docs/exit-codes.md` is generated from here.
"""

import base64
import errno
import json
import zlib
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic import model_validator

from finetune_trainer.contract.config import Contract

TERMINATION_LOG = "/dev/termination-log"
# The kubelet keeps this much of a termination message.
TERMINATION_BYTES = 4096
# What a packed result may come to; its packer is a pod, and deflate can make a thousand bytes of one.
UNPACKED_BYTES = 2**18


@dataclass(frozen=True)
class Exit:
    """One row of the table. `retry`: whether running the stage again could end otherwise."""

    code: int
    reason: str
    retry: bool
    meaning: str


class Outcome(Enum):
    """Every way a stage can end by itself."""

    SUCCEEDED = Exit(0, "Succeeded", False, "the stage is complete")
    DATA_INVALID = Exit(
        65, "DataInvalid", False, "rows of the dataset are wrong; the message names file, line and fault"
    )
    NOT_FOUND = Exit(66, "SourceNotFound", False, "a model, dataset, revision, bucket or file does not exist")
    UNAVAILABLE = Exit(69, "SourceUnavailable", True, "the hub, the bucket or the candidate could not be reached")
    INTERNAL = Exit(70, "InternalError", True, "a fault in the trainer; the message ends with its traceback")
    OUT_OF_MEMORY = Exit(
        71, "OutOfMemory", False, "the accelerator's or the pod's memory is too small; the message says which"
    )
    SMALLER_PASSES = Exit(
        72, "OutOfMemory", True, "memory was too small, the first time; the next run takes half as many tokens at once"
    )
    WORKSPACE_FULL = Exit(73, "WorkspaceFull", False, "the workspace volume is full")
    PEER_LOST = Exit(74, "PeerLost", True, "another pod of the same training ended first; its message says why")
    INTERRUPTED = Exit(75, "Interrupted", True, "the stage was asked to stop; the next run goes on from its checkpoint")
    DIVERGED = Exit(76, "Diverged", False, "the loss became infinite or not a number")
    ACCESS_DENIED = Exit(77, "AccessDenied", False, "the hub or the bucket refused the credentials")
    CONFIG_INVALID = Exit(
        78, "ConfigInvalid", False, "the run config asks for something that this model or trainer can't do"
    )

    @property
    def exit(self) -> Exit:
        """The row of the table."""
        return self.value

    @classmethod
    def of_code(cls, code: int) -> "Outcome | None":
        """The outcome that exits with `code`; None for codes that are not ours (a kill, a crash of the interpreter)."""
        return next((outcome for outcome in cls if outcome.exit.code == code), None)


class Termination(Contract):
    """The termination message: why the stage ended, and its result when it succeeded.

    A result that is too long for the kubelet stands there as `packed`, and is read as `result` all the same.
    """

    reason: str
    message: str = ""
    result: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _unpacked(cls, document: Any) -> Any:
        if not isinstance(document, dict) or "packed" not in document:
            return document
        kept = {key: value for key, value in document.items() if key != "packed"}
        return kept | {"result": unpack(document["packed"])}


def pack(result: dict[str, Any]) -> str:
    """A result as base64 of its deflated JSON: names and digits repeat, and a third of the length is left."""
    return base64.b64encode(zlib.compress(json.dumps(result, separators=(",", ":")).encode(), level=9)).decode()


def unpack(text: Any) -> Any:
    """The result that was packed. Raises ValueError for what is none."""
    reader = zlib.decompressobj()
    try:
        found = json.loads(reader.decompress(base64.b64decode(text, validate=True), UNPACKED_BYTES))
    except (TypeError, zlib.error, RecursionError) as error:
        raise ValueError("is no packed result") from error
    if not reader.eof:
        raise ValueError("is a packed result that was cut off")
    return found


# What an OSError has where nothing more could be written.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class StageError(Exception):
    """A failure the user can understand: its outcome, and a sentence: what happened, to what, and what to do."""

    def __init__(self, outcome: Outcome, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.message = message
