"""SQL that means the same wherever it is computed: comparisons, conditions, arithmetic and a few functions, without a parser."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import reduce
from typing import Any, Literal, NamedTuple

from sqlglot import exp

from feature_definitions.language import Source
from feature_definitions.sql.data_types import is_decimal, is_number
from feature_definitions.sql.derivations import derivations, may_fail
from feature_definitions.sql.expressions import parse
from feature_definitions.sql.syntax import CASTS

What = Literal[
    "column", "literal", "=", "<>", "<", "<=", ">", ">=", "and", "or", "not", "is null", "+", "-", "*", "/", "negative", "cast",
    "upper", "lower", "trim", "length", "abs", "concat", "coalesce", "if",
]  # fmt: skip


class Plain(NamedTuple):
    """An expression: what is done, the type that it gives, and to what: to other expressions, a column's name, or a literal's value."""

    what: What
    type: str
    of: tuple[Any, ...]


class Demands(NamedTuple):
    """What tells that rows of a source are taken: the columns that are derived, in order, and the conditions that must hold."""

    derived: Mapping[str, Plain]
    expected: tuple[Plain, ...]


def demands(source: Source) -> Demands | None:
    """What is derived of rows, and expected of them, as far as it tells that one is not taken; None: not all of it is plain."""
    critical = [str(each.arguments[0]) for each in source.expect if each.severity == "critical"]
    known, derived = dict(source.columns), dict[str, Plain]()
    for each in derivations(source) if critical or may_fail(source) else ():
        found = plain(source.derive[each.name], known) if each.of_the_row else None
        if found is not None and found.type == each.type:
            derived[each.name], known[each.name] = found, each.type
        elif each.of_the_row and each.fails is not None:
            return None
    expected = [found for sql in critical if (found := plain(sql, known)) is not None and found.type == "boolean"]
    return Demands(derived, tuple(expected)) if len(expected) == len(critical) else None


def plain(sql: str, columns: Mapping[str, str]) -> Plain | None:
    """An expression over columns of these types; None if it is not plain."""
    try:
        return _of(parse(sql), columns)
    except _NotPlain:
        return None


class _NotPlain(Exception):
    """Something of which only Spark says what it is."""


_Of = Callable[[exp.Expr], Plain]
_EXACT = 2**53
"""Whole numbers below it are doubles too."""


def _of(node: exp.Expr, columns: Mapping[str, str]) -> Plain:
    node = node.unnest()
    if isinstance(node, exp.Column) and not node.table and node.name in columns:
        return Plain("column", columns[node.name], (node.name,))
    rule = _RULES.get(type(node))
    return rule(node, lambda child: _of(child, columns)) if rule is not None else _none()


def _none() -> Any:
    raise _NotPlain


def _literal(node: exp.Expr, _: _Of) -> Plain:
    if isinstance(node, exp.Boolean):
        return Plain("literal", "boolean", (bool(node.this),))
    if node.is_string:
        return Plain("literal", "string", (node.name,))
    if node.is_int and int(node.name) < _EXACT:
        return Plain("literal", "int64", (int(node.name),))
    return Plain("literal", "double", (Decimal(node.name),)) if set(node.name) <= set("0123456789.") else _none()


def _joined(what: What) -> Callable[[exp.Expr, _Of], Plain]:
    return lambda node, of: Plain(what, "boolean", _conditions(of(node.this), of(node.expression)))


def _conditions(*values: Plain) -> tuple[Plain, ...]:
    return values if all(value.type == "boolean" for value in values) else _none()


def _is(node: exp.Expr, of: _Of) -> Plain:
    return Plain("is null", "boolean", (of(node.this),)) if isinstance(node.expression, exp.Null) else _none()


def _between(node: exp.Expr, of: _Of) -> Plain:
    if node.args.get("symmetric"):
        raise _NotPlain
    least, most = _compared(">=", of(node.this), of(node.args["low"])), _compared("<=", of(node.this), of(node.args["high"]))
    return Plain("and", "boolean", (least, most))


def _in(node: exp.Expr, of: _Of) -> Plain:
    if not node.expressions:
        raise _NotPlain
    return reduce(lambda one, other: Plain("or", "boolean", (one, other)), (_compared("=", of(node.this), of(e)) for e in node.expressions))


def _negative(node: exp.Expr, of: _Of) -> Plain:
    value = of(node.this)
    if value.what == "literal" and is_number(value.type):
        return Plain("literal", value.type, (-value.of[0],))
    return Plain("negative", value.type, (value,)) if value.type in ("int64", "double") else _none()


def _compared(what: What, left: Plain, right: Plain) -> Plain:
    left, right = _alike(left, right, among=lambda kind: kind == "double" or is_decimal(kind))
    return Plain(what, "boolean", (left, right)) if left.type == right.type and not left.type.startswith("array<") else _none()


def _counted(what: What, left: Plain, right: Plain) -> Plain:
    left, right = _alike(left, right, among=lambda kind: kind == "double")
    whole = left.type == "int64" and not left.what == right.what == "literal"
    if left.type != right.type or not (whole or left.type == "double"):
        raise _NotPlain
    return Plain(what, "double" if what == "/" else left.type, (left, right))


def _alike(left: Plain, right: Plain, *, among: Callable[[str], bool]) -> tuple[Plain, Plain]:
    """Both sides, a literal number in the type of the other one, if that is among some."""
    if left.what == "literal" and is_number(left.type) and right.what != "literal" and among(right.type):
        return left._replace(type=right.type), right
    if right.what == "literal" and is_number(right.type) and left.what != "literal" and among(left.type):
        return left, right._replace(type=left.type)
    return (left, right) if left.what != "literal" or right.what != "literal" else _none()


def _cast(node: exp.Expr, of: _Of) -> Plain:
    """Text as a number."""
    value, kind = of(node.this), node.args["to"].this
    if kind not in (exp.DType.BIGINT, exp.DType.DOUBLE) or (value.what, value.type) != ("column", "string"):
        raise _NotPlain
    return Plain("cast", CASTS[kind], (value,))


def _called(node: exp.Expr, of: _Of) -> Plain:
    """A function by its name: of texts, of a number, or of values of one type of which it gives one."""
    name, values = node.name.lower(), [of(each) for each in node.expressions]
    kinds = {value.type for value in values}
    is_of_column = any(value.what != "literal" for value in values)
    match name, len(values):
        case (("upper" | "lower" | "trim" | "length"), 1) if kinds == {"string"} and is_of_column:
            return Plain(name, "int64" if name == "length" else "string", tuple(values))
        case "concat", _ if kinds == {"string"} and is_of_column:
            return Plain("concat", "string", tuple(values))
        case "abs", 1 if kinds <= {"int64", "double"} and is_of_column:
            return Plain("abs", values[0].type, tuple(values))
        case "coalesce", 2:
            values = [*_alike(*values, among=lambda kind: kind == "double" or is_decimal(kind))]
            return Plain("coalesce", values[0].type, tuple(values)) if values[0].type == values[1].type else _none()
        case "if", 3:
            return _chosen(*values)
    raise _NotPlain


def _chosen(condition: Plain, value: Plain, other: Plain) -> Plain:
    value, other = _alike(value, other, among=lambda kind: kind == "double" or is_decimal(kind))
    return Plain("if", value.type, (condition, value, other)) if (condition.type, value.type) == ("boolean", other.type) else _none()


def _case(node: exp.Expr, of: _Of) -> Plain:
    """CASE WHEN ... ELSE ... END."""
    if node.this is not None or node.args.get("default") is None:
        raise _NotPlain
    return reduce(
        lambda other, each: _chosen(of(each.this), of(each.args["true"]), other), reversed(node.args["ifs"]), of(node.args["default"])
    )


def _of_two(make: Callable[[What, Plain, Plain], Plain], what: What) -> Callable[[exp.Expr, _Of], Plain]:
    return lambda node, of: make(what, of(node.this), of(node.expression))


_COMPARED: dict[type[exp.Expr], What] = {exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="}
_COUNTED: dict[type[exp.Expr], What] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/"}
_RULES: dict[type[exp.Expr], Callable[[exp.Expr, _Of], Plain]] = {
    exp.Literal: _literal,
    exp.Boolean: _literal,
    exp.And: _joined("and"),
    exp.Or: _joined("or"),
    exp.Not: lambda node, of: Plain("not", "boolean", _conditions(of(node.this))),
    exp.Is: _is,
    exp.Between: _between,
    exp.In: _in,
    exp.Neg: _negative,
    exp.Cast: _cast,
    exp.TryCast: _cast,
    exp.Anonymous: _called,
    exp.Case: _case,
    **{kind: _of_two(_compared, what) for kind, what in _COMPARED.items()},
    **{kind: _of_two(_counted, what) for kind, what in _COUNTED.items()},
}
