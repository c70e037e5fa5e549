"""What DESIGN section 5 says about time, in plain Python: slow, obvious, and written from its sentences rather than from the engine.

An event is a dict of typed values, column -> value (aware UTC datetimes, Decimal for decimals, None for null). SQL is never parsed: the
callables in `functions` stand for it, keyed by its text; those for `of` and `where` take an event, those of a Derived the feature values.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from feature_definitions.intervals import ALWAYS, Interval, duration
from feature_definitions.language import (
    Derived,
    Feature,
    FeatureGroup,
    FeatureService,
    Join,
    ObservationGroup,
    Rows,
    SnapshotGroup,
    Source,
    TransformGroup,
    WindowedGroup,
)
from feature_definitions.language.features import LIFETIME

Event = Mapping[str, Any]
Key = tuple[object, ...]
Values = Mapping[str, Any]
Functions = Mapping[str, Callable[[Mapping[str, Any]], Any]]
Mode = Literal["event_time", "as_known"]
Status = Literal["PRESENT", "EMPTY", "EXPIRED", "NOT_FOUND", "HELD"]

NONE: Functions = {}
"""For groups that have no SQL but the names of columns."""

WIDE = Context(prec=2000)
EIGHTEEN_PLACES = Decimal("1e-18")


# ------------------------------------------------------------------------------------------------------------------ the events


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event as one ingest brought it; ingests count up."""

    ingest: int
    row: Event


def live_rows(source: Source, arrivals: Iterable[Arrival]) -> list[Event]:
    """The events that count: of those with one id only the newest, whatever their dates and entities; without an id all of them.

    Newest is the greatest `arrived_at` (where the source has it), then the latest ingest, then what it brought last. Where a source has
    snapshots, an id is of one of them only.
    """
    if not source.id:
        return [a.row for a in arrivals]
    newest: dict[Key, Arrival] = {}
    for arrival in arrivals:
        taken = _time(source, arrival.row) if source.shape == "snapshots" else None
        identity = (taken, *(arrival.row[name] for name in source.id))
        held = newest.get(identity)
        if held is None or _recency(source, arrival) >= _recency(source, held):
            newest[identity] = arrival
    return [a.row for a in newest.values()]


def derived(source: Source, events: Iterable[Event], functions: Functions) -> list[Event]:
    """The events with what the source derives; under `prev` a function finds the row before, an empty one if there is none."""
    rows = list(events)
    found = []
    for event in rows:
        row = {**event, "prev": _before(source, event, rows) or dict.fromkeys(source.columns)}
        for name, sql in source.derive.items():
            row[name] = functions[sql](row)
        del row["prev"]
        found.append(row)
    return found


def _before(source: Source, event: Event, rows: Iterable[Event]) -> Event | None:
    """The newest row before, of those with equal `lag_over` (null equals nothing), if it is at most `lag_within` older."""
    place, over = (_time(source, event), _tie(source, event)), tuple(event[name] for name in source.lag_over)
    same = [e for e in rows if None not in over and tuple(e[name] for name in source.lag_over) == over]
    before = [e for e in same if (_time(source, e), _tie(source, e)) < place]
    newest = max(before, key=lambda e: (_time(source, e), _tie(source, e)), default=None)
    return newest if newest is not None and _time(source, event) - _time(source, newest) <= source.lag else None


def _recency(source: Source, arrival: Arrival) -> Key:
    arrived = _sortable(arrival.row[source.arrived_at]) if source.arrived_at else None
    return (arrived, arrival.ingest)


def _sortable(value: object) -> Key:
    """The value as something that sorts, null before everything else."""
    return (value is not None, value)


def _time(source: Source, event: Event) -> datetime:
    return event[source.event_timestamp or ""]  # type: ignore[no-any-return]  # sources of events have one


def _within(source: Source, events: Iterable[Event], start: datetime, end: datetime) -> list[Event]:
    time = source.event_timestamp or ""  # sources of events have one
    return [e for e in events if start <= e[time] < end]


def _by_key(group: FeatureGroup, events: Iterable[Event], functions: Functions) -> Iterator[tuple[Key, list[Event]]]:
    """The events that the group's `where` keeps, per entity; those with a null in their key belong to nobody."""
    entities: dict[Key, list[Event]] = {}
    for event in events:
        key = tuple(event[name] for name in group.entity.keys)
        if None not in key and _kept(group.where, event, functions):
            entities.setdefault(key, []).append(event)
    yield from entities.items()


def _kept(where: str | None, event: Event, functions: Functions) -> bool:
    return where is None or functions[where](event) is True


# -------------------------------------------------------------------------------------------------------------------- the rows


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """A row of a group: an entity's values at `at` (T); `empties_at` is for windowed groups only."""

    key: Key
    at: datetime
    values: Values
    empties_at: datetime | None = None
    held: bool = False


def rows(group: FeatureGroup, events: Sequence[Event], interval: Interval, *, functions: Functions) -> list[FeatureRow]:
    """The rows that one run of any group's interval gives."""
    match group:
        case WindowedGroup():
            return windowed_rows(group, events, [interval.end], functions=functions)
        case ObservationGroup():
            return observation_rows(group, events, [interval], functions=functions)
        case SnapshotGroup() if group.source.shape == "snapshots":
            return snapshot_rows(group, events, interval, functions=functions)
        case SnapshotGroup():
            return static_rows(group, events, functions=functions)


def windowed_rows(group: WindowedGroup, events: Iterable[Event], ends: Iterable[datetime], *, functions: Functions) -> list[FeatureRow]:
    """A row for each entity and each grid time in `ends` with an event in the longest window, and the closing rows.

    Under a lifetime window that is each entity with any event before, at every time, so that nothing closes. A row then stands only until
    the next grid time, which has one of its own: who has none there had all events taken back.
    """
    entities = list(_by_key(group, events, functions))
    found = (_windowed_row(group, key, own, end, functions) for end in sorted(set(ends)) for key, own in entities)
    return [row for row in found if row is not None]


def _windowed_row(group: WindowedGroup, key: Key, own: list[Event], end: datetime, functions: Functions) -> FeatureRow | None:
    longest, cadence, source = group.longest, group.cadence, group.source
    if group.lifetime:
        live = [e for e in own if _time(source, e) < end]
        return FeatureRow(key, end, _window_values(group, live, end, functions), end + cadence) if live else None
    if live := _within(source, own, end - longest, end):
        values = _window_values(group, live, end, functions)
        newest = max(_time(source, e) for e in live)
        return FeatureRow(key, end, values, _first_empty(newest, end, longest, cadence))
    if _within(source, own, end - longest - cadence, end - cadence):
        return FeatureRow(key, end, empty_values(group, functions), end)
    return None


def _first_empty(newest: datetime, end: datetime, longest: timedelta, cadence: timedelta) -> datetime:
    at = end
    while newest >= at - longest:
        at += cadence
    return at


def empty_values(group: WindowedGroup, functions: Functions = NONE) -> dict[str, Any]:
    """The values of an entity without events: counts 0, sums 0, other features null, and what is derived from these."""
    return _window_values(group, [], ALWAYS.end, functions)


def _window_values(group: WindowedGroup, events: list[Event], end: datetime, functions: Functions) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(group.outputs)
    for feature in group.features:
        if isinstance(feature, Feature):
            for column, own, window in _parts(feature, events):
                live = [e for e in own if _time(group.source, e) < end] if window == LIFETIME else _within_window(group, own, window, end)
                values[column] = _aggregate(feature, live, group.source, functions, window=window)
    for feature in group.features:
        if isinstance(feature, Derived):
            values[feature.name] = functions[feature.expression](values)
    return values


def _within_window(group: WindowedGroup, events: Iterable[Event], window: str | Rows, end: datetime) -> list[Event]:
    return _within(group.source, events, end - duration(window.within if isinstance(window, Rows) else window), end)


def _parts(feature: Feature, events: list[Event]) -> Iterator[tuple[str, list[Event], str | Rows]]:
    """Each output column of a feature with the events that count for it (those of its value of `by`) and its window."""
    columns = iter(feature.columns)
    parts = [events]
    if feature.by is not None:
        [(by, values)] = feature.by.items()
        parts = [[e for e in events if e[by] == value] for value in values]
    for own in parts:
        for window in feature.windows:
            yield next(columns), own, window


def observation_rows(
    group: ObservationGroup, events: Iterable[Event], intervals: Iterable[Interval], *, functions: Functions
) -> list[FeatureRow]:
    """A row for each entity and time at which it was observed in `intervals`, at equal times the newest: greatest (arrived_at, id)."""
    found = []
    for interval in sorted(set(intervals)):
        for key, own in _by_key(group, _within(group.source, events, interval.start, interval.end), functions):
            for at in sorted({_time(group.source, e) for e in own}):
                newest = max((e for e in own if _time(group.source, e) == at), key=lambda e: _precedence(group, e))
                found.append(FeatureRow(key, at, {name: newest[name] for name in group.columns}))
    return found


def snapshot_rows(group: SnapshotGroup, events: Iterable[Event], interval: Interval, *, functions: Functions) -> list[FeatureRow]:
    """The full states that were extracted in the interval: at each such time a row for each entity in it, of several the greatest (id)."""
    inside = _within(group.source, events, interval.start, interval.end)
    found = []
    for at in sorted({_time(group.source, e) for e in inside}):
        for key, own in _by_key(group, [e for e in inside if _time(group.source, e) == at], functions):
            newest = max(own, key=lambda e: _precedence(group, e))
            found.append(FeatureRow(key, at, {name: newest[name] for name in group.columns}))
    return found


def static_rows(group: SnapshotGroup, events: Iterable[Event], *, functions: Functions) -> list[FeatureRow]:
    """A row for each entity of a static source, at 1970-01-01; of several rows of an entity the greatest (arrived_at, id)."""
    found = []
    for key, own in _by_key(group, events, functions):
        newest = max(own, key=lambda e: _precedence(group, e))
        found.append(FeatureRow(key, ALWAYS.start, {name: newest[name] for name in group.columns}))
    return found


def _precedence(group: ObservationGroup | SnapshotGroup, event: Event) -> Key:
    """What decides between rows of one time: arrived_at, id, and at last the values shown, so that nothing is ever random."""
    return (*_tie(group.source, event), *(_sortable(event[name]) for name in group.columns))


def _tie(source: Source, event: Event) -> Key:
    names = (*((source.arrived_at,) if source.arrived_at else ()), *source.id)
    return tuple(_sortable(event[name]) for name in names)


# ------------------------------------------------------------------------------------------------------------ the aggregations


ROUGH = ("stddev", "variance")
"""Aggregations whose last digits depend on how they are computed."""


def _aggregate(feature: Feature, events: list[Event], source: Source, functions: Functions, *, window: str | Rows) -> Any:
    """The value of a feature over the events of one window."""
    events = [e for e in events if _kept(feature.where, e, functions)]
    if isinstance(window, Rows):
        values = {id(e): None if feature.of is None else _value(feature.of, e, source, functions) for e in events}
        events = sorted(events, key=lambda e: (_time(source, e), _tie(source, e), _sortable(values[id(e)])))[-window.count :]
    if feature.of is None:
        return len(events) if feature.aggregation == "count" else max((_time(source, e) for e in events), default=None)
    pairs = [(e, _value(feature.of, e, source, functions)) for e in events]
    pairs = [(e, value) for e, value in pairs if value is not None]
    if feature.aggregation in ("first", "last", "last_n", "time_since_last"):
        ordered = sorted((_time(source, e), _tie(source, e), value) for e, value in pairs)
        return _newest(feature, ordered) if ordered else None
    values = [value for _, value in pairs]
    if feature.aggregation in ("mode", "top_k", "quantile"):
        return _chosen(feature, values) if values else None
    return _fold(
        feature.aggregation,
        values,
        _zero(source.columns.get(feature.of.strip(), "double" if feature.of.strip() in source.derive else "int64")),
    )


def _newest(feature: Feature, ordered: list[tuple[datetime, Key, Any]]) -> Any:
    match feature.aggregation:
        case "first":
            return ordered[0][2]
        case "last_n":
            return [value for _, _, value in reversed(ordered)][: feature.k]
        case "time_since_last":
            return ordered[-1][0]
    return ordered[-1][2]


def _chosen(feature: Feature, values: list[Any]) -> Any:
    """The value of the rank floor(q * (n - 1)), or the most frequent ones, the smaller first of those that come as often."""
    if feature.aggregation == "quantile":
        return float(sorted(values)[math.floor((feature.q or 0) * (len(values) - 1))])
    often = sorted(set(values), key=lambda value: (-values.count(value), value))
    return often[0] if feature.aggregation == "mode" else often[: feature.k]


def _value(of: str, event: Event, source: Source, functions: Functions) -> Any:
    column = of.strip()
    return event[column] if column in source.columns or column in source.derive else functions[of](event)


def _zero(kind: str) -> Any:
    return 0.0 if kind == "double" else Decimal(0) if kind.startswith("decimal") else 0


def _fold(aggregation: str, values: list[Any], zero: Any) -> Any:
    folds: dict[str, Callable[[list[Any]], Any]] = {
        "count": len,
        "count_distinct": lambda some: len(set(some)),
        "approx_count_distinct": lambda some: len(set(some)),
        "sum": lambda some: _sum(some) if some else zero,
        "mean": lambda some: float(_sum(some)) / len(some) if some else None,
        "min": lambda some: min(some, default=None),
        "max": lambda some: max(some, default=None),
        "stddev": lambda some: _root(_variance(some)),
        "variance": _variance,
    }
    return folds[aggregation](values)


def _sum(values: list[Any]) -> Any:
    """Exact; doubles are added as decimals with 18 digits after the point (rounded half up), and the nearest double is the result."""
    if not isinstance(values[0], float):
        with localcontext(WIDE):
            return sum(values)
    with localcontext(WIDE):
        return float(sum(Decimal(repr(value)).quantize(EIGHTEEN_PLACES, rounding=ROUND_HALF_UP) for value in values))


def _variance(values: list[Any]) -> float | None:
    """Of the sample; exact but for the last rounding."""
    if len(values) < 2:
        return None
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    return float(sum((x - mean) ** 2 for x in exact) / (len(exact) - 1))


def _root(value: float | None) -> float | None:
    return None if value is None else math.sqrt(value)


# -------------------------------------------------------------------------------------------------------- what was published


@dataclass(frozen=True, slots=True)
class Publish:
    """One publish of one interval: all that stands in the interval from then on, until it is published again."""

    order: int
    interval: Interval
    known_from: datetime
    rows: tuple[FeatureRow, ...]
    by_key: Mapping[Key, list[FeatureRow]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Find rows by their entity, so that a month of real data can be read."""
        keys: dict[Key, list[FeatureRow]] = {}
        for row in self.rows:
            keys.setdefault(row.key, []).append(row)
        object.__setattr__(self, "by_key", keys)


def publish(
    group: FeatureGroup,
    published: Sequence[Publish],
    interval: Interval,
    *,
    known_from: datetime,
    rows: Iterable[FeatureRow],
    functions: Functions = NONE,
) -> tuple[Publish, ...]:
    """What is published after `rows` were published over `interval`.

    A windowed row never vanishes: an entity that had one and has none any more gets the empty values. Other rows that are gone are gone.
    """
    rows = list(rows)
    if isinstance(group, WindowedGroup):
        had = {row.key for p in published if p.interval == interval for row in p.rows}
        gone = had - {row.key for row in rows}
        rows += [FeatureRow(key, interval.end, empty_values(group, functions), interval.end) for key in sorted(gone, key=repr)]
    return (*published, Publish(len(published) + 1, interval, known_from, tuple(rows)))


class Answer(NamedTuple):
    """What a read gives: its status, a value for every output of the group, and T of the entity's newest row (None: it has none)."""

    status: Status
    values: Values
    event_timestamp: datetime | None


def read(
    group: FeatureGroup,
    published: Sequence[Publish],
    *,
    key: Key,
    t: datetime,
    mode: Mode,
    same_source: bool = False,
    functions: Functions = NONE,
) -> Answer:
    """The point-in-time read of one entity at `t`.

    `same_source`: the spine reads the group's source or names none, so an observation counts only from after its own time.
    """
    if None in key:
        return Answer("NOT_FOUND", dict.fromkeys(group.outputs), None)
    standing = _standing(published, t, mode)
    row = _newest_row(group, standing, key, t, strict=same_source and isinstance(group, ObservationGroup))
    windowed = isinstance(group, WindowedGroup | TransformGroup)
    if windowed or group.source.shape == "snapshots":
        coverage = max((p.interval.end for p in standing if p.interval.end <= t), default=None)
        if coverage is None or t - coverage > duration(group.ttl or ""):
            return Answer("EXPIRED", dict.fromkeys(group.outputs), None if row is None else row.at)
        if windowed:
            empty = empty_values(group, functions) if isinstance(group, WindowedGroup) else dict.fromkeys(group.outputs)
            return _read_covered(group, row, coverage, empty)
        return _read_snapshot(group, row, max((r.at for p in standing for r in p.rows if r.at <= t), default=None))
    if row is None:
        return Answer("NOT_FOUND", dict.fromkeys(group.outputs), None)
    if group.ttl is not None and t - row.at > duration(group.ttl):
        return Answer("EXPIRED", dict.fromkeys(group.outputs), row.at)
    return _shown(group, row)


def _standing(published: Sequence[Publish], t: datetime, mode: Mode) -> list[Publish]:
    """Of each interval the newest publish: of all that there are, or of those that were known at `t`."""
    newest: dict[Interval, Publish] = {}
    for p in sorted(published, key=lambda p: p.order):
        if mode == "event_time" or p.known_from <= t:
            newest[p.interval] = p
    return list(newest.values())


def _newest_row(group: FeatureGroup, standing: list[Publish], key: Key, t: datetime, *, strict: bool) -> FeatureRow | None:
    usable = [row for p in standing for row in p.by_key.get(key, ()) if (row.at < t if strict else row.at <= t)]
    return max(usable, key=lambda row: row.at, default=None)


def _read_covered(group: FeatureGroup, row: FeatureRow | None, coverage: datetime, empty: Values) -> Answer:
    if row is None:
        return Answer("NOT_FOUND", empty, None)
    if row.empties_at is not None and row.empties_at <= coverage:
        return Answer("EMPTY", empty, row.at)
    return _shown(group, row)


def _read_snapshot(group: FeatureGroup, row: FeatureRow | None, newest: datetime | None) -> Answer:
    """Of an entity that the newest snapshot with any row does not have, all is null; whether it was ever seen is all that is known."""
    nothing = dict.fromkeys(group.outputs)
    if row is None:
        return Answer("NOT_FOUND", nothing, None)
    return _shown(group, row) if row.at == newest else Answer("EMPTY", nothing, row.at)


def _shown(group: FeatureGroup, row: FeatureRow) -> Answer:
    return Answer("HELD", dict.fromkeys(group.outputs), row.at) if row.held else Answer("PRESENT", row.values, row.at)


# ----------------------------------------------------------------------------------------------------- training and serving


def training_rows(
    service: FeatureService,
    published: Mapping[str, Sequence[Publish]],
    spine: Iterable[Event],
    *,
    mode: Mode,
    spine_source: str | None = None,
    event_timestamp: str = "event_timestamp",
    functions: Functions = NONE,
) -> list[dict[str, Any]]:
    """One row per spine row, in its order: the spine's columns and `<group or prefix>__<column>`.

    `published` is per group name; `spine_source` is the source that the spine reads, None for a frame.
    """
    made = []
    for row in spine:
        made.append(dict(row))
        for join in service.joins:
            same = spine_source is None or spine_source == join.group.source.name
            answer = _joined(join, published, row, t=row[event_timestamp], mode=mode, same_source=same, functions=functions)
            made[-1] |= _outputs(service, join, answer, t=row[event_timestamp])
    return made


def online(
    service: FeatureService,
    published: Mapping[str, Sequence[Publish]],
    entities: Iterable[Event],
    *,
    now: datetime,
    functions: Functions = NONE,
) -> list[dict[str, Any]]:
    """What serving answers at `now` if everything published by then was synced: one result per entity, keyed by group or prefix."""
    results = []
    for entity in entities:
        answers = [(join, _joined(join, published, entity, t=now, mode="as_known", functions=functions)) for join in service.joins]
        results.append(
            {
                "entity": dict(entity),
                "values": {name: value for join, answer in answers for name, value in _outputs(service, join, answer, t=now).items()},
                "status": {join.name: answer.status for join, answer in answers},
                "event_timestamp": {join.name: answer.event_timestamp for join, answer in answers},
            }
        )
    return results


def _joined(join: Join, published: Mapping[str, Sequence[Publish]], row: Event, **asked: Any) -> Answer:
    return read(join.group, published.get(join.group.name, ()), key=tuple(row[name] for name in join.keys), **asked)


def _outputs(service: FeatureService, join: Join, answer: Answer, *, t: datetime) -> dict[str, Any]:
    """What readers see at `t`: the time of the last event as seconds since then, the service's defaults in place of null."""
    found = {output: answer.values[column] for output, column in zip(join.outputs, join.columns, strict=True)}
    for output, column in zip(join.outputs, join.columns, strict=True):
        if column in join.group.ages and found[output] is not None:
            found[output] = (t - found[output]) / timedelta(seconds=1)
    return {output: service.defaults.get(output) if value is None else value for output, value in found.items()}


# ----------------------------------------------------------------------------------------------------------------- comparing


def differences(group: FeatureGroup, expected: Iterable[FeatureRow], actual: Iterable[FeatureRow]) -> list[str]:
    """What differs between two sets of rows, a sentence each; none means that they agree."""
    ours = {(row.key, row.at): row for row in expected}
    seen: set[tuple[Key, datetime]] = set()
    found = []
    for row in actual:
        where = f"{row.key} at {row.at}"
        want = ours.get((row.key, row.at))
        if want is None or (row.key, row.at) in seen:
            found.append(f"{where} should not be there" if want is None else f"{where} is there twice")
            continue
        seen.add((row.key, row.at))
        found += [f"{where}: {text}" for text in value_differences(group, want.values, row.values)]
        if (want.empties_at, want.held) != (row.empties_at, row.held):
            found.append(f"{where}: expected empties_at {want.empties_at}, held {want.held}; got {row.empties_at}, {row.held}")
    return found + [f"{key} at {at} is missing" for key, at in ours if (key, at) not in seen]


def value_differences(group: FeatureGroup, expected: Values, actual: Values) -> list[str]:
    """What differs between two sets of values of a group: all are exact, but for these.

    Deviations and what is derived agree to nine digits, a quantile over a span of time to 1 %.
    """
    features = group.features if isinstance(group, WindowedGroup) else ()
    apart = dict.fromkeys((c for f in features for c in f.columns if isinstance(f, Derived) or f.aggregation in ROUGH), 1e-9)
    apart |= {c: 0.0101 for f in features if isinstance(f, Feature) and f.aggregation == "quantile" for c in f.columns}
    return [
        f"{column} should be {value!r}, not {actual.get(column)!r}"
        for column, value in expected.items()
        if not _same(value, actual.get(column), apart=apart.get(column))
    ]


def _same(expected: Any, actual: Any, *, apart: float | None) -> bool:
    """Equal and of one type; but 0 is any zero, since the oracle does not know the type of an expression over no events."""
    if apart is not None and isinstance(expected, float) and isinstance(actual, float):
        return math.isclose(expected, actual, rel_tol=apart, abs_tol=1e-9)
    return bool(expected == actual) and (type(expected) is type(actual) or expected == 0)
