"""Frames that callers hand in: pandas, Spark, or anything with the Arrow C stream, as Arrow tables in types that a lake keeps."""

from collections.abc import Collection, Mapping
from datetime import date, datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_definitions.errors import InputRefused


def arrow(frame: object, *, wanted: Collection[str] | None = None) -> pa.Table:
    """A frame as an Arrow table; pandas' NaN is null, its index is left out, text and whole numbers of any width have ours.

    Only columns that are `wanted` are looked at (None: all). Raises InputRefused, naming the column, for values that Arrow cannot hold.
    """
    if isinstance(frame, pd.DataFrame):
        return _of_pandas(frame, wanted)
    given = _streamed(frame)
    _check_names(given.column_names)
    return _table(
        {name: _kept(name, given.column(name)) for name in given.column_names if wanted is None or name in wanted}, given.num_rows
    )


def _table(columns: Mapping[str, pa.ChunkedArray], rows: int) -> pa.Table:
    """A table of columns, which knows its rows where it has no columns too."""
    return pa.table(dict(columns)) if columns else pa.table({"": pa.nulls(rows)}).select([])


def _check_names(names: Collection[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputRefused(f"the frame has the column {name!r} more than once; rename one of them")
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise InputRefused(f"the frame has a column {name!r}, whose name is no Unicode text (half of a surrogate pair); rename it")
        seen.add(name)


# ----------------------------------------------------------------------------------------------------------------------- pandas


def _of_pandas(frame: pd.DataFrame, wanted: Collection[str] | None) -> pa.Table:
    names = [str(label) for label in frame.columns]
    _check_names(names)
    places = [(place, name) for place, name in enumerate(names) if wanted is None or name in wanted]
    return _table({name: _kept(name, _column(name, frame.iloc[:, place])) for place, name in places}, len(frame))


def _column(name: str, values: "pd.Series[Any]") -> pa.ChunkedArray:
    """A column of pandas in Arrow's type for it; what Arrow would silently make one type of several is refused."""
    if values.dtype == object:
        _refuse_several(name, values)
    try:
        column = pa.array(values, from_pandas=True)
    except UnicodeEncodeError:
        raise InputRefused(f"column {name!r} of the frame holds text that is no Unicode (half of a surrogate pair)") from None
    except OverflowError:
        raise InputRefused(f"column {name!r} of the frame holds a whole number beyond int64; make the column text or Decimal") from None
    except (pa.ArrowException, TypeError, ValueError) as error:
        if values.dtype != object:
            raise InputRefused(f"column {name!r} of the frame is of type {values.dtype}, which Arrow does not know; convert it") from None
        raise InputRefused(
            f"column {name!r} of the frame holds values of several types, or of one that Arrow lacks: {_said(error)}"
        ) from None
    return column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])


_ALIKE = {str: "text", bytes: "bytes", date: "dates", datetime: "times", pd.Timestamp: "times"}
"""Python's types of which Arrow takes one for another and changes the value: bytes for text, a date for a time."""


def _refuse_several(name: str, values: "pd.Series[Any]") -> None:
    kinds = {kind: kind for kind in map(type, values)}
    families = list(dict.fromkeys(_ALIKE[kind] for kind in kinds if kind in _ALIKE))
    if len(families) > 1:
        raise InputRefused(f"column {name!r} of the frame holds values of several types: {' and '.join(families)}")
    if families == ["times"] and len({value.tzinfo is None for value in values if type(value) in _ALIKE}) > 1:
        raise InputRefused(f"column {name!r} of the frame holds times with a zone and times without; give all of them a zone")


# ------------------------------------------------------------------------------------------------------------------------ Arrow


def _streamed(frame: Any) -> pa.Table:
    """The rows of anything that gives them as Arrow's C stream, or of Spark's frames."""
    if not any(hasattr(frame, way) for way in ("toArrow", "__arrow_c_stream__", "__arrow_c_array__")):
        raise InputRefused(
            f"a frame is a pandas DataFrame or an Arrow table, not a {type(frame).__name__}; "
            "those of Spark, and all with the Arrow C stream, like those of Polars and DuckDB, are taken too"
        )
    try:
        table = frame.toArrow() if hasattr(frame, "toArrow") else pa.table(frame)
        table.validate(full=True)
    except Exception as error:  # whose library the frame is of may raise anything, and it is all about the frame
        raise InputRefused(f"the {type(frame).__name__} gives no rows: {_said(error)}") from error
    return table


def _kept(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column in the type in which it is kept: a UUID is text, a time is its whole microsecond."""
    try:
        return _cast(column)
    except pa.ArrowException as error:
        raise InputRefused(f"column {name!r} of the frame is a {column.type}, which cannot be kept: {_said(error)}") from None


def _cast(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        return _cast(column.cast(column.type.value_type))
    if pa.types.is_run_end_encoded(column.type):
        return _cast(pa.chunked_array([pc.run_end_decode(chunk) for chunk in column.chunks], column.type.value_type))
    if column.type == pa.uuid():
        return pa.chunked_array([pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())])
    kept = _kept_type(column.type)
    if kept == column.type:
        return column
    if _holds_a_view(column.type):
        return pa.chunked_array([pa.array(column.to_pylist(), kept)])
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = pc.floor_temporal(column, unit="microsecond")  # a cast cuts times before 1970 to a later one
    return column.cast(kept)


def _kept_type(given: pa.DataType) -> pa.DataType:
    """The type in which one of Arrow is kept; one that has no place stays, to be refused by whoever needs the column."""
    match given:
        case pa.TimestampType():
            return pa.timestamp("us", tz=given.tz)
        case pa.ListType() | pa.LargeListType() | pa.FixedSizeListType() | pa.ListViewType() | pa.LargeListViewType():
            return pa.list_(_kept_type(given.value_type))
        case pa.MapType():
            return pa.map_(_kept_type(given.key_type), _kept_type(given.item_type))
        case pa.StructType():
            return pa.struct([pa.field(field.name, _kept_type(field.type)) for field in given.fields])
        case pa.DictionaryType():
            return _kept_type(given.value_type)
        case pa.Decimal32Type() | pa.Decimal64Type() | pa.Decimal256Type() if given.precision <= 38:
            return pa.decimal128(given.precision, given.scale)
        case pa.FixedSizeBinaryType() if not pa.types.is_decimal(given):
            return pa.binary()
    return _PLAIN.get(given, given)


_PLAIN = {
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
    pa.uint8(): pa.int64(),
    pa.uint16(): pa.int64(),
    pa.uint32(): pa.int64(),
    pa.date64(): pa.date32(),
}


def _holds_a_view(given: pa.DataType) -> bool:
    """Whether a type holds a list view, of which Arrow 26 makes a list without its values (seen)."""
    view = isinstance(given, pa.ListViewType | pa.LargeListViewType)
    return view or any(_holds_a_view(given.field(place).type) for place in range(given.num_fields))


def _said(error: Exception) -> str:
    """What a library says of a mistake: its first line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
