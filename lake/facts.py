"""The lake's own copy of what is remembered: small Delta tables, one row per fact, from which the registry can be rebuilt."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic

import pyarrow as pa

from feature_definitions import layout
from feature_definitions.intervals import Interval
from feature_definitions.record_rows import Kind, Record, RecordRows, RecordStore, Row, json_mapping, json_text
from feature_definitions.records import (
    Committed,
    Epoch,
    Erasure,
    IngestedFile,
    LedgerEntry,
    PendingIngest,
    PendingPublish,
    Promotion,
    Publish,
    Release,
    Revision,
)
from lake import delta, delta_commits, logs
from lake.delta_commits import Fence

_TYPES: dict[Kind, pa.DataType] = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "truth": pa.bool_(),
    "instant": pa.timestamp("us", tz="UTC"),
    "date": pa.date32(),
    "texts": pa.list_(pa.string()),
    "map": pa.map_(pa.string(), pa.string()),
    "json": pa.string(),
}
_LAKE = RecordStore(
    interval=("interval_start", "interval_end"),
    names={},
    keep={"texts": list, "map": lambda mapping: list(mapping.items()), "json": json_text},
    read={"texts": tuple, "map": dict, "json": json_mapping},
)


@dataclass(frozen=True, slots=True)
class FactTable(Generic[Record]):
    """One kind of fact in the lake: its table's name, its rows, and the columns that its rows have beside the record."""

    name: str
    rows: RecordRows[Record]
    beside: Mapping[str, pa.DataType] = field(default_factory=dict)

    def keep(self, lake: str, rows: Iterable[Row], *, fence: Fence | None = None) -> None:
        """Append rows to the table."""
        columns = {column.name: _TYPES[column.kind] for column in self.rows.columns}
        listed = list(rows)
        if listed:
            found = pa.Table.from_pylist(listed, schema=pa.schema(list((columns | dict(self.beside)).items())))
            delta_commits.append_records(layout.records_table(lake, self.name), found, fence=fence)

    def read(self, lake: str) -> list[Row]:
        """All rows of the table; none where it is not there."""
        path = layout.records_table(lake, self.name)
        return delta.load(path).to_pylist() if delta.exists(path) else []


LEDGER = FactTable("ledger", RecordRows(LedgerEntry, _LAKE, without=("delta_version",)), {"commits": pa.bool_()})
PUBLISHES = FactTable("publishes", RecordRows(Publish, _LAKE), {"commits": pa.bool_()})
COMMITS = FactTable("commits", RecordRows(Committed, _LAKE))
FILES = FactTable("files", RecordRows(IngestedFile, _LAKE), {"commits": pa.bool_()})
REVISIONS = FactTable("revisions", RecordRows(Revision, _LAKE), {"ingest_id": pa.string()})
PROMOTIONS = FactTable("promotions", RecordRows(Promotion, _LAKE))
RELEASES = FactTable("releases", RecordRows(Release, _LAKE))
EPOCHS = FactTable("epochs", RecordRows(Epoch, _LAKE))
ERASURES = FactTable("erasures", RecordRows(Erasure, _LAKE))


def keep_publish(lake: str, pending: PendingPublish, *, fence: Fence) -> None:
    """Keep what a publish is about to change, before its commit: an entry counts only if that happens, or if it needs none."""
    entries = (LEDGER.rows.row(e, commits=pending.commits and e.state == "PUBLISHED") for e in pending.entries)
    LEDGER.keep(lake, entries, fence=fence)
    PUBLISHES.keep(lake, (PUBLISHES.rows.row(publish, commits=pending.commits) for publish in pending.publishes), fence=fence)


def keep_commit(lake: str, commit: Committed, *, fence: Fence) -> None:
    """Keep that a publish happened, when, and by which commit of the group's table: a log that is cleaned up forgets the latter two."""
    COMMITS.keep(lake, [COMMITS.rows.row(commit)], fence=fence)


def commits(lake: str) -> list[Committed]:
    """All publishes that happened, and when."""
    return [COMMITS.rows.record(row) for row in COMMITS.read(lake)]


def kept_commit(lake: str, publish_id: str) -> Committed | None:
    """What was kept of a publish that happened; None if nothing was."""
    found = delta.rows(layout.records_table(lake, COMMITS.name), [f"publish_id = {delta.literal(publish_id)}"])
    return COMMITS.rows.record(found[0]) if found else None


def newest_commit(lake: str) -> str | None:
    """The id of the publish that was kept last as one that happened; None if nothing tells."""
    return logs.newest_text(layout.records_table(lake, COMMITS.name), "publish_id")


def left_waiting(lake: str, group: str, generation: int, run_id: str) -> tuple[Interval, ...]:
    """The intervals of a group's generation that a run left waiting for a person."""
    asked = [f"run_id = {delta.literal(run_id)}", f'"group" = {delta.literal(group)}', "state = 'WAITING'"]
    found = delta.rows(layout.records_table(lake, LEDGER.name), asked)
    return tuple(sorted(Interval(row["interval_start"], row["interval_end"]) for row in found if row["generation"] == generation))


def keep_ingest(lake: str, pending: PendingIngest) -> None:
    """Keep what an ingest takes and finds, before its commit: it counts only if that happens; files also if there is none."""
    REVISIONS.keep(lake, (REVISIONS.rows.row(revision, ingest_id=pending.ingest_id) for revision in pending.revisions))
    FILES.keep(lake, (FILES.rows.row(file, commits=pending.commits) for file in pending.files))


def newest_ingest(lake: str) -> str | None:
    """The id of the ingest that was kept last, whether it happened or not; None if nothing tells."""
    return logs.newest_text(layout.records_table(lake, FILES.name), "ingest_id")


def ingests_with_commits(lake: str, source: str) -> dict[str, bool]:
    """Whether each ingest that found files of a source was to make a commit, by its id."""
    found = delta.rows(layout.records_table(lake, FILES.name), [f"source = {delta.literal(source)}"])
    return {row["ingest_id"]: row["commits"] for row in found}


def keep_promotion(lake: str, promotion: Promotion, *, fence: Fence) -> None:
    """Keep that readers were given a generation to see."""
    PROMOTIONS.keep(lake, [PROMOTIONS.rows.row(promotion)], fence=fence)


def keep_releases(lake: str, releases: Iterable[Release], *, fence: Fence) -> None:
    """Keep that rejected intervals were released."""
    RELEASES.keep(lake, map(RELEASES.rows.row, releases), fence=fence)


def keep_epochs(lake: str, epochs: Iterable[Epoch], *, fence: Fence) -> None:
    """Keep when syncs began and ended: of each what is kept last counts."""
    EPOCHS.keep(lake, map(EPOCHS.rows.row, epochs), fence=fence)


def keep_erasure(lake: str, erasure: Erasure, *, fence: Fence) -> None:
    """Keep that an entity was erased, or that its erasure was lifted: the lake alone knows it."""
    ERASURES.keep(lake, [ERASURES.rows.row(erasure)], fence=fence)


def erasures(lake: str) -> tuple[Erasure, ...]:
    """All that was erased online, and lifted."""
    return tuple(map(ERASURES.rows.record, ERASURES.read(lake)))


def erased(lake: str) -> dict[str, frozenset[str]]:
    """By kinds of entities the `entity_text` of all of them that are erased."""
    said = sorted(erasures(lake), key=lambda each: (each.at, not each.lifted))
    last = {(each.entity, each.key): each for each in said}
    gone = [(entity, key) for (entity, key), each in last.items() if not each.lifted]
    return {kind: frozenset(key for entity, key in gone if entity == kind) for kind, _ in gone}
