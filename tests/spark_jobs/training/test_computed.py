"""What workers do for features on demand: take the function of the catalog by its name, and hand over columns as serving does."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from feature_definitions import OnDemandFeature, Request, on_demand
from feature_definitions.planning import fingerprint
from lake.arrow_types import arrow_type
from spark_jobs.training import computed
from spark_jobs.training.computed import FunctionRefused
from tests import projects

if TYPE_CHECKING:
    from pathlib import Path

VALUES: dict[str, list[Any]] = {
    "int64": [2**63 - 1, None, -1],
    "double": [0.1, None, -0.0],
    "boolean": [True, None, False],
    "string": ["ü", None, ""],
    "date": [date(1969, 12, 31), None, date(2026, 1, 4)],
    "timestamp": [datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), None, datetime(2026, 1, 4, tzinfo=UTC)],
    "decimal(8,2)": [Decimal("-1.10"), None, Decimal("2.00")],
    "array<int64>": [[1, 2], None, []],
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_column_of_arrow_is_what_serving_makes_of_the_same_values(kind: str) -> None:
    column = computed.values_of(pa.array(VALUES[kind], arrow_type(kind)), kind)
    there = on_demand.of_python(VALUES[kind], kind)
    assert column.null.tolist() == there.null.tolist() == [False, True, False]
    for row in (0, 2):
        assert (repr(column.values[row]), column.values.dtype) == (repr(there.values[row]), there.values.dtype)


@pytest.mark.parametrize("kind", VALUES)
def test_a_column_comes_back_as_it_was(kind: str) -> None:
    held = pa.array(VALUES[kind], arrow_type(kind))
    assert computed.array_of(computed.values_of(held, kind), kind).equals(held)


def double(amount: float) -> float:
    return amount * 2


def test_a_function_that_is_not_the_catalogs_own_is_refused(tmp_path: Path) -> None:
    asked = OnDemandFeature("twice", Request("amount", "double"), "double", double)
    text = (
        "from feature_definitions import OnDemandFeature, Request\n\n\ndef triple(amount):\n    return amount * 3\n\n\n"
        "twice = OnDemandFeature('twice', Request('amount', 'double'), 'double', triple)\n"
    )
    projects.write(tmp_path, "features.py", text)
    with pytest.raises(FunctionRefused, match=r"feature twice is not in the catalog at .* its file was changed meanwhile"):
        computed._named(str(tmp_path), "twice", fingerprint.on_demand(asked))
