"""Which rows of a source lie far from all others, so that they are put aside: by the rows of each date alone, in whatever order they came.

A first event years before all others is mostly a mistake (0001-01-01, 1900-01-01, 1970-01-01), and a group would compute every interval
since then. So the dates that have rows, in order, are cut at every gap of more than 366 days. From the earliest on, a segment lies far if
it has at most 3 dates or fewer than 10 rows, and fewer rows than all that follows; the first that does not ends it. The source's `since`
takes the place of this rule. Rows from `until` on, or without it more than a day after now, are put aside too, and do not count here.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

from feature_definitions.counted import counted
from feature_definitions.intervals import BEGINNING, DAY, MICROSECOND, utc_date
from feature_definitions.language import Source

GAP = timedelta(days=366)
"""Dates further apart than this are of two segments."""
FEW_DATES, FEW_ROWS = 3, 10
"""A segment of at most so many dates, or of fewer than so many rows, may lie far from what follows."""
REASONS = "^[0-9,]+ rows? of [0-9]{4}-[0-9]{2}-[0-9]{2} lies? "
"""How every reason that is given here begins, as a regular expression; no other reason does."""


class Bound(NamedTuple):
    """The times of the rows that are read: from `first` on, before `last`."""

    first: datetime
    last: datetime

    def holds(self, at: datetime) -> bool:
        """Whether a row of this time is read."""
        return self.first <= at < self.last

    def cuts(self, day: date) -> bool:
        """Whether some instants of a date lie inside, and some outside."""
        start = midnight(day)
        return any(start < end and end - start < DAY for end in self)


def midnight(day: date) -> datetime:
    """The first instant of a UTC date."""
    return datetime.combine(day, time.min, UTC)


def outer(source: Source, *, now: datetime) -> Bound:
    """What bounds a source's rows whatever rows there are: its `since`, and its `until` or a day after now."""
    return Bound(source.starts or BEGINNING, source.ends or now + DAY + MICROSECOND)


def bound(source: Source, *, rows: Mapping[date, int], now: datetime) -> Bound:
    """What bounds a source's rows, by how many it has of each date within its outer bound."""
    around = outer(source, now=now)
    return around if source.starts else around._replace(first=_first(rows))


def _first(rows: Mapping[date, int]) -> datetime:
    """The midnight of the first date that does not lie far from all others; the beginning of time, if none does."""
    days = sorted(day for day, n in rows.items() if n > 0)
    following, start = sum(rows[day] for day in days), 0
    for segment in _segments(days):
        mine = sum(rows[day] for day in segment)
        following -= mine
        if not ((len(segment) <= FEW_DATES or mine < FEW_ROWS) and mine < following):
            break
        start += len(segment)
    return midnight(days[start]) if start else BEGINNING


def _segments(days: Sequence[date]) -> Iterable[Sequence[date]]:
    start = 0
    for n in range(1, len(days) + 1):
        if n == len(days) or days[n] - days[n - 1] > GAP:
            yield days[start:n]
            start = n


class Aside(NamedTuple):
    """What is put aside of a source: how many rows of each date, by which bound, and the first date of which rows are read."""

    source: Source
    rows: Mapping[date, int]
    read: Bound
    others: date | None

    @property
    def reasons(self) -> dict[date, str]:
        """Why the rows of each date are put aside."""
        return {day: self._reason(day) for day in self.rows}

    @property
    def summary(self) -> dict[str, int]:
        """How many rows are put aside for which reason; dates beyond the bound are said at once, however many they are."""
        beyond = {day: n for day, n in self.rows.items() if self._is_beyond(day)}
        found = {self._reason(day): n for day, n in self.rows.items() if len(beyond) == 1 or day not in beyond}
        if len(beyond) > 1:
            rest = "more than a day after now" if self.source.until is None else f'at or after until="{self.source.until}"'
            found[f"rows of {len(beyond)} dates from {min(beyond)} to {max(beyond)} lie {rest}"] = sum(beyond.values())
        return found

    def _is_beyond(self, day: date) -> bool:
        return day >= utc_date(self.read.last)

    def _reason(self, day: date) -> str:
        rows = self.rows[day]
        dated = f"{counted(rows, 'row')} of {day} {'lies' if rows == 1 else 'lie'}"
        if self._is_beyond(day) and self.source.until is not None:
            return f'{dated} at or after until="{self.source.until}"; write a later one if such dates are meant'
        if self._is_beyond(day):
            remedy = f', or write until="{day + DAY}" if they are meant' if day < date.max else ""
            return f"{dated} more than a day after now: taken when their time has come{remedy}"
        if self.source.since is not None:
            return f'{dated} before since="{self.source.since}"; write an earlier one if such dates are meant'
        how_far = "" if self.others is None else f"{(self.others - day).days:,} days "
        return f'{dated} {how_far}before all others; write since="{day}" if they are meant'
