"""What a plan costs and what it moves: pure estimates over what was remembered and what is defined."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from feature_definitions import plan
from feature_definitions.intervals import ALWAYS, MICROSECOND, merge, utc_date
from feature_definitions.loader import Catalog
from feature_definitions.plan import GroupPlan


@dataclass(frozen=True, slots=True)
class Stale:
    """What a group's new rows make out of date: groups that read it, built training sets, and whether it is online."""

    groups: tuple[str, ...]
    training_sets: tuple[str, ...]
    online: bool


@dataclass(frozen=True, slots=True)
class Bill:
    """What one group's part of a plan takes: intervals, the source's files and bytes to read, seconds (None: nothing ran yet)."""

    group: str
    intervals: int
    files: int
    bytes: int
    seconds: float | None
    stale: Stale


def dates_read(work: GroupPlan) -> set[date]:
    """The source's dates on which events lie that the plan's intervals depend on."""
    spans = merge(plan.inputs(work.group, status.interval) for status in work.due)
    if any(span == ALWAYS for span in spans) and work.group.source.shape == "static":
        return {utc_date(ALWAYS.start)}
    return {
        utc_date(span.start) + timedelta(days=n)
        for span in spans
        for n in range((utc_date(span.end - MICROSECOND) - utc_date(span.start)).days + 1)
    }


def seconds(runs: Collection[tuple[int, float]], intervals: int) -> float | None:
    """How long a run over so many intervals may take, by the intervals and seconds of the group's past runs.

    A share for each run and one for each interval, fitted by least squares, neither below 0. With runs of one size only, the time of one
    for up to so many intervals, and in proportion beyond. None if nothing ran yet.
    """
    if not runs or not intervals:
        return None if not runs else 0.0
    sizes, times = [n for n, _ in runs], [spent for _, spent in runs]
    size, time = sum(sizes) / len(sizes), sum(times) / len(times)
    spread = sum((n - size) ** 2 for n in sizes)
    if not spread:
        return time * max(1.0, intervals / size)
    each = max(0.0, sum((n - size) * (spent - time) for n, spent in runs) / spread)
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
