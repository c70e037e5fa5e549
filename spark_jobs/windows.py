"""Computes a group's rows from its source's events: one pass over tiles for all windows of a group, exact to the microsecond.

Every window is a multiple of the cadence and every `T` lies on its grid, so a window is a whole number of tiles: events are aggregated
once per (entity, tile), and each tile is handed to every grid time whose windows it lies in. All functions here are lazy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from feature_definitions import expressions
from feature_definitions.intervals import MICROSECOND, Interval, duration, instant, micros
from feature_definitions.model import Derived, Feature, FeatureGroup, ObservationGroup, SnapshotGroup, WindowedGroup
from spark_jobs.sources import DATE, TIME
from spark_jobs.tables import spark_type

START = "interval_start"
_TILE, _AT = "_hw_tile", "_hw_at"
_WIDE, _LARGE = 1e9, 1e22
"""Doubles from the first magnitude on have at most 7 digits after the point, from the second on they are added as doubles."""
_SQUARED = 10**16
"""Squares of integers up to this magnitude are added exactly."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """The types of a group's output columns, and of what each of its features aggregates (`of`, by the feature's name)."""

    types: Mapping[str, str]
    inputs: Mapping[str, str]


def meaning_of(group: FeatureGroup) -> Meaning:
    """The types that follow from a group's definition."""
    features = [f for f in group.features if isinstance(f, Feature)] if isinstance(group, WindowedGroup) else []
    inputs = {f.name: "int64" if f.of is None else expressions.type_of(f.of, group.source.columns) for f in features}
    return Meaning(expressions.output_types(group), inputs)


def rows(group: FeatureGroup, events: DataFrame, *, spans: Sequence[Interval], meaning: Meaning) -> DataFrame:
    """The group's rows of all intervals in `spans` (disjoint, on the grid, oldest first).

    Columns: the entity's keys, `event_timestamp`, `empties_at` (null unless windowed), the outputs, and `interval_start`.
    """
    match group:
        case WindowedGroup():
            return _windowed(group, _of_entities(group, events), spans, meaning)
        case ObservationGroup():
            return _observed(group, _of_entities(group, events), spans)
        case SnapshotGroup():
            return _static(group, _of_entities(group, events))


def empty_row(group: WindowedGroup, one: DataFrame, *, meaning: Meaning) -> DataFrame:
    """The values of an entity without events, as the one row of `one` widened by the group's outputs."""
    empty = [
        (F.lit(0) if f.aggregation in ("count", "count_distinct", "sum") else F.lit(None))
        .cast(spark_type(meaning.types[column]))
        .alias(column)
        for f in group.features
        if isinstance(f, Feature)
        for column in f.columns
    ]
    return _with_derived(group, one.select("*", *empty), meaning)


def start_of(group: FeatureGroup) -> Column:
    """The start of the interval that a row belongs to, by its `event_timestamp`, in microseconds."""
    at, cadence = F.unix_micros("event_timestamp"), _us(group.cadence)
    match group:
        case WindowedGroup():
            return at - cadence
        case ObservationGroup():
            return at - F.pmod(at, F.lit(cadence))
        case SnapshotGroup():
            return at


def _of_entities(group: FeatureGroup, events: DataFrame) -> DataFrame:
    """The events that count for the group: with all keys of the entity, and fulfilling the group's `where`."""
    for key in group.entity.keys:
        events = events.where(F.col(f"`{key}`").isNotNull())
    return events if group.where is None else events.where(F.expr(expressions.spark_sql(group.where)))


# --------------------------------------------------------------------------------------------------------------------- windowed


def _windowed(group: WindowedGroup, events: DataFrame, spans: Sequence[Interval], meaning: Meaning) -> DataFrame:
    cadence, longest = _us(group.cadence), _us(group.longest)
    keys = [f"`{key}`" for key in group.entity.keys]
    first, last = micros(spans[0].start) + cadence, micros(spans[-1].end)
    at = F.unix_micros(TIME)
    tile = (at - F.pmod(at, F.lit(cadence))).alias(_TILE)
    read = _dated(events, first - longest - cadence, last)
    partials = _partials(group, meaning)
    tiles = read.groupBy(*keys, tile).agg(F.lit(1).alias("_hw_any"), *[c for p in partials for c in p.columns()]).repartition(*keys)
    low = F.greatest(F.col(_TILE) + cadence, F.lit(first))
    high = F.least(F.col(_TILE) + longest + cadence, F.lit(last))
    spread = (
        tiles.where(low <= high)
        .withColumn(_AT, F.explode(F.sequence(low, high, F.lit(cadence))))
        .where(_in_spans(_AT, spans, after_start=True))
    )
    merged = [c for p in partials for c in p.merged()]
    alive = F.max(_TILE).alias("_hw_newest")
    aggregated = spread.groupBy(*keys, _AT).agg(alive, *merged)
    result = _with_derived(group, _finished(group, aggregated, meaning), meaning)
    return result.select(
        *keys,
        F.timestamp_micros(_AT).alias("event_timestamp"),
        F.timestamp_micros(F.col("_hw_newest") + longest + cadence).alias("empties_at"),
        *[F.col(f"`{column}`").cast(spark_type(meaning.types[column])).alias(column) for column in group.outputs],
        F.timestamp_micros(F.col(_AT) - cadence).alias(START),
    )


def _in_spans(at: str, spans: Sequence[Interval], *, after_start: bool) -> Column:
    """Whether a time in microseconds lies in one of the spans, `(start, end]` or `[start, end)`; SQL, as its parser balances long ORs."""
    low, high = (">", "<=") if after_start else (">=", "<")
    return F.expr(" OR ".join(f"({at} {low} {micros(s.start)} AND {at} {high} {micros(s.end)})" for s in spans))


def _dated(events: DataFrame, first: int, last: int) -> DataFrame:
    """The events of `[first, last)` microseconds, found by their partitions."""
    dates = F.col(DATE).between(F.lit(instant(first).date()), F.lit(instant(last).date()))
    return events.where(dates & (F.unix_micros(TIME) >= first) & (F.unix_micros(TIME) < last))


@dataclass(frozen=True, slots=True)
class _Partial:
    """One feature's state: what is kept per tile, and how the tiles of each window are merged."""

    name: str
    feature: Feature
    value: Column
    kind: str
    order: tuple[str, ...]

    def columns(self) -> list[Column]:
        """The state of one tile."""
        value, name = self.value, self.name
        match self.feature.aggregation:
            case "count":
                return [F.count(value).alias(name)]
            case "sum" | "mean":
                return [c.alias(f"{name}_{part}") for part, c in _sums(value, self.kind).items()] + [F.count(value).alias(f"{name}_n")]
            case "min":
                return [F.min(value).alias(name)]
            case "max":
                return [F.max(value).alias(name)]
            case "first" | "last":
                best = F.min if self.feature.aggregation == "first" else F.max
                return [best(F.when(value.isNotNull(), F.struct(*[f"`{c}`" for c in self.order], value.alias("value")))).alias(name)]
            case "stddev" if self.kind == "int64":
                sums = _sums(value, self.kind) | _squares(value)
                return [c.alias(f"{name}_{part}") for part, c in sums.items()] + [F.count(value).alias(f"{name}_n")]
            case "stddev":
                return [F.collect_list(value.cast("double")).alias(name)]
        return [F.collect_set(value).alias(name)]

    @property
    def _parts(self) -> tuple[str, ...]:
        """The sums that the state is made of; none where it is a list."""
        match self.feature.aggregation, self.kind:
            case "stddev", "int64":
                return ("high", "low", "squares", "large", "n")
            case "stddev", _:
                return ()
            case _, "double":
                return ("exact", "wide", "large", "n")
            case _, "int64":
                return ("high", "low", "n")
        return ("exact", "n")

    def merged(self) -> list[Column]:
        """The state of each window, over the tiles that lie in it."""
        merged: list[Column] = []
        for window, column in zip(self.feature.windows, self.feature.columns, strict=True):
            inside = F.col(_TILE) >= F.col(_AT) - _us(duration(window))
            merged += self._window(inside, column)
        return merged

    def _window(self, inside: Column, column: str) -> list[Column]:
        name = self.name
        match self.feature.aggregation:
            case "count":
                return [F.sum(F.when(inside, F.col(name))).alias(column)]
            case "sum" | "mean" | "stddev" if self._parts:
                return [F.sum(F.when(inside, F.col(f"{name}_{part}"))).alias(f"{column}_{part}") for part in self._parts]
            case "min" | "first":
                return [F.min(F.when(inside, F.col(name))).alias(column)]
            case "max" | "last":
                return [F.max(F.when(inside, F.col(name))).alias(column)]
        return [F.flatten(F.collect_list(F.when(inside, F.col(name)))).alias(column)]


def _partials(group: WindowedGroup, meaning: Meaning) -> list[_Partial]:
    order = [TIME, *([group.source.arrived_at] if group.source.arrived_at else []), *group.source.id]
    result = []
    for number, feature in enumerate(f for f in group.features if isinstance(f, Feature)):
        kind = meaning.inputs[feature.name]
        value = F.lit(1) if feature.of is None else F.expr(expressions.spark_sql(feature.of)).cast(spark_type(kind))
        if kind == "double":
            value = F.when(F.abs(value) < float("inf"), value)
        if feature.where is not None:
            value = F.when(F.expr(expressions.spark_sql(feature.where)), value)
        result.append(_Partial(f"_hw_p{number}", feature, value, kind, tuple(dict.fromkeys(order))))
    return result


def _sums(value: Column, kind: str) -> dict[str, Column]:
    """Exact accumulators, wide enough for any number of events: none of them overflows, whatever the order in which they are added.

    Doubles are added as decimals with 18 digits after the point (wide ones with 7, which is all they have; very large ones as doubles),
    integers as two halves.
    """
    match kind:
        case "double":
            wide, large = F.abs(value) >= _WIDE, F.abs(value) >= _LARGE
            return {
                "exact": F.sum(F.when(~wide, value).cast("decimal(38,18)")),
                "wide": F.sum(F.when(wide & ~large, value).cast("decimal(38,7)")),
                "large": F.sum(F.when(large, value)),
            }
        case "int64":
            high = F.shiftright(value, 32)
            return {"high": F.sum(high), "low": F.sum(value - F.shiftleft(high, 32))}
    return {"exact": F.sum(value)}


def _squares(value: Column) -> dict[str, Column]:
    small, exact = value.between(-_SQUARED, _SQUARED), value.cast("decimal(19,0)")
    return {
        "squares": F.sum(F.when(small, exact * exact)),
        "large": F.sum(F.when(~small, value.cast("double") * value.cast("double"))),
    }


def _finished(group: WindowedGroup, merged: DataFrame, meaning: Meaning) -> DataFrame:
    """Each window's state as the feature's value, in the type of its column."""
    values = {}
    for feature in group.features:
        if isinstance(feature, Feature):
            for column in feature.columns:
                kind = meaning.inputs[feature.name]
                values[column] = _finite(_value(feature, column, kind), meaning.types[column])
    return merged.withColumns(values)


def _value(feature: Feature, column: str, kind: str) -> Column:
    match feature.aggregation:
        case "count":
            return F.coalesce(F.col(column), F.lit(0))
        case "sum":
            return F.coalesce(_total(column, kind), F.lit(0))
        case "mean":
            return F.when(F.col(f"{column}_n") > 0, _total(column, kind).cast("double") / F.col(f"{column}_n"))
        case "first" | "last":
            return F.col(column)["value"]
        case "count_distinct":
            return F.size(F.array_distinct(F.col(column)))
        case "stddev":
            return _stddev_of_integers(column) if kind == "int64" else _stddev(F.array_sort(F.col(column)))
    return F.col(column)


def _total(column: str, kind: str) -> Column:
    """The sum of a window: a double for doubles, else a decimal."""
    match kind:
        case "double":
            large = F.col(f"{column}_large")
            total = _total_of_doubles(F.coalesce(F.col(f"{column}_exact"), F.lit(0).cast("decimal(38,18)")), F.col(f"{column}_wide"))
            return F.when(F.col(f"{column}_n") > 0, F.when(large.isNull(), total).otherwise(total + large))
        case "int64":
            halves = [F.col(f"{column}_{half}").cast("decimal(19,0)") for half in ("high", "low")]
            return (halves[0] * F.lit(2**32).cast("decimal(10,0)") + halves[1]).cast("decimal(38,0)")
    return F.col(f"{column}_exact")


def _total_of_doubles(exact: Column, wide: Column) -> Column:
    """Added as decimals where both fit one; beyond that the nearest doubles differ by more than the digits that are lost."""
    fits = F.abs(wide) < F.lit(10**18)
    return (
        F.when(F.coalesce(wide, F.lit(0)) == 0, exact.cast("double"))
        .when(fits, (exact + wide.cast("decimal(38,18)")).cast("double"))
        .otherwise((exact + wide).cast("double"))
    )


def _stddev_of_integers(column: str) -> Column:
    """The sample standard deviation of integers from their exact sums, sqrt((n * sum(x^2) - sum(x)^2) / (n * (n - 1))); null below two.

    Where that does not fit a decimal it is computed in doubles.
    """
    n, total, squares, large = F.col(f"{column}_n"), _total(column, "int64"), F.col(f"{column}_squares"), F.col(f"{column}_large")
    rough = F.coalesce(squares.cast("double"), F.lit(0.0)) + F.coalesce(large, F.lit(0.0))
    exact = (n.cast("decimal(38,0)") * squares.cast("decimal(38,0)") - total * total).cast("double")
    spread = F.when(large.isNull() & (n * rough < 9e37), exact).otherwise(
        n * F.greatest(F.lit(0.0), rough - total.cast("double") * total.cast("double") / n)
    )
    return F.when(n >= 2, F.sqrt(spread / (n * (n - 1)).cast("double")))


def _stddev(values: Column) -> Column:
    """The sample standard deviation in two passes over sorted values, so that the order of events does not matter; null below two."""
    count = F.size(values)
    mean = F.aggregate(values, F.lit(0.0), lambda total, x: total + x) / F.when(count > 0, count)
    squares = F.aggregate(values, F.lit(0.0), lambda total, x: total + (x - mean) * (x - mean))
    return F.when(count >= 2, F.sqrt(squares / (count - 1)))


def _with_derived(group: WindowedGroup, frame: DataFrame, meaning: Meaning) -> DataFrame:
    for feature in group.features:
        if isinstance(feature, Derived):
            frame = frame.withColumn(feature.name, _finite(F.expr(expressions.spark_sql(feature.expression)), meaning.types[feature.name]))
    return frame


def _finite(value: Column, kind: str) -> Column:
    typed = value.cast(spark_type(kind))
    return F.when(F.abs(typed) < float("inf"), typed) if kind == "double" else typed


# ------------------------------------------------------------------------------------------------------- observations and static


def _observed(group: ObservationGroup, events: DataFrame, spans: Sequence[Interval]) -> DataFrame:
    """One row per entity and event time; of several at one time the newest by arrival, then id, then by its values."""
    keys = [f"`{key}`" for key in group.entity.keys]
    read = _dated(events, micros(spans[0].start), micros(spans[-1].end))
    inside = _in_spans(f"unix_micros({TIME})", spans, after_start=False)
    columns = [f"`{c}`" for c in group.columns]
    newest = [*([group.source.arrived_at] if group.source.arrived_at else []), *group.source.id, *group.columns]
    order = Window.partitionBy(*keys, TIME).orderBy(*[F.col(f"`{c}`").desc_nulls_last() for c in dict.fromkeys(newest)])
    ranked = read.where(inside).withColumn("_hw_rank", F.row_number().over(order)).where(F.col("_hw_rank") == 1)
    at = F.unix_micros(TIME)
    return ranked.select(
        *keys,
        F.col(TIME).alias("event_timestamp"),
        F.lit(None).cast("timestamp").alias("empties_at"),
        *columns,
        F.timestamp_micros(at - F.pmod(at, F.lit(_us(group.cadence)))).alias(START),
    )


def _static(group: SnapshotGroup, events: DataFrame) -> DataFrame:
    """One row per entity, at 1970-01-01T00:00:00Z; of several with the same keys the newest by arrival, then by its values."""
    keys = [f"`{key}`" for key in group.entity.keys]
    newest = [*([group.source.arrived_at] if group.source.arrived_at else []), *group.source.id, *group.columns]
    order = Window.partitionBy(*keys).orderBy(*[F.col(f"`{c}`").desc_nulls_last() for c in dict.fromkeys(newest)])
    ranked = events.withColumn("_hw_rank", F.row_number().over(order)).where(F.col("_hw_rank") == 1)
    return ranked.select(
        *keys,
        F.col(TIME).alias("event_timestamp"),
        F.lit(None).cast("timestamp").alias("empties_at"),
        *[f"`{c}`" for c in group.columns],
        F.col(TIME).alias(START),
    )


def _us(span: timedelta) -> int:
    return span // MICROSECOND
