"""Checksums of columns: the same for the same values in the same rows, in whatever order and parts these come, and no other ones."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake import arrow_types
from spark_jobs.training import checksum

KINDS: dict[str, st.SearchStrategy[Any]] = {
    "int64": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False),
    "boolean": st.booleans(),
    "string": st.text(max_size=4),
    "date": st.dates(),
    "timestamp": st.datetimes(timezones=st.just(UTC)),
    "array<string>": st.lists(st.text(max_size=2), max_size=3),
}


def summed(rows: pa.Table) -> dict[str, int]:
    return checksum.of_columns(rows, ("value",), place="hw_row")


def table(kind: str, values: list[Any]) -> pa.Table:
    return pa.table({"hw_row": range(len(values)), "value": pa.array(values, arrow_types.arrow_type(kind))})


@given(st.data())
def test_rows_in_any_order_and_in_any_parts_have_one_checksum(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    rows = table(kind, data.draw(st.lists(st.none() | KINDS[kind], min_size=1, max_size=8)))
    turned = rows.take(data.draw(st.permutations(range(len(rows)))))
    cut = data.draw(st.integers(0, len(rows)))
    parts = [turned.slice(0, cut), pa.concat_tables([turned.slice(cut), turned.slice(0, 0)])]
    assert checksum.added(map(summed, parts)) == summed(rows)


@given(st.data())
def test_two_columns_have_one_checksum_if_and_only_if_they_hold_the_same(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    values = st.lists(st.none() | KINDS[kind], min_size=3, max_size=3)
    one, other = data.draw(values), data.draw(values)
    assert (summed(table(kind, one)) == summed(table(kind, other))) == (one == other)


@pytest.mark.parametrize(
    "values",
    [["ab", "c"], ["a", "bc"], ["", "abc"], [None, "abc"], ["abc", ""], ["abc", None], ["abc", "a"], ["a", "abc"]],
)
def test_texts_do_not_run_into_each_other(values: list[str | None]) -> None:
    others = [["ab", "c"], ["a", "bc"], ["", "abc"], [None, "abc"], ["abc", ""], ["abc", None], ["abc", "a"], ["a", "abc"]]
    assert [other for other in others if summed(table("string", other)) == summed(table("string", values))] == [values]


def test_what_is_one_value_has_one_checksum() -> None:
    assert summed(table("double", [0.0, float("nan")])) == summed(table("double", [-0.0, -float("nan")]))
    held = table("string", ["a", None, "b"])
    large = held.set_column(1, "value", held.column("value").cast(pa.large_string()))
    assert summed(large) == summed(held)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.decimal128(10, 2), [Decimal("1.50"), None]),
        (pa.struct([("a", pa.int64())]), [{"a": 1}, None]),
        (pa.binary(), [b"\x00", None]),
        (pa.date32(), [date(2026, 1, 5), None]),
        (pa.timestamp("us"), [datetime(2026, 1, 5), None]),  # noqa: DTZ001  # it has no zone
        (pa.float32(), [1.5, None]),
    ],
)
def test_a_column_of_any_type_has_one(kind: pa.DataType, values: list[Any]) -> None:
    rows = pa.table({"hw_row": [0, 1], "value": pa.array(values, kind)})
    turned = pa.table({"hw_row": [0, 1], "value": pa.array(values[::-1], kind)})
    assert summed(rows) == summed(rows.take([1, 0])) != summed(turned)


def test_many_rows_are_hashed_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = table("string", [f"n{n}" for n in range(100)])
    whole = summed(rows)
    monkeypatch.setattr(checksum, "_ROWS", 7)
    assert summed(rows) == whole


def test_the_checksum_of_a_table_knows_its_rows_names_and_types() -> None:
    columns = {"a": ("int64", "01"), "b": ("string", "02")}
    turned = {"b": ("string", "02"), "a": ("int64", "01")}
    others = [(2, columns), (1, {**columns, "a": ("double", "01")}), (1, {"a": columns["a"]}), (1, {**columns, "a": ("int64", "03")})]
    assert checksum.whole(1, columns) == checksum.whole(1, turned)
    assert all(checksum.whole(*other) != checksum.whole(1, columns) for other in others)
