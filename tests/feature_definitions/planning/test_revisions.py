"""What changed in a span after a revision is what looking at every revision would find."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions.intervals import MICROSECOND, Interval
from feature_definitions.planning.revisions import changes, first_events, history
from feature_definitions.records import Revision

START = datetime(2026, 1, 1, tzinfo=UTC)
INSTANTS = st.integers(0, 40 * 24).map(lambda hours: START + timedelta(hours=hours)) | st.integers(0, 10**6).map(
    lambda n: START + timedelta(days=20, microseconds=n)
)
SPANS = st.tuples(INSTANTS, INSTANTS).filter(lambda ends: ends[0] != ends[1]).map(lambda ends: Interval(min(ends), max(ends)))


def revision(number: int, span: Interval) -> Revision:
    return Revision("payments", number, span.start.date(), span.start, span.end, "hash", 1, START)


@given(st.lists(st.tuples(st.integers(1, 9), SPANS), max_size=12), SPANS, st.integers(0, 9))
def test_exactly_the_later_revisions_that_overlap_a_span_are_found(drawn: list[tuple[int, Interval]], span: Interval, after: int) -> None:
    made = {revision(number, extent) for number, extent in drawn}
    expected = [r for r in made if r.revision > after and r.first < span.end and r.end > span.start]
    assert changes(made).after(span, after) == sorted(expected, key=lambda r: (r.revision, r.first, r.end))


@given(st.lists(st.tuples(st.integers(1, 9), SPANS), max_size=12), SPANS)
def test_the_newest_revision_of_a_span_is_that_of_its_dates(drawn: list[tuple[int, Interval]], span: Interval) -> None:
    def touched(part: Interval) -> tuple[date, date]:
        return part.start.date(), (part.end - MICROSECOND).date()

    first, last = touched(span)
    of_dates = [number for number, extent in drawn if touched(extent)[0] <= last and touched(extent)[1] >= first]
    assert changes(revision(*each) for each in drawn).newest(span.start, span.end) == max(of_dates, default=0)


@pytest.mark.parametrize(("first", "end", "found"), [(0, 1, 0), (1, 2, 1), (2, 3, 0)])
def test_the_ends_are_exact_to_the_microsecond(first: int, end: int, found: int) -> None:
    at = START + timedelta(hours=5)
    known = changes([revision(2, Interval(at + MICROSECOND, at + 2 * MICROSECOND))])
    assert len(known.after(Interval(at + first * MICROSECOND, at + end * MICROSECOND), 1)) == found


def test_a_history_knows_of_each_source_what_its_revisions_say() -> None:
    made = [revision(n, Interval(START + timedelta(days=n), START + timedelta(days=n + 1))) for n in range(1, 5)]
    mine, others = made[::2], [replace(each, source="visits") for each in made[1::2]]
    known = history([*mine, *others])
    assert known.first_events == first_events([*mine, *others]) == {"payments": made[0].first, "visits": made[1].first}
    assert known.changes == {"payments": changes(mine), "visits": changes(others)}
    assert history(known) is known


def test_a_source_without_revisions_has_no_changes() -> None:
    assert changes([]).after(Interval(START, START + timedelta(days=1)), 0) == []
