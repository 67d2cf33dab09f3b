"""McNemar's exact test, for scores of 0 and 1: is a lead more than a coin would give?

Called by `intervals`, which lets no lead stand that the test does not confirm, and by `standing`. Pure. If neither of
two contenders is better, each wins half of the rows on which they differ (McNemar 1947; exact, which is the binomial
test: Agresti, "Categorical Data Analysis", section 11.1). The bootstrap takes three wins of 200 rows for certain.
"""

import math
from bisect import bisect_left


def tail(wins: int, tosses: int) -> float:
    """How often a fair coin shows heads at least so often. Whole numbers until the end: nothing is rounded."""
    term = total = math.comb(tosses, wins)
    for heads in range(wins, tosses):
        term = term * (tosses - heads) // (heads + 1)
        total += term
    return float(total / 2**tosses)


def p_value(wins: int, losses: int) -> float:
    """Two-sided: how often a coin is as far from half as this, or farther."""
    return min(1.0, 2 * tail(max(wins, losses), wins + losses))


def smallest_lead(differing: int, confidence: float) -> int:
    """Wins less losses that the test is convinced by, of so many rows that differ; of as many as it needs if few do."""
    doubt = 1 - confidence
    tosses = max(differing, math.ceil(-math.log2(doubt)))
    wins = bisect_left(range(tosses), True, key=lambda heads: tail(heads, tosses) <= doubt)
    return 2 * wins - tosses
