"""Small trees of SQL: conditions that are never null, and what Spark surely makes a double or a whole number of 64 bits."""

from collections.abc import Callable, Iterable, Sequence

from sqlglot import exp

from feature_definitions.sql.functions import FUNCTIONS, OF_ANYTHING
from feature_definitions.sql.syntax import CASTS, call_name

TypeOf = Callable[[exp.Expr], str]
"""The type of a node by our rules."""

_WHOLE_CALLS = {name for name, (gives, _, _) in FUNCTIONS.items() if gives == "int64"}
_MANY_DIGITS = 2**63
_CLOSED = (exp.Column, exp.Literal, exp.Anonymous, exp.Paren, exp.Cast, exp.TryCast, exp.Null, exp.Boolean, exp.Interval)


def call(name: str, *arguments: exp.Expr) -> exp.Expr:
    """A call of a function."""
    return exp.Anonymous(this=name, expressions=[argument.copy() for argument in arguments])


def number(value: int) -> exp.Expr:
    """A whole number."""
    return exp.Neg(this=exp.Literal.number(-value)) if value < 0 else exp.Literal.number(value)


def cast(node: exp.Expr, to: exp.Expr | str) -> exp.Expr:
    """A cast that gives null where it fails."""
    return exp.TryCast(this=node.copy(), to=exp.DataType.build(to, dialect="spark") if isinstance(to, str) else to.copy(), safe=True)


def missing(node: exp.Expr) -> exp.Expr:
    """Whether a node is null."""
    return exp.Is(this=closed(node), expression=exp.Null())


def there(node: exp.Expr) -> exp.Expr:
    """Whether a node is not null."""
    return exp.Not(this=missing(node))


def all_there(nodes: Iterable[exp.Expr]) -> list[exp.Expr]:
    """Whether each of these nodes is not null; nothing of those that are written out."""
    return [there(node) for node in nodes if not isinstance(node, exp.Literal)]


def is_true(node: exp.Expr) -> exp.Expr:
    """Whether a condition is true, neither false nor null."""
    return call("coalesce", node, exp.false())


def may_be_true(node: exp.Expr) -> exp.Expr:
    """Whether a condition is true or null."""
    return call("coalesce", node, exp.true())


def between(node: exp.Expr, least: int, most: int) -> exp.Expr:
    """Whether a number lies between two, both included."""
    return exp.Between(this=closed(node), low=number(least), high=number(most))


def any_of(conditions: Iterable[exp.Expr | None]) -> exp.Expr | None:
    """Whether one of the conditions holds; None if there are none."""
    return _joined(exp.Or, conditions)


def all_of(conditions: Iterable[exp.Expr | None]) -> exp.Expr | None:
    """Whether all of the conditions hold; None if there are none."""
    return _joined(exp.And, conditions)


def _joined(how: type[exp.Expr], conditions: Iterable[exp.Expr | None]) -> exp.Expr | None:
    found: exp.Expr | None = None
    for condition in conditions:
        if condition is not None:
            found = closed(condition) if found is None else how(this=found, expression=closed(condition))
    return found


def closed(node: exp.Expr) -> exp.Expr:
    """A copy of a node that may stand anywhere."""
    return node.copy() if isinstance(node, _CLOSED) else exp.Paren(this=node.copy())


def is_surely_double(node: exp.Expr, type_of: TypeOf) -> bool:
    """Whether Spark computes a node as a double, which cannot overflow; where we say double it may compute a decimal."""
    node = node.unnest()
    match node:
        case exp.Literal():
            return not node.is_string and "e" in node.name.lower()
        case exp.Cast() | exp.TryCast():
            return CASTS.get(node.args["to"].this) == "double"
        case exp.Div() if type_of(node.this) == type_of(node.expression) == "int64":
            return True
        case exp.Add() | exp.Sub() | exp.Mul() | exp.Div() | exp.Mod():
            return any(is_surely_double(side, type_of) for side in (node.this, node.expression))
        case exp.Neg():
            return is_surely_double(node.this, type_of)
        case exp.Case():
            branches = [*(branch.args["true"] for branch in node.args["ifs"]), *filter(None, [node.args.get("default")])]
            return any(is_surely_double(branch, type_of) for branch in branches)
        case exp.Anonymous():
            return _call_is_double(node, type_of)
    return type_of(node) == "double"


def _call_is_double(node: exp.Expr, type_of: TypeOf) -> bool:
    name = call_name(node)
    gives, arguments = FUNCTIONS[name][0], node.expressions
    if gives == "double" and name not in ("try_divide", "double"):
        return True
    if gives in ("number", "first"):
        return is_surely_double(arguments[0], type_of)
    if gives in ("common", "then", "modulo") or name in OF_ANYTHING:
        return type_of(node) == "double" and any(is_surely_double(argument, type_of) for argument in arguments)
    return type_of(node) == "double"


def is_surely_whole(node: exp.Expr, type_of: TypeOf) -> bool:
    """Whether Spark computes a node as a whole number of at most 64 bits."""
    node = node.unnest()
    match node:
        case exp.Literal():
            return node.is_int and int(node.name) < _MANY_DIGITS
        case exp.Column() | exp.IntDiv():
            return type_of(node) == "int64"
        case exp.Cast() | exp.TryCast():
            return CASTS.get(node.args["to"].this) == "int64"
        case exp.Neg():
            return is_surely_whole(node.this, type_of)
        case exp.Add() | exp.Sub() | exp.Mul() | exp.Mod():
            return _are_whole([node.this, node.expression], type_of)
        case exp.Case():
            branches = [*(branch.args["true"] for branch in node.args["ifs"]), *filter(None, [node.args.get("default")])]
            return all(isinstance(branch, exp.Null) or is_surely_whole(branch, type_of) for branch in branches)
        case exp.Anonymous():
            return type_of(node) == "int64" and _call_is_whole(node, type_of)
    return type_of(node) == "int64"


def _call_is_whole(node: exp.Expr, type_of: TypeOf) -> bool:
    name, arguments = call_name(node), node.expressions
    if name in _WHOLE_CALLS:
        return True
    if FUNCTIONS[name][0] == "whole":
        return is_surely_double(arguments[0], type_of) or is_surely_whole(arguments[0], type_of)
    if FUNCTIONS[name][0] == "element":
        return True
    return _are_whole([each for each in arguments if type_of(each) == "int64"], type_of)


def _are_whole(nodes: Sequence[exp.Expr], type_of: TypeOf) -> bool:
    return all(is_surely_whole(node, type_of) for node in nodes)
