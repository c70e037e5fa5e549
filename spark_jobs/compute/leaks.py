"""Refuses transforms whose rows at T depend on more than what their inputs held before T: on later events, other tables, clock or chance.

What a transform is given ends before T. Its SQL can read nothing else, and is deterministic by its grammar. A function could read around
its inputs, so what Spark understood of it is looked at too; what Python code of its own does with rows shows only in what comes out.
"""

import re
from collections.abc import Sequence
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from feature_definitions.intervals import Interval, iso
from feature_definitions.language import TransformGroup
from spark_jobs import tables
from spark_jobs.compute import transform
from spark_jobs.compute.transform import TransformError
from spark_jobs.context import Run

_CLOCK = re.compile(r"\b(current_timestamp|current_date|current_time|localtimestamp|now|curdate|unix_timestamp)\(")
_CONSTANT = ("LocalRelation", "OneRowRelation")
_CLOSE = 1e-9
"""Up to which share doubles may differ: the order in which Spark adds them is not fixed."""


def check(job: Run, group: TransformGroup, *, among: Sequence[Interval]) -> None:
    """Compute one of some intervals twice: from its inputs cut at T, apart and in another order, and where later events are.

    It is the middle one, so that most often there are rows before and after. Raises TransformError if what Spark understood of a function
    reads anything but its inputs, or if the rows differ.
    """
    interval = among[len(among) // 2]
    folder = f"{job.staging}/alone"
    given = transform.inputs_at(job.work, group, interval, job.context)
    apart = [tables.stage(_shuffled(frame), f"{folder}/{number}") for number, frame in enumerate(given)]
    alone = transform.transformed(group, apart)
    if group.function is not None:
        _refuse_beyond(group, alone, apart)
    there = transform.computed(job.work, group, interval, job.context)
    if moved := _moved(group, alone, there):
        raise TransformError(
            f"group {group.name}: rows at {iso(interval.end)} move when later events are added, or when they are "
            f"computed again: {moved}. Let it depend on the rows of its inputs alone, whatever their order"
        )


def _shuffled(frame: DataFrame) -> DataFrame:
    order = F.xxhash64(F.lit("another order"), *[F.col(f"`{name}`") for name in frame.columns])
    return frame.repartition(3, order).sortWithinPartitions(order)


def _refuse_beyond(group: TransformGroup, result: DataFrame, inputs: Sequence[DataFrame]) -> None:
    read = _analyzed(result)
    own = [leaf.canonicalized() for frame in inputs for leaf in _leaves(_analyzed(frame))]
    for leaf in _leaves(read):
        name = leaf.getClass().getSimpleName()
        if "Relation" in name and name not in _CONSTANT and not any(leaf.canonicalized().equals(each) for each in own):
            what = " ".join(str(leaf.toString()).split())[:120]
            raise TransformError(f"group {group.name}: its function reads {what}, which is not among its inputs; name it in inputs=(...)")
    if not read.deterministic():
        raise TransformError(f"group {group.name}: its function leaves something to chance; the same rows must always give the same")
    if found := _CLOCK.search(str(read.toString())):
        raise TransformError(
            f"group {group.name}: its function calls {found[1]}(), so a value would depend on when it is computed; use the rows' own times"
        )


def _analyzed(frame: DataFrame) -> Any:
    return frame._jdf.queryExecution().analyzed()


def _leaves(read: Any) -> list[Any]:
    found = read.collectLeaves()
    return [found.apply(number) for number in range(found.size())]


def _moved(group: TransformGroup, alone: DataFrame, there: DataFrame) -> str:
    """A row that differs, in words; nothing if none does."""
    keys, types = list(group.entity.keys), group.schema
    left = alone.select(*[f"`{k}`" for k in keys], *[F.col(f"`{c}`").alias(f"_a_{c}") for c in types], F.lit(True).alias("_alone"))
    right = there.select(*[f"`{k}`" for k in keys], *[F.col(f"`{c}`").alias(f"_b_{c}") for c in types], F.lit(True).alias("_there"))
    both = left.join(right, on=keys, how="full_outer")
    same = F.col("_alone").isNotNull() & F.col("_there").isNotNull()
    for column, kind in types.items():
        same = same & _same(F.col(f"`_a_{column}`"), F.col(f"`_b_{column}`"), kind)
    row = both.where(~same).first()
    if row is None:
        return ""
    entity = ", ".join(f"{key}={row[key]}" for key in keys)
    if row["_alone"] is None or row["_there"] is None:
        return f"{entity} is there only {'with' if row['_alone'] is None else 'without'} them"
    return f"{entity}: " + ", ".join(f"{c} {row[f'_a_{c}']} becomes {row[f'_b_{c}']}" for c in types if row[f"_a_{c}"] != row[f"_b_{c}"])


def _same(a: Column, b: Column, kind: str) -> Column:
    if kind != "double":
        return a.eqNullSafe(b)
    return a.eqNullSafe(b) | F.coalesce(F.abs(a - b) <= _CLOSE * F.greatest(F.abs(a), F.abs(b)), F.lit(False))
