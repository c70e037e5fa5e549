"""DESIGN section 4, "Refused when defined": each item is refused, built or checked, and told what to write instead."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from feature_definitions import DefinitionError
from feature_definitions.check import checked

if TYPE_CHECKING:
    from pathlib import Path


BEFORE = """\
from feature_definitions import *

customer = Entity("customer", keys={"customer_id": "int64"})
payments = Source(
    "payments", columns={"customer_id": "int64", "amount": "double", "kind": "string", "fraud": "boolean", "paid_at": "timestamp"},
    event_timestamp="paid_at",
)
people = Source("people", columns={"customer_id": "int64", "age": "int64"}, shape="static", id=("customer_id",))
count = Feature("n", "count", windows=("1d",))
def group(*features, name="spend", source=payments, ttl="40d", **changes):
    return WindowedGroup(name, customer, source, ttl=ttl, features=features or (count,), **changes)
def transform(name="risk", inputs=(payments,), **changes):
    given = {"sql": "select customer_id, 1.0 score from payments", "lookback": "7d", "schema": {"score": "double"}, "ttl": "2d"}
    return TransformGroup(name, customer, inputs, **{**given, **changes})
def trained(group):
    return TrainingSet("t", payments, FeatureService("s", joins=(Join(group),)), label=Label("fraud", "30d"))
"""
REFUSED = {
    "an unknown column": (
        'x = group(Feature("x", "sum", "amnt * 2", windows=("1d",)))',
        "'amnt * 2' reads 'amnt', which payments does not have. Did you mean 'amount'?",
    ),
    "a wrong-typed column": ('x = group(Feature("x", "sum", "kind", windows=("1d",)))', "which is a string; it needs a number"),
    "a wrong-typed part of an expression": ('x = group(Feature("x", "count", where="kind > 3", windows=("1d",)))', "cast one of them"),
    "a window that is not a multiple of the cadence": (
        'x = group(Feature("x", "count", windows=("36h",)))',
        "the window '36h' is not a multiple of the cadence '1d'",
    ),
    "a cadence that does not divide a day": ('x = group(every="7h")', "divides a day, like '5m', '1h', '6h' or '1d'"),
    "a TTL shorter than cadence and publish delay": (
        'x = group(ttl="25h", publish_delay="2h")',
        "has the ttl '25h', shorter than its cadence",
    ),
    "duplicate output names": ("x = group(count, count)", "has the output column 'n_1d' twice; rename one of the features"),
    "output names that collide": (
        'x = group(Feature("n_a", "count", windows=("1d",)), Feature("n", "count", by={"kind": ("a",)}, windows=("1d",)))',
        "has the output column 'n_a_1d' twice",
    ),
    "non-deterministic SQL in a feature": (
        'x = group(Feature("x", "sum", "rand()", windows=("1d",)))',
        "rand() is not among the functions",
    ),
    "non-deterministic SQL in a source": (
        'x = Source("x", columns={"a": "double", "at": "timestamp"}, event_timestamp="at", derive={"b": "a * unix_seconds(now())"})',
        "now() reads the clock",
    ),
    "non-deterministic SQL in a query": (
        'x = Source("x", Query("select paid_at from payments limit 3", payments), {"paid_at": "timestamp"}, "paid_at")',
        "has a LIMIT, so which rows it gives is left to chance",
    ),
    "non-deterministic SQL in a transform": (
        'x = transform(sql="select customer_id, first(amount) score from payments group by 1")',
        "first() depends on the order of rows that are equal",
    ),
    "a cycle of features": (
        'x = group(count, Derived("a", "b + n_1d"), Derived("b", "a * 2"))',
        "which goes round in a circle: a reads b reads a",
    ),
    "a cycle of derived columns": (
        'x = Source("x", columns={"a": "double", "at": "timestamp"}, event_timestamp="at", derive={"b": "c + 1", "c": "b + 1"})',
        "'c + 1' reads 'c', which is derived below it; move that up",
    ),
    "a cycle of groups, by name": ('x = transform(inputs=(group(name="risk"),))', "goes round in a circle: risk reads risk"),
    "by without a closed list of values": (
        'x = group(Feature("x", "count", by="kind", windows=("1d",)))',
        "is by 'kind' without a closed list of values, so its columns would follow the data; write by=",
    ),
    "a transform without lookback": ("x = transform(lookback=None)", "has no lookback; say how far back from T it reads its inputs"),
    "a transform without schema": ("x = transform(schema={})", "has no schema; name its output columns with their types"),
    "a static source without assume_always_known": (
        'x = SnapshotGroup("person", customer, people, columns=("age",))',
        "nobody knows when its rows became true; write assume_always_known=True",
    ),
    "a label among its own features": (
        'x = trained(group(Feature("x", "count", where="fraud", windows=("1d",))))',
        "the label 'fraud' is among its own features: spend.x reads it",
    ),
    "naive timestamps without a timezone": (
        'x = Source("x", Files("x.csv"), columns={"at": "timestamp"}, event_timestamp="at")',
        "say where it was written down, like timezone='UTC'",
    ),
    "several statements": ('x = group(Feature("x", "sum", "amount; drop", windows=("1d",)))', "has several statements"),
    "a subquery": ('x = group(where="amount > (select 1)")', "has a subquery; an expression reads only the columns of its own row"),
    "a date word": ("x = group(where=\"paid_at > 'today'\")", "as a time, 'today' reads the clock"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_design_refuses_is_refused_with_what_to_write_instead(what: str, tmp_path: Path) -> None:
    text, message = REFUSED[what]
    catalog = tmp_path / "catalog.py"
    catalog.write_text(BEFORE + text)
    with pytest.raises(DefinitionError) as refused:
        checked(tmp_path)
    assert message in str(refused.value)
    assert f"{catalog}:" in str(refused.value)


def test_nothing_of_it_is_refused_where_it_is_right(tmp_path: Path) -> None:
    right = """
        by = group(Feature("x", "count", by={"kind": ("a",)}, windows=("1d",)), Derived("a", "x_a_1d + 1"), Derived("b", "a * 2"))
        known = SnapshotGroup("person", customer, people, columns=("age",), assume_always_known=True)
        risk = transform()
        late = group(Feature("x", "count", where="fraud", windows=("1d",)), name="late", publish_delay="30d")
        fraud = trained(late)
    """
    (tmp_path / "catalog.py").write_text(BEFORE + textwrap.dedent(right))
    assert set(checked(tmp_path).groups) == {"spend", "person", "late"}
