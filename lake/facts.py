"""The lake's own copy of what is remembered: small Delta tables, one row per fact, from which the registry can be rebuilt."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

import pyarrow as pa

from feature_definitions import layout
from feature_definitions.records import Committed, IngestedFile, Promotion, Release
from lake import delta
from lake.delta import Fence

_TIME = pa.timestamp("us", tz="UTC")
_COMMITS = pa.schema(
    [
        ("group", pa.string()),
        ("generation", pa.int64()),
        ("publish_id", pa.string()),
        ("committed_at", _TIME),
        ("delta_version", pa.int64()),
        ("empty", pa.string()),
    ]
)
_FILES = pa.schema(
    [
        ("source", pa.string()),
        ("path", pa.string()),
        ("sha256", pa.string()),
        ("rows", pa.int64()),
        ("quarantined", pa.int64()),
        ("ingest_id", pa.string()),
        ("commits", pa.bool_()),
    ]
)
_PROMOTIONS = pa.schema(
    [
        ("group", pa.string()),
        ("number", pa.int64()),
        ("generation", pa.int64()),
        ("newest", pa.int64()),
        ("by", pa.string()),
        ("promoted_at", _TIME),
    ]
)
_RELEASES = pa.schema(
    [
        ("group", pa.string()),
        ("generation", pa.int64()),
        ("interval_start", _TIME),
        ("interval_end", _TIME),
        ("revision", pa.int64()),
        ("reason", pa.string()),
        ("released_at", _TIME),
    ]
)


def keep_commit(lake: str, commit: Committed, *, fence: Fence) -> None:
    """Keep that a publish happened, when, and by which commit of the group's table: a log that is cleaned up forgets the latter two."""
    _keep(lake, "commits", [asdict(commit)], _COMMITS, fence=fence)


def kept_commit(lake: str, publish_id: str) -> Committed | None:
    """What was kept of a publish that happened; None if nothing was."""
    found = delta.rows(layout.records_table(lake, "commits"), [f"publish_id = {delta.literal(publish_id)}"])
    return Committed(**found[0]) if found else None


def keep_files(lake: str, files: Sequence[IngestedFile], *, commits: bool) -> None:
    """Keep what an ingest takes, before it commits; if it `commits`, the files count only if that happened."""
    _keep(lake, "files", [asdict(file) | {"commits": commits} for file in files], _FILES)


def keep_promotion(lake: str, promotion: Promotion, *, fence: Fence) -> None:
    """Keep that readers were given a generation to see."""
    _keep(lake, "promotions", [asdict(promotion)], _PROMOTIONS, fence=fence)


def keep_releases(lake: str, releases: Iterable[Release], *, fence: Fence) -> None:
    """Keep that rejected intervals were released."""
    rows = [
        {
            "group": release.group,
            "generation": release.generation,
            "interval_start": release.interval.start,
            "interval_end": release.interval.end,
            "revision": release.revision,
            "reason": release.reason,
            "released_at": release.released_at,
        }
        for release in releases
    ]
    _keep(lake, "releases", rows, _RELEASES, fence=fence)


def _keep(lake: str, kind: str, rows: Sequence[dict[str, object]], schema: pa.Schema, *, fence: Fence | None = None) -> None:
    if rows:
        delta.append_records(layout.records_table(lake, kind), pa.Table.from_pylist(list(rows), schema=schema), fence=fence)
