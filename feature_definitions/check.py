"""Checks a whole catalog without Java or data: what every expression reads and gives, and what only shows when definitions meet."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

from feature_definitions import layout
from feature_definitions.intervals import duration
from feature_definitions.language import (
    DefinitionError,
    Derived,
    Expectation,
    Feature,
    FeatureGroup,
    FeatureService,
    Join,
    Label,
    Query,
    Source,
    SourceGroup,
    TrainingSet,
    TransformGroup,
    WindowedGroup,
)
from feature_definitions.language.rules import closest
from feature_definitions.language.sources import reads_previous
from feature_definitions.loader import Catalog, CatalogError, Mistake, load, load_sound, without
from feature_definitions.reading import default
from feature_definitions.sql import lineage
from feature_definitions.sql.column_types import columns_of, derive_type, feature_type, output_types, types_of_outputs
from feature_definitions.sql.data_types import articled, element_of, is_array, is_number
from feature_definitions.sql.expressions import columns_in, derive_columns_in, type_of
from feature_definitions.sql.queries import query_outputs

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


def checked_sound(folder: Path) -> Catalog:
    """What of the catalog below a folder nothing is wrong with, and with nothing that it rests on."""
    catalog = load_sound(folder)
    return without(catalog, {(kind, name): _mistake(catalog, kind, name, finding) for kind, name, finding in _findings(catalog)})


def check(catalog: Catalog) -> tuple[Mistake, ...]:
    """Everything that is wrong in a catalog that could be loaded, in the order of files and lines."""
    return tuple(sorted(_mistake(catalog, kind, name, finding) for kind, name, finding in _findings(catalog)))


def _findings(catalog: Catalog) -> Iterator[tuple[str, str, _Finding]]:
    """What is wrong with which definition, by its kind and name."""
    yield from (("source", s.name, finding) for s in catalog.sources.values() for finding in _source(s))
    yield from (("group", g.name, finding) for g in catalog.groups.values() for finding in _group(g))
    yield from (("group", g.name, finding) for g in catalog.transforms.values() for finding in _transform(g))
    yield from (("service", s.name, finding) for s in catalog.services.values() for finding in _service(s))
    yield from (("training set", t.name, finding) for t in catalog.training_sets.values() for finding in _training_set(t))


def _mistake(catalog: Catalog, kind: str, name: str, finding: _Finding) -> Mistake:
    feature, message = finding
    where = f"{kind} {name}" if feature is None else f"{name}.{feature}"
    return Mistake(*catalog.origin_of(kind, name, feature), f"{where}: {message}")


# --------------------------------------------------------------------------------------------------------- sources and groups


def _source(source: Source) -> Iterator[_Finding]:
    """What is wrong with a source; what reads it is checked when it is right."""
    derived = list(_derive(source))
    yield from ((None, message) for message in derived)
    if isinstance(source.at, Query):
        yield from (
            (None, message)
            for message in _query(source.at.sql, source.at.sources, [str(column.name) for column in source.written.values()])
        )
    if not derived:
        yield from ((None, message) for message in _of_rows(source.expect, columns_of(source), source.name))
        yield from ((None, message) for message in _beyond_the_row(source))


def _derive(source: Source) -> Iterator[str]:
    """What is wrong with derived columns: the first one, since those below may rest on it."""
    types: dict[str, str] = dict(source.columns)
    for name in source.derive:
        try:
            _refuse_reading(source, name, types)
            types[name] = derive_type(source, name, types)
        except DefinitionError as error:
            yield f"derive {name}: {error}"
            return


def _refuse_reading(source: Source, name: str, before: Mapping[str, str]) -> None:
    sql = source.derive[name]
    for read in sorted(derive_columns_in(sql)):
        if read == name:
            raise DefinitionError(f"{sql!r} reads itself; name the columns that it is derived from")
        if read in source.derive and read not in before:
            raise DefinitionError(f"{sql!r} reads {read!r}, which is derived below it; move that up")
        if read.removeprefix("prev.") in source.derive and read.startswith("prev."):
            raise DefinitionError(f"{sql!r} reads {read!r}, which is derived; prev reads the columns that the source has itself")


def _beyond_the_row(source: Source) -> Iterator[str]:
    """Expectations that read the row before: a source's rows are judged one by one, as they arrive."""
    lagging: set[str] = set()
    for name, sql in source.derive.items():
        if reads_previous(sql) or not lagging.isdisjoint(derive_columns_in(sql)):
            lagging.add(name)
    for each in source.expect:
        read = lineage.columns_of(columns_in, str(each.arguments[0])) if each.kind == "expression" else frozenset()
        for name in sorted(read & lagging):
            yield f"expects {each}: {name!r} rests on the row before, and rows are judged one by one as they arrive; write it at a group"


def _query(sql: str, inputs: Sequence[Source | FeatureGroup], wanted: Iterable[str]) -> Iterator[str]:
    """What is wrong with a query over these inputs that is to give the columns wanted."""
    try:
        tables = {each.name: _columns(each) for each in inputs}
    except DefinitionError:  # told where it is
        return
    try:
        outputs = query_outputs(sql, tables)
    except DefinitionError as error:
        yield str(error)
        return
    missing = [name for name in wanted if name not in outputs]
    if missing:
        near = closest(missing[0], outputs)
        yield f"the query gives no column {missing[0]!r}, which is declared.{near} It gives: {', '.join(outputs)}"


def _columns(of: Source | FeatureGroup) -> dict[str, str]:
    """What a query may read of a source, or of a group's published rows."""
    if isinstance(of, Source):
        return columns_of(of)
    return {**of.entity.keys, "event_timestamp": "timestamp", **output_types(of)}


def _transform(group: TransformGroup) -> Iterator[_Finding]:
    if group.sql is not None:
        wanted = (*group.entity.keys, *group.outputs)
        yield from ((None, message) for message in _query(group.sql, group.inputs, wanted))
    yield from ((None, message) for message in _of_group(group, {**group.entity.keys, **group.schema}))


def _group(group: SourceGroup) -> Iterator[_Finding]:
    if any(_derive(group.source)):
        return
    columns = columns_of(group.source)
    if group.where is not None:
        yield from ((None, f"where: {message}") for message in _condition(group.where, columns, group.source.name))
    if isinstance(group, WindowedGroup):
        yield from _windowed(group, columns)
    else:
        row = {**group.entity.keys, **output_types(group)}
        yield from ((None, message) for message in _of_group(group, row))


def _windowed(group: WindowedGroup, columns: Mapping[str, str]) -> Iterator[_Finding]:
    types: dict[str, str | None] = {}
    for feature in group.features:
        problems = list(_feature(group, feature, columns) if isinstance(feature, Feature) else _derived(group, feature, types))
        yield from ((feature.name, message) for message in problems)
        types |= dict.fromkeys(feature.columns, None if problems else _output_type(feature, columns, types))
    known = {name: data_type for name, data_type in types.items() if data_type is not None}
    for feature in group.features:
        yield from ((feature.name, message) for message in _of_columns(feature, known))
    if known == types:  # else a condition may read what is wrong already
        row = {**group.entity.keys, **known}
        yield from ((None, message) for message in _of_group(group, row))
        for feature in group.features:
            conditions = [each for each in feature.expect if each.kind == "expression"]
            yield from ((feature.name, message) for message in _of_rows(conditions, row, group.name))


def _feature(group: WindowedGroup, feature: Feature, columns: Mapping[str, str]) -> Iterator[str]:
    owner = group.source.name
    if feature.where is not None:
        yield from (f"where: {message}" for message in _condition(feature.where, columns, owner))
    if feature.of is not None:
        try:
            data_type = _type(feature.of, columns, owner)
        except DefinitionError as error:
            yield str(error)
            return
        yield from _misfit(feature, data_type)


def _misfit(feature: Feature, data_type: str) -> Iterator[str]:
    """Why an aggregation cannot be of what is of a type."""
    if feature.meaning.takes == "numbers" and not is_number(data_type):
        count = f"count the rows, like Feature({feature.name!r}, 'count', where=...)"
        advice = count if data_type == "boolean" else "cast it, like cast(x as double)"
        yield f"{feature.aggregation} of {feature.of!r}, which is {articled(data_type)}; it needs a number: {advice}"
    elif is_array(data_type) and not feature.meaning.takes_arrays:
        instead = f"read an element, like {feature.of}[0], or size({feature.of})"
        yield f"{feature.aggregation} of {feature.of!r}, which is {articled(data_type)}; {instead}"


def _output_type(feature: Feature | Derived, columns: Mapping[str, str], before: Mapping[str, str | None]) -> str | None:
    if isinstance(feature, Feature):
        return feature_type(feature, columns)
    read = {name: before[name] for name in columns_in(feature.expression)}
    known = {name: data_type for name, data_type in read.items() if data_type is not None}
    return type_of(feature.expression, known) if len(known) == len(read) else None


def _derived(group: WindowedGroup, derived: Derived, before: Mapping[str, str | None]) -> Iterator[str]:
    try:
        read = columns_in(derived.expression)
        for name in sorted(read - set(before)):
            yield _not_before(group, derived, name)
        for name in sorted(read & group.ages):
            yield f"{derived.expression!r} reads {name!r}, which is known only when somebody asks; a Derived is computed with the row"
        known = {name: data_type for name in read if (data_type := before.get(name)) is not None}
        if len(known) == len(read):
            type_of(derived.expression, known)
    except DefinitionError as error:
        yield str(error)


def _not_before(group: WindowedGroup, derived: Derived, name: str) -> str:
    start, others = f"{derived.expression!r} reads {name!r}", [output for output in group.outputs if output != derived.name]
    if name in group.outputs:
        circle = _circle(group, derived.name, name)
        return f"{start}, which goes round in a circle: {circle}" if circle else f"{start}, which is defined below it; move that up"
    if name in group.source.names or name in group.entity.keys:
        return f"{start}, a column of {group.source.name}; a Derived reads the group's own features: {', '.join(others)}"
    return f"{start}, which {group.name} does not have.{closest(name, others)} It has: {', '.join(others)}"


def _circle(group: WindowedGroup, start: str, name: str) -> str | None:
    """How a derived column depends on itself by way of `name`, as `a reads b reads a`; None if it does not."""
    reads = {f.name: sorted(lineage.columns_of(columns_in, f.expression)) for f in group.features if isinstance(f, Derived)}
    paths: list[tuple[str, ...]] = [(start, name)]
    while paths:
        path = paths.pop()
        if path[-1] == start:
            return " reads ".join(path)
        paths += [(*path, following) for following in reads.get(path[-1], ()) if following not in path[1:]]
    return None


# ------------------------------------------------------------------------------------------------- expressions and expectations


def _type(sql: str, columns: Mapping[str, str], owner: str) -> str:
    for name in sorted(columns_in(sql) - set(columns)):
        known = ", ".join(sorted(columns))
        raise DefinitionError(f"{sql!r} reads {name!r}, which {owner} does not have.{closest(name, columns)} It has: {known}")
    return type_of(sql, columns)


def _condition(sql: str, columns: Mapping[str, str], owner: str) -> Iterator[str]:
    try:
        data_type = _type(sql, columns, owner)
    except DefinitionError as error:
        yield str(error)
        return
    if data_type != "boolean":
        yield f"{sql!r} is {articled(data_type)}, not a condition; write a comparison, like x > 0"


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
                yield f"expects {each} of {column}, which is {articled(types[column])}; {wrong}"


def _unfit(expectation: Expectation, data_type: str) -> str | None:
    if expectation.kind in _OF_NUMBERS and not is_number(data_type):
        return "it needs a number; write an expression(...) that says what is meant"
    if expectation.kind == "one_of":
        wrong = [value for value in expectation.arguments if not _can_be(value, data_type)]
        if wrong:
            return f"{wrong[0]!r} can never be its value; write values of that type"
    return None


def _can_be(value: object, data_type: str) -> bool:
    match value:
        case bool():
            return data_type == "boolean"
        case int():
            return is_number(data_type)
        case float():
            return is_number(data_type) and (data_type != "int64" or value.is_integer())
    return data_type == "string"


# --------------------------------------------------------------------------------------------------- services and training sets


def _service(service: FeatureService) -> Iterator[_Finding]:
    types: dict[str, tuple[str, str]] = {}
    for join in service.joins:
        for column, (key, data_type) in zip(join.keys, join.group.entity.keys.items(), strict=True):
            other, by = types.setdefault(column, (data_type, join.name))
            if other != data_type:
                advice = f"map one of them to another column, like Join({join.group.name}, on={{{key!r}: 'other_{column}'}})"
                yield None, f"the key {column!r} is {articled(other)} for {by} and {articled(data_type)} for {join.name}; {advice}"
    yield from _of_defaults(service)


def _of_defaults(service: FeatureService) -> Iterator[_Finding]:
    """Defaults that are not of their columns' types, as readers see them."""
    if not service.defaults:
        return
    types = {output: data_type for join in service.joins for output, data_type in _shown(join).items()}
    for name, value in service.defaults.items():
        if name in types:
            yield from ((None, message) for message in _of_default(name, value, types[name]))


def _of_default(name: str, value: object, data_type: str) -> Iterator[str]:
    if not _is_a(value, data_type):
        yield f"the default {value!r} of {name} can never be its value, which is {articled(data_type)}; write a value of that type"
        return
    try:
        default(value, data_type)
    except DefinitionError as error:
        yield f"{name}: {error}"


def _shown(join: Join) -> Mapping[str, str]:
    """The types of a join's outputs; none where its group is wrong, which is told there."""
    try:
        return types_of_outputs(join)
    except DefinitionError:
        return {}


def _is_a(value: object, data_type: str) -> bool:
    match value:
        case datetime():
            return data_type == "timestamp" and value.tzinfo is not None
        case date():
            return data_type == "date"
        case Decimal():
            return data_type.startswith("decimal")
        case tuple() | list():
            return is_array(data_type) and all(_is_a(each, element_of(data_type)) for each in value)
    return isinstance(value, str | int | float) and _can_be(value, data_type)


def _training_set(training: TrainingSet) -> Iterator[_Finding]:
    outputs = {name.lower(): name for name in training.service.outputs}
    for column in training.spine.names:
        if layout.is_of_training_sets(column):
            yield None, f"the column {column!r} of its spine {training.spine.name} is one of a training set's own; rename it"
        if column.lower() in outputs:
            yield None, f"the column {column!r} of its spine {training.spine.name} is also a feature of {training.service.name}; rename it"
    yield from ((None, message) for message in _of_training_set(training))
    if training.label is not None:
        for join in training.service.joins:
            yield from ((None, message) for message in _leaks(training.label, join, training.spine))


def _of_training_set(training: TrainingSet) -> Iterator[str]:
    """What is wrong with a training set's expectations."""
    if not training.expected:
        return
    try:
        types = columns_of(training.spine)
    except DefinitionError:
        return  # told of the source
    types |= {name: kind for join in training.service.joins for name, kind in _shown(join).items()}
    types |= {feature.name: feature.type for feature in training.service.on_demand} | {layout.ROW_PART: "string"}
    for column, each in training.expected:
        if each.kind == "expression":
            yield from (f"expects {each}: {message}" for message in _condition(str(each.arguments[0]), types, training.name))
        elif column in types and (wrong := _unfit(each, types[column])):
            yield f"expects {each} of {column}, which is {articled(types[column])}; {wrong}"


def _leaks(label: Label, join: Join, spine: Source) -> Iterator[str]:
    """Features that show a label of the spine's own source, or what it is derived from, before its horizon has passed."""
    group, told = join.group, lineage.rooted(spine, frozenset({label.column}))
    reading = [name for name, read in lineage.reads(group, frozenset(join.columns), spine.name) if told & read]
    if not reading:
        return
    start = f"the label {label.column!r} is among its own features: {reading[0]} reads it"
    if group.row_time != "end":
        yield f"{start}; remove it"
    elif duration(group.publish_delay) < duration(label.horizon):
        delay = f"publish_delay={label.horizon!r}"
        yield f"{start}, and it is known only {label.horizon} after its event; remove it, or give {group.name} {delay}"
