"""The registry's tables, derived from the records: instants are integer microseconds, feature maps are stored once."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Generic

from sqlalchemy import BigInteger, Boolean, Column, Double, MetaData, String, Table, Text
from sqlalchemy.types import TypeEngine

from feature_definitions.intervals import instant, micros
from feature_definitions.record_rows import Kind, Record, RecordRows, RecordStore, Row, json_mapping, json_text
from feature_definitions.records import Epoch, Generation, IngestedFile, LedgerEntry, Promotion, Publish, Release, Revision

REVISION = "10"
"""The name of the newest step in `migrations`: these tables are what it leaves."""

metadata = MetaData()

_TEXT = Text().with_variant(Text(collation="C"), "postgresql")
"""Text that is ordered by its signs, as SQLite orders it, and not by a language."""
_TYPES: dict[Kind, TypeEngine[Any]] = {
    "text": _TEXT,
    "integer": BigInteger(),
    "number": Double(),
    "truth": Boolean(),
    "instant": BigInteger(),
    "date": _TEXT,
    "texts": _TEXT,
    "json": _TEXT,
}
_REGISTRY = RecordStore(
    interval=("start_at", "end_at"),
    names={"group": "feature_group", "current": "is_current", "by": "promoted_by", "first": "first_at", "end": "end_at"},
    keep={
        "number": float,
        "instant": micros,
        "date": date.isoformat,
        "texts": lambda texts: json.dumps(texts, ensure_ascii=False) if texts else "[]",
        "json": json_text,
    },
    read={
        "instant": instant,
        "date": date.fromisoformat,
        "texts": lambda text: () if text == "[]" else tuple(json.loads(text)),
        "json": json_mapping,
    },
)


@dataclass(frozen=True, slots=True)
class Remembered(Generic[Record]):
    """One kind of record: its table and its rows. `with_features` are those whose features lie in `feature_maps`, by name."""

    table: Table
    rows: RecordRows[Record]
    with_features: bool

    def row(self, record: Record, *, maps: dict[str, Mapping[str, str]]) -> Row:
        """The row of a record; its features are noted in `maps`."""
        return self.rows.row(record, **({"features_id": named(record.features, maps)} if self.with_features else {}))  # type: ignore[attr-defined]  # those that have them

    def record(self, row: Mapping[str, Any], *, maps: Mapping[str, Mapping[str, str]]) -> Record:
        """The record of a row, with its features."""
        return self.rows.record(row, **({"features": maps[row["features_id"]]} if self.with_features else {}))

    def records(self, columns: Mapping[str, Sequence[Any]], *, maps: Mapping[str, Mapping[str, str]]) -> Iterator[Record]:
        """The records of rows that are given by column, with their features."""
        return self.rows.records(columns, **({"features": [maps[name] for name in columns["features_id"]]} if self.with_features else {}))


def _remembered(name: str, record: type[Record], *key: str) -> Remembered[Record]:
    with_features = "features" in record.__dataclass_fields__  # type: ignore[attr-defined]  # every record is a dataclass
    rows = RecordRows(record, _REGISTRY, without=("features",))
    found = {column.name: (_TYPES[column.kind], column.optional) for column in rows.columns}
    beside = {"features_id": _TEXT} if with_features else {}
    columns = {name: (kind,) if optional else kind for name, (kind, optional) in found.items() if name not in key}
    return Remembered(_table(name, {name: found[name][0] for name in key}, **columns, **beside), rows, with_features)


def _table(name: str, key: Mapping[str, Any], **columns: Any) -> Table:
    """A table of required columns (a type in a tuple may be null) whose primary key is `key`."""
    return Table(
        name,
        metadata,
        *(Column(column, kind, primary_key=True, autoincrement=False) for column, kind in key.items()),
        *(
            Column(column, kind[0] if isinstance(kind, tuple) else kind, nullable=isinstance(kind, tuple))
            for column, kind in columns.items()
        ),
    )


FILES = _remembered("files", IngestedFile, "source", "path")
REVISIONS = _remembered("revisions", Revision, "source", "revision", "date")
LEDGER = _remembered("ledger", LedgerEntry, "feature_group", "generation", "start_at")
PUBLISHES = _remembered("publishes", Publish, "feature_group", "generation", "publish_id", "start_at")
GENERATIONS = _remembered("generations", Generation, "feature_group", "number")
PROMOTIONS = _remembered("promotions", Promotion, "feature_group", "number")
RELEASES = _remembered("releases", Release, "feature_group", "generation", "start_at")
EPOCHS = _remembered("epochs", Epoch, "feature_group", "epoch")

FACTS: dict[str, Remembered[Any]] = {
    "files": FILES,
    "revisions": REVISIONS,
    "entries": LEDGER,
    "publishes": PUBLISHES,
    "generations": GENERATIONS,
    "promotions": PROMOTIONS,
    "releases": RELEASES,
    "epochs": EPOCHS,
}
"""What a lake can restore, by the fields of `RegistryFacts`."""

revision = _table("alembic_version", {"version_num": String(32)})
"""Which step of `migrations` made the tables, in Alembic's own table."""
versions = _table("registry_version", {"version": BigInteger})
"""What versions of Headwater without `migrations` read: since then 4, which they refuse."""
feature_maps = _table("feature_maps", {"features_id": _TEXT}, features=_TEXT)
tiles = _table("tiles", {"path": _TEXT, "date": _TEXT}, table_id=_TEXT, revision=BigInteger, states=_TEXT)
moves = _table("moves", {"move_id": _TEXT}, moved_to=(_TEXT,), moved_at=BigInteger)
"""The moves of this registry from one database to another: where it was moved to, or null where it came here."""
pending = _table("pending", {"pending_id": _TEXT}, kind=_TEXT, subject=_TEXT, change=_TEXT)
leases = _table(
    "leases",
    {"name": _TEXT},
    host=_TEXT,
    boot=_TEXT,
    pid=BigInteger,
    process_started=BigInteger,
    taken_at=BigInteger,
    renewed_at=BigInteger,
    token=BigInteger,
    unfenced=Boolean,
)
"""Who works on what; a lease that nobody holds stays, with pid 0, so that its token goes on counting."""


def features_id(features: Mapping[str, str]) -> str:
    """The name under which a feature map is stored: a hash of its columns, in order, and their fingerprints."""
    return hashlib.sha256(features_text(features).encode()).hexdigest()[:32]


def features_text(features: Mapping[str, str]) -> str:
    """A feature map as it is stored."""
    return json.dumps(dict(features), ensure_ascii=False)


def named(features: Mapping[str, str], maps: dict[str, Mapping[str, str]]) -> str:
    """The name of a feature map, which is noted in `maps`; the entries of a publish mostly share one."""
    same = next((name for name, known in maps.items() if known is features), None)
    if same is not None:
        return same
    name = features_id(features)
    maps.setdefault(name, features)
    return name
