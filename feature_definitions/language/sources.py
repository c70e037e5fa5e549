# mypy: disable-error-code=redundant-expr
# What users write is checked when it runs: a definition may hold anything, whatever its types say.
"""Entities, and the sources of raw data about them: where it lies, its columns and types, and when a row happened."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from feature_definitions.intervals import duration, parse_instant
from feature_definitions.language.columns import Column, Columns, columns_of
from feature_definitions.language.databases import Jdbc
from feature_definitions.language.expect import Expectation, expectations
from feature_definitions.language.file_formats import Files
from feature_definitions.language.on_s3 import check_on_s3
from feature_definitions.language.rules import (
    RESERVED,
    DefinitionError,
    check_columns,
    check_known,
    check_name,
    check_span,
    check_sql,
    check_unique,
    listed,
    texts,
    typed,
)
from feature_definitions.layout import S3
from feature_definitions.sql.data_types import is_array

_TABLE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*){0,2}")
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_AS_TEXT = {"csv": "CSV", "jsonl": "JSON"}
_LONGEST_LAG = timedelta(days=730)


@dataclass(frozen=True, slots=True)
class Entity:
    """What features are about: a name and its join keys with their types, in order; several keys make a composite one."""

    name: str
    keys: Mapping[str, str]

    def __post_init__(self) -> None:
        """Check the name, the keys and their types."""
        check_name("entity", self.name)
        check_columns(f"entity {self.name}", self.keys)
        for key, data_type in self.keys.items():
            if data_type not in ("string", "int64", "date", "boolean"):
                raise DefinitionError(f"entity {self.name}: its key {key!r} is a {data_type}; a key is a string, int64, date or boolean")
            if key.lower() in RESERVED:
                raise DefinitionError(f"entity {self.name}: {key!r} is a column of every feature table; name the key differently")
        object.__setattr__(self, "keys", typed(self.keys))


@dataclass(frozen=True, slots=True)
class DeltaTable:
    """A Delta table, read in place: a path relative to the project's root, one on S3, or another URL that Spark knows.

    An ingest records what changed in it; readers read the version that the last ingest saw, nothing newer.
    """

    path: str

    def __post_init__(self) -> None:
        """Check the path."""
        if not isinstance(self.path, str) or not self.path.strip():
            raise DefinitionError("DeltaTable needs a path, like DeltaTable('data/payments')")
        check_on_s3(f"DeltaTable({self.path!r})", self.path)


@dataclass(frozen=True, slots=True)
class Table:
    """A table that Spark's catalog knows, read in place.

    If it is a Delta table, readers read the version that the last ingest saw. Of any other, each ingest reads all, and readers see
    its newest rows: what they make of rows that changed since is made anew once the next ingest has seen the change, unless these rows
    are then what they were before.
    """

    name: str

    def __post_init__(self) -> None:
        """Check the name."""
        if not isinstance(self.name, str) or not _TABLE.fullmatch(self.name):
            raise DefinitionError(f"Table({self.name!r}) names no table; write its name in Spark's catalog, like Table('sales.payments')")


@dataclass(frozen=True, slots=True)
class Query:
    """One SELECT over other sources, each a table by its name; read in place. What it says is checked by `feature_definitions.check`.

    An ingest of it comes after those of its sources and reads their rows as these brought or saw them; readers read the same.
    It changed where its rows did, so sums of doubles, whose last digits depend on the order of rows, may seem to change with their source.
    `assume_always_known=True` says in so many words that history is read as if it had known the rows of a static source as they are today.
    """

    sql: str
    sources: tuple["Source", ...] = ()
    assume_always_known: bool = False

    def __post_init__(self) -> None:
        """Check that there is SQL, and sources for it to read."""
        where = f"Query({str(self.sql)[:40]!r})"
        check_sql(where, {"sql": self.sql})
        sources = listed(self.sources)
        object.__setattr__(self, "sources", sources)
        if not sources or not all(isinstance(source, Source) for source in sources):
            raise DefinitionError(f"{where} reads no sources; name them as values, like Query('SELECT ...', sources=(payments,))")
        check_unique(where, [source.name for source in sources], "source", "remove one")


SourceShape = Literal["events", "snapshots", "static"]


@dataclass(frozen=True, slots=True)
class Source:
    """Raw data and its time: where it lies, its columns and types, which column says when a row happened.

    `columns` are types by our names, or a `Column` where one has another name in the data or times that are not ISO 8601; `written` has
    a `Column` for each.

    `id` names the columns that make a row unique: the same id again is a correction, and the newest `arrived_at` (else the newest
    ingest) wins. Without `id` every row counts. `timezone` is where times without zone were written down. `at=None` is a source that
    is only fed by `project.write`. An interval is due `ready_after` its end. With `shape="snapshots"` the event timestamp is when the
    state was extracted, and `id` what makes a row unique within one snapshot: the event timestamp is put before it, so that the same id in
    another snapshot is another row, not a correction.

    Rows before `since`, or at or after `until`, are put aside; both are a date (its midnight) or an instant, in UTC. Without `until` those
    are that lie more than a day after now, until their time has come; without `since` those far from all others (`planning.far`).

    `derive` adds columns, each a Spark SQL expression over those before it. There `prev.x` is the column `x` of the row before: of those
    with equal `lag_over` columns the one before it by (event timestamp, `arrived_at`, `id`), if at most `lag_within` older, else null.
    """

    name: str
    at: Files | DeltaTable | Table | Query | Jdbc | None = None
    columns: Columns = field(default_factory=lambda: Columns({}))
    event_timestamp: str | None = None
    timezone: str | None = None
    id: tuple[str, ...] = ()
    arrived_at: str | None = None
    shape: SourceShape = "events"
    ready_after: str = "1h"
    derive: Mapping[str, str] = field(default_factory=dict)
    expect: tuple[Expectation, ...] = ()
    lag_over: tuple[str, ...] = ()
    lag_within: str | None = None
    since: str | None = None
    until: str | None = None

    def __post_init__(self) -> None:
        """Check names, columns, types, times and what is not supported yet."""
        where = f"source {self.name}"
        check_name("source", self.name)
        object.__setattr__(self, "columns", columns_of(where, self.columns))
        object.__setattr__(self, "id", texts(self.id))
        object.__setattr__(self, "lag_over", texts(self.lag_over))
        object.__setattr__(self, "expect", expectations(where, self.expect))
        _check_place(where, self)
        _check_arrays(where, self)
        for name in self.id:
            check_known(where, name, self.columns, what="id")
        for time in (self.arrived_at, self.event_timestamp):
            if time is not None:
                _check_time_column(where, time, self.columns)
        _check_shape(where, self)
        check_span(where, "ready_after", self.ready_after)
        _check_timezone(where, self)
        _check_bounds(where, self)
        object.__setattr__(self, "derive", _derive(where, self))
        _check_lag(where, self)

    @property
    def written(self) -> Mapping[str, Column]:
        """How each column lies in the data, by our name: its name there is ours unless the definition says another."""
        return cast("Columns", self.columns).written

    @property
    def lies_in_place(self) -> bool:
        """Whether its rows are read where they lie; those of files and frames are brought into a table of ours."""
        return isinstance(self.at, DeltaTable | Table | Query | Jdbc)

    @property
    def needs_s3_in_spark(self) -> bool:
        """Whether Spark itself reads rows of it on S3; files there are read by Python."""
        match self.at:
            case DeltaTable(path=path):
                return path.startswith(S3)
            case Query(sources=sources):
                return any(source.needs_s3_in_spark for source in sources)
        return False

    @property
    def lag(self) -> timedelta:
        """How far back a row's derived columns may read: zero where none reads `prev`."""
        return timedelta(0) if self.lag_within is None else duration(self.lag_within)

    @property
    def starts(self) -> datetime | None:
        """Before when rows are put aside whatever others there are; None: that is decided by the others."""
        return None if self.since is None else parse_instant(self.since)

    @property
    def ends(self) -> datetime | None:
        """From when on rows are put aside; None: from a day after now on."""
        return None if self.until is None else parse_instant(self.until)

    @property
    def names(self) -> tuple[str, ...]:
        """All columns, those that are derived last."""
        return (*self.columns, *self.derive)


# ------------------------------------------------------------------------------------------------------------------------ checks


def reads_previous(sql: str) -> bool:
    """Whether an expression of `derive` reads the row before, by `prev.`; quoted text aside."""
    return re.search(r"\bprev`?\s*\.", _QUOTED.sub("''", sql), re.IGNORECASE) is not None


def _check_place(where: str, source: Source) -> None:
    if source.at is not None and not isinstance(source.at, Files | DeltaTable | Table | Query | Jdbc):
        raise DefinitionError(f"{where} lies at {source.at!r}; write at=Files('data/payments/*.csv', format='csv')")
    if isinstance(source.at, Query):
        _check_query(where, source, source.at)
    if isinstance(source.at, Jdbc) and source.at.partition_by is not None:
        _check_partition_by(where, source.at.partition_by, source.columns)


def _check_partition_by(where: str, name: str, columns: Mapping[str, str]) -> None:
    check_known(where, name, columns, what="partition_by")
    if columns[name] not in ("int64", "date", "timestamp"):
        raise DefinitionError(f"{where} has partition_by={name!r}, which is a {columns[name]}; name an int64, date or timestamp column")


def _check_query(where: str, source: Source, query: Query) -> None:
    for read in query.sources:
        if read.name == source.name:
            raise DefinitionError(f"{where} is a query that reads {read.name!r}, itself; give it a name of its own")
        if read.shape == "static" and source.shape != "static" and not query.assume_always_known:
            raise DefinitionError(
                f"{where} is a query that reads {read.name}, which is static, so nobody knows when its rows became true; "
                "write Query(..., assume_always_known=True) if history may be read as if they always were"
            )


def _check_arrays(where: str, source: Source) -> None:
    arrays = [name for name, data_type in source.columns.items() if is_array(data_type)]
    if not arrays:
        return
    if isinstance(source.at, Files) and source.at.format == "csv":
        raise DefinitionError(f"{where}: {arrays[0]!r} is an array, which a CSV file cannot hold; write format='parquet' or 'jsonl'")
    for name in arrays:
        if name in (*source.id, *source.lag_over):
            raise DefinitionError(f"{where}: {name!r} is an array, which cannot tell rows apart; name a column of one value")


def _check_shape(where: str, source: Source) -> None:
    match source.shape:
        case "events":
            _check_timed(where, source, "a row happened")
        case "static":
            if source.event_timestamp is not None:
                raise DefinitionError(f"{where} is static, so it has no event_timestamp; remove it, or write shape='events'")
            if not source.id:
                raise DefinitionError(f"{where} is static: name the columns that make a row unique, like id=('tailnum',)")
        case "snapshots":
            _check_timed(where, source, "the state was extracted")
            if not set(source.id) - {source.event_timestamp}:
                raise DefinitionError(f"{where} has snapshots: name what makes a row unique within one, like id=('contract_id',)")
            others = tuple(name for name in source.id if name != source.event_timestamp)
            object.__setattr__(source, "id", (str(source.event_timestamp), *others))
        case _:
            raise DefinitionError(f"{where} has the shape {source.shape!r}; write 'events', 'snapshots' or 'static'")


def _check_timed(where: str, source: Source, what: str) -> None:
    if source.event_timestamp is None:
        raise DefinitionError(f"{where} has no event_timestamp; name the column that says when {what}")


def _check_time_column(where: str, name: str, columns: Mapping[str, str]) -> None:
    check_known(where, name, columns, what="time column")
    if columns[name] != "timestamp":
        raise DefinitionError(f"{where}: {name!r} says when, so its type is timestamp, not {columns[name]}")


def _check_timezone(where: str, source: Source) -> None:
    if source.timezone is not None:
        try:
            ZoneInfo(source.timezone)
        except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
            raise DefinitionError(f"{where} has the timezone {source.timezone!r}; write a name like 'UTC' or 'America/New_York'") from None
    times = [name for name, column in source.written.items() if column.has_no_zone]
    if times and source.timezone is None and isinstance(source.at, Files) and source.at.format in _AS_TEXT:
        raise DefinitionError(
            f"{where}: {times[0]!r} is a timestamp in a {_AS_TEXT[source.at.format]} file, which may be written without a zone; "
            "say where it was written down, like timezone='UTC' (times that carry a zone keep theirs)"
        )
    stated = [name for name in times if source.written[name].format is not None]
    if stated and source.timezone is None:
        raise DefinitionError(
            f"{where}: the format of {stated[0]!r} has no zone; say where its times were written down, like timezone='UTC', or write %z"
        )


def _check_bounds(where: str, source: Source) -> None:
    given = {what: text for what, text in (("since", source.since), ("until", source.until)) if text is not None}
    for what, text in given.items():
        if source.event_timestamp is None:
            raise DefinitionError(f"{where} is static, so its rows have no time that {what} could bound; remove {what}")
        try:
            parse_instant(text)
        except (ValueError, OverflowError, AttributeError):
            raise DefinitionError(
                f"{where} has {what}={text!r}; write a date or an instant in UTC, like {what}='2020-01-01' or {what}='2020-01-01T06:00:00Z'"
            ) from None
    if source.starts is not None and source.ends is not None and source.ends <= source.starts:
        raise DefinitionError(f"{where} has until={source.until!r}, which is not after since={source.since!r}; it would have no rows")


def _derive(where: str, source: Source) -> Mapping[str, str]:
    """The derived columns, frozen, if their names are free; what they read and give is checked by `feature_definitions.check`."""
    if not isinstance(source.derive, Mapping):
        raise DefinitionError(f"{where} has derive={source.derive!r}; write derive={{'value': 'price * volume'}}")
    if source.derive:
        check_columns(where, dict.fromkeys(source.derive, "string"))
    taken = {name.lower() for name in source.columns}
    for name, sql in source.derive.items():
        if name.lower() in taken:
            raise DefinitionError(f"{where} derives {name!r}, which is a column of it already; give it another name")
        check_sql(where, {f"derive[{name!r}]": sql})
    return MappingProxyType(dict(source.derive))


def _check_lag(where: str, source: Source) -> None:
    lagging = [name for name, sql in source.derive.items() if reads_previous(sql)]
    if lagging:
        _check_row_before(where, source, start=f"{where}: {lagging[0]!r} reads the row before by prev.")
    elif source.lag_over or source.lag_within is not None:
        raise DefinitionError(f"{where} has lag_over or lag_within, but derives nothing by prev.; remove them, or write prev.close")


def _check_row_before(where: str, source: Source, *, start: str) -> None:
    if source.shape != "events":
        raise DefinitionError(f"{start}, which only a source of events has; its shape is {source.shape!r}")
    if not source.lag_over:
        raise DefinitionError(f"{start}; before it of what? Name the columns that both rows share, like lag_over=('symbol',)")
    if source.lag_within is None:
        raise DefinitionError(f"{start}; say how old that row may be, like lag_within='10d'")
    for name in source.lag_over:
        check_known(where, name, source.columns, what="lag_over")
    if not timedelta(0) < check_span(where, "lag_within", source.lag_within) <= _LONGEST_LAG:
        raise DefinitionError(f"{where} has lag_within={source.lag_within!r}; write a duration above 0s, at most 730d")
    if "prev" in (name.lower() for name in source.names):
        raise DefinitionError(f"{start}, and has a column named prev; rename that column")
