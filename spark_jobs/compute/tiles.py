"""Tiles: partial aggregates of a source's events per entity and grain of time, kept in Delta tables that groups share.

Every state is merged by sums of exact numbers, extremes, or lists that are put in order in the end, so that the value of a window never
depends on which tiles it was put together from, nor on the order of events.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import reduce

from pyspark.sql import Column, DataFrame, WindowSpec
from pyspark.sql import functions as F

from feature_definitions import layout
from feature_definitions.intervals import MICROSECOND, Interval, merge, micros
from feature_definitions.language import Source
from feature_definitions.layout import TIME
from feature_definitions.planning import tiling
from feature_definitions.planning.tiling import PartialAggregate, TilesDue
from feature_definitions.records import Revision, TileRecord
from feature_definitions.sql import expressions
from feature_registry import subjects
from feature_registry.leases import Subject
from feature_registry.registry import PATIENCE
from lake import delta
from lake.delta import Fence
from spark_jobs import tables
from spark_jobs.compute import array_sql
from spark_jobs.context import Context
from spark_jobs.ingest import events
from spark_jobs.tables import spark_type

TILE = "_hw_tile"
SKETCH = 1024
"""How many of the smallest hashes of distinct values are kept: up to so many are counted exactly, more of them within about 3 %."""
GROWTH = math.log(1.01 / 0.99)
"""By how much the logarithm of a value grows from one bucket of a quantile's to the next."""
_MIDDLE = 100_000
_WIDE, _LARGE = 1e9, 1e22
"""Doubles from the first magnitude on have at most 7 digits after the point, from the second on they are added as doubles."""
UNITS, _SHORT = 10_000, 2**31
"""Doubles with up to four digits after the point, like prices, are added as whole numbers of such parts, if they are no more than these."""
_SQUARED = 10**16
"""Squares of integers up to this magnitude are added exactly."""
_PARTS = {
    ("sum", "double"): {"short": "sum", "exact": "sum", "wide": "sum", "large": "sum"},
    ("sum", "int64"): {"high": "sum", "low": "sum"},
    "count": {"n": "sum"},
    "newest": {"at": "max"},
    "sum": {"exact": "sum"},
    "squares": {"exact": "sum", "large": "sum"},
    "min": {"value": "min"},
    "max": {"value": "max"},
    "first": {"event": "min"},
    "last": {"event": "max"},
    "latest": {"at": "max"},
}


def parts(state: PartialAggregate) -> dict[str, str]:
    """The columns that a state is kept in, by their part's name, each with how it is merged: sum, min, max or concat."""
    named = _PARTS.get((state.kind, state.type)) or _PARTS.get(state.kind, {"list": "concat"})
    return {f"{state.name}_{part}": operation for part, operation in named.items()}


def of_events(rows: DataFrame, *, keys: Sequence[str], grain: timedelta, states: Sequence[PartialAggregate]) -> DataFrame:
    """The tiles of events: the keys, `_hw_tile` (its start in microseconds) and the parts of each state; lazy."""
    at = F.unix_micros(TIME)
    for key in keys:
        rows = rows.where(F.col(f"`{key}`").isNotNull())
    tile = (at - F.pmod(at, F.lit(_us(grain)))).alias(TILE)
    added = {f"{state.name}_{part}": column for state in states for part, column in _added(state).items()}
    gathered = rows.withColumns(added).groupBy(*_names(keys), tile).agg(*[c for state in states for c in _gathered(state, grain)])
    return gathered.select(*_names(keys), TILE, *[column for state in states for column in _kept(state)])


def of_tiles(finer: DataFrame, *, keys: Sequence[str], grain: timedelta, states: Sequence[PartialAggregate]) -> DataFrame:
    """Tiles of a coarser grain from finer ones; lazy."""
    tile = (F.col(TILE) - F.pmod(TILE, F.lit(_us(grain)))).alias(TILE)
    columns = [merged(operation, name).alias(name) for state in states for name, operation in parts(state).items()]
    coarse = finer.groupBy(*_names(keys), tile).agg(*columns)
    lists = {name: tidied(state, F.col(name)) for state in states for name, operation in parts(state).items() if operation == "concat"}
    return coarse.withColumns(lists)


def merged(operation: str, part: str, *, over: WindowSpec | None = None) -> Column:
    """The aggregate that merges the column of one part of a state over tiles, of a group or sliding over a window.

    The sums of a group leave nulls out by a filter, as Spark would unpack and pack the sum of decimals for each of them.
    """
    column = F.col(f"`{part}`")

    def framed(aggregate: Column) -> Column:
        return aggregate if over is None else aggregate.over(over)

    match operation:
        case "sum":
            return F.expr(f"sum(`{part}`) FILTER (WHERE `{part}` IS NOT NULL)") if over is None else F.sum(column).over(over)
        case "min":
            return framed(F.min(column))
        case "max":
            return framed(F.max(column))
    return F.flatten(framed(F.collect_list(column)))


def _gathered(state: PartialAggregate, grain: timedelta) -> list[Column]:
    """The aggregates over a tile's events."""
    value = _value(state)
    match state.kind:
        case "sum" | "squares":
            return [merged("sum", part).alias(part) for part in parts(state)]
        case "newest":
            at = F.unix_micros(TIME)
            found = F.max(F.when(value.isNotNull(), at - F.pmod(at, F.lit(_us(grain)))))
        case "latest":
            found = F.max(F.when(value.isNotNull(), F.col(TIME)))
        case "first" | "last":
            found = (F.min if state.kind == "first" else F.max)(F.when(value.isNotNull(), _event(state, value)))
        case "count" | "min" | "max":
            found = {"count": F.count, "min": F.min, "max": F.max}[state.kind](value)
        case _:
            found = _listed(state, value)
    return [found.alias(part) for part in parts(state)]


def _listed(state: PartialAggregate, value: Column) -> Column:
    """The list of a tile's values, each once where that is enough."""
    match state.kind:
        case "distinct":
            return F.collect_set(value)
        case "sketch":
            return F.collect_set(F.when(value.isNotNull(), F.xxhash64(value)))
        case "rows":
            return F.collect_list(F.when(_condition(state), _event(state, value)))
        case "newest_values":
            return F.collect_list(F.when(value.isNotNull(), _event(state, value)))
        case "buckets":
            return F.collect_list(bucket(value.cast("double")))
    return F.collect_list(value.cast("double") if state.kind == "moments" else value)


def _kept(state: PartialAggregate) -> list[Column]:
    """The parts of a state as they are stored, from what was gathered."""
    column = F.col(f"{state.name}_list")
    match state.kind:
        case "moments":
            return [_moments(column).alias(f"{state.name}_list")]
        case "counts" | "buckets":
            return [array_sql.added_up(array_sql.once_each(F.array_sort(column))).alias(f"{state.name}_list")]
        case "rows" | "newest_values" | "sketch":
            return [tidied(state, column).alias(f"{state.name}_list")]
    return [F.col(name) for name in parts(state)]


def tidied(state: PartialAggregate, values: Column) -> Column:
    """The lists of several tiles, put behind each other, as the one list of all of them."""
    match state.kind:
        case "rows" | "newest_values":
            return F.slice(F.sort_array(values, asc=False), 1, state.size)
        case "distinct":
            return F.array_distinct(values)
        case "sketch":
            return F.slice(F.array_sort(F.array_distinct(values)), 1, SKETCH)
        case "counts" | "buckets":
            return array_sql.added_up(F.array_sort(values))
    return F.array_sort(values)


def _value(state: PartialAggregate) -> Column:
    value = F.lit(1) if state.of is None else F.expr(expressions.spark_sql(state.of)).cast(spark_type(state.type))
    if state.type == "double":
        value = F.when(F.abs(value) < float("inf"), value)
    return F.when(_condition(state), value) if state.where else value


def _condition(state: PartialAggregate) -> Column:
    return reduce(lambda all_of, sql: all_of & F.expr(expressions.spark_sql(sql)), state.where, F.lit(True))


def _event(state: PartialAggregate, value: Column) -> Column:
    """An event that is newer the greater it is."""
    return F.struct(TIME, *_names(state.order), value.alias("value"))


def bucket(value: Column) -> Column:
    """The number of the bucket that a double lies in, in the order of values: each spans as many percent, so that a quantile is right
    within 1 % (DDSketch: Masson, Rim, Lee 2019)."""
    number = F.ceil(F.log(F.abs(value)) / GROWTH) + _MIDDLE
    return F.when(value > 0, number).when(value < 0, -number).when(value == 0, F.lit(0)).cast("bigint")


def middle_of(number: Column) -> Column:
    """The value in the middle of a bucket, by its number: no value of the bucket is further from it than 1 %."""
    size = F.exp((F.abs(number) - _MIDDLE) * GROWTH) * (2 / (math.exp(GROWTH) + 1))
    return F.when(number == 0, F.lit(0.0)).when(number > 0, size).otherwise(-size)


def _added(state: PartialAggregate) -> dict[str, Column]:
    """What an event adds to each part of a state that is a sum, or null."""
    match state.kind:
        case "sum":
            return _addends(_value(state), state.type)
        case "squares":
            return _squares(_value(state))
    return {}


def _addends(value: Column, kind: str) -> dict[str, Column]:
    """What a value adds to accumulators that are exact, and wide enough for any number of events in any order: none of them overflows.

    Doubles are added as decimals with 18 digits after the point (wide ones with 7, which is all they have; very large ones as doubles),
    but short ones as whole numbers: no two decimals of up to 15 digits have the same nearest double, so that either gives the same sum.
    Integers are added as two halves.
    """
    match kind:
        case "double":
            units = F.rint(value * UNITS)
            short, wide, large = (F.abs(units) <= _SHORT) & (units / UNITS == value), F.abs(value) >= _WIDE, F.abs(value) >= _LARGE
            return {
                "short": F.when(short, units.cast("bigint")),
                "exact": F.when(~short & ~wide, value).cast("decimal(38,18)"),
                "wide": F.when(wide & ~large, value).cast("decimal(38,7)"),
                "large": F.when(large, value),
            }
        case "int64":
            high = F.shiftright(value, 32)
            return {"high": high, "low": value - F.shiftleft(high, 32)}
    return {"exact": value}


def _squares(value: Column) -> dict[str, Column]:
    small, exact = value.between(-_SQUARED, _SQUARED), value.cast("decimal(19,0)")
    return {
        "exact": F.when(small, exact * exact),
        "large": F.when(~small, value.cast("double") * value.cast("double")),
    }


def _moments(values: Column) -> Column:
    """The moments of a tile's values as a list of one, empty without values."""
    found = array_sql.moments(F.array_sort(values))
    one = F.transform(
        F.array(found),
        lambda m: F.struct(F.col(TILE).alias("tile"), m["n"].alias("n"), m["mean"].alias("mean"), m["spread"].alias("spread")),
    )
    return F.filter(one, lambda m: m["n"] > 0)


def _names(columns: Iterable[str]) -> list[Column]:
    return [F.col(f"`{column}`") for column in columns]


def _us(span: timedelta) -> int:
    return span // MICROSECOND


# ----------------------------------------------------------------------------------------------------------------------- tables


@dataclass(frozen=True, slots=True)
class TileSet:
    """The tiles of one source, entity and cadence: where they lie, by which keys, at which grains, and the states that they hold."""

    lake: str
    source: Source
    keys: tuple[str, ...]
    grains: tuple[timedelta, ...]
    states: tuple[PartialAggregate, ...]

    def table(self, grain: timedelta) -> str:
        """The Delta table of one grain."""
        return layout.tile_table(self.lake, self.source.name, self.keys, self.grains[0], grain)

    @property
    def subject(self) -> Subject:
        """What is worked on alone when tiles are built: all grains that there can be of them, since others may read coarser ones."""
        return subjects.tiles([self.table(grain) for grain in tiling.grains(self.grains[0], datetime.max - datetime.min)])  # noqa: DTZ901  # a span


@dataclass(frozen=True, slots=True)
class Build:
    """What tiles are built with: what every job works with, the source's revisions, and the run's id."""

    context: Context
    revisions: Sequence[Revision]
    run_id: str


def up_to_date(
    of: TileSet, needs: Mapping[timedelta, Sequence[Interval]], build: Build, *, states: Sequence[PartialAggregate]
) -> dict[timedelta, DataFrame]:
    """The stored tiles of `needs` by grain, with these states, after those that lack or are older than the source's revisions were built.

    One process at a time builds the tiles of a set; others wait. A crash leaves tiles that are built again.
    """
    revision = max((r.revision for r in build.revisions), default=0)
    with build.context.registry.lease(of.subject, now=build.context.clock(), patience=PATIENCE):
        built = {
            (grain, day): record
            for grain in needs
            for day, record in build.context.registry.tiles(of.table(grain), table_id=delta.table_id(of.table(grain))).items()
        }
        for each in tiling.due(needs, states=frozenset(s.name for s in states), built=built, revisions=build.revisions):
            # Finer tiles surely hold what is needed here, but perhaps not yet what other groups need.
            held = of.states if each.grain == of.grains[0] else states
            table = _build(of, each, build, states=held)
            record = TileRecord(revision, frozenset(state.name for state in held))
            build.context.registry.record_tiles(table, dict.fromkeys(each.dates, record), table_id=delta.table_id(table) or "")
    return {grain: _read(of, grain, spans, build, states=states) for grain, spans in needs.items() if spans}


def _build(of: TileSet, due: TilesDue, build: Build, *, states: Sequence[PartialAggregate]) -> str:
    """Build the tiles of one grain that start on the dates due, in one commit: the finest from events, others from the next finer."""
    level = of.grains.index(due.grain)
    if level == 0:
        tiles = of_events(events.read(of.source, build.context, dates=due.dates), keys=of.keys, grain=due.grain, states=states)
    else:
        spans = merge(tiling.reach(day, due.grain) for day in due.dates)
        finer = _read(of, of.grains[level - 1], spans, build, states=states)
        tiles = of_tiles(finer, keys=of.keys, grain=due.grain, states=states)
    table = of.table(due.grain)
    dated = tiles.withColumn("date", F.to_date(F.timestamp_micros(TILE))).where(tables.in_dates("date", due.dates))
    _store(dated, table, due.dates, commit_id=f"{build.run_id}-{level}", fence=build.context.registry.fence)
    return table


def _store(tiles: DataFrame, path: str, dates: Iterable[date], *, commit_id: str, fence: Fence) -> None:
    if delta.exists(path):
        tables.add_columns(tiles.sparkSession, path, tiles.dtypes)
        tables.replace(tiles, path, dates=dates, commit_id=commit_id, fence=fence)
    else:
        tables.append(tiles, path, commit_id=commit_id, partition=("date",), fence=fence)


def _read(of: TileSet, grain: timedelta, spans: Sequence[Interval], build: Build, *, states: Sequence[PartialAggregate]) -> DataFrame:
    """The stored tiles of one grain that start in `spans`, with the parts of these states."""
    columns = [*of.keys, TILE, *[part for state in states for part in parts(state)]]
    stored = tables.read(build.context.spark, of.table(grain)) if delta.exists(of.table(grain)) else None
    if stored is None or not set(columns) <= set(stored.columns):
        # A state that was never built is missing here only where nothing happened.
        nothing = of_events(events.read(of.source, build.context, dates=()), keys=of.keys, grain=grain, states=states).withColumn(
            "date", F.current_date()
        )
        stored = nothing if stored is None else stored.unionByName(nothing, allowMissingColumns=True)
    first, last = min(s.start for s in spans).date(), max(s.end for s in spans).date()
    dated = stored.where(f"date BETWEEN DATE'{first.isoformat()}' AND DATE'{last.isoformat()}'")
    inside = " OR ".join(f"({TILE} >= {micros(s.start)} AND {TILE} < {micros(s.end)})" for s in merge(spans))
    return dated.where(inside).select(*_names(columns))
