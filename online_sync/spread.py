"""A sync of a group that no memory of one process holds: Spark finds the newest rows, and its workers write them."""

import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterator

import pyarrow as pa
from pyspark.sql import SparkSession

from feature_definitions.intervals import instant
from lake.readable import Published
from online_sync import checks
from online_sync.checks import Sampled
from online_sync.push import COUNTS, Pushed, PushSpec, push_batches
from spark_jobs import point_in_time, workers


def pushed(published: Published, spec: PushSpec, spark: SparkSession) -> Pushed:
    """Have Spark's workers write the newest row of every entity; what they did, together."""
    newest = point_in_time.newest(published, spark=spark, now=instant(spec.record.synced_at))
    told = newest.mapInArrow(workers.carrying(_push(spec)), ", ".join([*[f"{name} bigint" for name in COUNTS], "sample string"]))
    with workers.as_raised():
        rows = told.collect()
    ahead = max((row["ahead"] for row in rows), default=0)
    counts = Counter({name: sum(row[name] for row in rows) for name in COUNTS} | {"ahead": ahead})
    sample = heapq.nsmallest(checks.SAMPLE, (Sampled(*each) for row in rows for each in json.loads(row["sample"])))
    return Pushed(counts, sample, [], {})


def _push(spec: PushSpec) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    return lambda batches: push_batches(batches, spec)
