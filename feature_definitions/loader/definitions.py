"""The definitions that a catalog's modules hold at module level, each once, with its place."""

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TypeVar

from feature_definitions.language import (
    AnyGroup,
    Entity,
    FeatureGroup,
    FeatureService,
    ObservationGroup,
    OnDemandFeature,
    Query,
    SnapshotGroup,
    Source,
    SourceGroup,
    TrainingSet,
    TransformGroup,
    WindowedGroup,
)
from feature_definitions.loader.mistakes import Mistake
from feature_definitions.loader.places import Place, feature_lines

_KINDS: Mapping[type, str] = {
    Entity: "entity",
    Source: "source",
    WindowedGroup: "group",
    ObservationGroup: "group",
    SnapshotGroup: "group",
    TransformGroup: "group",
    OnDemandFeature: "on-demand feature",
    FeatureService: "service",
    TrainingSet: "training set",
}
_Definition = Entity | Source | FeatureGroup | OnDemandFeature | FeatureService | TrainingSet
_Kind = TypeVar("_Kind", Source, SourceGroup, TransformGroup, FeatureService, TrainingSet)


@dataclass(frozen=True, slots=True)
class Catalog:
    """All definitions of a project, each kind by name, in the order of files and lines; and where each was written.

    `origins` is keyed by (kind, name) and (kind, name, feature); the kinds are entity, source, group,
    on-demand feature, service and training set. `left_out` are the mistakes for which something is missing here.
    """

    entities: Mapping[str, Entity]
    sources: Mapping[str, Source]
    groups: Mapping[str, SourceGroup]
    services: Mapping[str, FeatureService]
    training_sets: Mapping[str, TrainingSet]
    origins: Mapping[tuple[str, ...], Place]
    transforms: Mapping[str, TransformGroup] = field(default_factory=dict)
    on_demand: Mapping[str, OnDemandFeature] = field(default_factory=dict)
    left_out: tuple[Mistake, ...] = ()

    @property
    def tables(self) -> dict[str, FeatureGroup]:
        """All groups, transforms too, by name: each comes after those that it reads."""
        from feature_definitions.planning.upstream import ordered

        return {group.name: group for group in ordered([*self.groups.values(), *self.transforms.values()])}

    def origin_of(self, kind: str, name: str, feature: str | None = None) -> Place:
        """Where a definition is written, or a feature of a group; the whole group if the feature is not written out."""
        whole = self.origins[kind, name]
        return whole if feature is None else self.origins.get((kind, name, feature), whole)


def collected(folder: Path, modules: Iterable[tuple[ModuleType, Path]]) -> Catalog:
    """The catalog of a folder from its modules, without what is defined twice and what rests on that."""
    found = [definition for module, file in modules for definition in _found(module, file)]
    if not found:
        nothing = Mistake(folder, 0, "nothing is defined here; write a source, an entity and a group in a file like payments.py")
        return replace(_catalog([]), left_out=(nothing,))
    distinct = _distinct(found)
    wrong = [*_twice(distinct), *_sharing(distinct)]
    bad = {id(one.value) for one, _ in wrong}
    return replace(_catalog([one for one in distinct if _is_sound(one.value, bad)]), left_out=tuple(mistake for _, mistake in wrong))


def without(catalog: Catalog, wrong: Mapping[tuple[str, str], Mistake]) -> Catalog:
    """The catalog without these definitions, by kind and name, and without what rests on one of them."""
    kinds: Mapping[str, Mapping[str, _Definition]] = {
        "entity": catalog.entities,
        "source": catalog.sources,
        "group": catalog.tables,
        "on-demand feature": catalog.on_demand,
        "service": catalog.services,
        "training set": catalog.training_sets,
    }
    bad = {id(kinds[kind][name]) for kind, name in wrong}
    return replace(
        catalog,
        sources=_sound(catalog.sources, bad),
        groups=_sound(catalog.groups, bad),
        transforms=_sound(catalog.transforms, bad),
        services=_sound(catalog.services, bad),
        training_sets=_sound(catalog.training_sets, bad),
        left_out=(*catalog.left_out, *wrong.values()),
    )


def _sound(named: Mapping[str, _Kind], bad: Collection[int]) -> Mapping[str, _Kind]:
    return MappingProxyType({name: value for name, value in named.items() if _is_sound(value, bad)})


def _is_sound(definition: _Definition, bad: Collection[int]) -> bool:
    """Whether a definition is none of the bad ones, and rests on none."""
    return not any(id(each) in bad for each in (definition, *_parts(definition)))


@dataclass(frozen=True, slots=True)
class _Found:
    """A definition at module level: where it is written, or (imported, or part of another) where it was met."""

    value: _Definition
    place: Place
    is_written: bool
    features: Mapping[str, int] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        """What must be unique: the kind and the name."""
        return _KINDS[type(self.value)], self.value.name


def _found(module: ModuleType, file: Path) -> Iterator[_Found]:
    tree = ast.parse(file.read_bytes())
    assigned = dict(_assigned(tree.body))
    everywhere = feature_lines(tree)
    for name, value in list(vars(module).items()):
        for definition, node in _definitions(value, assigned.get(name)):
            features = everywhere | (feature_lines(node) if node is not None else {})
            met = _Found(definition, Place(file, node.lineno if node is not None else 1), isinstance(node, ast.Call), features)
            yield met
            yield from (_Found(part, met.place, is_written=False) for part in _parts(definition))


def _assigned(statements: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    """The names assigned at module level, with what is assigned, also below `if`, `for`, `with` and `try`."""
    for statement in statements:
        match statement:
            case ast.Assign(targets=targets, value=value):
                yield from ((target.id, value) for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                yield name, value
            case ast.If() | ast.For() | ast.With() | ast.Try():
                yield from _assigned([s for s in ast.iter_child_nodes(statement) if isinstance(s, ast.stmt)])


def _definitions(value: object, node: ast.expr | None) -> Iterator[tuple[_Definition, ast.expr | None]]:
    """The definitions that a value is or holds, each with the expression that wrote it, as far as that is known."""
    if isinstance(value, tuple | list) and type(value) in (tuple, list):
        written = node.elts if isinstance(node, ast.Tuple | ast.List) and len(node.elts) == len(value) else [node] * len(value)
        for part, expression in zip(value, written, strict=True):
            yield from _definitions(part, expression)
    elif isinstance(value, _Definition):
        yield value, node


def _parts(definition: _Definition) -> Iterator[_Definition]:
    """The definitions that a definition is made of: those that nobody named are part of the catalog too."""
    match definition:
        case AnyGroup():
            direct: tuple[_Definition, ...] = (definition.entity, *definition.inputs)
        case Source(at=Query(sources=sources)):
            direct = sources
        case FeatureService():
            direct = (*(join.group for join in definition.joins), *definition.on_demand)
        case TrainingSet():
            direct = (definition.spine, definition.service)
        case _:
            direct = ()
    for part in direct:
        yield part
        yield from _parts(part)


def _distinct(found: Sequence[_Found]) -> list[_Found]:
    """Each definition once, at the place where it is written, in the order of files and lines."""
    best: dict[int, _Found] = {}
    for one in found:
        known = best.get(id(one.value))
        if known is None or (one.is_written, known.place) > (known.is_written, one.place):
            best[id(one.value)] = one
    return sorted(best.values(), key=lambda one: one.place)


def _twice(distinct: Sequence[_Found]) -> Iterator[tuple[_Found, Mistake]]:
    first: dict[tuple[str, str], _Found] = {}
    for one in distinct:
        known = first.setdefault(one.key, one)
        if known is not one:
            kind, name = one.key
            where = f"{known.place.file}:{known.place.line}"
            yield one, Mistake(*one.place, f"{kind} {name} is already defined at {where}; rename one, or define it once and import it")


def _sharing(distinct: Sequence[_Found]) -> Iterator[tuple[_Found, Mistake]]:
    """Groups with the name of a source: what both reject would lie in one quarantine table."""
    sources = {one.value.name: one for one in distinct if isinstance(one.value, Source)}
    for one in distinct:
        kind, name = one.key
        if kind == "group" and name in sources:
            place = sources[name].place
            yield one, Mistake(*one.place, f"group {name} has the name of the source at {place.file}:{place.line}; rename one of them")


def _catalog(distinct: Sequence[_Found]) -> Catalog:
    origins: dict[tuple[str, ...], Place] = {one.key: one.place for one in distinct}
    for one in distinct:
        if isinstance(one.value, AnyGroup):
            lines = {f.name: one.features[f.name] for f in one.value.features if f.name in one.features}
            origins |= {("group", one.value.name, feature): Place(one.place.file, line) for feature, line in lines.items()}
    values = [one.value for one in distinct]
    return Catalog(
        entities=MappingProxyType({v.name: v for v in values if isinstance(v, Entity)}),
        sources=MappingProxyType({v.name: v for v in values if isinstance(v, Source)}),
        groups=MappingProxyType({v.name: v for v in values if isinstance(v, SourceGroup)}),
        services=MappingProxyType({v.name: v for v in values if isinstance(v, FeatureService)}),
        training_sets=MappingProxyType({v.name: v for v in values if isinstance(v, TrainingSet)}),
        origins=MappingProxyType(origins),
        transforms=MappingProxyType({v.name: v for v in values if isinstance(v, TransformGroup)}),
        on_demand=MappingProxyType({v.name: v for v in values if isinstance(v, OnDemandFeature)}),
    )
