"""What a plan costs and moves, estimated from what was remembered and what is defined."""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions.intervals import ALWAYS
from feature_definitions.language import Feature, FeatureService, Join, TrainingSet
from feature_definitions.planning import cost, plan
from feature_definitions.records import PastRuns, TileRecord
from tests.feature_definitions.planning.test_plan import LAST_PAYMENT, PAYMENTS, STATIC, all_done, changed, day, one_day, spend, statuses

if TYPE_CHECKING:
    from feature_definitions.language import FeatureGroup
    from feature_definitions.planning.plan import GroupPlan


def work(group: FeatureGroup, *days: int) -> GroupPlan:
    """A plan of some days."""
    found = [plan.IntervalStatus(group.name, 1, one_day(n), "MISSING", ()) for n in days]
    return plan.GroupPlan(group, 1, tuple(found))


HISTORY = [changed(day(n), revision=1) for n in range(1, 21)]
"""Every day has events, all of one ingest."""


def dates(*days: int) -> frozenset[date]:
    return frozenset(date(2026, 1, n) for n in days)


def test_without_tiles_the_events_of_the_windows_and_closing_rows_are_read_each_date_once() -> None:
    assert cost.reads(work(spend(), 9), tiles={}, revisions=HISTORY) == cost.Reads(dates(7, 8, 9), dates())
    assert cost.reads(work(spend(), 9, 10, 20), tiles={}, revisions=HISTORY).events == dates(7, 8, 9, 10, 18, 19, 20)
    assert cost.reads(work(spend()), tiles={}, revisions=HISTORY) == cost.Reads(dates(), dates())


def test_tiles_stand_for_events_that_did_not_change_since_they_were_built() -> None:
    tiles = {date(2026, 1, n): TileRecord(1, frozenset({"a"})) for n in range(1, 9)}
    assert cost.reads(work(spend(), 9), tiles=tiles, revisions=HISTORY) == cost.Reads(dates(9), dates(7, 8))
    late = [*HISTORY, changed(day(7, 3), revision=2)]
    assert cost.reads(work(spend(), 9), tiles=tiles, revisions=late) == cost.Reads(dates(7, 9), dates(8))


def test_a_lifetime_is_read_from_the_first_event_on() -> None:
    group = spend(Feature("n", "count", windows=("1d", "lifetime")))
    tiles = {date(2026, 1, n): TileRecord(1, frozenset({"a"})) for n in range(1, 9)}
    assert cost.reads(work(group, 9), tiles=tiles, revisions=HISTORY) == cost.Reads(dates(9), dates(*range(1, 9)))
    assert cost.reads(work(group, 9), tiles={}, revisions=()) == cost.Reads(dates(), dates())


def test_a_group_without_windows_reads_the_events_of_its_intervals() -> None:
    assert cost.reads(work(LAST_PAYMENT, 9), tiles={}, revisions=HISTORY) == cost.Reads(dates(9), dates())
    static = plan.GroupPlan(STATIC, 1, (plan.IntervalStatus("planes", 1, ALWAYS, "MISSING", ()),))
    assert cost.reads(static, tiles={}, revisions=HISTORY) == cost.Reads(frozenset({date(1970, 1, 1)}), dates())


@pytest.mark.parametrize(
    ("past", "intervals", "expected"),
    [
        ([(1, 10.0), (11, 20.0)], 1, 10.0),
        ([(1, 10.0), (11, 20.0)], 21, 30.0),
        ([(1, 10.0), (1, 14.0)], 1, 12.0),
        ([(10, 20.0)], 5, 20.0),
        ([(10, 20.0)], 30, 60.0),
        ([(1, 30.0), (10, 10.0)], 100, 20.0),
        ([(1, 10.0)], 0, 0.0),
        ([], 3, None),
    ],
    ids=["like one", "beyond", "their mean", "a smaller one", "in proportion", "more never takes less", "nothing", "no run yet"],
)
def test_the_seconds_of_a_run_are_told_by_past_runs(past: list[tuple[int, float]], intervals: int, expected: float | None) -> None:
    runs = [PastRuns(size, 1, spent) for size, spent in past]
    assert cost.seconds(runs, intervals) == (None if expected is None else pytest.approx(expected))


@given(st.lists(st.tuples(st.integers(1, 400), st.floats(0.1, 1e4)), min_size=1, max_size=30), st.integers(1, 1000))
def test_runs_of_one_size_tell_together_what_each_of_them_tells(past: list[tuple[int, float]], intervals: int) -> None:
    each = [PastRuns(size, 1, spent) for size, spent in past]
    sizes = {size: [spent for other, spent in past if other == size] for size, _ in past}
    together = [PastRuns(size, len(spent), sum(spent)) for size, spent in sizes.items()]
    assert cost.seconds(together, intervals) == pytest.approx(cost.seconds(each, intervals), rel=1e-6, abs=1e-6)


class Reading(SimpleNamespace):
    """A group that reads others, as far as an estimate looks at it."""


def catalog(**more: Any) -> Any:
    """Two groups, two services, a training set of each; `sums` reads `spend`, and `trend` reads `sums`."""
    one, other = FeatureService("one", joins=(Join(spend()),)), FeatureService("other", joins=(Join(LAST_PAYMENT),))
    sums = Reading(name="sums", inputs=(spend(),))
    transforms = {"trend": Reading(name="trend", inputs=(sums,)), "sums": sums, "apart": Reading(name="apart", inputs=(PAYMENTS,))}
    training_sets = {name: TrainingSet(name, PAYMENTS, service) for name, service in (("churn", one), ("fraud", other))}
    return SimpleNamespace(services={"one": one, "other": other}, training_sets=training_sets, transforms=transforms)


def test_what_reads_a_group_is_out_of_date_after_it_also_by_way_of_others() -> None:
    found = cost.stale(catalog(), "spend", built=["churn", "one", "fraud", "elsewhere"], online={"spend": True, "last_payment": False})
    assert found == cost.Stale(("trend", "sums"), ("churn", "one"), online=True)


def test_what_was_never_built_or_synced_is_not_out_of_date() -> None:
    found = cost.stale(catalog(), "last_payment", built=["churn"], online={"spend": True})
    assert found == cost.Stale((), (), online=False)


def test_an_estimate_of_a_real_plan_counts_its_intervals() -> None:
    found = tuple(statuses(spend(), all_done(spend(), [5])).values())
    due = plan.materialize(spend(), generation=1, found=found, start=None, end=None)
    assert cost.reads(due, tiles={}, revisions=HISTORY).events == dates(4, 5, 6, 7, 8)
