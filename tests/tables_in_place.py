"""Tables under test that are read in place: their catalog and columns, and what an ingest of one found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from feature_definitions.intervals import MICROSECOND
from spark_jobs.ingest import events
from spark_jobs.ingest.journal import IngestReport

if TYPE_CHECKING:
    from feature_definitions.records import Revision
    from headwater import Project

CATALOG = """
from feature_definitions import DeltaTable, Files, Query, Source, Table, expression

orders = Source("orders", DeltaTable("data/orders"), columns={"id": "string", "x": "int64", "w": "double", "at": "timestamp",
                "arrived": "timestamp"}, event_timestamp="at", id=("id",), arrived_at="arrived", expect=(expression("x < 1000"),))
clicks = Source("clicks", DeltaTable("data/clicks"), columns={"x": "int64", "at": "timestamp"}, event_timestamp="at",
                derive={"twice": "x * 2"})
copied = Source("copied", DeltaTable("data/clicks"), columns={"x": "int64", "at": "timestamp"}, event_timestamp="at")
steps = Source("steps", DeltaTable("data/steps"), columns={"of": "string", "x": "int64", "at": "timestamp"}, event_timestamp="at",
               derive={"more": "x - prev.x"}, lag_over=("of",), lag_within="2d", until="2026-02-01")
local = Source("local", DeltaTable("data/local"), columns={"x": "int64", "at": "timestamp"}, event_timestamp="at",
               timezone="Europe/Berlin", until="2027-01-01")
people = Source("people", DeltaTable("data/people"), columns={"id": "string", "city": "string"}, id=("id",), shape="static")
"""
TIME = pa.timestamp("us", "UTC")
SCHEMA = {
    "orders": {
        "id": pa.string(),
        "x": pa.int32(),
        "w": pa.float32(),
        "at": pa.timestamp("us", "UTC"),
        "arrived": pa.timestamp("us", "UTC"),
    },
    "clicks": {"x": pa.int64(), "at": TIME, "beside": pa.string()},
    "steps": {"of": pa.string(), "x": pa.int64(), "at": TIME},
    "local": {"x": pa.int64(), "at": pa.timestamp("us")},
    "people": {"id": pa.string(), "city": pa.string()},
}


def on(day: int, hour: int = 12) -> datetime:
    return datetime(2026, 1, day, hour, tzinfo=UTC)


def rows(table: str, *values: tuple[Any, ...]) -> pa.Table:
    """Rows in the types of a table; what is not given is null."""
    schema = pa.schema(list(SCHEMA[table].items()))
    return pa.Table.from_pylist([dict(zip(schema.names, value, strict=False)) for value in values], schema=schema)


@dataclass(frozen=True, slots=True)
class Step:
    """What an ingest reported, the rows that are read after it, and the revisions that it made."""

    report: IngestReport
    live: list[dict[str, Any]]
    revisions: tuple[Revision, ...]

    @property
    def extents(self) -> dict[int, tuple[datetime, datetime]]:
        """The first and the last time that changed on each day of January."""
        return {r.date.day: (r.first, r.end - MICROSECOND) for r in self.revisions}

    def values(self, key: str = "id", value: str = "x") -> dict[Any, Any]:
        return {row[key]: row[value] for row in self.live}


def ingested(project: Project, source: str) -> Step:
    step = ingested_alone(project, source)
    live = events.read(project.catalog.sources[source], project._context).toArrow().to_pylist()
    return replace(step, live=sorted(live, key=str))


def ingested_alone(project: Project, source: str) -> Step:
    """The step of an ingest after which nothing is read."""
    report = project.ingest(source)[-1]
    return Step(report, [], tuple(r for r in project._registry.revisions(source) if r.revision == report.revision))
