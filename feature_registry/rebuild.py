"""Finds in the lake all that the registry remembers of it: the truth travels with the data.

A record counts if its publish or ingest happened: if that was confirmed, or if its commit is in the table's log, which keeps the ids of
commits through checkpoints and clean-up, or if it needed none. What was synced is not in the lake; a sync goes on from the online store.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from deltalake import DeltaTable

from feature_definitions import layout
from feature_definitions.intervals import Interval, instant
from feature_definitions.records import Generation, IngestedFile, LedgerEntry, Promotion, Publish, Release, Revision
from feature_registry import Facts
from feature_registry.schema import inputs_of
from lake import delta

T = TypeVar("T")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Commit:
    """When a publish became visible, and which version of its table shows it; None if nobody knows any more, or it needed no commit."""

    at: datetime | None
    version: int | None


def facts(lake: str) -> Facts:
    """What a registry of this lake must hold; empty for a lake that holds no records."""
    ledger = _rows(lake, "ledger")
    commits = _publishes_that_happened(lake, ledger)
    entries = [_entry(row, commits[row["publish_id"]]) for row in ledger if row["publish_id"] in commits]
    publishes = [_publish(row, commits[row["publish_id"]]) for row in _rows(lake, "publishes") if row["publish_id"] in commits]
    promotions = _last({(p.group, p.number): p for p in map(_promotion, _rows(lake, "promotions"))})
    releases = sorted(map(_release, _rows(lake, "releases")), key=lambda release: release.released_at)
    newest = {(e.group, e.generation, e.interval): e for e in sorted(entries, key=lambda e: e.publish_id)}
    return Facts(
        files=_files(lake),
        revisions=_revisions(lake),
        entries=_last(newest),
        publishes=_last({(p.group, p.generation, p.publish_id, p.interval): p for p in publishes}),
        generations=_generations(entries, commits, promotions),
        promotions=promotions,
        releases=_last({(r.group, r.generation, r.interval): r for r in releases}),
    )


def _rows(lake: str, kind: str) -> list[Row]:
    path = layout.records_table(lake, kind)
    return delta.load(path).to_pylist() if delta.exists(path) else []


def _last(found: Mapping[Any, T]) -> tuple[T, ...]:
    """The values in the order of their keys."""
    return tuple(found[key] for key in sorted(found))


# -------------------------------------------------------------------------------------------------------------------- publishes


def _publishes_that_happened(lake: str, ledger: Iterable[Row]) -> dict[str, _Commit]:
    """The publishes that count, each with its commit, by publish id."""
    confirmed = {row["publish_id"]: _Commit(row["committed_at"], row["delta_version"]) for row in _rows(lake, "commits")}
    commits: dict[tuple[str, int, str], bool] = {}
    for row in ledger:
        name = (row["group"], row["generation"], row["publish_id"])
        commits[name] = commits.get(name, False) or row["commits"]
    logs: dict[tuple[str, int], DeltaTable | None] = {}
    found = {}
    for (group, generation, publish_id), needs_commit in commits.items():
        if publish_id in confirmed:
            found[publish_id] = confirmed[publish_id]
        elif not needs_commit:
            found[publish_id] = _Commit(None, None)
        else:
            path = layout.feature_table(lake, group, generation)
            log = logs.setdefault((group, generation), DeltaTable(path) if delta.exists(path) else None)
            if log is not None and log.transaction_version(publish_id) is not None:
                found[publish_id] = _logged(log, publish_id)
    return found


def _logged(log: DeltaTable, publish_id: str) -> _Commit:
    """A commit as its table's log tells it; one that was cleaned up is known to have happened, but not when."""
    for entry in log.history():
        if entry.get("userMetadata") == publish_id:
            return _Commit(instant(int(entry["timestamp"]) * 1000), int(entry["version"]))
    return _Commit(None, None)


def _entry(row: Row, commit: _Commit) -> LedgerEntry:
    return LedgerEntry(
        group=row["group"],
        generation=row["generation"],
        interval=_interval(row),
        state=row["state"],
        publish_id=row["publish_id"],
        features=dict(row["features"]),
        gate=row["gate"],
        revision=row["revision"],
        rows=row["rows"],
        delta_version=commit.version if row["state"] == "PUBLISHED" else None,
        failed=tuple(row["failed"]),
        warned=tuple(row["warned"]),
        run_id=row["run_id"],
        seconds=row["seconds"],
        recorded_at=row["recorded_at"],
        inputs=inputs_of(row.get("inputs")),
    )


def _publish(row: Row, commit: _Commit) -> Publish:
    observed = commit.at if row["basis"] == "OBSERVED" else None
    return Publish(row["publish_id"], row["group"], row["generation"], _interval(row), observed or row["known_from"], row["basis"])


def _generations(entries: Sequence[LedgerEntry], commits: Mapping[str, _Commit], promotions: Sequence[Promotion]) -> tuple[Generation, ...]:
    """What each generation held after its last publish, since when it shows anything, and which one readers see."""
    current = {p.group: p.generation for p in promotions}
    features: dict[tuple[str, int], Mapping[str, str]] = {}
    first: dict[tuple[str, int], datetime] = {}
    for entry in sorted(entries, key=lambda entry: entry.publish_id):
        name = (entry.group, entry.generation)
        features[name] = entry.features
        if entry.state == "PUBLISHED":
            at = commits[entry.publish_id].at or entry.recorded_at
            first[name] = min(at, first.get(name, at))
    return tuple(
        Generation(group, number, held, current.get(group) == number, first.get((group, number)))
        for (group, number), held in sorted(features.items())
    )


# -------------------------------------------------------------------------------------------------------------------- the others


def _files(lake: str) -> tuple[IngestedFile, ...]:
    """The newest record of each file whose ingest happened."""
    rows = sorted(_rows(lake, "files"), key=lambda row: row["ingest_id"])
    happened = _ingests_that_happened(lake, [row for row in rows if row["commits"]])
    counted = [row for row in rows if not row["commits"] or row["ingest_id"] in happened]
    return _last({(r["source"], r["path"]): IngestedFile(**{n: r[n] for n in IngestedFile.__slots__}) for r in counted})


def _revisions(lake: str) -> tuple[Revision, ...]:
    rows = _rows(lake, "revisions")
    happened = _ingests_that_happened(lake, rows)
    return _last(
        {
            (row["source"], row["revision"], row["date"]): Revision(**{name: row[name] for name in Revision.__slots__})
            for row in rows
            if row["ingest_id"] in happened
        }
    )


def _ingests_that_happened(lake: str, rows: Iterable[Row]) -> set[str]:
    """The ingests whose commit is in the log of their source's table, or in that of what was looked at in place."""
    ids: dict[str, set[str]] = {}
    for row in rows:
        ids.setdefault(row["source"], set()).add(row["ingest_id"])
    found: set[str] = set()
    for source, listed in ids.items():
        for path in layout.ingest_logs(lake, source):
            if delta.exists(path):
                log = DeltaTable(path)
                found |= {ingest_id for ingest_id in listed if log.transaction_version(ingest_id) is not None}
    return found


def _promotion(row: Row) -> Promotion:
    return Promotion(**{name: row[name] for name in Promotion.__slots__})


def _release(row: Row) -> Release:
    return Release(row["group"], row["generation"], _interval(row), row["revision"], row["reason"], row["released_at"])


def _interval(row: Row) -> Interval:
    return Interval(row["interval_start"], row["interval_end"])
