"""Instants, durations and the half-open intervals `[start, end)` that a run of a group covers; all UTC, to the microsecond."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
DAY = timedelta(days=1)

_UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": DAY, "w": 7 * DAY}


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """A half-open span of time `[start, end)`, both ends aware and in UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        """Refuse naive or reversed ends."""
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError(f"the interval {self.start} .. {self.end} has a time without zone; write times in UTC")
        if self.end <= self.start:
            raise ValueError(f"the interval {iso(self.start)} .. {iso(self.end)} ends before it starts")

    def __hash__(self) -> int:
        """By the start alone, which mostly tells intervals apart: they are looked up by the hundred thousand."""
        return hash(self.start)

    def __str__(self) -> str:
        """The interval as `start..end` in ISO 8601."""
        return f"{iso(self.start)}..{iso(self.end)}"


ALWAYS = Interval(EPOCH, EPOCH + DAY)
"""The one interval of a static group, whose rows have no time: they carry the event timestamp 1970-01-01T00:00:00Z."""

BEGINNING = datetime.min.replace(tzinfo=UTC)
"""The first instant there is: where a lifetime window begins."""


def duration(text: str) -> timedelta:
    """The span that `text` names: a whole number and s, m (minutes), h, d or w, as in `5m`, `36h` or `90d`."""
    span = _span(text) if isinstance(text, str) else None
    if span is None:
        raise ValueError(f"{text!r} is not a duration; write a whole number and a unit of s, m, h, d or w, like '5m' or '7d'")
    return span


@lru_cache(1000)
def _span(text: str) -> timedelta | None:
    match = re.fullmatch(r"([0-9]{1,7})([smhdw])", text.strip())
    return None if match is None else int(match[1]) * _UNITS[match[2]]


def spell(span: timedelta) -> str:
    """The shortest text that `duration` reads as `span`; whole seconds only."""
    seconds = int(span.total_seconds())
    for unit in ("d", "h", "m"):
        size = int(_UNITS[unit].total_seconds())
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def micros(at: datetime) -> int:
    """Microseconds since 1970-01-01T00:00:00Z, exact."""
    return (at - EPOCH) // MICROSECOND


def instant(microseconds: int) -> datetime:
    """The UTC instant that lies `microseconds` after 1970-01-01T00:00:00Z."""
    return EPOCH + timedelta(microseconds=microseconds)


def iso(at: datetime) -> str:
    """ISO 8601 in UTC, `2026-01-05T00:00:00Z`, with microseconds only where there are some."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_instant(text: str) -> datetime:
    """The instant that `2026-01-05` (its midnight) or `2026-01-05T06:00:00Z` names; a time of day without zone is read as UTC."""
    try:
        parsed = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        raise ValueError(f"{text!r} is not a date; write it like 2026-01-05 or 2026-01-05T06:00:00Z (UTC)") from None
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def floor(at: datetime, every: timedelta) -> datetime:
    """The newest point of the cadence's grid that is not after `at`; the grid starts at 1970-01-01T00:00:00Z."""
    return at - (at - EPOCH) % every


def ceil(at: datetime, every: timedelta) -> datetime:
    """The first point of the cadence's grid that is not before `at`."""
    return floor(at + every - MICROSECOND, every)


def split(span: Interval, every: timedelta) -> Iterator[Interval]:
    """The cadence's intervals that lie in `span`, whose ends are on the grid, oldest first."""
    start = span.start
    while start < span.end:
        yield Interval(start, start + every)
        start += every


def merge(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """The same instants as few intervals as possible: adjoining and overlapping ones become one, oldest first."""
    merged: list[Interval] = []
    for interval in sorted(intervals):
        if merged and interval.start <= merged[-1].end:
            merged[-1] = Interval(merged[-1].start, max(merged[-1].end, interval.end))
        else:
            merged.append(interval)
    return tuple(merged)


def outside(asked: Iterable[Interval], there: Iterable[Interval]) -> list[Interval]:
    """Those intervals of which not every instant lies in others, whatever the cadence of these."""
    spans = merge(there)
    ends = [span.end for span in spans]

    def lies_there(interval: Interval) -> bool:
        place = bisect_left(ends, interval.end)
        return place < len(spans) and spans[place].start <= interval.start

    return [interval for interval in asked if not lies_there(interval)]


def utc_date(at: datetime) -> date:
    """The UTC calendar date of an instant: the partition it lies in."""
    return at.astimezone(UTC).date()


def dates(span: Interval) -> Iterator[date]:
    """The UTC dates that an interval has a part in."""
    return (utc_date(day.start) for day in split(Interval(floor(span.start, DAY), ceil(span.end, DAY)), DAY))


def in_utc(at: datetime, zone: tzinfo | None) -> datetime:
    """An instant in UTC; a time without zone was written down in `zone`.

    Daylight saving: a local time that the clock skipped is moved forward by what was skipped (02:30 is read as 03:30), one that it showed
    twice is the first of the two (Python's fold=0, PEP 495; Java's and Spark's rule too).
    """
    if at.tzinfo is not None:
        return at.astimezone(UTC)
    if zone is None:
        raise ValueError("has no zone, and the source names no timezone")
    return at.replace(tzinfo=zone).astimezone(UTC)
