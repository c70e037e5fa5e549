"""The types of columns follow from their definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from feature_definitions import Derived, Entity, Feature, ObservationGroup, Source, TransformGroup, WindowedGroup
from feature_definitions.sql.column_types import columns_of, output_types, types_as_read

if TYPE_CHECKING:
    from collections.abc import Mapping

COLUMNS = {
    "i": "int64",
    "j": "int64",
    "d": "double",
    "s": "string",
    "b": "boolean",
    "m": "decimal(12,2)",
    "n": "decimal(10,4)",
    "dt": "date",
    "ts": "timestamp",
}


def group_of(*features: Feature | Derived, columns: Mapping[str, str] = COLUMNS) -> WindowedGroup:
    source = Source("events", columns={"key": "string", **columns}, event_timestamp="ts")
    return WindowedGroup("g", entity=Entity("e", keys={"key": "string"}), source=source, ttl="2d", features=features)


@pytest.mark.parametrize(
    ("aggregation", "of", "data_type"),
    [
        ("count", None, "int64"),
        ("count", "s", "int64"),
        ("count_distinct", "s", "int64"),
        ("sum", "i", "int64"),
        ("sum", "d", "double"),
        ("sum", "m", "decimal(22,2)"),
        ("sum", "cast(m as decimal(35,2))", "decimal(38,2)"),
        ("sum", "i / j", "double"),
        ("mean", "i", "double"),
        ("stddev", "m", "double"),
        ("min", "ts", "timestamp"),
        ("max", "m", "decimal(12,2)"),
        ("first", "s", "string"),
        ("last", "b", "boolean"),
        ("last", "date(ts)", "date"),
    ],
)
def test_each_aggregation_has_its_type(aggregation: str, of: str | None, data_type: str) -> None:
    assert output_types(group_of(Feature("x", aggregation, of, windows=("1d", "7d")))) == {"x_1d": data_type, "x_7d": data_type}


def test_a_derived_column_may_read_earlier_derived_ones() -> None:
    group = group_of(
        Feature("n", "count", windows=("1d", "7d")),
        Derived("share", "n_1d / n_7d"),
        Derived("high", "share > 0.5"),
        Derived("k", "n_1d + 1"),
    )
    assert output_types(group) == {"n_1d": "int64", "n_7d": "int64", "share": "double", "high": "boolean", "k": "int64"}


def test_observed_columns_keep_their_declared_types() -> None:
    source = Source("events", columns={"key": "string", **COLUMNS}, event_timestamp="ts")
    group = ObservationGroup("g", entity=Entity("e", keys={"key": "string"}), source=source, columns=("m", "s"), ttl="2d")
    assert output_types(group) == {"m": "decimal(12,2)", "s": "string"}


@pytest.mark.parametrize(
    ("aggregation", "of", "asked", "data_type"),
    [
        ("variance", "i", {}, "double"),
        ("quantile", "m", {"q": 0.5}, "double"),
        ("approx_count_distinct", "s", {}, "int64"),
        ("time_since_last", None, {}, "timestamp"),
        ("time_since_last", "s", {}, "timestamp"),
        ("mode", "m", {}, "decimal(12,2)"),
        ("top_k", "s", {"k": 3}, "array<string>"),
        ("last_n", "m * 2", {"k": 3}, "array<decimal(33,2)>"),
        ("last", "a", {}, "array<double>"),
        ("max", "a[0]", {}, "double"),
    ],
)
def test_each_further_aggregation_has_its_type(aggregation: str, of: str | None, asked: dict[str, Any], data_type: str) -> None:
    group = group_of(Feature("x", aggregation, of, windows=("1d", "lifetime"), **asked), columns={**COLUMNS, "a": "array<double>"})
    assert output_types(group) == {"x_1d": data_type, "x_lifetime": data_type}


def test_readers_see_an_age_as_seconds() -> None:
    group = group_of(Feature("since", "time_since_last", windows=("1d",)), Feature("at", "max", "ts", windows=("1d",)))
    assert output_types(group) == {"since_1d": "timestamp", "at_1d": "timestamp"}
    assert types_as_read(group) == {"since_1d": "double", "at_1d": "timestamp"}


def test_each_value_of_a_feature_has_its_type() -> None:
    group = group_of(Feature("x", "sum", "d", windows=("1d",), by={"s": ("a", "b")}), Derived("share", "x_a_1d / (x_a_1d + x_b_1d)"))
    assert output_types(group) == {"x_a_1d": "double", "x_b_1d": "double", "share": "double"}


def test_a_transform_has_the_types_of_its_schema() -> None:
    group = group_of(Feature("x", "count", windows=("1d",)))
    made = TransformGroup("t", group.entity, (group,), sql="SELECT 1", lookback="1d", schema={"y": "double"}, ttl="2d")
    assert output_types(made) == types_as_read(made) == {"y": "double"}


def test_the_columns_of_a_source_are_those_it_has_and_those_it_derives() -> None:
    derive = {"change": "d / prev.d - 1", "large": "change > 0.1", "word": "upper(prev.s)"}
    source = Source("x", columns=COLUMNS, event_timestamp="ts", derive=derive, lag_over="s", lag_within="10d")
    assert columns_of(source) == {**COLUMNS, "change": "double", "large": "boolean", "word": "string"}
