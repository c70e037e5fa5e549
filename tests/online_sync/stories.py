"""A group's published past written by hand, without Spark: publishes one after the other, with the rows that each brings or takes away."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from deltalake import write_deltalake

from feature_definitions import Entity, Feature, ObservationGroup, Source, WindowedGroup, layout
from feature_definitions.intervals import Interval, floor
from feature_definitions.records import Publish
from feature_definitions.sql.column_types import column_types_of
from lake.arrow_types import arrow_type
from lake.readable import Published

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from feature_definitions.language import FeatureGroup

HOUR = timedelta(hours=1)
FIRST = datetime(2026, 1, 5, 22, tzinfo=UTC)
"""Two hours before midnight, so that intervals lie in two partitions."""
UTC_TIME = pa.timestamp("us", tz="UTC")

walker = Entity("walker", {"walker": "int64"})
steps = Source("steps", columns={"walker": "int64", "pace": "double", "at": "timestamp"}, event_timestamp="at")
SEEN = ObservationGroup("seen", walker, steps, columns=("pace",), ttl="3h", every="1h")
WALKED = WindowedGroup("walked", walker, steps, every="1h", ttl="3h", features=(Feature("far", "sum", "pace", windows=("2h",)),))

Row = dict[str, Any]


@dataclass
class Story:
    """The tables of a group, and what was published; each publish is known when it is said."""

    group: FeatureGroup
    lake: str
    rows: dict[tuple[int, datetime], Row] = field(default_factory=dict)
    replaced: list[Row] = field(default_factory=list)
    publishes: list[Publish] = field(default_factory=list)

    def publish(self, start: datetime, rows: Mapping[tuple[int, datetime], float], *, known: datetime, empties: int = 2) -> None:
        """Publish an interval: these rows are its own, by entity and time; what is not there any more is taken back.

        A row whose value did not change keeps the publish that brought it.
        """
        publish_id, interval = f"p{len(self.publishes):04}", Interval(start, start + HOUR)
        column = self.group.outputs[0]
        for name in [name for name, row in self.rows.items() if row["start"] == start]:
            old = self.rows[name]
            if name not in rows or rows[name] != old[column]:
                self.replaced.append(old | {"replaced_by": publish_id, "retracted": False})
                del self.rows[name]
                if name not in rows:
                    self.replaced.append(old | {"publish_id": publish_id, "replaced_by": None, "retracted": True})
        for (walker_id, at), value in rows.items():
            new = {"walker": walker_id, "event_timestamp": at, "publish_id": publish_id, "held": False, "start": start, column: value}
            self.rows.setdefault((walker_id, at), new | {"empties_at": at + empties * HOUR if self.group.keeps_rows else None})
        self.publishes.append(Publish(publish_id, self.group.name, 1, interval, known, "OBSERVED"))
        self._write()

    @property
    def published(self) -> Published:
        """The group as it can be read now."""
        empty = '{"far_2h": 0.0}' if self.group.keeps_rows else None
        return Published(self.group, 1, self.lake, column_types_of(self.group), tuple(self.publishes), empty)

    def _write(self) -> None:
        own: dict[str, pa.DataType] = {"walker": pa.int64(), "event_timestamp": UTC_TIME, "empties_at": UTC_TIME, "held": pa.bool_()}
        own |= {"publish_id": pa.string(), self.group.outputs[0]: arrow_type("double"), "date": pa.date32()}
        write(layout.feature_table(self.lake, self.group.name, 1), self.rows.values(), own)
        if self.replaced:
            more: dict[str, pa.DataType] = {"retracted": pa.bool_(), "replaced_by": pa.string()}
            write(layout.history_table(self.lake, self.group.name, 1), self.replaced, own | more)


def write(path: str, rows: Iterable[Row], columns: Mapping[str, pa.DataType]) -> None:
    """Put a table with these rows in the place of what is there."""
    found = [row | {"date": row["start"].date()} for row in rows]
    Path(path).mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([{name: row[name] for name in columns} for row in found], schema=pa.schema([*columns.items()]))
    write_deltalake(path, table, partition_by=["date"], mode="overwrite")


def hour_of(at: datetime) -> datetime:
    """The start of the hour that a time lies in."""
    return floor(at, HOUR)
