"""Where training sets are cut: near to the shares, the same each time, and never between rows of one place."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions.planning import cuts
from feature_definitions.planning.cuts import Stretch

SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}


def part_of(place: int, cut: Sequence[Stretch]) -> str:
    """The part that a place is in."""
    return next(part.name for part in reversed(cut) if part.first is None or place >= part.first)


def unfinished(at: int, horizon: int, cut: Sequence[Stretch]) -> bool:
    """Whether what is labelled at a time is decided only in a later part: its horizon ends after the part does."""
    mine = next(part for part in reversed(cut) if part.first is None or at >= part.first)
    return mine.end is not None and at + horizon > mine.end


def counted(counts: dict[int, int], shares: dict[str, float] = SHARES) -> dict[str, int]:
    """The rows of each part."""
    cut = cuts.parts(counts, shares)
    return {name: sum(n for place, n in counts.items() if part_of(place, cut) == name) for name in shares}


def test_a_hundred_rows_are_cut_as_the_shares_say() -> None:
    assert counted(dict.fromkeys(range(100), 1)) == {"train": 70, "validation": 15, "test": 15}
    assert cuts.parts(dict.fromkeys(range(100), 1), SHARES) == (
        Stretch("train", None, 70),
        Stretch("validation", 70, 85),
        Stretch("test", 85, None),
    )


def test_rows_of_one_place_stay_together() -> None:
    assert counted({5: 100}) == {"train": 100, "validation": 0, "test": 0}
    assert counted({1: 60, 2: 40}) == {"train": 60, "validation": 40, "test": 0}


def test_no_rows_are_cut_too() -> None:
    assert counted({}) == dict.fromkeys(SHARES, 0)


def test_what_is_decided_at_the_cut_is_decided_and_a_microsecond_later_is_not() -> None:
    cut = cuts.parts(dict.fromkeys(range(100), 1), SHARES)
    assert [unfinished(at, 10, cut) for at in (60, 61, 69, 70, 75, 76, 85, 99)] == [
        False, True, True, False, False, True, False, False,
    ]  # fmt: skip


@given(st.dictionaries(st.integers(-1000, 1000), st.integers(1, 50), max_size=60), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_no_other_cut_is_nearer_to_the_shares(counts: dict[int, int], weights: list[int]) -> None:
    shares = {f"part{n}": weight / sum(weights) for n, weight in enumerate(weights)}
    cut = cuts.parts(counts, shares)
    assert [part.name for part in cut] == list(shares)
    assert (cut[0].first, cut[-1].end) == (None, None)
    assert all(one.end == other.first for one, other in pairwise(cut))
    total = sum(counts.values())
    possible = {sum(n for place, n in counts.items() if place < bound) for bound in (*counts, max(counts, default=0) + 1)} | {0}
    for part, share in zip(cut, accumulate(shares.values()), strict=True):
        if part.end is not None:
            found = sum(n for place, n in counts.items() if place < part.end)
            assert abs(found - share * total) == pytest.approx(min(abs(each - share * total) for each in possible))
    assert sum(counted(counts, shares).values()) == total
