"""Which columns of a source reach the columns of a group, and by what: conditions, features, queries, transforms."""

from collections.abc import Callable, Iterator

from feature_definitions.language import (
    DefinitionError,
    Derived,
    FeatureGroup,
    ObservationGroup,
    Query,
    SnapshotGroup,
    Source,
    SourceGroup,
    TransformGroup,
    WindowedGroup,
)
from feature_definitions.sql.expressions import columns_in, derive_columns_in
from feature_definitions.sql.queries import query_reads

Reads = Iterator[tuple[str, frozenset[str]]]
"""Who reads, and the columns that are read."""


def reads(group: FeatureGroup, outputs: frozenset[str], source: str) -> Reads:
    """What is read from a source on the way to columns of a group, and by what: conditions, features, queries, transforms."""
    match group:
        case TransformGroup():
            yield from _read_by_transform(group, source)
        case WindowedGroup():
            yield from _read_from_source(group, source, _read_by_features(group, outputs))
        case ObservationGroup() | SnapshotGroup():
            of = group.source
            derived = (name for name in group.columns if name in outputs & set(of.derive))
            yield from _read_from_source(group, source, ((f"{group.name}.{name}", rooted(of, frozenset({name}))) for name in derived))


def _read_from_source(group: SourceGroup, source: str, by_columns: Reads) -> Reads:
    """What a group of one source reads by its source's query; if it reads the source asked for, by its condition and columns too."""
    yield from _read_by_query(group.source, source)
    if group.source.name == source:
        yield f"where of {group.name}", rooted(group.source, columns_of(columns_in, group.where))
        yield from by_columns


def _read_by_features(group: WindowedGroup, outputs: frozenset[str]) -> Reads:
    needed = set(outputs)
    for feature in reversed(group.features):
        if needed.isdisjoint(feature.columns):
            continue
        if isinstance(feature, Derived):
            needed |= columns_of(columns_in, feature.expression)
        else:
            read = columns_of(columns_in, feature.of) | columns_of(columns_in, feature.where) | frozenset(feature.by or ())
            yield f"{group.name}.{feature.name}", rooted(group.source, read)


def _read_by_transform(group: TransformGroup, source: str) -> Reads:
    """A function may read whatever its inputs have."""
    for each in group.inputs:
        if not isinstance(each, Source):
            yield from reads(each, frozenset(each.outputs), source)
            continue
        yield from _read_by_query(each, source)
        if each.name == source:
            yield group.name, rooted(each, frozenset(each.names) if group.sql is None else columns_of(query_reads, group.sql))


def _read_by_query(of: Source, source: str) -> Reads:
    if isinstance(of.at, Query):
        for each in of.at.sources:
            yield from _read_by_query(each, source)
            if each.name == source:
                yield f"the query {of.name}", rooted(each, columns_of(query_reads, of.at.sql))


def rooted(source: Source, read: frozenset[str]) -> frozenset[str]:
    """Columns with those that they are derived from, those of rows before included."""
    found = set(read)
    for name, sql in reversed(list(source.derive.items())):
        if name in found:
            found |= {column.removeprefix("prev.") for column in columns_of(derive_columns_in, sql)}
    return frozenset(found)


def columns_of(reads: Callable[[str], frozenset[str]], sql: str | None) -> frozenset[str]:
    """The columns that SQL reads; none if it is wrong, which is told elsewhere."""
    try:
        return reads(sql) if sql else frozenset()
    except DefinitionError:
        return frozenset()
