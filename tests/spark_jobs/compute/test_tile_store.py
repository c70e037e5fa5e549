"""Stored tiles: built once, shared, rebuilt where the source changed, and never trusted further than they were recorded."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from deltalake import DeltaTable

from feature_definitions import Entity, Feature, Source, WindowedGroup, layout
from feature_definitions.intervals import DAY, Interval, duration, split
from feature_definitions.planning import tiling
from feature_definitions.sql.column_types import column_types_of
from feature_registry import open_registry
from spark_jobs.compute import windows
from tests.offline import Lake, live_frame, records

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession

    from tests.oracle import Event

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
payments = Source(
    "payments", columns={"nr": "int64", "customer": "int64", "at": "timestamp", "amount": "double"}, event_timestamp="at", id=("nr",)
)
customer = Entity("customer", {"customer": "int64"})
features = (
    Feature("paid", "sum", "amount", windows=("1d", "9d")),
    Feature("sd", "stddev", "amount", windows=("9d",)),
    Feature("last", "last", "amount", windows=("7d",), where="amount > 2"),
    Feature("kinds", "count_distinct", "amount", windows=("3d",)),
)
spend = WindowedGroup("spend", customer, payments, every="1d", ttl="2d", features=features)
LAST = Interval(FIRST + 19 * DAY, FIRST + 20 * DAY)


def events(days: range) -> list[Event]:
    """Three payments a day: of two customers daily, of a third every fifth day."""
    made: list[Event] = []
    for day in days:
        for who in (1, 2, *((3,) if day % 5 == 0 else ())):
            at = FIRST + (day - 1) * DAY + timedelta(hours=who * 7)
            made.append({"nr": day * 10 + who, "customer": who, "at": at, "amount": 0.1 * day + who})
    return made


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Iterator[Lake]:
    with open_registry(f"sqlite:///{tmp_path / 'registry.db'}") as registry:
        yield Lake(spark, tmp_path, registry, now=FIRST + 25 * DAY)


def table(lake: Lake, grain: str = "1d") -> str:
    return layout.tile_table(lake.path, "payments", ("customer",), DAY, duration(grain))


def version(path: str) -> int:
    return DeltaTable(path).version()


def files(path: str) -> dict[date, set[str]]:
    """The data files of each date."""
    found: dict[date, set[str]] = {}
    for name in DeltaTable(path).file_uris():
        found.setdefault(date.fromisoformat(name.split("date=")[1][:10]), set()).add(name)
    return found


def values(lake: Lake, group: WindowedGroup) -> set[str]:
    """The published values, to the last bit."""
    names = ("customer", "event_timestamp", "empties_at", *group.outputs)
    return {repr([row[name] for name in names]) for row in lake.rows(group)}


def of_events(spark: SparkSession, group: WindowedGroup, made: list[Event], intervals: list[Interval]) -> set[str]:
    frame = windows.rows(group, live_frame(spark, payments, made), spans=intervals, types=column_types_of(group))
    names: tuple[Any, ...] = ("customer", "event_timestamp", "empties_at", *group.outputs)
    return {repr([row[name] for name in names]) for row in records(frame)}


def test_tiles_are_built_once_and_only_what_changed_is_built_again(lake: Lake, spark: SparkSession) -> None:
    lake.plant(payments, events(range(1, 20)))
    lake.materialize(spend, intervals=list(split(Interval(FIRST, LAST.start), DAY)))
    built, at = files(table(lake)), version(table(lake))
    assert sorted(built) == [FIRST.date() + n * DAY for n in range(19)]

    late = [*events(range(1, 20)), {"nr": 999, "customer": 2, "at": FIRST + 11 * DAY, "amount": 1e6}]
    lake.ingest(payments, late)
    lake.materialize(replace(spend, name="again"), intervals=[LAST])
    rebuilt = files(table(lake))
    assert version(table(lake)) == at + 1
    assert {day for day in built if built[day] != rebuilt[day]} == {date(2026, 1, 12)}
    assert values(lake, replace(spend, name="again")) == of_events(spark, spend, late, [LAST])


def test_a_group_of_other_windows_builds_no_tiles(lake: Lake) -> None:
    lake.plant(payments, events(range(1, 20)))
    lake.materialize(spend, intervals=[LAST])
    at = version(table(lake))
    mean = Feature("mean", "mean", "amount", windows=("2d", "8d"))
    lake.materialize(WindowedGroup("other", customer, payments, every="1d", ttl="2d", features=(mean,)), intervals=[LAST])
    assert version(table(lake)) == at


def test_tiles_that_were_taken_away_or_never_recorded_are_built_again(lake: Lake, spark: SparkSession) -> None:
    made = events(range(1, 20))
    lake.plant(payments, made)
    lake.materialize(spend, intervals=[LAST])
    path = lake.root / "lake" / "tiles"
    path.rename(lake.root / "elsewhere")
    lake.materialize(replace(spend, name="again"), intervals=[LAST])
    assert values(lake, replace(spend, name="again")) == of_events(spark, spend, made, [LAST])
    assert not lake.registry.tiles(table(lake), table_id="another table")


def test_coarse_tiles_give_the_same_bits_as_fine_ones(lake: Lake, spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    made = events(range(1, 20))
    fine = of_events(spark, spend, made, [LAST])
    monkeypatch.setattr(tiling, "COARSER", 2)
    lake.plant(payments, made)
    lake.materialize(spend, intervals=[LAST])
    assert values(lake, spend) == fine == of_events(spark, spend, made, [LAST])
    assert version(table(lake, "4d")) == 1  # the empty table, then all tiles in one commit
    assert sum(map(len, files(table(lake, "2d")).values())) > 0


def test_coarse_tiles_of_fine_ones_that_lack_a_groups_states_are_not_taken_for_that_groups(
    lake: Lake, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, days = events(range(1, 20)), [Interval(FIRST + n * DAY, FIRST + (n + 1) * DAY) for n in range(20)]
    monkeypatch.setattr(tiling, "COARSER", 2)
    lake.plant(payments, made)
    lake.materialize(spend, intervals=[days[11]])
    least = Feature("least", "min", "amount", windows=("9d",))
    other = WindowedGroup("other", customer, payments, every="1d", ttl="2d", features=(least,))
    lake.materialize(spend, intervals=[days[12]], sharing=[other])
    lake.materialize(other, intervals=[days[12]])
    assert values(lake, other) == of_events(spark, other, made, [days[12]])
