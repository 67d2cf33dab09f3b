"""What pods are asked beside the work: a plan says whom and about what, `shell/progress` asks and keeps the answers."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from finetune_trainer.contract.config import Contract
from finetune_trainer.contract.results import STATUS_PORT


@dataclass(frozen=True)
class Topic:
    """Something that pods tell over HTTP, at a port and a path.

    `read`: an answer from its bytes, the answer before and the time; ValueError where it makes no sense. `shown`: the
    part of it that people see, or that something depends on. `most`: bytes of an answer. `silence`: that one gives no
    answer is news, too.
    """

    port: int
    path: str
    read: Callable[[bytes, Any, datetime], Any]
    shown: Callable[[Any], Any]
    most: int = 256 * 1024
    silence: bool = False


@dataclass(frozen=True)
class Question:
    """A pod's address, and what it is asked about. `every`: in how many rounds, once: 1 for what decisions hang on."""

    address: str
    topic: Topic
    every: int = 1


def status_topic(kind: type[Contract], shown: Callable[[Any], Any], silence: bool = False) -> Topic:
    """What the trainer's program tells, in whatever pod it runs."""

    def read(text: bytes, before: Any, now: datetime) -> Contract:
        # A pod may be of a later version.
        return kind.model_validate_json(text, extra="ignore")

    return Topic(STATUS_PORT, "/status", read, shown, silence=silence)
