"""Finds what changed in a source within a span of time after a revision, quickly also where there are many of both."""

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from functools import cached_property
from typing import NamedTuple

from feature_definitions.intervals import MICROSECOND, Interval
from feature_definitions.records import Revision


class RevisionIndex(NamedTuple):
    """A source's revisions by the dates that they touch.

    `greatest[k][n]` is the greatest revision of the `2**k` dates from the n-th after `first` on, so that a span of any length is asked
    about in two steps.
    """

    first: int
    by_date: tuple[tuple[Revision, ...], ...]
    greatest: tuple[tuple[int, ...], ...]

    def after(self, span: Interval, revision: int) -> list[Revision]:
        """The revisions later than `revision` that overlap the span, in their order."""
        start, end = self._places(span.start, span.end)
        if start >= end or self._greatest(start, end) <= revision:
            return []
        later = (n for n in range(start, end) if self.greatest[0][n] > revision)
        listed = {(r.revision, r.first, r.end): r for n in later for r in self.by_date[n]}
        found = [r for r in listed.values() if r.revision > revision and r.first < span.end and r.end > span.start]
        return sorted(found, key=lambda r: (r.revision, r.first, r.end))

    def newest(self, start: datetime, end: datetime) -> int:
        """The newest revision of the dates that have a part in `[start, end)`; 0 if there is none. In one piece: all intervals ask it."""
        first, last, levels = start.toordinal() - self.first, (end - MICROSECOND).toordinal() - self.first + 1, self.greatest
        first, last = first if first > 0 else 0, last if last < len(self.by_date) else len(self.by_date)  # twice as quick
        if first >= last:
            return 0
        level = (last - first).bit_length() - 1
        one, other = levels[level][first], levels[level][last - (1 << level)]
        return one if one > other else other

    def _places(self, start: datetime, end: datetime) -> tuple[int, int]:
        return max(start.toordinal() - self.first, 0), min((end - MICROSECOND).toordinal() - self.first + 1, len(self.by_date))

    def _greatest(self, start: int, end: int) -> int:
        level = (end - start).bit_length() - 1
        return max(self.greatest[level][start], self.greatest[level][end - (1 << level)])


class History(tuple[Revision, ...]):
    """The revisions of some sources, of which is found out once what many groups ask."""

    @cached_property
    def first_events(self) -> Mapping[str, datetime]:
        """When the first event of each source is."""
        return first_events(self)

    @cached_property
    def changes(self) -> Mapping[str, RevisionIndex]:
        """The revisions of each source that has any, made ready to be asked about spans."""
        listed: dict[str, list[Revision]] = {}
        for revision in self:
            listed.setdefault(revision.source, []).append(revision)
        return {source: changes(some) for source, some in listed.items()}


def history(revisions: Iterable[Revision]) -> History:
    """Revisions as a history, which they may be already."""
    return revisions if isinstance(revisions, History) else History(revisions)


def changes(revisions: Iterable[Revision]) -> RevisionIndex:
    """The revisions of a source, made ready to be asked about spans."""
    listed: dict[int, list[Revision]] = {}
    for revision in revisions:
        for day in range(revision.first.toordinal(), (revision.end - MICROSECOND).toordinal() + 1):
            listed.setdefault(day, []).append(revision)
    if not listed:
        return RevisionIndex(date.min.toordinal(), (), ())
    first = min(listed)
    by_date = tuple(tuple(listed.get(day, ())) for day in range(first, max(listed) + 1))
    levels = [tuple(max((r.revision for r in some), default=0) for some in by_date)]
    while 2 << (len(levels) - 1) <= len(by_date):
        below, step = levels[-1], 1 << (len(levels) - 1)
        levels.append(tuple(max(below[n], below[n + step]) for n in range(len(below) - step)))
    return RevisionIndex(first, by_date, tuple(levels))


def rows_by_date(revisions: Iterable[Revision]) -> dict[date, int]:
    """How many rows each date of one source has, by its newest revision; dates that have none are left out."""
    return {revision.date: revision.rows for revision in _newest(revisions).values() if revision.rows}


def first_events(revisions: Iterable[Revision]) -> dict[str, datetime]:
    """When the first event of each source is, by the newest revision of each date: what was taken back does not count."""
    found: dict[str, datetime] = {}
    listed = tuple(revisions)
    changed: dict[tuple[str, date], datetime] = {}
    for r in listed:
        changed[r.source, r.date] = min(r.first, changed.get((r.source, r.date), r.first))
    for key, r in _newest(listed).items():
        if r.rows:
            at = r.earliest or changed[key]
            found[r.source] = min(at, found.get(r.source, at))
    return found


def _newest(revisions: Iterable[Revision]) -> dict[tuple[str, date], Revision]:
    found: dict[tuple[str, date], Revision] = {}
    for r in revisions:
        known = found.get((r.source, r.date))
        if known is None or known.revision < r.revision:
            found[r.source, r.date] = r
    return found
