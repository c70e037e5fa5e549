"""Checks a whole catalog without Java or data: what every expression reads and gives, and what only shows when definitions meet."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from feature_definitions.expressions import closest, columns_in, feature_type, output_types, type_of
from feature_definitions.intervals import duration
from feature_definitions.kinds import is_number
from feature_definitions.loader import Catalog, CatalogError, Mistake, load
from feature_definitions.model import (
    DefinitionError,
    Derived,
    Expectation,
    Feature,
    FeatureGroup,
    FeatureService,
    Join,
    Label,
    Source,
    TrainingSet,
    WindowedGroup,
)

_Finding = tuple[str | None, str]
"""The feature that a mistake is in (None: the definition as a whole), and what is wrong."""

_INSTEAD = {
    "at_least": "expression('x >= {0!r}')",
    "at_most": "expression('x <= {0!r}')",
    "between": "expression('x between {0!r} and {1!r}')",
    "one_of": 'expression("x in ({0!r})")',
    "not_null": "expression('x is not null')",
    "unique": "the columns that make a row unique as the source's id",
    "mean_between": "expression('x between {0!r} and {1!r}')",
    "quantile_between": "expression('x between {1!r} and {2!r}')",
}


_OF_NUMBERS = ("at_least", "at_most", "between", "mean_between", "quantile_between")


def checked(folder: Path) -> Catalog:
    """The catalog below a folder, if nothing is wrong with it; raises CatalogError with every mistake."""
    catalog = load(folder)
    if mistakes := check(catalog):
        raise CatalogError(mistakes)
    return catalog


def check(catalog: Catalog) -> tuple[Mistake, ...]:
    """Everything that is wrong in a catalog that could be loaded, in the order of files and lines."""
    found = (
        *(("source", s.name, finding) for s in catalog.sources.values() for finding in _source(s)),
        *(("group", g.name, finding) for g in catalog.groups.values() for finding in _group(g)),
        *(("service", s.name, finding) for s in catalog.services.values() for finding in _service(s)),
        *(("training set", t.name, finding) for t in catalog.training_sets.values() for finding in _training_set(t)),
    )
    return tuple(sorted(_mistake(catalog, kind, name, finding) for kind, name, finding in found))


def _mistake(catalog: Catalog, kind: str, name: str, finding: _Finding) -> Mistake:
    feature, message = finding
    where = f"{kind} {name}" if feature is None else f"{name}.{feature}"
    return Mistake(*catalog.origin_of(kind, name, feature), f"{where}: {message}")


# --------------------------------------------------------------------------------------------------------- sources and groups


def _source(source: Source) -> Iterator[_Finding]:
    yield from ((None, message) for message in _of_rows(source.expect, source.columns, source.name))


def _group(group: FeatureGroup) -> Iterator[_Finding]:
    if group.where is not None:
        yield from ((None, f"where: {message}") for message in _condition(group.where, group.source.columns, group.source.name))
    if isinstance(group, WindowedGroup):
        yield from _windowed(group)
    else:
        row = {**group.entity.keys, **output_types(group)}
        yield from ((None, message) for message in _of_group(group, row))


def _windowed(group: WindowedGroup) -> Iterator[_Finding]:
    types: dict[str, str | None] = {}
    for feature in group.features:
        problems = list(_feature(group, feature) if isinstance(feature, Feature) else _derived(group, feature, types))
        yield from ((feature.name, message) for message in problems)
        types |= dict.fromkeys(feature.columns, None if problems else _output_type(feature, group, types))
    known = {name: kind for name, kind in types.items() if kind is not None}
    for feature in group.features:
        yield from ((feature.name, message) for message in _of_columns(feature, known))
    if known == types:  # else a condition may read what is wrong already
        row = {**group.entity.keys, **known}
        yield from ((None, message) for message in _of_group(group, row))
        for feature in group.features:
            conditions = [each for each in feature.expect if each.kind == "expression"]
            yield from ((feature.name, message) for message in _of_rows(conditions, row, group.name))


def _feature(group: WindowedGroup, feature: Feature) -> Iterator[str]:
    columns, owner = group.source.columns, group.source.name
    if feature.where is not None:
        yield from (f"where: {message}" for message in _condition(feature.where, columns, owner))
    if feature.of is not None:
        try:
            kind = _type(feature.of, columns, owner)
        except DefinitionError as error:
            yield str(error)
            return
        if feature.aggregation in ("sum", "mean", "stddev") and not is_number(kind):
            count = f"count the rows, like Feature({feature.name!r}, 'count', where=...)"
            advice = count if kind == "boolean" else "cast it, like cast(x as double)"
            yield f"{feature.aggregation} of {feature.of!r}, which is {_a(kind)}; it needs a number: {advice}"


def _output_type(feature: Feature | Derived, group: WindowedGroup, before: Mapping[str, str | None]) -> str | None:
    if isinstance(feature, Feature):
        return feature_type(feature, group.source.columns)
    read = {name: before[name] for name in columns_in(feature.expression)}
    known = {name: kind for name, kind in read.items() if kind is not None}
    return type_of(feature.expression, known) if len(known) == len(read) else None


def _derived(group: WindowedGroup, derived: Derived, before: Mapping[str, str | None]) -> Iterator[str]:
    try:
        read = columns_in(derived.expression)
        for name in sorted(read - set(before)):
            yield _not_before(group, derived, name)
        known = {name: kind for name in read if (kind := before.get(name)) is not None}
        if len(known) == len(read):
            type_of(derived.expression, known)
    except DefinitionError as error:
        yield str(error)


def _not_before(group: WindowedGroup, derived: Derived, name: str) -> str:
    start = f"{derived.expression!r} reads {name!r}"
    if name in group.outputs:
        circle = _circle(group, derived.name, name)
        return f"{start}, which goes round in a circle: {circle}" if circle else f"{start}, which is defined below it; move that up"
    if name in group.source.columns or name in group.entity.keys:
        return f"{start}, a column of {group.source.name}; a Derived reads the group's own features: {', '.join(group.outputs)}"
    return f"{start}, which {group.name} does not have.{closest(name, group.outputs)} It has: {', '.join(group.outputs)}"


def _circle(group: WindowedGroup, start: str, name: str) -> str | None:
    """How a derived column depends on itself by way of `name`, as `a reads b reads a`; None if it does not."""
    reads = {f.name: sorted(_columns_read(f.expression)) for f in group.features if isinstance(f, Derived)}
    paths: list[tuple[str, ...]] = [(start, name)]
    while paths:
        path = paths.pop()
        if path[-1] == start:
            return " reads ".join(path)
        paths += [(*path, following) for following in reads.get(path[-1], ()) if following not in path[1:]]
    return None


def _columns_read(sql: str | None) -> frozenset[str]:
    """The columns that an expression reads; none if it is wrong, which is told elsewhere."""
    try:
        return columns_in(sql) if sql else frozenset()
    except DefinitionError:
        return frozenset()


# ------------------------------------------------------------------------------------------------- expressions and expectations


def _type(sql: str, columns: Mapping[str, str], owner: str) -> str:
    for name in sorted(columns_in(sql) - set(columns)):
        known = ", ".join(sorted(columns))
        raise DefinitionError(f"{sql!r} reads {name!r}, which {owner} does not have.{closest(name, columns)} It has: {known}")
    return type_of(sql, columns)


def _condition(sql: str, columns: Mapping[str, str], owner: str) -> Iterator[str]:
    try:
        kind = _type(sql, columns, owner)
    except DefinitionError as error:
        yield str(error)
        return
    if kind != "boolean":
        yield f"{sql!r} is {_a(kind)}, not a condition; write a comparison, like x > 0"


def _of_group(group: FeatureGroup, row: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with expectations of a whole group: those of its rows, which name no column, and of their number."""
    return _of_rows([each for each in group.expect if each.kind != "row_count"], row, group.name)


def _of_rows(expect: Sequence[Expectation], columns: Mapping[str, str], owner: str) -> Iterator[str]:
    """What is wrong with expectations that name no column: only `expression` is about a row."""
    for each in expect:
        if each.kind == "expression":
            yield from (f"expects {each}: {message}" for message in _condition(str(each.arguments[0]), columns, owner))
        elif each.kind == "row_count":
            yield f"expects {each}, but a source has no intervals; write it at a group that reads {owner}"
        else:
            instead = _INSTEAD[each.kind].format(*each.arguments)
            yield f"expects {each} of no column; write {instead} here, or {each} at the feature"


def _of_columns(feature: Feature | Derived, types: Mapping[str, str]) -> Iterator[str]:
    for each in feature.expect:
        if each.kind == "row_count":
            yield f"expects {each}, which is about an interval and no column; write it at the group"
        for column in feature.columns:
            if column in types and (wrong := _unfit(each, types[column])):
                yield f"expects {each} of {column}, which is {_a(types[column])}; {wrong}"


def _unfit(expectation: Expectation, kind: str) -> str | None:
    if expectation.kind in _OF_NUMBERS and not is_number(kind):
        return "it needs a number; write an expression(...) that says what is meant"
    if expectation.kind == "one_of":
        wrong = [value for value in expectation.arguments if not _can_be(value, kind)]
        if wrong:
            return f"{wrong[0]!r} can never be its value; write values of that type"
    return None


def _can_be(value: object, kind: str) -> bool:
    match value:
        case bool():
            return kind == "boolean"
        case int():
            return is_number(kind)
        case float():
            return is_number(kind) and (kind != "int64" or value.is_integer())
    return kind == "string"


# --------------------------------------------------------------------------------------------------- services and training sets


def _service(service: FeatureService) -> Iterator[_Finding]:
    types: dict[str, tuple[str, str]] = {}
    for join in service.joins:
        for column, (key, kind) in zip(join.keys, join.group.entity.keys.items(), strict=True):
            other, by = types.setdefault(column, (kind, join.name))
            if other != kind:
                advice = f"map one of them to another column, like Join({join.group.name}, on={{{key!r}: 'other_{column}'}})"
                yield None, f"the key {column!r} is {_a(other)} for {by} and {_a(kind)} for {join.name}; {advice}"


def _a(kind: str) -> str:
    return f"an {kind}" if kind == "int64" else f"a {kind}"


def _training_set(training: TrainingSet) -> Iterator[_Finding]:
    outputs = {name.lower(): name for name in training.service.outputs}
    for column in training.spine.columns:
        if column.lower() in outputs:
            yield None, f"the column {column!r} of its spine {training.spine.name} is also a feature of {training.service.name}; rename it"
    if training.label is not None:
        for join in training.service.joins:
            if join.group.source.name == training.spine.name:
                yield from ((None, message) for message in _leaks(training.label, join))


def _leaks(label: Label, join: Join) -> Iterator[str]:
    """Features that show a label of the spine's own source before its horizon has passed."""
    group = join.group
    reading = [name for name, read in _reads(join) if label.column in read]
    if not reading:
        return
    start = f"the label {label.column!r} is among its own features: {reading[0]} reads it"
    if not isinstance(group, WindowedGroup):
        yield f"{start}; remove it"
    elif duration(group.publish_delay) < duration(label.horizon):
        delay = f"publish_delay={label.horizon!r}"
        yield f"{start}, and it is known only {label.horizon} after its event; remove it, or give {group.name} {delay}"


def _reads(join: Join) -> Iterator[tuple[str, frozenset[str]]]:
    """What is read from the source on the way to the columns of a join: by the group's condition and by each feature."""
    group = join.group
    yield f"where of {group.name}", _columns_read(group.where)
    features = group.features if isinstance(group, WindowedGroup) else ()
    needed = set(join.columns)
    for feature in reversed(features):
        if needed.isdisjoint(feature.columns):
            continue
        if isinstance(feature, Derived):
            needed |= _columns_read(feature.expression)
        else:
            yield f"{group.name}.{feature.name}", _columns_read(feature.of) | _columns_read(feature.where)
