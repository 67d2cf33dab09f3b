"""A row as it stands in a file, and how a row or a file is told to be broken. Used by readers and checks."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from finetune_trainer.contract.outcome import Outcome, StageError

# Some editors begin a file with a byte order mark.
BOM = b"\xef\xbb\xbf"
# Of the faults of a file.
SHOWN = 20


@dataclass(frozen=True)
class Line:
    """A row, or what is wrong with it; `place` is what a user looks for, such as train.jsonl:17."""

    place: str
    row: dict[str, Any] | None
    problem: str = ""


def row(place: str, value: Any) -> Line:
    """A value that has to be an object."""
    if isinstance(value, dict):
        return Line(place, value)
    return Line(place, None, f"is {kind(value)}, where an object is expected")


def kind(value: Any) -> str:
    """What JSON calls a value."""
    kinds = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return "null" if value is None else kinds.get(type(value), f"a {type(value).__name__}")


def fault(error: Exception) -> str:
    """What is wrong with something that is no JSON."""
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON: {error.msg} at column {error.colno}"
    if isinstance(error, UnicodeDecodeError):
        return f"is not UTF-8: byte {error.start + 1} is 0x{error.object[error.start]:02x}"
    return "is nested too deeply" if isinstance(error, RecursionError) else f"is not JSON: {error}"


def unreadable(sentence: str) -> StageError:
    """A file that can't be read at all."""
    return StageError(Outcome.DATA_INVALID, sentence)


class Faults:
    """How many faults a file has, and the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[str] = []

    def add(self, faults: Iterable[str]) -> None:
        """More of them, each with its place."""
        for each in faults:
            self.count += 1
            if len(self._first) < SHOWN:
                self._first.append(each)

    def told(self, name: str) -> str:
        """All that is said of them."""
        many = f"{self.count} faults" if self.count > 1 else "1 fault"
        more = [f"and {self.count - SHOWN} more."] if self.count > SHOWN else []
        return "\n".join([f"{name} has {many}:", *self._first, *more])
