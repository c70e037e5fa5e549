"""The SQL of the checks counts, in Spark, the rows that the definition calls bad."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from expectations.conditions import screen
from expectations.suite import Check, bad_row_sql, checks
from feature_definitions import (
    Entity,
    Expectation,
    Feature,
    Source,
    WindowedGroup,
    at_least,
    at_most,
    between,
    expression,
    not_null,
    one_of,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

customer = Entity("customer", keys={"customer_id": "int64"})
payments = Source("payments", columns={"customer_id": "int64", "paid_at": "timestamp", "x": "double"}, event_timestamp="paid_at")
ARROW = {
    "double": pa.float64(),
    "bigint": pa.int64(),
    "decimal(38,18)": pa.decimal128(38, 18),
    "string": pa.string(),
    "boolean": pa.bool_(),
}
AWKWARD = ("it's", "a\\nb", "${spark.app.name}", "", "ü\n")
NAN, INFINITY = float("nan"), float("inf")


def group(*expect: Expectation) -> WindowedGroup:
    """A group whose one column is x_1d."""
    return WindowedGroup("g", customer, payments, ttl="2d", features=(Feature("x", "last", "x", windows=("1d",), expect=expect),))


def frame(spark: SparkSession, kind: str, values: list[object]) -> DataFrame:
    """One row per value, of as many customers."""
    numbers = range(len(values))
    columns = {"customer_id": list(numbers), "event_timestamp": [0 for _ in numbers], "x_1d": pa.array(values, ARROW[kind])}
    return spark.createDataFrame(pa.table(columns))


@pytest.mark.parametrize(
    ("expectation", "kind", "good", "bad"),
    [
        (at_least(0.1), "double", [0.1, INFINITY, None], [0.09999999999999999, -INFINITY, NAN]),
        (at_most(0.3), "double", [0.3, -INFINITY, None], [0.30000000000000004, INFINITY, NAN]),
        (between(-1, 1), "double", [-1.0, 1.0, None], [-1.0000000000000002, 1.0000000000000002, NAN]),
        (at_most(INFINITY), "double", [INFINITY, 1e308, None], [NAN]),
        (at_least(1e-300), "double", [1e-300], [9.9e-301, 0.0]),
        (at_least(0), "bigint", [0, 2**63 - 1, None], [-1, -(2**63)]),
        (at_most(2**53), "bigint", [2**53, None], [2**53 + 1]),
        (at_most(0.5), "bigint", [0], [1]),
        (at_least(-(2**63)), "bigint", [-(2**63)], []),
        (at_most(10**60), "bigint", [2**63 - 1], []),
        (at_most(0.3), "decimal(38,18)", [Decimal("0.3"), None], [Decimal("0.300000000000000001")]),
        (one_of(1, 2.5), "double", [1.0, 2.5, None], [2.0, NAN]),
        (one_of(1, 2), "bigint", [1, 2, None], [3]),
        (one_of(True), "boolean", [True, None], [False]),
        (one_of(*AWKWARD), "string", [*AWKWARD, None], ["its", "a\nb"]),
        (not_null(), "string", ["", "x"], [None]),
        (expression("x_1d > 0"), "double", [1.0, None], [0.0, -1.0]),
    ],
)  # fmt: skip
def test_bad_rows_are_counted_and_good_ones_and_nulls_are_not(
    spark: SparkSession, expectation: Expectation, kind: str, good: list[object], bad: list[object]
) -> None:
    check = next(check for check in checks(group(expectation)) if check.id == f"x_1d:{expectation}" or check.id.startswith("x:"))
    rows = frame(spark, kind, [*good, *bad])
    screened = screen(expectation, "`x_1d`")
    (found,) = rows.selectExpr(f"{check.count} AS bad", f"{screened or check.count} AS some").collect()
    assert (found.bad, bool(found.some)) == (len(bad), bool(bad))
    condition, reasons = bad_row_sql([check])
    named = rows.where(condition).selectExpr("customer_id", f"{reasons} AS failed").collect()
    assert [tuple(row) for row in named] == [(number, [check.id]) for number in range(len(good), len(good) + len(bad))]


def test_rows_that_share_a_key_and_a_time_are_found(spark: SparkSession) -> None:
    made = {check.id: check for check in checks(group(at_most(5)))}
    failed: list[Check] = [made[name] for name in ("customer_id:not_null", "rows:unique", "x_1d:at_most(5)")]
    keys, times, values = [1, 1, 1, 2, None], [0, 0, 1, 0, 0], [1.0, 9.0, 1.0, 1.0, 1.0]
    rows = spark.createDataFrame(pa.table({"customer_id": keys, "event_timestamp": times, "interval_start": [0] * 5, "x_1d": values}))
    condition, reasons = bad_row_sql(failed)
    found = rows.where(condition).selectExpr("*", f"{reasons} AS failed").where("size(failed) > 0").collect()
    assert {(row.customer_id, row.x_1d): row.failed for row in found} == {
        (1, 1.0): ["rows:unique"],
        (1, 9.0): ["rows:unique", "x_1d:at_most(5)"],
        (None, 1.0): ["customer_id:not_null"],
    }


def test_what_is_not_finite_is_found_in_any_column(spark: SparkSession) -> None:
    finite = next(check for check in checks(group()) if check.id == "rows:finite")
    (found,) = frame(spark, "double", [1.0, None, NAN, INFINITY, -INFINITY]).selectExpr(finite.count).collect()
    assert tuple(found) == (3,)
