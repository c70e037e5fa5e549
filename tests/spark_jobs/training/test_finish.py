"""What workers make of joined rows: dates of any time, and defaults for null of any type."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, cast

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import types as T

from spark_jobs import workers
from spark_jobs.training import finish


@given(st.lists(st.datetimes()))
def test_a_row_lies_at_the_utc_date_of_its_time_or_at_its_months_first_day(times: list[datetime]) -> None:
    column = pa.array([time.replace(tzinfo=UTC) for time in times], pa.timestamp("us", tz="UTC"))
    assert finish.dates(column, by="day").to_pylist() == [time.date() for time in times]
    assert finish.dates(column, by="month").to_pylist() == [date(time.year, time.month, 1) for time in times]


@pytest.mark.parametrize(
    ("kind", "value", "default"),
    [
        (pa.int64(), 5, 0),
        (pa.float64(), 5.5, 0),
        (pa.string(), "a", "none"),
        (pa.bool_(), True, False),
        (pa.decimal128(8, 2), Decimal("1.50"), Decimal("0.00")),
        (pa.timestamp("us", tz="UTC"), datetime(2026, 1, 5, tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC)),
        (pa.list_(pa.string()), ["a"], ("x", "y")),
        (pa.list_(pa.int64()), [1], ()),
    ],
)
def test_a_default_stands_for_null_alone(kind: pa.DataType, value: Any, default: Any) -> None:
    found = finish._filled(pa.array([value, None], kind), default)
    assert (found.type, found.to_pylist()) == (kind, [value, list(default) if isinstance(default, tuple) else default])


@given(st.lists(st.datetimes()), st.dates())
def test_marks_of_rows_before_a_date_are_null(times: list[datetime], first: date) -> None:
    column = pa.array([time.replace(tzinfo=UTC) for time in times], pa.timestamp("us", tz="UTC"))
    batch = pa.RecordBatch.from_pydict({"at": column, "value": pa.array(range(len(times))), "mark": pa.array([True] * len(times))})
    flow = finish.unmarked_before(first, workers.Flow(cast("Any", None), T.StructType()), ["mark"], at="at")
    (found,) = flow.works[0](iter([batch]))
    assert found.column("mark").to_pylist() == [True if time.date() >= first else None for time in times]
    assert (found.select(["at", "value"]), found.schema) == (batch.select(["at", "value"]), batch.schema)
