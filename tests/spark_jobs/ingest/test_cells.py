"""A value is one and the same whether it comes as a cell's text, as a value of JSON, or in a column of Arrow; no Spark."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions import Csv
from lake.arrow_types import arrow_type
from spark_jobs.ingest import cells, plain_numbers
from spark_jobs.ingest.cells import Number, Unfit

if TYPE_CHECKING:
    from collections.abc import Mapping

VALUES: Mapping[str, st.SearchStrategy[Any]] = {
    "string": st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "date": st.dates(),
    "timestamp": st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001  # made aware
    "decimal(6,2)": st.integers(-999_999, 999_999).map(lambda cents: Decimal(cents).scaleb(-2)),
}


def written(value: object) -> str:
    """A value as a cell of a CSV file has it."""
    return value.isoformat() if isinstance(value, date | datetime) else str(value)


def in_json(value: object) -> object:
    """A value as a line of JSON has it: numbers as they are written, what JSON has no type for as text."""
    told = json.dumps(value if isinstance(value, str | bool | int | float) else written(value))
    return json.loads(told, parse_int=Number, parse_float=Number)


@pytest.mark.parametrize("data_type", VALUES)
@given(data=st.data())
def test_a_value_is_the_same_from_text_from_json_and_from_arrow(data_type: str, data: st.DataObject) -> None:
    value = data.draw(VALUES[data_type])
    column, bad = cells.of_arrow(pa.array([value, None], arrow_type(data_type)), data_type, "UTC")
    assert cells.of_text(data_type, "UTC")(written(value)) == value
    assert cells.of_json(data_type, "UTC")(in_json(value)) == value
    assert (column.to_pylist(), bad is None or not any(bad.to_pylist())) == ([value, None], True)


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()])
def test_a_date_is_the_midnight_with_which_it_begins_where_the_source_says(kind: pa.DataType) -> None:
    days = pa.array([date(2026, 7, 1), None, date(2026, 1, 1)], kind)
    found, _ = cells.of_arrow(days, "timestamp", "Europe/Berlin")
    assert found.to_pylist() == [datetime(2026, 6, 30, 22, tzinfo=UTC), None, datetime(2025, 12, 31, 23, tzinfo=UTC)]
    with pytest.raises(Unfit, match="say where their days begin by the source's timezone='UTC'"):
        cells.of_arrow(days, "timestamp", None)


@pytest.mark.parametrize(
    ("values", "wanted", "said"),
    [
        (pa.array([2**64 - 1, 7, None], pa.uint64()), "int64", ": '18446744073709551615' is not an int64"),
        (pa.array([2**53 + 1, 7, None]), "double", ": '9007199254740993' is not exactly a double"),
        (pa.array([Decimal("1.25"), Decimal(7), None]), "decimal(6,1)", ": '1.25' does not fit a decimal(6,1)"),
        (pa.array([2**31 - 1, 7, None], pa.int32()).cast(pa.date32()), "date", " is not between the years 1 and 9999"),
    ],
)
def test_a_number_that_has_no_place_in_a_type_costs_itself_alone(values: pa.Array, wanted: str, said: str) -> None:
    found, bad = cells.of_arrow(values, wanted, None)
    found = found.cast(pa.int32()) if wanted == "date" else found
    assert (found.to_pylist(), bad.to_pylist()) == ([None, 7, None], [said, None, None])


def test_a_type_that_a_source_may_have_is_told_to_be_written() -> None:
    with pytest.raises(Unfit, match=r'is a decimal128\(12, 2\), the source says double. Write "decimal\(12,2\)" for it'):
        cells.of_arrow(pa.array([Decimal("1.25")], pa.decimal128(12, 2)), "double", None)


@pytest.mark.parametrize(("given_type", "wanted"), [(pa.string(), "int64"), (pa.float64(), "decimal(6,2)"), (pa.int64(), "array<int64>")])
def test_a_column_of_another_type_has_no_place(given_type: pa.DataType, wanted: str) -> None:
    with pytest.raises(Unfit, match=f"is a {given_type}, the source says {wanted}".replace("(", r"\(").replace(")", r"\)")):
        cells.of_arrow(pa.nulls(1, given_type), wanted, "UTC")


@pytest.mark.parametrize("kind", ["int64", "double", "decimal(6,2)"])
@pytest.mark.parametrize("text", ["\u0661", "1\u0662", "\uff11", "1_0"])
def test_a_number_is_written_in_the_digits_from_0_to_9(kind: str, text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        cells.of_text(kind, None)(text)
    with pytest.raises(ValueError, match="is not"):
        plain_numbers.of_text(cells.of_text(kind, None), kind, Csv(decimal=",", thousands="."))(f"{text}.000")
