"""The types that follow from a group's definition: of its output columns, and of what its features aggregate."""

from collections.abc import Mapping
from dataclasses import dataclass

from feature_definitions.language import FeatureGroup, WindowedGroup
from feature_definitions.sql import expressions


@dataclass(frozen=True, slots=True)
class ColumnTypes:
    """The types of a group's output columns, and of what each of its features aggregates (`of`, by the feature's name)."""

    outputs: Mapping[str, str]
    inputs: Mapping[str, str]


def column_types_of(group: FeatureGroup) -> ColumnTypes:
    """The types that follow from a group's definition."""
    if not isinstance(group, WindowedGroup):
        return ColumnTypes(expressions.output_types(group), {})
    declared = expressions.columns_of(group.source)
    inputs = {f.name: expressions.input_type(f, declared) for f in group.aggregated}
    return ColumnTypes(expressions.output_types(group), inputs)
