"""Which groups share an exchange, and that each row of a spine finds what a plain loop finds, however its tasks were cut."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import write_deltalake

from feature_definitions import Entity, Join, ObservationGroup, Source, layout
from feature_definitions.intervals import DAY, Interval, micros
from feature_definitions.records import Publish
from feature_definitions.sql.column_types import column_types_of
from lake.readable import AsOf, Published
from spark_jobs.training import hot, join
from spark_jobs.training.hot import CutKey
from spark_jobs.training.join import Extent, Family, Held, JoinAsked, joined, passes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

FIRST, DAYS, TTL = datetime(2026, 1, 1, tzinfo=UTC), 6, timedelta(days=2)
HOUR = timedelta(hours=1)
KEYS = {"clicks": ("user",), "prices": ("item",), "baskets": ("user", "item"), "trips": ("start", "goal"), "loans": ("user",)}
ROWS = {"clicks": 900, "prices": 30, "baskets": 900, "trips": 100, "loans": 600}
ON = {"start": "item", "goal": "item"}


@dataclass(frozen=True)
class World:
    """Rows of groups, by name, with their tables; `spine` has a user, an item and a time."""

    groups: dict[str, Published]
    rows: dict[str, list[dict[str, Any]]]
    spine: list[dict[str, Any]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One user and one item have most of the rows; hours are so few that many times are equal."""
    draw, folder = random.Random(7), tmp_path_factory.mktemp("join")  # the same rows each time

    def row() -> dict[str, Any]:
        user = draw.choice([*["u0"] * 12, *(f"u{n}" for n in range(12)), *["u0u"]])
        items = {name: draw.choice([1, 1, 1, 2, 3, 11]) for name in ("item", "start", "goal")}
        return {"user": user, **items, "at": FIRST + draw.randrange(DAYS * 24) * HOUR}

    rows = {}
    for name, keys in KEYS.items():
        found = {tuple(one[key] for key in (*keys, "at")): one for one in (row() for _ in range(ROWS[name]))}
        rows[name] = [
            {**one, "value": None if draw.random() < 0.1 else n, "gone": name == "loans" and draw.random() < 0.7}
            for n, one in enumerate(found.values())
        ]  # fmt: skip
    spine = [{**row(), "label": n} for n in range(500)]
    spine[::50] = [{**one, "user": None} for one in spine[::50]]
    return World({name: _published(name, rows[name], folder) for name in KEYS}, rows, spine)


def _published(name: str, rows: list[dict[str, Any]], folder: Path) -> Published:
    kinds = {"user": "string", "item": "int64", "start": "int64", "goal": "int64"}
    source = Source(f"{name}_events", columns={**kinds, "at": "timestamp", "value": "int64"}, event_timestamp="at")
    entity = Entity("_".join(KEYS[name]), {key: kinds[key] for key in KEYS[name]})
    group = ObservationGroup(name, entity, source, columns=("value",), ttl=f"{TTL.days}d")
    at = pa.array([one["at"] for one in rows], pa.timestamp("us", tz="UTC"))
    fixed = {
        "event_timestamp": at, "created_timestamp": at, "publish_id": pa.array(["p1"] * len(rows)),
        "empties_at": pa.nulls(len(rows), pa.timestamp("us", tz="UTC")), "held": pa.array([False] * len(rows)),
        "value": pa.array([one["value"] for one in rows], pa.int64()), "date": at.cast(pa.date32()),
    }  # fmt: skip
    whole = pa.table({**{key: pa.array([one[key] for one in rows]) for key in KEYS[name]}, **fixed})
    gone = pa.array([one["gone"] for one in rows])
    _write(layout.feature_table(str(folder / "lake"), name, 1), whole.filter(pc.invert(gone)))
    if any(gone.to_pylist()):
        before = whole.filter(gone).append_column("retracted", pa.array([False] * len(whole.filter(gone))))
        tombstones = before.drop(["publish_id", "retracted"]).append_column("publish_id", pa.array(["p2"] * len(before)))
        tombstones = tombstones.append_column("retracted", pa.array([True] * len(before))).select(before.column_names)
        _write(layout.history_table(str(folder / "lake"), name, 1), pa.concat_tables([before, tombstones]))
    days = [Interval(FIRST + n * DAY, FIRST + (n + 1) * DAY) for n in range(DAYS)]
    publishes = tuple(Publish("p1", name, 1, day, day.start, "MODELLED") for day in days)
    publishes += tuple(Publish("p2", name, 1, day, day.end, "MODELLED") for day in days)
    return Published(group, 1, str(folder / "lake"), column_types_of(group), publishes)


def _write(path: str, rows: pa.Table) -> None:
    Path(path).mkdir(parents=True)
    write_deltalake(path, rows, partition_by=["date"])


def expected(world: World, name: str, asked: dict[str, Any]) -> int | None:
    """The value of the newest row of the same keys that was not taken back by then, unless it is too old."""
    at = asked["at"]
    seen = [
        one for one in world.rows[name]
        if one["at"] <= at and all(one[key] == asked[ON.get(key, key)] for key in KEYS[name])
        and not (one["gone"] and at >= one["at"].replace(hour=0) + DAY)
    ]  # fmt: skip
    newest = max(seen, key=lambda one: one["at"], default=None)
    found: int | None = None if newest is None or at - newest["at"] > TTL else newest["value"]
    return found


def answers(world: World, spark: SparkSession, *names: str) -> list[tuple[Any, ...]]:
    """The label of each row that comes out, with the values of the groups."""
    schema = pa.schema([("user", pa.string()), ("item", pa.int64()), ("at", pa.timestamp("us", tz="UTC")), ("label", pa.int64())])
    rows = spark.createDataFrame(pa.Table.from_pylist(world.spine, schema=schema))
    groups = [world.groups[name] for name in names]
    joins = [Join(each.group, on={key: column for key, column in ON.items() if key in each.group.entity.keys}) for each in groups]
    asked = [JoinAsked(join, each, AsOf()) for join, each in zip(joins, groups, strict=True)]
    extent = Extent(micros(FIRST), micros(FIRST + DAYS * DAY), len(world.spine))
    found = joined(rows, asked, at="at", spark=spark, extent=extent).toArrow().to_pylist()
    return sorted((row["label"], *[row[f"{name}__value"] for name in names]) for row in found)


def truth(world: World, *names: str) -> list[tuple[Any, ...]]:
    return [(asked["label"], *[expected(world, name, asked) for name in names]) for asked in world.spine]


# --------------------------------------------------------------------------------------------------------------------- the tests


def family(*keys: str) -> Family:
    return Family(tuple((key, "int64", 0) for key in keys), ())


USER, ITEM, BOTH = family("user"), family("item"), family("item", "user")


def shared(rows: list[int], *, spine: int, least: int = 2) -> list[tuple[Family, tuple[Family, ...], int]]:
    held = [Held(each) for each in rows]
    return [(one.spread, one.copied, one.parts) for one in passes([USER, ITEM, BOTH], held, spine=spine, width=10, least=least)]


def test_groups_of_few_rows_come_along_in_the_exchange_of_the_most() -> None:
    assert shared([10_000, 500_000, 50_000], spine=100_000) == [(ITEM, (USER, BOTH), 2)]


def test_rows_whose_copies_are_more_than_the_spine_have_an_exchange_of_their_own() -> None:
    assert shared([10_000, 500_000, 50_001], spine=100_000) == [(BOTH, (), 2), (ITEM, (USER,), 2)]
    assert shared([10_000, 2_000_000, 50_000], spine=100_000, least=20) == [(USER, (), 2), (BOTH, (), 2), (ITEM, (), 20)]


def test_few_rows_are_spread_over_few_tasks_whatever_spark_would_do() -> None:
    assert [each[-1] for each in shared([6_000, 250_000, 900_000], spine=50_000, least=200)] == [1, 3, 10]


def test_a_task_holds_no_more_rows_than_have_place_in_it() -> None:
    assert [one.parts for one in passes([USER], [Held(50_000_000)], spine=0, width=10, least=2)] == [29]
    lists = Held(2_000_000, long=12_000_000_000)
    assert [one.parts for one in passes([USER], [lists], spine=0, width=10, least=2)] == [45]


def test_where_rows_are_not_known_each_family_has_an_exchange() -> None:
    assert [one.spread for one in passes([USER, ITEM], None, spine=0, width=10, least=2)] == [USER, ITEM]
    assert passes([], [], spine=5, width=10, least=2) == []


def test_groups_that_come_along_and_those_of_other_keys_give_what_a_plain_loop_finds(world: World, spark: SparkSession) -> None:
    names = ("clicks", "prices", "baskets", "trips", "loans")
    assert answers(world, spark, *names) == truth(world, *names)


def test_of_a_spine_of_few_rows_only_the_groups_rows_of_its_keys_are_exchanged(world: World, spark: SparkSession) -> None:
    few = replace(world, spine=[one for one in world.spine if one["user"] in ("u3", "u0u", None)])
    assert [one.only_asked for one in passes([USER, ITEM], [Held(401), Held(400)], spine=100, width=10, least=2)] == [False, True]
    assert answers(few, spark, "clicks", "loans") == truth(few, "clicks", "loans")


@pytest.fixture
def cuts_made(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[CutKey]]:
    """The cuts of keys, which are cut where they have more than ten rows or so."""
    found, before, cut = list[CutKey](), str(spark.conf.get("spark.sql.shuffle.partitions")), hot.cut

    def kept(*given: Any, **how: Any) -> hot.CutKeys:
        made = cut(*given, **how)
        found.extend(made.values())
        return made

    monkeypatch.setattr(hot, "cut", kept)
    monkeypatch.setattr(hot, "OF_A_TASK", 40)
    monkeypatch.setattr(join, "_ROWS_OF_A_TASK", 1)
    spark.conf.set("spark.sql.shuffle.partitions", "5")
    yield found
    spark.conf.set("spark.sql.shuffle.partitions", before)


def test_keys_that_are_cut_give_what_whole_ones_give(world: World, spark: SparkSession, cuts_made: list[CutKey]) -> None:
    assert answers(world, spark, "clicks", "loans") == truth(world, "clicks", "loans")
    assert len(cuts_made) >= 13
    assert max(len(one.begins) for one in cuts_made) >= 20


@pytest.mark.parametrize("sampled", [1, 3])
def test_a_sample_of_few_rows_changes_where_keys_are_cut_and_no_answer(
    sampled: int, world: World, spark: SparkSession, cuts_made: list[CutKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hot, "_SAMPLED", sampled)
    assert answers(world, spark, "clicks", "loans", "baskets") == truth(world, "clicks", "loans", "baskets")
    assert max(len(one.begins) for one in cuts_made) >= 10


def test_a_feature_more_costs_few_calls_of_java(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = tuple(f"f{number}" for number in range(60))
    source = Source("wide_events", columns={"item": "int64", "at": "timestamp", **dict.fromkeys(names, "double")}, event_timestamp="at")
    group = ObservationGroup("wide", Entity("thing", {"item": "int64"}), source, columns=names, ttl="2d")
    at = pa.array([FIRST], pa.timestamp("us", tz="UTC"))
    own = {"event_timestamp": at, "created_timestamp": at, "publish_id": ["p1"], "held": [False], "date": at.cast(pa.date32())}
    emptied = pa.nulls(1, pa.timestamp("us", tz="UTC"))
    _write(
        layout.feature_table(str(tmp_path), "wide", 1), pa.table({"item": [1], **own, "empties_at": emptied, **{n: [0.5] for n in names}})
    )
    publish = Publish("p1", "wide", 1, Interval(FIRST, FIRST + DAY), FIRST, "MODELLED")
    published = Published(group, 1, str(tmp_path), column_types_of(group), (publish,))
    spine = spark.createDataFrame(pa.table({"item": [1], "at": at}))
    gateway, calls = spark.sparkContext._gateway, list[object]()
    assert gateway is not None
    client = gateway._gateway_client
    send = client.send_command

    def sent(*given: Any, **how: Any) -> Any:
        if not str(given[0]).startswith("m"):  # what Python has no more use for is given back whenever it collects
            calls.append(None)
        return send(*given, **how)

    monkeypatch.setattr(client, "send_command", sent)

    def counted(features: tuple[str, ...]) -> int:
        before = len(calls)
        joined(spine, [JoinAsked(Join(group, features), published, AsOf())], at="at", spark=spark, extent=Extent(0, micros(FIRST), 1))
        return len(calls) - before

    counted(names[:1])
    few, many = counted(names[:10]), counted(names)
    assert few <= many <= few + 50 * 2
