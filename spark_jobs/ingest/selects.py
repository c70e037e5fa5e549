"""The SQL by which a PostgreSQL database is read: the rows of some times, in parts that together are all rows, each row once."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from feature_definitions.intervals import instant, micros
from feature_definitions.language import Jdbc

Sort = Literal["number", "date", "local", "instant"]
"""What a column is ordered by: numbers, dates, times without zone, or instants."""

_DAY = timedelta(days=1)
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)  # made aware


class Ordered(NamedTuple):
    """A column by which rows are parted or chosen."""

    name: str
    sort: Sort


class Times(NamedTuple):
    """The instants in `[start, end)`; None: no bound."""

    start: datetime | None
    end: datetime | None


def quoted(name: str) -> str:
    """A name as the database keeps it."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def relation(at: Jdbc) -> str:
    """What stands after FROM."""
    return f'(\n{at.query}\n) AS "hw_query"' if at.query is not None else ".".join(quoted(part) for part in at.parts)


PART = "hw_part"
"""What the column by which rows are parted is called beside the columns that are read, so that an index of it serves."""


def rows(at: Jdbc, columns: Sequence[str], *, where: str) -> str:
    """A subquery of the rows for which `where` holds."""
    return f'(SELECT {", ".join(columns) or "1"} FROM {relation(at)} WHERE {where}) AS "hw_rows"'


def as_text(name: str) -> str:
    """A number of any size as its digits, which no reader can fail at."""
    return f"CAST({quoted(name)} AS text) AS {quoted(name)}"


def as_time(name: str) -> str:
    """A time; one that we do not take, like infinity, is one in the year 10001, at which no reader fails either."""
    time = quoted(name)
    return f"CASE WHEN {time} IS NULL OR {_sound(time)} THEN {time} ELSE '10001-01-01' END AS {time}"


def _sound(time: str) -> str:
    return f"{time} >= '0001-01-01' AND {time} < '10000-01-01'"


def within(column: Ordered, times: Times, *, ids: Sequence[str], at: Jdbc) -> str:
    """The condition of rows of these times, and of those that share an id with one: which of them counts is decided among all.

    A time without zone may lie a day beside the instant that it means.
    """
    beside = _DAY if column.sort == "local" else timedelta(0)
    start = None if times.start is None or times.start - _EARLIEST <= beside else times.start - beside
    end = None if times.end is None or _LATEST - times.end <= beside else times.end + beside
    bounds = [f"{quoted(column.name)} >= {_literal(micros(start), column.sort)}"] if start else []
    bounds += [f"{quoted(column.name)} < {_literal(micros(end), column.sort)}"] if end else []
    inside = " AND ".join(bounds) or "true"
    if not ids or column.name in ids or not bounds:
        return inside
    names = ", ".join(quoted(name) for name in ids)
    return f"({names}) IN (SELECT {names} FROM {relation(at)} WHERE {inside})"


def bounds(at: Jdbc, column: Ordered, *, where: str) -> str:
    """A subquery of one row, `low` and `high`: the least and the greatest value, of times in microseconds since 1970."""
    name = quoted(column.name)
    if column.sort == "number":
        low, high, sound = f"min({name})", f"max({name})", "true"
    else:
        low, high = (f"extract(epoch FROM {end}({name})) * 1000000" for end in ("min", "max"))
        sound = _sound(name)
    chosen = f'CAST({low} AS bigint) AS "low", CAST({high} AS bigint) AS "high"'
    return f'(SELECT {chosen} FROM {relation(at)} WHERE {sound} AND {where}) AS "hw_bounds"'


def parts(column: Ordered, *, low: int | None, high: int | None, number: int) -> tuple[str, ...]:
    """Conditions of which each row fulfils exactly one, whatever came since the bounds were asked for; about equally wide."""
    if low is None or high is None:
        return ("true",)
    name, width = quoted(PART), high - low + 1
    starts = (low + width * n // number for n in range(1, number))
    cuts = tuple(dict.fromkeys(_literal(start, column.sort) for start in starts if start > low))
    if not cuts:
        return ("true",)
    between = [f"{name} >= {first} AND {name} < {end}" for first, end in itertools.pairwise(cuts)]
    return (f"({name} < {cuts[0]} OR {name} IS NULL)", *between, f"{name} >= {cuts[-1]}")


def _literal(value: int, sort: Sort) -> str:
    """A value as the database reads it, whatever zone its session is in."""
    if sort == "number":
        return str(value)
    at = instant(value).replace(tzinfo=None)
    if sort == "date":
        return f"DATE '{at.date().isoformat()}'"
    text = at.isoformat(sep=" ", timespec="microseconds")
    return f"TIMESTAMP '{text}'" if sort == "local" else f"TIMESTAMPTZ '{text}+00'"
