"""Finds in the lake all that the registry remembers of it: the truth travels with the data.

A record counts if its publish or ingest happened: if that was confirmed, or if its commit is in the table's log, which keeps the ids of
commits through checkpoints and clean-up, or if it needed none. A sync counts as soon as it began, whether or not it ended.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

from feature_definitions import layout
from feature_definitions.record_rows import Row
from feature_definitions.records import Committed, Epoch, Generation, IngestedFile, LedgerEntry, Promotion, Publish, RegistryFacts, Revision
from feature_registry.registry import Registry
from lake import facts as lake_facts
from lake import logs

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Commit:
    """When a publish became visible, and which version of its table shows it; None if nobody knows any more, or it needed no commit.

    `empty` are the empty values that were kept with it.
    """

    at: datetime | None
    version: int | None
    empty: str | None = None


def unknown(lake: str, registry: Registry) -> str | None:
    """The id of a publish or an ingest that the lake remembers last, and the registry does not know: then it is older than the lake.

    The registry notes each before the lake does, so that what goes on now is known. What the lake itself would not restore tells nothing:
    an ingest that did not happen, or one whose files have a later id of an earlier one, as a clock was set back; a publish whose entries
    the lake lost.
    """
    newest = (lake_facts.newest_commit(lake), lake_facts.newest_ingest(lake))
    missing = [each for each in newest if each is not None and not registry.knows(each)]
    if not missing:
        return None
    found = facts(lake)
    restored = {*(e.publish_id for e in found.entries), *(p.publish_id for p in found.publishes), *(f.ingest_id for f in found.files)}
    return next((each for each in missing if each in restored), None)


def facts(lake: str) -> RegistryFacts:
    """What a registry of this lake must hold; empty for a lake that holds no records."""
    ledger = lake_facts.LEDGER.read(lake)
    commits = _publishes_that_happened(lake, ledger)
    entries = [_entry(row, commits[row["publish_id"]]) for row in ledger if row["publish_id"] in commits]
    publishes = [_publish(row, commits[row["publish_id"]]) for row in lake_facts.PUBLISHES.read(lake) if row["publish_id"] in commits]
    promotions = _last({(p.group, p.number): p for p in map(lake_facts.PROMOTIONS.rows.record, lake_facts.PROMOTIONS.read(lake))})
    releases = sorted(map(lake_facts.RELEASES.rows.record, lake_facts.RELEASES.read(lake)), key=lambda release: release.released_at)
    newest = {(e.group, e.generation, e.interval): e for e in sorted(entries, key=_order)}
    return RegistryFacts(
        files=_files(lake),
        revisions=_revisions(lake),
        entries=_last(newest),
        publishes=_last({(p.group, p.generation, p.publish_id, p.interval): p for p in publishes}),
        generations=_generations(entries, commits, promotions),
        promotions=promotions,
        releases=_last({(r.group, r.generation, r.interval): r for r in releases}),
        epochs=_epochs(lake),
    )


def _last(found: Mapping[Any, T]) -> tuple[T, ...]:
    """The values in the order of their keys."""
    return tuple(found[key] for key in sorted(found))


# -------------------------------------------------------------------------------------------------------------------- publishes


def _publishes_that_happened(lake: str, ledger: Iterable[Row]) -> dict[str, _Commit]:
    """The publishes that count, each with its commit, by publish id."""
    kept: Iterable[Committed] = map(lake_facts.COMMITS.rows.record, lake_facts.COMMITS.read(lake))
    confirmed = {commit.publish_id: _Commit(commit.committed_at, commit.delta_version, commit.empty) for commit in kept}
    commits: dict[tuple[str, int, str], bool] = {}
    for row in ledger:
        name = (row["group"], row["generation"], row["publish_id"])
        commits[name] = commits.get(name, False) or row["commits"]
    logged = cache(logs.commit_ids)
    found = {}
    for (group, generation, publish_id), needs_commit in commits.items():
        table = layout.feature_table(lake, group, generation)
        if publish_id in confirmed:
            found[publish_id] = confirmed[publish_id]
        elif not needs_commit:
            found[publish_id] = _Commit(None, None)
        elif publish_id in logged(table):
            found[publish_id] = _logged(table, publish_id)
    return found


def _logged(table: str, publish_id: str) -> _Commit:
    """A commit as its table's log tells it; one that was cleaned up is known to have happened, but not when."""
    try:
        version, at = logs.commit_of(table, publish_id)
    except LookupError:
        return _Commit(None, None)
    return _Commit(at, version)


def _entry(row: Row, commit: _Commit) -> LedgerEntry:
    return lake_facts.LEDGER.rows.record(row, delta_version=commit.version if row["state"] == "PUBLISHED" else None)


def _order(entry: LedgerEntry) -> tuple[str, int, str]:
    """By what comes later: ids sort by the time of their run, and of two runs at one time the later one made the later version."""
    return entry.publish_id.partition("-")[0], -1 if entry.delta_version is None else entry.delta_version, entry.publish_id


def _publish(row: Row, commit: _Commit) -> Publish:
    publish = lake_facts.PUBLISHES.rows.record(row)
    return replace(publish, known_from=commit.at) if publish.basis == "OBSERVED" and commit.at else publish


def _generations(entries: Sequence[LedgerEntry], commits: Mapping[str, _Commit], promotions: Sequence[Promotion]) -> tuple[Generation, ...]:
    """What each generation held after its last publish, since when it shows anything, and which one readers see."""
    current = {p.group: p.generation for p in promotions}
    newest: dict[tuple[str, int], LedgerEntry] = {}
    first: dict[tuple[str, int], datetime] = {}
    for entry in sorted(entries, key=_order):
        name = (entry.group, entry.generation)
        newest[name] = entry
        if entry.state == "PUBLISHED":
            at = commits[entry.publish_id].at or entry.recorded_at
            first[name] = min(at, first.get(name, at))
    return tuple(
        Generation(group, number, last.features, current.get(group) == number, first.get((group, number)), commits[last.publish_id].empty)
        for (group, number), last in sorted(newest.items())
    )


# -------------------------------------------------------------------------------------------------------------------- the others


def _files(lake: str) -> tuple[IngestedFile, ...]:
    """The newest record of each file whose ingest happened."""
    rows = sorted(lake_facts.FILES.read(lake), key=lambda row: row["ingest_id"])
    happened = _ingests_that_happened(lake, [row for row in rows if row["commits"]])
    counted = [lake_facts.FILES.rows.record(row) for row in rows if not row["commits"] or row["ingest_id"] in happened]
    return _last({(file.source, file.path): file for file in counted})


def _revisions(lake: str) -> tuple[Revision, ...]:
    rows = lake_facts.REVISIONS.read(lake)
    happened = _ingests_that_happened(lake, rows)
    counted = [lake_facts.REVISIONS.rows.record(row) for row in rows if row["ingest_id"] in happened]
    return _last({(revision.source, revision.revision, revision.date): revision for revision in counted})


def _epochs(lake: str) -> tuple[Epoch, ...]:
    """What was kept last of each sync: how it ended, or else that it began."""
    kept = map(lake_facts.EPOCHS.rows.record, lake_facts.EPOCHS.read(lake))
    by_end = sorted(kept, key=lambda epoch: (epoch.finished, epoch.ended_at or epoch.begun_at or epoch.synced_at))
    return _last({(epoch.group, epoch.epoch): epoch for epoch in by_end})


def _ingests_that_happened(lake: str, rows: Iterable[Row]) -> set[str]:
    """The ingests whose commit is in the log of their source's table, or in that of what was looked at in place."""
    ids: dict[str, set[str]] = {}
    for row in rows:
        ids.setdefault(row["source"], set()).add(row["ingest_id"])
    found: set[str] = set()
    for source, listed in ids.items():
        for path in layout.ingest_logs(lake, source):
            found |= listed & logs.commit_ids(path)
    return found
