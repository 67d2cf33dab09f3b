"""What can go wrong between the operator and the API server. `cluster` raises, `reconcile` and `workqueue` decide.

A spec that is wrong is no error here: it is a condition.
"""


class Unavailable(Exception):
    """The API server can't answer now (a conflict, too many requests, a fault of its own, no connection): try later."""


class Refused(Exception):
    """The API server will not take an object; trying again changes nothing. `sentence` has its words."""

    def __init__(self, kind: str, name: str, sentence: str) -> None:
        super().__init__(f"{kind} {name}: {sentence}")
        self.kind = kind
        self.name = name
        self.sentence = sentence
