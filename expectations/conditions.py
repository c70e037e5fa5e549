"""Spark SQL that is true for a bad row, by expectation; and cheap aggregates that say whether there is any."""

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from types import MappingProxyType

from feature_definitions.language import DefinitionError, Expectation
from feature_definitions.sql.expressions import spark_sql
from feature_definitions.sql.failing import Safe, safely

_MOST_DIGITS = 38


def violation(expectation: Expectation, subject: str, *, columns: Mapping[str, str] = MappingProxyType({})) -> str:
    """The condition that holds for a row which breaks the expectation; it is false or null for a good one.

    `subject` is the SQL of the value that is expected to be so, `columns` are the types of the row's columns. A row for which an
    expression fails breaks it.
    """
    match expectation.kind, expectation.arguments:
        case "at_least", (least,):
            # Spark takes NaN for greater than every number; it is none.
            return f"{subject} < {_literal(least)} OR isnan({subject})"
        case "at_most", (most,):
            return f"{subject} > {_literal(most)}"
        case "between", (least, most):
            return f"{subject} < {_literal(least)} OR {subject} > {_literal(most)}"
        case "one_of", values:
            return f"{subject} NOT IN ({_literals(expectation, values)})"
        case "expression", (sql,):
            safe = safely(str(sql), columns) if columns else Safe(spark_sql(str(sql)), None)
            return f"NOT ({safe.value})" if safe.fails is None else f"NOT ({safe.value}) OR ({safe.fails})"
    raise DefinitionError(f"{expectation} is no expectation that can be measured")


def screen(expectation: Expectation, subject: str) -> str | None:
    """An aggregate of the least and greatest value that holds if some row is bad; None where they do not tell."""
    least_value, greatest_value = f"min({subject})", f"max({subject})"
    match expectation.kind, expectation.arguments:
        case "at_least", (least,):
            return f"{least_value} < {_literal(least)} OR isnan({greatest_value})"
        case "at_most", (most,):
            return f"{greatest_value} > {_literal(most)}"
        case "between", (least, most):
            return f"{least_value} < {_literal(least)} OR {greatest_value} > {_literal(most)}"
    return None


def not_finite(columns: Iterable[str]) -> str:
    """The condition that one of these columns of doubles is NaN or infinite."""
    return " OR ".join(f"isnan({name(c)}) OR abs({name(c)}) = double('inf')" for c in columns)


def name(column: str) -> str:
    """A column's name in Spark SQL."""
    return f"`{column}`"


def names(columns: Iterable[str]) -> str:
    """Several columns' names in Spark SQL."""
    return ", ".join(name(column) for column in columns)


def text(value: str) -> str:
    """A Spark SQL string: quotes and backslashes escaped, and the dollar sign, which Spark replaces variables by."""
    for sign, escaped in (("\\", "\\\\"), ("'", "\\'"), ("$", "\\u0024")):
        value = value.replace(sign, escaped)
    return f"'{value}'"


def _literals(expectation: Expectation, values: tuple[object, ...]) -> str:
    """Values of one kind: Spark would turn a text into a number, or fail to, to compare it with one."""
    if len({isinstance(value, str) for value in values}) > 1 or len({isinstance(value, bool) for value in values}) > 1:
        raise DefinitionError(f"{expectation} mixes texts, numbers or truth values; a column holds one kind")
    return ", ".join(_literal(value) for value in values)


def _literal(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return text(value)
        case int():
            return _number(Decimal(value))
        case float() if math.isfinite(value):
            return _number(Decimal(str(float(value))))
    return f"double({text(str(value))})"


def _number(value: Decimal) -> str:
    """An exact decimal where Spark has one, so that whole numbers and decimals compare exactly; else a double."""
    digits = format(value, "f")
    return digits if len(digits) <= _MOST_DIGITS else f"{float(value)!r}D"
