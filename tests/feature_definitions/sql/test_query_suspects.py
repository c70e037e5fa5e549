"""Which parts of a query may have stopped it, and of which table."""

from __future__ import annotations

import pytest

from feature_definitions.sql.query_suspects import suspects

TABLES = {
    "orders": {"shop_id": "int64", "n": "int64", "note": "string", "at": "timestamp"},
    "shops": {"shop_id": "int64", "name": "string"},
}


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("SELECT at, sum(CAST(note AS BIGINT)) AS x FROM orders GROUP BY at", [("orders", "CAST(note AS BIGINT)", ("note",))]),
        ("SELECT at, rank() OVER (ORDER BY n * 2) AS x FROM orders", [("orders", "n * 2", ("n",))]),
        (
            "SELECT s.name, max(o.n) AS n FROM orders AS o JOIN shops AS s ON s.shop_id = CAST(O.Note AS BIGINT) GROUP BY s.name",
            [("orders", "CAST(O.Note AS BIGINT)", ("note",))],
        ),
        (
            "WITH k AS (SELECT shop_id, int(name) AS size FROM shops) SELECT size, max(n * 2) AS n FROM orders JOIN k GROUP BY size",
            [("shops", "int(name)", ("name",))],
        ),
        (
            "WITH orders AS (SELECT shop_id, int(name) AS n FROM shops) SELECT shop_id, sum(n * 2) AS n FROM orders GROUP BY shop_id",
            [("shops", "int(name)", ("name",))],
        ),
        ("SELECT at, sum(n) AS x FROM orders GROUP BY at", []),
    ],
)
def test_a_part_over_one_table_that_may_fail_is_found_wherever_it_stands(sql: str, found: list[tuple[str, str, tuple[str, ...]]]) -> None:
    assert [(each.table, each.sql, each.reads) for each in suspects(sql, TABLES)] == found


def test_a_row_that_the_condition_leaves_out_is_no_suspect() -> None:
    (found,) = suspects("SELECT at, sum(CAST(note AS BIGINT)) AS x FROM orders WHERE n > 1 GROUP BY at", TABLES)
    assert found.fails == "((NOT `note` IS NULL) AND (TRY_CAST(`note` AS BIGINT) IS NULL)) AND coalesce(`n` > 1, FALSE)"
