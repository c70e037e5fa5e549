"""What of a catalog is told to Feast, as plain values: what it cannot be told is named. Knows nothing of Feast's classes."""

import inspect
import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import NamedTuple

from feature_definitions.intervals import duration
from feature_definitions.language import Entity, FeatureGroup, FeatureService, Join, OnDemandFeature
from feature_definitions.loader import Catalog
from feature_definitions.reading import to_json
from feature_definitions.sql.column_types import types_as_read

Typed = tuple[tuple[str, str], ...]
"""Names with their types, in order."""


class EntitySaid(NamedTuple):
    """An entity: its keys with their types."""

    name: str
    keys: Typed


class ViewSaid(NamedTuple):
    """A group as a feature view; without a `ttl` its values do not age."""

    name: str
    entity: EntitySaid
    columns: Typed
    ttl: timedelta | None
    every: str
    online: bool
    owner: str
    tags: tuple[str, ...]


class OnDemandSaid(NamedTuple):
    """A feature computed on demand, as a service has it: `refs` are the columns of views that it reads, `text` is its function's source."""

    name: str
    feature: str
    service: str
    type: str
    refs: tuple[tuple[str, str], ...]
    requests: Typed
    owner: str
    tags: tuple[str, ...]
    text: str


class JoinSaid(NamedTuple):
    """A join of a service: the view, the name that its columns get, these columns, and the caller's columns for keys (`on`)."""

    view: str
    name: str
    columns: tuple[str, ...]
    on: tuple[tuple[str, str], ...]


class ServiceSaid(NamedTuple):
    """A feature service; `defaults` is JSON, and stands in Feast's registry only to be read."""

    name: str
    version: int
    joins: tuple[JoinSaid, ...]
    on_demand: tuple[str, ...]
    online: bool
    defaults: str


class CatalogSaid(NamedTuple):
    """All that is told of a catalog, each kind by name."""

    entities: Mapping[str, EntitySaid]
    views: Mapping[str, ViewSaid]
    on_demand: Mapping[str, OnDemandSaid]
    services: Mapping[str, ServiceSaid]


def of_catalog(catalog: Catalog) -> CatalogSaid:
    """What is told of a catalog."""
    views = {name: _view(group) for name, group in sorted(catalog.tables.items())}
    asked = {(s.name, f.name): _on_demand(f, s) for s in catalog.services.values() for f in s.on_demand if _is_sayable(f, s)}
    named = _named(asked, taken={name.lower() for name in views})
    services = {name: _service(service, named) for name, service in sorted(catalog.services.items())}
    entities = {view.entity.name: view.entity for view in views.values()}
    return CatalogSaid(dict(sorted(entities.items())), views, dict(sorted((each.name, each) for each in named.values())), services)


def not_said(catalog: Catalog) -> tuple[str, ...]:
    """What Feast cannot express of a catalog, a sentence each."""
    return tuple(sentence for service in catalog.services.values() for sentence in _not_said(service)) + tuple(
        f"training set {name}: Feast keeps no definitions of training sets; build it with headwater training-set {name}"
        for name in catalog.training_sets
    )


def _not_said(service: FeatureService) -> Iterator[str]:
    if service.defaults:
        yield (
            f"service {service.name}: its defaults ({', '.join(service.defaults)}) do not stand for null in what Feast answers, which "
            "has none; features computed on demand get them"
        )
    if not service.online:
        yield f"service {service.name}: Feast cannot say that a service is for training alone; online its features may be asked for"
    for feature in service.on_demand:
        if not _is_sayable(feature, service):
            yield (
                f"feature {feature.name} of service {service.name}: it reads a join under a prefix, and Feast's on-demand views know "
                "views by their own names only; ask Headwater for it"
            )


def _view(group: FeatureGroup) -> ViewSaid:
    ttl = None if group.ttl is None else duration(group.ttl)
    columns = tuple(types_as_read(group).items())
    return ViewSaid(group.name, _entity(group.entity), columns, ttl, group.every, group.online, group.owner, tuple(sorted(group.tags)))


def _entity(entity: Entity) -> EntitySaid:
    return EntitySaid(entity.name, tuple(entity.keys.items()))


def _joins(feature: OnDemandFeature, service: FeatureService) -> list[tuple[Join, str]]:
    """The columns of joins that a feature reads, in its order."""
    places = {output: (join, column) for join in service.joins for output, column in zip(join.outputs, join.columns, strict=True)}
    return [places[output] for output in feature.refs]


def _is_sayable(feature: OnDemandFeature, service: FeatureService) -> bool:
    return all(join.name == join.group.name for join, _ in _joins(feature, service))


def _on_demand(feature: OnDemandFeature, service: FeatureService) -> OnDemandSaid:
    refs = tuple((join.group.name, column) for join, column in _joins(feature, service))
    requests = tuple(feature.requests.items())
    said = (feature.owner, tuple(sorted(feature.tags)), _source(feature))
    return OnDemandSaid(feature.name, feature.name, service.name, feature.type, refs, requests, *said)


def _source(feature: OnDemandFeature) -> str:
    try:
        return inspect.getsource(feature.function)
    except (OSError, TypeError):
        return ""


def _named(asked: Mapping[tuple[str, str], OnDemandSaid], *, taken: set[str]) -> dict[tuple[str, str], OnDemandSaid]:
    """Each feature under a name of its own in Feast: its own, or with its service's before it where that is a view's name too.

    Services may give one feature other defaults, so each has a view of its own, but where only one has it.
    """
    times: dict[str, int] = {}
    for _, feature in asked:
        times[feature] = times.get(feature, 0) + 1
    return {
        (service, feature): said if times[feature] == 1 and feature.lower() not in taken else said._replace(name=f"{service}_{feature}")
        for (service, feature), said in asked.items()
    }


def _service(service: FeatureService, named: Mapping[tuple[str, str], OnDemandSaid]) -> ServiceSaid:
    joins = tuple(JoinSaid(each.group.name, each.name, each.columns, tuple(sorted(each.on.items()))) for each in service.joins)
    on_demand = tuple(named[service.name, each.name].name for each in service.on_demand if (service.name, each.name) in named)
    defaults = json.dumps({name: to_json(value) for name, value in service.defaults.items()}, sort_keys=True)
    return ServiceSaid(service.name, service.version, joins, on_demand, service.online, defaults)
