"""Rows as they were observed are those that the oracle finds in its plain way."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from feature_definitions import Entity, ObservationGroup, SnapshotGroup, Source
from feature_definitions.intervals import ALWAYS, Interval, merge, split
from spark_jobs.compute.rows import observed
from tests import histories, oracle
from tests.histories import MIDNIGHT
from tests.offline import drawn, feature_rows, live_frame, many_events, records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import SparkSession

    from tests.oracle import Event

pytestmark = pytest.mark.usefixtures("compiled")
HISTORIES = 20


def computed(
    spark: SparkSession, group: ObservationGroup | SnapshotGroup, events: Sequence[Event], intervals: Sequence[Interval]
) -> list[dict[str, Any]]:
    return records(observed(group, live_frame(spark, group.source, events), spans=merge(intervals)))


def test_observed_rows_are_the_oracles(spark: SparkSession) -> None:
    for types in drawn(histories.observation_groups(), 4)[1:]:
        group, events = types.group, many_events(types.group, HISTORIES)
        grid = tuple(split(histories.span(group), group.cadence))
        holes = (*grid[:3], *grid[5:])
        expected = [row for each in holes for row in oracle.rows(group, events, each, functions=types.functions)]
        found = computed(spark, group, events, holes)
        assert oracle.differences(group, expected, feature_rows(group, found)) == []
        assert {row["interval_start"] for row in found} <= {interval.start for interval in holes}
        assert found


def test_static_rows_are_the_newest_of_each_entity_at_1970(spark: SparkSession) -> None:
    source = Source(
        "shops", columns={"shop": "int64", "n": "int64", "city": "string", "seen": "timestamp"}, shape="static", id=("shop", "n"),
        arrived_at="seen",
    )  # fmt: skip
    group = SnapshotGroup("shop_city", Entity("shop", {"shop": "int64"}), source, ("city",), assume_always_known=True, where="city <> 'x'")
    rows = [(1, 1, "a", 2), (1, 2, "b", 1), (2, 1, "c", None), (2, 2, "d", None), (3, 1, None, 1), (4, 1, "x", 1), (None, 1, "e", 1)]
    events: list[Event] = [
        {"shop": s, "n": n, "city": c, "seen": None if hour is None else MIDNIGHT + timedelta(hours=hour)} for s, n, c, hour in rows
    ]
    found = computed(spark, group, events, [ALWAYS])
    expected = oracle.static_rows(group, events, functions={"city <> 'x'": lambda e: None if e["city"] is None else e["city"] != "x"})
    assert oracle.differences(group, expected, feature_rows(group, found)) == []
    assert {(row["shop"], row["city"]) for row in found} == {(1, "a"), (2, "d")}


def test_of_two_observations_at_one_time_the_one_that_arrived_last_holds(spark: SparkSession) -> None:
    columns = {"meter": "string", "at": "timestamp", "x": "double", "seen": "timestamp", "nr": "int64"}
    source = Source("readings", columns=columns, event_timestamp="at", timezone="UTC", id=("nr",), arrived_at="seen")
    group = ObservationGroup("newest", Entity("meter", {"meter": "string"}), source, ("x",), ttl="2d")
    events: list[Event] = [
        {"meter": "a", "at": MIDNIGHT, "x": x, "seen": seen, "nr": nr}
        for x, seen, nr in ((1.0, None, 9), (2.0, MIDNIGHT, 1), (None, MIDNIGHT, 2), (4.0, MIDNIGHT, 0))
    ]
    found = computed(spark, group, events, [Interval(MIDNIGHT, MIDNIGHT + timedelta(days=1))])
    assert [(row["x"], row["event_timestamp"]) for row in found] == [(None, MIDNIGHT)]
