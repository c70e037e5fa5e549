# mypy: disable-error-code=redundant-expr
# What users write is checked when it runs: a definition may hold anything, whatever its types say.
"""What every definition keeps to: names, types, durations; and the errors that say what to write instead."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType

from feature_definitions.errors import UserError
from feature_definitions.intervals import duration

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,126}")
_SCALAR = r"string|int64|double|boolean|date|timestamp|decimal\((\d{1,2}),(\d{1,2})\)"
TYPE = re.compile(rf"(?:{_SCALAR})|array<(?:{_SCALAR})>")
RESERVED = ("event_timestamp", "created_timestamp", "publish_id", "empties_at", "held", "date", "retracted", "replaced_by")
"""Columns that every feature table has, or its history; no key or feature may take their name."""


class DefinitionError(UserError):
    """A definition that cannot mean anything: the message says what is wrong and what to write instead.

    `feature` names the feature of a group that is at fault, if it is one.
    """

    feature: str | None = None


class DefinitionErrors(DefinitionError):
    """Several things that are wrong with one definition."""

    def __init__(self, errors: Sequence[DefinitionError]) -> None:
        """Keep each of them."""
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = tuple(errors)


def check_name(what: str, name: object) -> None:
    """Refuse what is not a plain name: small letters, digits and single underscores."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise DefinitionError(f"{name!r} cannot name a {what}; write small letters, digits and _, starting with a letter, 63 at most")
    if "__" in name:
        raise DefinitionError(f"{name!r} cannot name a {what}: two underscores part a group from its feature; write one")


def check_columns(where: str, columns: Mapping[str, str]) -> None:
    """Refuse columns without a usable name or type, and two that differ in capital letters only."""
    if not isinstance(columns, Mapping) or not columns:
        raise DefinitionError(f"{where} names no columns; write them with their types, like {{'customer_id': 'int64'}}")
    for name, data_type in columns.items():
        if not isinstance(name, str) or not COLUMN.fullmatch(name):
            raise DefinitionError(f"{where}: {name!r} cannot name a column; write letters, digits and _")
        if name.startswith("_hw_"):
            raise DefinitionError(f"{where}: {name!r} starts with _hw_, which is kept for Headwater's own columns")
        check_type(where, name, data_type)
    check_unique(where, [name.lower() for name in columns], "column", "Spark does not tell capital from small letters; rename one")


def check_type(where: str, name: str, data_type: object) -> None:
    """Refuse a type that columns cannot have."""
    match = TYPE.fullmatch(data_type.replace(" ", "")) if isinstance(data_type, str) else None
    if match is None:
        raise DefinitionError(
            f"{where}: column {name!r} has the type {data_type!r}; the types are string, int64, double, boolean, decimal(p,s), "
            "date, timestamp, and array<type> of one of them"
        )
    digits, scale = match[1] or match[3], match[2] or match[4]
    if digits and not 1 <= int(digits) <= 38:
        raise DefinitionError(f"{where}: column {name!r} is a {data_type}; a decimal has 1 to 38 digits")
    if digits and int(scale) > int(digits):
        raise DefinitionError(f"{where}: column {name!r} is a {data_type}; it cannot have more digits after the point than in all")


def check_sql(where: str, expressions: Mapping[str, object]) -> None:
    """Refuse SQL that is given but is no text, or an empty one; what it says is checked by `feature_definitions.check`."""
    for what, sql in expressions.items():
        if sql is not None and (not isinstance(sql, str) or not sql.strip()):
            raise DefinitionError(f"{where}: {what} is {sql!r}; write a column or a Spark SQL expression, like {what}='amount > 0'")


def check_known(where: str, name: str, columns: Mapping[str, object], *, what: str, owner: str = "") -> None:
    """Refuse a name that is not among those of its owner, and list them."""
    if name not in columns:
        held = f"{owner or where} has: {', '.join(sorted(columns))}"
        near = closest(name, columns)
        raise DefinitionError(f"{where}: there is no {what} {name!r}. {held}{near and f'.{near}'}")


def closest(name: str, known: Iterable[str]) -> str:
    """A sentence to add about a name that is not known: ` Did you mean 'amount'?`, or nothing."""
    names = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(names[n]) for n in near)}?" if near else ""


def check_unique(where: str, names: list[str], what: str, advice: str) -> None:
    """Refuse a list in which a name stands twice."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DefinitionError(f"{where} has the {what} {twice[0]!r} twice; {advice}")


def check_span(where: str, what: str, text: str) -> timedelta:
    """The span that a duration names; refuses a text that names none."""
    try:
        return duration(text)
    except ValueError as error:
        raise DefinitionError(f"{where}, {what}: {error}") from None


def typed(columns: Mapping[str, str]) -> Mapping[str, str]:
    """Columns with their types, frozen, and the types without spaces."""
    return MappingProxyType({name: data_type.replace(" ", "") for name, data_type in columns.items()})


def texts(values: object) -> tuple[str, ...]:
    """One text, or several, as a tuple."""
    return (values,) if isinstance(values, str) else tuple(listed(values))


def listed(values: object) -> tuple:  # type: ignore[type-arg]  # any kind of definition
    """One value, or several, as a tuple."""
    return tuple(values) if isinstance(values, tuple | list) else (values,)
