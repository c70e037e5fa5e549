"""What the texts of a column look like: its type, how its times are written, which of its words mean null. Pure; a person confirms it."""

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, cast

from feature_definitions import times
from feature_definitions.language import Column
from spark_jobs.ingest import cells

if TYPE_CHECKING:
    from feature_definitions.language.columns import Epoch

NULLS = ("NULL", "null", "NA", "N/A", "n/a", "None", "none", "nan", "NaN", "\\N", "-", "?", "NaT", "0000-00-00", "0000-00-00 00:00:00")
"""Words that mean null where they stand among values of another type."""

_OF_DATABASES = "\\N"
"""What databases write for null, among texts too: nobody means it otherwise."""

_NAMED_LIKE_A_TIME = re.compile(r"(^|_| )(time|timestamp|ts|date|datum|day|at|on|when|since|until|created|updated|epoch)($|_| |ms$|s$)")
_TRUTHS = ({"true", "false"}, {"yes", "no"}, {"t", "f"}, {"y", "n"})
_POINT = r"[+-]?[0-9]{{1,3}}(({0})[0-9]{{3}})*(\.[0-9]+)?|[+-]?[0-9]+(\.[0-9]+)?"
_COMMA = r"[+-]?[0-9]{{1,3}}(({0})[0-9]{{3}})*(,[0-9]+)?|[+-]?[0-9]+(,[0-9]+)?"
_BLANKS = " \u00a0\u202f"
_WRITTEN = {
    (decimal, sign): re.compile(how.format(re.escape(sign) if sign != " " else f"[{_BLANKS}]"))
    for decimal, how, signs in ((",", _COMMA, (".", " ", "'")), (".", _POINT, (",", " ", "'", "\u2019")))
    for sign in signs
}
"""Numbers by what stands before their fractions, and what parts groups of digits. A blank stands for those that do not break, too."""


_ODD = 0.1
"""A column of numbers may have so large a share of values that are none."""


class Guess(NamedTuple):
    """What a column looks like: how it lies in the data, and what of that is not sure.

    `nulls` are words of it that mean null; `decimal` and `thousands` are how its numbers are written, if not as in `1234.5`. `zoneless`
    says that it has times without a zone, `unique` that no two rows share a value, `filled` that no row lacks one.
    """

    column: Column
    doubts: tuple[str, ...] = ()
    nulls: tuple[str, ...] = ()
    decimal: str = "."
    thousands: str | None = None
    zoneless: bool = False
    unique: bool = False
    filled: bool = False


def of_texts(name: str, texts: Sequence[str | None]) -> Guess:
    """The guess that fits every text of a column of this name; null is None or empty."""
    given = [text for text in texts if text is not None and text != ""]
    nulls = tuple(word for word in NULLS if word in given)
    values = [text for text in given if text not in nulls]
    found = _of_values(name, list(dict.fromkeys(text.strip() for text in values))) if values else _nothing(given)
    if found.column.data_type == "string":
        nulls = tuple(word for word in nulls if word == _OF_DATABASES)
        values = [text for text in given if text not in nulls]
    filled = len(values) == len(texts)
    return found._replace(nulls=nulls, filled=filled, unique=filled and len(texts) > 1 and len(set(values)) == len(values))


def _nothing(given: Sequence[str]) -> Guess:
    return Guess(Column("string"), ("it holds nothing but words for null",) if given else ("it holds no value",))


def _of_values(name: str, values: Sequence[str]) -> Guess:
    kinds: Iterable[Callable[[], Guess | None]] = (
        partial(_truth, values),
        partial(_counts, name, values),
        partial(_digits, name, values),
        partial(_number, values),
        partial(_iso, values),
        partial(_formatted, values),
        partial(_mostly_numbers, name, values),
    )
    found = (kind() for kind in kinds)
    return next((guess for guess in found if guess is not None), Guess(Column("string")))


def _truth(values: Sequence[str]) -> Guess | None:
    words = {value.lower() for value in islice(values, 9)}
    return Guess(Column("boolean")) if len(values) <= 8 and any(words <= truth for truth in _TRUTHS) else None


def _counts(name: str, values: Sequence[str]) -> Guess | None:
    """Numbers that count time since 1970, if the column is called so."""
    units = {times.plausible_unit(value) for value in values}
    if not _NAMED_LIKE_A_TIME.search(name.lower()) or len(units) != 1 or (unit := units.pop()) is None:
        return None
    how = Column("timestamp", epoch=cast("Epoch", unit))
    return Guess(how, (f"its digits look like times counted since 1970 in {unit}",)) if _all_fit(values, how) else None


def _digits(name: str, values: Sequence[str]) -> Guess | None:
    """Whole numbers; digits that are no number are text, and those that look like dates are dates, if the column is called so."""
    if not all(re.fullmatch(r"[+-]?[0-9]+", value, re.ASCII) for value in values):
        return None
    if any(re.match(r"[+-]?0[0-9]", value) for value in values):
        return Guess(Column("string"), ("its digits begin with 0, so they are no number",))
    if any(int(value) not in cells.INT64 for value in values):
        return Guess(Column("string"), ("its digits are beyond int64",))
    if _NAMED_LIKE_A_TIME.search(name.lower()) and _all_fit(values, Column("date", format="%Y%m%d")):
        return Guess(Column("date", format="%Y%m%d"), ("its digits look like dates",))
    return Guess(Column("int64"))


def _number(values: Sequence[str]) -> Guess | None:
    """Fractions, with a point or a comma before the digits that are no whole."""
    if all(re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", value, re.ASCII) for value in values):
        return Guess(Column("double"))
    for (decimal, sign), how in _WRITTEN.items():
        if all(how.fullmatch(value) for value in values):
            parted = any(c in value for value in values for c in (_BLANKS if sign == " " else sign))
            doubt = decimal == "," and not parted and all(re.fullmatch(r"[+-]?[0-9]{1,3},[0-9]{3}", value) for value in values)
            doubts = ("a comma before three digits may part thousands",) if doubt else ()
            return Guess(Column("double"), doubts, decimal=decimal, thousands=sign if parted else None)
    return None


def _mostly_numbers(name: str, values: Sequence[str]) -> Guess | None:
    """Text, if nearly all of it are numbers of one spelling: such a column is one of numbers with a few bad values."""
    odd = [value for value in values if _number([value]) is None]
    rest = [value for value in values if value not in odd]
    found = (_digits(name, rest) or _number(rest)) if 0 < len(odd) <= len(values) * _ODD else None
    if found is None or found.column.data_type not in ("int64", "double"):
        return None
    doubt = f'all but {", ".join(map(repr, odd[:3]))} look like numbers: as "{found.column.data_type}" only such rows are put aside'
    return found._replace(column=Column("string"), doubts=(*found.doubts, doubt))


def _iso(values: Sequence[str]) -> Guess | None:
    if _all_fit(values, Column("date")):
        return Guess(Column("date"))
    return _time(values, Column("timestamp"))


def _formatted(values: Sequence[str]) -> Guess | None:
    """Dates or times by a format that fits all of them; where day and month may be either, it is said."""
    for kind in ("date", "timestamp"):
        fitting = [each for each in dict.fromkeys(times.formats(values[0], kind)) if _all_fit(values, Column(kind, format=each))]
        if fitting:
            found = _time(values, Column(kind, format=fitting[0])) or Guess(Column(kind, format=fitting[0]))
            return (
                found if len(fitting) == 1 else found._replace(doubts=(f"it may as well be written as {fitting[1]}: day or month first?",))
            )
    return None


def _time(values: Sequence[str], how: Column) -> Guess | None:
    """A column of times, and whether any has no zone."""
    if how.data_type != "timestamp" or not _all_fit(values, how):
        return None
    return Guess(how, zoneless=not _all_fit(values, how, timezone=None))


def _all_fit(values: Sequence[str], how: Column, *, timezone: str | None = "UTC") -> bool:
    """Whether each text is a value of the column."""
    convert = cells.of_text(how.data_type, timezone, how=how)
    with suppress(ValueError):
        for value in values:
            convert(value)
        return True
    return False
