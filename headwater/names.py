"""Things of the catalog by their names; an unknown name is told the closest one."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import TypeVar

from feature_definitions.errors import Unknown
from feature_definitions.language import FeatureGroup, FeatureService, Join, Query, Source, TrainingSet
from feature_definitions.loader import Catalog
from feature_definitions.planning.upstream import sources_of

T = TypeVar("T")


def group(catalog: Catalog, name: str) -> FeatureGroup:
    """The group of this name; raises Unknown, as all of these do."""
    return _named(catalog, catalog.tables, name, "group")


def groups(catalog: Catalog, names: Iterable[str]) -> tuple[FeatureGroup, ...]:
    """The groups of these names; none means all."""
    return tuple(group(catalog, name) for name in names) or tuple(catalog.tables.values())


def groups_of(catalog: Catalog, entity: str) -> tuple[FeatureGroup, ...]:
    """The groups of the entity of this name; one that no group has is refused too."""
    _named(catalog, catalog.entities, entity, "entity")
    found = tuple(group for group in catalog.tables.values() if group.entity.name == entity)
    if not found:
        raise Unknown(f"no group has the entity {entity!r}")
    return found


def service_of(group: FeatureGroup) -> FeatureService:
    """A service of one group, so that its entities are asked for as those of any service."""
    return FeatureService(group.name, joins=(Join(group),), online=group.online)


def source(catalog: Catalog, name: str) -> Source:
    """The source of this name."""
    return _named(catalog, catalog.sources, name, "source")


def sources(catalog: Catalog, names: Iterable[str]) -> tuple[Source, ...]:
    """The sources of these names, which are of sources or of groups that read them; none means all.

    A query comes after the sources that it reads, which come with it.
    """
    both = {name: (each,) for name, each in catalog.sources.items()}
    behind = both | {name: sources_of(each) for name, each in catalog.tables.items()}
    chosen = [each for name in names for each in _named(catalog, behind, name, "source or group")] or list(catalog.sources.values())
    return tuple({each.name: each for each in _with_inputs(chosen)}.values())


def either(catalog: Catalog, names: Iterable[str]) -> tuple[tuple[Source, ...], tuple[FeatureGroup, ...]]:
    """The sources and the groups that have these names; none means all."""
    sources, groups = catalog.sources, catalog.tables
    wanted = tuple(names) or (*sources, *groups)
    for name in wanted:
        _named(catalog, {**sources, **groups}, name, "source or group")
    return tuple(sources[name] for name in wanted if name in sources), tuple(groups[name] for name in wanted if name in groups)


def service(catalog: Catalog, name: str | None) -> FeatureService:
    """The service of this name, which has to be given."""
    if name is None:
        raise Unknown(f"name a service; there are {', '.join(catalog.services) or 'none'}")
    return _named(catalog, catalog.services, name, "service")


def training_set(catalog: Catalog, name: str | None) -> TrainingSet:
    """The training set of this name; without one the catalog's only one."""
    defined = catalog.training_sets
    if name is None and len(defined) == 1:
        return next(iter(defined.values()))
    if name is None:
        raise Unknown(f"name a training set, or give a spine and a service; defined are {', '.join(defined) or 'none'}")
    return _named(catalog, defined, name, "training set")


def _with_inputs(chosen: Iterable[Source]) -> Iterator[Source]:
    for each in chosen:
        if isinstance(each.at, Query):
            yield from _with_inputs(each.at.sources)
        yield each


def _named(catalog: Catalog, known: Mapping[str, T], name: str, what: str) -> T:
    if name in known:
        return known[name]
    if catalog.left_out:
        raise Unknown(f"there is no {what} {name!r} that can be used, as long as the catalog has a mistake: {catalog.left_out[0]}")
    close = get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise Unknown(f"there is no {what} {name!r}.{hint} There are: {', '.join(sorted(known)) or 'none'}")
