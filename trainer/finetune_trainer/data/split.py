"""Cuts validation and test from train: by the seed and the rows alone, so that the same data is split the same way.

Called by `prepare`. Pure.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence

from finetune_trainer.contract.outcome import Outcome, StageError
from finetune_trainer.data.examples import Example


def cut(rows: Sequence[Example], fractions: dict[str, float], seed: int, name: str) -> dict[str, list[Example]]:
    """Set a fraction of `rows` aside for each split in `fractions`; what stays is `train`. All in the order of `rows`.

    A split gets the rounded fraction of all rows, at least one; equal rows go together, so that no row that is learned
    is measured too, and may make it larger. `name` is what messages call the rows. Raises StageError (DATA_INVALID)
    when a split, or train, would be empty.
    """
    prints = [_fingerprint(row, seed) for row in rows]
    sizes = Counter(prints)
    home: dict[bytes, str] = {}
    # Rows ordered by a hash are in a random order that doesn't depend on the file's.
    order = iter(sorted(sizes))
    for split, fraction in fractions.items():
        wanted, count = max(1, round(len(rows) * fraction)), 0
        while count < wanted and (mark := next(order, None)) is not None:
            home[mark] = split
            count += sizes[mark]
    found: dict[str, list[Example]] = {split: [] for split in ("train", *fractions)}
    for row, mark in zip(rows, prints, strict=True):
        found[home.get(mark, "train")].append(row)
    if empty := [split for split, content in found.items() if not content]:
        raise StageError(Outcome.DATA_INVALID, _too_few(empty[0], fractions, sizes, name))
    return found


def _too_few(empty: str, fractions: dict[str, float], sizes: Counter[bytes], name: str) -> str:
    cuts = " and ".join(f"dataset.{split}.fraction {fraction:g}" for split, fraction in fractions.items())
    rows = "1 row" if sizes.total() == 1 else f"{sizes.total()} rows"
    differ = "1 differs" if len(sizes) == 1 else f"{len(sizes)} differ"
    same = "" if len(sizes) == sizes.total() else f", of which {differ} (equal rows stay together)"
    return (
        f"{cuts} can't be cut from the {rows} of {name}{same}: nothing is left for {empty}. Add rows, lower the "
        "fraction, or give the split a source of its own."
    )


def _fingerprint(row: Example, seed: int) -> bytes:
    """Orders rows at random; equal rows have equal ones."""
    return hashlib.sha256(f"{seed}\n".encode() + row.line).digest()
