"""What a group rests on: the sources behind it and, of a transform, the intervals of the groups that it reads and their publishes."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate
from typing import NamedTuple

from feature_definitions.intervals import ALWAYS, Interval, duration, micros
from feature_definitions.language import FeatureGroup, Query, Source
from feature_definitions.records import Publish


def sources_of(group: FeatureGroup) -> tuple[Source, ...]:
    """The sources behind a group, also by way of groups that it reads, each once."""
    found = [source for each in group.inputs for source in ((each,) if isinstance(each, Source) else sources_of(each))]
    return tuple({source.name: source for source in found}.values())


def read_by(source: Source) -> frozenset[str]:
    """The names of the sources with times whose rows a source shows: itself, and those behind its query."""
    behind = source.at.sources if isinstance(source.at, Query) else ()
    own = frozenset() if source.shape == "static" else frozenset({source.name})
    return own.union(*map(read_by, behind))


def ready_after(group: FeatureGroup) -> timedelta:
    """How long after an interval's end all sources behind a group have its events."""
    return max(duration(source.ready_after) for source in sources_of(group))


def ordered(groups: Iterable[FeatureGroup]) -> tuple[FeatureGroup, ...]:
    """The groups in an order in which each comes after those of them that it reads; otherwise as they were."""
    asked = {group.name: group for group in groups}
    found: dict[str, FeatureGroup] = {}

    def visit(group: FeatureGroup) -> None:
        for read in group.input_groups:
            visit(read)
        if group.name in asked:
            found.setdefault(group.name, group)

    for group in asked.values():
        visit(group)
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class Awaited:
    """The intervals of one group that an interval waits for: the first of them and its status, the last, and how many they are."""

    group: str
    first: Interval
    status: str
    last: Interval
    count: int

    def reason(self, group: str) -> str:
        """Why an interval of a group waits, as a sentence: of its own group it waits for what was rejected, or awaits a person's word."""
        more = f" and {self.count - 1} more" if self.count > 1 else ""
        if self.group == group:
            return f"waits for {self.first}{more}, which {'waits for approval' if self.status == 'WAITING' else 'the gate rejected'}"
        return f"waits for {self.group} {self.first} ({self.status}){more}"


@dataclass(frozen=True, slots=True)
class Upstream:
    """A group that a transform reads, in the generation that its definition belongs to, as it is at a moment.

    `unreadable` are the intervals that should be there and are not, or lack a column, `outdated` those that are there and will be computed
    again, both with their status. `publishes` are all of the generation's; readers see each interval's last.
    """

    group: FeatureGroup
    generation: int
    unreadable: Mapping[Interval, str]
    outdated: Mapping[Interval, str]
    publishes: tuple[Publish, ...]
    _published: "_Published" = field(init=False, repr=False, compare=False)
    _unreadable: "_Sorted" = field(init=False, repr=False, compare=False)
    _outdated: "_Sorted" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Put everything in order once: a range asks for each of its intervals."""
        object.__setattr__(self, "_unreadable", _sorted(self.unreadable))
        object.__setattr__(self, "_outdated", _sorted(self.outdated))
        object.__setattr__(self, "_published", _published(self.publishes))

    def waits_for(self, span: Interval) -> tuple[Awaited, ...]:
        """Of what a computation over `span` reads, the intervals that cannot be read yet: one statement, or none."""
        return self._awaited(self._unreadable, self.unreadable, span)

    def outdates(self, span: Interval) -> tuple[Awaited, ...]:
        """Of what a computation over `span` reads, the intervals that will be computed again: one statement, or none."""
        return self._awaited(self._outdated, self.outdated, span)

    def content(self, span: Interval) -> str:
        """What a computation over `span` reads, as a text that changes whenever one of the intervals that it reads is published."""
        first, last = self._read(span)
        held = self._published.sums[last] - self._published.sums[first]
        return f"g{self.generation}.{last - first}.{held % 2**64:016x}"

    def known_from(self, span: Interval) -> datetime | None:
        """Since when all that a computation over `span` reads is known; None if there is nothing."""
        first, last = self._read(span)
        return max((publish.known_from for publish in self._published.last[first:last]), default=None)

    def later(self, span: Interval, publish_id: str) -> tuple[Interval, ...]:
        """The intervals that a computation over `span` reads and that were published by runs which began after a publish's did."""
        first, last = self._read(span)
        return tuple(publish.interval for publish in self._published.last[first:last] if publish.publish_id > publish_id)

    def _awaited(self, sorted_: "_Sorted", statuses: Mapping[Interval, str], span: Interval) -> tuple[Awaited, ...]:
        start, end = self._places(sorted_.ends, span)
        if start == end:
            return ()
        first, last = sorted_.intervals[start], sorted_.intervals[end - 1]
        return (Awaited(self.group.name, first, statuses[first], last, end - start),)

    def _read(self, span: Interval) -> tuple[int, int]:
        return self._places(self._published.ends, span)

    def _places(self, ends: Sequence[datetime], span: Interval) -> tuple[int, int]:
        """The places, from one to before another, of the intervals that are read: those that end in `(start, end]`."""
        return (0, len(ends)) if self.group.is_static else (bisect_right(ends, span.start), bisect_right(ends, span.end))


class _Published(NamedTuple):
    """The last publish of each interval in the order of their ends, and the sums of all publishes' hashes up to each, from 0 on."""

    last: tuple[Publish, ...]
    ends: tuple[datetime, ...]
    sums: tuple[int, ...]


class _Sorted(NamedTuple):
    intervals: tuple[Interval, ...]
    ends: tuple[datetime, ...]


def _sorted(intervals: Iterable[Interval]) -> _Sorted:
    found = tuple(sorted(intervals))
    return _Sorted(found, tuple(interval.end for interval in found))


def _published(publishes: Iterable[Publish]) -> _Published:
    newest: dict[Interval, Publish] = {}
    hashes: dict[Interval, int] = {}
    for publish in sorted(publishes, key=lambda publish: publish.publish_id):
        newest[publish.interval] = publish
        hashes[publish.interval] = hashes.get(publish.interval, 0) + _hash(publish)
    in_order = sorted(newest, key=lambda interval: interval.end)
    last, ends = tuple(newest[interval] for interval in in_order), tuple(interval.end for interval in in_order)
    sums = tuple(accumulate((hashes[interval] for interval in in_order), initial=0))
    return _Published(last, ends, sums)


def _hash(publish: Publish) -> int:
    return int.from_bytes(hashlib.sha256(f"{micros(publish.interval.start)} {publish.publish_id}".encode()).digest()[:8], "big")


def starts_at(group: FeatureGroup, firsts: Mapping[str, datetime]) -> datetime | None:
    """The first event of the sources behind a group, by the first event of each source; None while a source of them has nothing."""
    behind = sources_of(group)
    if any(source.name not in firsts for source in behind):
        return None
    return min((firsts[source.name] for source in behind if source.shape != "static"), default=ALWAYS.start)
