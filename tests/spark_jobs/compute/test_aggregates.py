"""Values from merged states: the nearest double, whichever way it was come by."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from pyspark.sql import functions as F

from feature_definitions import Feature
from spark_jobs.compute import aggregates, tiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import Column, SparkSession

SPEND, MEAN = Feature("spend", "sum", "x", windows=["1d"]), Feature("mean", "mean", "x", windows=["1d"])
EDGES = [0, 1, 3, -7, 12_345, 2**53 - 1, 2**53, 2**53 + 1, 2**53 + 3, -(2**53) - 1, 2**62 + 1, -(2**63) + 1, 10**18 + 1]
HALVES = [
    (high, low)
    for high in (0, 1, -1, 2**29 - 1, 2**29, 2**29 + 1, -(2**29) - 1, 2**30 + 5)
    for low in (0, 1, 2**32 - 1, 2**61, 2**61 + 1)
    if -(2**63) <= high * 2**32 + low < 2**63
]


def computed(spark: SparkSession, feature: Feature, of: str, schema: str, rows: Sequence[tuple[object, ...]]) -> list[float]:
    """The feature's value from each row of parts, of which the count is 3; a part's column is its name."""

    def part(kind: str, name: str) -> Column:
        return F.lit(3).cast("bigint") if kind == "count" else F.col(name)

    frame = spark.createDataFrame(rows, schema)
    return [row[0] for row in frame.select(aggregates.value(feature, feature.windows[0], of=of, part=part)).collect()]


@pytest.mark.parametrize("exact", [None, Decimal(0), Decimal("0.00000001"), Decimal("-2.5")])
def test_the_sum_of_doubles_is_the_nearest_double(spark: SparkSession, exact: Decimal | None) -> None:
    schema = "short bigint, exact decimal(38,18), wide decimal(38,7), large double"
    for wide in (None, Decimal(0), Decimal("1000000000.5")):
        found = computed(spark, SPEND, "double", schema, [(short, exact, wide, None) for short in EDGES])
        other = Fraction(exact or 0) + Fraction(wide or 0)
        assert found == [float(Fraction(short, tiles.UNITS) + other) for short in EDGES]


def test_the_sum_of_integers_is_exact_and_their_mean_that_of_the_nearest_double(spark: SparkSession) -> None:
    totals = [high * 2**32 + low for high, low in HALVES]
    assert computed(spark, SPEND, "int64", "high bigint, low bigint", HALVES) == totals
    assert computed(spark, MEAN, "int64", "high bigint, low bigint", HALVES) == [float(total) / 3 for total in totals]
