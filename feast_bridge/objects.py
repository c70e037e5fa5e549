"""Feast's objects, made of what is told of a catalog, and read back from its registry."""

import copy
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from feast import Entity, FeatureService, FeatureView, OnDemandFeatureView, RequestSource
from feast.feature_view_projection import FeatureViewProjection
from feast.infra.registry.base_registry import BaseRegistry

from feast_bridge import value_types
from feast_bridge.data_source import HeadwaterSource
from feast_bridge.told import CatalogSaid, EntitySaid, JoinSaid, OnDemandSaid, ServiceSaid, ViewSaid

OURS = "headwater."
"""How the tags begin that we add to Feast's objects."""

_ENTITY, _PLACE, _EVERY, _FEATURE, _SERVICE, _TYPE = (
    f"{OURS}{each}" for each in ("entity", "place", "every", "feature", "service", "type")
)
_VERSION, _ONLINE, _DEFAULTS = (f"{OURS}{each}" for each in ("version", "online", "defaults"))
_REFS, _REQUESTS = f"{OURS}reads", f"{OURS}requests"
_SOURCE = "\n# What it calls:\n"


class KnownView(OnDemandFeatureView):  # type: ignore[misc]  # Feast's classes are not followed
    """A view whose features are known: Feast calls no function with made-up values to guess them."""

    def infer_features(self) -> None:
        """Nothing to guess."""


def made(said: CatalogSaid, *, project: str) -> list[Any]:
    """All objects, each once."""
    entities = {name: _entities(each) for name, each in said.entities.items()}
    views = {name: _view(each, entities[each.entity.name]) for name, each in said.views.items()}
    on_demand = {name: _on_demand(each, views, said, project) for name, each in said.on_demand.items()}
    services = [_service(each, views, on_demand) for each in said.services.values()]
    sources = [view.batch_source for view in views.values()]
    return [*(each for some in entities.values() for each in some), *sources, *views.values(), *on_demand.values(), *services]


def _entities(said: EntitySaid) -> list[Entity]:
    """An entity for each key: Feast's have one."""
    return [
        Entity(
            name=said.name if len(said.keys) == 1 else f"{said.name}__{key}",
            join_keys=[key],
            value_type=value_types.declared(kind).to_value_type(),
            tags={_ENTITY: said.name, _PLACE: str(place), _TYPE: kind},
        )
        for place, (key, kind) in enumerate(said.keys)
    ]


def _view(said: ViewSaid, entities: list[Entity]) -> FeatureView:
    return FeatureView(
        name=said.name,
        entities=entities,
        schema=[value_types.field(name, kind) for name, kind in (*said.entity.keys, *said.columns)],
        ttl=said.ttl or timedelta(),
        source=HeadwaterSource(name=said.name, tags={_ENTITY: said.entity.name}),
        online=said.online,
        owner=said.owner,
        tags={**_tagged(said.tags), _ENTITY: said.entity.name, _EVERY: said.every},
    )


def _tagged(tags: Iterable[str]) -> dict[str, str]:
    return dict.fromkeys(tags, "true")


def _projected(view: FeatureView, columns: Iterable[str], *, alias: str | None = None, on: Mapping[str, str] | None = None) -> FeatureView:
    """A view with some of its features, in this order, under a name and with keys of its own."""
    fields = {field.name: field for field in view.features}
    projection = copy.copy(view.projection)
    projection.name_alias = alias
    projection.features = [fields[name] for name in columns]
    projection.join_key_map = dict(on or {})
    found = copy.copy(view)
    found.projection = projection
    return found


def _on_demand(said: OnDemandSaid, views: Mapping[str, FeatureView], all_said: CatalogSaid, project: str) -> OnDemandFeatureView:
    by_view: dict[str, list[str]] = {}
    for view, column in said.refs:
        by_view.setdefault(view, []).append(column)
    on = {join.view: dict(join.on) for join in all_said.services[said.service].joins if join.name == join.view}
    sources: list[Any] = [_projected(views[view], columns, on=on[view]) for view, columns in by_view.items()]
    if said.requests:
        fields = [value_types.field(name, kind) for name, kind in said.requests]
        sources.append(RequestSource(name=f"{said.name}_request", schema=fields, tags={_FEATURE: said.feature}))
    text = _text(said, project)
    return KnownView(
        name=said.name,
        schema=[value_types.field(said.feature, said.type)],
        sources=sources,
        udf=_function(text, said.name),
        udf_string=text,
        mode="python",
        owner=said.owner,
        tags={
            **_tagged(said.tags),
            _FEATURE: said.feature,
            _SERVICE: said.service,
            _TYPE: said.type,
            _REFS: " ".join(f"{view}:{column}" for view, column in said.refs),
            _REQUESTS: " ".join(f"{name}:{kind}" for name, kind in said.requests),
        },
    )


def _text(said: OnDemandSaid, project: str) -> str:
    """A function that Feast makes anew from its source, in whatever process: the one of the catalog is called by name."""
    source = "".join(f"# {line}".rstrip() + "\n" for line in said.text.splitlines())
    return (
        f"def {said.name}(inputs):\n"
        "    from feast_bridge.called import computed\n"
        f"    return computed(inputs, project={project!r}, service={said.service!r}, feature={said.feature!r}, view={said.name!r})\n"
        f"{_SOURCE}{source}"
    )


def _function(text: str, name: str) -> Any:
    found: dict[str, Any] = {}
    exec(text, found)  # noqa: S102  # it is the text above
    return found[name]


def _service(said: ServiceSaid, views: Mapping[str, FeatureView], on_demand: Mapping[str, OnDemandFeatureView]) -> FeatureService:
    joins = [
        _projected(views[each.view], each.columns, alias=None if each.name == each.view else each.name, on=dict(each.on))
        for each in said.joins
    ]
    tags = {_VERSION: str(said.version), _ONLINE: str(said.online).lower(), _DEFAULTS: said.defaults}
    return FeatureService(name=said.name, features=[*joins, *(on_demand[name] for name in said.on_demand)], tags=tags)


# ------------------------------------------------------------------------------------------------------------------- read back


def is_ours(found: Any) -> bool:
    """Whether an object of Feast's was made here."""
    return any(tag.startswith(OURS) for tag in found.tags)


def held(registry: BaseRegistry, project: str) -> dict[str, list[Any]]:
    """The objects in Feast's registry that were made here, by kind."""
    kinds = {
        "entities": registry.list_entities(project),
        "sources": registry.list_data_sources(project),
        "views": registry.list_feature_views(project),
        "on_demand": registry.list_on_demand_feature_views(project),
        "services": registry.list_feature_services(project),
    }
    return {kind: [each for each in found if is_ours(each)] for kind, found in kinds.items()}


def read_back(registry: BaseRegistry, project: str) -> CatalogSaid:
    """What Feast's registry says of what was made here, in the words of `told`."""
    found = held(registry, project)
    entities: dict[str, list[Entity]] = {}
    for each in sorted(found["entities"], key=lambda each: int(each.tags[_PLACE])):
        entities.setdefault(each.tags[_ENTITY], []).append(each)
    said = {name: EntitySaid(name, tuple((e.join_key, e.tags[_TYPE]) for e in some)) for name, some in sorted(entities.items())}
    views = [_view_said(each, said) for each in found["views"]]
    on_demand = [_on_demand_said(each) for each in found["on_demand"]]
    services = [_service_said(each, {name.name for name in on_demand}) for each in found["services"]]
    return CatalogSaid(said, _by_name(views), _by_name(on_demand), _by_name(services))


def _by_name(found: Iterable[Any]) -> dict[str, Any]:
    return {each.name: each for each in sorted(found, key=lambda each: str(each.name))}


def _own(tags: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(tag for tag in sorted(tags) if not tag.startswith(OURS))


def _view_said(view: FeatureView, entities: Mapping[str, EntitySaid]) -> ViewSaid:
    columns = tuple((field.name, value_types.ours(field)) for field in view.features)
    return ViewSaid(
        view.name, entities[view.tags[_ENTITY]], columns, view.ttl or None, view.tags[_EVERY], view.online, view.owner, _own(view.tags)
    )


def _on_demand_said(view: OnDemandFeatureView) -> OnDemandSaid:
    tags, (field,) = view.tags, view.features
    refs = tuple((view, column) for view, _, column in (each.partition(":") for each in tags[_REFS].split()))
    requests = tuple((name, kind) for name, _, kind in (each.partition(":") for each in tags[_REQUESTS].split()))
    source = view.feature_transformation.udf_string.partition(_SOURCE)[2]
    text = "".join(line.removeprefix("#").removeprefix(" ") + "\n" for line in source.splitlines())
    named = (field.name, tags[_SERVICE], tags[_TYPE])
    return OnDemandSaid(view.name, *named, refs, requests, view.owner, _own(tags), text)


def _service_said(service: FeatureService, on_demand: set[str]) -> ServiceSaid:
    projections = service.feature_view_projections
    joins = tuple(_join_said(each) for each in projections if each.name not in on_demand)
    named = tuple(each.name for each in projections if each.name in on_demand)
    tags = service.tags
    return ServiceSaid(service.name, int(tags[_VERSION]), joins, named, tags[_ONLINE] == "true", tags[_DEFAULTS])


def _join_said(projection: FeatureViewProjection) -> JoinSaid:
    columns = tuple(field.name for field in projection.features)
    return JoinSaid(projection.name, projection.name_to_use(), columns, tuple(sorted(projection.join_key_map.items())))
