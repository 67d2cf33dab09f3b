"""What was found in rows and stops nothing: how many rows have it, the first places, and a sentence.

`notices` makes them of what is odd, and `trained` of what is cut or left out. All are in data-report.json and, in a
sentence each, in the condition DataReady.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from finetune_trainer.contract.config import Contract

# Places that are named of each kind.
NAMED = 3
# A sentence goes into a condition, and the names in it are the user's.
SENTENCE = 400


class Finding(Contract):
    """One kind of finding in one source or split: how many rows have it, the first places, and what tells it."""

    kind: str
    count: int
    places: tuple[str, ...]
    sentence: str


class DataReport(Contract):
    """What data-report.json holds."""

    findings: tuple[Finding, ...]


@dataclass
class Places:
    """Where rows stand that have something in common: how many they are, and the first of them."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, place: str) -> None:
        """One more."""
        self.count += 1
        if len(self.first) < NAMED:
            self.first.append(place)

    def add_all(self, places: Sequence[str]) -> None:
        """Some more."""
        self.count += len(places)
        self.first += places[: NAMED - len(self.first)]

    def finding(self, kind: str, said: str) -> Finding:
        """`said` of these rows, as a sentence that ends with where they are."""
        more = ", …" if self.count > len(self.first) else ""
        sentence = short(f"{said} ({', '.join(self.first)}{more}).")
        return Finding(kind=kind, count=self.count, places=tuple(self.first), sentence=sentence)


def short(sentence: str) -> str:
    """A sentence that fits a condition."""
    return sentence if len(sentence) <= SENTENCE else f"{sentence[:SENTENCE]}…"
