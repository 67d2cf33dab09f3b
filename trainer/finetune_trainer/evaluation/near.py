"""Which texts stand among many others, or have a near duplicate there: all of them, without comparing all with all.

Called by `leakage`. Pure. The others stream, up to three times; of them no more is held than counts of one size.

The definition: rows are near duplicates when they share 0.9 (Jaccard) of their shingles, runs of 5 characters, the
rule of Lee et al., "Deduplicating Training Data Makes Language Models Better" (2022), with exact counts in place of
MinHash, and on characters since rows are short. The threshold is ours. Shingles that most of the others have are an
instruction's, which every row repeats: they make none alike, and are left out.

The way there: shingles are counted by a hash of each, as arrays. A hash counts too much at worst, where several have it
or one stands in a row twice, so what is rare by it is rare. Of a text's shingles a near duplicate lacks a tenth at
most, so of a few more than those, its rarest, it has some, which hardly another row has (prefix filtering: Bayardo et
al., "Scaling Up All Pairs Similarity Search", 2007). What is left is compared as the definition says.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, chain
from typing import Any

import numpy
from numpy.typing import NDArray

SIMILARITY = 0.9
SHINGLE = 5
# Of a shorter text one other letter may make another question.
SHORTEST = 20
# In so many of the others, or in half of them, a shingle may stand by chance.
FEW = 10
# Hashes have so many bits, and are made of so many characters at once.
BITS, CHARACTERS = 22, 2**18
# Odd, and its bits look like chance: the golden ratio's.
FACTOR = numpy.uint64(0x9E3779B97F4A7C15)
Numbers = NDArray[Any]


def found(texts: set[str], others: Callable[[], Iterable[str]], count: int) -> tuple[set[str], set[str]]:
    """The texts that stand among `others`, and those of the rest that have a near duplicate there.

    `others`: tells all of them anew, which are `count`.
    """
    same: set[str] = set()
    counts = numpy.zeros(2**BITS, numpy.uint32)
    for batch in _batches(others()):
        same.update(texts.intersection(batch))
        numpy.add.at(counts, _hashes(batch), 1)
    whole = {text: _shingles(text) for text in sorted(texts - same) if len(text) >= SHORTEST}
    common = _common(set().union(*whole.values()), counts, others, count) if whole else set()
    own = {text: shingles - common for text, shingles in whole.items()}
    missing = {text: len(shingles) - int(SIMILARITY * len(shingles)) for text, shingles in own.items()}
    rare = {text: _rarest(shingles, counts)[: 2 * missing[text] + 1] for text, shingles in own.items()}
    first = {shingle for text, shingles in rare.items() for shingle in shingles[: missing[text] + 1]}
    needed = {text: len(shingles) - missing[text] for text, shingles in rare.items()}
    holders: defaultdict[str, list[str]] = defaultdict(list)
    for text, shingles in rare.items():
        for shingle in shingles:
            holders[shingle].append(text)
    near: set[str] = set()
    for other in _having(first, others()) if first else ():
        theirs = _shingles(other) - common
        shared = Counter(chain.from_iterable(holders[shingle] for shingle in holders.keys() & theirs))
        likely = (text for text, both in shared.items() if both >= needed[text])
        near |= {text for text in likely if _alike(own[text], theirs)}
    return same, near


def _common(shingles: set[str], counts: Numbers, others: Callable[[], Iterable[str]], count: int) -> set[str]:
    """Shingles that most of the others have."""
    most = max(FEW, count / 2)
    held = dict.fromkeys(_within(shingles, counts > most), 0)
    for other in others() if held else ():
        # Looking for a few takes less than making all.
        few = SHINGLE * len(held) < len(other)
        for shingle in filter(other.__contains__, held) if few else held.keys() & _shingles(other):
            held[shingle] += 1
    return {shingle for shingle, rows in held.items() if rows > most}


def _rarest(shingles: set[str], counts: Numbers) -> list[str]:
    """The rarest first."""
    ordered = sorted(shingles)
    return [ordered[at] for at in numpy.argsort(counts[_each(ordered)], kind="stable")]


def _having(wanted: Iterable[str], others: Iterable[str]) -> Iterator[str]:
    """Those of the others that may have one of the shingles, and are no shorter than what is compared."""
    there = numpy.zeros(2**BITS, numpy.bool_)
    there[_each(list(wanted))] = True
    for batch in _batches(others):
        starts = list(accumulate((len(other) + 1 for other in batch), initial=0))
        places = numpy.flatnonzero(there[_hashes(batch)])
        for at in numpy.unique(numpy.searchsorted(starts, places, side="right") - 1):
            if len(batch[at]) >= SHORTEST:
                yield batch[at]


def _alike(ours: set[str], theirs: set[str]) -> bool:
    both = len(ours & theirs)
    return both / (len(ours) + len(theirs) - both) >= SIMILARITY


def _within(shingles: Iterable[str], there: Numbers) -> list[str]:
    """The shingles whose hash is marked."""
    ordered = sorted(shingles)
    return [ordered[at] for at in numpy.flatnonzero(there[_each(ordered)])]


def _shingles(text: str) -> set[str]:
    return {text[start : start + SHINGLE] for start in range(len(text) - SHINGLE + 1)}


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts, some at a time."""
    batch: list[str] = []
    length = 0
    for text in texts:
        batch.append(text)
        length += len(text)
        if length >= CHARACTERS:
            yield batch
            batch, length = [], 0
    if batch:
        yield batch


def _each(shingles: list[str]) -> Numbers:
    """The hash of each."""
    return _hashes(shingles)[:: SHINGLE + 1]


def _hashes(texts: list[str]) -> Numbers:
    """The hashes of all shingles of the texts, one character between them: also of what reaches over it."""
    points = numpy.frombuffer("\n".join(texts).encode("utf-32-le", "surrogatepass"), numpy.uint32)
    found = numpy.zeros(max(0, len(points) - SHINGLE + 1), numpy.uint64)
    for at in range(SHINGLE):
        found = (found + points[at : at + len(found)]) * FACTOR
    return found >> numpy.uint64(64 - BITS)
