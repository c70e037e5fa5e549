"""Turns what a file holds into typed values: a cell's text, a JSON value, a column of Arrow; says of each that has no place why."""

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation, localcontext
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from feature_definitions.intervals import in_utc, micros
from feature_definitions.sql.data_types import element_of, is_array, is_decimal, is_number, may_hold
from lake.delta import arrow_type

INT64 = range(-(2**63), 2**63)
Cell = Callable[[str], object]
Json = Callable[[object], object]


class Unfit(ValueError):
    """A column whose values have no place in the type that the source says."""


# -------------------------------------------------------------------------------------------------------------------------- text


def of_text(kind: str, timezone: str | None) -> Cell:
    """What turns the text of a cell into a value of a type; it raises ValueError for text that is none."""
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
            return _date
        case "timestamp":
            return _timestamp(None if timezone is None else ZoneInfo(timezone))
    return _decimal(kind)


def _text(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8 text") from None
    return text


def _int64(text: str) -> int:
    if not re.fullmatch(r"\s*[+-]?[0-9]{1,30}\s*", text) or int(text) not in INT64:
        raise ValueError("is not an int64")
    return int(text)


def _double(text: str) -> float:
    if "_" in text:
        raise ValueError("is not a double")
    try:
        value = float(text)
    except ValueError:
        raise ValueError("is not a double") from None
    if not math.isfinite(value):
        raise ValueError("is not a finite number")
    return value


def _boolean(text: str) -> bool:
    match text.strip().lower():
        case "true" | "t" | "1" | "yes":
            return True
        case "false" | "f" | "0" | "no":
            return False
    raise ValueError("is not a boolean (true or false)")


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise ValueError("is not a date like 2026-01-05") from None


def _timestamp(zone: ZoneInfo | None) -> Cell:
    def convert(text: str) -> datetime:
        try:
            parsed = datetime.fromisoformat(text.strip())
        except ValueError:
            raise ValueError("is not a time like 2026-01-05T06:00:00Z") from None
        try:
            return in_utc(parsed, zone)
        except OverflowError:
            raise ValueError("is not between the years 1 and 9999 in UTC") from None

    return convert


def _decimal(kind: str) -> Cell:
    digits, scale = (int(part) for part in kind.removeprefix("decimal(").rstrip(")").split(","))

    def convert(text: str) -> Decimal:
        if "_" in text:
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


def of_json(kind: str, timezone: str | None) -> Json:
    """Takes a value of a JSON field: a list for an array's type alone, a number for a number's, text for what else JSON writes so."""
    if is_array(kind):
        element = of_json(element_of(kind), timezone)
        return _json_list(element, kind)
    cell = of_text(kind, timezone)
    counts = is_number(kind)

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


def of_arrow(array: pa.Array, kind: str, timezone: str | None) -> tuple[pa.Array, pa.Array | None]:
    """A column in a type, and which of its values have no place in it; raises Unfit for a column of another type."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), arrow_type(kind)), None
    if is_array(kind) and any(is_list(array.type) for is_list in _LISTS):
        return _of_lists(array.cast(pa.list_(array.type.value_type)), element_of(kind), timezone)
    given = _named(array.type)
    if not may_hold(given, kind) and not (is_decimal(given) and is_decimal(kind)):
        raise Unfit(f"is a {array.type}, the source says {kind}. Write the file or the source's type anew")
    if kind == "timestamp":
        return _without(_in_utc(array, timezone), _out_of_range)
    try:
        result = pc.cast(array, arrow_type(kind), safe=not pa.types.is_floating(array.type))
    except pa.ArrowInvalid as error:
        raise Unfit(f"does not fit {kind}: {first_line(error)}") from None
    return _without(result, lambda values: pc.invert(pc.is_finite(values))) if kind == "double" else (result, None)


_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def _of_lists(array: pa.ListArray, kind: str, timezone: str | None) -> tuple[pa.Array, pa.Array | None]:
    """Lists with their elements in the type wanted, and which of them hold an unsound one."""
    elements, bad = of_arrow(pc.list_flatten(array), kind, timezone)
    lengths = pc.fill_null(pc.list_value_length(array), 0)
    ends = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())])
    lists = pa.ListArray.from_arrays(ends, elements, mask=pc.is_null(array))
    if bad is None:
        return lists, None
    return lists, pc.is_in(pa.array(range(len(array)), pa.int64()), value_set=pc.list_parent_indices(array).filter(bad).cast(pa.int64()))


def unsound(kind: str) -> str:
    """What is wrong with a value that has no place in a type."""
    return f"holds what is not {_SOUND[element_of(kind)]}" if is_array(kind) else f"is not {_SOUND[kind]}"


_SOUND = {"double": "a finite number", "timestamp": "between the years 1 and 9999 in UTC"}


def _without(values: pa.Array, unsound: Callable[[pa.Array], pa.Array]) -> tuple[pa.Array, pa.Array]:
    """The values without the unsound ones, and which those are."""
    bad = pc.fill_null(unsound(values), fill_value=False)
    return pc.if_else(bad, pa.scalar(None, values.type), values), bad


def _out_of_range(times: pa.Array) -> pa.Array:
    """Which times no `datetime` can hold."""
    first, last = (pa.scalar(micros(at.replace(tzinfo=UTC)), pa.int64()) for at in (datetime.min, datetime.max))  # noqa: DTZ901  # made aware
    numbers = times.cast(pa.int64())
    return pc.or_(pc.less(numbers, first), pc.greater(numbers, last))


def _in_utc(array: pa.Array, timezone: str | None) -> pa.Array:
    if array.type.tz is None:
        if timezone is None:
            raise Unfit("has times without zone; say where they were written down by the source's timezone='UTC'")
        zone = ZoneInfo(timezone)
        naive = pc.cast(array, pa.timestamp("us"), safe=False)
        return pa.array([None if at is None else in_utc(at, zone) for at in naive.to_pylist()], pa.timestamp("us", tz="UTC"))
    return pc.cast(pc.cast(array, pa.timestamp("us", tz=array.type.tz), safe=False), pa.timestamp("us", tz="UTC"))


def _named(given: pa.DataType) -> str:
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
