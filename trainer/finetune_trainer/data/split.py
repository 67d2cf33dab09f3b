"""Cuts validation and test from train: by the seed and the rows alone, so that the same data is split the same way.

Called by `prepare`. Pure.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable

from finetune_trainer.contract.outcome import Outcome, StageError


def cut(lines: Iterable[bytes], fractions: dict[str, float], seed: int, name: str) -> list[str]:
    """Set a fraction of the rows aside for each split in `fractions`: which split each is in; what stays is `train`.

    A split gets the rounded fraction of all rows, at least one; equal rows go together, so that no row that is learned
    is measured too, and may make it larger. `lines`: the rows as JSON; `name` is what messages call them. Raises
    StageError (DATA_INVALID) when a split, or train, would be empty.
    """
    prints = [_fingerprint(line, seed) for line in lines]
    sizes = Counter(prints)
    home: dict[bytes, str] = {}
    # Rows ordered by a hash are in a random order that doesn't depend on the file's.
    order = iter(sorted(sizes))
    for split, fraction in fractions.items():
        wanted, count = max(1, round(len(prints) * fraction)), 0
        while count < wanted and (mark := next(order, None)) is not None:
            home[mark] = split
            count += sizes[mark]
    found = [home.get(mark, "train") for mark in prints]
    there = set(found)
    if empty := [split for split in ("train", *fractions) if split not in there]:
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


def _fingerprint(line: bytes, seed: int) -> bytes:
    """Orders rows at random; equal rows have equal ones."""
    return hashlib.sha256(f"{seed}\n".encode() + line).digest()
