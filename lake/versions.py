"""Which state of the tables that are read in place holds: that which the newest ingest looked at, kept in the lake. Needs no Spark."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from feature_definitions import layout
from feature_definitions.language import DeltaTable, Query, Source, Table
from lake import delta

UNSEEN = -1


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
        return self.place if self.is_remote else os.path.normpath(Path(lake, self.place))

    @property
    def is_remote(self) -> bool:
        """Whether only Spark can look at it."""
        return "://" in self.place or self.version is None


def reads(source: Source) -> bool:
    """Whether a source is read in place."""
    return isinstance(source.at, DeltaTable | Table | Query)


def spoken(source: Source) -> str:
    """What is read in place, as the definition calls it."""
    match source.at:
        case DeltaTable(path=text) | Table(name=text):
            return text
    return "its query"


def pinned(source: Source, lake: str) -> dict[str, PinnedVersion]:
    """What the newest ingest of a source looked at, by the source that reads it itself; nothing before the first."""
    return {row["source"]: PinnedVersion(**row) for row in delta.rows(layout.look_table(lake, source.name), ["true"])}


def footprint(source: Source, lake: str, *, dates: Collection[date]) -> tuple[int, int]:
    """The number and the bytes of the files that are read for these dates: all, if rows have ids or a query reads them.

    Of tables that only Spark can look at nothing is known.
    """
    whole = bool(source.id) or isinstance(source.at, Query)
    known = [pin for pin in pinned(source, lake).values() if not pin.is_remote and pin.version != UNSEEN]
    time = None if whole or not dates else source.event_timestamp
    found = [delta.files_of(pin.path(lake), version=pin.version, time=time, dates=dates) for pin in known if dates]
    return sum(files for files, _ in found), sum(size for _, size in found)
