"""Which queries are judged row by row, and how, as text; what Spark makes of it is in test_query_faults."""

from __future__ import annotations

import pytest

from feature_definitions.sql.query_rows import judged_query

TABLES = {
    "orders": {"shop_id": "int64", "n": "int64", "note": "string", "at": "timestamp"},
    "shops": {"shop_id": "int64", "name": "string"},
}
FAILS = "((NOT `note` IS NULL) AND (TRY_CAST(`note` AS BIGINT) IS NULL))"


def _judged(sql: str) -> str:
    found = judged_query(sql, TABLES)
    assert found is not None
    return found


def test_a_row_whose_expression_fails_is_given_with_reason_column_and_value() -> None:
    assert _judged("SELECT at, CAST(note AS BIGINT) AS code FROM orders ORDER BY at") == (
        "SELECT `at` AS `at`, TRY_CAST(`note` AS BIGINT) AS `code`, "
        f"CASE WHEN {FAILS} THEN 'code cannot be computed from note' END AS `_hw_reason`, "
        f"CASE WHEN {FAILS} THEN 'code' END AS `_hw_column`, "
        f"CASE WHEN {FAILS} THEN coalesce(CAST(`note` AS STRING), 'null') END AS `_hw_value` FROM `orders`"
    )


def test_a_row_of_which_nobody_knows_whether_the_condition_holds_is_given_with_that_as_its_reason() -> None:
    found = _judged("SELECT at FROM orders WHERE CAST(note AS BIGINT) > 1")
    assert f"CASE WHEN {FAILS} THEN 'the query\\'s WHERE cannot be computed from note' END AS `_hw_reason`" in found
    assert f"CASE WHEN {FAILS} THEN CAST(NULL AS STRING) END AS `_hw_column`" in found
    assert found.endswith(f"FROM `orders` WHERE (TRY_CAST(`note` AS BIGINT) > 1) OR {FAILS}")


def test_what_several_columns_say_is_told_by_their_names() -> None:
    found = _judged("SELECT o.at, o.n * s.shop_id AS product FROM orders o JOIN shops s ON o.shop_id = s.shop_id")
    assert "'product cannot be computed from o.n and s.shop_id'" in found
    assert "concat_ws(', ', concat('o.n=', coalesce(CAST(`o`.`n` AS STRING), 'null')), concat('s.shop_id='" in found
    assert found.endswith("FROM `orders` AS `o` JOIN `shops` AS `s` ON `o`.`shop_id` = `s`.`shop_id`")


def test_columns_in_other_capitals_and_outputs_of_the_same_list_are_what_they_stand_for() -> None:
    found = _judged("SELECT AT, int(Note) AS code, code * 2 AS twice FROM orders AS O WHERE o.N > 0")
    assert "try_multiply((TRY_CAST(`note` AS INT)), 2) AS `twice`" in found
    assert "'twice cannot be computed from note'" in found
    assert found.endswith("FROM `orders` AS `O` WHERE (`O`.`n` > 0)")


def test_an_output_that_is_called_as_a_column_hides_it_from_nobody() -> None:
    assert "try_multiply(`n`, 2) AS `twice`" in _judged("SELECT at, CAST(note AS BIGINT) AS n, n * 2 AS twice FROM orders")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT at, note FROM orders WHERE n > 1",
        "SELECT at, try_cast(note AS BIGINT) AS code FROM orders",
        "SELECT at, sum(CAST(note AS BIGINT)) AS total FROM orders GROUP BY at",
        "SELECT at, CAST(note AS BIGINT) AS code, rank() OVER (ORDER BY at) AS place FROM orders",
        "SELECT DISTINCT at, CAST(note AS BIGINT) AS code FROM orders",
        "SELECT at, n * 2 AS twice FROM (SELECT at, n FROM orders) AS o",
        "WITH o AS (SELECT at, n FROM orders) SELECT at, n * 2 AS twice FROM o",
        "SELECT at, n * 2 AS twice FROM orders WHERE n IN (SELECT shop_id FROM shops)",
        "SELECT at, n * 2 AS twice FROM orders UNION ALL SELECT at, n FROM orders",
        "SELECT at, n * 2 AS twice FROM orders AS o JOIN shops AS s ON s.shop_id = CAST(o.note AS BIGINT)",
    ],
)
def test_a_query_that_cannot_fail_or_whose_rows_come_from_many_is_left_as_it_is(sql: str) -> None:
    assert judged_query(sql, TABLES) is None
