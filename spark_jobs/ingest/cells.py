"""Turns what a file holds into typed values: a cell's text, a JSON value, a column of Arrow; says of each that has no place why."""

import json
import math
import re
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation, localcontext
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from feature_definitions import times
from feature_definitions.language import Column
from feature_definitions.sql.data_types import element_of, is_array, is_decimal, is_number, may_hold
from feature_definitions.times import Spelling
from lake.arrow_types import arrow_type
from spark_jobs.ingest import time_columns

INT64 = range(-(2**63), 2**63)
Cell = Callable[[str], object]
Json = Callable[[object], object]


class Unfit(ValueError):
    """A column whose values have no place in the type that the source says."""


# -------------------------------------------------------------------------------------------------------------------------- text


def of_text(kind: str, timezone: str | None, *, how: Column | None = None) -> Cell:
    """What turns the text of a cell into a value of a type; it raises ValueError for text that is none.

    `how` says how times are written, by default in ISO 8601.
    """
    match kind:
        case "string":
            return _text
        case "int64":
            return _int64
        case "double":
            return _double
        case "boolean":
            return _boolean
        case "date":
            return _date(how or Column(kind))
        case "timestamp":
            return _timestamp(how or Column(kind), None if timezone is None else ZoneInfo(timezone))
    return _decimal(kind)


def _text(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8 text") from None
    return text


def _int64(text: str) -> int:
    if _WHOLE.fullmatch(text) is None or (value := int(text)) not in INT64:
        raise ValueError("is not an int64")
    return value


_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,30}\s*")


def _double(text: str) -> float:
    if not _is_plain(text):
        raise ValueError("is not a double")
    try:
        value = float(text)
    except ValueError:
        raise ValueError("is not a double") from None
    if not math.isfinite(value):
        raise ValueError("is not a finite number")
    return value


def _is_plain(text: str) -> bool:
    """Whether a number is without what only Python takes for one: digits of other scripts, and `_` between digits."""
    return text.strip().isascii() and "_" not in text


def _boolean(text: str) -> bool:
    match text.strip().lower():
        case "true" | "t" | "yes" | "y" | "1":
            return True
        case "false" | "f" | "no" | "n" | "0":
            return False
    raise ValueError("is not a boolean (true or false)")


def _date(how: Column) -> Cell:
    spelling = times.spelling(how.format, "date")
    return _taught(lambda text: times.read_date(text, spelling), how, spelling)


def _timestamp(how: Column, zone: ZoneInfo | None) -> Cell:
    if (unit := how.epoch) is not None:
        return lambda text: times.read_count(text, unit)
    spelling = times.spelling(how.format, "timestamp")
    return _taught(lambda text: times.read_time(text, spelling, zone), how, spelling)


def _taught(read: Cell, how: Column, spelling: Spelling) -> Cell:
    """Where a definition does not say how times are written, a text that is none is told what would be to write."""

    def convert(text: str) -> object:
        try:
            return read(text)
        except ValueError as error:
            missed = how.format is None and str(error) == spelling.otherwise
            raise ValueError(f"{error}{times.advice(text, how.data_type) if missed else ''}") from None

    return convert


def _decimal(kind: str) -> Cell:
    digits, scale = (int(part) for part in kind.removeprefix("decimal(").rstrip(")").split(","))

    def convert(text: str) -> Decimal:
        if not _is_plain(text):
            raise ValueError(f"is not a {kind}")
        try:
            with localcontext(prec=100, rounding=ROUND_HALF_EVEN):
                given = Decimal(text.strip())
                value = given.quantize(Decimal(1).scaleb(-scale))
        except InvalidOperation:
            raise ValueError(f"is not a {kind}") from None
        if value != given or len(value.as_tuple().digits) > max(digits, 1):
            raise ValueError(f"does not fit a {kind}")
        return value

    return convert


# -------------------------------------------------------------------------------------------------------------------------- JSON


class Number(str):
    """A number of JSON as it was written, so that no digit is lost before its column's type is known."""

    __slots__ = ()


def of_json(kind: str, timezone: str | None, *, how: Column | None = None) -> Json:
    """Takes a value of a JSON field: a list for an array's type alone, a number for a number's, text for what else JSON writes so."""
    if is_array(kind):
        element = of_json(element_of(kind), timezone)
        return _json_list(element, kind)
    cell = of_text(kind, timezone, how=how)
    counts = is_number(kind) or kind in ("date", "timestamp")

    def convert(given: object) -> object:
        match given:
            case bool() if kind == "boolean":
                return given
            case Number() if counts:
                return cell(given)
            case str() if not isinstance(given, Number):
                return cell(given)
        raise ValueError(f"is not {'an' if kind == 'int64' else 'a'} {kind}")

    return convert


def _json_list(element: Json, kind: str) -> Json:
    def convert(given: object) -> object:
        match given:
            case list():
                return [None if each is None else element(each) for each in given]
        raise ValueError(f"is not an {kind}")

    return convert


def written(value: object) -> str:
    """A value as JSON writes it, text without its quotes."""
    match value:
        case str():
            return value
        case list():
            return "[" + ", ".join(written(each) for each in value) + "]"
        case dict():
            return "{" + ", ".join(f"{key}: {written(each)}" for key, each in value.items()) + "}"
    return json.dumps(value)


# ------------------------------------------------------------------------------------------------------------------------- Arrow


def of_arrow(array: pa.Array, kind: str, timezone: str | None, *, how: Column | None = None) -> tuple[pa.Array, pa.Array | None]:
    """A column in a type, and what is said of its values that have no place in it; raises Unfit for a column of another type."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), arrow_type(kind)), None
    if is_array(kind) and any(is_list(array.type) for is_list in _LISTS):
        return _of_lists(array.cast(pa.list_(array.type.value_type)), element_of(kind), timezone)
    given = named(array.type)
    if given == "string" and kind in ("date", "timestamp"):
        return _of_texts(array, of_text(kind, timezone, how=how), kind)
    if how is not None and how.epoch is not None and is_number(given):
        return _of_counts(array, how.epoch)
    return _of_type(array, kind, timezone)


def _of_type(array: pa.Array, kind: str, timezone: str | None) -> tuple[pa.Array, pa.Array | None]:
    given = named(array.type)
    if given == "date" and kind == "timestamp":
        array = _midnights(array, timezone)
    elif not may_hold(given, kind) and not (is_decimal(given) and is_decimal(kind)):
        raise Unfit(f"is a {array.type}, the source says {kind}.{_advice(array, kind)}")
    if kind == "timestamp":
        if array.type.tz is None and timezone is None:
            raise Unfit("has times without zone; say where they were written down by the source's timezone='UTC'")
        return time_columns.of_times(array, None if timezone is None else ZoneInfo(timezone))
    try:
        result = pc.cast(array, arrow_type(kind), safe=not pa.types.is_floating(array.type))
    except pa.ArrowInvalid:
        texts = pa.array([None if value is None else str(value) for value in array.to_pylist()], pa.string())
        return _of_texts(texts, _exactly(kind), kind)
    return _finite(result) if kind == "double" else _of_years(result) if kind == "date" else (result, None)


def _midnights(array: pa.Array, timezone: str | None) -> pa.Array:
    """Dates as the times without zone with which they begin."""
    if timezone is None:
        raise Unfit("has dates, the source says timestamp; say where their days begin by the source's timezone='UTC'")
    return array.cast(pa.date32()).cast(pa.timestamp("s"))


def _exactly(kind: str) -> Cell:
    """What makes a value of a number's text, if that loses nothing."""
    cell = of_text(kind, None)

    def convert(text: str) -> object:
        value = cell(text)
        if isinstance(value, float) and value != Decimal(text):
            raise ValueError(f"is not exactly a {kind}")
        return value

    return convert


_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def _of_lists(array: pa.ListArray, kind: str, timezone: str | None) -> tuple[pa.Array, pa.Array | None]:
    """Lists with their elements in the type wanted, and what is said of those that hold an unsound one."""
    flat = pc.list_flatten(array)
    elements, bad = of_arrow(flat, kind, timezone) if pa.types.is_dictionary(flat.type) else _of_type(flat, kind, timezone)
    lengths = pc.fill_null(pc.list_value_length(array), 0)
    ends = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())])
    lists = pa.ListArray.from_arrays(ends, elements, mask=pc.is_null(array))
    if bad is None:
        return lists, None
    at = pc.list_parent_indices(array).filter(pc.is_valid(bad)).cast(pa.int64())
    return lists, _said(pc.is_in(pa.array(range(len(array)), pa.int64()), value_set=at), f" holds what is not {_SOUND[kind]}")


_SOUND = {"double": "a finite number", "timestamp": "between the years 1 and 9999 in UTC", "date": "between the years 1 and 9999"}


def _of_texts(array: pa.Array, cell: Cell, kind: str) -> tuple[pa.Array, pa.Array]:
    """Values of text, as cells hold them."""
    found: list[object] = []
    wrong: list[str | None] = []
    for text in array.to_pylist():
        try:
            found.append(None if text is None else cell(text))
            wrong.append(None)
        except ValueError as error:
            found.append(None)
            wrong.append(f": {text[:1000]!r} {error}")
    return pa.array(found, arrow_type(kind)), pa.array(wrong, pa.string())


def _of_counts(array: pa.Array, unit: str) -> tuple[pa.Array, pa.Array]:
    if not pa.types.is_decimal(array.type):
        return time_columns.of_numbers(array, unit)
    texts = [None if value is None else f"{value:.9f}" for value in array.to_pylist()]
    return _of_texts(pa.array(texts, pa.string()), lambda text: times.read_count(text, unit), "timestamp")


def _advice(array: pa.Array, kind: str) -> str:
    """What to write where the data are of a type that a source may have, or count times."""
    held, given = array.drop_null(), named(array.type)
    first = str(held[0].as_py()) if kind == "timestamp" and len(held) and is_number(given) else ""
    if times.plausible_unit(first):
        return times.advice(first, kind).replace("; w", " W")
    known = is_number(given) or given in ("string", "boolean", "date", "timestamp")
    return f' Write "{given}" for it, or write the file anew' if known else " Write the file anew"


def _finite(values: pa.Array) -> tuple[pa.Array, pa.Array]:
    bad = pc.fill_null(pc.invert(pc.is_finite(values)), fill_value=False)
    return pc.if_else(bad, pa.scalar(None, values.type), values), _said(bad, f" is not {_SOUND['double']}")


def _of_years(dates: pa.Array) -> tuple[pa.Array, pa.Array]:
    bad = time_columns.are_beyond(dates)
    return pc.if_else(bad, pa.scalar(None, dates.type), dates), _said(bad, f" {times.NO_YEAR}")


def _said(bad: pa.Array, what: str) -> pa.Array:
    return pc.if_else(bad, what, pa.scalar(None, pa.string()))


def named(given: pa.DataType) -> str:
    """An Arrow type by our name, of whatever width it is."""
    if pa.types.is_integer(given):
        return "int64"
    if pa.types.is_floating(given):
        return "double"
    if pa.types.is_date(given):
        return "date"
    if pa.types.is_timestamp(given):
        return "timestamp"
    if pa.types.is_boolean(given):
        return "boolean"
    if str(given) in ("string", "large_string", "string_view"):
        return "string"
    return f"decimal({given.precision},{given.scale})" if pa.types.is_decimal(given) else str(given)


def first_line(error: Exception) -> str:
    """The first line of what a library says of a mistake, without the rest."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
