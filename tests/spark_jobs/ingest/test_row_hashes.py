"""Hashes of whole columns are those of Spark, to the bit."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import functions as F

from spark_jobs import tables
from spark_jobs.ingest import row_hashes

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

TEXTS = ["", "a", "abc", "abcd", "abcdefg", "abcdefgh", "é" * 5, "0123456789ab", "x" * 31, "x" * 32, "y" * 33, "0123456789" * 10, None]
TIMES = [datetime(1969, 12, 31, 23, 59, 59, 1, UTC), datetime(2026, 1, 5, tzinfo=UTC), None]
COLUMNS = {
    "text": pa.array(TEXTS, pa.string()),
    "number": pa.array([0, 1, -1, 2**63 - 1, -(2**63), None, 7, 8, 9, 10, 11, 12, 13], pa.int64()),
    "double": pa.array([0.0, -0.0, 1.5, -1e300, 5e-324, None, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0], pa.float64()),
    "flag": pa.array([True, False, None] * 4 + [True], pa.bool_()),
    "day": pa.array([date(1970, 1, 1), date(1, 1, 1), date(9999, 12, 31), None] * 3 + [date(2026, 1, 5)], pa.date32()),
    "at": pa.array(
        [datetime(1969, 12, 31, 23, 59, 59, 1, UTC), datetime(2026, 1, 5, tzinfo=UTC), None] * 4 + [None], pa.timestamp("us", "UTC")
    ),
    "price": pa.array([Decimal("1.25"), Decimal("-9999999999999999.99"), None] * 4 + [Decimal("0.00")], pa.decimal128(18, 2)),
}


def signed(hashes: row_hashes.Hashes) -> list[int]:
    return hashes.view(np.int64).tolist()


def test_rows_have_the_hashes_that_spark_gives_them(spark: SparkSession) -> None:
    table = pa.table(COLUMNS)
    hashes = {"all": tables.fingerprint_of(list(COLUMNS)), "id": F.xxhash64("text", "number")}
    by_spark = spark.createDataFrame(table).select(*[value.alias(name) for name, value in hashes.items()]).toArrow()
    whole = row_hashes.of_rows(list(COLUMNS.values()))
    assert signed(whole) == by_spark["all"].to_pylist()
    assert signed(row_hashes.of_columns([COLUMNS["text"], COLUMNS["number"]])) == by_spark["id"].to_pylist()
    sliced = [column.slice(5, 7) for column in COLUMNS.values()]
    assert signed(row_hashes.of_rows(sliced)) == by_spark["all"].to_pylist()[5:12]


def test_a_hash_with_how_often_it_comes_is_hashed_as_spark_does(spark: SparkSession) -> None:
    hashes, counts = np.array([1, 2**64 - 1], np.uint64), np.array([1, 3])
    frame = spark.createDataFrame([(1, 1), (-1, 3)], "content bigint, n bigint")
    assert signed(row_hashes.of_counts(hashes, counts)) == [row[0] for row in frame.select(F.xxhash64("content", "n")).collect()]


@given(st.lists(st.lists(st.integers(0, 2**64 - 1).map(lambda n: n & ~(0xFF << 8)) | st.integers(0, 9))))
def test_hashes_that_come_more_than_once_are_found(parts: list[list[int]]) -> None:
    hashes = [np.array(part, np.uint64) for part in [*parts, []]]
    several = row_hashes.several(hashes)
    every = [number for part in parts for number in part]
    assert several.tolist() == sorted({number for number in every if every.count(number) > 1})
    for part in hashes:
        assert row_hashes.among(part, several).tolist() == [n for n, number in enumerate(part.tolist()) if every.count(number) > 1]
