"""Puts new rows over published ones: what they replace goes to the group's history table, and what did not change stays as it is."""

from datetime import datetime, timedelta

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from feature_definitions import layout
from feature_definitions.intervals import MICROSECOND, micros
from feature_definitions.language import FeatureGroup
from feature_definitions.language.features import reach
from feature_definitions.records import LedgerEntry
from spark_jobs import tables
from spark_jobs.compute import windows
from spark_jobs.compute.rows import NEWEST, start_of
from spark_jobs.context import Run

_OLD = "_old_"


def merged(job: Run, new: DataFrame, current: DataFrame) -> DataFrame:
    """The rows to publish over published ones; those that they replace are appended to the history table first.

    A row whose values did not change keeps its publish_id, also when a column was added to it. A row that the new run does not have stays,
    with the empty values, in windowed groups and transforms, and is retracted in the others.
    """
    both = _side_by_side(job, new, current)
    same = F.coalesce(F.col("_same"), F.lit(False))
    found, gone = both.where("_new"), both.where("_new IS NULL")
    out_of_reach = F.col(NEWEST) + F.col("_reached") < F.unix_micros("event_timestamp")
    added = F.when(F.col("_old").isNull() & out_of_reach, F.col("_stood"))
    publish_id = F.when(same, F.col(f"{_OLD}publish_id")).otherwise(F.coalesce(added, F.lit(job.publish_id)))
    created = F.when(same, F.col(f"{_OLD}created_timestamp")).otherwise(F.col("created_timestamp"))
    rows = found.withColumn("publish_id", publish_id).withColumn("created_timestamp", created).select(*new.columns)
    replaced = _as_they_were(job, found.where(F.col("_old") & ~same), current)
    if job.group.keeps_rows:
        empty_already = F.col(f"{_OLD}empties_at") <= F.col("event_timestamp")
        rows = rows.unionByName(_emptied(job, gone, new, job.context.clock()))
        old = replaced.unionByName(_as_they_were(job, gone.where(~empty_already), current))
    else:
        tombstones = _tombstones(job, gone, job.context.clock())
        old = replaced.unionByName(_as_they_were(job, gone, current)).unionByName(tombstones, allowMissingColumns=True)
    whole, kept = tables.stage(rows, f"{job.staging}/merged"), tables.stage(old, f"{job.staging}/history")
    if not kept.isEmpty():
        path = layout.history_table(job.context.lake, job.group.name, job.work.generation)
        tables.append(kept, path, commit_id=job.publish_id, partition=("date",), fence=job.fence)
    return whole


def _side_by_side(job: Run, new: DataFrame, current: DataFrame) -> DataFrame:
    """New and published rows by key and time, the published ones' columns prefixed, with `_same`: whether nothing changed.

    A window that was added may be longer than those that the interval was computed with, which reached `_reached` from a tile's start: rows
    become empty later than before, and those that only come with the longer window belong to the interval's last publish, `_stood`.
    """
    group, keys = job.group, [*job.group.entity.keys, "event_timestamp"]
    old = current.select(*[F.col(f"`{c}`").alias(c if c in keys else f"{_OLD}{c}") for c in current.columns], F.lit(True).alias("_old"))
    both = new.withColumn("_new", F.lit(True)).join(old, on=keys, how="full_outer").withColumn("_start", start_of(group))
    joined = both.join(F.broadcast(_stood(job)), on="_start", how="left")
    emptied, at = F.unix_micros(f"{_OLD}empties_at"), F.unix_micros("event_timestamp")
    lasted = F.coalesce(F.col(NEWEST) + F.col("_reached"), F.unix_micros("empties_at"))
    unmoved = lasted.eqNullSafe(emptied) | (F.col("_grew") & (emptied <= at))
    same = F.col("_new") & F.col("_old") & ~F.col(f"{_OLD}held") & ~F.col("held") & unmoved
    for column in [c for c in group.outputs if c in current.columns]:
        lacking = [micros(i.start) for i, e in job.before.items() if column not in e.features]
        equal = F.col(f"`{column}`").eqNullSafe(F.col(f"`{_OLD}{column}`"))
        same = same & (equal | F.col("_start").isin(lacking) if lacking else equal)
    return joined.withColumn("_same", same)


def _stood(job: Run) -> DataFrame:
    """Per published interval its start, its last publish, how far its windows reached, and whether they reach further now.

    `_reached` is in microseconds from a tile's start, null under a lifetime window.
    """
    last = {p.interval: p.publish_id for p in job.context.registry.publishes(job.group.name, job.work.generation)}
    due = [s.interval for s in job.work.due if s.interval in last and s.interval in job.before]
    reaches = [_reached(job.group, job.before[i]) for i in due]
    rows = {
        "_start": pa.array([micros(i.start) for i in due], pa.int64()),
        "_stood": pa.array([last[i] for i in due], pa.string()),
        "_reached": pa.array([None if reached is None else reached // MICROSECOND for reached, _ in reaches], pa.int64()),
        "_grew": pa.array([grew for _, grew in reaches], pa.bool_()),
    }
    return job.context.spark.createDataFrame(pa.table(rows))


def _reached(group: FeatureGroup, entry: LedgerEntry) -> tuple[timedelta | None, bool]:
    """How long after its start a tile let rows exist by the windows an interval was computed with, and whether it does longer now."""
    spans = [reach(w) for f in group.aggregated for w, c in zip(f.windows, f.columns, strict=True) if c in entry.features]
    if not spans or None in spans:
        return None, False
    longest = max(span for span in spans if span is not None)
    return longest + group.cadence, group.lifetime or longest < group.longest


def _as_they_were(job: Run, rows: DataFrame, current: DataFrame) -> DataFrame:
    """The published side of the rows, for the history table."""
    keys = [*job.group.entity.keys, "event_timestamp"]
    columns = [F.col(c if c in keys else f"`{_OLD}{c}`").alias(c) for c in current.columns]
    return rows.select(*columns, F.lit(job.publish_id).alias("replaced_by"), F.lit(False).alias("retracted"))


def _tombstones(job: Run, gone: DataFrame, now: datetime) -> DataFrame:
    return gone.select(
        *keys_of(job.group),
        "event_timestamp",
        F.lit(now).alias("created_timestamp"),
        F.lit(job.publish_id).alias("publish_id"),
        F.lit(False).alias("held"),
        F.col(f"{_OLD}date").alias("date"),
        F.lit(job.publish_id).alias("replaced_by"),
        F.lit(True).alias("retracted"),
    )


def _emptied(job: Run, gone: DataFrame, new: DataFrame, now: datetime) -> DataFrame:
    """Rows whose events were all taken back stay, with the empty values; those that were empty already stay as they are."""
    kept = gone.select(
        *keys_of(job.group),
        "event_timestamp",
        F.col(f"{_OLD}date").alias("date"),
        *[F.col(f"{_OLD}{name}") for name in ("publish_id", "created_timestamp", "empties_at")],
    )
    empty_already = F.col(f"{_OLD}empties_at") <= F.col("event_timestamp")
    return (
        windows.empty_row(job.group, kept, types=job.types)
        .withColumn("publish_id", F.when(empty_already, F.col(f"{_OLD}publish_id")).otherwise(F.lit(job.publish_id)))
        .withColumn("created_timestamp", F.when(empty_already, F.col(f"{_OLD}created_timestamp")).otherwise(F.lit(now)))
        .withColumn("empties_at", F.least(f"{_OLD}empties_at", "event_timestamp"))
        .withColumn("held", F.lit(False))
        .withColumn(NEWEST, F.lit(None).cast("bigint"))
        .select(*new.columns)
    )


def keys_of(group: FeatureGroup) -> list[Column]:
    """The columns of an entity's keys."""
    return [F.col(f"`{key}`") for key in group.entity.keys]
