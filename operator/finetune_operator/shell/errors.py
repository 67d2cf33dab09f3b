"""What can go wrong between the operator and the API server. `cluster` raises, `reconcile` and `workqueue` decide.

A spec that is wrong is no error here: it is a condition.
"""


class Unavailable(Exception):
    """The API server can't answer now (a conflict, too many requests, a fault of its own, no connection): try later."""


class Refused(Exception):
    """The API server will not take an object (`what`: its kind and name), and says why (`sentence`)."""

    def __init__(self, what: str, sentence: str) -> None:
        super().__init__(f"{what}: {sentence}")
        self.what = what
        self.sentence = sentence
