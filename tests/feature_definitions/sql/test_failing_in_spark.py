"""Safe expressions against the raw ones in Spark's ANSI mode, over a table of odd values: where Spark raises they fail, else they agree."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from pyspark.sql import functions as F
from pyspark.sql.classic.column import Column

from feature_definitions.sql.expressions import spark_sql
from feature_definitions.sql.failing import safely
from spark_jobs.tables import columns_sql

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

COLUMNS = {
    "a": "int64",
    "b": "int64",
    "note": "string",
    "zone": "string",
    "x": "double",
    "d": "decimal(10,2)",
    "wide": "decimal(38,2)",
    "day": "date",
    "at": "timestamp",
    "days": "array<date>",
}
_DAY, _AT = date(2026, 1, 31), datetime(2026, 1, 31, 6, tzinfo=UTC)
_MOST = 2**63 - 1
ROWS = [
    (7, 2, "12", "UTC", 1.5, Decimal("2.50"), Decimal("2.50"), _DAY, _AT, [_DAY]),
    (_MOST, 0, "abc", "Europe/Berlin", 1e300, Decimal("99999999.99"), Decimal("9" * 36), _DAY, _AT, []),
    (-(2**63), -1, "", "nowhere", -1e300, Decimal("0.01"), Decimal("-" + "9" * 36), _DAY, _AT, [None]),
    (0, 13, "2026-02-30", "+25:99", 0.0, Decimal("-99999999.99"), Decimal("0.00"), _DAY, _AT, [_DAY]),
    (None, 1, "2026-02-03", "UTC", None, None, None, None, None, None),
    (1, None, None, None, 2.0, Decimal("1.00"), None, _DAY, None, [_DAY]),
    (2026, 2, "true", "Mon", 9.3e18, Decimal("3.00"), Decimal("0.12"), date(9999, 12, 31), _AT, [_DAY]),
    (3037000500, 3037000500, "1e400", " tue ", 4e9, Decimal("3.00"), Decimal("1e20"), date(1, 1, 1), _AT, [_DAY]),
    (3, 2, "a\\b", "a\\b", 2.0, Decimal("1.00"), None, _DAY, _AT, [_DAY]),
    (3, 2, None, "\\", 2.0, Decimal("1.00"), None, _DAY, _AT, [_DAY]),
    (3, 2, "A\\_%", "a\\\\\\_\\%", 2.0, Decimal("1.00"), None, _DAY, _AT, [_DAY]),
    (10**13, 200_000, "9223372036854775808", "UTC", -0.0, Decimal("7.00"), Decimal("4.00"), _DAY, _AT, [_DAY]),
]
CASES = [
    "cast(note AS BIGINT)",
    "int(note)",
    "cast(note AS DOUBLE)",
    "cast(note AS BOOLEAN)",
    "cast(note AS DATE)",
    "timestamp(note)",
    "cast(note AS DECIMAL(6,2))",
    "cast(a AS INT)",
    "cast(a AS DECIMAL(6,0))",
    "cast(x AS BIGINT)",
    "cast(x AS TIMESTAMP)",
    "cast(wide AS DECIMAL(10,2))",
    "cast(d AS INT)",
    "a + b",
    "a - b",
    "a * b",
    "a * 0.5",
    "-a",
    "- - a",
    "abs(a)",
    "negative(b)",
    "a div b",
    "a / b",
    "a % b",
    "pmod(a * 2, b)",
    "a * 2 % b",
    "a * 2 / b",
    "a * 2 div b",
    "round(a, -2)",
    "bround(a, -1)",
    "round(x * 2)",
    "floor(x)",
    "wide + wide",
    "wide * d",
    "wide / 0.001",
    "d / wide",
    "wide - x",
    "a * b + cast(note AS BIGINT)",
    "cast(note AS BIGINT) + a * b",
    "year(day) * 2000000",
    "year(note)",
    "hour(note)",
    "date_add(note, 1)",
    "datediff(day, note)",
    "date_trunc('day', note)",
    "months_between(at, note)",
    "date_format(note, 'yyyy')",
    "last_day(note)",
    "add_months(day, int(b))",
    "next_day(day, zone)",
    "make_date(int(b), int(b), int(b))",
    "make_date(2026, int(b), 30)",
    "to_date(note)",
    "to_date(note, 'yyyy-MM-dd')",
    "to_date(day, 'yyyy-MM-dd')",
    "to_timestamp(note)",
    "to_timestamp(note, 'yyyy-MM-dd')",
    "timestamp_seconds(a)",
    "timestamp_seconds(cast(x AS DECIMAL(38,8)))",
    "timestamp_millis(a)",
    "timestamp_micros(a)",
    "from_utc_timestamp(at, zone)",
    "to_utc_timestamp(at, zone)",
    "split_part(note, '-', int(b) - 2)",
    "substring(note, int(b), 2)",
    "left(note, 2) || cast(a AS STRING)",
    "day = note",
    "at < note",
    "day IN (note, '2026-01-31')",
    "day BETWEEN note AND '2026-12-31'",
    "NOT (day = note)",
    "days[int(note)]",
    "array_contains(days, cast(note AS DATE))",
    "case when b > 0 then cast(note AS BIGINT) else 1 end",
    "case when cast(note AS BIGINT) > 0 then 1 when a * b > 0 then 2 end",
    "case b when cast(note AS BIGINT) then 1 when 2 then a * 2 else a * 4 end",
    "if(b > 1, a * b, 0)",
    "nvl2(b, a * 2, int(note))",
    "coalesce(b, cast(note AS BIGINT))",
    "coalesce(try_cast(note AS BIGINT), a * 2)",
    "greatest(a * 2, b)",
    "nullif(b, a)",
    "b > 0 AND cast(note AS BIGINT) > 0",
    "b > 0 OR cast(note AS BIGINT) > 0",
    "NOT (b > 0 AND a * 2 > 0)",
    "(b IS NULL) = cast(note AS BOOLEAN)",
    "note LIKE cast(cast(note AS BIGINT) AS STRING)",
    "note LIKE zone",
    "NOT (note ILIKE zone)",
    "zone LIKE 'a\\\\\\\\b'",
    "concat(note, a * 2)",
    "concat_ws('-', note, a * 2)",
    "xxhash64(note, a * 2)",
    "sqrt(a * 2)",
    "try_divide(a * 2, b)",
    "cast(at AS INT)",
    "unix_micros(to_timestamp(note)) - a",
]


@pytest.fixture(scope="module")
def table(spark: SparkSession) -> DataFrame:
    # In one partition, and cached, so that neither side is folded to a constant.
    rows = spark.createDataFrame(ROWS, columns_sql(COLUMNS)).coalesce(1).cache()
    rows.count()
    return rows


def _raised_or_value(spark: SparkSession, sql: str) -> Column:
    """The raw expression as Spark computes it in ANSI mode, in a struct that is null where it raises."""
    jvm = spark._jvm
    assert jvm is not None
    raw = F.struct(F.expr(spark_sql(sql)).cast("string").alias("value"))
    utils = jvm.org.apache.spark.sql.classic.ExpressionUtils
    return Column(utils.column(jvm.org.apache.spark.sql.catalyst.expressions.TryEval(utils.expression(raw._jc))))


def test_a_safe_expression_fails_where_spark_raises_and_has_the_same_value_elsewhere(spark: SparkSession, table: DataFrame) -> None:
    spark.conf.set("spark.sql.subexpressionElimination.enabled", "false")  # it would compute outside of what catches
    try:
        columns = [_raised_or_value(spark, sql).alias(f"c{n}") for n, sql in enumerate(CASES)]
        expected = [[None if cell is None else (cell["value"],) for cell in row] for row in table.select(*columns).collect()]
    finally:
        spark.conf.unset("spark.sql.subexpressionElimination.enabled")
    both = []
    for sql in CASES:
        value, fails = safely(sql, COLUMNS)
        both += [F.expr(value).cast("string"), F.expr(fails or "false")]
    found = [[None if row[n + 1] else (row[n],) for n in range(0, len(row), 2)] for row in table.select(*both).collect()]
    wrong = [
        (sql, row, ours, theirs)
        for row, mine, raw in zip(ROWS, found, expected, strict=True)
        for sql, ours, theirs in zip(CASES, mine, raw, strict=True)
        if ours != theirs
    ]
    assert wrong == []
    assert all(cell is not None for row in table.select(*both[1::2]).collect() for cell in row)
