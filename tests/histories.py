"""Hypothesis strategies for small random histories: groups, the events that arrive, the runs that publish them, and spines that ask.

Everything is a plain Python value. The times drawn are those where mistakes hide: on the grid, a microsecond beside it, in ties and gaps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from feature_definitions.aggregations import AGGREGATIONS
from feature_definitions.intervals import MICROSECOND, Interval, duration, split
from feature_definitions.language import (
    Derived,
    Entity,
    Feature,
    FeatureGroup,
    ObservationGroup,
    SnapshotGroup,
    Source,
    WindowedGroup,
)
from feature_definitions.language.features import LIFETIME
from tests.oracle import Arrival, Event, Functions, Key, Publish, live_rows, publish, rows

MIDNIGHT = datetime(2026, 1, 5, tzinfo=UTC)
INTERVALS = 10
"""How many of a group's intervals a history spans; it begins four of them before `MIDNIGHT`."""

CADENCES = ("5m", "1h", "6h", "1d")
READY_AFTER = "1h"
NUMBERS, ANYTHING = ("amount", "quantity", "price"), ("amount", "quantity", "price", "kind", "settled")
COLUMNS = {
    "paid_at": "timestamp",
    "amount": "double",
    "quantity": "int64",
    "price": "decimal(10,2)",
    "kind": "string",
    "settled": "boolean",
}


def _unless_null(column: str, function: Callable[[Any], Any]) -> Callable[[Mapping[str, Any]], Any]:
    return lambda row: None if row[column] is None else function(row[column])


WHERE: Functions = {
    "amount > 0": _unless_null("amount", lambda x: x > 0),
    "quantity % 2 = 0": _unless_null("quantity", lambda x: x % 2 == 0),
    "kind = 'a'": _unless_null("kind", lambda x: x == "a"),
    "settled": lambda row: row["settled"],
    "amount is null": lambda row: row["amount"] is None,
    "price >= 1.5 or kind = 'b'": lambda row: _either(
        _unless_null("price", lambda x: x >= Decimal("1.5"))(row), _unless_null("kind", lambda x: x == "b")(row)
    ),
}
"""Conditions on events, in Spark SQL and in Python (a comparison with null is null)."""

OF: Functions = {
    "quantity + 1": _unless_null("quantity", lambda x: x + 1),
    "amount * 2": _unless_null("amount", lambda x: x * 2),
    "coalesce(quantity, 0)": lambda row: row["quantity"] or 0,
}
"""Expressions that are aggregated; all are numbers."""


def _either(a: bool | None, b: bool | None) -> bool | None:
    if a or b:
        return True
    return None if a is None or b is None else False


# -------------------------------------------------------------------------------------------------------------------- the groups


@dataclass(frozen=True, slots=True)
class ColumnTypes:
    """A group, and the callables that stand for its SQL."""

    group: FeatureGroup
    functions: Functions


@st.composite
def sources(draw: st.DrawFn) -> Source:
    """A source of payments: with or without an id, with or without `arrived_at`, for one key or a composite one."""
    columns = {"customer_id": draw(st.sampled_from(("string", "int64")))}
    columns |= {"shop": "int64"} if draw(st.booleans()) else {}
    columns |= COLUMNS
    with_id, with_arrived_at = draw(st.booleans()), draw(st.booleans())
    columns |= {"payment_id": "int64"} if with_id else {}
    columns |= {"arrived_at": "timestamp"} if with_arrived_at else {}
    return Source(
        "payments",
        columns=columns,
        event_timestamp="paid_at",
        timezone="UTC",
        id=("payment_id",) if with_id else (),
        arrived_at="arrived_at" if with_arrived_at else None,
        ready_after=READY_AFTER,
    )


def entity_of(source: Source) -> Entity:
    """The entity that a drawn source is about."""
    return Entity("customer", {name: source.columns[name] for name in ("customer_id", "shop") if name in source.columns})


@st.composite
def windowed_groups(draw: st.DrawFn, *, source: Source | None = None, every: str | None = None) -> ColumnTypes:
    """A windowed group of one to five features and perhaps a ratio of two."""
    source = draw(sources()) if source is None else source
    every = every or draw(st.sampled_from(CADENCES))
    named = [f"f{n}" for n in range(draw(st.integers(1, 5)))]
    features: list[Feature | Derived] = [draw(_features(name, duration(every))) for name in named]
    functions = dict(WHERE) | dict(OF)
    if draw(st.booleans()):
        features = [Feature("n", "count", windows=(_window(duration(every), 2),)), Feature("s", "sum", "amount", (every,)), *features]
        ratio, derived = _ratio(features[1].columns[0], features[0].columns[0])
        features.append(Derived("ratio", ratio))
        functions[ratio] = derived
    group = WindowedGroup(
        "spend",
        entity_of(source),
        source,
        every=every,
        features=tuple(features),
        **draw(_kept(every)),
    )
    return ColumnTypes(group, functions)


_SHOWN = st.lists(st.sampled_from(ANYTHING), min_size=1, max_size=5, unique=True).map(tuple)
"""Some columns, to be shown as they are."""


@st.composite
def _kept(draw: st.DrawFn, every: str) -> dict[str, Any]:
    """What groups of every kind have: a publish delay, a TTL, perhaps a condition on events."""
    return {
        "publish_delay": draw(st.sampled_from(("0s", "20m"))),
        "ttl": draw(_ttls(every)),
        "where": draw(st.sampled_from((None, None, None, "amount > 0", "price >= 1.5 or kind = 'b'"))),
    }


@st.composite
def observation_groups(draw: st.DrawFn, *, source: Source | None = None, every: str | None = None) -> ColumnTypes:
    """An observation group that shows some columns of its source."""
    source = draw(sources()) if source is None else source
    every = every or draw(st.sampled_from(CADENCES))
    group = ObservationGroup(
        "last_payment", entity_of(source), source, every=every, columns=draw(_SHOWN), **draw(_kept(every))
    )  # fmt: skip
    return ColumnTypes(group, WHERE)


@st.composite
def snapshot_groups(draw: st.DrawFn, *, every: str | None = None) -> ColumnTypes:
    """A group of dated snapshots that shows some columns of its source."""
    events = draw(sources().filter(lambda source: bool(source.id)))
    source = replace(events, name="contracts", shape="snapshots")
    every = every or draw(st.sampled_from(CADENCES))
    group = SnapshotGroup(
        "contract", entity_of(source), source, every=every, columns=draw(_SHOWN), **draw(_kept(every))
    )  # fmt: skip
    return ColumnTypes(group, WHERE)


@st.composite
def _features(draw: st.DrawFn, name: str, cadence: timedelta) -> Feature:
    aggregation = draw(st.sampled_from(tuple(AGGREGATIONS)))
    of = draw(st.sampled_from((*(NUMBERS if AGGREGATIONS[aggregation].takes == "numbers" else ANYTHING), *sorted(OF))))
    if aggregation == "count" and draw(st.booleans()):
        of = None
    times = draw(st.lists(st.sampled_from((1, 2, 3, 7)), min_size=1, max_size=2, unique=True))
    windows = (*(_window(cadence, n) for n in times), *draw(st.sampled_from(((), (), (), (LIFETIME,)))))
    q = draw(st.sampled_from((0.1, 0.5))) if aggregation == "quantile" else None
    k = draw(st.integers(1, 3)) if aggregation in ("top_k", "last_n") else None
    return Feature(name, aggregation, of, windows, where=draw(st.none() | st.sampled_from(sorted(WHERE))), q=q, k=k)


def _window(cadence: timedelta, times: int) -> str:
    return f"{int((cadence * times).total_seconds()) // 60}m"


def _ratio(above: str, below: str) -> tuple[str, Callable[[Mapping[str, Any]], Any]]:
    return f"{above} / {below}", lambda values: values[above] / values[below] if values[below] else None


def _ttls(every: str) -> st.SearchStrategy[str]:
    cadence = duration(every)
    return st.sampled_from((1, 2, 4)).map(lambda n: f"{int((n * cadence).total_seconds()) // 60 + 20}m")


# -------------------------------------------------------------------------------------------------------------------- the events


def span(group: FeatureGroup) -> Interval:
    """The time that the events of a group's history lie in; a date begins within it."""
    return Interval(MIDNIGHT - 4 * group.cadence, MIDNIGHT + (INTERVALS - 4) * group.cadence)


def _near_grid(whole: Interval, cadence: timedelta) -> st.SearchStrategy[datetime]:
    beside = st.sampled_from((timedelta(0), timedelta(0), MICROSECOND, -MICROSECOND, cadence / 2, cadence / 3))
    return st.builds(lambda n, by: whole.start + n * cadence + by, st.integers(0, INTERVALS), beside)


def event_times(group: FeatureGroup) -> st.SearchStrategy[datetime]:
    """Times of events: most on the grid, a microsecond beside it or at a few other points, so that ties and gaps are common.

    Snapshots are extracted at a few times only: two in one interval, on the grid and a microsecond before it, and none in some intervals.
    """
    whole = span(group)
    if group.source.shape == "snapshots":
        taken = [whole.start + n * group.cadence for n in (0, 2, 3, 6)]
        return st.sampled_from([*taken, taken[1] + group.cadence / 3, taken[2] - MICROSECOND, taken[3] + group.cadence / 2])
    anywhere = st.integers(0, (whole.end - whole.start) // MICROSECOND - 1).map(lambda n: whole.start + n * MICROSECOND)
    return st.one_of(_near_grid(whole, group.cadence), _near_grid(whole, group.cadence), anywhere).map(
        lambda at: min(max(at, whole.start), whole.end - MICROSECOND)
    )


AMOUNTS = st.one_of(st.integers(-40, 40).map(lambda n: n / 8), st.sampled_from((0.1, 0.2, 0.3, 1 / 3, 1e-7, 5e-19, -0.0, 250.01, -999.75)))


def keys(entity: Entity) -> st.SearchStrategy[Key]:
    """One of a few entities, seldom a null; composite ones are such that they look alike when written one after the other."""
    kinds = [(*("1", "11") * 4, None) if kind == "string" else (*(1, 11) * 4, None) for kind in entity.keys.values()]
    return st.tuples(*(st.sampled_from(kind) for kind in kinds))


@st.composite
def _events(draw: st.DrawFn, group: FeatureGroup) -> dict[str, Any]:
    source = group.source
    event: dict[str, Any] = dict(zip(group.entity.keys, draw(keys(group.entity)), strict=True))
    event["paid_at"] = draw(event_times(group))
    event["amount"] = draw(st.none() | AMOUNTS)
    event["quantity"] = draw(st.none() | st.integers(-3, 3))
    event["price"] = draw(st.none() | st.integers(-300, 300).map(lambda n: Decimal(n) / 100))
    event["kind"] = draw(st.sampled_from((None, "a", "b", "")))
    event["settled"] = draw(st.sampled_from((None, True, False)))
    if "payment_id" in source.columns:
        event["payment_id"] = draw(st.integers(1, 12))
    if source.arrived_at:
        event["arrived_at"] = MIDNIGHT + draw(st.integers(0, 3)) * timedelta(hours=1)
    return {name: event[name] for name in source.columns}


@st.composite
def batches(draw: st.DrawFn, group: FeatureGroup, *, most: int = 30) -> tuple[tuple[Event, ...], ...]:
    """One to three ingests of 0 to `most` events in all; later ones bring late events and, where there is an id, corrections of any kind.

    Within one ingest an id comes at most once per `arrived_at`, so that which row is newest is always decided.
    """
    count = draw(st.integers(1, 3))
    share = most // count
    sizes = [draw(st.sampled_from((share, share // 2, share // 4, 0))) for _ in range(count)]
    drawn = [draw(st.lists(_events(group), min_size=size, max_size=size)) for size in sizes]
    return tuple(tuple(_decided(group.source, batch)) for batch in drawn)


def _decided(source: Source, batch: Sequence[Event]) -> list[Event]:
    if not source.id:
        return list(batch)
    names = (*source.id, *((source.arrived_at,) if source.arrived_at else ()))
    return list({tuple(event[name] for name in names): event for event in batch}.values())


def arrivals(ingested: Sequence[Sequence[Event]]) -> list[Arrival]:
    """The events of all ingests, each with the number of its ingest."""
    return [Arrival(n, event) for n, batch in enumerate(ingested, start=1) for event in batch]


# ---------------------------------------------------------------------------------------------------------------------- the runs


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a group: at `now` it publishes `intervals` from the first `ingested` batches; `rejected` ones fail at the gate."""

    now: datetime
    ingested: int
    intervals: tuple[Interval, ...]
    rejected: tuple[Interval, ...]


@dataclass(frozen=True, slots=True)
class History:
    """A group, the events that arrived in batches, and the runs in the order in which they happened."""

    group: FeatureGroup
    functions: Functions
    batches: tuple[tuple[Event, ...], ...]
    runs: tuple[Run, ...]

    def events(self, ingested: int | None = None) -> list[Event]:
        """The events that counted after the first `ingested` batches (all of them by default)."""
        return live_rows(self.group.source, arrivals(self.batches[:ingested]))

    def published(self) -> tuple[Publish, ...]:
        """What the runs published, per DESIGN 5: what ended before the first publish is known since T + delay, the rest since its run."""
        published: tuple[Publish, ...] = ()
        first = min((run.now for run in self.runs if set(run.intervals) - set(run.rejected)), default=None)
        for run in self.runs:
            events = self.events(run.ingested)
            for interval in (i for i in run.intervals if i not in run.rejected):
                again = any(p.interval == interval for p in published)
                modelled = first is not None and not again and interval.end <= first
                known_from = interval.end + duration(self.group.publish_delay) if modelled else run.now
                found = rows(self.group, events, interval, functions=self.functions)
                published = publish(self.group, published, interval, known_from=known_from, rows=found, functions=self.functions)
        return published


@st.composite
def runs(draw: st.DrawFn, group: FeatureGroup, *, ingests: int) -> tuple[Run, ...]:
    """Two to four runs: each publishes some of the sealed intervals, for the first time or again; some intervals are never published."""
    grid = tuple(split(span(group), group.cadence))
    steps = sorted(
        draw(st.lists(st.integers(1, INTERVALS + 2), min_size=1, max_size=3, unique=True).map(lambda some: [*some, INTERVALS + 3]))
    )
    known = sorted(draw(st.lists(st.integers(1, ingests), min_size=len(steps), max_size=len(steps))))
    found = []
    for step, ingested in zip(steps, known, strict=True):
        now = span(group).start + step * group.cadence + duration(READY_AFTER) + draw(st.sampled_from((timedelta(0), group.cadence / 7)))
        sealed = [i for i in grid if i.end <= now - duration(READY_AFTER)]
        taken = tuple(i for i in sealed if draw(st.sampled_from((True, True, True, False))))
        rejected = tuple(i for i in taken if draw(st.sampled_from((False, False, False, False, True))))
        found.append(Run(now, ingested, taken, rejected))
    return tuple(found)


@st.composite
def histories(draw: st.DrawFn, meanings: st.SearchStrategy[ColumnTypes] | None = None, *, most: int = 30) -> History:
    """A whole small history of a windowed or an observation group."""
    types = draw(st.one_of(windowed_groups(), observation_groups()) if meanings is None else meanings)
    arrived = draw(batches(types.group, most=most))
    return History(types.group, types.functions, arrived, draw(runs(types.group, ingests=len(arrived))))


# --------------------------------------------------------------------------------------------------------------------- the spines


@st.composite
def spines(draw: st.DrawFn, history: History, *, most: int = 12) -> tuple[dict[str, Any], ...]:
    """Rows that ask: entity keys (known, unknown, null) and an `event_timestamp`, where an answer changes or a microsecond beside it."""
    names = history.group.entity.keys
    known = sorted({tuple(e[name] for name in names) for batch in history.batches for e in batch}, key=repr)
    anybody = st.one_of(keys(history.group.entity), strangers(history.group.entity))
    whose = st.one_of(st.sampled_from(known), st.sampled_from(known), anybody) if known else anybody
    beside = st.sampled_from((timedelta(0), timedelta(0), MICROSECOND, -MICROSECOND))
    usual, edges = (
        st.sampled_from([i.end for i in split(span(history.group), history.group.cadence)][2:]),
        st.sampled_from(moments(history)),
    )
    asked = []
    for _ in range(draw(st.sampled_from((most, most // 2, 0)))):
        at = draw(st.one_of(usual, edges)) + draw(beside)
        asked.append(dict(zip(names, draw(whose), strict=True)) | {"event_timestamp": at})
    return tuple(asked)


def strangers(entity: Entity) -> st.SearchStrategy[Key]:
    """A key that no event has."""
    return st.just(tuple("nobody" if kind == "string" else -1 for kind in entity.keys.values()))


def moments(history: History) -> list[datetime]:
    """The times at which an answer of a history can change: grid, events, runs, the ends of TTLs, and long before and after everything."""
    group, whole = history.group, span(history.group)
    ttl, delay = duration(group.ttl or "0s"), duration(group.publish_delay)
    grid = [i.end for i in split(whole, group.cadence)]
    times = [e["paid_at"] for batch in history.batches for e in batch]
    far = [whole.start - timedelta(days=400), whole.end + timedelta(days=400)]
    return sorted({*grid, *times, *far, *(r.now for r in history.runs), *(t + ttl for t in grid + times), *(t + delay for t in grid)})
