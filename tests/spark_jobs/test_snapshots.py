"""Dated snapshots: who is gone, since when, and until what is corrected; training, the newest rows and the story of a value agree."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from feature_definitions import Entity, FeatureService, Join, SnapshotGroup, Source
from feature_definitions.intervals import DAY, MICROSECOND, Interval
from feature_registry import explain, open_registry
from feature_registry.explain import Asked, Known
from lake import readable
from lake.arrow_types import arrow_type
from spark_jobs import point_in_time
from spark_jobs.training import build, join
from spark_jobs.training.spine import TrainingRequest, of_frame
from tests import histories, oracle, readers
from tests.histories import History, batches, runs, snapshot_groups
from tests.offline import Lake, World, answer_differences, drawn, eventful, rejecting, told_apart
from tests.oracle import Arrival, live_rows
from tests.readers import disagreements

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

    from tests.oracle import Event

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
contracts = Source(
    "contracts", columns={"customer": "int64", "plan": "string", "taken_at": "timestamp"}, event_timestamp="taken_at", shape="snapshots",
    id=("customer",),
)  # fmt: skip
contract = SnapshotGroup("contract", Entity("customer", {"customer": "int64"}), contracts, columns=("plan",), ttl="2d")
service = FeatureService("plans", joins=(Join(contract),))


def day(number: int) -> Interval:
    """The interval of a January day."""
    return Interval(FIRST + (number - 1) * DAY, FIRST + number * DAY)


def taken(day: int, hour: int = 2, **plans: str) -> list[Event]:
    """A snapshot: each customer's plan, as in `_1="basic"`."""
    at = FIRST + (day - 1) * DAY + timedelta(hours=hour)
    return [{"customer": int(name[1:]), "plan": plan, "taken_at": at} for name, plan in plans.items()]


@pytest.fixture
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    root = tmp_path_factory.mktemp("snapshots")
    with open_registry(f"sqlite:///{root / 'registry.db'}") as registry:
        yield Lake(spark, root, registry, now=day(1).end + timedelta(hours=2))


def story(lake: Lake, group: SnapshotGroup, entity: dict[str, Any], at: datetime) -> explain.Story:
    published = lake.published(group)
    known = Known(
        published.generation, published.publishes, lake.registry.revisions(group.source.name), published.types.outputs, published.empty
    )
    return explain.explain(Asked(group, entity, at), known, lake=lake.path)


def seen(lake: Lake, customer: int, at: datetime) -> tuple[str, object]:
    """What a reader is told of a customer's plan at a time: the status and the plan; training is told the same plan."""
    found = story(lake, contract, {"customer": customer}, at)
    spine = pa.table({"customer": pa.array([customer]), "event_timestamp": pa.array([at], pa.timestamp("us", tz="UTC"))})
    given = of_frame(spine, lake.spark)
    asked = join.JoinAsked(service.joins[0], lake.published(contract), readable.AsOf())
    [row] = join.joined(given.rows, (asked,), at=given.at, spark=lake.spark).collect()
    assert row["contract__plan"] == found.values["plan"]
    return found.status, found.values["plan"]


def test_who_is_not_in_the_next_snapshot_is_gone_and_a_missed_extraction_takes_nobody_away(lake: Lake) -> None:
    lake.ingest(contracts, [*taken(1, _1="basic", _2="gold"), *taken(1, hour=9, _1="basic", _2="silver", _3="gold")])
    lake.materialize(contract)
    first = lake.now
    assert [seen(lake, who, first) for who in (2, 3, 4)] == [("PRESENT", "silver"), ("PRESENT", "gold"), ("NOT_FOUND", None)]
    lake.now = day(2).end + timedelta(hours=2)
    lake.materialize(contract, intervals=[day(2)])
    assert seen(lake, 2, lake.now) == ("PRESENT", "silver")
    lake.now = day(3).end + timedelta(hours=2)
    lake.ingest(contracts, taken(3, _1="basic", _3="basic"))
    lake.materialize(contract)
    assert [seen(lake, who, lake.now) for who in (1, 2, 3)] == [("PRESENT", "basic"), ("EMPTY", None), ("PRESENT", "basic")]
    assert seen(lake, 2, first) == ("PRESENT", "silver")
    assert seen(lake, 1, day(5).end)[0] == "PRESENT"
    assert seen(lake, 1, day(5).end + MICROSECOND) == ("EXPIRED", None)


def test_a_late_row_of_a_snapshot_corrects_it_and_the_same_id_in_another_snapshot_corrects_nothing(lake: Lake) -> None:
    lake.now = day(2).end + timedelta(hours=2)
    lake.ingest(contracts, [*taken(1, _1="basic", _2="gold"), *taken(2, _1="gold")])
    lake.materialize(contract)
    known = lake.now
    assert [seen(lake, who, known) for who in (1, 2)] == [("PRESENT", "gold"), ("EMPTY", None)]
    lake.now += timedelta(hours=1)
    lake.ingest(contracts, taken(2, _2="silver"))
    assert {i.start.day: s.status for i, s in lake.statuses(contract).items()} == {1: "OK", 2: "STALE(data)"}
    lake.materialize(contract)
    assert [seen(lake, 2, at) for at in (known, lake.now)] == [("EMPTY", None), ("PRESENT", "silver")]
    assert sorted((row["customer"], row["event_timestamp"].day, row["plan"]) for row in lake.rows(contract)) == [
        (1, 1, "basic"), (1, 2, "gold"), (2, 1, "gold"), (2, 2, "silver"),
    ]  # fmt: skip


def test_a_snapshot_that_is_taken_back_whole_makes_the_one_before_it_hold_again(lake: Lake) -> None:
    lake.now = day(2).end + timedelta(hours=2)
    right, wrong = taken(1, _1="basic", _2="gold"), taken(2, hour=9, _1="gold", _3="gold")
    lake.plant(contracts, [*right, *wrong])
    lake.materialize(contract)
    known = lake.now
    lake.now += timedelta(hours=1)
    lake.plant(contracts, right)
    lake.materialize(contract, intervals=[day(2)])
    assert [seen(lake, who, known) for who in (1, 2, 3)] == [("PRESENT", "gold"), ("EMPTY", None), ("PRESENT", "gold")]
    assert [seen(lake, who, lake.now) for who in (1, 2, 3)] == [("PRESENT", "basic"), ("PRESENT", "gold"), ("NOT_FOUND", None)]


# ------------------------------------------------------------------------------------------------------------- random histories


@pytest.fixture(scope="module", params=[("1h", 0), ("1d", 1)], ids=["hourly", "daily"])
def world(request: pytest.FixtureRequest, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Random snapshots of one source, corrected and published in three runs, some of them rejected."""
    every, number = request.param
    root = tmp_path_factory.mktemp("snapshots")
    with open_registry(f"sqlite:///{root / 'registry.db'}") as registry:
        lake = Lake(spark, root, registry)
        types = drawn(snapshot_groups(every=every).filter(lambda m: m.group.where is None), number + 3)[-1]
        group = types.group
        made = drawn(batches(group).filter(lambda some: len(some) > 1), 10)
        parts = tuple(tuple(told_apart(n, batch, group.entity.keys) for batch in (*some, ())[:3]) for n, some in enumerate(made))
        done = drawn(runs(group, ingests=3).filter(eventful), number + 1)[-1]
        told = World(lake, types, types, parts, done, {})
        for run in done:
            lake.now = run.now
            lake.plant(group.source, told.events(run.ingested))
            lake.materialize(group, intervals=run.intervals, judge=rejecting(run.rejected))
        yield told


def spine_of(world: World, count: int) -> list[dict[str, Any]]:
    """Rows that ask about entities of every part, about strangers and nobody, where an answer changes or a microsecond beside it."""
    group = world.windowed.group
    events = [event for part in world.parts for batch in part for event in batch]
    entities = sorted({tuple(e[key] for key in group.entity.keys) for e in events}, key=repr)
    strangers = drawn(histories.strangers(group.entity), 1)
    times = histories.moments(History(group, world.windowed.functions, (tuple(events),), world.runs))
    some = random.Random(7)
    asked = [(some.choice([*entities, *strangers]), some.choice(times) + some.choice((-1, 0, 0, 1)) * MICROSECOND) for _ in range(count)]
    return [
        dict(zip(group.entity.keys, key, strict=True)) | {"event_timestamp": at, "number": number} for number, (key, at) in enumerate(asked)
    ]


@pytest.mark.parametrize("mode", ["as_known", "event_time"])
def test_a_training_set_of_random_snapshots_is_the_oracles(world: World, mode: Any) -> None:
    group, rows = world.windowed.group, spine_of(world, 400)
    asked = FeatureService("asked", joins=(Join(group),))
    kinds = {key: arrow_type(kind) for key, kind in group.entity.keys.items()}
    schema = pa.schema(list((kinds | {"event_timestamp": pa.timestamp("us", tz="UTC"), "number": pa.int64()}).items()))
    spine = of_frame(pa.Table.from_pylist(rows, schema=schema), world.lake.spark)
    published = {group.name: world.lake.published(group)}
    built = build.build(spine, TrainingRequest("asked", asked, mode), published=published, context=world.lake.context)
    found = sorted(world.lake.load(built.path), key=lambda row: row["number"])
    publishes = {group.name: world.published(world.windowed)}
    expected = oracle.training_rows(asked, publishes, rows, mode=mode, functions=world.windowed.functions)
    wrong = [f"{w['number']}: {text}" for w, got in zip(expected, found, strict=True) for text in answer_differences(asked, w, got)]
    assert wrong == []
    assert {row[asked.outputs[0]] is None for row in found} == {True, False}


def test_the_story_of_random_snapshots_has_the_oracles_status_values_and_time(world: World) -> None:
    group, publishes, statuses = world.windowed.group, world.published(world.windowed), set()
    for row in spine_of(world, 80):
        entity, at = {name: row[name] for name in group.entity.keys}, row["event_timestamp"]
        told = story(world.lake, group, entity, at)
        answer = oracle.read(group, publishes, key=tuple(entity.values()), t=at, mode="as_known", functions=world.windowed.functions)
        assert told.status == answer.status, row
        assert oracle.value_differences(group, answer.values, told.values) == []
        statuses.add(told.status)
    assert statuses >= {"PRESENT", "EMPTY", "EXPIRED", "NOT_FOUND"}


def test_random_snapshots_are_answered_alike_by_all_who_read_them(world: World) -> None:
    types = world.windowed
    wrong, statuses = disagreements(readers.Asked(world.lake, types.group, world.published(types), types.functions), times=4, entities=8)
    assert wrong == []
    assert len(statuses) > 2


def test_the_newest_rows_say_who_is_gone_by_the_snapshot_that_does_not_have_them(world: World) -> None:
    group, now, publishes = world.windowed.group, world.lake.now, world.published(world.windowed)
    longer = replace(group, ttl="365d")
    found = point_in_time.newest(world.lake.published(group), spark=world.lake.spark, now=now).toArrow().to_pylist()
    statuses = set()
    for row in found:
        answer = oracle.read(longer, publishes, key=tuple(row[key] for key in group.entity.keys), t=now, mode="as_known")
        told = "NOT_FOUND" if row["retracted"] else "PRESENT" if row["empties_at"] is None else "EMPTY"
        assert told == answer.status
        assert row["retracted"] or (row["event_timestamp"] == answer.event_timestamp)
        statuses.add(told)
    assert statuses >= {"PRESENT", "EMPTY"}


def test_the_oracle_takes_an_id_as_one_of_its_snapshot() -> None:
    rows = [*taken(1, _1="basic"), *taken(2, _1="gold"), *taken(2, _1="silver")]
    assert [row["plan"] for row in live_rows(contracts, [Arrival(1, row) for row in rows])] == ["basic", "silver"]
