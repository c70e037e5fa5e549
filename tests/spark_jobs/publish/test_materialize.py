"""One small story of a group: published, rejected, late, corrected, widened and changed; what each step leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from feature_definitions import Entity, Feature, Source, WindowedGroup, at_least, layout
from feature_definitions.intervals import DAY, Interval, iso
from feature_registry import open_registry
from lake import readable
from tests.offline import Lake, rejecting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pyspark.sql import SparkSession

    from feature_definitions.planning.plan import IntervalStatus
    from spark_jobs.publish.group_results import GroupResult

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
payments = Source(
    "payments", columns={"nr": "int64", "customer": "int64", "at": "timestamp", "amount": "double"}, event_timestamp="at", id=("nr",)
)
customer = Entity("customer", {"customer": "int64"})
paid = Feature("paid", "sum", "amount", windows=("1d", "2d"), expect=(at_least(0),))
spend = WindowedGroup("spend", customer, payments, every="1d", ttl="2d", features=(paid,))
wider = replace(spend, features=(paid, Feature("payments", "count", windows=("4d",))))
changed = replace(wider, features=(replace(paid, aggregation="max"), wider.features[1]))


def day(number: int) -> Interval:
    """The interval of a January day."""
    return Interval(FIRST + (number - 1) * DAY, FIRST + number * DAY)


def payment(nr: int, customer: int, day: int, amount: float, hour: int = 12) -> dict[str, Any]:
    return {"nr": nr, "customer": customer, "at": FIRST + (day - 1) * DAY + timedelta(hours=hour), "amount": amount}


@dataclass(frozen=True)
class Moment:
    """What could be seen after one step of the story."""

    statuses: Mapping[int, IntervalStatus]
    rows: Mapping[tuple[int, int], Mapping[str, Any]]
    result: GroupResult | None = None


class Story:
    """The lake of the story, and a moment per step."""

    def __init__(self, lake: Lake) -> None:
        """Begin with an empty lake."""
        self.lake = lake
        self.moments: dict[str, Moment] = {}

    def see(self, name: str, group: WindowedGroup, result: GroupResult | None = None) -> None:
        """Remember what can be seen now."""
        statuses = {interval.start.day: status for interval, status in self.lake.statuses(group).items()}
        rows = {(row["customer"], (row["event_timestamp"] - DAY).day): row for row in self.lake.rows(group)}
        self.moments[name] = Moment(statuses, rows, result)

    def __getitem__(self, name: str) -> Moment:
        """What could be seen after a step."""
        return self.moments[name]


@pytest.fixture(scope="module")
def story(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    root = tmp_path_factory.mktemp("story")
    with open_registry(f"sqlite:///{root / 'registry.db'}") as registry:
        told = Story(Lake(spark, root, registry))
        lake = told.lake
        lake.now = FIRST + 9 * DAY + timedelta(hours=6)
        lake.ingest(payments, [payment(1, 1, 1, 10.0), payment(2, 2, 1, 5.0), payment(3, 1, 2, -25.0), payment(4, 1, 9, 7.0)])
        told.see("before", spend)
        refused = rejecting([day(2)], failed="paid_1d:at_least(0)")
        told.see("published", spend, lake.materialize(spend, judge=refused))
        lake.now += timedelta(hours=1)
        lake.ingest(payments, [payment(3, 1, 2, 25.0), payment(5, 2, 8, 1.0)])
        told.see("late", spend)
        told.see("repaired", spend, lake.materialize(spend))
        told.see("wider before", wider)
        lake.now += timedelta(hours=1)
        lake.materialize(wider)
        told.see("wide", wider)
        told.see("changed before", changed)
        lake.materialize(changed)
        told.see("changed", changed)
        yield told


def states(moment: Moment) -> dict[int, str]:
    return {number: status.status for number, status in moment.statuses.items()}


def test_every_sealed_interval_from_the_first_event_on_is_missing_at_first(story: Story) -> None:
    assert states(story["before"]) == dict.fromkeys(range(1, 10), "MISSING")


def test_a_rejected_interval_is_not_visible_and_says_what_it_failed(story: Story) -> None:
    moment = story["published"]
    assert states(moment)[2] == "REJECTED"
    assert moment.statuses[2].reasons == ("failed paid_1d:at_least(0)",)
    assert moment.statuses[2].publish_id is None
    assert {place[1] for place in moment.rows} == {1, 4, 9}  # day 4 has the closing row of whom the rejected day knows
    assert moment.result is not None
    assert moment.result.rejected == ((day(2), ("paid_1d:at_least(0)",)),)


def test_intervals_of_the_same_run_whose_windows_read_a_rejected_ones_events_wait_for_it(story: Story) -> None:
    assert states(story["published"]) == {n: {2: "REJECTED", 3: "WAITING"}.get(n, "OK") for n in range(1, 10)}


def test_a_day_after_a_rejected_one_is_published_right_before_and_after_the_correction(spark: SparkSession, tmp_path: Path) -> None:
    """Its closing rows have the empty values, whatever the rejected events were; whom they gave one keeps it, still empty."""
    daily = replace(spend, name="daily", features=(replace(paid, windows=("1d",)),))

    def seen() -> dict[tuple[int, int], float]:
        return {(row["customer"], (row["event_timestamp"] - DAY).day): row["paid_1d"] for row in lake.rows(daily)}

    with open_registry(f"sqlite:///{tmp_path / 'registry.db'}") as registry:
        lake = Lake(spark, tmp_path, registry)
        lake.now = FIRST + 4 * DAY + timedelta(hours=6)
        lake.ingest(payments, [payment(1, 1, 1, 10.0), payment(2, 2, 2, -5.0), payment(3, 9, 2, 1.0), payment(4, 1, 3, 7.0)])
        lake.materialize(daily, judge=rejecting([day(2)], failed="paid_1d:at_least(0)"))
        assert [s.status for s in lake.statuses(daily).values()] == ["OK", "REJECTED", "OK", "OK"]
        assert seen() == {(1, 1): 10.0, (1, 3): 7.0, (2, 3): 0.0, (9, 3): 0.0, (1, 4): 0.0}
        lake.now += timedelta(hours=1)
        lake.ingest(payments, [payment(2, 2, 2, 5.0), payment(3, 1, 2, 1.0)])  # customer 9 was a mistake
        assert [s.status for s in lake.statuses(daily).values()] == ["OK", "STALE(data)", "STALE(data)", "OK"]
        lake.materialize(daily)
        assert [s.status for s in lake.statuses(daily).values()] == ["OK"] * 4
        assert seen() == {(1, 1): 10.0, (1, 2): 1.0, (2, 2): 5.0, (1, 3): 7.0, (2, 3): 0.0, (9, 3): 0.0, (1, 4): 0.0}


def test_bad_rows_are_in_quarantine_with_the_check_that_they_failed(story: Story) -> None:
    rows = story.lake.load(layout.quarantine_table(story.lake.path, "spend"))
    assert [(r["customer"], r["paid_1d"], r["failed_expectation"], iso(r["interval_start"])) for r in rows] == [
        (1, -25.0, "paid_1d:at_least(0)", "2026-01-02T00:00:00Z")
    ]


def test_an_empty_interval_is_recorded_and_counts_for_coverage(story: Story) -> None:
    status = story["published"].statuses[6]
    assert (status.status, status.rows) == ("OK", 0)
    assert status.publish_id is not None
    assert not [place for place in story["published"].rows if place[1] == 6]
    published = story.lake.published(wider)
    before_the_ninth = replace(published, publishes=tuple(p for p in published.publishes if p.interval.end <= day(6).end))
    assert readable.covered(before_the_ninth, story.lake.now) == day(6).end


def test_late_events_make_exactly_the_intervals_stale_that_depend_on_them(story: Story) -> None:
    late = {2: "STALE(data)", 3: "MISSING", 4: "STALE(data)", 8: "STALE(data)", 9: "STALE(data)"}
    assert states(story["late"]) == dict.fromkeys(range(1, 10), "OK") | late


def test_only_what_was_due_is_published_again(story: Story) -> None:
    assert states(story["repaired"]) == dict.fromkeys(range(1, 10), "OK")
    result = story["repaired"].result
    assert result is not None
    assert result.published == 5
    assert {n for n, s in story["repaired"].statuses.items() if s.publish_id == result.publish_id} == {2, 3, 4, 8, 9}


def test_rows_that_did_not_change_keep_their_publish_id_and_their_time(story: Story) -> None:
    before, after = story["published"].rows, story["repaired"].rows
    kept = {place for place in before if after[place]["publish_id"] == before[place]["publish_id"]}
    assert kept == {(1, 1), (2, 1), (1, 4), (1, 9)}
    assert all(after[place] == before[place] for place in kept)
    assert after[1, 2]["paid_1d"] == 25.0


def test_the_lakes_records_hold_rejected_and_empty_intervals_and_each_revision(story: Story) -> None:
    ledger = [row for row in story.lake.records("ledger") if row["publish_id"] == story["published"].result.publish_id]  # type: ignore[union-attr]  # it has one
    assert [(r["interval_start"].day, r["state"], r["rows"]) for r in sorted(ledger, key=lambda r: r["interval_start"])] == [
        (1, "PUBLISHED", 2), (2, "REJECTED", 2), (4, "PUBLISHED", 1), (5, "PUBLISHED", 0), (6, "PUBLISHED", 0), (7, "PUBLISHED", 0),
        (8, "PUBLISHED", 0), (9, "PUBLISHED", 1),
    ]  # fmt: skip
    assert next(r for r in ledger if r["state"] == "REJECTED")["failed"] == ["paid_1d:at_least(0)"]
    revisions = sorted((r["revision"], r["date"].day) for r in story.lake.records("revisions"))
    assert revisions == [(1, 1), (1, 2), (1, 9), (2, 2), (2, 8)]


def test_an_added_feature_makes_everything_stale_by_code_in_the_same_generation(story: Story) -> None:
    moment = story["wider before"]
    assert states(moment) == {n: "STALE(data)" if n in (5, 6) else "STALE(code)" for n in range(1, 10)}
    assert all("lacks payments_4d" in status.reasons for status in moment.statuses.values())
    assert {status.generation for status in moment.statuses.values()} == {1}
    assert moment.statuses[1].reasons == ("lacks payments_4d",)


def test_an_added_feature_keeps_publish_ids_and_values_bit_for_bit(story: Story) -> None:
    before, after = story["repaired"].rows, story["wide"].rows
    for place, row in before.items():
        assert {name: repr(after[place][name]) for name in row if name != "empties_at"} == {
            name: repr(row[name]) for name in row if name != "empties_at"
        }, f"{place} changed"
    assert after[1, 2]["payments_4d"] == 2
    assert states(story["wide"]) == dict.fromkeys(range(1, 10), "OK")


def test_rows_that_come_with_a_longer_window_belong_to_the_publish_that_their_interval_had(story: Story) -> None:
    before, after = story["repaired"], story["wide"]
    come = {place: row for place, row in after.rows.items() if place not in before.rows}
    assert set(come) == {(1, 5), (1, 6), (2, 4), (2, 5)}
    assert {place: row["publish_id"] for place, row in come.items()} == {place: before.statuses[place[1]].publish_id for place in come}


def test_a_changed_feature_is_a_new_generation_beside_the_old_one(story: Story) -> None:
    assert set(states(story["changed before"]).values()) == {"MISSING"}
    assert {status.generation for status in story["changed"].statuses.values()} == {2}
    assert story["changed"].rows[1, 2]["paid_2d"] == 25.0
    assert story["wide"].rows[1, 2]["paid_2d"] == 35.0
    assert {(r["customer"], (r["event_timestamp"] - DAY).day): r for r in story.lake.rows(wider)} == story["wide"].rows
