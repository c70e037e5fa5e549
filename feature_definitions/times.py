"""How times are written: in ISO 8601, by a stated format, or as a count since 1970; and the instants and dates that they mean.

A `Spelling` uses only what the regular expressions of Python and of Java share, so that Spark reads a text as Python does.
"""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import ROUND_HALF_UP, Decimal, localcontext
from functools import cache
from typing import NamedTuple

from feature_definitions.intervals import EPOCH, MICROSECOND, in_utc, micros

UNITS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
"""The units of a count since 1970-01-01T00:00:00Z, each with its nanoseconds."""

FIRST, LAST = (micros(at.replace(tzinfo=UTC)) for at in (datetime.min, datetime.max))  # noqa: DTZ901  # made aware
"""The first and the last instant that a time may mean, in microseconds since 1970."""

COUNT = r"[ \t\r\n]*([+-]?(?:[0-9](?:\.[0-9]{1,17})?[eE]\+?[0-9]{1,2}|[0-9]{1,24}(?:\.[0-9]{1,9})?))[ \t\r\n]*"
"""How a count since 1970 is written: as a number, also as Java and Python write large doubles (`1.7675928E12`)."""

NO_YEAR = "is not between the years 1 and 9999"
BEYOND = f"{NO_YEAR} in UTC"

_ZONE = r"[Zz]|[Uu][Tt][Cc]|[Gg][Mm][Tt]|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9](?::?[0-5][0-9])?)?"
MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december")
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_BLANK = r"[ \t\r\n]*"


class Spelling(NamedTuple):
    """A way to write times: a regular expression for the whole text, what each of its groups is, and what is said of a text that is none.

    The parts are named by `strptime`'s letters. A part may stand in several groups, of which one matches.
    """

    regex: str
    parts: tuple[str, ...]
    otherwise: str


# ---------------------------------------------------------------------------------------------------------------------- spellings


def _iso_time() -> Spelling:
    hours = r"([0-9]{2})(?::?([0-9]{2})(?::?([0-9]{2})(?:[.,]([0-9]+))?)?)?"
    time = rf"{hours}(?:[ \t]*({_ZONE})(?:\[[^\]]*\])?)?"
    apart = rf"([0-9]{{4}})-([0-9]{{2}})-([0-9]{{2}})(?:(?:[Tt]|[ \t]+){time})?"
    together = rf"([0-9]{{4}})([0-9]{{2}})([0-9]{{2}})[Tt]{time}"
    return Spelling(f"{_BLANK}(?:{apart}|{together}){_BLANK}", (*"YmdHMSfz", *"YmdHMSfz"), "is not a time like 2026-01-05T06:00:00Z")


ISO_TIME = _iso_time()
"""ISO 8601, a blank in place of T too, also as databases write it (`2026-01-05 06:00:00 UTC`); never digits alone."""

ISO_DATE = Spelling(rf"{_BLANK}([0-9]{{4}})-([0-9]{{2}})-([0-9]{{2}}){_BLANK}", (*"Ymd",), "is not a date like 2026-01-05")


def _names(names: tuple[str, ...], letters: int | None) -> str:
    return "(?i:" + "|".join(name[:letters] for name in names) + ")"


_DIGITS = {"m": 2, "d": 2, "H": 2, "I": 2, "M": 2, "S": 2, "j": 3}
_DIRECTIVES = {
    **{letter: f"[0-9]{{1,{most}}}" for letter, most in _DIGITS.items()},
    "Y": "[0-9]{4}",
    "y": "[0-9]{2}",
    "f": "[0-9]+",
    "b": _names(MONTHS, 3),
    "B": _names(MONTHS, None),
    "a": _names(_DAYS, 3),
    "A": _names(_DAYS, None),
    "p": "(?i:am|pm)",
    "z": _ZONE,
}
_OF_DATES = frozenset("YymdbBjaA")
_INSTEAD = {"Z": "%z, which reads UTC, Z, +01:00 and +0100", "s": "epoch='s'", "e": "%d", "T": "%H:%M:%S", "F": "%Y-%m-%d", "D": "%m/%d/%y"}
_HELD_BY = (
    (({"Y"}, {"y"}), "no year: write %Y or %y"),
    (({"m", "d"}, {"b", "d"}, {"B", "d"}, {"j"}), "no day of the year: write %m and %d, %b and %d, or %j"),
)
_REST_ON = (("M", "HI", "%M without %H or %I"), ("S", "M", "%S without %M"), ("f", "S", "%f without %S"), ("I", "p", "%I without %p"))


def spelling(text: str | None, data_type: str) -> Spelling:
    """How the times (or dates) of a column are written: by a format of `strptime`'s letters, else in ISO 8601."""
    if text is None:
        return ISO_DATE if data_type == "date" else ISO_TIME
    return _formatted(text)


@cache
def _formatted(text: str) -> Spelling:
    pieces = re.findall(r"%.|[ \t]+|.", text, re.DOTALL)
    letters = [piece[1] for piece in pieces if _is_directive(piece)]
    around = ["", *pieces, ""]
    found = [_regex_of(piece, beside=(around[n], around[n + 2])) for n, piece in enumerate(pieces)]
    return Spelling(_BLANK + "".join(found) + _BLANK, tuple(letters), f'is not written as "{text}"')


def _is_directive(piece: str) -> bool:
    return len(piece) == 2 and piece[0] == "%" and piece != "%%"


def _regex_of(piece: str, *, beside: tuple[str, str]) -> str:
    if _is_directive(piece):
        letter = piece[1]
        whole = letter in _DIGITS and any(map(_is_of_digits, beside))
        return f"([0-9]{{{_DIGITS[letter]}}})" if whole else f"({_DIRECTIVES[letter]})"
    if piece.isspace():
        return r"[ \t]+"
    literal = piece.removeprefix("%") or "%"
    return literal if literal.isalnum() or not literal.isascii() else f"\\{literal}"


def _is_of_digits(piece: str) -> bool:
    return piece[-1:].isdigit() or (_is_directive(piece) and piece[1] in "YymdHIMSfj")


def refuse_format(text: str, data_type: str) -> None:
    """Raise ValueError for a format that does not say a time (a date, if that is the type), with what to write instead."""
    if not text.strip() or "\n" in text:
        raise ValueError(f"is {text!r}; write strptime's letters, like '%d.%m.%Y %H:%M'")
    letters = [piece[1:] for piece in re.findall(r"%.|%$", text, re.DOTALL) if piece != "%%"]
    for letter in letters:
        if letter not in _DIRECTIVES:
            raise ValueError(f"has %{letter}; write {_INSTEAD.get(letter, 'one of ' + ' '.join(f'%{each}' for each in _DIRECTIVES))}")
        if letters.count(letter) > 1:
            raise ValueError(f"has %{letter} twice; which one is meant?")
        if data_type == "date" and letter not in _OF_DATES:
            raise ValueError(f"has %{letter}, which no date has; say that the column is a timestamp")
    _refuse_gaps(set(letters))


def _refuse_gaps(letters: set[str]) -> None:
    for choices, gap in _HELD_BY:
        held = [choice for choice in choices if choice <= letters]
        if not held:
            raise ValueError(f"has {gap}")
    if "H" in letters and "I" in letters:
        raise ValueError("has %H and %I, two hours; write one")
    if len(letters & {"m", "b", "B", "j"}) > 1 or {"Y", "y"} <= letters:
        raise ValueError("says its month or its year twice; write one")
    for letter, rests_on, gap in _REST_ON:
        if letter in letters and letters.isdisjoint(rests_on):
            raise ValueError(f"has {gap}; write both")


def carries_zone(text: str | None) -> bool:
    """Whether every time that is written by a format says its zone."""
    return text is not None and "%z" in text.replace("%%", "")


# ------------------------------------------------------------------------------------------------------------------------- reading


def read_time(text: str, how: Spelling, zone: tzinfo | None) -> datetime:
    """The instant in UTC that a text means, without what is finer than a microsecond; raises ValueError if it means none.

    `24:00` is the next day's midnight. Times without zone were written down in `zone`, by the rule of `intervals.in_utc`.
    """
    try:
        if how is ISO_TIME and (plain := _plain(text)) is not None:
            return in_utc(plain, zone)
        return in_utc(_local(_parts(text, how), how), zone)
    except OverflowError:
        raise ValueError(BEYOND) from None


def read_date(text: str, how: Spelling) -> date:
    """The date that a text means; raises ValueError if it means none."""
    return _day(_parts(text, how), how)


def _plain(text: str) -> datetime | None:
    """A time of the usual shape, which Python itself reads in a fifth of the time; None for any other text."""
    if text[4:5] != "-" or text[7:8] != "-" or text[13:14] != ":" or text[10:11] not in ("T", " "):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


@cache
def _compiled(regex: str) -> re.Pattern[str]:
    return re.compile(regex, re.ASCII)


def _parts(text: str, how: Spelling) -> dict[str, str]:
    match = _compiled(how.regex).fullmatch(text)
    if match is None:
        raise ValueError(how.otherwise)
    return {part: found for part, found in zip(how.parts, match.groups(), strict=True) if found}


def _day(parts: dict[str, str], how: Spelling) -> date:
    month, day = (1, 1) if "j" in parts else (_month(parts), int(parts["d"]))
    try:
        start = date(_year(parts), month, day)
        found = start + timedelta(days=int(parts.get("j", 1)) - 1)
    except (ValueError, OverflowError):
        raise ValueError(how.otherwise) from None
    if found.year != start.year:
        raise ValueError(how.otherwise)
    return found


def _year(parts: dict[str, str]) -> int:
    """A year of two digits is the one from 1969 to 2068, as in POSIX."""
    if "Y" in parts:
        return int(parts["Y"])
    short = int(parts["y"])
    return short + (1900 if short >= 69 else 2000)


def _month(parts: dict[str, str]) -> int:
    name = (parts.get("b") or parts.get("B") or "")[:3].lower()
    return [month[:3] for month in MONTHS].index(name) + 1 if name else int(parts["m"])


def _local(parts: dict[str, str], how: Spelling) -> datetime:
    """The time of day on its date, aware if the text says its zone."""
    day, hour = _day(parts, how), _hour(parts)
    minute, second, fraction = int(parts.get("M", 0)), int(parts.get("S", 0)), int(parts.get("f", "0")[:6].ljust(6, "0"))
    at_end = hour == 24 and not (minute or second or fraction)
    try:
        found = datetime(day.year, day.month, day.day, 0 if at_end else hour, minute, second, fraction, _offset(parts))
    except ValueError:
        raise ValueError(how.otherwise) from None
    return found + timedelta(days=1) if at_end else found


def _hour(parts: dict[str, str]) -> int:
    if "I" not in parts:
        return int(parts.get("H", 0))
    hour = int(parts["I"])
    return hour % 12 + (12 if parts["p"].lower() == "pm" else 0) if 1 <= hour <= 12 else -1


def _offset(parts: dict[str, str]) -> timezone | None:
    if "z" not in parts:
        return None
    digits = re.sub("[^0-9]", "", parts["z"]).ljust(6, "0")
    span = timedelta(hours=int(digits[:2]), minutes=int(digits[2:4]), seconds=int(digits[4:]))
    return timezone(-span if parts["z"][0] == "-" else span)


def read_count(text: str, unit: str) -> datetime:
    """The instant that lies so many units after 1970-01-01T00:00:00Z, without what is finer than a microsecond."""
    match = _compiled(COUNT).fullmatch(text)
    if match is None:
        raise ValueError(f'is not a number, as epoch="{unit}" has it')
    whole, _, fraction = _plainly(match[1]).partition(".")
    found = int(whole + fraction.ljust(9, "0")) * UNITS[unit] // 10**12
    if not FIRST <= found <= LAST:
        raise ValueError(BEYOND)
    return EPOCH + found * MICROSECOND


def _plainly(count: str) -> str:
    """A count without an exponent, with at most nine digits after the point."""
    if "e" not in count.lower():
        return count
    with localcontext(prec=200, rounding=ROUND_HALF_UP):
        return f"{Decimal(count).quantize(Decimal('1e-9')):f}"


def nearest(count: float, unit: str) -> datetime:
    """The instant of a count that is a double, to the nearest microsecond."""
    found = count * (UNITS[unit] / 1000)
    if not FIRST <= found < LAST + 1:
        raise ValueError(BEYOND)
    return EPOCH + round(found) * MICROSECOND


# ------------------------------------------------------------------------------------------------------------------------- advice


_ZONE_BY_NAME = re.compile(r"(.*[0-9])[ \t]*([A-Za-z]{2,5}|[A-Za-z]+(?:/[A-Za-z_]+)+)", re.ASCII)
"""A time with a zone's name or short name, of which several zones may have the same."""


def advice(text: str, data_type: str) -> str:
    """What would be to write, were this text a time (or a date); nothing for what is written in ISO 8601 or in no way that is known."""
    ways = list(dict.fromkeys(ways_to_say(text, data_type)))
    named = _ZONE_BY_NAME.fullmatch(text)
    if not ways and named is not None and data_type == "timestamp" and _compiled(ISO_TIME.regex).fullmatch(named[1]):
        return f"; {named[2]} says no offset from UTC: write Z or +01:00, or leave it out and say the source's timezone"
    return f"; write {' or '.join(ways)}" + (", whichever is meant" if len(ways) > 1 else "") if ways else ""


def ways_to_say(text: str, data_type: str) -> Iterator[str]:
    """What a definition would say of a column in which this text stands for a time, as a call of `Column`; several if it is ambiguous."""
    if data_type == "timestamp" and (unit := plausible_unit(text)):
        yield f'Column("timestamp", epoch="{unit}")'
        return
    for found in formats(text, data_type):
        yield f'Column("{data_type}", format="{found}")'


def formats(text: str, data_type: str) -> Iterator[str]:
    """The formats by which a text stands for a time (or a date); several if it is ambiguous, none for ISO 8601."""
    for found in _formats(text.strip()):
        try:
            refuse_format(found, data_type)
            _local(_parts(text, _formatted(found)), _formatted(found))
        except ValueError:
            continue
        yield found


_PLAUSIBLE = (datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


def plausible_unit(text: str) -> str | None:
    """The unit in which digits count to a time from 1990 to 2099; there is at most one."""
    if not re.fullmatch(r"\s*([0-9]{9,20}(\.[0-9]*)?|[0-9](\.[0-9]{1,17})?[eE]\+?[0-9]{1,2})\s*", text, re.ASCII):
        return None
    number = int(_plainly(text.strip()).partition(".")[0])
    first, last = (micros(at) * 1_000 for at in _PLAUSIBLE)
    return next((unit for unit, size in UNITS.items() if first <= number * size < last), None)


_DATES = (
    (r"[0-9]{4}([/.-])[0-9]{1,2}\1[0-9]{1,2}", ("%Y{0}%m{0}%d",)),
    (r"[0-9]{1,2}([/.-])[0-9]{1,2}\1[0-9]{4}", ("%d{0}%m{0}%Y", "%m{0}%d{0}%Y")),
    (r"[0-9]{1,2}([/.-])[0-9]{1,2}\1[0-9]{2}", ("%d{0}%m{0}%y", "%m{0}%d{0}%y")),
    (r"[0-9]{1,2}([ -])[A-Za-z]{3}\1[0-9]{4}", ("%d{0}%b{0}%Y",)),
    (r"[A-Za-z]{3}( )[0-9]{1,2},? [0-9]{4}", ("%b{0}%d{1}{0}%Y",)),
    (r"[0-9]{8}(?=$|[ T])()", ("%Y%m%d",)),
    (r"[0-9]{14}$()", ("%Y%m%d%H%M%S",)),
)
_TIME = re.compile(
    r"(?P<between>|[ ]|T|, )"
    r"(?:(?P<hour>[0-9]{1,2})(?P<colon>:?)[0-9]{2}(?:(?P<second>(?P=colon)[0-9]{2})(?:(?P<point>[.,])[0-9]+)?)?(?P<half> ?[AaPp][Mm])?"
    rf"(?P<zone> ?(?:{_ZONE}))?)?"
)


_OF_PROGRAMS = (
    "%a, %d %b %Y %H:%M:%S %z",
    "%a %b %d %H:%M:%S %z %Y",
    "%d/%b/%Y:%H:%M:%S %z",
    "%Y-%m-%d-%H.%M.%S.%f",
    "%d-%b-%y %I.%M.%S.%f %p",
    "%d-%b-%y",
    "%Y%m%d%H%M",
)
"""How mails, `date`, servers' logs, DB2, Oracle and names of files write times."""


def _formats(text: str) -> Iterator[str]:
    """The formats by which a text may be written: of day and month both orders."""
    yield from _OF_PROGRAMS
    for regex, formats in _DATES:
        found = re.match(regex, text, re.ASCII)
        rest = found and _TIME.fullmatch(text[found.end() :])
        if found and rest:
            comma = "," if "," in found[0] else ""
            yield from (each.format(found[1], comma) + _format_of_time(rest) for each in formats)


def _format_of_time(found: re.Match[str]) -> str:
    if not found["hour"]:
        return ""
    parts = [found["between"], "%I" if found["half"] else "%H", found["colon"], "%M"]
    parts += [found["colon"], "%S"] if found["second"] else []
    parts += [found["point"], "%f"] if found["point"] else []
    for name, letter in (("half", "%p"), ("zone", "%z")):
        parts += [" " if found[name].startswith(" ") else "", letter] if found[name] else []
    return "".join(parts)
