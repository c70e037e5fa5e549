"""What must be written out in an expression, since Spark stops at the first row for which it is none: patterns, groups, zones, days."""

import re
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlglot import exp

from feature_definitions.language import DefinitionError
from feature_definitions.sql import patterns
from feature_definitions.sql.failing_calls import DAYS_OF_THE_WEEK
from feature_definitions.sql.functions import OF_PATTERNS
from feature_definitions.sql.patterns import Groups, Unsound
from feature_definitions.sql.syntax import SQL, call_name

_OFFSET = re.compile(r"(?:UTC|GMT|UT)?[+-](?:1[0-8]|0?[0-9])(?::?[0-5][0-9])?")
_SHORT = "Z UTC GMT UT ACT AET AGT ART AST BET BST CAT CNT CST CTT EAT ECT IET IST JST MIT NET NST PLT PNT PRT PST SST VST EST MST HST"
"""Names of zones that Java knows beside the places."""


def refuse_constants(node: exp.Expr, shown: str) -> None:
    """Refuse what Spark would stop at in a node of an expression; `shown` is how a sentence names the expression."""
    try:
        match node:
            case exp.RegexpLike():
                patterns.groups(_text(node.expression, shown, "pattern", "'^a'"))
            case exp.Like() | exp.ILike() if _is_text(node.expression):
                patterns.refuse_like(_text(node.expression, shown, "pattern", "'a%'"))
            case exp.Anonymous():
                _of_call(call_name(node), node.expressions, shown)
    except Unsound as problem:
        raise DefinitionError(f"{shown}: {problem}") from None


def _of_call(name: str, arguments: list[exp.Expr], shown: str) -> None:
    match name:
        case "regexp_like":
            patterns.groups(_text(arguments[1], shown, "pattern", "'^a'"))
        case "regexp_extract":
            found = _groups(arguments[1], shown)
            patterns.refuse_number(_number(arguments[2], shown) if len(arguments) > 2 else 1, found)
        case "regexp_replace":
            found = _groups(arguments[1], shown)
            patterns.refuse_replacement(_text(arguments[2], shown, "replacement", "'$1'"), found)
        case _ if name in OF_PATTERNS and len(arguments) > 1:
            patterns.refuse_time_pattern(_text(arguments[1], shown, "pattern", "'yyyy-MM-dd'"), reads=name)
        case "from_utc_timestamp" | "to_utc_timestamp" if _is_text(arguments[1]):
            _refuse_zone(arguments[1].unnest().name)
        case "next_day" if _is_text(arguments[1]):
            if arguments[1].unnest().name.upper() not in DAYS_OF_THE_WEEK:
                raise Unsound(f"{arguments[1].unnest().name!r} is no day of the week; write 'Mon' or 'Monday'")


def _groups(pattern: exp.Expr, shown: str) -> Groups | None:
    return patterns.groups(_text(pattern, shown, "pattern", "'^a'"))


def _is_text(node: exp.Expr) -> bool:
    return isinstance(node.unnest(), exp.Literal)


def _text(node: exp.Expr, shown: str, what: str, like: str) -> str:
    """The text that is written out; refuses one that each row says anew: nobody can ask it before."""
    if not _is_text(node):
        raise DefinitionError(
            f"{shown} takes a {what} from {node.sql(SQL)!r}; a text that is no {what} would stop all rows, so write it as a text, "
            f"like {like}"
        )
    return str(node.unnest().name)


def _number(node: exp.Expr, shown: str) -> int:
    try:
        return int(node.unnest().sql(SQL).replace(" ", ""))
    except ValueError:
        raise DefinitionError(f"{shown} takes the number of a group from {node.sql(SQL)!r}; write the number") from None


def _refuse_zone(name: str) -> None:
    if name in _SHORT.split() or _OFFSET.fullmatch(name):
        return
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Unsound(f"{name!r} is no time zone; write a name like 'Europe/Berlin', or 'UTC'") from None
