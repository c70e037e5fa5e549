"""The types that follow from definitions: of a source's columns, of a group's outputs, and of what its features aggregate."""

from collections.abc import Mapping
from dataclasses import dataclass

from feature_definitions.language import (
    Derived,
    Feature,
    FeatureGroup,
    Join,
    ObservationGroup,
    SnapshotGroup,
    Source,
    TransformGroup,
    WindowedGroup,
)
from feature_definitions.sql.expressions import PREVIOUS, parse, type_in, type_of
from feature_definitions.sql.failing import safely


@dataclass(frozen=True, slots=True)
class ColumnTypes:
    """The types of a group's output columns, and of what each of its features aggregates (`of`, by the feature's name).

    `failing` are the features of which an event may have no value, because what they aggregate or which events they take may fail for it.
    """

    outputs: Mapping[str, str]
    inputs: Mapping[str, str]
    failing: frozenset[str] = frozenset()


def column_types_of(group: FeatureGroup) -> ColumnTypes:
    """The types that follow from a group's definition."""
    if not isinstance(group, WindowedGroup):
        return ColumnTypes(output_types(group), {})
    declared = columns_of(group.source)
    inputs = {f.name: input_type(f, declared) for f in group.aggregated}
    return ColumnTypes(output_types(group), inputs, frozenset(f.name for f in group.aggregated if _may_fail(group, f, declared)))


def _may_fail(group: WindowedGroup, feature: Feature, declared: Mapping[str, str]) -> bool:
    expressions = {sql for sql in (group.where, feature.where, feature.of) if sql is not None and sql not in declared}
    return any(safely(sql, declared).fails is not None for sql in expressions)


def columns_of(source: Source) -> dict[str, str]:
    """The columns of a source with their types, those that it derives last."""
    types = dict(source.columns)
    for name in source.derive:
        types[name] = derive_type(source, name, types)
    return types


def derive_type(source: Source, name: str, columns: Mapping[str, str]) -> str:
    """The type of a column that a source derives, from those before it."""
    sql = source.derive[name]
    previous = {f"prev.{column}": data_type for column, data_type in source.columns.items()}
    return type_in(sql, parse(sql, tables=PREVIOUS), {**columns, **previous})


def output_types(group: FeatureGroup) -> dict[str, str]:
    """The type of each output column of a group's table, in order; the time of the last event is a timestamp here."""
    match group:
        case TransformGroup():
            return dict(group.schema)
        case WindowedGroup():
            return _aggregated_types(group, columns_of(group.source))
        case ObservationGroup() | SnapshotGroup():
            declared = columns_of(group.source)
            return {name: declared[name] for name in group.columns}


def _aggregated_types(group: WindowedGroup, declared: Mapping[str, str]) -> dict[str, str]:
    types: dict[str, str] = {}
    for feature in group.features:
        match feature:
            case Feature():
                types |= dict.fromkeys(feature.columns, feature_type(feature, declared))
            case Derived():
                types[feature.name] = type_of(feature.expression, types)
    return types


def types_as_read(group: FeatureGroup) -> dict[str, str]:
    """The type of each output column as readers see it: the time since the last event is seconds, a double."""
    return {name: "double" if name in group.ages else data_type for name, data_type in output_types(group).items()}


def types_of_outputs(join: Join) -> dict[str, str]:
    """The type of each of a join's outputs as readers see it."""
    types = types_as_read(join.group)
    return {output: types[column] for output, column in zip(join.outputs, join.columns, strict=True)}


def feature_type(feature: Feature, columns: Mapping[str, str]) -> str:
    """The type of a feature's columns, from those of its source."""
    return feature.meaning.result(input_type(feature, columns))


def input_type(feature: Feature, columns: Mapping[str, str]) -> str:
    """The type of what a feature aggregates; events as such are counted."""
    return "int64" if feature.of is None else type_of(feature.of, columns)
