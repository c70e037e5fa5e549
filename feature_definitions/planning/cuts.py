"""Where a training set is cut into parts: pure decisions over counts, so that the same rows are cut alike each time.

Parts are cut along a line of numbers on which every row has a place: its time, or a hash. A cut lies between two places, never between
rows of one place, and is the one nearest to the share that was asked for.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

HASHES = 2**16
"""How many places there are on the line of hashes."""


class Stretch(NamedTuple):
    """A part of a training set: its name, and the places `[first, end)` that it has; None is without a bound."""

    name: str
    first: int | None
    end: int | None


def parts(counts: Mapping[int, int], shares: Mapping[str, float]) -> tuple[Stretch, ...]:
    """The parts, in the order of the shares' names, of rows of which so many are at each place.

    Each cut is where the rows before it are nearest to what the shares say; the earlier one of two that are as near. Without rows
    all cuts are at 0.
    """
    places = sorted(counts)
    before = [0, *accumulate(counts[place] for place in places)]
    cuts = [_cut(places, before, share) for share in [*accumulate(shares.values())][:-1]]
    bounds = [None, *cuts, None]
    return tuple(Stretch(name, first, end) for name, first, end in zip(shares, bounds, bounds[1:], strict=False))


def _cut(places: Sequence[int], before: Sequence[int], share: float) -> int:
    """The first place behind the cut; `before` are the rows before each place, and all of them last."""
    if not places:
        return 0
    wanted = share * before[-1]
    number = min(range(len(before)), key=lambda n: (abs(before[n] - wanted), n))
    return places[number] if number < len(places) else places[-1] + 1
