"""Expressions that raise in Spark's ANSI mode, made safe: each as one that gives null instead, with the condition under which it fails.

An expression fails for a row if something in it has all that it needs and still no value: a text that is no number, a product beyond its
type. What Spark would not have computed does not count: a branch that is not taken, or what follows a null. Division by zero, an element
that is not there and `try_cast` are null by definition; they do not fail.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from sqlglot import exp

from feature_definitions.sql.data_types import is_decimal, is_number
from feature_definitions.sql.expressions import PREVIOUS, in_spark, null_if_zero, parse, type_in
from feature_definitions.sql.failing_calls import DATES, safe_call
from feature_definitions.sql.inference import data_type_of
from feature_definitions.sql.nodes import (
    TypeOf,
    all_of,
    all_there,
    any_of,
    call,
    cast,
    closed,
    is_surely_double,
    is_surely_whole,
    is_true,
    may_be_true,
    missing,
    number,
    there,
)
from feature_definitions.sql.syntax import call_name, cast_type

_TRIES: dict[type[exp.Expr], str] = {exp.Add: "try_add", exp.Sub: "try_subtract", exp.Mul: "try_multiply"}
_CAST_CALLS = {
    "bigint": "bigint",
    "int": "int",
    "double": "double",
    "float": "float",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "timestamp",
}
_TIMES = ("date", "timestamp")
_ALL_AT_ONCE = {"concat", "concat_ws", "hash", "xxhash64", "greatest", "least"}
"""Functions of which Spark computes every argument."""
_SOUND = r"\A(?s)(?:[^\\]|\\[_%\\])*\z"
"""The patterns that LIKE takes, as a regular expression of Java."""
_DIVIDING = {"mod", "pmod", "try_divide"}


class Safe(NamedTuple):
    """An expression for Spark that never raises, null where it fails; and when it fails, never null: None if it cannot."""

    value: str
    fails: str | None


class Failing(NamedTuple):
    """A node that never raises, and the condition under which it would have: None if there is none."""

    value: exp.Expr
    fails: exp.Expr | None


class _Within(NamedTuple):
    """What a rule asks about the parts of a node: their types, and how they are made safe."""

    type_of: TypeOf
    safe: Callable[[exp.Expr], Failing]
    sql: str


def safely(sql: str, columns: Mapping[str, str]) -> Safe:
    """An expression over columns of these types (of the row before as `prev.close`), in its own type."""
    tree = parse(sql, tables=PREVIOUS if any("." in column for column in columns) else frozenset())
    found = _in_its_type(made_safe(tree, columns, sql), tree, type_in(sql, tree, columns), lambda node: data_type_of(node, columns, sql))
    if found.fails is None:
        return Safe(in_spark(sql, tree), None)
    return Safe(in_spark(sql, found.value), in_spark(sql, found.fails))


def _in_its_type(found: Failing, tree: exp.Expr, data_type: str, type_of: TypeOf) -> Failing:
    """What Spark computes in a wider type than ours, cast to that."""
    if not is_decimal(data_type) and (data_type != "int64" or is_surely_whole(tree, type_of)):
        return found
    if isinstance(tree, exp.Column):
        return found
    typed = cast(exp.Paren(this=found.value), "bigint" if data_type == "int64" else data_type)
    return Failing(typed, any_of([found.fails, all_of([there(found.value), missing(typed)])]))


def made_safe(tree: exp.Expr, columns: Mapping[str, str], sql: str) -> Failing:
    """A node of an expression made safe, in the type that Spark gives it; the tree itself stays as it is."""
    within = _Within(lambda node: data_type_of(node, columns, sql), lambda node: made_safe(node, columns, sql), sql)
    return _RULES.get(type(tree), _strict)(tree, within)


# --------------------------------------------------------------------------------------------------------- operands in their order


def _strict(node: exp.Expr, within: _Within) -> Failing:
    """A node of which Spark computes the operands in order, up to the first that is null."""
    places = _operands(node)
    safe = [within.safe(child) for _, child in places]
    return Failing(_with(node, safe), _first_failing(safe))


def _first_failing(operands: Sequence[Failing]) -> exp.Expr | None:
    """Whether one of several operands fails, all before which have a value."""
    earlier: list[exp.Expr] = []
    found = []
    for operand in operands:
        if operand.fails is not None:
            found.append(all_of([*all_there(earlier), operand.fails]))
        earlier.append(operand.value)
    return any_of(found)


def _operands(node: exp.Expr) -> list[tuple[str, exp.Expr]]:
    """The values that a node is made of, in the order in which they are written, each with the place where it stands."""
    found = []
    for place in ("this", "expression", "low", "high", "expressions"):
        held = node.args.get(place)
        found += [(place, each) for each in (held if isinstance(held, list) else [held]) if isinstance(each, exp.Expr)]
    return [(place, each) for place, each in found if not isinstance(each, exp.Identifier | exp.Var | exp.DataType)]


def _with(node: exp.Expr, operands: Sequence[Failing]) -> exp.Expr:
    """A copy of a node with other operands, in the order in which `_operands` gives them."""
    made, rest = node.copy(), [operand.value for operand in operands]
    for place in dict.fromkeys(place for place, _ in _operands(node)):
        held = made.args[place]
        if isinstance(held, list):
            made.set(place, [closed(rest.pop(0)) for _ in held])
        else:
            made.set(place, closed(rest.pop(0)))
    return made


def _leaf(node: exp.Expr, _: _Within) -> Failing:
    return Failing(node.copy(), None)


def _tried(value: exp.Expr, operands: Sequence[Failing], needs: Sequence[exp.Expr]) -> Failing:
    """A node that fails too where it has no value though what it needs is there."""
    return Failing(value, any_of([_first_failing(operands), _has_none(needs, value)]))


def _has_none(needs: Sequence[exp.Expr], value: exp.Expr) -> exp.Expr | None:
    """Whether there is no value though all that it needs is there."""
    return all_of([*all_there(needs), missing(value)])


# -------------------------------------------------------------------------------------------------------------------- arithmetic


def _sum(node: exp.Expr, within: _Within) -> Failing:
    """A sum, a difference or a product: beyond its type there is none."""
    sides = [within.safe(side) for side in (node.this, node.expression)]
    of_times = {within.type_of(node.this), within.type_of(node.expression)} & {*_TIMES, "interval"}
    if of_times or is_surely_double(node, within.type_of):
        return Failing(_with(node, sides), _first_failing(sides))
    values = [side.value for side in sides]
    return _tried(call(_TRIES[type(node)], *values), sides, values)


def _quotient(node: exp.Expr, within: _Within) -> Failing:
    sides = [within.safe(side) for side in (node.this, node.expression)]
    if is_surely_double(node, within.type_of):
        return Failing(_with(node, sides), _divided_fails(sides))
    values = [sides[0].value, null_if_zero(sides[1].value)]
    return Failing(call("try_divide", *values), any_of([_divided_fails(sides), _has_none(values, call("try_divide", *values))]))


def _remainder(node: exp.Expr, within: _Within) -> Failing:
    sides = [within.safe(side) for side in (node.this, node.expression)]
    return Failing(_with(node, sides), _divided_fails(sides))


def _divided_fails(sides: Sequence[Failing]) -> exp.Expr | None:
    """Whether a side of a division fails: Spark computes the divisor first, and nothing else if it is zero."""
    dividend, divisor = sides
    return _first_failing([Failing(null_if_zero(divisor.value), divisor.fails), dividend])


def _whole_quotient(node: exp.Expr, within: _Within) -> Failing:
    """Of whole numbers one quotient alone is beyond their type: the least number by -1."""
    sides = [within.safe(side) for side in (node.this, node.expression)]
    plain = _with(node, sides)
    if within.type_of(node.this) != "int64" or (isinstance(node.expression, exp.Literal) and node.expression.is_int):
        return Failing(plain, _divided_fails(sides))
    left, right = (closed(side.value) for side in sides)
    beyond = all_of([exp.EQ(this=left, expression=number(-(2**63))), exp.EQ(this=right, expression=number(-1))])
    assert beyond is not None
    return Failing(call("if", beyond, exp.Null(), plain), any_of([_divided_fails(sides), is_true(beyond)]))


def _negative(node: exp.Expr, within: _Within) -> Failing:
    if isinstance(node.this, exp.Literal):
        return _leaf(node, within)
    of = within.safe(node.this)
    if within.type_of(node.this) != "int64":
        return Failing(exp.Neg(this=closed(of.value)), of.fails)
    return _tried(call("try_subtract", number(0), of.value), [of], [of.value])


# ------------------------------------------------------------------------------------------------------------------------- casts


def _cast(node: exp.Expr, within: _Within) -> Failing:
    of, given, wanted = within.safe(node.this), within.type_of(node.this), cast_type(within.sql, node)
    if node.args.get("safe"):
        return Failing(cast(of.value, node.args["to"]), of.fails)
    if _always_fits(node, given, wanted, within):
        return Failing(exp.Cast(this=closed(of.value), to=node.args["to"].copy()), of.fails)
    return _tried(cast(of.value, node.args["to"]), [of], [of.value])


def _always_fits(node: exp.Expr, given: str, wanted: str, within: _Within) -> bool:
    """Whether a cast has a value for every value that it is given."""
    if wanted == "string" or given in ("null", "boolean") or (given in _TIMES and wanted in _TIMES):
        return True
    if wanted == "int64":
        return node.args["to"].this == exp.DType.BIGINT and is_surely_whole(node.this, within.type_of)
    if given == wanted:
        return not is_decimal(wanted) or isinstance(node.this, exp.Column)
    return is_number(given) and (wanted in ("double", "boolean") or (wanted == "timestamp" and given == "int64"))


def _as_time(operand: Failing, wanted: str) -> Failing:
    """A text that stands for a time, as Spark reads it."""
    value = cast(operand.value, wanted)
    return _tried(value, [operand], [operand.value])


# -------------------------------------------------------------------------------------------------------------------- conditions


def _compared(node: exp.Expr, within: _Within) -> Failing:
    """Values side by side; a text beside a time is read as one."""
    places = _operands(node)
    safe = _alike([child for _, child in places], within)
    return Failing(_with(node, safe), any_of(each.fails for each in safe) if isinstance(node, exp.NullSafeEQ) else _first_failing(safe))


def _alike(nodes: Sequence[exp.Expr], within: _Within) -> list[Failing]:
    types = [within.type_of(node) for node in nodes]
    time = next((wanted for wanted in ("timestamp", "date") if wanted in types), None)
    return [
        _as_time(within.safe(node), time)
        if time is not None and data_type == "string" and not isinstance(node.unnest(), exp.Literal)
        else within.safe(node)
        for node, data_type in zip(nodes, types, strict=True)
    ]


def _like(node: exp.Expr, within: _Within) -> Failing:
    """A text beside a pattern; one that a row says itself fails if a backslash stands before a sign that needs none."""
    text, pattern = (within.safe(side) for side in (node.this, node.expression))
    plain = _with(node, [text, pattern])
    if isinstance(node.expression.unnest(), exp.Literal):
        return Failing(plain, _first_failing([text, pattern]))
    sound = call("regexp_like", pattern.value, exp.Literal.string(_SOUND))
    wrong = all_of([*all_there([text.value, pattern.value]), exp.Not(this=sound)])
    return Failing(call("if", sound, plain, exp.Null()), any_of([_first_failing([text, pattern]), wrong]))


def _and(node: exp.Expr, within: _Within) -> Failing:
    """The second condition counts unless the first is false."""
    left, right = within.safe(node.this), within.safe(node.expression)
    later = None if right.fails is None else all_of([may_be_true(left.value), right.fails])
    return Failing(_with(node, [left, right]), any_of([left.fails, later]))


def _or(node: exp.Expr, within: _Within) -> Failing:
    """The second condition counts unless the first is true."""
    left, right = within.safe(node.this), within.safe(node.expression)
    later = None if right.fails is None else all_of([exp.Not(this=is_true(left.value)), right.fails])
    return Failing(_with(node, [left, right]), any_of([left.fails, later]))


# ---------------------------------------------------------------------------------------------------------------------- branches


def _case(node: exp.Expr, within: _Within) -> Failing:
    """Conditions in order, up to the first that holds, and the value of its branch."""
    subject = node.this
    tests = [branch.this for branch in node.args["ifs"]]
    conditions = [within.safe(test if subject is None else exp.EQ(this=subject.copy(), expression=test.copy())) for test in tests]
    chosen = [within.safe(branch.args["true"]) for branch in node.args["ifs"]]
    default = node.args.get("default")
    other = Failing(exp.Null(), None) if default is None else within.safe(default)
    branches = list(zip(conditions, chosen, strict=True))
    return Failing(_chosen([(test.value, then.value) for test, then in branches], other.value), _branch_fails(branches, other))


def _chosen(branches: Sequence[tuple[exp.Expr, exp.Expr]], default: exp.Expr) -> exp.Expr:
    ifs = [exp.If(this=test.copy(), true=then.copy()) for test, then in branches]
    return exp.Case(ifs=ifs, default=default.copy())


def _branch_fails(branches: Sequence[tuple[Failing, Failing]], default: Failing) -> exp.Expr | None:
    """Whether the first condition that fails or holds is one that fails, or whose branch does."""
    if all(each.fails is None for branch in branches for each in branch) and default.fails is None:
        return None
    steps: list[tuple[exp.Expr, exp.Expr]] = []
    for test, then in branches:
        steps += [(test.fails, exp.true())] if test.fails is not None else []
        steps.append((test.value, then.fails or exp.false()))
    return _chosen(steps, default.fails or exp.false())


def _if(node: exp.Expr, within: _Within) -> Failing:
    test, *branches = node.expressions
    if call_name(node) == "nvl2":
        of = within.safe(test)
        condition = Failing(there(of.value), of.fails)
    else:
        condition = within.safe(test)
    then, other = (within.safe(branch) for branch in branches)
    value = call("if", condition.value, then.value, other.value)
    return Failing(value, _branch_fails([(condition, then)], other))


def _first_there(node: exp.Expr, within: _Within) -> Failing:
    """Values in order, up to the first that is there."""
    safe = [within.safe(each) for each in node.expressions]
    gone = [missing(each.value) for each in safe]
    later = [None if each.fails is None else all_of([*gone[:n], each.fails]) for n, each in enumerate(safe)]
    return Failing(_with(node, safe), any_of(later))


# ------------------------------------------------------------------------------------------------------------------------- calls


def _call(node: exp.Expr, within: _Within) -> Failing:
    name = call_name(node)
    if name in _CAST_CALLS:
        to = exp.DataType.build(_CAST_CALLS[name], dialect="spark")
        return _cast(exp.Cast(this=node.expressions[0].copy(), to=to), within)
    if name in ("if", "nvl2"):
        return _if(node, within)
    if name in ("coalesce", "nvl", "ifnull"):
        return _first_there(node, within)
    if name == "array_contains":
        return _strict(node, within)
    wanted = DATES.get(name, ())
    arguments = [_argument(each, wanted[n] if n < len(wanted) else "", within) for n, each in enumerate(node.expressions)]
    made = safe_call(node, [argument.value for argument in arguments], within.type_of)
    return Failing(made.value, any_of([_arguments_fail(name, arguments), made.fails]))


def _arguments_fail(name: str, arguments: Sequence[Failing]) -> exp.Expr | None:
    if name in _ALL_AT_ONCE:
        return any_of(each.fails for each in arguments)
    return _divided_fails(arguments) if name in _DIVIDING else _first_failing(arguments)


def _argument(node: exp.Expr, wanted: str, within: _Within) -> Failing:
    is_text = wanted and not isinstance(node.unnest(), exp.Literal) and within.type_of(node) == "string"
    return _as_time(within.safe(node), wanted) if is_text else within.safe(node)


_RULES: dict[type[exp.Expr], Callable[[exp.Expr, _Within], Failing]] = {
    **dict.fromkeys((exp.Literal, exp.Column, exp.Null, exp.Boolean, exp.Interval), _leaf),
    **dict.fromkeys(_TRIES, _sum),
    **dict.fromkeys((exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ, exp.In, exp.Between), _compared),
    exp.Div: _quotient,
    exp.IntDiv: _whole_quotient,
    exp.Mod: _remainder,
    exp.Neg: _negative,
    **dict.fromkeys((exp.Cast, exp.TryCast), _cast),  # Spark's CAST is parsed as the second, which is not safe
    **dict.fromkeys((exp.Like, exp.ILike), _like),
    exp.And: _and,
    exp.Or: _or,
    exp.Case: _case,
    exp.DPipe: _strict,
    exp.Anonymous: _call,
}
"""The kinds of nodes that raise, or of which Spark does not compute every part; of any other it does."""
