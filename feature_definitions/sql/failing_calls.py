"""The functions that raise in Spark's ANSI mode: what is called in their place, and when that fails."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from sqlglot import exp

from feature_definitions.sql.nodes import TypeOf, all_of, all_there, between, call, cast, missing, number, there
from feature_definitions.sql.syntax import call_name

_DAYS = "SU SUN SUNDAY MO MON MONDAY TU TUE TUESDAY WE WED WEDNESDAY TH THU THURSDAY FR FRI FRIDAY SA SAT SATURDAY"
DAYS_OF_THE_WEEK = tuple(_DAYS.split())
"""What Spark takes for a day of the week, in capitals."""
_MONTHS, _YEARS = 60_000_000, 200_000
"""Spark's dates reach a little further than so many months, its timestamps than so many years."""
_LONGEST, _LONGEST_REPEATED = 1_000_000, 10_000_000
"""Texts that are filled up or repeated to more characters than these have no value: a row of them could take all of a worker's memory."""

DATES = {
    **dict.fromkeys(["year", "quarter", "month", "day", "dayofmonth", "dayofweek", "dayofyear", "weekday", "weekofyear"], ("date",)),
    **dict.fromkeys(["last_day", "date_add", "date_sub", "add_months", "next_day", "trunc"], ("date",)),
    **dict.fromkeys(["datediff", "date_diff"], ("date", "date")),
    **dict.fromkeys(["hour", "minute", "second", "date_format", "from_utc_timestamp", "to_utc_timestamp"], ("timestamp",)),
    "months_between": ("timestamp", "timestamp"),
    "date_trunc": ("", "timestamp"),
}
"""Functions of times, each with the types to which Spark casts texts that stand for its arguments."""


class Called(NamedTuple):
    """What stands in the place of a call, and the condition under which it has no value though it should; None if it cannot fail."""

    value: exp.Expr
    fails: exp.Expr | None = None


Rule = Callable[[str, Sequence[exp.Expr], TypeOf], Called]


def safe_call(node: exp.Expr, arguments: Sequence[exp.Expr], type_of: TypeOf) -> Called:
    """A call with arguments that do not raise; `type_of` knows the arguments as they are written in `node`."""
    name = call_name(node)
    rule = RULES.get(name)
    return (
        Called(call(node.name, *arguments))
        if rule is None
        else rule(name, arguments, lambda n: type_of(node.expressions[_at(n, arguments)]))
    )


def _at(node: exp.Expr, arguments: Sequence[exp.Expr]) -> int:
    return next(place for place, each in enumerate(arguments) if each is node)


def _tried(value: exp.Expr, needs: Sequence[exp.Expr]) -> Called:
    """What has no value though all that it needs is there fails."""
    return Called(value, all_of([*all_there(needs), missing(value)]))


def _guarded(condition: exp.Expr | None, value: exp.Expr, needs: Sequence[exp.Expr]) -> Called:
    """What is computed only under a condition, and fails if that does not hold."""
    assert condition is not None
    return Called(
        call("if", condition, value, exp.Null()), all_of([*all_there(needs), exp.Not(this=call("coalesce", condition, exp.false()))])
    )


def _magnitude(name: str, arguments: Sequence[exp.Expr], type_of: TypeOf) -> Called:
    (value,) = arguments
    if type_of(value) != "int64":
        return Called(call(name, value))
    turned = call("try_subtract", number(0), value)
    return _tried(
        turned if name == "negative" else call("if", exp.LT(this=exp.Paren(this=value.copy()), expression=number(0)), turned, value),
        arguments,
    )


def _rounded(name: str, arguments: Sequence[exp.Expr], type_of: TypeOf) -> Called:
    value, places = arguments[0], arguments[1:]
    if not places or not places[0].find(exp.Neg) or type_of(value) != "int64":
        return Called(call(name, *arguments))
    return _tried(cast(call(name, cast(value, "decimal(20,0)"), *places), "bigint"), [value])


def _read(name: str, arguments: Sequence[exp.Expr], type_of: TypeOf) -> Called:
    """A time that is read from a text."""
    if type_of(arguments[0]) != "string":
        return Called(call(name, *arguments))
    return _tried(call(f"try_{name}", *arguments), arguments)


def _in_months(name: str, arguments: Sequence[exp.Expr], _: TypeOf) -> Called:
    months = arguments[1]
    if isinstance(months, exp.Literal) and int(months.name) <= _MONTHS:
        return Called(call(name, *arguments))
    return _guarded(between(months, -_MONTHS, _MONTHS), call(name, *arguments), arguments)


def _next_day(name: str, arguments: Sequence[exp.Expr], _: TypeOf) -> Called:
    day = arguments[1]
    if isinstance(day, exp.Literal):
        return Called(call(name, *arguments))
    known = [exp.Literal.string(each) for each in DAYS_OF_THE_WEEK]
    return _guarded(exp.In(this=call("upper", day), expressions=known), call(name, *arguments), arguments)


def _made_date(_: str, arguments: Sequence[exp.Expr], __: TypeOf) -> Called:
    midnight = call("try_make_timestamp", *arguments, number(0), number(0), number(0))
    made = call("if", between(arguments[0], -_YEARS, _YEARS), cast(midnight, "date"), exp.Null())
    return _tried(made, arguments)


def _since_1970(name: str, arguments: Sequence[exp.Expr], type_of: TypeOf) -> Called:
    value, data_type = arguments[0], type_of(arguments[0])
    most = (2**63 - 1) // (10**6 if name == "timestamp_seconds" else 10**3)
    if data_type.startswith("decimal"):
        exact = exp.EQ(this=call("round", value, number(6)), expression=exp.Paren(this=value.copy()))
        return _guarded(all_of([between(value, -most, most), exact]), call(name, value), arguments)
    return Called(call(name, value)) if data_type != "int64" else _guarded(between(value, -most, most), call(name, value), arguments)


def _split(name: str, arguments: Sequence[exp.Expr], _: TypeOf) -> Called:
    text, delimiter, part = arguments
    if isinstance(part.unnest(), exp.Literal | exp.Neg):
        return Called(call(name, *arguments))
    return _tried(call(name, text, delimiter, call("nullif", part, number(0))), arguments)


def _filled(name: str, arguments: Sequence[exp.Expr], _: TypeOf) -> Called:
    """A text of so many characters; with very many it would take all memory."""
    text, length = arguments[0], arguments[1]
    if isinstance(length, exp.Literal) and int(length.name) <= _LONGEST // 10:
        return Called(call(name, *arguments))
    short: exp.Expr | None = between(length, -(2**31), _LONGEST)
    if name == "repeat":
        characters = call("try_multiply", cast(call("length", text), "bigint"), length)
        short = all_of([short, exp.LTE(this=characters, expression=number(_LONGEST_REPEATED))])
    return _guarded(short, call(name, *arguments), arguments)


def _in_zone(name: str, arguments: Sequence[exp.Expr], _: TypeOf) -> Called:
    zone = arguments[1]
    if isinstance(zone, exp.Literal):
        return Called(call(name, *arguments))
    begins = call("regexp_like", zone, exp.Literal.string("^[A-Za-z+-](.*[^ ])?$"))
    read = cast(call("concat", exp.Literal.string("2000-01-01 00:00:00 "), zone), "timestamp")
    return _guarded(all_of([begins, there(read)]), call(name, *arguments), arguments)


RULES: Mapping[str, Rule] = {
    **dict.fromkeys(("abs", "negative"), _magnitude),
    **dict.fromkeys(("round", "bround"), _rounded),
    **dict.fromkeys(("to_date", "to_timestamp"), _read),
    **dict.fromkeys(("timestamp_seconds", "timestamp_millis"), _since_1970),
    **dict.fromkeys(("repeat", "lpad", "rpad"), _filled),
    **dict.fromkeys(("from_utc_timestamp", "to_utc_timestamp"), _in_zone),
    "add_months": _in_months,
    "next_day": _next_day,
    "make_date": _made_date,
    "split_part": _split,
}
"""The functions that raise for some values, each with what is called in its place."""
