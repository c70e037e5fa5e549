"""Tiles: partial aggregates of a source's events per entity and grain of time, and the Spark of every accumulator that they hold.

An accumulator is merged by sums of exact numbers, by extremes, or by lists that are put in order in the end. So the value of a window never
depends on which tiles it was put together from, nor on the order of events.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from pyspark.sql import Column, DataFrame, WindowSpec
from pyspark.sql import functions as F

from feature_definitions.aggregations import ACCUMULATORS, Merge, is_wide
from feature_definitions.intervals import MICROSECOND
from feature_definitions.layout import TIME
from feature_definitions.planning.tiling import PartialAggregate
from feature_definitions.sql import failing
from spark_jobs.compute import array_sql
from spark_jobs.tables import spark_type, type_named

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
MOST = Decimal(10**38 - 1)
"""The greatest sum of squares: it stands for all that are beyond it too, so that it is the same in whatever order they were added."""


def parts(state: PartialAggregate) -> dict[str, Merge]:
    """The columns that a state is kept in, each with how it is merged."""
    kept = ACCUMULATORS[state.kind]
    return {f"{state.name}_{part}": kept.merge_of(part) for part in kept.parts_for(state.type)}


def of_events(events: DataFrame, *, keys: Sequence[str], grain: timedelta, states: Sequence[PartialAggregate]) -> DataFrame:
    """The tiles of events: the keys, `_hw_tile` (its start in microseconds) and the parts of each state; lazy."""
    at = F.unix_micros(TIME)
    for key in keys:
        events = events.where(F.col(f"`{key}`").isNotNull())
    tile = (at - F.pmod(at, F.lit(_us(grain)))).alias(TILE)
    types = {field.name: type_named(field.dataType) for field in events.schema}
    seen = [(state, _seen(state, types)) for state in states]
    added = {f"{state.name}_{part}": column for state, read in seen for part, column in _addends(state, read).items()}
    columns = [column for state, read in seen for column in _gathered(state, read)]
    gathered = events.withColumns(added).groupBy(*_names(keys), tile).agg(*columns)
    kept = [EXPRESSIONS[state.kind].kept(state, F.col(part)).alias(part) for state in states for part in parts(state)]
    return gathered.select(*_names(keys), TILE, *kept)


def of_tiles(finer: DataFrame, *, keys: Sequence[str], grain: timedelta, states: Sequence[PartialAggregate]) -> DataFrame:
    """Tiles of a coarser grain from finer ones; lazy."""
    tile = (F.col(TILE) - F.pmod(TILE, F.lit(_us(grain)))).alias(TILE)
    columns = [merged(operation, name).alias(name) for state in states for name, operation in parts(state).items()]
    coarse = finer.groupBy(*_names(keys), tile).agg(*columns)
    lists = {name: tidied(state, F.col(name)) for state in states for name, operation in parts(state).items() if operation == "concat"}
    return coarse.withColumns(lists)


def merged(operation: Merge, part: str, *, over: WindowSpec | None = None) -> Column:
    """The aggregate that merges the column of one part of a state over tiles, of a group or sliding over a window.

    The sums of a group leave nulls out by a filter, as Spark would unpack and pack the sum of decimals for each of them.
    """
    column = F.col(f"`{part}`")

    def framed(aggregate: Column) -> Column:
        return aggregate if over is None else aggregate.over(over)

    match operation:
        case "sum":
            return F.expr(f"sum(`{part}`) FILTER (WHERE `{part}` IS NOT NULL)") if over is None else F.sum(column).over(over)
        case "sum or null":
            return framed(F.try_sum(column))
        case "sum at most":
            return F.when(framed(F.count(column)) > 0, F.coalesce(framed(F.try_sum(column)), F.lit(MOST)))
        case "min":
            return framed(F.min(column))
        case "max":
            return framed(F.max(column))
        case "concat":
            return F.flatten(framed(F.collect_list(column)))


def tidied(state: PartialAggregate, values: Column) -> Column:
    """The lists of several tiles, put behind each other, as the one list of all of them."""
    return EXPRESSIONS[state.kind].tidied(state, values)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a state sees of an event: its value, or null; whether it takes it; and whether an expression fails for it, never null."""

    value: Column
    taken: Column
    fails: Column


def _addends(state: PartialAggregate, seen: Seen) -> dict[str, Column]:
    added = EXPRESSIONS[state.kind].added
    return {} if added is None else added(seen.value, state.type)


def _gathered(state: PartialAggregate, seen: Seen) -> list[Column]:
    """The aggregates over a tile's events."""
    gathered = EXPRESSIONS[state.kind].gathered
    return [(merged(how, part) if gathered is None else gathered(state, seen)).alias(part) for part, how in parts(state).items()]


def _seen(state: PartialAggregate, types: Mapping[str, str]) -> Seen:
    """What a state sees of events with columns of these types; of several conditions a later one fails only where those before hold."""
    taken, fails = F.lit(True), F.lit(False)
    for sql in state.where:
        safe = failing.safely(sql, types)
        if safe.fails is not None:
            fails = fails | (F.coalesce(taken, F.lit(True)) & F.expr(safe.fails))
        taken = taken & F.expr(safe.value)
    value = F.lit(1)
    if state.of is not None:
        safe = failing.safely(state.of, types)
        value = F.expr(safe.value).cast(spark_type(state.type))
        if safe.fails is not None:
            fails = fails | (F.coalesce(taken, F.lit(False)) & F.expr(safe.fails))
    if state.type == "double":
        value = F.when(F.abs(value) < float("inf"), value)
    return Seen(F.when(taken, value) if state.where else value, taken, fails)


def _names(columns: Iterable[str]) -> list[Column]:
    return [F.col(f"`{column}`") for column in columns]


def _us(span: timedelta) -> int:
    return span // MICROSECOND


# ------------------------------------------------------------------------------------------------------------------ accumulators


def _of_event(state: PartialAggregate, value: Column) -> Column:
    """An event that has a value; it is newer the greater it is."""
    return F.when(value.isNotNull(), _event(state, value))


def _event(state: PartialAggregate, value: Column) -> Column:
    return F.struct(TIME, *_names(state.order), value.alias("value"))


def _sum(value: Column, data_type: str) -> dict[str, Column]:
    """What a value adds to accumulators that are exact, and wide enough for any number of events in any order: none of them overflows.

    Doubles are added as decimals with 18 digits after the point (wide ones with 7, which is all they have; very large ones as doubles),
    but short ones as whole numbers: no two decimals of up to 15 digits have the same nearest double, so that either gives the same sum.
    Integers are added as two halves. Decimals of more than 28 digits may add up to more than 38: what they add up to roughly tells.
    """
    match data_type:
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
    return {"bounded": value, "rough": value.cast("double")} if is_wide(data_type) else {"exact": value}


def _squares(value: Column, _: str) -> dict[str, Column]:
    small, exact = value.between(-_SQUARED, _SQUARED), value.cast("decimal(19,0)")
    return {
        "exact": F.when(small, exact * exact),
        "large": F.when(~small, value.cast("double") * value.cast("double")),
    }


def _moments(_: PartialAggregate, values: Column) -> Column:
    """The moments of a tile's values as a list of one, empty without values."""
    found = array_sql.moments(F.sort_array(values))
    one = F.transform(
        F.array(found),
        lambda m: F.struct(F.col(TILE).alias("tile"), m["n"].alias("n"), m["mean"].alias("mean"), m["spread"].alias("spread")),
    )
    return F.filter(one, lambda m: m["n"] > 0)


def bucket(value: Column) -> Column:
    """The number of the bucket that a double lies in, in the order of values: each spans as many percent, so that a quantile is right
    within 1 % (DDSketch: Masson, Rim, Lee 2019)."""
    number = F.ceil(F.log(F.abs(value)) / GROWTH) + _MIDDLE
    return F.when(value > 0, number).when(value < 0, -number).when(value == 0, F.lit(0)).cast("bigint")


def middle_of(number: Column) -> Column:
    """The value in the middle of a bucket, by its number: no value of the bucket is further from it than 1 %."""
    size = F.exp((F.abs(number) - _MIDDLE) * GROWTH) * (2 / (math.exp(GROWTH) + 1))
    return F.when(number == 0, F.lit(0.0)).when(number > 0, size).otherwise(-size)


def _counted(_: PartialAggregate, values: Column) -> Column:
    return array_sql.added_up(array_sql.once_each(F.sort_array(values)))


def _added_up(_: PartialAggregate, entries: Column) -> Column:
    return array_sql.added_up(F.sort_array(entries))


def _smallest(_: PartialAggregate, hashes: Column) -> Column:
    return F.slice(F.sort_array(F.array_distinct(hashes)), 1, SKETCH)


def _newest(state: PartialAggregate, events: Column) -> Column:
    return F.slice(F.sort_array(events, asc=False), 1, state.size)


@dataclass(frozen=True, slots=True)
class Expression:
    """How Spark computes an accumulator.

    `gathered` is the aggregate over a tile's events, of what is seen of each, and `kept` what is stored of it; where there is
    none, the parts are sums of what `added` makes of a value. `tidied` makes the one list of the lists of several tiles. `moment` says when
    that happened which is merged, where the greatest is the newest.
    """

    gathered: Callable[[PartialAggregate, Seen], Column] | None = None
    added: Callable[[Column, str], dict[str, Column]] | None = None
    kept: Callable[[PartialAggregate, Column], Column] = lambda _, gathered: gathered
    tidied: Callable[[PartialAggregate, Column], Column] = lambda _, values: F.sort_array(values)
    moment: Callable[[Column], Column] | None = None


EXPRESSIONS: Mapping[str, Expression] = {
    "count": Expression(lambda _, seen: F.count(seen.value)),
    "sum": Expression(added=_sum),
    "squares": Expression(added=_squares),
    "min": Expression(lambda _, seen: F.min(seen.value)),
    "max": Expression(lambda _, seen: F.max(seen.value)),
    "first": Expression(lambda state, seen: F.min(_of_event(state, seen.value))),
    "last": Expression(lambda state, seen: F.max(_of_event(state, seen.value)), moment=lambda event: F.unix_micros(event[TIME])),
    "latest": Expression(lambda _, seen: F.max(F.when(seen.value.isNotNull(), F.col(TIME))), moment=F.unix_micros),
    "failures": Expression(lambda _, seen: F.count_if(seen.fails)),
    "newest": Expression(
        lambda _, seen: F.max(F.when(seen.value.isNotNull() | seen.fails, F.unix_micros(TIME))),
        kept=lambda _, at: F.when(at.isNotNull(), F.col(TILE)),
        moment=lambda at: at,
    ),
    "moments": Expression(lambda _, seen: F.collect_list(seen.value.cast("double")), kept=_moments),
    "distinct": Expression(lambda _, seen: F.collect_set(seen.value), tidied=lambda _, values: F.array_distinct(values)),
    "sketch": Expression(
        lambda _, seen: F.collect_set(F.when(seen.value.isNotNull(), F.xxhash64(seen.value))), kept=_smallest, tidied=_smallest
    ),
    "buckets": Expression(lambda _, seen: F.collect_list(bucket(seen.value.cast("double"))), kept=_counted, tidied=_added_up),
    "counts": Expression(lambda _, seen: F.collect_list(seen.value), kept=_counted, tidied=_added_up),
    "newest_values": Expression(lambda state, seen: F.collect_list(_of_event(state, seen.value)), kept=_newest, tidied=_newest),
    "rows": Expression(lambda state, seen: F.collect_list(F.when(seen.taken, _event(state, seen.value))), kept=_newest, tidied=_newest),
}
"""The Spark of every accumulator, by its name in `feature_definitions.aggregations`."""
