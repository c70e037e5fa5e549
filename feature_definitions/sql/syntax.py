"""Spark SQL as sqlglot parses it: every call as it was written, and what errors say of it."""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from sqlglot import exp
from sqlglot.dialects.spark import Spark
from sqlglot.errors import SqlglotError
from sqlglot.parsers.spark import SparkParser

from feature_definitions.language import DefinitionError


class _Parser(SparkParser):
    """Reads every call as it was written, so that no function is renamed or rewritten on the way to Spark."""

    FUNCTIONS: ClassVar[Any] = {}
    FUNCTION_PARSERS: ClassVar[Any] = {name: SparkParser.FUNCTION_PARSERS[name] for name in ("CAST", "TRY_CAST")}
    NO_PAREN_FUNCTIONS: ClassVar[Any] = {}
    NO_PAREN_FUNCTION_PARSERS: ClassVar[Any] = {"CASE": SparkParser.NO_PAREN_FUNCTION_PARSERS["CASE"]}


class _Dialect(Spark):
    Parser = _Parser


SQL = _Dialect()
"""Spark's SQL, with calls as they are written."""

CASTS = {
    exp.DType.TEXT: "string",
    exp.DType.BIGINT: "int64",
    exp.DType.INT: "int64",
    exp.DType.SMALLINT: "int64",
    exp.DType.TINYINT: "int64",
    exp.DType.DOUBLE: "double",
    exp.DType.FLOAT: "double",
    exp.DType.BOOLEAN: "boolean",
    exp.DType.DATE: "date",
    exp.DType.TIMESTAMP: "timestamp",
    exp.DType.TIMESTAMPTZ: "timestamp",
}
"""Our types by those that a cast may name, decimals apart."""
DIVISIONS = (exp.Div, exp.IntDiv, exp.Mod)
"""The operators whose right side must not be zero."""


def tokens(sql: str) -> Sequence[Any]:
    """The words of an expression; refuses what has none."""
    try:
        found = SQL.tokenize(sql)
    except SqlglotError as error:
        raise DefinitionError(f"{sql!r} is not a Spark SQL expression: {first_line(error)}") from None
    if not found:
        raise DefinitionError(f"{sql!r} is empty; write a Spark SQL expression")
    return found


def too_deep(sql: str) -> DefinitionError:
    """What is said of an expression that is nested deeper than Python follows."""
    return DefinitionError(f"the expression {sql[:40]!r}..., of {len(sql):,} characters, is nested too deep; part it into several features")


def first_line(error: SqlglotError) -> str:
    """What sqlglot says is wrong, in one line."""
    details = getattr(error, "errors", None)
    if details and details[0].get("description"):
        text = re.sub(r"<class '[\w.]*?(\w+)'>", r"\1", details[0]["description"])
        return f"{text}, at character {details[0].get('col')}"
    return str(error).splitlines()[0]


def cast_type(sql: str, cast: exp.Expr) -> str:
    """The type that a cast gives; refuses one that values cannot have."""
    to = cast.args["to"]
    if to.this == exp.DType.DECIMAL:
        digits = [int(p.name) for p in to.expressions] or [10]
        return f"decimal({digits[0]},{digits[1] if len(digits) > 1 else 0})"
    if to.this not in CASTS:
        raise DefinitionError(
            f"{sql!r} casts to {to.sql(SQL)}; write string, bigint, int, double, boolean, decimal(p,s), date or timestamp"
        )
    return CASTS[to.this]


def call_name(call: exp.Expr) -> str:
    """The name of the function that is called, in small letters."""
    return (call.this if isinstance(call.this, str) else call.this.name).lower()


def column_name(column: exp.Column) -> str:
    """A column as expressions name it; of the row before as `prev.close`."""
    return f"{column.table}.{column.name}" if column.table else column.name
