"""Which rows lie far from all others: a pure rule over the number of rows of each date."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions.intervals import BEGINNING, DAY, MICROSECOND
from feature_definitions.language import Source
from feature_definitions.planning import far
from feature_definitions.planning.far import Aside, Bound

NOW = datetime(2026, 1, 6, 12, tzinfo=UTC)
WEEK = {date(2026, 1, 1) + n * DAY: 5 for n in range(5)}
PAYMENTS = Source("payments", columns={"amount": "double", "at": "timestamp"}, event_timestamp="at")


def source(since: str | None = None, until: str | None = None) -> Source:
    return Source("payments", columns={"at": "timestamp"}, event_timestamp="at", since=since, until=until)


def first(rows: dict[date, int]) -> date | None:
    found = far.bound(PAYMENTS, rows=rows, now=NOW).first
    return None if found == BEGINNING else found.date()


@pytest.mark.parametrize("sentinel", [date.min, date(1701, 11, 27), date(1900, 1, 1), date(1970, 1, 1), date(2024, 1, 1)])
def test_a_few_rows_more_than_a_year_before_all_others_lie_far(sentinel: date) -> None:
    assert first({sentinel: 3, **WEEK}) == date(2026, 1, 1)


def test_several_of_them_lie_far_one_by_one() -> None:
    assert first({date.min: 8, date(1900, 1, 1): 1, date(1970, 1, 1): 11, date(1970, 1, 2): 1, **WEEK}) == date(2026, 1, 1)


def test_a_date_within_a_year_of_the_others_does_not() -> None:
    assert first({date(2024, 12, 31): 1, **WEEK}) is None
    assert first({date(2024, 12, 30): 1, **WEEK}) == date(2026, 1, 1)


def test_a_pilot_year_stays() -> None:
    pilot = {date(2020, 1, 1) + n * DAY: 3 for n in range(4)}
    assert first({**pilot, **WEEK}) is None


def test_as_many_rows_as_all_that_follow_do_not_lie_far() -> None:
    assert first({date(2020, 1, 1): 25, **WEEK}) is None
    assert first({date(2020, 1, 1): 24, **WEEK}) == date(2026, 1, 1)


def test_what_is_alone_is_not_far_from_anything() -> None:
    assert first({date(1970, 1, 1): 1}) is None
    assert first({}) is None
    assert first({date(1970, 1, 1): 0, **WEEK}) is None


def test_since_takes_the_place_of_the_rule() -> None:
    rows = {date(1970, 1, 1): 1, **WEEK}
    assert far.bound(source(since="1970-01-01"), rows=rows, now=NOW).first == datetime(1970, 1, 1, tzinfo=UTC)
    assert far.bound(source(since="2026-01-02T06:00:00Z"), rows=rows, now=NOW).first == datetime(2026, 1, 2, 6, tzinfo=UTC)


def test_rows_end_a_day_after_now_or_at_until() -> None:
    assert far.bound(PAYMENTS, rows={}, now=NOW) == Bound(BEGINNING, NOW + DAY + MICROSECOND)
    assert far.bound(source(until="2027-01-01"), rows={}, now=NOW).last == datetime(2027, 1, 1, tzinfo=UTC)


def test_a_bound_holds_its_first_instant_and_not_its_last() -> None:
    bound = Bound(datetime(2026, 1, 1, tzinfo=UTC), NOW)
    assert (bound.holds(bound.first), bound.holds(bound.last)) == (True, False)
    assert (bound.cuts(date(2026, 1, 1)), bound.cuts(date(2026, 1, 6)), bound.cuts(date(2026, 1, 5))) == (False, True, False)


def test_reasons_say_what_to_write() -> None:
    read, first_date = Bound(datetime(2026, 1, 1, tzinfo=UTC), NOW + DAY), date(2026, 1, 1)
    rows = {date(1970, 1, 1): 2, date(2026, 3, 1): 1}
    assert Aside(PAYMENTS, rows, read, first_date).reasons == {
        date(1970, 1, 1): '2 rows of 1970-01-01 lie 20,454 days before all others; write since="1970-01-01" if they are meant',
        date(2026, 3, 1): (
            '1 row of 2026-03-01 lies more than a day after now: taken when their time has come, or write until="2026-03-02" '
            "if they are meant"
        ),
    }
    assert Aside(source(since="2000-01-01", until="2026-02-01"), rows, read, first_date).reasons == {
        date(1970, 1, 1): '2 rows of 1970-01-01 lie before since="2000-01-01"; write an earlier one if such dates are meant',
        date(2026, 3, 1): '1 row of 2026-03-01 lies at or after until="2026-02-01"; write a later one if such dates are meant',
    }


def test_no_until_is_named_by_which_the_last_date_of_all_would_be_read() -> None:
    aside = Aside(PAYMENTS, {date.max: 1}, Bound(BEGINNING, NOW + DAY), None)
    assert aside.reasons == {date.max: "1 row of 9999-12-31 lies more than a day after now: taken when their time has come"}


def test_many_dates_beyond_are_said_at_once() -> None:
    rows = {date(2027, 1, 1) + n * DAY: 2 for n in range(30)} | {date.max: 1}
    aside = Aside(PAYMENTS, rows, Bound(BEGINNING, NOW + DAY), None)
    assert aside.summary == {"rows of 31 dates from 2027-01-01 to 9999-12-31 lie more than a day after now": 61}


def _oracle(rows: dict[date, int]) -> date | None:
    """The rule as it is written down: again and again the earliest segment is looked at, and taken away if it lies far."""
    left = {day: n for day, n in rows.items() if n}
    cut = None
    while left:
        segment = [min(left)]
        while later := [day for day in left if segment[-1] < day <= segment[-1] + timedelta(days=366)]:
            segment.append(min(later))
        size, rest = sum(left[day] for day in segment), sum(n for day, n in left.items() if day not in segment)
        if size >= rest or (len(segment) > 3 and size >= 10):
            break
        left = {day: n for day, n in left.items() if day not in segment}
        cut = min(left)
    return cut


days = st.one_of(st.dates(), st.dates(date(2025, 11, 1), date(2026, 1, 6)), st.sampled_from([date.min, date(1970, 1, 1), date.max]))


@given(st.dictionaries(days, st.integers(0, 12), max_size=14))
def test_the_rule_is_the_one_that_is_written_down(rows: dict[date, int]) -> None:
    assert first(rows) == (found if (found := _oracle(rows)) != date.min else None)


@given(st.dictionaries(days, st.integers(1, 12), max_size=14), st.randoms())
def test_the_order_of_dates_does_not_matter(rows: dict[date, int], random: object) -> None:
    shuffled = list(rows.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a Random
    assert first(dict(shuffled)) == first(rows)
