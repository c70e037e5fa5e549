"""Lifetime windows: rows without end, what one late event moves, runs that read tiles alone, and a window that is added later."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from deltalake import DeltaTable

from feature_definitions import Entity, Feature, Source, WindowedGroup, layout
from feature_definitions.intervals import DAY, Interval, split
from feature_definitions.layout import DATE
from feature_definitions.planning import tiling
from feature_registry import explain, open_registry
from feature_registry.explain import Asked, Known
from spark_jobs.compute import windows
from tests import oracle
from tests.offline import Lake, feature_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from pyspark.sql import SparkSession

    from tests.oracle import Event

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
payments = Source(
    "payments", columns={"nr": "int64", "customer": "int64", "at": "timestamp", "amount": "double"}, event_timestamp="at", id=("nr",)
)
customer = Entity("customer", {"customer": "int64"})
recent = Feature("paid", "sum", "amount", windows=("2d",))
ever = Feature("ever", "sum", "amount", windows=("lifetime",))
bounded = WindowedGroup("spend", customer, payments, every="1d", ttl="2d", features=(recent,))
spend = replace(bounded, features=(recent, ever, Feature("since", "time_since_last", windows=("lifetime",))))


def payment(nr: int, customer: int, day: int, amount: float) -> dict[str, Any]:
    return {"nr": nr, "customer": customer, "at": FIRST + (day - 1) * DAY + timedelta(hours=12), "amount": amount}


def day(number: int) -> Interval:
    """The interval of a January day."""
    return Interval(FIRST + (number - 1) * DAY, FIRST + number * DAY)


def days(first: int, last: int) -> list[Interval]:
    return list(split(Interval(day(first).start, day(last).end), DAY))


def by_place(lake: Lake, group: WindowedGroup) -> dict[tuple[int, int], Mapping[str, Any]]:
    """The group's rows by customer and January day."""
    return {(row["customer"], (row["event_timestamp"] - DAY).day): row for row in lake.rows(group)}


def status(lake: Lake, group: WindowedGroup, customer: int, at: datetime) -> str:
    """What a reader is told of a customer at a time."""
    published = lake.published(group)
    known = Known(published.generation, published.publishes, lake.registry.revisions("payments"), published.types.outputs, published.empty)
    return explain.explain(Asked(group, {"customer": customer}, at), known, lake=lake.path).status


@pytest.fixture
def opened(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Lake]]:
    """Opens lakes as of 06:00 after a January day."""
    registries = []

    def open_lake(last: int) -> Lake:
        root: Path = tmp_path_factory.mktemp("lifetime")
        registries.append(open_registry(f"sqlite:///{root / 'registry.db'}"))
        return Lake(spark, root, registries[-1], now=day(last).end + timedelta(hours=6))

    yield open_lake
    for registry in registries:
        registry.close()


def test_a_late_event_makes_stale_every_time_after_it_and_nobody_is_ever_empty_again(opened: Callable[[int], Lake]) -> None:
    lake, events = opened(9), [payment(1, 1, 1, 10.0), payment(2, 2, 3, 5.0)]
    lake.ingest(payments, events)
    lake.materialize(spend)
    before = by_place(lake, spend)
    assert set(before) == {*((1, n) for n in range(1, 10)), *((2, n) for n in range(3, 10))}
    assert (before[1, 9]["ever_lifetime"], before[1, 9]["paid_2d"], before[1, 9]["since_lifetime"]) == (10.0, 0.0, events[0]["at"])
    assert [status(lake, spend, who, lake.now) for who in (1, 2, 3)] == ["PRESENT", "PRESENT", "NOT_FOUND"]

    lake.now += timedelta(hours=1)
    late = payment(3, 1, 6, 1.0)
    lake.ingest(payments, [late])
    assert {i.start.day: s.status for i, s in lake.statuses(spend).items()} == {n: "OK" if n < 6 else "STALE(data)" for n in range(1, 10)}
    lake.materialize(spend)
    expected = [row for interval in days(1, 9) for row in oracle.rows(spend, [*events, late], interval, functions={})]
    assert oracle.differences(spend, expected, feature_rows(spend, lake.rows(spend))) == []
    after = by_place(lake, spend)
    changed = {place for place in after if after[place]["publish_id"] != before[place]["publish_id"]}
    assert changed == {(1, n) for n in range(6, 10)}


def test_who_has_all_events_taken_back_is_empty_from_the_next_time_on_also_where_older_rows_still_stand(
    opened: Callable[[int], Lake],
) -> None:
    lake = opened(3)
    lake.ingest(payments, [payment(1, 1, 1, 10.0), payment(2, 2, 1, 5.0)])
    lake.materialize(spend)
    lake.now += DAY
    lake.ingest(payments, [payment(1, 2, 1, 10.0)])
    assert status(lake, spend, 1, lake.now) == "PRESENT"
    lake.materialize(spend, intervals=[day(4)])
    assert [status(lake, spend, who, lake.now) for who in (1, 2)] == ["EMPTY", "PRESENT"]
    lake.materialize(spend)
    assert by_place(lake, spend)[1, 3]["ever_lifetime"] == 0.0
    assert [status(lake, spend, who, lake.now) for who in (1, 2)] == ["EMPTY", "PRESENT"]


@pytest.mark.parametrize("last", [21, 28])
def test_a_run_after_a_long_history_reads_its_tiles_and_none_of_its_old_events(
    opened: Callable[[int], Lake], monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    monkeypatch.setattr(tiling, "COARSER", 3)
    lake = opened(last)
    events: list[Event] = [payment(10 * n + who, who, n, 0.1 * n + who) for n in range(2, 29) for who in (1, 2) if n % (5 * who) < 3]
    lake.ingest(payments, events)
    lake.materialize(spend, intervals=[day(20)])
    DeltaTable(layout.source_table(lake.path, "payments")).delete(f"{DATE} <= '{day(20).start.date()}'")
    lake.materialize(spend, intervals=days(21, last))
    expected = [row for interval in [day(20), *days(21, last)] for row in oracle.rows(spend, events, interval, functions={})]
    assert oracle.differences(spend, expected, feature_rows(spend, lake.rows(spend))) == []


def test_an_added_lifetime_keeps_what_stands_and_its_rows_belong_to_what_was_published(opened: Callable[[int], Lake]) -> None:
    lake = opened(6)
    lake.ingest(payments, [payment(1, 1, 1, 10.0)])
    first = lake.materialize(bounded).publish_id
    before = by_place(lake, bounded)
    assert set(before) == {(1, 1), (1, 2), (1, 3)}
    lake.now += timedelta(hours=1)
    lake.ingest(payments, [payment(2, 2, 5, 5.0)])
    wider = replace(bounded, features=(recent, ever))
    second = lake.materialize(wider).publish_id
    after = by_place(lake, wider)
    assert {place: row["publish_id"] for place, row in after.items()} == {
        **{(1, n): first for n in range(1, 7)}, (2, 5): second, (2, 6): second,
    }  # fmt: skip
    for place, row in before.items():
        assert {name: after[place][name] for name in ("created_timestamp", "paid_2d")} == {
            name: row[name] for name in ("created_timestamp", "paid_2d")
        }
    assert (after[1, 6]["ever_lifetime"], after[1, 6]["paid_2d"]) == (10.0, 0.0)


def test_a_run_of_one_time_after_ten_years_needs_few_tiles_and_those_of_all_time() -> None:
    needs = windows.needed(spend, [day(9)], first=FIRST - 3650 * DAY)
    count = sum((span.end - span.start) // grain for grain, spans in needs.items() for span in spans)
    assert count < 3 * tiling.COARSER
    assert sorted(needs) == [DAY, 32 * DAY, 1024 * DAY]
    tiles = sorted(tile for grain, spans in needs.items() for span in spans for tile in split(span, grain))
    assert (tiles[0].start <= FIRST - 3650 * DAY, tiles[-1].end) == (True, day(9).end)
    assert {later.start - tile.end for tile, later in pairwise(tiles)} == {timedelta(0)}
