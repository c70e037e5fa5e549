"""What is the state of each interval, and what must be done about it: pure decisions over what was remembered."""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from feature_definitions.errors import UserError
from feature_definitions.intervals import ALWAYS, BEGINNING, DAY, MICROSECOND, Interval, ceil, duration, floor, iso, micros, outside, split
from feature_definitions.language import FeatureGroup, TransformGroup
from feature_definitions.planning import fingerprint
from feature_definitions.planning.revisions import RevisionIndex, changes, history
from feature_definitions.planning.upstream import Awaited, Upstream, ready_after, sources_of, starts_at
from feature_definitions.records import Generation, LedgerEntry, Promotion, Release, Revision
from feature_definitions.records import Publish as PublishRecord

MISSING, STALE_DATA, STALE_CODE, REJECTED, WAITING, OK = "MISSING", "STALE(data)", "STALE(code)", "REJECTED", "WAITING", "OK"
DUE = (MISSING, STALE_DATA, STALE_CODE)
MOST_INTERVALS = 500_000

Only = Literal["due", "missing", "stale", "all"]
Within = Literal["range", "restate"]
_TAKEN: Mapping[Only, tuple[str, ...]] = {
    "due": DUE,
    "missing": (MISSING,),
    "stale": (STALE_DATA, STALE_CODE),
    "all": (MISSING, STALE_DATA, STALE_CODE, REJECTED, WAITING, OK),
}


class RangeError(UserError):
    """A range that cannot be materialized: reversed, in the future, off the grid, or absurdly long."""


class TooManyIntervals(RangeError):
    """A group of which more intervals are expected than can be planned."""


class IntervalStatus(NamedTuple):
    """What is known of one interval of a group, and why it is so.

    `holds`: the gate rejected it, so that what reads its events waits; `released`: a person said that this need not. A WAITING interval
    says what it `waits_for`, or that a person is to decide on the `run` that computed it. `unreadable` are the intervals of groups that it
    reads and that cannot be read yet, whatever its status.
    """

    group: str
    generation: int
    interval: Interval
    status: str
    reasons: tuple[str, ...]
    rows: int | None = None
    publish_id: str | None = None
    delta_version: int | None = None
    holds: bool = False
    released: bool = False
    waits_for: tuple[Awaited, ...] = ()
    unreadable: tuple[Awaited, ...] = ()
    run: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """Which intervals of a range a run takes: by default those that are due, which means missing or stale.

    `only` takes one kind of these, or all whatever their status. `within="restate"`, for scheduled runs, leaves those alone that changed
    data made stale and that are older than the group's `restate_within`; an explicit range restates all of it.
    """

    only: Only = "due"
    within: Within = "range"

    def __post_init__(self) -> None:
        """Refuse what is neither."""
        if self.only not in _TAKEN:
            raise RangeError(f"only={self.only!r} chooses no intervals; write {', '.join(_TAKEN)}")
        if self.within not in ("range", "restate"):
            raise RangeError(f"within={self.within!r} is unknown; write range, or restate as scheduled runs do")


EVERYTHING_DUE = Choice()


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """What one run does to one group: which generation, which intervals, and why each; those that are `waiting` are left alone.

    `upstream` are the groups that a transform reads, as they were when it was planned.
    """

    group: FeatureGroup
    generation: int
    due: tuple[IntervalStatus, ...]
    waiting: tuple[IntervalStatus, ...] = ()
    upstream: tuple[Upstream, ...] = ()

    def withheld(self, rejected: Collection[Interval]) -> Mapping[Interval, tuple[Interval, ...]]:
        """The run's intervals that must not be published because it `rejected` earlier ones whose events they read, with those.

        What a person released before holds nothing, though it was rejected again. The same holds of what waits for a person.
        """
        holders = [s.interval for s in self.due if s.interval in rejected and not s.released]
        return waiting_for(self.group, holders, [s.interval for s in self.due if s.interval not in rejected])


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


def statuses(  # noqa: PLR0913  # what was done, what changed and what is read: each is another record
    group: FeatureGroup,
    *,
    generation: int,
    entries: Mapping[Interval, LedgerEntry],
    revisions: Sequence[Revision],
    now: datetime,
    releases: Iterable[Release] = (),
    upstream: Sequence[Upstream] = (),
) -> tuple[IntervalStatus, ...]:
    """The status of every interval from the first event to the newest sealed one, oldest first.

    Before it are those that were published of events that were taken back since: they are STALE(data) until they are published again.
    `entries` and `releases` are those of this generation, `revisions` those of the sources behind the group, `upstream` the groups that it
    reads. What is due is WAITING while an earlier interval whose events it reads is REJECTED, or one of a group that it reads cannot be
    read; what was published before stays as it is.
    """
    past = history(revisions)
    known = {read.name: past.changes.get(read.name, _UNCHANGED) for read in group.input_sources}
    meant = (fingerprint.columns(group), fingerprint.gate(group), _inputs_of(group))
    wanted = _Wanted(group, generation, *meant, known, upstream, _valid(group, releases, known, upstream), {})
    wanted_now = expected(group, past, now)
    found = _taken_back(wanted, wanted_now, entries, now)
    found += [_status_or_ok(wanted, interval, entries.get(interval)) for interval in wanted_now]
    holders = {s.interval: s.status for s in found if s.holds and s.status in (REJECTED, WAITING)}
    waiting = waiting_for(group, holders, [s.interval for s in found if s.status in DUE])
    return tuple(_waiting(s, waiting.get(s.interval, ()), holders) if s.status in DUE else s for s in found)


def upstream_of(
    group: FeatureGroup,
    *,
    generation: int,
    found: Sequence[IntervalStatus],
    entries: Mapping[Interval, LedgerEntry],
    publishes: Iterable[PublishRecord],
) -> Upstream:
    """What a transform sees of a group that it reads. What was never computed waits for intervals that are not there or lack a column.

    It does not for those that a person released, nor for what is only out of date: that is read as it is published. What was computed is
    WAITING while an interval that it reads is out of date, and STALE(data) when that was published again.
    """
    wanted = fingerprint.columns(group)
    unreadable = {
        s.interval: s.status
        for s in found
        if (not s.released if s.publish_id is None else not wanted.keys() <= entries[s.interval].features.keys())
    }
    outdated = {s.interval: s.status for s in found if s.status not in (OK, REJECTED) and s.interval not in unreadable}
    return Upstream(group, generation, unreadable, outdated, tuple(publishes))


def expected(group: FeatureGroup, revisions: Sequence[Revision], now: datetime) -> tuple[Interval, ...]:
    """The intervals that should be there: sealed (`ready_after` passed), from the sources' first event on, empty ones included.

    None is expected before every source has something. A group that retains its rows for a while expects none that are older,
    nor does one that would have to read such rows.
    """
    span = _expected(group, revisions, now)
    if span is None:
        return ()
    return (ALWAYS,) if group.is_static else tuple(split(span, group.cadence))


def refuse_too_many(group: FeatureGroup, revisions: Sequence[Revision], now: datetime) -> None:
    """Raise TooManyIntervals if more intervals are expected of the group than can be planned."""
    _expected(group, revisions, now)


def _expected(group: FeatureGroup, revisions: Sequence[Revision], now: datetime) -> Interval | None:
    """From the first interval that is expected to the last."""
    start = begins(group, revisions, now)
    if start is None:
        return None
    if group.is_static:
        return ALWAYS
    end = floor(now - ready_after(group), group.cadence)
    if end <= start:
        return None
    if (end - start) // group.cadence > MOST_INTERVALS:
        behind = " or ".join(source.name for source in sources_of(group))
        raise TooManyIntervals(
            f"group {group.name} would have {(end - start) // group.cadence:,} intervals from {iso(start)} to {iso(end)}: is the first "
            f"event of {behind} dated wrongly? At most {MOST_INTERVALS:,} are planned; correct it or use a longer cadence"
        )
    return Interval(start, end)


def begins(group: FeatureGroup, revisions: Iterable[Revision], now: datetime) -> datetime | None:
    """When the first interval begins that should be there; None while a source of the group has no event."""
    first = starts_at(group, history(revisions).first_events)
    if first is None or group.is_static:
        return first
    return max(floor(first, group.cadence), _readable_from(group, now))


def _readable_from(group: FeatureGroup, now: datetime) -> datetime:
    """The first interval of which rows are kept, and those that it reads."""
    kept = [] if group.retain is None else [kept_from(now, group.retain)]
    kept += [kept_from(now, read.retain) + group.longest for read in group.input_groups if read.retain is not None]
    return max(kept, default=BEGINNING)


def _taken_back(
    wanted: "_Wanted", expected_now: Sequence[Interval], entries: Mapping[Interval, LedgerEntry], now: datetime
) -> list[IntervalStatus]:
    """The intervals before the first one expected that show events which were taken back since."""
    first, oldest = expected_now[0] if expected_now else None, _readable_from(wanted.group, now)
    before = entries if first is None else [i for i in entries if i.start <= first.start and i < first]
    shown = [i for i in before if entries[i].state == "PUBLISHED" and i.start >= oldest]
    return [s for i in sorted(shown) if (s := _status(wanted, i, entries[i])).status == STALE_DATA]


def kept_from(now: datetime, retain: str) -> datetime:
    """The midnight before which rows may be deleted: whole dates are."""
    return floor(now - duration(retain), DAY)


def inputs(group: FeatureGroup, interval: Interval) -> Interval:
    """The events that an interval's rows depend on: those of its windows, and those behind closing rows."""
    return Interval(_inputs_of(group)(interval), interval.end)


def waiting_for(group: FeatureGroup, rejected: Iterable[Interval], intervals: Iterable[Interval]) -> dict[Interval, tuple[Interval, ...]]:
    """Which of these intervals wait for which rejected ones: the later ones whose windows read events of one.

    Its bad events would come back through their windows. A closing row is no reason to wait: it has the empty values whatever they were.
    """
    holders, found = sorted(rejected), {}
    ends, since = [holder.end for holder in holders], _reading(group, group.longest)
    for interval in intervals if holders else ():
        first, last = bisect_right(ends, since(interval)), bisect_right(ends, interval.start)
        if first < last:
            found[interval] = tuple(holders[first:last])
    return found


def _inputs_of(group: FeatureGroup) -> Callable[[Interval], datetime]:
    """When the `inputs` of a group's intervals begin."""
    return _reading(group, group.longest + group.cadence if group.closes_rows else group.longest)


def _reading(group: FeatureGroup, reach: timedelta) -> Callable[[Interval], datetime]:
    """When the events begin so far before an interval's end: without windows those of the interval, with a lifetime window all."""
    if group.lifetime:
        return lambda _: BEGINNING
    if group.row_time != "end":
        return lambda interval: interval.start
    return lambda interval: interval.end - reach


def materialize(
    group: FeatureGroup,
    *,
    generation: int,
    found: Sequence[IntervalStatus],
    start: datetime | None,
    end: datetime | None,
    choice: Choice = EVERYTHING_DUE,
) -> GroupPlan:
    """The plan that makes everything OK that is chosen and lies in `[start, end)`; None means no bound.

    A static group has no times: any range takes it in. What waits for a rejected interval is left alone, unless that one is tried again;
    so is what waits for another group.
    """
    inside = in_range(group, found, start=start, end=end)
    chosen = _chosen(group, inside, found, choice)
    tried = {s.interval for s in chosen}
    holders = {s.interval: WAITING if s.run is not None else REJECTED for s in found if s.holds and s.interval not in tried}
    waiting = waiting_for(group, holders, tried)
    due = tuple(s for s in chosen if s.interval not in waiting and not s.unreadable)
    left = [_waiting(s, waiting.get(s.interval, ()), holders) for s in chosen if s.interval in waiting or s.unreadable]
    left += [s for s in inside if s.status == WAITING and s.interval not in tried]
    return GroupPlan(group, generation, due, tuple(sorted(left, key=lambda s: s.interval)))


def in_range(group: FeatureGroup, found: Sequence[IntervalStatus], *, start: datetime | None, end: datetime | None) -> list[IntervalStatus]:
    """Those of a group's intervals that lie in `[start, end)`, None being no bound; a static group has no times: any range takes it in."""
    if group.is_static or (start is None and end is None):
        return [*found]
    return [s for s in found if (start is None or s.interval.start >= start) and (end is None or s.interval.end <= end)]


def check_range(groups: Iterable[FeatureGroup], *, start: datetime | None, end: datetime | None, now: datetime) -> None:
    """Refuse a range that is reversed, ends in the future or is not on the grid of a group's cadence."""
    check_order(start=start, end=end)
    for name, at in (("--from", start), ("--to", end)):
        if at is None:
            continue
        if at > now:
            raise RangeError(f"{name} {iso(at)} lies in the future (it is {iso(now)}): only what has happened can be computed")
        for group in groups:
            if not group.is_static and floor(at, group.cadence) != at:
                raise RangeError(
                    f"{name} {iso(at)} is not on the grid of {group.name}, which runs every {group.every}: "
                    f"write {iso(floor(at, group.cadence))} or {iso(ceil(at, group.cadence))}"
                )


def check_order(*, start: datetime | None, end: datetime | None) -> None:
    """Refuse a range that is reversed or empty."""
    if start is not None and end is not None and end <= start:
        raise RangeError(f"the range --from {iso(start)} --to {iso(end)} is reversed or empty: --to is exclusive and must be later")


def may_promote(promotions: Sequence[Promotion], number: int) -> bool:
    """Whether a run may show a generation to readers: what a person chose stands until a generation comes that was not there then."""
    chosen = next((p for p in reversed(promotions) if p.by == "person"), None)
    return chosen is None or number > chosen.newest


def covers(target: Sequence[IntervalStatus], old: Sequence[Interval]) -> bool:
    """Whether a new generation holds everything that the old one published, so that it can take its place."""
    return not outside(old, (s.interval for s in target if s.status == OK))


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
    if group.is_static:
        return ALWAYS.start
    return interval.end + duration(group.publish_delay)


def known_from(work: GroupPlan, interval: Interval) -> datetime:
    """Since when a MODELLED publish of a plan's interval counts as known: never before what it read."""
    span = inputs(work.group, interval)
    return max([modelled_from(work.group, interval), *(at for each in work.upstream if (at := each.known_from(span)) is not None)])


def _sealed_at(group: FeatureGroup, interval: Interval) -> datetime:
    return interval.end + ready_after(group)


_UNCHANGED = changes(())


class _Wanted(NamedTuple):
    """What a group's intervals should have been computed by.

    `lacking` is what was found of features and gates before: the entries of one publish share them.
    """

    group: FeatureGroup
    generation: int
    features: Mapping[str, str]
    gate: str
    inputs: Callable[[Interval], datetime]
    changes: Mapping[str, RevisionIndex]
    upstream: Sequence[Upstream]
    released: Mapping[Interval, Release]
    lacking: dict[tuple[int, str, str], tuple[str, ...]]


def _valid(
    group: FeatureGroup, releases: Iterable[Release], known: Mapping[str, RevisionIndex], upstream: Sequence[Upstream]
) -> dict[Interval, Release]:
    """The releases that still count: of what changed in an interval's events since, nobody has said that it may pass."""

    def moved(release: Release) -> bool:
        span = inputs(group, release.interval)
        if not isinstance(group, TransformGroup):
            return any(each.after(span, release.revision) for each in known.values())
        came = any(r.recorded_at > release.released_at for each in known.values() for r in each.after(span, 0))
        return came or any(each.later(span, f"p{micros(release.released_at):017d}") for each in upstream)

    return {release.interval: release for release in sorted(releases, key=lambda release: release.released_at) if not moved(release)}


def _chosen(group: FeatureGroup, inside: Sequence[IntervalStatus], found: Sequence[IntervalStatus], choice: Choice) -> list[IntervalStatus]:
    """The intervals inside a range that a choice takes; a group restates what ended `restate_within` before the newest sealed interval."""
    taken = [s for s in inside if s.status in _TAKEN[choice.only]]
    if choice.within == "range" or not found:
        return taken
    oldest = found[-1].interval.end - duration(group.restate_within)
    return [s for s in taken if s.status != STALE_DATA or s.interval.end >= oldest]


def _waiting(s: IntervalStatus, held_by: Sequence[Interval], statuses: Mapping[Interval, str]) -> IntervalStatus:
    """The interval as one that waits for others of its group, which hold it, or for others that it reads; as it was, if it need not."""
    mine = (Awaited(s.group, held_by[0], statuses[held_by[0]], held_by[-1], len(held_by)),) if held_by else ()
    awaited = (*mine, *s.unreadable)
    if not awaited:
        return s
    stale = s.reasons if s.status in (STALE_DATA, STALE_CODE) else ()
    return s._replace(status=WAITING, reasons=(*(each.reason(s.group) for each in awaited), *stale), waits_for=awaited)


def _and_more(intervals: Sequence[Interval]) -> str:
    return f" and {len(intervals) - 1} more" if len(intervals) > 1 else ""


def _status_or_ok(wanted: _Wanted, interval: Interval, entry: LedgerEntry | None) -> IntervalStatus:
    """What `_status` says, sooner found where there is nothing to say, as of most intervals."""
    if entry is None or not _is_plain(wanted, entry) or wanted.upstream or wanted.released:
        return _status(wanted, interval, entry)
    start, end = wanted.inputs(interval), interval.end
    for known in wanted.changes.values():
        if known.newest(start, end) > entry.revision:
            return _status(wanted, interval, entry)
    return IntervalStatus(wanted.group.name, wanted.generation, interval, OK, (), entry.rows, entry.publish_id, entry.delta_version)


def _is_plain(wanted: _Wanted, entry: LedgerEntry) -> bool:
    """Whether an entry was published without a warning, by the group as it is defined, from the events of one revision."""
    return entry.state == "PUBLISHED" and not entry.warned and not entry.inputs and not _changed_code(entry, wanted)


def _status(wanted: _Wanted, interval: Interval, entry: LedgerEntry | None) -> IntervalStatus:
    group, generation = wanted.group, wanted.generation
    span = Interval(wanted.inputs(interval), interval.end)
    unreadable = tuple([awaited for each in wanted.upstream for awaited in each.waits_for(span)]) if wanted.upstream else ()
    if entry is None:
        return IntervalStatus(group.name, generation, interval, MISSING, ("never computed",), unreadable=unreadable)
    data, code = _changed_data(wanted, span, entry), _changed_code(entry, wanted)
    outdated: tuple[Awaited, ...] = ()
    if data:
        status, reasons = STALE_DATA, data + code
    elif code:
        status, reasons = STALE_CODE, code
    elif entry.state == "REJECTED":
        status, reasons = REJECTED, tuple(f"failed {name}" for name in entry.failed)
    elif entry.state == "WAITING":
        status, reasons = WAITING, (f"waits for approval of run {entry.run_id}", *(f"warning: {name}" for name in entry.warned))
    elif outdated := tuple(awaited for each in wanted.upstream for awaited in each.outdates(span)):
        status, reasons = WAITING, tuple(awaited.reason(group.name) for awaited in outdated)
    else:
        status, reasons = OK, tuple(f"warning: {name}" for name in entry.warned)
    release = wanted.released.get(interval) if wanted.released else None
    visible = entry.state == "PUBLISHED"
    if status == REJECTED and release is not None:
        reasons += (f"released {iso(release.released_at)}: {release.reason or 'no reason given'}",)
    return IntervalStatus(
        group.name,
        generation,
        interval,
        status,
        reasons,
        entry.rows,
        entry.publish_id if visible else None,
        entry.delta_version,
        holds=not visible and release is None,
        released=release is not None,
        waits_for=outdated,
        unreadable=unreadable,
        run=entry.run_id if entry.state == "WAITING" and status == WAITING else None,
    )


def _changed_data(wanted: _Wanted, span: Interval, entry: LedgerEntry) -> tuple[str, ...]:
    found = []
    for name, known in wanted.changes.items():
        seen = int(entry.inputs.get(name, entry.revision))
        if late := known.after(span, seen):
            last = max(late, key=lambda r: r.revision)
            when = f"{iso(min(r.first for r in late))} to {iso(max(r.end for r in late) - MICROSECOND)}"
            found.append(f"{name} changed from {when} (revision {last.revision}; this was computed from {seen})")
    for each in wanted.upstream:
        if entry.inputs.get(each.group.name) != each.content(span):
            later = each.later(span, entry.publish_id)
            which = f" {later[0]}{_and_more(later)}" if later else ""
            found.append(f"{each.group.name}{which} was published again since this was computed")
    return tuple(found)


def _changed_code(entry: LedgerEntry, wanted: _Wanted) -> tuple[str, ...]:
    key = id(entry.features), entry.state, entry.gate
    if key not in wanted.lacking:
        wanted.lacking[key] = _lacking(entry, wanted)
    return wanted.lacking[key]


def _lacking(entry: LedgerEntry, wanted: _Wanted) -> tuple[str, ...]:
    reasons = [f"lacks {column}" for column in wanted.features if column not in entry.features]
    reasons += [f"{c} was computed by an older definition" for c, h in wanted.features.items() if entry.features.get(c, h) != h]
    if entry.state != "PUBLISHED" and entry.gate != wanted.gate:
        reasons.append(f"was {'rejected' if entry.state == 'REJECTED' else 'judged'} by other expectations")
    return tuple(reasons)
