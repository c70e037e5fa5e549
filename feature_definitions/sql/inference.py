"""Which type an expression gives, from those of the columns that it reads: one rule per kind of node."""

from collections.abc import Callable, Mapping, Sequence

from sqlglot import exp

from feature_definitions.language import DefinitionError
from feature_definitions.sql.data_types import articled, decimal, digits_of, element_of, is_array, is_decimal
from feature_definitions.sql.functions import FUNCTIONS, OF_ANYTHING, OF_ARRAYS
from feature_definitions.sql.operands import alike, common, conditions, numbers, strings
from feature_definitions.sql.syntax import DIVISIONS, call_name, cast_type, column_name

_SHORTER_THAN_A_DAY = {f"{unit}{s}" for unit in ("HOUR", "MINUTE", "SECOND", "MILLISECOND", "MICROSECOND") for s in ("", "S")}
_Types = Callable[[exp.Expr], str]
_NUMBERS = {"number", "modulo", "whole"}
_DOUBLE_OF_ANYTHING = {"double", "float", "months_between"}


def data_type_of(node: exp.Expr, columns: Mapping[str, str], sql: str) -> str:
    """The type of a node, `null` or `interval` among them; refuses operands that do not go together."""

    def of(child: exp.Expr) -> str:
        return data_type_of(child, columns, sql)

    node = node.unnest()
    return columns[column_name(node)] if isinstance(node, exp.Column) else RULES[type(node)](node, of, sql)


def _of_literal(node: exp.Expr, _: _Types, __: str) -> str:
    return "string" if node.is_string else "int64" if node.is_int else "double"


def _of_joined(node: exp.Expr, of: _Types, sql: str) -> str:
    _no_arrays([of(node.this), of(node.expression)], "||", sql)
    return "string"


def _of_cast(node: exp.Expr, of: _Types, sql: str) -> str:
    _no_arrays([of(node.this)], "cast", sql)
    return cast_type(sql, node)


def _of_element(node: exp.Expr, of: _Types, sql: str) -> str:
    return _of_array("get", [of(node.this), *(of(index) for index in node.expressions)], sql)


def _of_array(name: str, arguments: Sequence[str], sql: str) -> str:
    """What a function gives whose first argument is an array, and whose second is a value of it or a whole number."""
    if not is_array(arguments[0]):
        raise DefinitionError(f"{sql!r}: {'[]' if name == 'get' else name} needs an array, not {articled(arguments[0])}")
    element, result = element_of(arguments[0]), FUNCTIONS[name][0]
    if name == "array_contains":
        alike([element, arguments[1]], name, sql)
    elif len(arguments) > 1 and arguments[1] != "int64":
        raise DefinitionError(f"{sql!r}: the place in an array is {articled(arguments[1])}; write a whole number")
    return element if result == "element" else result


def _no_arrays(data_types: Sequence[str], what: str, sql: str) -> None:
    for data_type in data_types:
        if is_array(data_type):
            known = ", ".join(sorted(OF_ARRAYS))
            raise DefinitionError(f"{sql!r}: {what} takes no array; read an element, like x[0], or call one of {known}")


def _of_call(call: exp.Expr, of: _Types, sql: str) -> str:
    name, arguments = call_name(call), [of(argument) for argument in call.expressions]
    result = FUNCTIONS[name][0]
    if name in OF_ARRAYS:
        return _of_array(name, arguments, sql)
    if name not in OF_ANYTHING:
        _no_arrays(arguments, name, sql)
    if result in _NUMBERS:
        data_type = numbers(arguments if result == "modulo" else arguments[:1], name, sql)
        return data_type if result != "whole" else "double" if is_decimal(data_type) else "int64"
    if result == "double" and name not in _DOUBLE_OF_ANYTHING:
        numbers(arguments, name, sql)
    if name == "if":
        conditions(arguments[:1], name, sql)
    if result in ("common", "then", "first"):
        shared = common(arguments[1:] if result == "then" else arguments, name, sql)
        return arguments[0] if result == "first" else shared
    return result


def _of_case(case: exp.Expr, of: _Types, sql: str) -> str:
    chosen = [of(branch.this) for branch in case.args["ifs"]]
    if case.this is None:
        conditions(chosen, "when", sql)
    else:
        alike([of(case.this), *chosen], "case", sql)
    default = case.args.get("default")
    results = [of(branch.args["true"]) for branch in case.args["ifs"]]
    return common([*results, of(default) if default is not None else "null"], "case", sql)


def _of_negative(node: exp.Expr, of: _Types, sql: str) -> str:
    return numbers([of(node.this)], "-", sql)


def _of_quotient(node: exp.Expr, of: _Types, sql: str) -> str:
    data_type = numbers([of(node.this), of(node.expression)], "division", sql)
    return data_type if isinstance(node, exp.Mod) else "int64" if isinstance(node, exp.IntDiv) else "double"


def _of_product(node: exp.Expr, of: _Types, sql: str) -> str:
    left, right = of(node.this), of(node.expression)
    data_type = numbers([left, right], "*", sql)
    (digits, scale), (others, after) = digits_of(left), digits_of(right)
    return decimal(digits + others + 1, scale + after) if is_decimal(data_type) else data_type


def _of_sum(node: exp.Expr, of: _Types, sql: str) -> str:
    left, right = of(node.this), of(node.expression)
    if {left, right} & {"date", "timestamp", "interval"}:
        return _moved(node, left, right, sql)
    data_type = numbers([left, right], "+" if isinstance(node, exp.Add) else "-", sql)
    digits, scale = digits_of(data_type)
    return decimal(digits + 1, scale) if is_decimal(data_type) else data_type


def _moved(node: exp.Expr, left: str, right: str, sql: str) -> str:
    times = ("date", "timestamp")
    if left in times and right == "interval":
        return "timestamp" if _in_a_day(node.expression) else left
    if isinstance(node, exp.Add) and left == "interval" and right in times:
        return "timestamp" if _in_a_day(node.this) else right
    if left == "date" and right == "int64":
        return "date"
    if isinstance(node, exp.Sub) and left in times and right in times:
        return "interval"
    pair = f"{articled(left)} and {articled(right)}"
    raise DefinitionError(f"{sql!r} adds or subtracts {pair}; move a time by an interval, like + interval 1 day")


def _in_a_day(interval: exp.Expr) -> bool:
    unit = interval.args.get("unit")
    return unit is not None and unit.name.upper() in _SHORTER_THAN_A_DAY


def _of_condition(node: exp.Expr, of: _Types, sql: str) -> str:
    match node:
        case exp.Not():
            conditions([of(node.this)], "not", sql)
        case exp.And() | exp.Or():
            conditions([of(node.this), of(node.expression)], type(node).__name__.lower(), sql)
        case exp.Is():
            if not isinstance(node.expression, exp.Null):
                conditions([of(node.this), of(node.expression)], "is", sql)
            of(node.this)
        case exp.In():
            alike([of(node.this), *(of(value) for value in node.expressions)], "in", sql)
        case exp.Between():
            alike([of(node.this), of(node.args["low"]), of(node.args["high"])], "between", sql)
        case exp.Like() | exp.ILike() | exp.RegexpLike():
            strings([of(node.this), of(node.expression)], sql)
        case _:
            alike([of(node.this), of(node.expression)], "compared", sql)
    return "boolean"


RULES: dict[type[exp.Expr], Callable[[exp.Expr, _Types, str], str]] = {
    exp.Literal: _of_literal,
    exp.Boolean: lambda _, __, ___: "boolean",
    exp.Null: lambda _, __, ___: "null",
    exp.Interval: lambda _, __, ___: "interval",
    exp.DPipe: _of_joined,
    exp.Anonymous: _of_call,
    exp.Case: _of_case,
    exp.Bracket: _of_element,
    exp.Neg: _of_negative,
    exp.Mul: _of_product,
    **dict.fromkeys((exp.Cast, exp.TryCast), _of_cast),
    **dict.fromkeys((exp.Add, exp.Sub), _of_sum),
    **dict.fromkeys(DIVISIONS, _of_quotient),
    **dict.fromkeys((exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ, exp.NullSafeNEQ), _of_condition),
    **dict.fromkeys((exp.Not, exp.And, exp.Or, exp.Is, exp.In, exp.Between, exp.Like, exp.ILike, exp.RegexpLike), _of_condition),
}
"""The kinds of nodes that give a value, each with its rule."""
