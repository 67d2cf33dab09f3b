"""What can go wrong between the operator and the API server. `cluster` raises, `reconcile` and `workqueue` decide.

A spec that is wrong is no error here: it is a condition.
"""

from collections.abc import Mapping
from typing import Any


class Unavailable(Exception):
    """The API server can't answer now (a conflict, too many requests, a fault of its own, no connection): try later.

    `seconds`: not before so many, if it said so.
    """

    def __init__(self, sentence: str, seconds: float = 0) -> None:
        super().__init__(sentence)
        self.seconds = seconds


class Gone(Exception):
    """A watch can't go on from where it was: list again."""


class Absent(Exception):
    """The cluster does not have a kind of object, which it need not."""


class Refused(Exception):
    """The API server will not do something (`what`: to which object), and says why (`sentence`)."""

    def __init__(self, what: str, sentence: str) -> None:
        super().__init__(f"{what}: {sentence}")
        self.what = what
        self.sentence = sentence


class InTheWay(Exception):
    """An object of that kind and name is there (`raw`), and is not ours."""

    def __init__(self, kind: str, raw: Mapping[str, Any]) -> None:
        super().__init__(f"{kind} {raw['metadata']['name']} is somebody else's")
        self.kind = kind
        self.raw = raw
