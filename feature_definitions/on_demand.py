"""Computes features on demand: the one place that calls their functions, so that training and serving give the same bits.

A row's value depends on that row alone, and on nothing but its inputs. Rows that lack the same inputs are handed over together, so that a
row has arrays of the same types whether it comes alone or with others; if the function raises for several rows, halves of them are tried,
until the row at fault is alone.
"""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from feature_definitions.intervals import EPOCH
from feature_definitions.language.requests import OnDemandFeature
from feature_definitions.reading import default
from feature_definitions.sql.data_types import element_of, is_array, is_decimal

Array: TypeAlias = npt.NDArray[Any]


class Values(NamedTuple):
    """A column: numpy's values, which mean nothing where `null`, and of a computed one the rows for which its function failed.

    int64, double and boolean are numpy's own types, dates `datetime64[D]`, instants `datetime64[us]` in UTC; texts, decimals and arrays
    are Python's `str`, `Decimal` and `list`.
    """

    values: Array
    null: npt.NDArray[np.bool_]
    failed: npt.NDArray[np.bool_] | None = None

    @property
    def failures(self) -> list[bool]:
        """For each row whether its function failed."""
        return [False] * len(self.null) if self.failed is None else self.failed.tolist()


_TYPES: dict[str, str] = {"int64": "int64", "double": "float64", "boolean": "bool", "date": "datetime64[D]", "timestamp": "datetime64[us]"}


class NoValue(ValueError):
    """What a function gave is no value of the feature's type."""


def of_python(values: Sequence[object], data_type: str) -> Values:
    """A column of Python's values, None where null: dates and instants with a zone, decimals and lists."""
    null = np.fromiter((value is None for value in values), bool, len(values))
    held = np.zeros(len(values), _TYPES.get(data_type, "object"))
    for place, value in enumerate(values):
        if value is not None:
            held[place] = _stored(value)
    return Values(held, null)


def to_python(column: Values, data_type: str) -> list[Any]:
    """A column as Python's values, None where null: dates, instants in UTC, decimals and lists."""
    found = [_shown(value, data_type) for value in column.values.tolist()]
    return [None if null else value for value, null in zip(found, column.null.tolist(), strict=True)]


def compute(feature: OnDemandFeature, inputs: Sequence[Values], *, count: int) -> Values:
    """A feature's values for `count` rows from the columns of its inputs, in their order. Never raises what the function raises."""
    answer = uncomputed(feature, count=count)._replace(failed=np.zeros(count, bool))
    step = _by_row if feature.rows else _by_columns
    with np.errstate(all="ignore"):
        for rows in _alike([each.null for each in inputs], count):
            step(feature, inputs, rows, answer)
    return answer


def uncomputed(feature: OnDemandFeature, *, count: int) -> Values:
    """What `count` rows have of a feature whose function is not called: it failed for all of them."""
    return Values(np.zeros(count, _TYPES.get(feature.type, "object")), np.ones(count, bool), np.ones(count, bool))


def _alike(nulls: Sequence[npt.NDArray[np.bool_]], count: int) -> list[npt.NDArray[np.intp]]:
    """The places of the rows that lack the same inputs, together."""
    if not any(null.any() for null in nulls):
        return [np.arange(count)] if count else []
    _, which = np.unique(np.stack(nulls, axis=1), axis=0, return_inverse=True)
    order = np.argsort(which, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(which.ravel()[order])) + 1)


def differs_alone(feature: OnDemandFeature, inputs: Sequence[Values], found: Values, *, rows: Sequence[int]) -> int | None:
    """The first of some rows that has another value when it is computed alone: its function looks at other rows. None if there is none."""
    for row in rows:
        alone = compute(feature, [Values(each.values[[row]], each.null[[row]]) for each in inputs], count=1)
        if _bits(alone, 0) != _bits(found, row):
            return row
    return None


def _bits(column: Values, row: int) -> tuple[object, ...]:
    """What a row has, such that -0.0 is not 0.0."""
    assert column.failed is not None
    null = bool(column.null[row])
    value = None if null else column.values[row]
    return null, bool(column.failed[row]), value.tobytes() if isinstance(value, np.generic) else repr(value)


def _by_columns(feature: OnDemandFeature, inputs: Sequence[Values], rows: npt.NDArray[np.intp], answer: Values) -> None:
    """Call the function with arrays of these rows; with halves of them if it fails."""
    given = [np.full(len(rows), None, object) if each.null[rows[0]] else each.values[rows] for each in inputs]
    try:
        found = _column(feature.function(*given), feature.type, len(rows))
    except (Exception, SystemExit):  # noqa: BLE001  # whatever a user's function raises fails its row, not the request
        if len(rows) == 1:
            _fail(answer, rows)
        else:
            for half in np.array_split(rows, 2):
                _by_columns(feature, inputs, half, answer)
        return
    answer.values[rows], answer.null[rows] = found.values, found.null


def _by_row(feature: OnDemandFeature, inputs: Sequence[Values], rows: npt.NDArray[np.intp], answer: Values) -> None:
    """Call the function with the Python values of each row."""
    kinds = _input_types(inputs)
    given = [to_python(Values(each.values[rows], each.null[rows]), kind) for each, kind in zip(inputs, kinds, strict=True)]
    for place, row in zip(rows.tolist(), zip(*given, strict=True), strict=True):
        try:
            value = _value(feature.function(*row), feature.type)
        except (Exception, SystemExit):  # noqa: BLE001  # whatever a user's function raises fails its row, not the request
            _fail(answer, place)
            continue
        answer.null[place] = value is None
        if value is not None:
            answer.values[place] = _stored(value)


def _fail(answer: Values, rows: Any) -> None:
    assert answer.failed is not None
    answer.failed[rows] = True
    answer.null[rows] = True


def _input_types(inputs: Sequence[Values]) -> list[str]:
    """What `to_python` has to know of a column: whether its values are instants."""
    return ["timestamp" if each.values.dtype == np.dtype("datetime64[us]") else "" for each in inputs]


# ----------------------------------------------------------------------------------------------------------- what functions give


def _column(given: Any, data_type: str, count: int) -> Values:
    """What a function gave for `count` rows as a column of its type; raises NoValue."""
    found = _unmasked(given) if isinstance(given, np.ndarray) else _array(given)
    if found.shape[:1] != (count,) or (found.ndim > 1 and not is_array(data_type)):
        raise NoValue(f"an array of shape {found.shape} for {count} rows")
    plain = _PLAIN.get(data_type)
    if plain is not None and found.dtype != object:
        return plain(found)
    return of_python([_value(value, data_type) for value in found], data_type)


def _unmasked(found: Array) -> Array:
    """An array with a null in the place of what is masked."""
    if not isinstance(found, np.ma.MaskedArray):
        return found
    held = np.ma.getdata(found).astype(found.dtype if found.dtype.kind == "M" else object)
    held[np.ma.getmaskarray(found)] = None
    return held


def _array(given: Any) -> Array:
    """A list, or whatever else has one value for each row, as an array; numbers keep their types."""
    if hasattr(given, "isna") and not isinstance(given.dtype, np.dtype):  # pandas' types that know null
        return np.asarray(given.to_numpy(dtype=object, na_value=None))
    if hasattr(given, "__array__"):
        return np.asarray(given)
    if not isinstance(given, list | tuple):
        raise NoValue(f"{type(given).__name__} instead of one value for each row")
    held = np.empty(len(given), object)
    for place, value in enumerate(given):
        held[place] = value
    return held


def _doubles(found: Array) -> Values:
    if found.dtype.kind not in "iuf":
        raise NoValue(f"{found.dtype} is no double")
    values = found.astype("float64")
    return Values(values, ~np.isfinite(values))


def _integers(found: Array) -> Values:
    if found.dtype.kind == "f":
        null = ~np.isfinite(found)
        whole = np.where(null, 0, found)
        if (whole != np.trunc(whole)).any() or (np.abs(whole) >= 2.0**63).any():
            raise NoValue("not all of the numbers are whole")
        return Values(whole.astype("int64"), null)
    if found.dtype.kind not in "iu" or (found.dtype.kind == "u" and len(found) and int(found.max()) >= 2**63):
        raise NoValue(f"{found.dtype} is no int64")
    return Values(found.astype("int64"), np.zeros(len(found), bool))


def _booleans(found: Array) -> Values:
    if found.dtype.kind != "b":
        raise NoValue(f"{found.dtype} is no boolean")
    return Values(found, np.zeros(len(found), bool))


def _times(found: Array, unit: str) -> Values:
    """Dates or instants of any unit of numpy's, if they are none between two of ours; raises NoValue."""
    if found.dtype.kind != "M":
        raise NoValue(f"{found.dtype} is no time")
    null, values = np.isnat(found), found.astype(unit)
    first, last = np.array(["0001-01-01", "10000-01-01"], unit)
    if not (null | ((values.astype(found.dtype) == found) & (values >= first) & (values < last))).all():
        raise NoValue("a time between two of the type's, or outside of the years 1 to 9999")
    return Values(values, null)


_PLAIN: dict[str, Callable[[Array], Values]] = {
    "double": _doubles,
    "int64": _integers,
    "boolean": _booleans,
    "date": lambda found: _times(found, "datetime64[D]"),
    "timestamp": lambda found: _times(found, "datetime64[us]"),
}
"""How whole arrays of numpy's own types are taken."""


def _value(value: Any, data_type: str) -> Any:
    """One Python value as one of the type, None where it is none or not finite; raises NoValue."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if is_array(data_type):
        if not isinstance(value, list | tuple):
            raise NoValue(f"{value!r} is no list")
        return [_value(each, element_of(data_type)) for each in value]
    if is_decimal(data_type):
        return _decimal(value, data_type)
    return _SINGLE[data_type](value)


def _decimal(value: Any, data_type: str) -> object:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise NoValue(f"{value!r} is no Decimal")
    return default(value, data_type) if not isinstance(value, Decimal) or value.is_finite() else None


def _double(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NoValue(f"{value!r} is no double")
    return float(value)


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or not -(2**63) <= value < 2**63:
        raise NoValue(f"{value!r} is no int64")
    return int(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise NoValue(f"{value!r} is no boolean")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise NoValue(f"{value!r} is no text")
    value.encode()  # half a sign of two is none
    return value


def _date(value: Any) -> date:
    if not isinstance(value, date) or isinstance(value, datetime):
        raise NoValue(f"{value!r} is no date")
    return value


def _instant(value: Any) -> datetime:
    if not isinstance(value, datetime):
        raise NoValue(f"{value!r} is no timestamp")
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


_SINGLE: dict[str, Callable[[Any], Any]] = {
    "double": _double,
    "int64": _integer,
    "boolean": _boolean,
    "string": _text,
    "date": _date,
    "timestamp": _instant,
}


def _stored(value: Any) -> Any:
    """A Python value as a column holds it."""
    if isinstance(value, datetime):
        return np.datetime64((value - EPOCH) // timedelta(microseconds=1), "us")
    if isinstance(value, list | tuple):
        return [each.astimezone(UTC) if isinstance(each, datetime) else each for each in value]
    return value


def _shown(value: Any, data_type: str) -> Any:
    """A value of a column as Python has it."""
    if data_type == "timestamp" and isinstance(value, datetime):
        return value.replace(tzinfo=UTC)
    return value
