"""Cuts validation and test from train: by the seed and the rows alone, so that the same data is split the same way.

Called by `prepare`. Pure.
"""

import hashlib
import json
from typing import Any

from finetune_trainer.outcome import Outcome, StageError

Row = dict[str, Any]


def fingerprint(row: Row, seed: int) -> str:
    """A number, in hex, that orders rows at random; equal rows have equal ones."""
    canonical = json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(f"{seed}\0{canonical}".encode()).hexdigest()


def cut(rows: list[Row], fraction: float, seed: int, name: str) -> tuple[list[Row], list[Row]]:
    """(the rows that stay, the fraction that is set aside), both in the order of the file.

    At least one row is set aside. Equal rows go together, so that no row that is learned is measured too. Raises
    StageError when nothing would stay, or every row is the same.
    """
    prints = [fingerprint(row, seed) for row in rows]
    wanted = max(1, round(len(rows) * fraction))
    aside: set[str] = set()
    count = 0
    sizes: dict[str, int] = {}
    for mark in prints:
        sizes[mark] = sizes.get(mark, 0) + 1
    for mark in sorted(sizes):
        if count >= wanted:
            break
        aside.add(mark)
        count += sizes[mark]
    stay = [row for row, mark in zip(rows, prints, strict=True) if mark not in aside]
    if not stay:
        raise StageError(
            Outcome.DATA_INVALID,
            f"Setting aside {fraction:g} of {len(rows)} rows for {name} leaves none to train on; add rows, or give "
            f"dataset.{name} a source of its own.",
        )
    return stay, [row for row, mark in zip(rows, prints, strict=True) if mark in aside]
