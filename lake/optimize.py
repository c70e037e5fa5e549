"""Housekeeping of Delta tables without Spark: small files become large ones, files that nobody needs go, dates past their time go.

Nothing of it changes a row that is kept, so nothing becomes stale by it. Rows that a group retains no longer are deleted here and nowhere
else, and those never that a training set may have to be built from again.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from deltalake import ColumnProperties, DeltaTable, WriterProperties
from deltalake.schema import PrimitiveType

from feature_definitions import layout
from feature_definitions.intervals import BEGINNING, DAY, duration, parse_instant, utc_date
from feature_definitions.language import FeatureGroup
from feature_definitions.planning import plan
from lake import delta, delta_commits, delta_files, storage

SHORTEST_KEEP = 7 * DAY
"""How long a file that is no part of a table any more is kept at least: jobs that run may read it still."""


@dataclass(frozen=True, slots=True)
class Optimized:
    """What was done to one table: its data files before and after, the files deleted from disk, and before which date rows were deleted."""

    table: str
    files_before: int
    files_after: int
    deleted_files: int
    deleted_before: date | None


@dataclass(frozen=True, slots=True)
class Needed:
    """What a training set that was built says it needs of a group: rows as old as its spine's first time."""

    training_set: str
    group: str
    first: datetime


def group_tables(lake: str, group: str, generations: Iterable[int]) -> list[str]:
    """The tables of a group's rows, current and replaced, of all its generations."""
    places = (layout.feature_table, layout.history_table)
    return [path for number in generations for place in places if delta.exists(path := place(lake, group, number))]


def other_tables(lake: str) -> list[str]:
    """The tables that belong to no group alone: records, pins, quarantines and training sets; those read in place are not ours."""
    return [path for folder in layout.shared_tables(lake) for path in storage.folders(folder) if delta.exists(path)]


def needed(lake: str) -> tuple[Needed, ...]:
    """What the manifests of the training sets in the lake say that they were built from, those of older versions too."""
    found: list[Needed] = []
    builds = [folder for folder in storage.folders(layout.training_sets(lake)) if folder.endswith(layout.BUILDS)]
    kept = [file for folder in builds for file in storage.files(folder, suffix=".json")]
    for file in (*storage.files(layout.training_sets(lake), suffix=layout.MANIFEST), *kept):
        manifest = json.loads(storage.read(file.path))
        first = manifest["spine"]["first"]
        found += [] if first is None else [Needed(manifest["name"], group, parse_instant(first)) for group in manifest["groups"]]
    return tuple(dict.fromkeys(found))


def deleted_before(group: FeatureGroup, needs: Iterable[Needed], now: datetime) -> date | None:
    """The date before which a group's rows are deleted: what it does not retain, and no training set needs; None deletes nothing."""
    if group.retain is None or group.ttl is None:
        return None
    reach = duration(group.ttl) + group.cadence
    mine = [max(need.first, BEGINNING + reach) - reach for need in needs if need.group == group.name]
    return utc_date(min([plan.kept_from(now, group.retain), *mine]))


def optimize(path: str, *, keep: timedelta = SHORTEST_KEEP, before: date | None = None, versions: Collection[int] = ()) -> Optimized:
    """Delete the rows of dates `before`, join small files within each partition, delete files that were replaced longer than `keep` ago.

    Files of some `versions` stay. Files that no commit names, because their run was cut off before it, are deleted when they are as old.
    The caller holds the lease of what writes the table.
    """
    table = delta.opened(path)
    files, version = len(table.file_uris()), table.version()
    expired = _expired(table, before)
    if expired:
        table = delta_commits.changed(table, lambda on: on.delete(f"date < '{before}'") if _expired(on, before) else None)
    table = delta_commits.changed(table, lambda on: on.optimize.compact(writer_properties=_as_spark_reads(on)))
    if table.version() != version:
        table.create_checkpoint()
        table.cleanup_metadata()
    still = [version for version in versions if delta_files.readable(path, version)] or None
    gone = table.vacuum(retention_hours=int(max(keep, SHORTEST_KEEP) / timedelta(hours=1)), dry_run=False, full=True, keep_versions=still)
    for folder in storage.folders(path):
        if folder.startswith(layout.run_folder(path, "")) and not storage.files(folder):
            storage.delete_tree(folder)
    return Optimized(path, files, len(table.file_uris()), len(gone), before if expired else None)


def _as_spark_reads(table: DeltaTable) -> WriterProperties:
    """How files are written of which Spark skips no rows that it looks for: bounds of doubles pass over NaN, to Spark the greatest."""
    doubles = [field.name for field in table.schema().fields if field.type in (PrimitiveType("double"), PrimitiveType("float"))]
    return WriterProperties(compression="ZSTD", column_properties=dict.fromkeys(doubles, ColumnProperties(statistics_enabled="NONE")))


def _expired(table: DeltaTable, before: date | None) -> bool:
    """Whether the table has rows of dates before this one."""
    if before is None or table.metadata().partition_columns != ["date"]:
        return False
    return any(str(value["date"]) < before.isoformat() for value in table.partitions())
