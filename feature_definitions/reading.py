"""What readers see where it is not what is stored: the time since an event, and a default in place of null.

Both are said once here, for answers online and for training sets, so that at one time both show one and the same value.
"""

from datetime import UTC, date, datetime
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation
from math import isfinite
from typing import Any

from feature_definitions.intervals import iso
from feature_definitions.language.rules import DefinitionError
from feature_definitions.sql.data_types import articled, digits_of, element_of, is_array


def age(asked: Any, stored: Any) -> Any:
    """The seconds from a stored instant to the asker's: of microseconds as numbers or as columns of Spark, to the bit the same double."""
    return (asked - stored) / 1e6


def default(value: object, kind: str) -> object:
    """A default as a value of its column's type: of a double 0.0 for 0, of a decimal(10,2) 0.00; arrays are tuples.

    Refuses what the type can not hold exactly.
    """
    if is_array(kind) and isinstance(value, tuple | list):
        return tuple(default(each, element_of(kind)) for each in value)
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return value
    try:
        return _number(value, kind)
    except (ValueError, OverflowError, DecimalException):
        raise DefinitionError(f"the default {value!r} does not fit {articled(kind)}; write one that it can hold exactly") from None


def spelled(value: object) -> Any:
    """A value as answers online spell it: decimals as text, times in ISO 8601, arrays as tuples of these."""
    match value:
        case tuple() | list():
            return tuple(spelled(each) for each in value)
        case Decimal():
            return format(value, "f")
        case datetime():
            return iso(value)
        case date():
            return value.isoformat()
    return value


def _number(value: float | Decimal, kind: str) -> float | Decimal:
    """A number in the Python type of its column's: float, Decimal with all digits after the point, int."""
    if not isfinite(value):
        raise ValueError(value)
    if kind == "double":
        return float(value)
    if kind == "int64":
        if value != int(value) or not -(2**63) <= value < 2**63:
            raise ValueError(value)
        return int(value)
    digits, scale = digits_of(kind)
    exact = Context(prec=digits, traps=[Inexact, InvalidOperation])
    return exact.plus(Decimal(str(value)).quantize(Decimal(1).scaleb(-scale), context=exact))
