"""A sync of a group that no memory of one process holds: Spark brings each entity's rows together, its workers choose and write the newest.

Rows cross to the workers once, as they lie in the tables; in the JVM no row is sorted.
"""

import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from feature_definitions.intervals import instant
from lake import newest
from lake.readable import AsOf, Published
from online_sync import checks
from online_sync.checks import Sampled
from online_sync.push import COUNTS, Pushed, PushSpec, push_batches
from spark_jobs import point_in_time, workers
from spark_jobs.point_in_time import ORDER, RETRACTED, TIME, VISIBLE

_VALUES_AT_ONCE = 8_000_000
"""Values that one worker holds at a time, about."""
_UTC = pa.timestamp("us", tz="UTC")


def pushed(published: Published, spec: PushSpec, spark: SparkSession) -> Pushed:
    """Have Spark's workers write the newest row of every entity; what they did, together."""
    if published.group.by_snapshot:
        rows, work = point_in_time.newest(published, spark=spark, now=instant(spec.record.synced_at)), _push(spec)
    else:
        rows, work = _gathered(published, spec, spark), _choose_and_push(spec)
    told = rows.mapInArrow(workers.carrying(work), ", ".join([*[f"{name} bigint" for name in COUNTS], "sample string"]))
    with workers.as_raised():
        found = told.collect()
    ahead = max((row["ahead"] for row in found), default=0)
    counts = Counter({name: sum(row[name] for row in found) for name in COUNTS} | {"ahead": ahead})
    sample = heapq.nsmallest(checks.SAMPLE, (Sampled(*each) for row in found for each in json.loads(row["sample"])))
    return Pushed(counts, sample, [], {})


def _gathered(published: Published, spec: PushSpec, spark: SparkSession) -> DataFrame:
    """The rows that are visible, those of an entity in one partition, none of which is larger than a worker can hold."""
    rows = point_in_time.versions(published, AsOf(), spark=spark, columns=published.group.outputs)
    own = (TIME, ORDER, RETRACTED, "publish_id", "held", "empties_at")
    seen = rows.where(F.col(VISIBLE) <= spec.record.synced_at).select(
        *[f"`{name}`" for name in (*spec.keys, *own, *published.group.outputs)]
    )
    parts = max(spark.sparkContext.defaultParallelism, -(-newest.size(published) // _VALUES_AT_ONCE))
    return seen.repartition(parts, *[F.col(f"`{key}`") for key in spec.keys])


def _choose_and_push(spec: PushSpec) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """What a worker does with all rows of some entities."""

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        found = list(batches)
        return push_batches([_newest(pa.Table.from_batches(found), spec.keys)] if found else [], spec)

    return work


def _newest(rows: pa.Table, keys: Sequence[str]) -> pa.Table:
    """The newest row of each entity, in the columns that a sync packs."""
    best = newest.best(rows, keys, at=TIME, order=ORDER, retracted=RETRACTED)
    times = {"event_timestamp": best.column(TIME).cast(_UTC), "empties_at": best.column("empties_at").cast(_UTC)}
    own = {"retracted": best.column(RETRACTED)} | times
    others = [name for name in best.column_names if name not in (TIME, ORDER, RETRACTED, "empties_at")]
    return pa.table({name: best.column(name) for name in others} | own)


def _push(spec: PushSpec) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    return lambda batches: push_batches(batches, spec)
