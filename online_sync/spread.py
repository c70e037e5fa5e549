"""A sync of a group that no memory of one process holds: Spark brings each entity's rows together, its workers choose and write the newest.

Workers that reach the group's files read them themselves, and an exchange moves parcels of rows. Else rows cross to the workers once, as
they lie in the tables; in the JVM no row is sorted.
"""

import heapq
import json
from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
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
from spark_jobs.training import kernel, packed_files, parcels, version_files
from spark_jobs.training.packed_files import FilesRead
from spark_jobs.training.parcels import Spread
from spark_jobs.training.version_files import VersionFiles, WantedVersions

_VALUES_AT_ONCE = 8_000_000
"""Values that one worker holds at a time, about."""
_UTC = pa.timestamp("us", tz="UTC")


def pushed(published: Published, spec: PushSpec, spark: SparkSession) -> Pushed:
    """Have Spark's workers write the newest row of every entity; what they did, together."""
    if published.group.by_snapshot:
        rows, work = point_in_time.newest(published, spark=spark, now=instant(spec.record.synced_at)), _push(spec)
    elif (files := _files(published, spec, spark)) is not None:
        rows, work = _parcels(files, published, spec, spark), _open_and_push(files, spec)
    else:
        rows, work = _gathered(published, spec, spark), _choose_and_push(spec)
    told = rows.mapInArrow(workers.carrying(work), ", ".join([*[f"{name} bigint" for name in COUNTS], "sample string"]))
    with workers.as_raised():
        found = told.collect()
    ahead = max((row["ahead"] for row in found), default=0)
    counts = Counter({name: sum(row[name] for row in found) for name in COUNTS} | {"ahead": ahead})
    sample = heapq.nsmallest(checks.SAMPLE, (Sampled(*each) for row in found for each in json.loads(row["sample"])))
    return Pushed(counts, sample, [], {})


def _parts(published: Published, spark: SparkSession) -> int:
    """Among how many tasks entities are spread, none of which has more rows than a worker can hold."""
    return max(spark.sparkContext.defaultParallelism, -(-newest.size(published) // _VALUES_AT_ONCE))


def _gathered(published: Published, spec: PushSpec, spark: SparkSession) -> DataFrame:
    """The rows that are visible, those of an entity in one partition."""
    rows = point_in_time.versions(published, AsOf(), spark=spark, columns=published.group.outputs)
    own = (TIME, ORDER, RETRACTED, "publish_id", "held", "empties_at")
    seen = rows.where(F.col(VISIBLE) <= spec.record.synced_at).select(
        *[f"`{name}`" for name in (*spec.keys, *own, *published.group.outputs)]
    )
    return seen.repartition(_parts(published, spark), *[F.col(f"`{key}`") for key in spec.keys])


def _files(published: Published, spec: PushSpec, spark: SparkSession) -> VersionFiles | None:
    """The files of the group's rows; None where Spark is to read them."""
    wanted = WantedVersions(0, tuple((key, key) for key in spec.keys), tuple((name, name) for name in published.group.outputs))
    return version_files.of(published, AsOf(), wanted, dates=point_in_time.Dates(), spark=spark)


def _parcels(files: VersionFiles, published: Published, spec: PushSpec, spark: SparkSession) -> DataFrame:
    """The rows of the files as parcels, those of an entity in one partition."""
    read, spread = [FilesRead(files, parcels.Kind(asks=True))], Spread(spec.keys, _parts(published, spark), {})
    sent = packed_files.of_workers(read, spark, lambda tasks: packed_files.packing(tasks, read, spread), parcels.SCHEMA)
    return sent.repartitionById(spread.parts, parcels.PART)


def _open_and_push(files: VersionFiles, spec: PushSpec) -> workers.Work:
    """What a worker does with the parcels of some entities."""
    opened, pushed = parcels.opening({}), _choose_and_push(spec)
    publishes = pa.array([]) if files.known is None else files.known.publishes

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return pushed(batch for rows in opened(batches) for batch in _plain(rows, spec, publishes).to_batches())

    return work


def _plain(rows: pa.RecordBatch, spec: PushSpec, publishes: pa.Array) -> pa.Table:
    """Versions as the kernel of joins has them, in the columns of those that are known by Spark; those that are visible."""
    rows = pa.Table.from_batches([rows])
    rows = rows.filter(pc.less_equal(rows.column(kernel.AT), spec.record.synced_at))
    marks = rows.column(kernel.ORDER).to_numpy()
    order = marks // 8
    empties_at = rows.column(kernel.EMPTIES) if kernel.EMPTIES in rows.column_names else pa.nulls(len(rows), pa.int64())
    own = {
        TIME: rows.column(kernel.TIME), ORDER: pa.array(order), RETRACTED: pa.array(marks & kernel.RETRACTED > 0),
        "publish_id": publishes.take(pa.array(order)), "held": pa.array(marks & kernel.HELD > 0), "empties_at": empties_at,
    }  # fmt: skip
    return pa.table({name: rows.column(name) for name in (*spec.keys, *(name for name, _ in spec.schema.columns))} | own)


def _choose_and_push(spec: PushSpec) -> workers.Work:
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


def _push(spec: PushSpec) -> workers.Work:
    return lambda batches: push_batches(batches, spec)
