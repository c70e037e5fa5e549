"""A job sends as much at once as keeps the server at work, near or far, and rests where others are kept waiting."""

from __future__ import annotations

import pytest

from online_sync.pace import Pace, Told

SERVICE = 50e-6
"""Seconds that the server works on one call of twenty keys."""


def round_of(pace: Pace, trip: float, service: float = SERVICE) -> Told:
    """How a round of 25 calls goes at a server that is so far away: it works, or waits for the next call."""
    each = max(service, (trip + service) / pace.under_way)
    return Told(500, 25, trip + service + 24 * each, trip + service)


@pytest.mark.parametrize(("trip", "calls"), [(0.0, 2), (60e-6, 4), (500e-6, 12), (5e-3, 25)], ids=["at once", "near", "far", "very far"])
def test_calls_under_way_come_to_be_as_many_as_the_trip_takes(trip: float, calls: int) -> None:
    pace = Pace()
    for _ in range(40):
        pace = pace.after(round_of(pace, trip))
    assert abs(pace.under_way - calls) <= 1
    assert round_of(pace, trip).took <= 1.3 * (trip + 25 * SERVICE) or calls == 25


def test_a_round_of_one_call_says_nothing_of_how_many_may_be_under_way() -> None:
    assert Pace(7).after(Told(3, 1, 0.1, 0.1)).under_way == 7


@pytest.mark.parametrize(("took", "seconds"), [(0.005, 0.0), (0.014, 0.0), (0.02, 0.0075), (9.0, 0.02)])
def test_the_rest_is_half_of_what_others_seem_to_have_kept_us_waiting(took: float, seconds: float) -> None:
    assert Pace(2, 10e-6).rest(Told(500, 25, took, 0.001)) == pytest.approx(seconds)
