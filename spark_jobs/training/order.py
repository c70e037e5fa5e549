"""The order of a spine's rows, which its training set keeps: each row has its place among them, counted from 0."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from spark_jobs import tables

NUMBER = "_hw_row"
"""The column that holds a row's place."""

_DAY, _FIRST = "_hw_day", "_hw_first"
_OF_PARTITION = 33
"""So many bits of the ids that Spark gives to rows are for the row in its partition."""


def with_places(frame: pa.Table) -> pa.Table:
    """An Arrow table with its rows' places."""
    return frame.append_column(NUMBER, pa.array(np.arange(frame.num_rows)))


def held(rows: DataFrame) -> DataFrame:
    """A frame of Spark, computed once, with its rows' places: as its partitions come one after the other, and each one's rows."""
    kept = rows.withColumn(NUMBER, F.monotonically_increasing_id()).localCheckpoint()
    partition = F.shiftright(NUMBER, _OF_PARTITION).cast("int")
    counts = {row["of"]: row["count"] for row in kept.groupBy(partition.alias("of")).count().collect()}
    firsts = [*accumulate((counts.get(number, 0) for number in range(max(counts, default=0))), initial=0)]
    first = F.expr(f"array({', '.join(f'{each}L' for each in firsts)})")
    own = F.col(NUMBER).bitwiseAND(F.lit(2**_OF_PARTITION - 1))
    return kept.withColumn(NUMBER, F.element_at(first, partition + F.lit(1)) + own)


def day(at: str) -> Column:
    """The UTC date of a time, as days since 1970."""
    return F.unix_date(F.to_date(F.col(f"`{at}`")))


def by_columns(rows: DataFrame, columns: Sequence[str], *, at: str, days: Mapping[int, int]) -> DataFrame:
    """Rows that have no order of their own with their places by columns, the first of which is the time `at`; lazy.

    `days` are the rows of each day, which is numbered apart: sorting all rows at once would read them once more.
    """
    before = accumulate((days[each] for each in sorted(days)), initial=0)
    firsts = pa.table({_DAY: pa.array(sorted(days), pa.int32()), _FIRST: pa.array([*before][: len(days)], pa.int64())})
    content = tables.fingerprint_of(rows.columns)
    within = Window.partitionBy(_DAY).orderBy(F.col(f"`{at}`"), *[F.col(f"`{name}`") for name in columns], content)
    dated = rows.withColumn(_DAY, day(at)).withColumn(NUMBER, F.row_number().over(within).cast("bigint") - F.lit(1))
    placed = dated.join(F.broadcast(rows.sparkSession.createDataFrame(firsts)), _DAY)
    return placed.withColumn(NUMBER, F.col(NUMBER) + F.col(_FIRST)).drop(_DAY, _FIRST)
