"""A group's generation as it can be read: where it lies, what it means, and since when each of its publishes is known. Needs no Spark."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from feature_definitions import layout
from feature_definitions.intervals import MICROSECOND, Interval, instant, micros
from feature_definitions.language import FeatureGroup, Mode
from feature_definitions.language.group_rules import RowTime
from feature_definitions.reading import NEVER
from feature_definitions.records import Committed, Epoch, Erasure, Publish
from feature_definitions.sql.column_types import ColumnTypes
from lake import delta

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    Moments = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Published:
    """A group's generation as it can be read: where it lies, what it means, and since when each publish is known.

    `empty` is the generation's: what its columns hold for an entity without events, as its last publish kept it. `epochs` are the syncs of
    the group, of all generations, oldest first, and `erasures` those of all entities: they are needed to read it as it was served. With
    `past` it is read as it was when there were these publishes and no later ones, whose rows lie in its tables.
    """

    group: FeatureGroup
    generation: int
    lake: str
    types: ColumnTypes
    publishes: tuple[Publish, ...]
    empty: str | None = None
    epochs: tuple[Epoch, ...] = ()
    past: bool = False
    erasures: tuple[Erasure, ...] = ()


@dataclass(frozen=True, slots=True)
class AsOf:
    """How time is read: `as_known` sees a row from `max(T, known_from)`, `event_time` from `T` on, in its newest correction, and
    `as_served` from the end of the first sync that brought it online.

    `strict` sees observations only after their own time (T < t): the spine's own events must not explain themselves.
    """

    mode: Mode = "as_known"
    strict: bool = False


_AS_KNOWN = AsOf()


def known(published: Published, clock: AsOf = _AS_KNOWN) -> "pa.Table":
    """When each publish of each interval became known: `publish_id`, `start` and `known` in microseconds, `modelled`, the `order`.

    What is not in it never was published, or never served. As it was served nothing is modelled.
    """
    import pyarrow as pa

    order = {name: n for n, name in enumerate(sorted({p.publish_id for p in published.publishes}))}
    found = [(p, seen) for p in published.publishes if (seen := _seen(published, p, clock)) is not None]
    rows = {
        "publish_id": [p.publish_id for p, _ in found],
        "start": [micros(p.interval.start) for p, _ in found],
        "known": [seen for _, seen in found],
        "modelled": [p.basis == "MODELLED" and clock.mode != "as_served" for p, _ in found],
        "order": [order[p.publish_id] for p, _ in found],
    }
    kinds = {"publish_id": pa.string(), "start": pa.int64(), "known": pa.int64(), "modelled": pa.bool_(), "order": pa.int64()}
    return pa.table(rows, schema=pa.schema([*kinds.items()]))


def on_grid(group: FeatureGroup, publishes: tuple[Publish, ...]) -> tuple[Publish, ...]:
    """A generation's publishes by the intervals that `starts` tells of its rows: one of another cadence, which the group had before it was
    defined anew, has rows at the ends of its intervals all the same.
    """
    if not publishes or group.row_time != "end" or publishes[0].interval.end - publishes[0].interval.start == group.cadence:
        return publishes
    return tuple(replace(each, interval=Interval(each.interval.end - group.cadence, each.interval.end)) for each in publishes)


def starts(group: FeatureGroup, at: "Moments") -> "Moments":
    """The start of the interval that each row of a group belongs to, by the row's time; microseconds."""
    return starts_by(group.row_time, group.cadence // MICROSECOND, at)


def starts_by(row_time: RowTime, cadence: int, at: "Moments") -> "Moments":
    """What `starts` tells, by what of a group decides it; the cadence in microseconds."""
    match row_time:
        case "end":
            return at - cadence
        case "event":
            return at - at % cadence
        case "none":
            return at


def _seen(published: Published, publish: Publish, clock: AsOf) -> int | None:
    """From when on readers see the rows of a publish, their own times aside; None if they never did."""
    seen = micros(publish.known_from)
    if clock.mode != "as_served":
        return seen
    return _online_from(published, max(seen, micros(publish.interval.end)) if published.group.by_coverage else seen)


def _online_from(published: Published, seen: int) -> int | None:
    """The end of the first sync that brought what was known by a time; None if none has."""
    told = online_states(published)
    place = bisect_left(told, seen, key=lambda state: state[1])
    return told[place][0] if place < len(told) else None


def none_before_its_commit(published: Published, commits: Iterable[Committed]) -> Published:
    """A group whose publishes are known from their commits on at the earliest: of MODELLED ones no sync knew before they were there."""
    there = {each.publish_id: each.committed_at for each in commits if each.group == published.group.name}
    publishes = (
        replace(each, known_from=max(each.known_from, there.get(each.publish_id, each.known_from))) for each in published.publishes
    )
    return replace(published, publishes=tuple(publishes))


def online_states(published: Published) -> list[tuple[int, int]]:
    """From when on what was online that was known by when, in microseconds, both rising: one for each finished sync of the generation.

    Those that brought an earlier state back are left out.
    """
    states: list[tuple[int, int]] = []
    for epoch in published.epochs:
        if epoch.finished and epoch.generation == published.generation:
            state = micros(epoch.ended_at or epoch.synced_at), micros(epoch.synced_at)
            if not states or state[1] >= states[-1][1]:
                states.append((max(state[0], states[-1][0]) if states else state[0], state[1]))
    return states


FOREVER = 2**63 - 1
"""Later than all times, in microseconds."""

Certainty = Literal["certain", "during a sync", "another generation", "rolled back", "lost", "erased", "not online"]
"""How sure it is what readers were answered at a time: what the last sync brought; that or what the one under way brings; the values of
another generation; those of a state that had been brought back; what the last sync brought, or less, as the store lost some of it before
the next; nothing, as the entity was erased online, though the lake has its values; none, as no sync had finished."""


def certainty(published: Published) -> tuple[tuple[int, Certainty], ...]:
    """From when on it is how sure what readers were answered, in microseconds; before the first it was not online."""
    steps: list[tuple[int, Certainty]] = []
    state: Certainty = "not online"
    newest: datetime | None = None
    ended: int | None = None
    for epoch in published.epochs:
        last = steps[-1][0] if steps else NEVER
        if epoch.found_lost and ended is not None:
            steps[ended] = steps[ended][0], "lost"
        if epoch.begun_at is not None:
            steps.append((max(last, micros(epoch.begun_at)), "not online" if state == "not online" else "during a sync"))
        if epoch.finished:
            back = newest is not None and epoch.synced_at < newest
            state = "another generation" if epoch.generation != published.generation else "rolled back" if back else "certain"
            newest = epoch.synced_at if epoch.generation == published.generation and not back else newest
            ended = len(steps)
            steps.append((max(steps[-1][0] if steps else NEVER, micros(epoch.ended_at or epoch.synced_at)), state))
    return tuple(steps)


def erased(published: Published) -> dict[str, tuple[tuple[int, int], ...]]:
    """From when until when entities of the group were erased online, in microseconds, by their `entity_text`.

    One that was lifted is online again from the end of the next sync on.
    """
    ends = sorted(micros(epoch.ended_at or epoch.synced_at) for epoch in published.epochs if epoch.finished)
    spans: dict[str, tuple[tuple[int, int], ...]] = {}
    mine = (each for each in published.erasures if each.entity == published.group.entity.name)
    for each in sorted(mine, key=lambda each: (each.at, not each.lifted)):
        before, at = spans.get(each.key, ()), micros(each.at)
        is_gone = bool(before) and before[-1][1] == FOREVER
        if each.lifted and is_gone:
            until = next((end for end in ends if end >= at), FOREVER - 1)
            spans[each.key] = (*before[:-1], (before[-1][0], until))
        elif not each.lifted and not is_gone:
            spans[each.key] = (*before, (at, FOREVER))
    return spans


def falls_back(published: Published, clock: AsOf) -> bool:
    """Whether rows may have been retracted, so that readers fall back to the ones before: windowed rows never vanish."""
    history = layout.history_table(published.lake, published.group.name, published.generation)
    return clock.mode != "event_time" and not published.group.keeps_rows and delta.exists(history)


def coverage(published: Published, clock: AsOf) -> tuple[tuple[int, int], ...]:
    """When which coverage began, as (visible from, newest visible interval end) in microseconds, both strictly rising."""
    visible: dict[int, int] = {}
    for publish in published.publishes:
        end = micros(publish.interval.end)
        seen: int | None = end if clock.mode == "event_time" else max(end, micros(publish.known_from))
        if clock.mode == "as_served":
            seen = _seen(published, publish, clock)
        if seen is not None:
            visible[end] = min(seen, visible.get(end, seen))
    steps: list[tuple[int, int]] = []
    for seen, end in sorted((seen, end) for end, seen in visible.items()):
        if steps and end <= steps[-1][1]:
            continue
        if steps and steps[-1][0] == seen:
            steps.pop()
        steps.append((seen, end))
    return tuple(steps)


def covered(published: Published, now: datetime) -> datetime | None:
    """The group's coverage as it is known `now`: the newest visible interval end."""
    ends = [end for seen, end in coverage(published, AsOf()) if seen <= micros(now)]
    return instant(ends[-1]) if ends else None
