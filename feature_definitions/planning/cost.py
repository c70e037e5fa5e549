"""What a plan costs and what it moves: pure estimates over what was remembered and what is defined."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from feature_definitions.intervals import Interval, dates, merge
from feature_definitions.loader import Catalog
from feature_definitions.planning import plan, tiling
from feature_definitions.planning.plan import GroupPlan
from feature_definitions.planning.revisions import history
from feature_definitions.records import PastRuns, Revision, TileRecord


class Stale(NamedTuple):
    """What a group's new rows make out of date: groups that read it, built training sets, and whether it is online."""

    groups: tuple[str, ...]
    training_sets: tuple[str, ...]
    online: bool


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What one group's part of a plan takes: intervals, files and bytes of events and tiles to read, seconds (None: nothing ran yet)."""

    group: str
    intervals: int
    files: int
    bytes: int
    seconds: float | None
    stale: Stale


class Reads(NamedTuple):
    """The UTC dates whose events a plan reads, and those whose tiles stand for events that were read before."""

    events: frozenset[date]
    tiles: frozenset[date]


def spans(work: GroupPlan, revisions: Sequence[Revision]) -> tuple[Interval, ...]:
    """The times whose events a plan's rows depend on; a lifetime window reads from the source's first event on."""
    found = merge(plan.inputs(work.group, status.interval) for status in work.due)
    if not work.group.lifetime:
        return found
    first = min(history(revisions).first_events.values(), default=None)
    return tuple(Interval(max(s.start, first), s.end) for s in found if first is not None and first < s.end)


def reads(work: GroupPlan, *, tiles: Mapping[date, TileRecord], revisions: Sequence[Revision]) -> Reads:
    """What a plan reads: of a windowed group the events of dates whose tiles are not there or too old, and the tiles of all others.

    `tiles` are the stored ones of the group's cadence, at least those of `spans`. What coarser tiles save is left out: it is at most so
    much.
    """
    group, needed = work.group, spans(work, revisions)
    read = {day for span in needed for day in dates(span)}
    if not group.aggregated:
        return Reads(frozenset(read), frozenset())
    built = {(group.cadence, day): record for day, record in tiles.items()}
    due = tiling.due({group.cadence: needed}, states=frozenset(), built=built, revisions=revisions)
    events = {day for each in due for day in each.dates}
    return Reads(frozenset(events), frozenset(read - events))


def seconds(runs: Collection[PastRuns], intervals: int) -> float | None:
    """How long a run over so many intervals may take, by the group's past runs.

    A share for each run and one for each interval, fitted by least squares, neither below 0. With runs of one size only, the time of one
    for up to so many intervals, and in proportion beyond. None if nothing ran yet.
    """
    if not runs or not intervals:
        return None if not runs else 0.0
    count = sum(past.runs for past in runs)
    size, time = sum(past.intervals * past.runs for past in runs) / count, sum(past.seconds for past in runs) / count
    spread = sum((past.intervals - size) ** 2 * past.runs for past in runs)
    if not spread:
        return time * max(1.0, intervals / size)
    each = max(0.0, sum((past.intervals - size) * (past.seconds - time * past.runs) for past in runs) / spread)
    start = max(0.0, time - each * size)
    return start + each * intervals


def stale(catalog: Catalog, group: str, *, built: Iterable[str], online: Mapping[str, bool]) -> Stale:
    """What becomes out of date with a group: directly, or by way of the groups that read it.

    `built` are the training sets that there are, `online` says which groups were synced.
    """
    groups = _readers(catalog, group)
    moved = {group, *groups}
    services = {name for name, service in catalog.services.items() if any(join.group.name in moved for join in service.joins)}
    defined = {t.name for t in catalog.training_sets.values() if t.service.name in services}
    return Stale(tuple(groups), tuple(sorted((defined | services) & set(built))), any(online.get(name, False) for name in moved))


def _readers(catalog: Catalog, group: str) -> list[str]:
    """The groups that read a group, directly or through others, in the order of the catalog."""
    moved = {group}
    found: list[str] = []
    growing = True
    while growing:
        more = [t.name for t in catalog.transforms.values() if t.name not in moved and any(i.name in moved for i in t.inputs)]
        moved.update(more)
        found += more
        growing = bool(more)
    return [name for name in catalog.transforms if name in found]
