"""Rows that are said to be surely taken are taken by Spark, whatever is asked of them."""

from __future__ import annotations

import math
import random
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from feature_definitions import Source, expression
from feature_definitions.sql import failing, plain
from feature_definitions.sql.plain import Demands
from lake.arrow_types import arrow_type
from spark_jobs import tables
from spark_jobs.ingest import sure_rows

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

COLUMNS = {
    "s": "string", "t": "string", "n": "int64", "m": "int64", "x": "double", "y": "double", "p": "decimal(8,2)", "ok": "boolean",
    "day": "date", "at": "timestamp",
}  # fmt: skip
VALUES = {
    "string": ("1", "-7", "a", " B\t", "\u00df", "", "1.50", " 2", "0x1", "1e3", "9" * 19, "\u0661"),
    "int64": (0, 1, -1, 7, 2**53 + 1, 2**62, -(2**63)),
    "double": (0.0, -0.0, 1.5, -2.25, 1e300, 0.1, math.nan),
    "decimal(8,2)": (Decimal("0.00"), Decimal("1.50"), Decimal("-999999.99")),
    "boolean": (True, False),
    "date": (date(2026, 1, 5), date(1, 1, 1)),
    "timestamp": (datetime(2026, 1, 5, 6, tzinfo=UTC), datetime(1960, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
}
LITERALS = {
    "string": ("'a'", "'1'", "''"),
    "int64": ("0", "2", "-1"),
    "double": ("0", "1.5", "-0.1", "2"),
    "decimal(8,2)": ("1.5", "0", "-1"),
}


def conditions(count: int) -> list[str]:
    """Conditions over the columns, some of which may fail."""
    draw = random.Random(5)

    def value(kind: str, depth: int) -> str:
        names = [name for name, each in COLUMNS.items() if each == kind]
        if depth and draw.random() < 0.2:
            one, other = value(kind, depth - 1), value(kind, 0)
            chosen = f"if({value('boolean', 0)}, {one}, {other})", f"case when {value('int64', 0)} > 0 then {one} else {other} end"
            return draw.choice((f"coalesce({one}, {other})", *chosen))
        if depth and kind == "string" and draw.random() < 0.5:
            texts = (f"{name}({value(kind, depth - 1)})" for name in ("upper", "lower", "trim"))
            return draw.choice((*texts, f"concat({value(kind, depth - 1)}, 'A ', {value(kind, 0)})"))
        if depth and kind in ("int64", "double") and draw.random() < 0.2:
            return f"length({value('string', depth - 1)})" if kind == "int64" else f"abs({value(kind, depth - 1)})"
        if depth and kind in ("int64", "double") and draw.random() < 0.6:
            sign = draw.choice("+-*/" if kind == "double" else "+-*")
            return draw.choice(
                (
                    f"({value(kind, depth - 1)} {sign} {value(kind, depth - 1)})",
                    f"(-{value(kind, 0)})",
                    f"cast(s as {'double' if kind == 'double' else 'bigint'})",
                    f"({value('int64', 0)} / {value('int64', 0)})" if kind == "double" else draw.choice(names),
                )
            )
        return draw.choice(names)

    def condition(depth: int) -> str:
        if depth and draw.random() < 0.6:
            joined = f"({condition(depth - 1)} {draw.choice(('and', 'or'))} {condition(depth - 1)})"
            return draw.choice((joined, f"not ({condition(depth - 1)})"))
        kind = draw.choice(list(VALUES))
        left, right = value(kind, 2), draw.choice((*LITERALS.get(kind, ()), value(kind, 1)))
        compared = f"{left} {draw.choice(('=', '<>', '<', '<=', '>', '>='))} {right}"
        ranges = [f"{left} between {right} and {value(kind, 0)}", f"{left} in ({right}, {value(kind, 0)})", f"{left} is not null"]
        return draw.choice((compared, compared, *ranges, "ok"))

    return [condition(2) for _ in range(count)]


def rows(count: int) -> pa.Table:
    draw = random.Random(6)
    drawn = {name: [draw.choice((None, *VALUES[kind])) for _ in range(count)] for name, kind in COLUMNS.items()}
    return pa.table({name: pa.array(values, arrow_type(COLUMNS[name])) for name, values in drawn.items()})


def test_what_is_surely_taken_is_taken_by_spark(spark: SparkSession) -> None:
    asked, given = conditions(150), rows(40)
    frame = spark.createDataFrame(given.to_pylist(), tables.columns_sql(COLUMNS))
    safe = [failing.safely(sql, COLUMNS) for sql in asked]
    bad = [f"coalesce(NOT ({each.value}), false) OR ({each.fails or 'false'}) AS c{n}" for n, each in enumerate(safe)]
    by_spark = [tuple(row) for row in frame.selectExpr(*bad).collect()]
    surely, taken = 0, 0
    for n, sql in enumerate(asked):
        found = plain.plain(sql, COLUMNS)
        assert found is not None, sql
        for at in range(given.num_rows):
            row = given.slice(at, 1)
            is_sure = sure_rows.are_taken(row, Demands({}, (found,)))
            assert not (is_sure and by_spark[at][n]), (sql, row.to_pylist())
            surely, taken = surely + is_sure, taken + (not by_spark[at][n])
    assert taken * 0.9 < surely <= taken < len(asked) * given.num_rows


def test_a_column_that_is_derived_may_be_expected_something() -> None:
    source = Source(
        "orders", columns={"n": "int64", "d": "double"}, shape="static", id=("n",), derive={"twice": "n * 2", "half": "d / 2"},
        expect=(expression("twice < 10"), expression("d > 0", severity="warning")),
    )  # fmt: skip
    demands = plain.demands(source)
    assert demands is not None
    given = [pa.table({"n": pa.array([n], pa.int64()), "d": [-1.0]}) for n in (4, 5, None, 2**62)]
    assert [sure_rows.are_taken(each, demands) for each in given] == [True, False, True, False]


@pytest.mark.parametrize(
    ("derive", "expect"),
    [
        ({"e": "p * p"}, ()),
        ({"e": "reverse(s)"}, (expression("e = 'A'"),)),
        ({}, (expression("length(n) = 1"),)),
        ({}, (expression("case s when 'a' then ok end"),)),
        ({}, (expression("n > 1.5"),)),
        ({}, (expression("n = x"),)),
    ],
)
def test_of_what_spark_alone_can_tell_nothing_is_sure(derive: dict[str, str], expect: tuple[object, ...]) -> None:
    assert plain.demands(Source("orders", columns=COLUMNS, shape="static", id=("n",), derive=derive, expect=expect)) is None


def test_what_cannot_fail_and_is_expected_nothing_need_not_be_plain() -> None:
    assert plain.demands(Source("orders", columns=COLUMNS, shape="static", id=("n",), derive={"e": "upper(s)"})) == Demands({}, ())
