"""The projects that Feast's classes read, each opened once in a process: Feast makes these classes itself, from a repository's settings."""

from pathlib import Path
from typing import Any

from feast.repo_config import RepoConfig

import headwater as hw
from feast_bridge.refused import FeastRefused
from feature_definitions.language import FeatureGroup
from feature_definitions.sql.column_types import types_as_read
from lake.arrow_types import arrow_type

OPENED: dict[Path, hw.Project] = {}
"""The projects of this process, by their folders."""


def opened(folder: Path) -> hw.Project:
    """The project in a folder."""
    found = folder.resolve()
    if found not in OPENED:
        OPENED[found] = hw.open(found)
    return OPENED[found]


def of_store(config: RepoConfig, store: Any) -> hw.Project:
    """The project that a store's settings name, relative to the repository."""
    return opened(Path(config.repo_path or ".") / store.project)


def named(name: str) -> hw.Project:
    """The project of a name, of those that a store in this process reads."""
    found = next((project for project in OPENED.values() if project.settings.name == name), None)
    if found is None:
        raise FeastRefused(f"no store in this process reads the project {name!r}; ask through a FeatureStore of its repository")
    return found


def group(project: hw.Project, name: str) -> FeatureGroup:
    """A group of a project."""
    found = project.catalog.tables.get(name)
    if found is None:
        raise FeastRefused(
            f"the project {project.settings.name} has no group {name!r}; it has {', '.join(sorted(project.catalog.tables))}. "
            "Tell Feast of the definitions as they are now: headwater feast apply"
        )
    return found


def columns(of: FeatureGroup) -> list[tuple[str, str]]:
    """The columns of a group as Feast sees them: keys, features and times, with Arrow's types."""
    types = {**of.entity.keys, **types_as_read(of), "event_timestamp": "timestamp", "created_timestamp": "timestamp"}
    return [(name, str(arrow_type(kind))) for name, kind in types.items()]
