"""Parameters in pairs: each value of one with each value of every other, in as few cases as that takes."""

from collections.abc import Iterable
from itertools import combinations, product

import pytest


def pairwise(**axes: Iterable[object]) -> pytest.MarkDecorator:
    """Parametrizes a test with all combinations of values; those that add no new pair of values are left to `make prove`.

    Greedy: in the order of the product, whatever shows a pair of values for the first time and, of those, most pairs first.
    """
    names = list(axes)
    everything = list(product(*(list(values) for values in axes.values())))

    def pairs(row: tuple[object, ...]) -> set[tuple[int, object, int, object]]:
        return {(a, row[a], b, row[b]) for a, b in combinations(range(len(row)), 2)}

    left, chosen = set().union(*map(pairs, everything)), set()
    while left:
        best = max(everything, key=lambda row: len(pairs(row) & left))
        chosen.add(best)
        left -= pairs(best)
    return pytest.mark.parametrize(
        names, [row if row in chosen else pytest.param(*row, marks=pytest.mark.proof) for row in everything]
    )
