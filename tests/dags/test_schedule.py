"""Which interval is the business of a run."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dags.schedule import KeyRefused, Schedule, schedule_of
from feature_definitions import Entity, Feature, Files, SnapshotGroup, Source, TransformGroup, WindowedGroup
from feature_definitions.intervals import EPOCH, Interval, duration, floor

DAY = timedelta(days=1)
CADENCES = [timedelta(seconds=s) for s in range(300, 86_401) if 86_400 % s == 0]


def schedule(every: str = "1d", *, ready_after: str = "1h", restate_within: str = "3d", is_static: bool = False) -> Schedule:
    return Schedule("spend", duration(every), duration(ready_after), duration(restate_within), is_static)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("every", "cron"),
    [
        ("1d", "0 0 * * *"),
        ("24h", "0 0 * * *"),
        ("1h", "0 * * * *"),
        ("6h", "0 */6 * * *"),
        ("5m", "*/5 * * * *"),
        ("20m", "*/20 * * * *"),
        ("90m", "0 */3 * * *"),
        ("450s", "0 * * * *"),
    ],
)
def test_a_group_runs_at_the_ends_of_its_intervals(every: str, cron: str) -> None:
    assert schedule(every).cron == cron


@pytest.mark.parametrize(("every", "begins"), [("1d", "2026-01-06"), ("1h", "2026-01-05T01:00"), ("90m", "2026-01-05T03:00")])
def test_the_first_run_of_a_day_begins_when_its_first_interval_ends(every: str, begins: str) -> None:
    assert schedule(every).first_run(date(2026, 1, 5)) == at(begins)


@pytest.mark.parametrize("cadence", CADENCES)
def test_a_run_covers_whole_intervals_and_a_day_whole_runs(cadence: timedelta) -> None:
    step = Schedule("spend", cadence, timedelta(0), timedelta(0), is_static=False).step
    assert not step % cadence
    assert not DAY % step
    assert step % timedelta(hours=1) == timedelta(0) or not timedelta(hours=1) % step


def test_the_date_that_is_named_is_the_date_that_is_published() -> None:
    day = Interval(at("2013-01-06"), at("2013-01-07"))
    assert schedule().interval(at("2013-01-06"), run_after=at("2026-01-01T12:34")) == day


def test_an_hour_that_is_named_is_that_hour() -> None:
    assert schedule("1h").interval(at("2013-01-06T05:00"), run_after=at("2026-01-01")).start == at("2013-01-06T05:00")


def test_a_run_of_now_takes_the_newest_sealed_interval() -> None:
    yesterday, before = (schedule().interval(at(now), run_after=at("2013-01-08")) for now in ("2013-01-07T01:00", "2013-01-07T00:59"))
    assert yesterday == Interval(at("2013-01-06"), at("2013-01-07"))
    assert before == Interval(at("2013-01-05"), at("2013-01-06"))


def test_a_run_without_a_logical_date_goes_by_when_it_was_asked_for() -> None:
    assert schedule("1h").interval(None, run_after=at("2013-01-06T05:30")).start == at("2013-01-06T03:00")


@given(
    cadence=st.sampled_from(CADENCES),
    logical_date=st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    ready_after=st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3)),
)
def test_every_run_covers_one_step_on_the_grid(cadence: timedelta, logical_date: datetime, ready_after: timedelta) -> None:
    plan = Schedule("spend", cadence, ready_after, timedelta(0), is_static=False)
    interval = plan.interval(logical_date, run_after=logical_date)
    assert interval.end - interval.start == plan.step
    assert floor(interval.start, plan.step) == interval.start
    if interval.start != logical_date:
        assert timedelta(0) <= logical_date - plan.sealed_at(interval) < plan.step


def test_a_scheduled_run_also_restates_what_late_events_may_have_changed() -> None:
    run = Interval(at("2013-01-06"), at("2013-01-07"))
    assert schedule(restate_within="3d").restated(run) == Interval(at("2013-01-03"), at("2013-01-07"))


def test_what_is_restated_begins_on_the_grid() -> None:
    run = Interval(at("2013-01-06T05:00"), at("2013-01-06T06:00"))
    assert schedule("1h", restate_within="90m").restated(run).start == at("2013-01-06T03:00")


def test_an_interval_is_sealed_when_its_source_is_ready() -> None:
    assert schedule(ready_after="2h").sealed_at(Interval(at("2013-01-06"), at("2013-01-07"))) == at("2013-01-07T02:00")


def test_a_static_source_is_never_waited_for() -> None:
    interval = Interval(at("2013-01-06"), at("2013-01-07"))
    assert schedule(is_static=True).sealed_at(interval) <= interval.end


@pytest.mark.parametrize(("every", "ready_after", "runs"), [("1d", "0s", 1), ("1d", "1h", 2), ("1h", "1h", 2), ("5m", "1h", 13)])
def test_a_run_that_waits_for_its_source_does_not_keep_the_next_ones_from_starting(every: str, ready_after: str, runs: int) -> None:
    assert schedule(every, ready_after=ready_after).most_runs == runs


def test_a_schedule_is_what_the_definition_asks_for() -> None:
    customer = Entity("customer", keys={"customer_id": "int64"})
    columns = {"customer_id": "int64", "paid_at": "timestamp"}
    payments = Source("payments", Files("data/*.csv"), columns=columns, event_timestamp="paid_at", timezone="UTC", ready_after="2h")
    group = WindowedGroup(
        "pace", customer, payments, every="6h", ttl="1d", restate_within="2d", features=(Feature("n", "count", windows=("6h",)),)
    )
    assert schedule_of(group) == Schedule("pace", timedelta(hours=6), timedelta(hours=2), 2 * DAY, is_static=False)


def test_snapshots_that_are_dated_have_a_schedule_like_any_other() -> None:
    columns = {"customer_id": "int64", "plan": "string", "at": "timestamp"}
    contracts = Source("contracts", columns=columns, event_timestamp="at", shape="snapshots", id=("customer_id",))
    group = SnapshotGroup("contract", Entity("customer", {"customer_id": "int64"}), contracts, columns=("plan",), ttl="2d")
    assert schedule_of(group) == Schedule("contract", DAY, timedelta(hours=1), 3 * DAY, is_static=False)


def test_a_static_group_has_a_static_schedule() -> None:
    customer = Entity("customer", keys={"customer_id": "int64"})
    people = Source("people", columns={"customer_id": "int64", "city": "string"}, id=("customer_id",), shape="static")
    group = SnapshotGroup("home", customer, people, columns=("city",), assume_always_known=True)
    assert schedule_of(group).is_static
    assert schedule_of(group).interval(EPOCH, run_after=EPOCH) == Interval(EPOCH, EPOCH + DAY)


@pytest.mark.parametrize(("every", "key"), [("1d", "2013-01-06"), ("1h", "2013-01-06T05:00"), ("5m", "2013-01-06T05:25")])
def test_a_partition_key_names_the_start_of_an_interval(every: str, key: str) -> None:
    plan = schedule(every)
    interval = plan.of_key(key)
    assert (plan.key(interval), interval.end - interval.start) == (key, plan.step)
    assert plan.interval(at("2001-01-01"), run_after=at("2001-01-01"), key=key) == interval


@pytest.mark.parametrize(("every", "key"), [("1d", "2013-1"), ("1d", "2013-01-06T05:00"), ("1h", "2013-01-06T05:10"), ("1d", "today")])
def test_a_key_that_names_no_interval_is_refused_with_one_that_does(every: str, key: str) -> None:
    with pytest.raises(KeyRefused, match=r"names no interval of spend; write the time at which one begins, like 2026-01-05"):
        schedule(every).of_key(key)


def test_a_span_is_called_by_its_first_and_last_day() -> None:
    assert schedule().named(Interval(at("2013-01-06"), at("2013-01-07"))) == "2013-01-06"
    assert schedule().named(Interval(at("2013-01-06"), at("2013-01-09"))) == "2013-01-06 to 2013-01-08"


def test_a_group_that_reads_groups_waits_for_them() -> None:
    customer = Entity("customer", keys={"customer_id": "int64"})
    columns = {"customer_id": "int64", "paid_at": "timestamp"}
    payments = Source("payments", Files("data/*.csv"), columns=columns, event_timestamp="paid_at", timezone="UTC")
    pace = WindowedGroup("pace", customer, payments, ttl="2d", features=(Feature("n", "count", windows=("1d",)),))
    sql = "SELECT customer_id, max(n_1d) AS level FROM pace GROUP BY customer_id"
    level = TransformGroup("level", customer, (pace,), lookback="1d", ttl="2d", schema={"level": "int64"}, sql=sql)
    assert (schedule_of(pace).reads, schedule_of(level).reads) == ((), ("pace",))
