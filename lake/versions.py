"""The tables in which sources' rows lie, without Spark: in which state they are read, what reading them costs, an entity's rows of them.

The rows of files lie in a table of ours. A table that is read in place is read in the state that the source's last ingest saw, which is
kept in the lake, so that no value is made of rows of which the registry knows nothing.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from feature_definitions import layout
from feature_definitions.intervals import ALWAYS, Interval, in_utc, utc_date
from feature_definitions.language import DeltaTable, Jdbc, Query, Source, Table
from feature_definitions.layout import DATE, FILE, INGEST, LINE, LIVE, TIME
from lake import delta, storage
from lake.delta import Fence

UNSEEN = -1
Row = Mapping[str, Any]
_COMPARABLE = ("string", "int64", "date", "boolean")
"""The types whose values are compared as they lie there."""


@dataclass(frozen=True, slots=True)
class PinnedVersion:
    """The state of a table that a source reads: its version, None if it has none (then its newest state is read), `UNSEEN` without table.

    `place` is where it lies: a path (relative to the lake, if the definition's is relative to the project), a URL, or a name in Spark's
    catalog. `source` is the source that reads it itself; a query has a pin for each.
    """

    source: str
    place: str
    table_id: str | None
    version: int | None

    def path(self, lake: str) -> str:
        """Where a table that has versions lies."""
        return self.place if self.is_remote else storage.joined(lake, self.place)

    @property
    def is_remote(self) -> bool:
        """Whether only Spark can read it."""
        return "://" in self.place or self.version is None


_PINS = pa.schema([("source", pa.string()), ("place", pa.string()), ("table_id", pa.string()), ("version", pa.int64())])


def keep(source: Source, found: Iterable[PinnedVersion], lake: str, *, commit_id: str, fence: Fence) -> None:
    """Say in which state the tables of a source are read from now on, in one commit."""
    rows = pa.Table.from_pylist([asdict(pin) for pin in found], schema=_PINS)
    delta.replace_records(layout.pins_table(lake, source.name), rows, commit_id=commit_id, fence=fence)


def pinned(source: Source, lake: str) -> dict[str, PinnedVersion]:
    """What the last ingest of a source saw, by the source that reads the table itself; nothing before the first."""
    return {row["source"]: PinnedVersion(**row) for row in delta.rows(layout.pins_table(lake, source.name), ["true"])}


def place_named(source: Source) -> str:
    """What is read in place, as the definition calls it."""
    match source.at:
        case DeltaTable(path=text) | Table(name=text) | Jdbc(table=str(text)):
            return text
    return "its query"


def footprint(source: Source, lake: str, *, dates: Collection[date]) -> tuple[int, int]:
    """The number and the bytes of the files that are read for these dates of a source.

    In place all files are read, if rows have ids or a query reads them. Of tables that only Spark can read nothing is known.
    """
    if not source.lies_in_place:
        return delta.footprint(layout.source_table(lake, source.name), partition=DATE, dates=dates)
    whole = bool(source.id) or isinstance(source.at, Query)
    known = [pin for pin in pinned(source, lake).values() if not pin.is_remote and pin.version != UNSEEN]
    time = None if whole or not dates else source.event_timestamp
    found = [delta.files_of(pin.path(lake), version=pin.version, time=time, dates=dates) for pin in known if dates]
    return sum(files for files, _ in found), sum(size for _, size in found)


# ----------------------------------------------------------------------------------------------------------- an entity's events


def events(source: Source, lake: str, *, entity: Mapping[str, object], window: Interval) -> list[Row] | None:
    """The live rows of an entity in a window, newest first, each with its time, file, line and ingest; None if only Spark can tell."""
    found = _in_place(source, lake, entity) if source.lies_in_place else _ingested(source, lake, entity, window)
    if found is None:
        return None
    inside = [row for row in found if window.start <= row[TIME] < window.end]
    return sorted(inside, key=lambda row: (row[TIME], row[FILE] or "", row[LINE] or 0), reverse=True)


def _ingested(source: Source, lake: str, entity: Mapping[str, object], window: Interval) -> list[Row]:
    dates = [f"{DATE} >= {delta.literal(utc_date(window.start))}", f"{DATE} <= {delta.literal(utc_date(window.end))}"]
    return list(delta.rows(layout.source_table(lake, source.name), [*_is(entity), *dates, LIVE]))


def _in_place(source: Source, lake: str, entity: Mapping[str, object]) -> list[Row] | None:
    """The entity's rows in the pinned state of a table, each id once."""
    pin = pinned(source, lake).get(source.name)
    if isinstance(source.at, Query) or pin is None or pin.is_remote:
        return None
    mine = _of_table(source, pin, lake, _is(entity))
    if not (mine and source.id):
        return mine
    plain = [name for name in source.id if source.columns[name] in _COMPARABLE]
    same = [" AND ".join(["true", *_is({name: row[name] for name in plain})]) for row in mine]
    rivals = _of_table(source, pin, lake, [" OR ".join(f"({one})" for one in dict.fromkeys(same))])
    return [row for row in _newest(rivals, source) if all(row[key] == value for key, value in entity.items())]


def _of_table(source: Source, pin: PinnedVersion, lake: str, conditions: Sequence[str]) -> list[Row]:
    """The rows with an id and a time."""
    zone = ZoneInfo(source.timezone) if source.timezone else None
    at, needed = source.event_timestamp, [name for name in (source.event_timestamp, *source.id) if name]
    rows = delta.rows(pin.path(lake), conditions, version=pin.version)
    more = {FILE: pin.place, LINE: None, INGEST: None}
    return [
        {**row, **more, TIME: ALWAYS.start if at is None else in_utc(row[at], zone)}
        for row in rows
        if all(row[name] is not None for name in needed)
    ]


def newest_first(source: Source) -> tuple[str, ...]:
    """The columns by which the newest of several rows of one id is found, in place: the one with the greatest values counts."""
    return tuple(dict.fromkeys(name for name in (source.arrived_at, source.event_timestamp, *source.columns) if name))


def _newest(rows: Sequence[Row], source: Source) -> list[Row]:
    """Of several rows of an id the one that counts."""
    ranked = sorted(rows, key=lambda row: [(row[name] is not None, row[name]) for name in newest_first(source)])
    return list({tuple(row[name] for name in source.id): row for row in ranked}.values())


def _is(entity: Mapping[str, object]) -> list[str]:
    return [f'"{key}" = {delta.literal(value)}' for key, value in entity.items()]
