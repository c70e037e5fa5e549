"""The places of a spine's rows: those of the order that the rows have, or, where they have none, of their times and ids."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from spark_jobs.training import order

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

START = datetime(2026, 1, 1, 22, tzinfo=UTC)


def test_rows_of_spark_are_counted_on_from_partition_to_partition(spark: SparkSession) -> None:
    rows = spark.range(0, 50, 1, 7).where("id % 10 > 2 AND (id < 14 OR id > 29)")
    found = order.held(rows).collect()
    assert [row[order.NUMBER] for row in found] == list(range(len(found)))
    assert [row["id"] for row in found] == sorted(row["id"] for row in found)


def test_rows_without_an_order_are_in_that_of_time_and_id_over_all_dates(spark: SparkSession) -> None:
    made = [(n * 7 % 40, START + timedelta(hours=n * 7 % 40 // 3)) for n in range(40)]
    rows = spark.createDataFrame(made, "id long, at timestamp").repartition(3)
    days = Counter({row["day"]: row["count"] for row in rows.groupBy(order.day("at").alias("day")).count().collect()})
    found = order.by_columns(rows, ["id"], at="at", days=days).orderBy(order.NUMBER).collect()
    assert [row[order.NUMBER] for row in found] == list(range(40))
    assert [row["id"] for row in found] == list(range(40))


def test_the_places_of_no_rows_are_none(spark: SparkSession) -> None:
    rows = spark.createDataFrame([], "id long, at timestamp")
    assert order.held(rows).collect() == []
    assert order.by_columns(rows, ["id"], at="at", days={}).where(F.col(order.NUMBER).isNotNull()).collect() == []
