"""A repository of Feast's for a project: its settings, what `feast apply` finds in it, and the registry that it keeps."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from feast import FeatureStore
from feast.infra.registry.base_registry import BaseRegistry

import headwater as hw
from feast_bridge import objects, told
from feast_bridge.projects import opened
from feast_bridge.refused import FeastRefused, explained
from feast_bridge.told import CatalogSaid

SETTINGS, DEFINITIONS = "feature_store.yaml", "headwater_definitions.py"

_STORES = {
    "offline_store": "feast_bridge.offline_store.HeadwaterOfflineStore",
    "online_store": "feast_bridge.online_store.HeadwaterOnlineStore",
}
_KINDS = {
    "Entity": "entities",
    "HeadwaterSource": "sources",
    "FeatureView": "views",
    "KnownView": "on_demand",
    "FeatureService": "services",
}
_YAML = """# Made by `headwater feast apply`, which leaves it alone from now on. Paths are relative to this folder.
project: {name}
provider: feast_bridge.provider.HeadwaterProvider
registry: registry.db
offline_store:
  type: {offline_store}
  project: {project}
online_store:
  type: {online_store}
  project: {project}
entity_key_serialization_version: 3
"""
_PY = '''"""The definitions of a Headwater project, as `feast plan` and `feast apply` find them; made anew by `headwater feast apply`."""

from pathlib import Path

from feast_bridge.repository import definitions

globals().update(definitions(Path(__file__).parent / {project!r}))
'''


class NotEqual(Exception):
    """What Feast's registry holds is not what was told: a fault of ours, or of Feast's."""


class Applied(NamedTuple):
    """What was told to Feast's registry: how many of each kind, what was taken from it, and what Feast cannot express."""

    repo: str
    registry: str
    entities: int
    feature_views: int
    on_demand_feature_views: int
    feature_services: int
    removed: list[str]
    not_said: list[str]


def definitions(project: Path) -> dict[str, Any]:
    """Feast's objects of a project, by names that a module may have."""
    p = opened(project)
    found = objects.made(told.of_catalog(p.catalog), project=p.settings.name)
    return {f"{type(each).__name__}_{each.name}": each for each in found}


def apply(p: hw.Project, repo: Path) -> Applied:
    """Tell Feast's registry of a project's definitions, and read them back; what is there and not ours stays."""
    with explained(f"{repo} cannot be written to", instead="name another folder by --repo"):
        repo.mkdir(parents=True, exist_ok=True)
        _write(p, repo)
    said = told.of_catalog(p.catalog)
    wanted = objects.made(said, project=p.settings.name)
    with explained(f"Feast cannot read {repo}", instead="mend its feature_store.yaml, or move the registry away: it is made anew"):
        store = FeatureStore(repo_path=str(repo))
        _check(store, repo / SETTINGS)
        name = store.project
        gone = _gone(objects.held(store.registry, name), wanted)
    store.apply(wanted, objects_to_delete=gone, partial=False)
    check_equal(said, store.registry, name)
    counts = (len(said.entities), len(said.views), len(said.on_demand), len(said.services))
    removed, registry = sorted(f"{type(each).__name__} {each.name}" for each in gone), str(store.config.registry.path)
    return Applied(str(repo), registry, *counts, removed, [*told.not_said(p.catalog)])


def check_equal(said: CatalogSaid, registry: BaseRegistry, project: str) -> None:
    """Raise unless the registry says just what was told."""
    found = objects.read_back(registry, project)
    for kind in CatalogSaid._fields:
        told: Mapping[str, object] = getattr(said, kind)
        read: Mapping[str, object] = getattr(found, kind)
        for name in sorted({*told, *read}):
            if told.get(name) != read.get(name):
                raise NotEqual(f"of {kind}, {name}: Feast was told {told.get(name)!r}, and its registry says {read.get(name)!r}")


def _gone(held: Mapping[str, list[Any]], wanted: list[Any]) -> list[Any]:
    """What was told once and is defined no more."""
    names: dict[str, set[str]] = {kind: set() for kind in held}
    for each in wanted:
        names[_KINDS[type(each).__name__]].add(each.name)
        names["sources"] |= {request.name for request in getattr(each, "source_request_sources", {}).values()}
    return [each for kind, some in held.items() for each in some if each.name not in names[kind]]


def _write(p: hw.Project, repo: Path) -> None:
    """Write the repository's files: the settings if there are none, and the module that `feast apply` reads."""
    project = os.path.relpath(p.settings.root, repo.resolve()) if repo.resolve().is_relative_to(p.settings.root) else str(p.settings.root)
    settings = repo / SETTINGS
    if not settings.exists():
        settings.write_text(_YAML.format(name=p.settings.name.replace("-", "_"), project=project, **_STORES), encoding="utf-8")
    (repo / DEFINITIONS).write_text(_PY.format(project=project), encoding="utf-8")


def _check(store: FeatureStore, settings: Path) -> None:
    """Refuse a repository whose stores are others."""
    for name, kind in _STORES.items():
        if getattr(store.config, name).type != kind:
            raise FeastRefused(f"{settings} has another {name}; name another folder by --repo, or write there type: {kind}")
