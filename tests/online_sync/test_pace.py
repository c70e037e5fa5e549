"""A job sends as much at once as a store needs that is so far away, and rests where others are kept waiting."""

from __future__ import annotations

import pytest

from online_sync.pace import Pace, Told


@pytest.mark.parametrize(("first", "calls"), [(50e-6, 2), (200e-6, 2), (1e-3, 4), (4e-3, 16), (1.0, 25)])
def test_the_longer_an_answer_is_on_its_way_the_more_calls_are_under_way(first: float, calls: int) -> None:
    assert Pace().after(Told(500, 2.0, first)).under_way == calls


def test_the_best_time_of_a_key_is_kept() -> None:
    assert Pace().after(Told(500, 0.005, 1e-4)).after(Told(500, 0.01, 1e-4)).best == pytest.approx(1e-5)


@pytest.mark.parametrize(("took", "seconds"), [(0.005, 0.0), (0.014, 0.0), (0.02, 0.0075), (9.0, 0.02)])
def test_the_rest_is_half_of_what_others_seem_to_have_kept_us_waiting(took: float, seconds: float) -> None:
    assert Pace(2, 10e-6).rest(Told(500, took, 0.001)) == pytest.approx(seconds)
