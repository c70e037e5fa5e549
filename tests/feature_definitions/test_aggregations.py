"""The table of aggregations: whoever needs to know what one means reads it there, so that a new one is a row of it."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from expectations import suite
from feature_definitions import DefinitionError, Entity, Feature, Source, WindowedGroup
from feature_definitions.aggregations import ACCUMULATORS, AGGREGATIONS, Aggregation
from feature_definitions.planning import tiling
from feature_definitions.sql.column_types import column_types_of
from tests.test_architecture import ROOT, modules, relative, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

TYPES = ("int64", "double", "decimal(20,4)", "string")
HOMES = {"feature_definitions/aggregations.py", "spark_jobs/compute/aggregates.py", "spark_jobs/compute/tiles.py"}
"""Where an aggregation may be spelled: the table, and the Spark of aggregations and of their accumulators."""
PLAIN_WORDS = {"count", "sum", "mean", "min", "max", "first", "last", "mode", "stddev"}
"""Names that are words of other subjects as well: parts of a manifest, statistics of a profile."""
OF_SQL = {"feature_definitions/sql/functions.py"}
"""Where functions of SQL are spelled, some of which are called as aggregations are."""


def spread(of: str = "amount") -> WindowedGroup:
    source = Source("payments", columns={"customer": "string", "at": "timestamp", "amount": "double"}, event_timestamp="at")
    feature = Feature("spread", "spread", of, windows=("1d", "7d"))
    return WindowedGroup("spend", Entity("customer", {"customer": "string"}), source, ttl="2d", features=(feature,))


def test_a_new_aggregation_is_a_row_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Aggregation("spread", "numbers", lambda data_type: data_type, ("max", "min"), empty=0, is_seen=True)
    with pytest.raises(DefinitionError, match="has the aggregation 'spread'; there are count, "):
        spread()
    monkeypatch.setitem(AGGREGATIONS, "spread", row)  # type: ignore[arg-type]  # it is a dict
    group = spread()
    types = column_types_of(group)
    assert types.outputs == {"spread_1d": "double", "spread_7d": "double"}
    assert [state.kind for state in tiling.states(group, types=types.inputs)] == ["newest", "max", "min"]
    assert [each.id for each in suite.checks(group) if each.id.endswith(":some_values")] == ["spread_7d:some_values"]


def test_what_a_new_aggregation_takes_is_checked_by_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(AGGREGATIONS, "spread", Aggregation("spread", "numbers", "double", ("max", "min")))  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match=r"spend\.spread: spread of 'customer', which is a string; it needs a number"):
        spread("customer")


@pytest.mark.parametrize("each", AGGREGATIONS.values(), ids=AGGREGATIONS)
def test_an_aggregation_is_computed_from_accumulators_that_there_are(each: Aggregation) -> None:
    assert {kind for data_type in TYPES for kind in each.needs(data_type)} <= ACCUMULATORS.keys()


def test_every_accumulator_is_needed() -> None:
    needed = {kind for each in AGGREGATIONS.values() for data_type in TYPES for kind in each.needs(data_type)}
    assert needed | {"failures", "newest", "rows"} == ACCUMULATORS.keys()


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Every module of ours that decides or computes; catalogs and examples spell what they define."""
    for path in modules():
        if path.relative_to(ROOT).parts[0] != "examples" and "catalog" not in path.parts:
            yield relative(path), tree(path)


def test_no_other_module_spells_an_aggregation() -> None:
    unmistakable = AGGREGATIONS.keys() - PLAIN_WORDS
    spelling = {
        name
        for name, module in sources()
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in unmistakable
    }
    assert spelling - HOMES - OF_SQL == set()


def test_no_module_decides_by_the_name_of_an_aggregation() -> None:
    """`lag` is no aggregation, and its name is refused where definitions are."""
    deciding = {
        (name, ast.unparse(node))
        for name, module in sources()
        for node in ast.walk(module)
        if (isinstance(node, ast.Compare) and any(map(_is_its_name, (node.left, *node.comparators))))
        or (isinstance(node, ast.Match) and _is_its_name(node.subject))
    }
    assert deciding == set()


def _is_its_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "aggregation"
