"""The tables in which sources' rows lie, without Spark: in which state they are read, what reading them costs, an entity's rows of them.

The rows of files lie in a table of ours. A table that is read in place is read in the state that the source's last ingest saw, which is
kept in the lake, so that no value is made of rows of which the registry knows nothing.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from feature_definitions import layout, times
from feature_definitions.intervals import ALWAYS, Interval, in_utc, iso, micros, utc_date
from feature_definitions.language import Column, DeltaTable, Jdbc, Query, Source, Table
from feature_definitions.layout import ASIDE, DATE, FILE, INGEST, LINE, LIVE, TIME
from lake import delta, delta_commits, delta_files, quarantine, storage
from lake.delta import Logs
from lake.delta_commits import Fence

UNSEEN = -1
Row = Mapping[str, Any]
_COMPARABLE = ("string", "int64", "date", "boolean")
"""The types whose values are compared as they lie there."""


@dataclass(frozen=True, slots=True)
class PinnedVersion:
    """The state of a table that a source reads: its version, None if it has none (then its newest state is read), `UNSEEN` without table.

    `place` is where it lies: a path (relative to the lake, if the definition's is relative to the project), a URL, or a name in Spark's
    catalog. `source` is the source that reads it itself; a query has a pin for each. Of the source's rows those are read that happened from
    `first` on and before `last`, in microseconds; None where no others are there. A query has a pin of its own that says only this.
    """

    source: str
    place: str
    table_id: str | None
    version: int | None
    first: int | None = None
    last: int | None = None

    @property
    def is_cut(self) -> bool:
        """Whether there are rows of the source that are not read."""
        return self.first is not None or self.last is not None

    def reads(self, at: datetime) -> bool:
        """Whether rows of this time are read."""
        return (self.first is None or micros(at) >= self.first) and (self.last is None or micros(at) < self.last)

    def path(self, lake: str) -> str:
        """Where a table that has versions lies."""
        return self.place if self.is_remote else storage.joined(lake, self.place)

    @property
    def is_remote(self) -> bool:
        """Whether only Spark can read it."""
        return self.version is None or ("://" in self.place and not self.place.startswith(layout.S3))


def keep(source: Source, found: Iterable[PinnedVersion], lake: str, *, commit_id: str, fence: Fence) -> None:
    """Say in which state the tables of a source are read from now on, in one commit."""
    import pyarrow as pa

    texts, numbers = ("source", "place", "table_id"), ("version", "first", "last")
    kinds = pa.schema({**dict.fromkeys(texts, pa.string()), **dict.fromkeys(numbers, pa.int64())})
    rows = pa.Table.from_pylist([asdict(pin) for pin in found], schema=kinds)
    delta_commits.replace_records(layout.pins_table(lake, source.name), rows, commit_id=commit_id, fence=fence)


def pinned(source: Source, lake: str) -> dict[str, PinnedVersion]:
    """What the last ingest of a source saw, by the source that reads the table itself; nothing before the first."""
    return {row["source"]: PinnedVersion(**row) for row in delta.rows(layout.pins_table(lake, source.name), ["true"])}


def place_named(source: Source) -> str:
    """What is read in place, as the definition calls it."""
    match source.at:
        case DeltaTable(path=text) | Table(name=text) | Jdbc(table=str(text)):
            return text
    return "its query"


def logs(source: Source, lake: str) -> tuple[str, ...]:
    """The table whose log says what reading a source costs; of one that is read in place none is known before its last ingest is asked."""
    return () if source.lies_in_place else (layout.source_table(lake, source.name),)


def tables(source: Source, lake: str) -> dict[str, int | None]:
    """The tables that a source is read from now, each with its version; None of what has none, such as a table of a database."""
    if source.lies_in_place:
        return {pin.path(lake): pin.version for pin in pinned(source, lake).values() if pin.place}
    path = layout.source_table(lake, source.name)
    table = delta.told(path)
    return {} if table is None else {path: table.version()}


def state_of(source: Source, lake: str, then: Mapping[str, int | None]) -> dict[str, PinnedVersion]:
    """A past state of what a source is read from, by the version that each of its tables had."""
    if source.lies_in_place:
        return {name: replace(pin, version=then.get(pin.path(lake), pin.version)) for name, pin in pinned(source, lake).items()}
    path = layout.source_table(lake, source.name)
    return {source.name: PinnedVersion(source.name, storage.relative(path, to=lake), delta.table_id(path), then.get(path))}


def footprint(source: Source, lake: str, *, dates: Collection[date], opened: Logs) -> tuple[int, int]:
    """The number and the bytes of the files that are read for these dates of a source; `opened` are its `logs`.

    In place all files are read, if rows have ids or a query reads them. Of tables that only Spark can read nothing is known.
    """
    if not source.lies_in_place:
        return delta_files.footprint_of(opened[layout.source_table(lake, source.name)], partition=DATE, dates=dates)
    whole = bool(source.id) or isinstance(source.at, Query)
    known = [pin for pin in pinned(source, lake).values() if not pin.is_remote and pin.version != UNSEEN]
    time = None if whole or not dates or source.event_timestamp is None else source.written[source.event_timestamp].name
    found = [delta_files.files_of(pin.path(lake), version=pin.version, time=time, dates=dates) for pin in known if dates]
    return sum(files for files, _ in found), sum(size for _, size in found)


# ----------------------------------------------------------------------------------------------------------- an entity's events


def events(source: Source, lake: str, *, entity: Mapping[str, object], window: Interval) -> list[Row] | None:
    """The live rows of an entity in a window, newest first, each with its time, file, line and ingest; None if only Spark can tell."""
    found = _in_place(source, lake, entity) if source.lies_in_place else _ingested(source, lake, entity, window)
    if found is None:
        return None
    inside = [row for row in found if window.start <= row[TIME] < window.end]
    return sorted(inside, key=lambda row: (row[TIME], row[FILE] or "", row[LINE] or 0), reverse=True)


def aside(source: Source, lake: str) -> int:
    """How many rows of a table in place are put aside: only Spark can tell which, so they may be among an entity's events."""
    return quarantine.rows_of_source(source.name, lake=lake) if source.lies_in_place else 0


def look(source: Source, *, entity: Mapping[str, object], window: Interval) -> str:
    """Where a person finds the events that cannot be listed, to follow what is said of them."""
    match source.at:
        case Jdbc(table=str(table), connection=connection):
            keys = [f"{source.written[key].name} = {delta.literal(value)}" for key, value in entity.items()]
            at = source.written[str(source.event_timestamp)].name if source.event_timestamp else None
            times = [] if at is None or window == ALWAYS else [f"{at} >= '{iso(window.start)}'", f"{at} < '{iso(window.end)}'"]
            return f"; ask {connection}: SELECT * FROM {table} WHERE {' AND '.join([*keys, *times])}"
        case Query(sources=sources):
            return f"; they come of {', '.join(each.name for each in sources)}, by the query of {source.name}"
        case DeltaTable(path=place) | Table(name=place):
            return f"; they are in {place}"
    return ""


def _ingested(source: Source, lake: str, entity: Mapping[str, object], window: Interval) -> list[Row]:
    dates = [f"{DATE} >= {delta.literal(utc_date(window.start))}", f"{DATE} <= {delta.literal(utc_date(window.end))}"]
    found = delta.rows(layout.source_table(lake, source.name), [*_is(entity), *dates, LIVE])
    return [row for row in found if not row.get(ASIDE)]


def _in_place(source: Source, lake: str, entity: Mapping[str, object]) -> list[Row] | None:
    """The entity's rows in the pinned state of a table, each id once."""
    pin = pinned(source, lake).get(source.name)
    if isinstance(source.at, Query) or pin is None or pin.is_remote or any(source.written[key].format for key in entity):
        return None
    mine = _of_table(source, pin, lake, _is(entity, source))
    if not (mine and source.id):
        return [row for row in mine if pin.reads(row[TIME])]
    plain = [name for name in source.id if source.columns[name] in _COMPARABLE and source.written[name].format is None]
    same = [" AND ".join(["true", *_is({name: row[name] for name in plain}, source)]) for row in mine]
    rivals = _of_table(source, pin, lake, [" OR ".join(f"({one})" for one in dict.fromkeys(same))])
    newest = [row for row in _newest(rivals, source) if pin.reads(row[TIME])]
    return [row for row in newest if all(row[key] == value for key, value in entity.items())]


def _of_table(source: Source, pin: PinnedVersion, lake: str, conditions: Sequence[str]) -> list[Row]:
    """The rows with an id and a time, by our names."""
    zone = ZoneInfo(source.timezone) if source.timezone else None
    at, needed = source.event_timestamp, [name for name in (source.event_timestamp, *source.id) if name]
    more = {FILE: pin.place, LINE: None, INGEST: None}
    found: list[Row] = []
    for row in delta.rows(pin.path(lake), conditions, version=pin.version):
        try:
            values = {name: _value(row[str(column.name)], column, zone) for name, column in source.written.items()}
        except ValueError:  # it is put aside
            continue
        if all(values[name] is not None for name in needed):
            found.append({**values, **more, TIME: ALWAYS.start if at is None else values[at]})
    return found


def _value(given: Any, column: Column, zone: ZoneInfo | None) -> Any:
    """A value of a table as its source means it; raises ValueError for a time that means none."""
    match given:
        case datetime():
            return in_utc(given, zone)
        case date() if column.data_type == "timestamp":
            return in_utc(datetime.combine(given, time.min), zone)
        case str() if column.data_type == "date":
            return times.read_date(given, times.spelling(column.format, "date"))
        case str() if column.data_type == "timestamp" and column.epoch is None:
            return times.read_time(given, times.spelling(column.format, "timestamp"), zone)
        case float() if column.epoch is not None:
            return times.nearest(given, column.epoch)
        case str() | int() | Decimal() if column.epoch is not None:
            return times.read_count(f"{given:.9f}" if isinstance(given, Decimal) else str(given), column.epoch)
    return given


def newest_first(source: Source) -> tuple[str, ...]:
    """The columns by which the newest of several rows of one id is found, in place: the one with the greatest values counts."""
    return tuple(dict.fromkeys(name for name in (source.arrived_at, source.event_timestamp, *source.columns) if name))


def _newest(rows: Sequence[Row], source: Source) -> list[Row]:
    """Of several rows of an id the one that counts."""
    ranked = sorted(rows, key=lambda row: [(row[name] is not None, row[name]) for name in newest_first(source)])
    return list({tuple(row[name] for name in source.id): row for row in ranked}.values())


def _is(entity: Mapping[str, object], source: Source | None = None) -> list[str]:
    return [f"{_quoted(key, source)} = {delta.literal(value)}" for key, value in entity.items()]


def _quoted(key: str, source: Source | None) -> str:
    """A column in SQL: of a table that is read in place by its name there."""
    name = key if source is None else str(source.written[key].name)
    return '"' + name.replace('"', '""') + '"'
