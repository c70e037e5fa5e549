"""Tells the story of one value: which row held at a time, since when it was known, which run made it of which events. Needs no Spark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from feature_definitions import layout, reading
from feature_definitions.intervals import ALWAYS, Interval, duration, floor, micros, utc_date
from feature_definitions.language import FeatureGroup, Source
from feature_definitions.layout import FILE, INGEST, LINE
from feature_definitions.planning.revisions import first_events
from feature_definitions.reading import CASES, FOREVER, NEVER, Case, age, conditions
from feature_definitions.record_rows import json_mapping
from feature_definitions.records import Publish, Revision
from lake import delta, versions

Row = Mapping[str, Any]
MOST_EVENTS = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be explained: a group's values of one entity, as they were known at a time."""

    group: FeatureGroup
    entity: Mapping[str, object]
    at: datetime


@dataclass(frozen=True, slots=True)
class Known:
    """What the registry remembers of the generation that readers see; `types` are those of its columns, `empty` are its empty values.

    `files` has, by source, how files are called now whose rows go by the name under which they came.
    """

    generation: int
    publishes: tuple[Publish, ...]
    revisions: tuple[Revision, ...]
    types: Mapping[str, str]
    empty: str | None
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Version:
    """A row as it was published once: visible from `visible_from` until a version of a greater time, or a later one of the same, was."""

    event_timestamp: datetime
    publish: Publish
    values: Mapping[str, object]
    empties_at: datetime | None
    held: bool
    retracted: bool
    replaced_by: str | None

    @property
    def visible_from(self) -> datetime:
        """When readers could see it: not before its own time, nor before it was known."""
        return max(self.event_timestamp, self.publish.known_from)


@dataclass(frozen=True, slots=True)
class Story:
    """All that is known of one value; `run` is the ledger's record of the run that gave the row its values.

    `values` are what a reader gets; of an entity without events they lack what is derived, if no publish kept it yet. `events` are the
    newest of the `event_count` rows of `source` that the group's longest window holds, as they are in the source now; those that came
    after the run say so (of a table that is read in place nobody knows when a row came). A transform's are those of the first source that
    it reads and that has the entity's keys, if there is one. A `event_count` of None: they cannot be listed without Spark, and `look` says
    where they are found. `later` are versions of the same time that became known after the time that was asked for. `aside` is how many
    rows of a table in place are put aside: those of the entity may be among the events.
    """

    asked: Asked
    generation: int
    status: str
    values: Mapping[str, object]
    coverage: datetime | None
    version: Version | None
    run: Row | None
    window: Interval | None
    source: str | None
    events: tuple[Row, ...]
    event_count: int | None
    later: tuple[Version, ...]
    aside: int = 0
    look: str = ""


def explain(asked: Asked, known: Known, *, lake: str) -> Story:
    """The story of an entity's values as of a time, by the clock `as_known`."""
    candidates = _versions(asked, known, lake)
    version = _standing([v for v in candidates if v.visible_from <= asked.at])
    coverage = _coverage(asked, known)
    window = None if version is None else _window(asked.group, version, known.revisions)
    run = None if version is None else _run(version.publish, lake)
    source = _source(asked.group)
    events = [] if window is None or source is None else versions.events(source, lake, entity=asked.entity, window=window)
    described = [] if source is None else [_event(row, source, _seen(run, source), known) for row in events or ()]
    count = None if events is None else len(described)
    later = [v for v in candidates if version and v.event_timestamp == version.event_timestamp and v.visible_from > asked.at]
    case = _case(asked, version, coverage, gone_at=_gone_at(asked, known, version, lake))
    return Story(
        asked,
        known.generation,
        case.status,
        _values(case, asked, known, version),
        coverage,
        version,
        run,
        window,
        None if source is None else source.name,
        tuple(described[:MOST_EVENTS]),
        count,
        tuple(later),
        0 if source is None else versions.aside(source, lake),
        "" if source is None or window is None else versions.look(source, entity=asked.entity, window=window),
    )


# --------------------------------------------------------------------------------------------------------------------- versions


def _versions(asked: Asked, known: Known, lake: str) -> list[Version]:
    """Every version of the entity's rows up to the time: those of the newest dates, if any of these is visible, else all."""
    publishes = {(p.publish_id, p.interval.start): p for p in known.publishes}
    places = [place(lake, asked.group.name, known.generation) for place in (layout.feature_table, layout.history_table)]
    newest = None if asked.group.is_static else utc_date(asked.at - duration(str(asked.group.ttl)) - 2 * asked.group.cadence)
    for oldest in [None] if newest is None else [newest, None]:
        rows = [row for path in places for row in _entity_rows(path, asked, oldest)]
        found = [_version(row, asked.group, publishes) for row in rows]
        known_versions = sorted((v for v in found if v is not None), key=lambda v: (v.event_timestamp, v.publish.publish_id))
        if any(v.visible_from <= asked.at for v in known_versions):
            return known_versions
    return known_versions


def _entity_rows(path: str, asked: Asked, oldest: date | None) -> list[Row]:
    if _is_nobody(asked):
        return []
    recent = [] if oldest is None else [f"date >= {delta.literal(oldest)}"]
    return [row for row in delta.rows(path, [*_is(asked.entity), *recent]) if row["event_timestamp"] <= asked.at]


def _is_nobody(asked: Asked) -> bool:
    """Whether a key is null, which is nobody's."""
    return None in asked.entity.values()


def _version(row: Row, group: FeatureGroup, publishes: Mapping[tuple[str, datetime], Publish]) -> Version | None:
    """A row with its publish; None if that never happened."""
    publish = publishes.get((row["publish_id"], _start(group, row["event_timestamp"])))
    if publish is None:
        return None
    values = {column: row.get(column) for column in group.outputs}
    more = (row["held"], bool(row.get("retracted")), row.get("replaced_by"))
    return Version(row["event_timestamp"], publish, values, row.get("empties_at"), *more)


def _start(group: FeatureGroup, at: datetime) -> datetime:
    """The start of the interval in which a row of this time lies."""
    match group.row_time:
        case "end":
            return at - group.cadence
        case "event":
            return floor(at, group.cadence)
        case "none":
            return ALWAYS.start


def _standing(visible: Sequence[Version]) -> Version | None:
    """The version that holds: the newest that no later publish of its time replaced or retracted; else the last retraction."""
    newest = {v.event_timestamp: v for v in visible}  # they are in the order of their publishes
    standing = [v for v in newest.values() if not v.retracted]
    return standing[-1] if standing else visible[-1] if visible else None


# ----------------------------------------------------------------------------------------------------------------------- status


def _coverage(asked: Asked, known: Known) -> datetime | None:
    """The newest interval end that was visible."""
    ends = (p.interval.end for p in known.publishes if max(p.interval.end, p.known_from) <= asked.at)
    return max(ends, default=None) if asked.group.by_coverage else None


def _gone_at(asked: Asked, known: Known, version: Version | None, lake: str) -> datetime | None:
    """The time of the first snapshot after a version of which some row stood at the time asked for: it does not have the entity."""
    if version is None or not asked.group.by_snapshot:
        return None
    later = []
    visible = {(p.publish_id, p.interval.start) for p in known.publishes if p.known_from <= asked.at}
    places = ((layout.feature_table, ("NULL", "true")), (layout.history_table, ("replaced_by", "NOT retracted")))
    for place, (replaced_by, standing) in places:
        columns = ("event_timestamp", "publish_id", f"{replaced_by} AS replaced")
        dated = f"date >= {delta.literal(utc_date(version.event_timestamp))}"
        for at, publish_id, replaced in delta.distinct(place(lake, asked.group.name, known.generation), columns, [dated, standing]):
            start = _start(asked.group, at)
            stood = (publish_id, start) in visible and (replaced, start) not in visible
            later += [at] if stood and version.event_timestamp < at <= asked.at else []
    return min(later, default=None)


def _case(asked: Asked, version: Version | None, coverage: datetime | None, *, gone_at: datetime | None) -> Case:
    at, covered = micros(asked.at), NEVER if coverage is None else micros(coverage)
    question, nobody = reading.question(asked.group, at=at, coverage=covered), _is_nobody(asked)
    if version is None or version.retracted:
        holds = conditions(question, nobody=nobody, absent=True, at=at, empties_at=FOREVER, held=False)
    else:
        empties_at, mine = gone_at or version.empties_at, micros(version.event_timestamp)
        until = FOREVER if empties_at is None else micros(empties_at)
        holds = conditions(question, nobody=nobody, absent=False, at=mine, empties_at=until, held=version.held)
    return CASES[holds.index(True)]


def _values(case: Case, asked: Asked, known: Known, version: Version | None) -> dict[str, object]:
    """What a reader gets; the time of the last event is read as the seconds since then."""
    ages = asked.group.ages
    if version is not None and case.given == "row":
        return {name: _aged(value, asked) if name in ages else value for name, value in version.values.items()}
    if case.given == "empty":
        return reading.empty_values(asked.group, known.types, kept=known.empty)
    return dict.fromkeys(asked.group.outputs)


def _aged(value: Any, asked: Asked) -> float | None:
    return None if value is None else float(age(micros(asked.at), micros(value)))


# --------------------------------------------------------------------------------------------------------------- what it rests on


def _run(publish: Publish, lake: str) -> Row | None:
    """The ledger's record of the run that published these values: the lake keeps all of them, the registry the newest of an interval."""
    path = layout.records_table(lake, "ledger")
    rows = delta.rows(path, [f"publish_id = {delta.literal(publish.publish_id)}", f'"group" = {delta.literal(publish.group)}'])
    return next((row for row in rows if row["interval_start"] == publish.interval.start), None)


def _window(group: FeatureGroup, version: Version, revisions: Sequence[Revision]) -> Interval:
    """The events that the row may be made of: with a lifetime window from the source's first one on."""
    at = version.event_timestamp
    match group.row_time:
        case "end" if group.lifetime:
            return Interval(min([at - group.longest, *first_events(revisions).values()]), at)
        case "end":
            return Interval(at - group.longest, at)
        case "event":
            return Interval(at, at + timedelta(microseconds=1))
        case "none":
            return ALWAYS


def _source(group: FeatureGroup) -> Source | None:
    """The first source of the entity's events that the group itself reads, if there is one."""
    return next((source for source in group.input_sources if group.entity.keys.items() <= source.columns.items()), None)


def _seen(run: Row | None, source: Source) -> int | None:
    """The source's newest revision that a run saw."""
    if run is None:
        return None
    inputs = run.get("inputs")
    return int(json_mapping(inputs)[source.name] if inputs else run["revision"])


def _event(row: Row, source: Source, computed_from: int | None, known: Known) -> Row:
    came, file = row[INGEST], known.files.get(source.name, {}).get(row[FILE], row[FILE])
    late = came is not None and computed_from is not None and came > computed_from
    columns = {name: row.get(name) for name in source.columns}
    return columns | {"file": file, "line": row[LINE], "revision": came, "came_later": late}


def _is(entity: Mapping[str, object]) -> list[str]:
    return [f'"{key}" = {delta.literal(value)}' for key, value in entity.items()]
