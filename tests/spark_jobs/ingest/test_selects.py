"""The SQL by which a database is read: parts hold each row once, ranges are those that were asked for."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from feature_definitions import Jdbc
from spark_jobs.ingest import selects
from spark_jobs.ingest.selects import Ordered, Times

TABLE = Jdbc("sales.payments", connection="warehouse")
INTEGERS = st.integers(-(2**63), 2**63 - 1)


def at(day: int) -> datetime:
    return datetime(2026, 1, day, tzinfo=UTC)


@given(st.tuples(INTEGERS, INTEGERS).map(sorted), st.integers(1, 64), st.lists(st.one_of(INTEGERS, st.none())))
def test_each_row_is_in_exactly_one_part_also_one_that_came_since_the_bounds_were_asked_for(
    bounds: list[int], number: int, values: list[int | None]
) -> None:
    low, high = bounds
    parts = selects.parts(Ordered("n", "number"), low=low, high=high, number=number)
    assert len(parts) <= number
    database = sqlite3.connect(":memory:")
    database.execute('CREATE TABLE t ("hw_part" INTEGER)')
    database.executemany("INSERT INTO t VALUES (?)", [(value,) for value in (*values, low, high)])
    inside = " + ".join(f"coalesce(({part}), 0)" for part in parts)
    assert database.execute(f"SELECT DISTINCT {inside} FROM t").fetchall() == [(1,)]
    database.close()


def test_parts_of_times_are_cut_between_the_bounds() -> None:
    low, high = (int(day.timestamp() * 1_000_000) for day in (at(1), at(3)))
    cut = "TIMESTAMPTZ '2026-01-02 00:00:00.000000+00'"
    assert selects.parts(Ordered("paid_at", "instant"), low=low, high=high, number=2) == (
        f'("hw_part" < {cut} OR "hw_part" IS NULL)',
        f'"hw_part" >= {cut}',
    )
    assert "\"hw_part\" < DATE '2026-01-02'" in selects.parts(Ordered("day", "date"), low=low, high=high, number=2)[0]


def test_an_empty_table_has_one_part() -> None:
    assert selects.parts(Ordered("n", "number"), low=None, high=None, number=8) == ("true",)
    assert selects.parts(Ordered("n", "number"), low=7, high=7, number=8) == ("true",)


def test_a_range_is_one_of_literals_and_of_local_times_a_day_wider() -> None:
    times = Times(at(5), at(6))
    assert selects.within(Ordered("paid_at", "instant"), times, ids=(), at=TABLE) == (
        "\"paid_at\" >= TIMESTAMPTZ '2026-01-05 00:00:00.000000+00' AND \"paid_at\" < TIMESTAMPTZ '2026-01-06 00:00:00.000000+00'"
    )
    assert selects.within(Ordered("paid_at", "local"), times, ids=("paid_at",), at=TABLE) == (
        "\"paid_at\" >= TIMESTAMP '2026-01-04 00:00:00.000000' AND \"paid_at\" < TIMESTAMP '2026-01-07 00:00:00.000000'"
    )


def test_rows_with_ids_are_asked_for_with_all_that_share_one_with_a_row_of_the_range() -> None:
    found = selects.within(Ordered("paid_at", "instant"), Times(at(5), None), ids=("a", "B"), at=TABLE)
    inside = "\"paid_at\" >= TIMESTAMPTZ '2026-01-05 00:00:00.000000+00'"
    assert found == f'("a", "B") IN (SELECT "a", "B" FROM "sales"."payments" WHERE {inside})'


def test_no_bounds_are_no_condition() -> None:
    assert selects.within(Ordered("paid_at", "instant"), Times(None, None), ids=("a",), at=TABLE) == "true"
    edge = datetime.max.replace(tzinfo=UTC)
    assert selects.within(Ordered("paid_at", "local"), Times(None, edge), ids=(), at=TABLE) == "true"


def test_a_name_is_quoted_so_that_nothing_gets_out_of_it() -> None:
    assert selects.quoted('a"; DROP TABLE b; --') == '"a""; DROP TABLE b; --"'
    assert selects.relation(Jdbc("Sales.My Payments", connection="w")) == '"Sales"."My Payments"'
    assert selects.relation(Jdbc(query="SELECT 1 -- one", connection="w")) == '(\nSELECT 1 -- one\n) AS "hw_query"'
