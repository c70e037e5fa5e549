"""Frames come in exactly, or are refused by their column and the reason: none of pandas', Arrow's or anybody's own errors gets out."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from feature_definitions.errors import InputRefused
from spark_jobs import frames

SOME = UUID("1e0534a7-c37b-491d-bde5-6ada8e04981c")
NAIVE = datetime(2026, 1, 5, 6)  # noqa: DTZ001  # on purpose
AWARE = datetime(2026, 1, 5, 6, tzinfo=UTC)
BIG = 2**53 + 1


class Streamed:
    """Anybody's frame: all that is known of it is the Arrow C stream."""

    def __init__(self, table: pa.Table) -> None:
        """Keep the rows."""
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows as a stream."""
        return self.table.__arrow_c_stream__(requested_schema)


class Broken:
    """A frame whose library fails."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Fail in its own way."""
        raise KeyError("no such query")


TAKEN: dict[str, tuple[Any, pa.DataType, list[object]]] = {
    "whole numbers beside null": (pd.array([BIG, None], dtype="Int64"), pa.int64(), [BIG, None]),
    "whole numbers as objects": (pd.Series([BIG, None], dtype=object), pa.int64(), [BIG, None]),
    "truth beside null": (pd.array([True, None], dtype="boolean"), pa.bool_(), [True, None]),
    "pandas' text": (pd.array(["007", None], dtype="string"), pa.string(), ["007", None]),
    "a category": (pd.Categorical(["b", None]), pa.string(), ["b", None]),
    "a UUID": (pd.Series([SOME, None]), pa.string(), [str(SOME), None]),
    "Decimals": (pd.Series([Decimal("1.50"), None]), pa.decimal128(3, 2), [Decimal("1.50"), None]),
    "NaN": ([1.5, float("nan")], pa.float64(), [1.5, None]),
    "dates": (pd.Series([date(2026, 1, 5), None]), pa.date32(), [date(2026, 1, 5), None]),
    "times in several zones": (pd.Series([AWARE, pd.Timestamp("2026-01-05T08:00+02:00")]), pa.timestamp("us", tz="UTC"), [AWARE, AWARE]),
    "nanoseconds before 1970": (
        pa.array([-1], pa.timestamp("ns", tz="UTC")),
        pa.timestamp("us", tz="UTC"),
        [datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)],
    ),
    "text of Arrow in views": (pa.array(["a", None], pa.string_view()), pa.string(), ["a", None]),
    "large text": (pa.array(["a", None], pa.large_string()), pa.string(), ["a", None]),
    "a dictionary": (pa.array(["a", None, "a"]).dictionary_encode(), pa.string(), ["a", None, "a"]),
    "runs": (pa.RunEndEncodedArray.from_arrays([2, 3], ["a", "b"]), pa.string(), ["a", "a", "b"]),
    "views of lists": (
        pa.array([["a"], None, ["b", "c"]], pa.list_view(pa.string_view())),
        pa.list_(pa.string()),
        [["a"], None, ["b", "c"]],
    ),
    "small and unsigned": (pa.array([2**32 - 1], pa.uint32()), pa.int64(), [2**32 - 1]),
    "nothing": ([None, None], pa.null(), [None, None]),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_a_column_is_taken_with_every_value_as_it_was(kind: str) -> None:
    given, data_type, values = TAKEN[kind]
    frame = pa.table({"x": given}) if isinstance(given, pa.Array) else pd.DataFrame({"x": given})
    column = frames.arrow(frame).column("x")
    assert (column.type, column.to_pylist()) == (data_type, values)


REFUSED: dict[str, tuple[Any, str]] = {
    "beyond int64": ([2**64, 1], "holds a whole number beyond int64"),
    "half a letter": (["a\ud800"], "holds text that is no Unicode"),
    "text and numbers": (["a", 1], "holds values of several types"),
    "numbers and fractions that a double cannot both hold": (pd.Series([BIG, 0.5], dtype=object), "holds values of several types"),
    "bytes and text": (pd.Series(["a", b"b"]), "holds values of several types: text and bytes"),
    "dates and times": (pd.Series([date(2026, 1, 5), AWARE], dtype=object), "holds values of several types: dates and times"),
    "times with a zone and without": (pd.Series([AWARE, NAIVE], dtype=object), "holds times with a zone and times without"),
    "complex numbers": ([1j], "is of type complex128, which Arrow does not know"),
    "a sparse column": (pd.arrays.SparseArray([0, 1]), "is of type Sparse[int64, 0], which Arrow does not know"),
    "intervals as categories": (pd.cut(pd.Series([1.0, 2.0]), 2), "cannot be kept"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_column_that_has_no_place_is_refused_by_name_and_reason(kind: str) -> None:
    given, sentence = REFUSED[kind]
    with pytest.raises(InputRefused, match="column 'x' of the frame") as refused:
        frames.arrow(pd.DataFrame({"x": given}))
    assert sentence in str(refused.value)


def test_times_that_microseconds_cannot_hold_are_refused() -> None:
    with pytest.raises(InputRefused, match="column 'x' of the frame is a timestamp"):
        frames.arrow(pa.table({"x": pa.array([2**62], pa.timestamp("s", tz="UTC"))}))


def test_two_columns_of_one_name_are_refused() -> None:
    twice = pd.DataFrame([[1, 2]], columns=["x", "x"])
    for frame in (twice, pa.table([[1], [2]], names=["x", "x"])):
        with pytest.raises(InputRefused, match="the frame has the column 'x' more than once"):
            frames.arrow(frame)


def test_nothing_is_asked_of_columns_that_nobody_wants() -> None:
    frame = pd.DataFrame({"x": [1], "y": [2**64], "z": [1j]})
    assert frames.arrow(frame, wanted={"x"}).to_pylist() == [{"x": 1}]


@pytest.mark.parametrize(
    "frame",
    [
        Streamed(pa.table({"x": [BIG, None], "y": ["a", "b"]})),
        pa.record_batch({"x": [BIG, None], "y": ["a", "b"]}),
        pa.table({"x": [BIG, None], "y": ["a", "b"]}).to_reader(),
    ],
    ids=["our own", "a batch", "a reader"],
)
def test_anything_with_the_arrow_stream_is_a_frame(frame: object) -> None:
    assert frames.arrow(frame).to_pylist() == [{"x": BIG, "y": "a"}, {"x": None, "y": "b"}]


def test_a_relation_of_duckdb_is_a_frame() -> None:
    with duckdb.connect() as connection:
        relation = connection.sql(f"SELECT * FROM (VALUES ({BIG}, 'a'), (NULL, 'b')) rows(x, y)")
        assert frames.arrow(relation).to_pylist() == [{"x": BIG, "y": "a"}, {"x": None, "y": "b"}]


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (Broken(), "the Broken gives no rows: 'no such query'"),
        (pa.chunked_array([["a"]]), "the ChunkedArray gives no rows"),
        (7, "a frame is a pandas DataFrame or an Arrow table, not a int; those of Spark, and all with the Arrow C stream"),
    ],
)
def test_what_gives_no_rows_is_named(frame: object, sentence: str) -> None:
    with pytest.raises(InputRefused, match=sentence):
        frames.arrow(frame)


def test_text_that_is_no_utf_8_is_refused() -> None:
    text = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe"))
    with pytest.raises(InputRefused, match=r"gives no rows: Column 0: .*Invalid UTF8"):
        frames.arrow(pa.table({"x": text}))
