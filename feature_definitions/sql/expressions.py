"""Spark SQL expressions over the columns of one row: what they read, which type they give, and how Spark is to compute them.

Only what always gives the same result is let through: a list of operators and a list of scalar functions, by name, as they were written.
Spark's own flag and parsers miss much of the rest (`now()`, `cast('now' as timestamp)`, `java_method`), so nothing is refused by absence.
"""

import re
from collections.abc import Mapping

from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

from feature_definitions.language import DefinitionError
from feature_definitions.language.rules import closest
from feature_definitions.sql.constants import refuse_constants
from feature_definitions.sql.functions import CLOCK, FUNCTIONS, MANY, OF_MANY_ROWS, OF_TIME
from feature_definitions.sql.inference import RULES, data_type_of
from feature_definitions.sql.syntax import CASTS, DIVISIONS, SQL, call_name, cast_type, column_name, first_line, tokens, too_deep

_BY_THE_CLOCK = "reads the clock, so a value would depend on when it is computed; use the row's own times"
_CLOCK_WORD = re.compile(r"\s*(now|today|yesterday|tomorrow)\b.*", re.IGNORECASE | re.DOTALL)

PREVIOUS = frozenset({"prev"})
"""The name of the row before, where a source derives columns."""
PLAIN = {*RULES, exp.Column, exp.Identifier, exp.Paren, exp.Var, exp.DataType, exp.DataTypeParam, exp.If}
"""The kinds of nodes that an expression is made of."""


def columns_in(sql: str) -> frozenset[str]:
    """The columns that an expression reads; refuses what is not one deterministic scalar expression."""
    return frozenset(column.name for column in parse(sql).find_all(exp.Column))


def derive_columns_in(sql: str) -> frozenset[str]:
    """The columns that an expression of `Source.derive` reads; those of the row before as `prev.close`."""
    return frozenset(column_name(column) for column in parse(sql, tables=PREVIOUS).find_all(exp.Column))


def spark_sql(sql: str) -> str:
    """The expression for Spark in ANSI mode: division by zero is null, so is an array's element that is not there; columns are quoted."""
    return in_spark(sql, parse(sql))


def derive_sql(sql: str) -> str:
    """An expression of `Source.derive` for Spark, where `prev` is a struct of the columns of the row before."""
    return in_spark(sql, parse(sql, tables=PREVIOUS))


def type_of(sql: str, columns: Mapping[str, str]) -> str:
    """The type that an expression gives, when cast to the nearest of Headwater's; refuses operands that do not go together.

    A number with a point, a division, and decimals of more than 38 digits are double here, also where Spark computes a decimal.
    """
    return type_in(sql, parse(sql), columns)


def type_in(sql: str, tree: exp.Expr, columns: Mapping[str, str]) -> str:
    """The type that a tree gives over columns of these types."""
    read = {column_name(column) for column in tree.find_all(exp.Column)}
    for name in sorted(read - set(columns)):
        known = ", ".join(sorted(column for column in columns if "." not in column))
        raise DefinitionError(f"{sql!r} reads {name!r}, which is not there.{closest(name, columns)} There are: {known}")
    if any(columns[name] in ("date", "timestamp") for name in read):
        refuse_clock_words(sql, tree)
    try:
        data_type = data_type_of(tree, columns, sql)
    except RecursionError:
        raise too_deep(sql) from None
    if data_type == "null":
        raise DefinitionError(f"{sql!r} is always null; name a column")
    if data_type == "interval":
        raise DefinitionError(f"{sql!r} gives a span of time; write datediff(a, b) for days, or unix_micros(a) - unix_micros(b)")
    return data_type


# ---------------------------------------------------------------------------------------------------------------------- parsing


def parse(sql: str, *, tables: frozenset[str] = frozenset()) -> exp.Expr:
    """The expression's tree; refuses what is not one deterministic scalar expression. `tables` may be named before a column."""
    if any(token.text == ";" for token in tokens(sql)):
        raise DefinitionError(f"{sql!r} has several statements; write one expression, without ;")
    try:
        tree = SQL.parse_into(exp.Condition, sql)[0]
    except SqlglotError as error:
        raise DefinitionError(f"{sql!r} is not a Spark SQL expression: {first_line(error)}") from None
    except RecursionError:
        raise too_deep(sql) from None
    if tree is None:
        raise DefinitionError(f"{sql!r} is empty; write a Spark SQL expression")
    for node in tree.walk():
        _refuse(sql, node, tables)
    if any(_tells_time(node) for node in tree.walk()):
        refuse_clock_words(sql, tree)
    return tree


def _refuse(sql: str, node: exp.Expr, tables: frozenset[str]) -> None:
    match node:
        case exp.Anonymous():
            refuse_call(sql, node)
        case exp.Column():
            refuse_column(sql, node, tables)
        case exp.Cast() | exp.TryCast():
            cast_type(sql, node)
    refuse_constants(node, repr(sql))
    if type(node) not in PLAIN or is_odd(node):
        raise DefinitionError(f"{sql!r} {_what_is_wrong(node)}")


def _what_is_wrong(node: exp.Expr) -> str:
    match node:
        case exp.Query() | exp.Subquery() | exp.Exists():
            return "has a subquery; an expression reads only the columns of its own row"
        case exp.Star():
            return "has a star; name the columns"
        case exp.Window() | exp.Filter() | exp.IgnoreNulls() | exp.RespectNulls() | exp.Distinct():
            return "looks at other rows; an expression is of one row, the feature's aggregation and windows see the others"
        case exp.Concat():
            return "has two texts side by side; write a quote inside a text as \\', and join texts by ||"
    return f"has {node.sql(SQL)!r} ({type(node).__name__}), which expressions do not know; write it with operators and functions"


def is_odd(node: exp.Expr) -> bool:
    """Whether sqlglot reads here what Spark does not."""
    match node:
        case exp.In():
            return not node.expressions and node.args.get("query") is None
        case exp.Bracket():
            return len(node.expressions) != 1
        case exp.Interval():
            return not isinstance(node.this, exp.Literal)
        case exp.Cast() | exp.TryCast():
            return node.args.get("format") is not None
    return False


def refuse_call(sql: str, call: exp.Anonymous) -> None:
    """Refuse a function that is not known to give the same result every time, or a wrong number of arguments."""
    name, count = call_name(call), len(call.expressions)
    if name in OF_MANY_ROWS:
        raise DefinitionError(
            f"{sql!r}: {name}() is of many rows and an expression of one; write it as the feature's aggregation and windows"
        )
    if name in CLOCK:
        raise DefinitionError(f"{sql!r}: {name}() {_BY_THE_CLOCK}")
    if name not in FUNCTIONS:
        near = closest(name, FUNCTIONS)
        raise DefinitionError(f"{sql!r}: {name}() is not among the functions that are known to give the same result every time.{near}")
    _, least, most = FUNCTIONS[name]
    if not least <= count <= most:
        wanted = f"{least}" if least == most else f"{least} or more" if most == MANY else f"{least} to {most}"
        raise DefinitionError(f"{sql!r} calls {name}() with {count} arguments; it takes {wanted}")


def refuse_column(sql: str, column: exp.Column, tables: frozenset[str]) -> None:
    """Refuse a column of another table, and a word that reads the clock."""
    if column.table in PREVIOUS - tables:
        raise DefinitionError(f"{sql!r} reads the row before, {column.sql(SQL)!r}; only a source's derive can")
    if column.table and (column.table not in tables or column.db):
        raise DefinitionError(f"{sql!r} reads {column.sql(SQL)!r}; write the column's name alone")
    if column.name.lower() in CLOCK and not column.this.quoted:
        raise DefinitionError(f"{sql!r}: {column.name} {_BY_THE_CLOCK}")


def _tells_time(node: exp.Expr) -> bool:
    match node:
        case exp.Anonymous():
            name = call_name(node)
            return name in OF_TIME or FUNCTIONS.get(name, ("",))[0] in ("date", "timestamp")
        case exp.Cast() | exp.TryCast():
            return CASTS.get(node.args["to"].this) in ("date", "timestamp")
    return False


def refuse_clock_words(sql: str, tree: exp.Expr) -> None:
    """Refuse texts that Spark would read as a time relative to now, and computed ones that might become such a text."""
    for node in tree.walk():
        if isinstance(node, exp.Literal) and node.is_string and _CLOCK_WORD.fullmatch(node.name):
            raise DefinitionError(f"{sql!r}: as a time, {node.name!r} {_BY_THE_CLOCK}, or a date like '2026-01-05'")
        computed = isinstance(node, exp.Anonymous | exp.DPipe | exp.Case) and not node.find(exp.Column)
        if computed and not _tells_time(node) and any(literal.is_string for literal in node.find_all(exp.Literal)):
            raise DefinitionError(f"{sql!r} computes the constant {node.sql(SQL)!r}; write its value")


def in_spark(sql: str, tree: exp.Expr) -> str:
    """The SQL of a tree for Spark in ANSI mode."""
    whole = exp.Paren(this=tree)
    for node in list(whole.find_all(*DIVISIONS, exp.Anonymous, exp.Bracket)):
        match node:
            case exp.Bracket():
                node.replace(exp.Anonymous(this="get", expressions=[node.this, _place(node.expressions[0])]))
            case exp.Anonymous() if call_name(node) == "get":
                node.set("expressions", [node.expressions[0], _place(node.expressions[1])])
            case exp.Anonymous():
                if call_name(node) in ("mod", "pmod"):
                    node.set("expressions", [node.expressions[0], null_if_zero(node.expressions[1])])
            case _:
                node.set("expression", null_if_zero(node.expression))
    try:
        text: str = whole.this.sql(SQL, identify=True, comments=False, normalize_functions=False, unsupported_level=ErrorLevel.RAISE)
        return text.replace("${", "\\u0024{")  # Spark replaces variables before it reads, in texts too
    except RecursionError:
        raise too_deep(sql) from None


def _place(index: exp.Expr) -> exp.Expr:
    """The place of an element; Spark counts places by 32 bits, and none lies beyond."""
    if isinstance(index, exp.Literal) and int(index.name) < 2**31:
        return index
    return exp.TryCast(this=index, to=exp.DataType(this=exp.DType.INT), safe=True)


def null_if_zero(divisor: exp.Expr) -> exp.Expr:
    """A divisor, null where it is zero."""
    if isinstance(divisor, exp.Literal) and not divisor.is_string and float(divisor.name) != 0:
        return divisor
    return exp.Anonymous(this="nullif", expressions=[divisor, exp.Literal.number(0)])
