"""Which tiles a group's windows are made of, and which must be built: pure decisions over what was remembered of them.

A tile holds the partial aggregates (states) of one entity's events over one grain of time. The finest grain is a group's cadence, since
every window is a whole number of it; coarser grains, each 32 times the one before, keep a run of one interval cheap whatever its window.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from feature_definitions.aggregations import ACCUMULATORS, is_wide
from feature_definitions.intervals import DAY, Interval, ceil, floor, merge, utc_date
from feature_definitions.language import Feature, Rows, WindowedGroup
from feature_definitions.language.features import Window
from feature_definitions.planning import fingerprint
from feature_definitions.records import Revision, TileRecord

COARSER = 32
"""How many tiles of one grain make one of the next."""
LAYOUT = 2
"""The number of the way in which states are kept in columns. Raising it has tiles built anew, from which the same values come."""


@dataclass(frozen=True, slots=True)
class PartialAggregate:
    """One partial aggregate of a tile: of what, of which events, in which type. Groups of one source, entity and cadence share it.

    `name` spells all that its values depend on, never a window of time: a new one needs no new state. `order` are the columns by which
    events of one time are older or newer, where that matters, and `size` is how many events or values are kept, where not all are.
    """

    kind: str
    name: str
    of: str | None = None
    where: tuple[str, ...] = ()
    type: str = "int64"
    order: tuple[str, ...] = ()
    size: int = 0


def newest_event(group: WindowedGroup) -> PartialAggregate:
    """The state that tells which tiles have events of the group at all."""
    return _state(group, "newest", where=(group.where,))


def states_of(
    feature: Feature,
    window: Window,
    group: WindowedGroup,
    *,
    type: str,  # noqa: A002  # the language's word
    failing: frozenset[str] = frozenset(),
) -> dict[str, PartialAggregate]:
    """The states that a feature's value over a window is computed from, by their kind; `type` is that of what it aggregates, and `failing`
    are the names of features whose expressions may fail for an event."""
    where = (group.where, feature.where)
    failures = {"failures": _state(group, "failures", of=feature.of, where=where, type=type)} if feature.name in failing else {}
    if isinstance(window, Rows):
        return {"rows": _state(group, "rows", of=feature.of, where=where, type=type, size=window.count)} | failures
    sizes = {kind: feature.k or 0 if ACCUMULATORS[kind].is_sized else 0 for kind in feature.meaning.needs(type)}
    return {kind: _state(group, kind, of=feature.of, where=where, type=type, size=size) for kind, size in sizes.items()} | failures


def states(group: WindowedGroup, *, types: Mapping[str, str], failing: frozenset[str] = frozenset()) -> tuple[PartialAggregate, ...]:
    """All states of a group, each once; `types` are those of what its features aggregate, by the feature's name, and `failing` are the
    names of features whose expressions may fail for an event."""
    found = {
        state.name: state
        for f in group.aggregated
        for window in f.windows
        for state in states_of(f, window, group, type=types[f.name], failing=failing).values()
    }
    first = newest_event(group)
    return tuple({first.name: first, **found}.values())


def _order(group: WindowedGroup) -> tuple[str, ...]:
    source = group.source
    return tuple(dict.fromkeys([*([source.arrived_at] if source.arrived_at else []), *source.id]))


def _state(
    group: WindowedGroup,
    kind: str,
    *,
    of: str | None = None,
    where: tuple[str | None, ...] = (),
    type: str = "int64",  # noqa: A002  # the language's word
    size: int = 0,
) -> PartialAggregate:
    order = _order(group) if ACCUMULATORS[kind].is_ordered else ()
    conditions = tuple(dict.fromkeys(condition for condition in where if condition is not None))
    meant = [LAYOUT, fingerprint.ENGINE, fingerprint.of_source(group.source, of, *conditions), kind, of, conditions, type, order, size]
    kept = ACCUMULATORS[kind]
    if is_wide(type) and kept.parts_for(type) != kept.parts:
        meant.append(kept.parts_for(type))  # other ones than before, so that tiles of these types alone are built anew
    digest = hashlib.sha256(json.dumps(meant, sort_keys=True).encode()).hexdigest()[:12]
    return PartialAggregate(kind, f"{kind}_{digest}", of, conditions, type, order, size)


class TilesDue(NamedTuple):
    """The dates of one grain whose tiles must be built, each with the reason; a tile lies at the UTC date of its start."""

    grain: timedelta
    dates: Mapping[date, str]


def grains(cadence: timedelta, longest: timedelta) -> tuple[timedelta, ...]:
    """The grains that a group with this longest window reads, finest first: a coarser one only where two of its tiles fit."""
    found = [cadence]
    while found[-1] * COARSER * 2 <= longest:
        found.append(found[-1] * COARSER)
    return tuple(found)


def cover(span: Interval, levels: Sequence[timedelta]) -> dict[timedelta, tuple[Interval, ...]]:
    """The tiles of each grain that together make up `span` exactly, as spans of adjoining tiles: coarse in the middle, fine at its ends."""
    found: dict[timedelta, tuple[Interval, ...]] = {}
    inner: Interval | None = None
    for grain in reversed(levels):
        start, end = ceil(span.start, grain), floor(span.end, grain)
        if end <= start:
            continue
        outer = Interval(start, end)
        found[grain] = _around(outer, inner)
        inner = outer
    return {grain: spans for grain, spans in found.items() if spans}


def _around(outer: Interval, inner: Interval | None) -> tuple[Interval, ...]:
    if inner is None:
        return (outer,)
    sides = ((outer.start, inner.start), (inner.end, outer.end))
    return tuple(Interval(start, end) for start, end in sides if start < end)


def needed(spans: Iterable[Interval], levels: Sequence[timedelta]) -> dict[timedelta, tuple[Interval, ...]]:
    """The tiles of each grain that make up all of `spans`, each exactly."""
    found: dict[timedelta, list[Interval]] = {grain: [] for grain in levels}
    for span in spans:
        for grain, parts in cover(span, levels).items():
            found[grain] += parts
    return {grain: merge(parts) for grain, parts in found.items()}


def due(
    needs: Mapping[timedelta, Sequence[Interval]],
    *,
    states: frozenset[str],
    built: Mapping[tuple[timedelta, date], TileRecord],
    revisions: Sequence[Revision],
) -> tuple[TilesDue, ...]:
    """The dates to build, finest grain first, so that all tiles of `needs` hold these states of the source as it is now.

    A coarse tile is built from finer ones, which are needed with it. A date on which nothing ever happened has no tiles.
    """
    newest: dict[date, int] = {}
    for revision in revisions:
        newest[revision.date] = max(revision.revision, newest.get(revision.date, 0))
    levels = sorted(needs)
    wanted = {grain: {day for span in needs[grain] for day in _starts(span, grain)} for grain in levels}
    found: list[TilesDue] = []
    for level in range(len(levels) - 1, -1, -1):
        grain = levels[level]
        reasons = {day: _reason(newest, day, grain, built.get((grain, day)), states) for day in sorted(wanted[grain])}
        dates = {day: reason for day, reason in reasons.items() if reason}
        if dates:
            found.append(TilesDue(grain, dates))
        if level:
            finer = levels[level - 1]
            wanted[finer] |= {part for day in dates for part in _starts(reach(day, grain), finer)}
    return tuple(reversed(found))


def reach(day: date, grain: timedelta) -> Interval:
    """The time that the tiles starting on a date cover, which is longer than the date if they do not divide it."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return Interval(start, start + DAY if not DAY % grain else start + DAY + grain)


def _starts(span: Interval, grain: timedelta) -> Iterator[date]:
    """The UTC dates on which tiles of this span start."""
    at = ceil(span.start, grain)
    while at < span.end:
        yield utc_date(at)
        at = at + grain if grain >= DAY else ceil(floor(at, DAY) + DAY, grain)


def _reason(newest: Mapping[date, int], day: date, grain: timedelta, tile: TileRecord | None, states: frozenset[str]) -> str:
    """Why the tiles that start on a date must be built; nothing if they need not."""
    span = reach(day, grain)
    revision = max((newest.get(day + n * DAY, 0) for n in range(-(-(span.end - span.start) // DAY))), default=0)
    if not revision:
        return ""
    if tile is None:
        return "never built"
    if tile.revision < revision:
        return f"its source changed (revision {revision}; this was built from {tile.revision})"
    return "" if states <= tile.states else "lacks what a feature needs"
