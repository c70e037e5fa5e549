"""Times in columns of Spark mean what Python reads of them: one table of spellings, and counts of every type."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import reduce
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyspark.sql import Column as Values
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_definitions import Column
from feature_definitions.times import UNITS, spelling
from lake.arrow_types import arrow_type
from spark_jobs.ingest import cells, table_times
from spark_jobs.ingest.table_times import Read
from tests.spellings import DATES, TIMES

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

EPOCHS: list[tuple[Any, str]] = [
    (1767592800, "int64"),
    (-1, "int64"),
    (2**63 - 1, "int64"),
    (-(2**63), "int64"),
    (2**63 - 1, "int64"),
    (253402300799, "int64"),
    (253402300800, "int64"),
    (-62135596800, "int64"),
    (-62135596801, "int64"),
    (1767592800.1, "double"),
    (float("nan"), "double"),
    (253402300800.0, "double"),
    (1e300, "double"),
    (Decimal("1767592800.123456700"), "decimal(19,9)"),
    (Decimal("-0.000000001"), "decimal(19,9)"),
]


def read_of(column: Column) -> Read:
    if column.epoch is not None:
        return table_times.of_counts(F.col("given"), column.epoch, given="string")
    how = spelling(column.format, column.data_type)
    if column.data_type == "date":
        found = table_times.dates_of_text(F.col("given"), how)
        return Read(found.values.cast("timestamp"), found.wrong)
    return table_times.of_text(F.col("given"), how, "Europe/Berlin")


def wrong_of(read: Read) -> Values:
    assert read.wrong is not None
    return read.wrong.alias("wrong")


def test_texts_mean_in_spark_what_they_mean_in_python(spark: SparkSession) -> None:
    expected = {(text, column): at for text, column, at in [*TIMES, *DATES]}
    columns = list(dict.fromkeys(column for _, column in expected))
    reads = [read_of(column) for column in columns]
    parts = [
        spark.createDataFrame([(text,) for text, each in expected if each == column], "given string").select(
            F.lit(n).alias("column"), "given", reads[n].values.alias("at"), wrong_of(reads[n])
        )
        for n, column in enumerate(columns)
    ]
    for row in reduce(DataFrame.union, parts).coalesce(1).toArrow().to_pylist():
        wanted = expected.pop((row["given"], columns[row["column"]]))
        assert row["at"] == (datetime.combine(wanted, time.min, UTC) if type(wanted) is date else wanted), row
        assert (row["wrong"] is None) == (wanted is not None), row
        assert wanted is not None or row["wrong"].startswith(f": '{row['given']}' is not "), row
    assert not expected


@pytest.mark.parametrize("data_type", ["int64", "double", "decimal(19,9)"])
def test_counts_mean_in_spark_what_they_mean_in_arrow(spark: SparkSession, data_type: str) -> None:
    rows = pa.table({"given": pa.array([count for count, kind in EPOCHS if kind == data_type], arrow_type(data_type))})
    given = spark.createDataFrame(rows)
    reads = {unit: table_times.of_counts(F.col("given"), unit, given=data_type) for unit in UNITS}
    found = given.coalesce(1).select(*[read.values.alias(unit) for unit, read in reads.items()]).toArrow()
    wrong = given.coalesce(1).select(*[wrong_of(read).isNull().alias(unit) for unit, read in reads.items()]).toArrow()
    for unit in UNITS:
        how = Column("timestamp", epoch=unit)  # type: ignore[arg-type]  # one of them
        expected, bad = cells.of_arrow(rows["given"].combine_chunks(), "timestamp", None, how=how)
        assert found[unit].to_pylist() == expected.to_pylist(), unit
        assert bad is not None
        assert wrong[unit].to_pylist() == [each is None for each in bad.to_pylist()], unit
