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

from feature_definitions.model import DefinitionError, Derived, Feature, FeatureGroup, WindowedGroup


class _Parser(SparkParser):
    """Reads every call as it was written, so that no function is renamed or rewritten on the way to Spark."""

    FUNCTIONS: ClassVar[Any] = {}
    FUNCTION_PARSERS: ClassVar[Any] = {name: SparkParser.FUNCTION_PARSERS[name] for name in ("CAST", "TRY_CAST")}
    NO_PAREN_FUNCTIONS: ClassVar[Any] = {}
    NO_PAREN_FUNCTION_PARSERS: ClassVar[Any] = {"CASE": SparkParser.NO_PAREN_FUNCTION_PARSERS["CASE"]}


class _Dialect(Spark):
    Parser = _Parser


_SQL = _Dialect()

# What a function gives: a type; or "number", "first": that of its first argument; "whole": a whole number; "common": the one that all
# arguments share; "then": the one that all but the first share; "modulo": that of a remainder. Then the fewest and the most arguments.
_MANY = 99
_FUNCTIONS: dict[str, tuple[str, int, int]] = {
    name: (result, least, most)
    for result, least, most, names in (
        ("number", 1, 1, "abs negative positive"),
        ("number", 1, 2, "round bround"),
        ("whole", 1, 1, "floor ceil ceiling"),
        ("modulo", 2, 2, "mod pmod"),
        ("double", 1, 1, "sqrt cbrt exp expm1 ln log1p log2 log10 sign signum"),
        ("double", 1, 1, "sin cos tan asin acos atan degrees radians double float"),
        ("double", 1, 2, "log"),
        ("double", 2, 2, "pow power atan2 hypot try_divide nanvl months_between"),
        ("common", 1, _MANY, "coalesce"),
        ("common", 2, _MANY, "greatest least"),
        ("common", 2, 2, "nvl ifnull"),
        ("then", 3, 3, "if nvl2"),
        ("first", 2, 2, "nullif"),
        ("boolean", 1, 1, "isnull isnotnull isnan boolean"),
        ("boolean", 2, 2, "startswith endswith contains regexp_like"),
        ("string", 1, 1, "upper lower ucase lcase initcap trim ltrim rtrim reverse md5 sha1 string"),
        ("string", 2, 2, "left right repeat sha2 date_format"),
        ("string", 2, 3, "substring substr replace regexp_extract lpad rpad"),
        ("string", 3, 3, "regexp_replace translate split_part substring_index"),
        ("string", 1, _MANY, "concat"),
        ("string", 2, _MANY, "concat_ws"),
        ("int64", 1, 1, "length char_length character_length ascii crc32 bigint int"),
        ("int64", 1, 1, "year quarter month day dayofmonth dayofweek dayofyear weekday weekofyear hour minute second"),
        ("int64", 1, 1, "unix_date unix_seconds unix_millis unix_micros"),
        ("int64", 2, 2, "instr levenshtein datediff date_diff"),
        ("int64", 2, 3, "locate position"),
        ("int64", 1, _MANY, "hash xxhash64"),
        ("date", 1, 1, "date last_day date_from_unix_date"),
        ("date", 1, 2, "to_date"),
        ("date", 2, 2, "date_add date_sub add_months next_day trunc"),
        ("date", 3, 3, "make_date"),
        ("timestamp", 1, 1, "timestamp timestamp_seconds timestamp_millis timestamp_micros"),
        ("timestamp", 1, 2, "to_timestamp"),
        ("timestamp", 2, 2, "date_trunc from_utc_timestamp to_utc_timestamp"),
    )
    for name in names.split()
}


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_OF_TIME = _names(
    "year quarter month day dayofmonth dayofweek dayofyear weekday weekofyear hour minute second unix_date unix_seconds unix_millis "
    "unix_micros datediff date_diff date_format months_between"
)
_OF_MANY_ROWS = _names(
    "sum avg mean count min max stddev stddev_samp stddev_pop std variance var_samp var_pop first last first_value last_value any_value "
    "any some every bool_and bool_or count_if collect_list collect_set approx_count_distinct percentile percentile_approx median mode "
    "max_by min_by corr covar_samp covar_pop skewness kurtosis array_agg "
    "lag lead row_number rank dense_rank percent_rank cume_dist ntile nth_value"
)
_CLOCK = _names("now current_date current_timestamp current_time curdate curtime localtimestamp localtime getdate sysdate")
_BY_THE_CLOCK = "reads the clock, so a value would depend on when it is computed; use the row's own times"
_CLOCK_WORD = re.compile(r"\s*(now|today|yesterday|tomorrow)\b.*", re.IGNORECASE | re.DOTALL)

_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
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
_SHORTER_THAN_A_DAY = _names("HOUR HOURS MINUTE MINUTES SECOND SECONDS MILLISECOND MILLISECONDS MICROSECOND MICROSECONDS")


def columns_in(sql: str) -> frozenset[str]:
    """The columns that an expression reads; refuses what is not one deterministic scalar expression."""
    return frozenset(column.name for column in _parse(sql).find_all(exp.Column))


def spark_sql(sql: str) -> str:
    """The expression for Spark in ANSI mode: division by zero is null, columns are quoted."""
    tree = _parse(sql)
    for node in list(tree.find_all(*_DIVISIONS, exp.Anonymous)):
        if not isinstance(node, exp.Anonymous):
            node.set("expression", _null_if_zero(node.expression))
        elif _FUNCTIONS[_name(node)][0] == "modulo":
            node.set("expressions", [node.expressions[0], _null_if_zero(node.expressions[1])])
    try:
        return tree.sql(_SQL, identify=True, comments=False, normalize_functions=False, unsupported_level=ErrorLevel.RAISE)
    except RecursionError:
        raise _too_deep(sql) from None


def type_of(sql: str, columns: Mapping[str, str]) -> str:
    """The type that an expression gives, when cast to the nearest of Headwater's; refuses operands that do not go together.

    A number with a point, a division, and decimals of more than 38 digits are double here, also where Spark computes a decimal.
    """
    tree = _parse(sql)
    read = {column.name for column in tree.find_all(exp.Column)}
    for name in sorted(read - set(columns)):
        known = ", ".join(sorted(columns))
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


def output_types(group: FeatureGroup) -> dict[str, str]:
    """The type of each output column of a group, in order."""
    declared = group.source.columns
    if not isinstance(group, WindowedGroup):
        return {name: declared[name] for name in group.columns}
    types: dict[str, str] = {}
    for feature in group.features:
        match feature:
            case Feature():
                types |= dict.fromkeys(feature.columns, feature_type(feature, declared))
            case Derived():
                types[feature.name] = type_of(feature.expression, types)
    return types


def feature_type(feature: Feature, columns: Mapping[str, str]) -> str:
    """The type of a feature's columns, from those of its source."""
    if feature.of is None or feature.aggregation in ("count", "count_distinct"):
        return "int64"
    if feature.aggregation in ("mean", "stddev"):
        return "double"
    kind = type_of(feature.of, columns)
    if feature.aggregation == "sum" and kind.startswith("decimal"):
        digits, scale = _digits(kind)
        return _decimal(min(38, digits + 10), scale)
    return kind


def closest(name: str, known: Iterable[str]) -> str:
    """A sentence to add about a name that is not known: ` Did you mean 'amount'?`, or nothing."""
    names = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(names[n]) for n in near)}?" if near else ""


def is_number(kind: str) -> bool:
    """Whether a type is one of numbers."""
    return kind in ("int64", "double") or kind.startswith("decimal")


# ---------------------------------------------------------------------------------------------------------------------- parsing


def _parse(sql: str) -> exp.Expr:
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
        _refuse(sql, node)
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


def _refuse(sql: str, node: exp.Expr) -> None:
    match node:
        case exp.Anonymous():
            _refuse_call(sql, node)
        case exp.Column():
            _refuse_column(sql, node)
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
        case exp.Interval():
            return not isinstance(node.this, exp.Literal)
        case exp.Cast() | exp.TryCast():
            return node.args.get("format") is not None
    return False


def _refuse_call(sql: str, call: exp.Anonymous) -> None:
    name, count = _name(call), len(call.expressions)
    if name in _OF_MANY_ROWS:
        raise DefinitionError(
            f"{sql!r}: {name}() is of many rows and an expression of one; write it as the feature's aggregation and windows"
        )
    if name in _CLOCK:
        raise DefinitionError(f"{sql!r}: {name}() {_BY_THE_CLOCK}")
    if name not in _FUNCTIONS:
        near = closest(name, _FUNCTIONS)
        raise DefinitionError(f"{sql!r}: {name}() is not among the functions that are known to give the same result every time.{near}")
    _, least, most = _FUNCTIONS[name]
    if not least <= count <= most:
        wanted = f"{least}" if least == most else f"{least} or more" if most == _MANY else f"{least} to {most}"
        raise DefinitionError(f"{sql!r} calls {name}() with {count} arguments; it takes {wanted}")


def _refuse_column(sql: str, column: exp.Column) -> None:
    if column.table:
        raise DefinitionError(f"{sql!r} reads {column.sql(_SQL)!r}; write the column's name alone")
    if column.name.lower() in _CLOCK and not column.this.quoted:
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
            return name in _OF_TIME or _FUNCTIONS[name][0] in ("date", "timestamp")
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
    return columns[node.name] if isinstance(node, exp.Column) else _RULES[type(node)](node, of, sql)


def _literal_kind(node: exp.Expr, _: _Kinds, __: str) -> str:
    return "string" if node.is_string else "int64" if node.is_int else "double"


def _joined_kind(node: exp.Expr, of: _Kinds, _: str) -> str:
    of(node.this), of(node.expression)
    return "string"


def _cast_kind(node: exp.Expr, of: _Kinds, sql: str) -> str:
    of(node.this)
    return _cast_type(sql, node)


def _call_kind(call: exp.Expr, of: _Kinds, sql: str) -> str:
    name, arguments = _name(call), [of(argument) for argument in call.expressions]
    result = _FUNCTIONS[name][0]
    if result in _NUMBERS:
        number = _number(arguments if result == "modulo" else arguments[:1], name, sql)
        return number if result != "whole" else "double" if number.startswith("decimal") else "int64"
    if result == "double" and name not in _DOUBLE_OF_ANYTHING:
        _number(arguments, name, sql)
    if name == "if":
        _boolean(arguments[:1], name, sql)
    if result in ("common", "then", "first"):
        common = _common(arguments[1:] if result == "then" else arguments, name, sql)
        return arguments[0] if result == "first" else common
    return result


def _case_kind(case: exp.Expr, of: _Kinds, sql: str) -> str:
    conditions = [of(branch.this) for branch in case.args["ifs"]]
    if case.this is None:
        _boolean(conditions, "when", sql)
    else:
        _alike([of(case.this), *conditions], "case", sql)
    default = case.args.get("default")
    results = [of(branch.args["true"]) for branch in case.args["ifs"]]
    return _common([*results, of(default) if default is not None else "null"], "case", sql)


def _negative_kind(node: exp.Expr, of: _Kinds, sql: str) -> str:
    return _number([of(node.this)], "-", sql)


def _quotient_kind(node: exp.Expr, of: _Kinds, sql: str) -> str:
    kind = _number([of(node.this), of(node.expression)], "division", sql)
    return kind if isinstance(node, exp.Mod) else "int64" if isinstance(node, exp.IntDiv) else "double"


def _product_kind(node: exp.Expr, of: _Kinds, sql: str) -> str:
    left, right = of(node.this), of(node.expression)
    kind = _number([left, right], "*", sql)
    (digits, scale), (others, after) = _digits(left), _digits(right)
    return _decimal(digits + others + 1, scale + after) if kind.startswith("decimal") else kind


def _sum_kind(node: exp.Expr, of: _Kinds, sql: str) -> str:
    left, right = of(node.this), of(node.expression)
    if {left, right} & {"date", "timestamp", "interval"}:
        return _moved(node, left, right, sql)
    kind = _number([left, right], "+" if isinstance(node, exp.Add) else "-", sql)
    digits, scale = _digits(kind)
    return _decimal(digits + 1, scale) if kind.startswith("decimal") else kind


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
    pair = f"{_articled(left)} and {_articled(right)}"
    raise DefinitionError(f"{sql!r} adds or subtracts {pair}; move a time by an interval, like + interval 1 day")


def _in_a_day(interval: exp.Expr) -> bool:
    unit = interval.args.get("unit")
    return unit is not None and unit.name.upper() in _SHORTER_THAN_A_DAY


def _condition_kind(node: exp.Expr, of: _Kinds, sql: str) -> str:
    match node:
        case exp.Not():
            _boolean([of(node.this)], "not", sql)
        case exp.And() | exp.Or():
            _boolean([of(node.this), of(node.expression)], type(node).__name__.lower(), sql)
        case exp.Is():
            if not isinstance(node.expression, exp.Null):
                _boolean([of(node.this), of(node.expression)], "is", sql)
            of(node.this)
        case exp.In():
            _alike([of(node.this), *(of(value) for value in node.expressions)], "in", sql)
        case exp.Between():
            _alike([of(node.this), of(node.args["low"]), of(node.args["high"])], "between", sql)
        case exp.Like() | exp.ILike() | exp.RegexpLike():
            _texts([of(node.this), of(node.expression)], sql)
        case _:
            _alike([of(node.this), of(node.expression)], "compared", sql)
    return "boolean"


def _number(kinds: Sequence[str], what: str, sql: str) -> str:
    for kind in kinds:
        if kind != "null" and not is_number(kind):
            raise DefinitionError(f"{sql!r}: {what} needs numbers, not {_articled(kind)}; cast it, like cast(x as double)")
    return _common(kinds, what, sql)


def _boolean(kinds: Sequence[str], what: str, sql: str) -> None:
    for kind in kinds:
        if kind not in ("boolean", "null"):
            raise DefinitionError(f"{sql!r}: {what} needs conditions, not {_articled(kind)}; write a comparison, like x > 0")


def _texts(kinds: Sequence[str], sql: str) -> None:
    for kind in kinds:
        if kind not in ("string", "null"):
            raise DefinitionError(f"{sql!r}: like and rlike need strings, not {_articled(kind)}; cast it, like cast(x as string)")


def _alike(kinds: Sequence[str], what: str, sql: str) -> None:
    """Refuse to compare what Spark would cast silently, or not at all; a text may stand for a date or a timestamp."""
    families = {_family(kind) for kind in kinds} - {"null"}
    if len(families) > 1 and families != {"string", "time"}:
        mixed = " and ".join(_articled(kind) for kind in dict.fromkeys(kinds) if kind != "null")
        raise DefinitionError(f"{sql!r}: {mixed} are {what if what == 'compared' else f'mixed in {what}'}; cast one of them")


def _common(kinds: Sequence[str], what: str, sql: str) -> str:
    known = list(dict.fromkeys(kind for kind in kinds if kind != "null"))
    if not known:
        return "null"
    if len(known) == 1:
        return known[0]
    families = {_family(kind) for kind in known}
    if families == {"number"}:
        return _widest(known)
    if families == {"time"}:
        return "timestamp"
    raise DefinitionError(f"{sql!r}: {what} mixes {' and '.join(_articled(kind) for kind in known)}; cast one of them")


def _widest(kinds: Sequence[str]) -> str:
    if "double" in kinds:
        return "double"
    digits = [_digits(kind) for kind in kinds]
    scale = max(after for _, after in digits)
    return _decimal(max(all_digits - after for all_digits, after in digits) + scale, scale)


def _digits(kind: str) -> tuple[int, int]:
    """The digits in all and after the point; an int64 has 20, as in Spark."""
    match = _DECIMAL.fullmatch(kind)
    return (int(match[1]), int(match[2])) if match else (20, 0)


def _decimal(digits: int, scale: int) -> str:
    return f"decimal({digits},{scale})" if digits <= 38 else "double"


def _family(kind: str) -> str:
    return "number" if is_number(kind) else "time" if kind in ("date", "timestamp") else kind


def _articled(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


_RULES: dict[type[exp.Expr], Callable[[exp.Expr, _Kinds, str], str]] = {
    exp.Literal: _literal_kind,
    exp.Boolean: lambda _, __, ___: "boolean",
    exp.Null: lambda _, __, ___: "null",
    exp.Interval: lambda _, __, ___: "interval",
    exp.DPipe: _joined_kind,
    exp.Anonymous: _call_kind,
    exp.Case: _case_kind,
    exp.Neg: _negative_kind,
    exp.Mul: _product_kind,
    **dict.fromkeys((exp.Cast, exp.TryCast), _cast_kind),
    **dict.fromkeys((exp.Add, exp.Sub), _sum_kind),
    **dict.fromkeys(_DIVISIONS, _quotient_kind),
    **dict.fromkeys((exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ, exp.NullSafeNEQ), _condition_kind),
    **dict.fromkeys((exp.Not, exp.And, exp.Or, exp.Is, exp.In, exp.Between, exp.Like, exp.ILike, exp.RegexpLike), _condition_kind),
}
_PLAIN = {*_RULES, exp.Column, exp.Identifier, exp.Paren, exp.Var, exp.DataType, exp.DataTypeParam, exp.If}
