"""Spark SQL expressions over the columns of one row: what they read, which type they give, and how Spark is to compute them.

Only what always gives the same result is let through: a list of operators and a list of scalar functions, by name, as they were written.
Spark's own flag and parsers miss much of the rest (`now()`, `cast('now' as timestamp)`, `java_method`), so nothing is refused by absence.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from sqlglot import exp
from sqlglot.dialects.spark import Spark
from sqlglot.errors import ErrorLevel, SqlglotError
from sqlglot.parsers.spark import SparkParser

from feature_definitions.language import (
    DefinitionError,
    Derived,
    Feature,
    FeatureGroup,
    ObservationGroup,
    SnapshotGroup,
    Source,
    TransformGroup,
    WindowedGroup,
)
from feature_definitions.sql.data_types import articled, decimal, digits_of, element_of, is_array
from feature_definitions.sql.functions import CLOCK, FUNCTIONS, MANY, OF_ANYTHING, OF_ARRAYS, OF_GROUPS, OF_MANY_ROWS, OF_TIME
from feature_definitions.sql.operands import alike, common, conditions, numbers, strings


class _Parser(SparkParser):
    """Reads every call as it was written, so that no function is renamed or rewritten on the way to Spark."""

    FUNCTIONS: ClassVar[Any] = {}
    FUNCTION_PARSERS: ClassVar[Any] = {name: SparkParser.FUNCTION_PARSERS[name] for name in ("CAST", "TRY_CAST")}
    NO_PAREN_FUNCTIONS: ClassVar[Any] = {}
    NO_PAREN_FUNCTION_PARSERS: ClassVar[Any] = {"CASE": SparkParser.NO_PAREN_FUNCTION_PARSERS["CASE"]}


class _Dialect(Spark):
    Parser = _Parser


_SQL = _Dialect()

_BY_THE_CLOCK = "reads the clock, so a value would depend on when it is computed; use the row's own times"
_CLOCK_WORD = re.compile(r"\s*(now|today|yesterday|tomorrow)\b.*", re.IGNORECASE | re.DOTALL)

_CASTS = {
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
_DIVISIONS = (exp.Div, exp.IntDiv, exp.Mod)
_SHORTER_THAN_A_DAY = {f"{unit}{s}" for unit in ("HOUR", "MINUTE", "SECOND", "MILLISECOND", "MICROSECOND") for s in ("", "S")}
_PREVIOUS = frozenset({"prev"})


def columns_in(sql: str) -> frozenset[str]:
    """The columns that an expression reads; refuses what is not one deterministic scalar expression."""
    return frozenset(column.name for column in _parse(sql).find_all(exp.Column))


def derive_columns_in(sql: str) -> frozenset[str]:
    """The columns that an expression of `Source.derive` reads; those of the row before as `prev.close`."""
    return frozenset(_spelled(column) for column in _parse(sql, tables=_PREVIOUS).find_all(exp.Column))


def spark_sql(sql: str) -> str:
    """The expression for Spark in ANSI mode: division by zero is null, so is an array's element that is not there; columns are quoted."""
    return _in_spark(sql, _parse(sql))


def derive_sql(sql: str) -> str:
    """An expression of `Source.derive` for Spark, where `prev` is a struct of the columns of the row before."""
    return _in_spark(sql, _parse(sql, tables=_PREVIOUS))


def type_of(sql: str, columns: Mapping[str, str]) -> str:
    """The type that an expression gives, when cast to the nearest of Headwater's; refuses operands that do not go together.

    A number with a point, a division, and decimals of more than 38 digits are double here, also where Spark computes a decimal.
    """
    return _type(sql, _parse(sql), columns)


def columns_of(source: Source) -> dict[str, str]:
    """The columns of a source with their types, those that it derives last."""
    types = dict(source.columns)
    for name in source.derive:
        types[name] = derive_type(source, name, types)
    return types


def derive_type(source: Source, name: str, columns: Mapping[str, str]) -> str:
    """The type of a column that a source derives, from those before it."""
    sql = source.derive[name]
    previous = {f"prev.{column}": kind for column, kind in source.columns.items()}
    return _type(sql, _parse(sql, tables=_PREVIOUS), {**columns, **previous})


def output_types(group: FeatureGroup) -> dict[str, str]:
    """The type of each output column of a group's table, in order; the time of the last event is a timestamp here."""
    match group:
        case TransformGroup():
            return dict(group.schema)
        case WindowedGroup():
            return _aggregated_types(group, columns_of(group.source))
        case ObservationGroup() | SnapshotGroup():
            declared = columns_of(group.source)
            return {name: declared[name] for name in group.columns}


def _aggregated_types(group: WindowedGroup, declared: Mapping[str, str]) -> dict[str, str]:
    types: dict[str, str] = {}
    for feature in group.features:
        match feature:
            case Feature():
                types |= dict.fromkeys(feature.columns, feature_type(feature, declared))
            case Derived():
                types[feature.name] = type_of(feature.expression, types)
    return types


def shown_types(group: FeatureGroup) -> dict[str, str]:
    """The type of each output column as readers see it: the time since the last event is seconds, a double."""
    return {name: "double" if name in group.ages else kind for name, kind in output_types(group).items()}


def feature_type(feature: Feature, columns: Mapping[str, str]) -> str:
    """The type of a feature's columns, from those of its source."""
    return feature.meaning.result(input_type(feature, columns))


def input_type(feature: Feature, columns: Mapping[str, str]) -> str:
    """The type of what a feature aggregates; events as such are counted."""
    return "int64" if feature.of is None else type_of(feature.of, columns)


def closest(name: str, known: Iterable[str]) -> str:
    """A sentence to add about a name that is not known: ` Did you mean 'amount'?`, or nothing."""
    names = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(names[n]) for n in near)}?" if near else ""


def _type(sql: str, tree: exp.Expr, columns: Mapping[str, str]) -> str:
    read = {_spelled(column) for column in tree.find_all(exp.Column)}
    for name in sorted(read - set(columns)):
        known = ", ".join(sorted(column for column in columns if "." not in column))
        raise DefinitionError(f"{sql!r} reads {name!r}, which is not there.{closest(name, columns)} There are: {known}")
    if any(columns[name] in ("date", "timestamp") for name in read):
        _refuse_clock_words(sql, tree)
    try:
        kind = _kind(tree, columns, sql)
    except RecursionError:
        raise _too_deep(sql) from None
    if kind == "null":
        raise DefinitionError(f"{sql!r} is always null; name a column")
    if kind == "interval":
        raise DefinitionError(f"{sql!r} gives a span of time; write datediff(a, b) for days, or unix_micros(a) - unix_micros(b)")
    return kind


# ---------------------------------------------------------------------------------------------------------------------- parsing


def _parse(sql: str, *, tables: frozenset[str] = frozenset()) -> exp.Expr:
    if any(token.text == ";" for token in _tokens(sql)):
        raise DefinitionError(f"{sql!r} has several statements; write one expression, without ;")
    try:
        tree = _SQL.parse_into(exp.Condition, sql)[0]
    except SqlglotError as error:
        raise DefinitionError(f"{sql!r} is not a Spark SQL expression: {_first_line(error)}") from None
    except RecursionError:
        raise _too_deep(sql) from None
    if tree is None:
        raise DefinitionError(f"{sql!r} is empty; write a Spark SQL expression")
    for node in tree.walk():
        _refuse(sql, node, tables)
    if any(_tells_time(node) for node in tree.walk()):
        _refuse_clock_words(sql, tree)
    return tree


def _too_deep(sql: str) -> DefinitionError:
    return DefinitionError(f"the expression {sql[:40]!r}..., of {len(sql):,} characters, is nested too deep; part it into several features")


def _tokens(sql: str) -> Sequence[Any]:
    try:
        tokens = _SQL.tokenize(sql)
    except SqlglotError as error:
        raise DefinitionError(f"{sql!r} is not a Spark SQL expression: {_first_line(error)}") from None
    if not tokens:
        raise DefinitionError(f"{sql!r} is empty; write a Spark SQL expression")
    return tokens


def _first_line(error: SqlglotError) -> str:
    details = getattr(error, "errors", None)
    if details and details[0].get("description"):
        text = re.sub(r"<class '[\w.]*?(\w+)'>", r"\1", details[0]["description"])
        return f"{text}, at character {details[0].get('col')}"
    return str(error).splitlines()[0]


def _refuse(sql: str, node: exp.Expr, tables: frozenset[str]) -> None:
    match node:
        case exp.Anonymous():
            _refuse_call(sql, node)
        case exp.Column():
            _refuse_column(sql, node, tables)
        case exp.Cast() | exp.TryCast():
            _cast_type(sql, node)
    if type(node) not in _PLAIN or _is_odd(node):
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
    return f"has {node.sql(_SQL)!r} ({type(node).__name__}), which expressions do not know; write it with operators and functions"


def _is_odd(node: exp.Expr) -> bool:
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


def _refuse_call(sql: str, call: exp.Anonymous) -> None:
    name, count = _name(call), len(call.expressions)
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


def _refuse_column(sql: str, column: exp.Column, tables: frozenset[str]) -> None:
    if column.table in _PREVIOUS - tables:
        raise DefinitionError(f"{sql!r} reads the row before, {column.sql(_SQL)!r}; only a source's derive can")
    if column.table and (column.table not in tables or column.db):
        raise DefinitionError(f"{sql!r} reads {column.sql(_SQL)!r}; write the column's name alone")
    if column.name.lower() in CLOCK and not column.this.quoted:
        raise DefinitionError(f"{sql!r}: {column.name} {_BY_THE_CLOCK}")


def _cast_type(sql: str, cast: exp.Expr) -> str:
    to = cast.args["to"]
    if to.this == exp.DType.DECIMAL:
        digits = [int(p.name) for p in to.expressions] or [10]
        return f"decimal({digits[0]},{digits[1] if len(digits) > 1 else 0})"
    if to.this not in _CASTS:
        raise DefinitionError(
            f"{sql!r} casts to {to.sql(_SQL)}; write string, bigint, int, double, boolean, decimal(p,s), date or timestamp"
        )
    return _CASTS[to.this]


def _name(call: exp.Expr) -> str:
    return (call.this if isinstance(call.this, str) else call.this.name).lower()


def _tells_time(node: exp.Expr) -> bool:
    match node:
        case exp.Anonymous():
            name = _name(node)
            return name in OF_TIME or FUNCTIONS.get(name, ("",))[0] in ("date", "timestamp")
        case exp.Cast() | exp.TryCast():
            return _CASTS.get(node.args["to"].this) in ("date", "timestamp")
    return False


def _refuse_clock_words(sql: str, tree: exp.Expr) -> None:
    """Refuse texts that Spark would read as a time relative to now, and computed ones that might become such a text."""
    for node in tree.walk():
        if isinstance(node, exp.Literal) and node.is_string and _CLOCK_WORD.fullmatch(node.name):
            raise DefinitionError(f"{sql!r}: as a time, {node.name!r} {_BY_THE_CLOCK}, or a date like '2026-01-05'")
        computed = isinstance(node, exp.Anonymous | exp.DPipe | exp.Case) and not node.find(exp.Column)
        if computed and not _tells_time(node) and any(literal.is_string for literal in node.find_all(exp.Literal)):
            raise DefinitionError(f"{sql!r} computes the constant {node.sql(_SQL)!r}; write its value")


def _in_spark(sql: str, tree: exp.Expr) -> str:
    whole = exp.Paren(this=tree)
    for node in list(whole.find_all(*_DIVISIONS, exp.Anonymous, exp.Bracket)):
        match node:
            case exp.Bracket():
                node.replace(exp.Anonymous(this="get", expressions=[node.this, _place(node.expressions[0])]))
            case exp.Anonymous() if _name(node) == "get":
                node.set("expressions", [node.expressions[0], _place(node.expressions[1])])
            case exp.Anonymous():
                if _name(node) in ("mod", "pmod"):
                    node.set("expressions", [node.expressions[0], _null_if_zero(node.expressions[1])])
            case _:
                node.set("expression", _null_if_zero(node.expression))
    try:
        text: str = whole.this.sql(_SQL, identify=True, comments=False, normalize_functions=False, unsupported_level=ErrorLevel.RAISE)
        return text.replace("${", "\\u0024{")  # Spark replaces variables before it reads, in texts too
    except RecursionError:
        raise _too_deep(sql) from None


def _place(index: exp.Expr) -> exp.Expr:
    """The place of an element; Spark counts places by 32 bits, and none lies beyond."""
    if isinstance(index, exp.Literal) and int(index.name) < 2**31:
        return index
    return exp.TryCast(this=index, to=exp.DataType(this=exp.DType.INT), safe=True)


def _spelled(column: exp.Column) -> str:
    return f"{column.table}.{column.name}" if column.table else column.name


def _null_if_zero(divisor: exp.Expr) -> exp.Expr:
    if isinstance(divisor, exp.Literal) and not divisor.is_string and float(divisor.name) != 0:
        return divisor
    return exp.Anonymous(this="nullif", expressions=[divisor, exp.Literal.number(0)])


# ------------------------------------------------------------------------------------------------------------------------ types


_Kinds = Callable[[exp.Expr], str]
_NUMBERS = {"number", "modulo", "whole"}
_DOUBLE_OF_ANYTHING = {"double", "float", "months_between"}


def _kind(node: exp.Expr, columns: Mapping[str, str], sql: str) -> str:
    def of(child: exp.Expr) -> str:
        return _kind(child, columns, sql)

    node = node.unnest()
    return columns[_spelled(node)] if isinstance(node, exp.Column) else _RULES[type(node)](node, of, sql)


def _literal_kind(node: exp.Expr, _: _Kinds, __: str) -> str:
    return "string" if node.is_string else "int64" if node.is_int else "double"


def _joined_kind(node: exp.Expr, of: _Kinds, sql: str) -> str:
    _no_arrays([of(node.this), of(node.expression)], "||", sql)
    return "string"


def _cast_kind(node: exp.Expr, of: _Kinds, sql: str) -> str:
    _no_arrays([of(node.this)], "cast", sql)
    return _cast_type(sql, node)


def _element_kind(node: exp.Expr, of: _Kinds, sql: str) -> str:
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


def _no_arrays(kinds: Sequence[str], what: str, sql: str) -> None:
    for kind in kinds:
        if is_array(kind):
            known = ", ".join(sorted(OF_ARRAYS))
            raise DefinitionError(f"{sql!r}: {what} takes no array; read an element, like x[0], or call one of {known}")


def _call_kind(call: exp.Expr, of: _Kinds, sql: str) -> str:
    name, arguments = _name(call), [of(argument) for argument in call.expressions]
    result = FUNCTIONS[name][0]
    if name in OF_ARRAYS:
        return _of_array(name, arguments, sql)
    if name not in OF_ANYTHING:
        _no_arrays(arguments, name, sql)
    if result in _NUMBERS:
        kind = numbers(arguments if result == "modulo" else arguments[:1], name, sql)
        return kind if result != "whole" else "double" if kind.startswith("decimal") else "int64"
    if result == "double" and name not in _DOUBLE_OF_ANYTHING:
        numbers(arguments, name, sql)
    if name == "if":
        conditions(arguments[:1], name, sql)
    if result in ("common", "then", "first"):
        shared = common(arguments[1:] if result == "then" else arguments, name, sql)
        return arguments[0] if result == "first" else shared
    return result


def _case_kind(case: exp.Expr, of: _Kinds, sql: str) -> str:
    chosen = [of(branch.this) for branch in case.args["ifs"]]
    if case.this is None:
        conditions(chosen, "when", sql)
    else:
        alike([of(case.this), *chosen], "case", sql)
    default = case.args.get("default")
    results = [of(branch.args["true"]) for branch in case.args["ifs"]]
    return common([*results, of(default) if default is not None else "null"], "case", sql)


def _negative_kind(node: exp.Expr, of: _Kinds, sql: str) -> str:
    return numbers([of(node.this)], "-", sql)


def _quotient_kind(node: exp.Expr, of: _Kinds, sql: str) -> str:
    kind = numbers([of(node.this), of(node.expression)], "division", sql)
    return kind if isinstance(node, exp.Mod) else "int64" if isinstance(node, exp.IntDiv) else "double"


def _product_kind(node: exp.Expr, of: _Kinds, sql: str) -> str:
    left, right = of(node.this), of(node.expression)
    kind = numbers([left, right], "*", sql)
    (digits, scale), (others, after) = digits_of(left), digits_of(right)
    return decimal(digits + others + 1, scale + after) if kind.startswith("decimal") else kind


def _sum_kind(node: exp.Expr, of: _Kinds, sql: str) -> str:
    left, right = of(node.this), of(node.expression)
    if {left, right} & {"date", "timestamp", "interval"}:
        return _moved(node, left, right, sql)
    kind = numbers([left, right], "+" if isinstance(node, exp.Add) else "-", sql)
    digits, scale = digits_of(kind)
    return decimal(digits + 1, scale) if kind.startswith("decimal") else kind


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


def _condition_kind(node: exp.Expr, of: _Kinds, sql: str) -> str:
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


_RULES: dict[type[exp.Expr], Callable[[exp.Expr, _Kinds, str], str]] = {
    exp.Literal: _literal_kind,
    exp.Boolean: lambda _, __, ___: "boolean",
    exp.Null: lambda _, __, ___: "null",
    exp.Interval: lambda _, __, ___: "interval",
    exp.DPipe: _joined_kind,
    exp.Anonymous: _call_kind,
    exp.Case: _case_kind,
    exp.Bracket: _element_kind,
    exp.Neg: _negative_kind,
    exp.Mul: _product_kind,
    **dict.fromkeys((exp.Cast, exp.TryCast), _cast_kind),
    **dict.fromkeys((exp.Add, exp.Sub), _sum_kind),
    **dict.fromkeys(_DIVISIONS, _quotient_kind),
    **dict.fromkeys((exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ, exp.NullSafeNEQ), _condition_kind),
    **dict.fromkeys((exp.Not, exp.And, exp.Or, exp.Is, exp.In, exp.Between, exp.Like, exp.ILike, exp.RegexpLike), _condition_kind),
}
_PLAIN = {*_RULES, exp.Column, exp.Identifier, exp.Paren, exp.Var, exp.DataType, exp.DataTypeParam, exp.If}


# ---------------------------------------------------------------------------------------------------------------------- queries


_OF_QUERIES = {
    *_PLAIN,
    *(exp.Select, exp.From, exp.Where, exp.Join, exp.Group, exp.Having, exp.Order, exp.Ordered, exp.Alias, exp.Table, exp.TableAlias),
    *(exp.With, exp.CTE, exp.Subquery, exp.Exists, exp.Union, exp.Intersect, exp.Except),
    *(exp.Star, exp.Distinct, exp.Filter, exp.Window, exp.WindowSpec),
}
_SQL_TYPES = {"int64": "bigint"}


def query_outputs(sql: str, tables: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
    """The columns that a query gives, in order; refuses what is not one deterministic SELECT over these tables and their columns."""
    tree = _query(sql)
    _refuse_tables(sql, tree, tables)
    if any("date" in kind or "timestamp" in kind for columns in tables.values() for kind in columns.values()):
        _refuse_clock_words(sql, tree)
    _refuse_unknown_columns(sql, tree, tables)
    outputs = tuple(tree.named_selects)
    for name in outputs:
        if not name or name == "*":
            raise DefinitionError(f"{_short(sql)} has an output column without a name; name each, like count(*) AS payments")
        if outputs.count(name) > 1:
            raise DefinitionError(f"{_short(sql)} has the output column {name!r} twice; rename one")
    return outputs


def query_reads(sql: str) -> frozenset[str]:
    """The names of all columns that a query reads, of whichever table."""
    return frozenset(column.name for column in _query(sql).find_all(exp.Column))


def query_sql(sql: str) -> str:
    """A query for Spark in ANSI mode: division by zero is null, columns and tables are quoted."""
    return _in_spark(sql, _query(sql))


def _query(sql: str) -> exp.Query:
    try:
        trees = [tree for tree in _SQL.parse(sql) if tree is not None]
    except SqlglotError as error:
        raise DefinitionError(f"{_short(sql)} is not Spark SQL: {_first_line(error)}") from None
    except RecursionError:
        raise _too_deep(sql) from None
    if len(trees) != 1 or not isinstance(trees[0], exp.Query) or isinstance(trees[0], exp.Subquery):
        raise DefinitionError(f"{_short(sql)} is not one SELECT; write a single query, like SELECT id, amount FROM payments")
    for node in trees[0].walk():
        _refuse_in_query(sql, node)
    return trees[0]


def _refuse_in_query(sql: str, node: exp.Expr) -> None:
    match node:
        case exp.Anonymous():
            _refuse_call_in_query(sql, node)
        case exp.Column():
            _refuse_column(sql, node, frozenset({node.table}))
        case exp.Cast() | exp.TryCast():
            _cast_type(sql, node)
        case exp.Star() if not isinstance(node.parent, exp.Anonymous):
            raise DefinitionError(f"{_short(sql)} has a star, so its columns would follow its sources'; name the columns")
        case exp.Limit() | exp.Offset() | exp.TableSample():
            what = type(node).__name__.upper()
            raise DefinitionError(
                f"{_short(sql)} has a {what}, so which rows it gives is left to chance; write a condition, like rank() <= 3"
            )
    if type(node) not in _OF_QUERIES or (not isinstance(node, exp.In) and _is_odd(node)):
        raise DefinitionError(f"{_short(sql)} has {node.sql(_SQL)!r} ({type(node).__name__}), which queries do not know; leave it out")


def _refuse_call_in_query(sql: str, call: exp.Anonymous) -> None:
    name = _name(call)
    if name in OF_GROUPS:
        return
    if name in OF_MANY_ROWS:
        raise DefinitionError(
            f"{_short(sql)}: {name}() depends on the order of rows that are equal, so its result is not the same every time; "
            "write min, max or rank"
        )
    _refuse_call(sql, call)


def _refuse_tables(sql: str, tree: exp.Query, tables: Mapping[str, Mapping[str, str]]) -> None:
    within = {cte.alias for cte in tree.find_all(exp.CTE)}
    read = set()
    for table in tree.find_all(exp.Table):
        name = table.sql(_SQL) if table.db or not isinstance(table.this, exp.Identifier) else table.name
        read.add(name)
        if name not in tables and name not in within:
            raise DefinitionError(
                f"{_short(sql)} reads {name!r}, which is not among its sources.{closest(name, tables)} They are: {', '.join(tables)}"
            )
    if unread := [name for name in tables if name not in read]:
        raise DefinitionError(f"{_short(sql)} does not read {unread[0]!r}, which is among its sources; remove it there")


def _refuse_unknown_columns(sql: str, tree: exp.Query, tables: Mapping[str, Mapping[str, str]]) -> None:
    from sqlglot.optimizer.qualify import qualify

    schema: dict[str, object] = {
        table: {name: _SQL_TYPES.get(kind, kind) for name, kind in columns.items()} for table, columns in tables.items()
    }
    try:
        qualify(tree.copy(), schema=schema, dialect=_SQL, expand_stars=False, quote_identifiers=False, identify=False)
    except SqlglotError as error:
        known = "; ".join(f"{table} has: {', '.join(sorted(columns))}" for table, columns in tables.items())
        raise DefinitionError(f"{_short(sql)}: {_first_line(error).rstrip('.')}. {known}") from None


def _short(sql: str) -> str:
    line = " ".join(sql.split())
    return f"the query {line if len(line) <= 60 else line[:57] + '...'!r}"
