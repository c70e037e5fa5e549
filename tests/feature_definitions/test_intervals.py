"""Instants, durations and half-open intervals."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions.intervals import (
    ALWAYS,
    DAY,
    EPOCH,
    MICROSECOND,
    Interval,
    ceil,
    duration,
    floor,
    instant,
    iso,
    merge,
    micros,
    parse_instant,
    spell,
    split,
    utc_date,
)

instants = st.integers(-(2 * 10**15), 7 * 10**15).map(instant)
cadences = st.sampled_from(["5m", "10m", "15m", "1h", "6h", "12h", "1d"]).map(duration)
hours = st.tuples(st.integers(0, 60), st.integers(1, 20)).map(
    lambda pair: Interval(EPOCH + timedelta(hours=pair[0]), EPOCH + timedelta(hours=sum(pair)))
)


def at(text: str) -> datetime:
    return parse_instant(text)


def test_an_interval_is_written_with_both_ends_in_utc() -> None:
    zone = timezone(timedelta(hours=2))
    assert str(Interval(datetime(2026, 1, 5, 2, tzinfo=zone), at("2026-01-06"))) == "2026-01-05T00:00:00Z..2026-01-06T00:00:00Z"


@pytest.mark.parametrize("hours", [0, -1])
def test_an_interval_ends_after_it_starts(hours: int) -> None:
    with pytest.raises(ValueError, match="ends before it starts"):
        Interval(EPOCH, EPOCH + timedelta(hours=hours))


def test_an_interval_has_a_zone_at_both_ends() -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001  # the point of the test
    for start, end in ((naive, EPOCH), (EPOCH, naive)):
        with pytest.raises(ValueError, match="time without zone; write times in UTC"):
            Interval(start, end)


def test_intervals_are_ordered_by_start_then_end() -> None:
    one, two, three = Interval(EPOCH, EPOCH + DAY), Interval(EPOCH, EPOCH + 2 * DAY), Interval(EPOCH + MICROSECOND, EPOCH + DAY)
    assert sorted([three, two, one]) == [one, two, three]


def test_always_is_the_day_of_the_epoch() -> None:
    assert str(ALWAYS) == "1970-01-01T00:00:00Z..1970-01-02T00:00:00Z"


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("90s", 90), ("5m", 300), ("36h", 129_600), ("7d", 604_800), ("2w", 1_209_600), (" 1d ", 86_400)]
)
def test_a_duration_is_a_whole_number_and_a_unit(text: str, seconds: int) -> None:
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "d", "7", "7 d", "1.5h", "-1d", "1D", "1month", "1d1h", "12345678d", 7, None])
def test_what_is_no_duration_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; write a whole number and a unit of s, m, h, d or w, like '5m' or '7d'"):
        duration(text)


@given(st.integers(0, 10**6))
def test_a_span_is_spelled_so_that_it_is_read_back(seconds: int) -> None:
    assert duration(spell(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59, "59s"), (60, "1m"), (5400, "90m"), (86_400, "1d"), (604_800, "7d")])
def test_a_span_is_spelled_in_its_largest_unit(seconds: int, text: str) -> None:
    assert spell(timedelta(seconds=seconds)) == text


@given(instants)
def test_microseconds_are_exact_both_ways(moment: datetime) -> None:
    assert instant(micros(moment)) == moment


def test_microseconds_before_the_epoch_are_negative() -> None:
    assert micros(EPOCH - MICROSECOND) == -1
    assert micros(datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == micros(at("2026-01-01"))


@given(instants)
def test_an_instant_is_written_in_utc_so_that_it_is_read_back(moment: datetime) -> None:
    assert iso(moment).endswith("Z")
    assert parse_instant(iso(moment)) == moment


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2026-01-05", "2026-01-05T00:00:00Z"),
        ("2026-01-05T06:00:00", "2026-01-05T06:00:00Z"),
        ("2026-01-05T06:00:00Z", "2026-01-05T06:00:00Z"),
        ("2026-01-05T06:00:00+02:00", "2026-01-05T04:00:00Z"),
        (" 2026-01-05 06:00:00.000001 ", "2026-01-05T06:00:00.000001Z"),
    ],
)
def test_a_date_or_a_time_is_read_as_utc_unless_it_has_a_zone(text: str, written: str) -> None:
    assert iso(parse_instant(text)) == written


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "2026-02-30", "05.01.2026"])
def test_what_is_no_date_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="is not a date; write it like 2026-01-05 or 2026-01-05T06:00:00Z"):
        parse_instant(text)


@given(instants, cadences)
def test_the_grid_points_around_an_instant_are_nearest(moment: datetime, every: timedelta) -> None:
    below, above = floor(moment, every), ceil(moment, every)
    assert below <= moment <= above
    assert moment - below < every
    assert above - moment < every
    assert (below - EPOCH) % every == (above - EPOCH) % every == timedelta(0)
    assert (below == above) == (moment == below)


def test_the_grid_holds_midnight_for_every_cadence_that_divides_a_day() -> None:
    midnight = at("2026-03-29")
    assert all(floor(midnight, duration(every)) == midnight == ceil(midnight, duration(every)) for every in ("5m", "1h", "6h", "1d"))
    assert floor(midnight - MICROSECOND, DAY) == midnight - DAY
    assert ceil(midnight + MICROSECOND, DAY) == midnight + DAY


@given(instants, cadences, st.integers(1, 50))
def test_splitting_tiles_a_span_without_gaps(moment: datetime, every: timedelta, count: int) -> None:
    start = floor(moment, every)
    parts = list(split(Interval(start, start + count * every), every))
    assert len(parts) == count
    assert merge(parts) == (Interval(start, start + count * every),)
    assert all(one.end == other.start for one, other in pairwise(parts))


@given(st.lists(hours, max_size=8))
def test_merging_keeps_the_instants_and_leaves_gaps_between(intervals: list[Interval]) -> None:
    def covered(parts: tuple[Interval, ...] | list[Interval]) -> set[int]:
        return {h for part in parts for h in range((part.start - EPOCH) // timedelta(hours=1), (part.end - EPOCH) // timedelta(hours=1))}

    merged = merge(intervals)
    assert covered(merged) == covered(intervals)
    assert all(one.end < other.start for one, other in pairwise(merged))


def test_the_partition_of_an_instant_is_its_date_in_utc() -> None:
    assert utc_date(datetime(2026, 1, 5, 1, tzinfo=timezone(timedelta(hours=2)))) == date(2026, 1, 4)
    assert utc_date(at("2026-01-05") - MICROSECOND) == date(2026, 1, 4)
