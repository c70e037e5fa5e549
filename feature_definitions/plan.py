"""What is the state of each interval, and what must be done about it: pure decisions over what was remembered."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from feature_definitions import fingerprint
from feature_definitions.intervals import ALWAYS, MICROSECOND, Interval, ceil, duration, floor, iso, split
from feature_definitions.model import FeatureGroup, ObservationGroup, SnapshotGroup, WindowedGroup
from feature_definitions.records import Generation, LedgerEntry, Revision

MISSING, STALE_DATA, STALE_CODE, REJECTED, HELD, OK = "MISSING", "STALE(data)", "STALE(code)", "REJECTED", "HELD", "OK"
DUE = (MISSING, STALE_DATA, STALE_CODE)
MOST_INTERVALS = 500_000


class RangeError(ValueError):
    """A range that can not be materialized: reversed, in the future, off the grid, or absurdly long."""


@dataclass(frozen=True, slots=True)
class IntervalStatus:
    """What is known of one interval of a group, and why it is so."""

    group: str
    generation: int
    interval: Interval
    status: str
    reasons: tuple[str, ...]
    rows: int | None = None
    publish_id: str | None = None
    delta_version: int | None = None


@dataclass(frozen=True, slots=True)
class Compute:
    """Compute the rows of one interval into staging."""

    group: str
    interval: Interval
    reason: str


@dataclass(frozen=True, slots=True)
class Validate:
    """Judge the staged rows of one interval."""

    group: str
    interval: Interval
    reason: str


@dataclass(frozen=True, slots=True)
class Publish:
    """Make the rows of one interval visible, if they passed."""

    group: str
    interval: Interval
    reason: str


Step = Compute | Validate | Publish


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """What one run does to one group: which generation, which intervals, and why each."""

    group: FeatureGroup
    generation: int
    due: tuple[IntervalStatus, ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps in the order in which they happen: all intervals are computed, then judged, then published in one commit."""
        return tuple(
            step(self.group.name, s.interval, "; ".join(s.reasons) or s.status) for step in (Compute, Validate, Publish) for s in self.due
        )


def target_generation(group: FeatureGroup, generations: Sequence[Generation]) -> tuple[int, Mapping[str, str]]:
    """The generation that a definition belongs to, and the fingerprints it should hold.

    A generation fits if every column it holds is still defined and means the same: columns may only have been added. The newest that
    fits is taken; else a new one begins.
    """
    wanted = fingerprint.columns(group)
    for generation in sorted(generations, key=lambda g: g.number, reverse=True):
        if all(fingerprint.meaning(wanted.get(column, "")) == fingerprint.meaning(held) for column, held in generation.features.items()):
            return generation.number, wanted
    return max((g.number for g in generations), default=0) + 1, wanted


def current_generation(generations: Iterable[Generation]) -> Generation | None:
    """The generation that readers see, if any was published."""
    return next((g for g in generations if g.current), None)


def statuses(
    group: FeatureGroup, *, generation: int, entries: Mapping[Interval, LedgerEntry], revisions: Sequence[Revision], now: datetime
) -> tuple[IntervalStatus, ...]:
    """The status of every interval from the source's first event to the newest sealed one, oldest first.

    `entries` are the ledger's of this generation, `revisions` the source's.
    """
    wanted = _Wanted(group, generation, fingerprint.columns(group), fingerprint.gate(group))
    oldest = min((e.revision for e in entries.values()), default=0)
    newer = sorted((r for r in revisions if r.revision > oldest), key=lambda r: r.revision)
    return tuple(_status(wanted, interval, entries.get(interval), newer) for interval in expected(group, revisions, now))


def expected(group: FeatureGroup, revisions: Sequence[Revision], now: datetime) -> tuple[Interval, ...]:
    """The intervals that should be there: sealed (`ready_after` passed), from the source's first event on, empty ones included."""
    if not revisions:
        return ()
    if isinstance(group, SnapshotGroup):
        return (ALWAYS,)
    start = floor(min(r.first for r in revisions), group.cadence)
    end = floor(now - duration(group.source.ready_after), group.cadence)
    if end <= start:
        return ()
    if (end - start) // group.cadence > MOST_INTERVALS:
        raise RangeError(
            f"group {group.name} would have {(end - start) // group.cadence:,} intervals from {iso(start)} to {iso(end)}: is the first "
            f"event of {group.source.name} dated wrongly? At most {MOST_INTERVALS:,} are planned; correct it or use a longer cadence"
        )
    return tuple(split(Interval(start, end), group.cadence))


def inputs(group: FeatureGroup, interval: Interval) -> Interval:
    """The events that the rows of an interval depend on, those behind its closing rows included."""
    match group:
        case WindowedGroup():
            return Interval(interval.end - group.longest - group.cadence, interval.end)
        case ObservationGroup() | SnapshotGroup():
            return interval


def materialize(
    group: FeatureGroup, *, generation: int, found: Sequence[IntervalStatus], start: datetime | None, end: datetime | None
) -> GroupPlan:
    """The plan that makes everything OK that is due (missing or stale) and lies in `[start, end)`; None means no bound.

    A static group has no times: any range takes it in.
    """
    timeless = isinstance(group, SnapshotGroup)
    due = tuple(
        s
        for s in found
        if s.status in DUE and (timeless or ((start is None or s.interval.start >= start) and (end is None or s.interval.end <= end)))
    )
    return GroupPlan(group, generation, due)


def check_range(groups: Iterable[FeatureGroup], *, start: datetime | None, end: datetime | None, now: datetime) -> None:
    """Refuse a range that is reversed, ends in the future or is not on the grid of a group's cadence."""
    if start is not None and end is not None and end <= start:
        raise RangeError(f"the range --from {iso(start)} --to {iso(end)} is reversed or empty: --to is exclusive and must be later")
    for name, at in (("--from", start), ("--to", end)):
        if at is None:
            continue
        if at > now:
            raise RangeError(f"{name} {iso(at)} lies in the future (it is {iso(now)}): only what has happened can be computed")
        for group in groups:
            if not isinstance(group, SnapshotGroup) and floor(at, group.cadence) != at:
                raise RangeError(
                    f"{name} {iso(at)} is not on the grid of {group.name}, which runs every {group.every}: "
                    f"write {iso(floor(at, group.cadence))} or {iso(ceil(at, group.cadence))}"
                )


def covers(target: Sequence[IntervalStatus], old: Sequence[Interval]) -> bool:
    """Whether a new generation holds everything that the old one published, so that it can take its place."""
    ready = {s.interval for s in target if s.status == OK}
    return all(interval in ready for interval in old)


def basis(
    group: FeatureGroup, generation: Generation | None, interval: Interval, *, published_before: bool
) -> Literal["OBSERVED", "MODELLED"]:
    """Whether a publish of an interval is history that the platform did not live through (MODELLED) or was observed as it came.

    History is what was sealed by the generation's first commit, the first time that it is published; every correction is OBSERVED.
    """
    if published_before:
        return "OBSERVED"
    if generation is None or generation.first_published_at is None or _sealed_at(group, interval) <= generation.first_published_at:
        return "MODELLED"
    return "OBSERVED"


def modelled_from(group: FeatureGroup, interval: Interval) -> datetime:
    """Since when a MODELLED publish counts as known: the interval's end and the publish delay; a static group was always known."""
    if isinstance(group, SnapshotGroup):
        return ALWAYS.start
    return interval.end + duration(group.publish_delay)


def _sealed_at(group: FeatureGroup, interval: Interval) -> datetime:
    return interval.end + duration(group.source.ready_after)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a group's intervals should have been computed by."""

    group: FeatureGroup
    generation: int
    features: Mapping[str, str]
    gate: str


def _status(wanted: _Wanted, interval: Interval, entry: LedgerEntry | None, newer: Sequence[Revision]) -> IntervalStatus:
    group, generation = wanted.group, wanted.generation
    if entry is None:
        return IntervalStatus(group.name, generation, interval, MISSING, ("never computed",))
    data = _changed_data(group, interval, entry, newer)
    code = _changed_code(entry, wanted)
    if data:
        status, reasons = STALE_DATA, data + code
    elif code:
        status, reasons = STALE_CODE, code
    elif entry.state == "REJECTED":
        status, reasons = REJECTED, tuple(f"failed {name}" for name in entry.failed)
    else:
        status, reasons = OK, tuple(f"warning: {name}" for name in entry.warned)
    visible = entry.state == "PUBLISHED"
    return IntervalStatus(
        group.name, generation, interval, status, reasons, entry.rows, entry.publish_id if visible else None, entry.delta_version
    )


def _changed_data(group: FeatureGroup, interval: Interval, entry: LedgerEntry, newer: Sequence[Revision]) -> tuple[str, ...]:
    read = inputs(group, interval)
    late = [r for r in newer if r.first < read.end and r.end > read.start and r.revision > entry.revision]
    if not late:
        return ()
    last = max(late, key=lambda r: r.revision)
    span = f"{iso(min(r.first for r in late))} to {iso(max(r.end for r in late) - MICROSECOND)}"
    return (f"{group.source.name} changed from {span} (revision {last.revision}; this was computed from {entry.revision})",)


def _changed_code(entry: LedgerEntry, wanted: _Wanted) -> tuple[str, ...]:
    reasons = [f"lacks {column}" for column in wanted.features if column not in entry.features]
    reasons += [f"{c} was computed by an older definition" for c, h in wanted.features.items() if entry.features.get(c, h) != h]
    if entry.state == "REJECTED" and entry.gate != wanted.gate:
        reasons.append("was rejected by other expectations")
    return tuple(reasons)
