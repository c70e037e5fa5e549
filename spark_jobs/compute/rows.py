"""The rows of groups that show a source's columns as they were observed, and what the rows of all groups have in common. All is lazy."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from feature_definitions.intervals import MICROSECOND, Interval, instant, micros
from feature_definitions.language import FeatureGroup, ObservationGroup, SnapshotGroup
from feature_definitions.layout import DATE, TIME
from feature_definitions.sql import column_types, failing

START, NEWEST, FAILED = "interval_start", "newest_tile", "not_computed"


def observed(group: ObservationGroup | SnapshotGroup, events: DataFrame, *, spans: Sequence[Interval]) -> DataFrame:
    """The group's rows of all intervals in `spans` (disjoint, on the grid, oldest first).

    Columns: the entity's keys, `event_timestamp`, `empties_at`, the outputs, `interval_start` and `newest_tile`. Only rows of windows have
    an `empties_at` and a `newest_tile`; here both are null. Where the group's `where` may fail, `not_computed` says of which rows it did.
    """
    live = _of_entities(group, events)
    return _static(group, live) if group.is_static else _dated(group, live, spans)


def failed_columns(fails: Mapping[str, Column]) -> Column:
    """The names of the columns that could not be computed, by the conditions under which each could not."""
    return F.array_compact(F.array(*[F.when(condition, F.lit(name)) for name, condition in fails.items()]))


def start_of(group: FeatureGroup) -> Column:
    """The start of the interval that a row belongs to, by its `event_timestamp`, in microseconds."""
    at, cadence = F.unix_micros("event_timestamp"), _us(group.cadence)
    match group.row_time:
        case "end":
            return at - cadence
        case "event":
            return at - F.pmod(at, F.lit(cadence))
        case "none":
            return at


def in_spans(at: str, spans: Sequence[Interval], *, after_start: bool) -> Column:
    """Whether a time in microseconds lies in one of the spans, `(start, end]` or `[start, end)`; SQL, as its parser balances long ORs."""
    low, high = (">", "<=") if after_start else (">=", "<")
    return F.expr(" OR ".join(f"({at} {low} {micros(s.start)} AND {at} {high} {micros(s.end)})" for s in spans))


def dated(events: DataFrame, first: int, last: int) -> DataFrame:
    """The events of `[first, last)` microseconds, found by their partitions."""
    dates = F.col(DATE).between(*[F.lit(instant(at).date().isoformat()).cast("date") for at in (first, last)])
    return events.where(dates & (F.unix_micros(TIME) >= first) & (F.unix_micros(TIME) < last))


def _of_entities(group: ObservationGroup | SnapshotGroup, events: DataFrame) -> DataFrame:
    """The events that count for the group: with all keys of the entity, and fulfilling the group's `where`, or of which that fails."""
    for key in group.entity.keys:
        events = events.where(F.col(f"`{key}`").isNotNull())
    if group.where is None:
        return events
    safe = failing.safely(group.where, column_types.columns_of(group.source))
    if safe.fails is None:
        return events.where(safe.value)
    return events.where(f"({safe.value}) OR ({safe.fails})").withColumn(FAILED, failed_columns({"where": F.expr(safe.fails)}))


def _failed(rows: DataFrame) -> list[str]:
    return [FAILED] if FAILED in rows.columns else []


def _dated(group: ObservationGroup | SnapshotGroup, events: DataFrame, spans: Sequence[Interval]) -> DataFrame:
    """One row per entity and time of an event or a snapshot; of several at one time the newest by arrival, then id, then by its values."""
    keys = [f"`{key}`" for key in group.entity.keys]
    read = dated(events, micros(spans[0].start), micros(spans[-1].end))
    inside = in_spans(f"unix_micros({TIME})", spans, after_start=False)
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
        F.lit(None).cast("bigint").alias(NEWEST),
        *_failed(ranked),
    )


def _static(group: ObservationGroup | SnapshotGroup, events: DataFrame) -> DataFrame:
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
        F.lit(None).cast("bigint").alias(NEWEST),
        *_failed(ranked),
    )


def _us(span: timedelta) -> int:
    return span // MICROSECOND
