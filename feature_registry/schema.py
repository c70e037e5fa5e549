"""The registry's tables, and each record as a row of its table: instants are integer microseconds, feature maps are stored once."""

import hashlib
import json
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Double, MetaData, String, Table, Text

from feature_definitions.intervals import Interval, instant, micros
from feature_definitions.records import Epoch, Generation, IngestedFile, LedgerEntry, Promotion, Publish, Release, Revision

Row = dict[str, Any]
"""A row by column name: what a table stores and what a pending change keeps as JSON."""

REVISION = "4"
"""The name of the newest step in `migrations`: these tables are what it leaves."""

metadata = MetaData()


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


revision = _table("alembic_version", {"version_num": String(32)})
"""Which step of `migrations` made the tables, in Alembic's own table."""
versions = _table("registry_version", {"version": BigInteger})
"""What versions of Headwater without `migrations` read: since then 4, which they refuse."""
files = _table("files", {"source": Text, "path": Text}, sha256=Text, rows=BigInteger, quarantined=BigInteger, ingest_id=Text)
revisions = _table(
    "revisions",
    {"source": Text, "revision": BigInteger, "date": Text},
    first_at=BigInteger,
    end_at=BigInteger,
    content_hash=Text,
    rows=BigInteger,
    recorded_at=BigInteger,
)
feature_maps = _table("feature_maps", {"features_id": Text}, features=Text)
ledger = _table(
    "ledger",
    {"feature_group": Text, "generation": BigInteger, "start_at": BigInteger},
    end_at=BigInteger,
    state=Text,
    publish_id=Text,
    features_id=Text,
    gate=Text,
    revision=BigInteger,
    rows=BigInteger,
    delta_version=(BigInteger,),
    failed=Text,
    warned=Text,
    run_id=Text,
    seconds=Double,
    recorded_at=BigInteger,
    inputs=(Text,),
)
publishes = _table(
    "publishes",
    {"feature_group": Text, "generation": BigInteger, "publish_id": Text, "start_at": BigInteger},
    end_at=BigInteger,
    known_from=BigInteger,
    basis=Text,
)
generations = _table(
    "generations",
    {"feature_group": Text, "number": BigInteger},
    features_id=Text,
    is_current=Boolean,
    first_published_at=(BigInteger,),
    empty=(Text,),
)
promotions = _table(
    "promotions",
    {"feature_group": Text, "number": BigInteger},
    generation=BigInteger,
    newest=BigInteger,
    promoted_by=Text,
    promoted_at=BigInteger,
)
releases = _table(
    "releases",
    {"feature_group": Text, "generation": BigInteger, "start_at": BigInteger},
    end_at=BigInteger,
    revision=BigInteger,
    reason=Text,
    released_at=BigInteger,
)
epochs = _table(
    "epochs",
    {"feature_group": Text, "epoch": BigInteger},
    generation=BigInteger,
    coverage=(BigInteger,),
    rows=BigInteger,
    written=BigInteger,
    synced_at=BigInteger,
)
tiles = _table("tiles", {"path": Text, "date": Text}, table_id=Text, revision=BigInteger, states=Text)
pending = _table("pending", {"pending_id": Text}, kind=Text, subject=Text, change=Text)
leases = _table(
    "leases",
    {"name": Text},
    host=Text,
    boot=Text,
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


def file_row(file: IngestedFile) -> Row:
    """The row of an ingested file."""
    return {name: getattr(file, name) for name in IngestedFile.__slots__}


def file_record(row: Mapping[str, Any]) -> IngestedFile:
    """The ingested file of a row."""
    return IngestedFile(**row)


def revision_row(revision: Revision) -> Row:
    """The row of a source's revision of one date."""
    return {
        "source": revision.source,
        "revision": revision.revision,
        "date": revision.date.isoformat(),
        "first_at": micros(revision.first),
        "end_at": micros(revision.end),
        "content_hash": revision.content_hash,
        "rows": revision.rows,
        "recorded_at": micros(revision.recorded_at),
    }


def revision_record(row: Mapping[str, Any]) -> Revision:
    """The source's revision of a row."""
    return Revision(
        source=row["source"],
        revision=row["revision"],
        date=date.fromisoformat(row["date"]),
        first=instant(row["first_at"]),
        end=instant(row["end_at"]),
        content_hash=row["content_hash"],
        rows=row["rows"],
        recorded_at=instant(row["recorded_at"]),
    )


def ledger_row(entry: LedgerEntry, *, map_id: str) -> Row:
    """The row of a ledger entry whose features are stored as `map_id`."""
    return {
        "feature_group": entry.group,
        "generation": entry.generation,
        "start_at": micros(entry.interval.start),
        "end_at": micros(entry.interval.end),
        "state": entry.state,
        "publish_id": entry.publish_id,
        "features_id": map_id,
        "gate": entry.gate,
        "revision": entry.revision,
        "rows": entry.rows,
        "delta_version": entry.delta_version,
        "failed": _texts(entry.failed),
        "warned": _texts(entry.warned),
        "run_id": entry.run_id,
        "seconds": float(entry.seconds),
        "recorded_at": micros(entry.recorded_at),
        "inputs": inputs_text(entry.inputs),
    }


def ledger_record(row: Mapping[str, Any], *, features: Mapping[str, str]) -> LedgerEntry:
    """The ledger entry of a row, with its features."""
    return LedgerEntry(
        group=row["feature_group"],
        generation=row["generation"],
        interval=_interval(row),
        state=row["state"],
        publish_id=row["publish_id"],
        features=features,
        gate=row["gate"],
        revision=row["revision"],
        rows=row["rows"],
        delta_version=row["delta_version"],
        failed=_tuple(row["failed"]),
        warned=_tuple(row["warned"]),
        run_id=row["run_id"],
        seconds=row["seconds"],
        recorded_at=instant(row["recorded_at"]),
        inputs=inputs_of(row.get("inputs")),
    )


def inputs_text(inputs: Mapping[str, str]) -> str | None:
    """What a transform's interval was computed from, as it is stored here and in the lake; None for a group that reads one source."""
    return json.dumps(dict(inputs), sort_keys=True) if inputs else None


def inputs_of(text: str | None) -> dict[str, str]:
    """What `inputs_text` spells."""
    return json.loads(text) if text else {}


def publish_row(publish: Publish) -> Row:
    """The row of a publish of one interval."""
    return {
        "feature_group": publish.group,
        "generation": publish.generation,
        "publish_id": publish.publish_id,
        "start_at": micros(publish.interval.start),
        "end_at": micros(publish.interval.end),
        "known_from": micros(publish.known_from),
        "basis": publish.basis,
    }


def publish_record(row: Mapping[str, Any]) -> Publish:
    """The publish of a row."""
    return Publish(
        publish_id=row["publish_id"],
        group=row["feature_group"],
        generation=row["generation"],
        interval=_interval(row),
        known_from=instant(row["known_from"]),
        basis=row["basis"],
    )


def generation_record(row: Mapping[str, Any], *, features: Mapping[str, str]) -> Generation:
    """The generation of a row, with its features."""
    return Generation(
        group=row["feature_group"],
        number=row["number"],
        features=features,
        current=row["is_current"],
        first_published_at=_moment(row["first_published_at"]),
        empty=row["empty"],
    )


def generation_row(generation: Generation, *, map_id: str) -> Row:
    """The row of a generation whose features are stored as `map_id`."""
    first = generation.first_published_at
    return {
        "feature_group": generation.group,
        "number": generation.number,
        "features_id": map_id,
        "is_current": generation.current,
        "first_published_at": None if first is None else micros(first),
        "empty": generation.empty,
    }


def promotion_row(promotion: Promotion) -> Row:
    """The row of a promotion."""
    return {
        "feature_group": promotion.group,
        "number": promotion.number,
        "generation": promotion.generation,
        "newest": promotion.newest,
        "promoted_by": promotion.by,
        "promoted_at": micros(promotion.promoted_at),
    }


def promotion_record(row: Mapping[str, Any]) -> Promotion:
    """The promotion of a row."""
    return Promotion(
        group=row["feature_group"],
        number=row["number"],
        generation=row["generation"],
        newest=row["newest"],
        by=row["promoted_by"],
        promoted_at=instant(row["promoted_at"]),
    )


def release_row(release: Release) -> Row:
    """The row of a release of a rejected interval."""
    return {
        "feature_group": release.group,
        "generation": release.generation,
        "start_at": micros(release.interval.start),
        "end_at": micros(release.interval.end),
        "revision": release.revision,
        "reason": release.reason,
        "released_at": micros(release.released_at),
    }


def release_record(row: Mapping[str, Any]) -> Release:
    """The release of a row."""
    return Release(
        group=row["feature_group"],
        generation=row["generation"],
        interval=_interval(row),
        revision=row["revision"],
        reason=row["reason"],
        released_at=instant(row["released_at"]),
    )


def epoch_row(epoch: Epoch) -> Row:
    """The row of a finished sync."""
    return {
        "feature_group": epoch.group,
        "epoch": epoch.epoch,
        "generation": epoch.generation,
        "coverage": None if epoch.coverage is None else micros(epoch.coverage),
        "rows": epoch.rows,
        "written": epoch.written,
        "synced_at": micros(epoch.synced_at),
    }


def epoch_record(row: Mapping[str, Any]) -> Epoch:
    """The finished sync of a row."""
    return Epoch(
        group=row["feature_group"],
        generation=row["generation"],
        epoch=row["epoch"],
        coverage=_moment(row["coverage"]),
        rows=row["rows"],
        written=row["written"],
        synced_at=instant(row["synced_at"]),
    )


def _interval(row: Mapping[str, Any]) -> Interval:
    return Interval(instant(row["start_at"]), instant(row["end_at"]))


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else instant(microseconds)


def _texts(values: tuple[str, ...]) -> str:
    return json.dumps(values, ensure_ascii=False) if values else "[]"


def _tuple(text: str) -> tuple[str, ...]:
    return () if text == "[]" else tuple(json.loads(text))
