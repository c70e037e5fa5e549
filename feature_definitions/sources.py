# mypy: disable-error-code=redundant-expr
# What users write is checked when it runs: a definition may hold anything, whatever its types say.
"""Entities, and the sources of raw data about them: where it lies, its columns and types, and when a row happened."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from feature_definitions.expect import Expectation, expectations
from feature_definitions.rules import RESERVED, DefinitionError, NotYet, check_columns, check_known, check_name, check_span, texts, typed


@dataclass(frozen=True, slots=True)
class Entity:
    """What features are about: a name and its join keys with their types, in order; several keys make a composite one."""

    name: str
    keys: Mapping[str, str]

    def __post_init__(self) -> None:
        """Check the name, the keys and their types."""
        check_name("entity", self.name)
        check_columns(f"entity {self.name}", self.keys)
        for key, kind in self.keys.items():
            if kind not in ("string", "int64", "date", "boolean"):
                raise DefinitionError(f"entity {self.name}: its key {key!r} is a {kind}; a key is a string, int64, date or boolean")
            if key.lower() in RESERVED:
                raise DefinitionError(f"entity {self.name}: {key!r} is a column of every feature table; name the key differently")
        object.__setattr__(self, "keys", typed(self.keys))


@dataclass(frozen=True, slots=True)
class Files:
    """CSV or Parquet files: a glob relative to the project's root."""

    path: str
    format: str = "csv"

    def __post_init__(self) -> None:
        """Check the path and the format."""
        if not isinstance(self.path, str) or not self.path:
            raise DefinitionError("Files needs a path, like Files('data/payments/*.csv', format='csv')")
        if self.format in ("json", "jsonl"):
            raise NotYet(f"Files({self.path!r})", f"format {self.format!r}")
        if self.format not in ("csv", "parquet"):
            raise DefinitionError(f"Files({self.path!r}) has the format {self.format!r}; write 'csv' or 'parquet'")


@dataclass(frozen=True, slots=True)
class DeltaTable:
    """A Delta table read in place (not supported yet)."""

    path: str


@dataclass(frozen=True, slots=True)
class Table:
    """A Spark table read in place (not supported yet)."""

    name: str


@dataclass(frozen=True, slots=True)
class Query:
    """A query over sources (not supported yet)."""

    sql: str


Shape = Literal["events", "snapshots", "static"]


@dataclass(frozen=True, slots=True)
class Source:
    """Raw data and its time: where it lies, its columns and types, which column says when a row happened.

    `id` names the columns that make a row unique: the same id again is a correction, and the newest `arrived_at` (else the newest
    ingest) wins. Without `id` every row counts. `timezone` is where times without zone were written down. `at=None` is a source that
    is only fed by `project.write`. An interval is due `ready_after` its end.
    """

    name: str
    at: Files | DeltaTable | Table | Query | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    event_timestamp: str | None = None
    timezone: str | None = None
    id: tuple[str, ...] = ()
    arrived_at: str | None = None
    shape: Shape = "events"
    ready_after: str = "1h"
    derive: Mapping[str, str] = field(default_factory=dict)
    expect: tuple[Expectation, ...] = ()

    def __post_init__(self) -> None:
        """Check names, columns, types, times and what is not supported yet."""
        where = f"source {self.name}"
        check_name("source", self.name)
        check_columns(where, self.columns)
        _refuse_in_source(where, self)
        object.__setattr__(self, "columns", typed(self.columns))
        object.__setattr__(self, "derive", MappingProxyType(dict(self.derive)))
        object.__setattr__(self, "id", texts(self.id))
        object.__setattr__(self, "expect", expectations(where, self.expect))
        for name in self.id:
            check_known(where, name, self.columns, what="id")
        for time in (self.arrived_at, self.event_timestamp):
            if time is not None:
                _check_time_column(where, time, self.columns)
        if self.shape == "events" and self.event_timestamp is None:
            raise DefinitionError(f"{where} has no event_timestamp; name the column that says when a row happened")
        if self.shape == "static" and self.event_timestamp is not None:
            raise DefinitionError(f"{where} is static, so it has no event_timestamp; remove it, or write shape='events'")
        if self.shape == "static" and not self.id:
            raise DefinitionError(f"{where} is static: name the columns that make a row unique, like id=('tailnum',)")
        check_span(where, "ready_after", self.ready_after)
        _check_timezone(where, self)


def _check_time_column(where: str, name: str, columns: Mapping[str, str]) -> None:
    check_known(where, name, columns, what="time column")
    if columns[name] != "timestamp":
        raise DefinitionError(f"{where}: {name!r} says when, so its type is timestamp, not {columns[name]}")


def _check_timezone(where: str, source: "Source") -> None:
    if source.timezone is not None:
        try:
            ZoneInfo(source.timezone)
        except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
            raise DefinitionError(f"{where} has the timezone {source.timezone!r}; write a name like 'UTC' or 'America/New_York'") from None
    times = [name for name, kind in source.columns.items() if kind == "timestamp"]
    if times and source.timezone is None and isinstance(source.at, Files) and source.at.format == "csv":
        raise DefinitionError(
            f"{where}: {times[0]!r} is a timestamp in a CSV file, which may be written without a zone; "
            "say where it was written down, like timezone='UTC' (times that carry a zone keep theirs)"
        )


def _refuse_in_source(where: str, source: "Source") -> None:
    if isinstance(source.at, DeltaTable | Table | Query):
        raise NotYet(where, type(source.at).__name__)
    if source.at is not None and not isinstance(source.at, Files):
        raise DefinitionError(f"{where} lies at {source.at!r}; write at=Files('data/payments/*.csv', format='csv')")
    if source.shape not in ("events", "snapshots", "static"):
        raise DefinitionError(f"{where} has the shape {source.shape!r}; write 'events' or 'static'")
    if source.shape == "snapshots":
        raise NotYet(where, "dated snapshots")
    if source.derive:
        raise NotYet(where, "lag" if any("prev." in sql or "lag" in sql for sql in source.derive.values()) else "derive")
