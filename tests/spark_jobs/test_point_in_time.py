"""Training reads are the oracle's for random histories, publishes and spines: in both modes, strict and not, two prefixes of one group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pytest
from hypothesis import strategies as st
from pyspark.sql import functions as F

from feature_definitions import FeatureService, Join
from feature_definitions.intervals import micros
from feature_definitions.reading import age
from lake import readable
from lake.arrow_types import arrow_type
from lake.readable import AsOf
from spark_jobs import point_in_time
from spark_jobs.training import build
from spark_jobs.training.spine import Spine, TrainingRequest, of_frame
from tests import oracle
from tests.histories import History, spines
from tests.offline import answer_differences, drawn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import SparkSession

    from tests.offline import World
    from tests.oracle import Publish

Row = dict[str, Any]


def service_of(world: World) -> FeatureService:
    """Both groups, each joined twice: by its own keys and by those of another customer."""
    other = {key: f"other_{key}" for key in world.windowed.group.entity.keys}
    groups = [types.group for types in world.meanings]
    return FeatureService(
        "everything", joins=tuple(Join(g) for g in groups) + tuple(Join(g, prefix=f"other_{g.name}", on=other) for g in groups)
    )


def spine_of(world: World) -> list[Row]:
    """Rows that ask about every history where an answer changes; some stand there twice."""
    keys = tuple(world.windowed.group.entity.keys)
    asked: list[Row] = []
    for number, part in enumerate(world.parts):
        types = world.meanings[number % 2]
        asked += drawn(spines(History(types.group, types.functions, part, world.runs)), 3)[-1]
    others = [{f"other_{key}": row[key] for key in keys} for row in [*asked[7:], *asked[:7]]]
    rows = [row | other | {"number": number} for number, (row, other) in enumerate(zip(asked, others, strict=True))]
    return rows + rows[:5] + rows[-3:]


def spine_table(world: World, rows: Sequence[Row]) -> pa.Table:
    kinds = {key: arrow_type(kind) for key, kind in world.windowed.group.entity.keys.items()}
    others = {f"other_{key}": kind for key, kind in kinds.items()}
    columns = kinds | others | {"event_timestamp": pa.timestamp("us", tz="UTC"), "number": pa.int64()}
    return pa.Table.from_pylist(rows, schema=pa.schema(list(columns.items())))


def publishes_of(world: World) -> dict[str, tuple[Publish, ...]]:
    return {types.group.name: world.published(types) for types in world.meanings}


@pytest.mark.parametrize(
    ("number", "mode", "source"),
    [(0, "as_known", None), (1, "as_known", None), (0, "as_known", "elsewhere"), (1, "event_time", None)],
    ids=["hourly", "daily", "hourly_not_strict", "daily_in_event_time"],
)
def test_a_training_set_is_the_oracles(
    worlds: Sequence[World], number: int, mode: Literal["as_known", "event_time"], source: str | None
) -> None:
    world = worlds[number]
    service, rows = service_of(world), spine_of(world)
    functions = dict(world.windowed.functions) | dict(world.observed.functions)
    given = of_frame(spine_table(world, rows), world.lake.spark)
    spine = Spine(given.rows, given.at, source)
    groups = {types.group.name: world.lake.published(types.group) for types in world.meanings}
    built = build.build(spine, TrainingRequest("asked", service, mode), published=groups, context=world.lake.context)
    found = sorted(world.lake.load(built.path), key=lambda row: row["number"])
    expected = oracle.training_rows(service, publishes_of(world), rows, mode=mode, spine_source=source, functions=functions)
    expected.sort(key=lambda row: row["number"])
    assert built.rows == len(found) == len(rows) > 60
    wrong = []
    for want, got in zip(expected, found, strict=True):
        assert {name: got[name] for name in rows[0]} == {name: want[name] for name in rows[0]}
        wrong += [f"{want['number']} at {want['event_timestamp']}: {text}" for text in answer_differences(service, want, got)]
    assert wrong == []
    varied = [output for output in service.outputs if {row[output] is None for row in found} == {True, False}]
    assert len(varied) >= 2


def test_the_newest_rows_are_those_that_a_read_gives_now(worlds: Sequence[World]) -> None:
    for world in worlds:
        for types in world.meanings:
            group, now, published = types.group, world.lake.now, world.published(types)
            found = point_in_time.newest(world.lake.published(group), spark=world.lake.spark, now=now).toArrow().to_pylist()
            for row in found:
                key = tuple(row[name] for name in group.entity.keys)
                answer = oracle.read(group, published, key=key, t=now, mode="as_known", functions=types.functions)
                expected = None if row["retracted"] else row["event_timestamp"]
                if answer.status != "EXPIRED":
                    assert answer.event_timestamp == expected
                if answer.status == "PRESENT":
                    assert oracle.value_differences(group, answer.values, row) == []
            keys = {tuple(row[name] for name in group.entity.keys) for row in found}
            assert len(keys) == len(found)
            assert keys >= {row.key for publish in published for row in publish.rows if row.at <= now}


def test_coverage_is_the_newest_visible_interval_end_at_every_time(worlds: Sequence[World]) -> None:
    for world in worlds:
        publishes = world.published(world.windowed)
        for mode in ("as_known", "event_time"):
            steps = readable.coverage(world.lake.published(world.windowed.group), AsOf(mode))
            times = sorted({at for p in publishes for at in (p.known_from, p.interval.end)})
            for at in times:
                visible = [p.interval.end for p in publishes if p.interval.end <= at and (mode == "event_time" or p.known_from <= at)]
                reached = [end for seen, end in steps if seen <= micros(at)]
                assert (reached[-1] if reached else None) == (micros(max(visible)) if visible else None)


def test_an_age_is_the_same_double_in_spark_and_in_python(spark: SparkSession) -> None:
    instants = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)
    near = st.tuples(instants, st.integers(-(10**7), 10**7)).map(lambda pair: (pair[0], pair[0] + pair[1]))
    pairs = [*drawn(st.tuples(instants, instants), 100), *drawn(near, 100)]
    frame = spark.createDataFrame(pa.table({"asked": [asked for asked, _ in pairs], "stored": [stored for _, stored in pairs]}))
    found = frame.select("asked", "stored", age(F.col("asked"), F.col("stored")).alias("age")).toArrow().to_pylist()
    assert [row["age"] for row in found] == [age(row["asked"], row["stored"]) for row in found]
    assert len(found) > 150
