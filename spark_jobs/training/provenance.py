"""Where a training set comes from, as its manifest names it: the tables and their versions, the definitions by their hashes, the code."""

import subprocess
from collections.abc import Iterable, Mapping

from feature_definitions import layout
from feature_definitions.language import FeatureService, Join, Query
from feature_definitions.planning import fingerprint
from feature_definitions.version import VERSION
from lake import delta, versions
from lake.readable import Published
from spark_jobs.ingest import whereabouts

Versions = Mapping[str, int | None]
"""Tables by their paths, each with its version; None of what has none, such as a file or a table of a database."""

_PATIENCE = 10
"""How many seconds git is waited for."""


def of_query(query: Query, lake: str) -> Versions:
    """The tables that a query over sources is read from."""
    found: dict[str, int | None] = {}
    for source in query.sources:
        found |= versions.tables(source, lake)
    return found


def of_path(path: str) -> Versions:
    """A file, or a table in the version that it has now."""
    table = delta.told(path) if whereabouts.has_log(path) else None
    return {path: None if table is None else table.version()}


def of_groups(published: Iterable[Published]) -> Versions:
    """The tables that groups are read from: those of their rows and of rows that were replaced."""
    places = (layout.feature_table, layout.history_table)
    found = delta.told_all(place(each.lake, each.group.name, each.generation) for each in published for place in places)
    return {path: table.version() for path, table in found.items() if table is not None}


def inputs(before: Versions, after: Versions, *, lake: str) -> list[dict[str, object]]:
    """The tables that were read, and the version that each had before they were and once they had been: two, where somebody published."""
    paths = dict.fromkeys((*before, *after))
    return [
        {"table": path.removeprefix(f"{lake}/"), "version": before.get(path), "version_after": after.get(path, before.get(path))}
        for path in paths
    ]


def definitions(service: FeatureService) -> dict[str, object]:
    """What was asked for: its joins and defaults; the hashes of the service, of its groups' columns, of what is computed on demand."""
    columns: dict[str, set[str]] = {}
    for join in service.joins:
        columns.setdefault(join.group.name, set()).update(join.columns)
    hashes = {join.group.name: fingerprint.columns(join.group) for join in service.joins}
    return {
        "service": fingerprint.service(service),
        "joins": [as_told(join) for join in service.joins],
        "defaults": {name: repr(value) for name, value in service.defaults.items()},
        "groups": {name: {column: hashes[name][column] for column in sorted(asked)} for name, asked in columns.items()},
        "on_demand": {feature.name: fingerprint.on_demand(feature) for feature in service.on_demand},
    }


def as_told(join: Join) -> dict[str, object]:
    """A join as a manifest tells of it."""
    return {"group": join.group.name, "features": [*join.columns], "prefix": join.prefix, "on": dict(join.on)}


def code(catalog: str) -> dict[str, object]:
    """Which Headwater computed it, and by which commit of the repository that holds the catalog; None where there is none."""
    commit = _git(catalog, "rev-parse", "HEAD")
    changed = None if commit is None else bool(_git(catalog, "status", "--porcelain", "--", "."))
    return {"headwater": VERSION, "engine": fingerprint.ENGINE, "commit": commit, "uncommitted": changed}


def _git(folder: str, *words: str) -> str | None:
    """What git says of a folder; None where there is no git, or no repository."""
    try:
        asked = ["git", "--no-optional-locks", "-C", folder, *words]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
