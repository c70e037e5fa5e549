"""Values from merged states: the nearest double, whichever way it was come by."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from pyspark.sql import functions as F

from feature_definitions import Entity, Feature, Rows, Source, WindowedGroup
from feature_definitions.aggregations import ACCUMULATORS, AGGREGATIONS, Aggregation
from feature_definitions.intervals import DAY, Interval
from feature_definitions.sql.column_types import column_types_of
from spark_jobs.compute import aggregates, tiles, windows
from spark_jobs.compute.aggregates import Value
from tests.histories import MIDNIGHT
from tests.offline import live_frame

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


def test_sums_over_the_last_rows_keep_all_digits_after_the_point(spark: SparkSession) -> None:
    number = Decimal("0.123456789012345678")
    totals = [_summed(spark, data_type, [number, number]) for data_type in ("decimal(20,18)", "decimal(38,18)")]
    assert totals == [2 * number, 2 * number]
    assert _summed(spark, "decimal(38,0)", [Decimal(9 * 10**37), Decimal(10**37 - 1)]) == 10**38 - 1


def _summed(spark: SparkSession, data_type: str, numbers: Sequence[Decimal]) -> Decimal:
    """The sum of the last rows, which hold these numbers."""
    frame = spark.createDataFrame([(list(numbers),)], f"numbers array<{data_type}>")
    rows = aggregates.values_of(F.transform("numbers", lambda number: F.struct(number.alias("value"))))
    feature = Feature("x", "sum", "x", windows=(Rows(2, within="1d"),))
    total = aggregates.value(feature, feature.windows[0], of=data_type, part=lambda *_: rows)
    return frame.select(total).collect()[0][0]  # type: ignore[no-any-return]


def test_every_aggregation_has_its_value_in_spark_and_every_accumulator_its_expression() -> None:
    assert aggregates.VALUES.keys() == AGGREGATIONS.keys()
    assert tiles.EXPRESSIONS.keys() == ACCUMULATORS.keys()


def test_sums_are_made_of_what_a_value_adds_and_everything_else_is_gathered() -> None:
    for name, expression in tiles.EXPRESSIONS.items():
        assert (expression.added is None) == (expression.gathered is not None)
        assert expression.added is None or ACCUMULATORS[name].merge == "sum"


def test_a_new_aggregation_is_a_row_of_the_table_and_one_expression(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    spread = Aggregation("spread", "numbers", lambda data_type: data_type, ("max", "min"), empty=0)
    monkeypatch.setitem(AGGREGATIONS, "spread", spread)  # type: ignore[arg-type]  # it is a dict
    in_spark = Value(
        lambda window: window.part("max", "value") - window.part("min", "value"),
        lambda rows: F.array_max(rows.values) - F.array_min(rows.values),
    )
    monkeypatch.setitem(aggregates.VALUES, "spread", in_spark)  # type: ignore[arg-type]  # it is a dict
    source = Source("payments", columns={"customer": "int64", "at": "timestamp", "amount": "double"}, event_timestamp="at")
    feature = Feature("spread", "spread", "amount", windows=("1d", "2d", Rows(2, within="2d")))
    group = WindowedGroup("spend", Entity("customer", {"customer": "int64"}), source, ttl="2d", features=(feature,))
    events = [{"customer": 1, "at": MIDNIGHT + n * DAY / 2, "amount": amount} for n, amount in enumerate((1.0, 7.0, 2.0))]
    spans = [Interval(MIDNIGHT, MIDNIGHT + 4 * DAY)]
    frame = windows.rows(group, live_frame(spark, source, events), spans=spans, types=column_types_of(group))
    found = {row["event_timestamp"].day - MIDNIGHT.day: tuple(row[name] for name in group.outputs) for row in frame.collect()}
    assert found == {1: (6.0, 6.0, 6.0), 2: (0.0, 6.0, 5.0), 3: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)}
