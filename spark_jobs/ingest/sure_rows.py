"""Whether rows are surely taken, without Spark: no derived column fails, and every critical expectation holds or is null.

What is said to be sure is so in Spark too; where it is not sure, Spark decides.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from feature_definitions.sql.data_types import is_decimal
from feature_definitions.sql.plain import Demands, Plain
from lake.arrow_types import arrow_type

_TEXTS = {"int64": r"^-?[0-9]{1,18}$", "double": r"^-?[0-9]{1,15}(\.[0-9]{1,15})?$"}
"""Texts that Spark and Arrow read as the same number."""


class _NotSure(Exception):
    """A value that Spark may make something else of."""


def are_taken(rows: pa.Table, demands: Demands) -> bool:
    """Whether all rows are surely taken."""
    columns = {name: rows.column(name) for name in rows.column_names}
    try:
        for name, derived in demands.derived.items():
            columns[name] = _value(derived, columns)
        return all(pc.all(_value(each, columns)).as_py() is not False for each in demands.expected)
    except (_NotSure, pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False


def _value(plainly: Plain, columns: dict[str, Any]) -> Any:
    if plainly.what == "column":
        return _finite(columns[plainly.of[0]])
    if plainly.what == "literal":
        value = plainly.of[0]
        return pa.scalar(Decimal(value)) if is_decimal(plainly.type) else pa.scalar(_typed(value, plainly.type), arrow_type(plainly.type))
    values = [_value(each, columns) for each in plainly.of]
    return _cast(values[0], plainly.type) if plainly.what == "cast" else _finite(_DONE[plainly.what](*values))


def _typed(value: object, kind: str) -> object:
    return float(str(value)) if kind == "double" else value


def _finite(values: Any) -> Any:
    """Numbers of which each is one; in Spark others sort otherwise."""
    if pa.types.is_floating(values.type) and pc.any(pc.invert(pc.is_finite(values))).as_py():
        raise _NotSure
    return values


def _quotient(left: Any, right: Any) -> Any:
    """A quotient in doubles, null where the divisor is zero."""
    left, right = left.cast(pa.float64()), right.cast(pa.float64())
    return pc.divide(left, pc.if_else(pc.equal(right, 0.0), pa.scalar(None, pa.float64()), right))


def _cast(texts: Any, kind: str) -> Any:
    if pc.all(pc.match_substring_regex(texts, _TEXTS[kind])).as_py() is False:
        raise _NotSure
    return texts.cast(arrow_type(kind))


def _ascii(texts: Any) -> Any:
    """Texts of ASCII: what others are in capitals or small letters depends on who says it."""
    if pc.all(pc.string_is_ascii(texts)).as_py() is False:
        raise _NotSure
    return texts


_DONE: dict[str, Callable[..., Any]] = {
    "=": pc.equal,
    "<>": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
    "+": pc.add_checked,
    "-": pc.subtract_checked,
    "*": pc.multiply_checked,
    "/": _quotient,
    "negative": pc.negate_checked,
    "abs": pc.abs_checked,
    "and": pc.and_kleene,
    "or": pc.or_kleene,
    "not": pc.invert,
    "is null": pc.is_null,
    "if": lambda condition, value, other: pc.if_else(pc.fill_null(condition, fill_value=False), value, other),
    "coalesce": pc.coalesce,
    "upper": lambda texts: pc.ascii_upper(_ascii(texts)),
    "lower": lambda texts: pc.ascii_lower(_ascii(texts)),
    "trim": lambda texts: pc.utf8_trim(texts, characters=" "),
    "length": lambda texts: pc.utf8_length(texts).cast(pa.int64()),
    "concat": lambda *texts: pc.binary_join_element_wise(*texts, ""),
}
