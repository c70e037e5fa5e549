"""How an expression that may raise becomes one that does not, as text; what Spark makes of it is in test_failing_in_spark."""

import pytest

from feature_definitions.sql.expressions import spark_sql
from feature_definitions.sql.failing import safely

COLUMNS = {"a": "int64", "b": "int64", "note": "string", "day": "date", "x": "double", "d": "decimal(38,2)", "prev.a": "int64"}


@pytest.mark.parametrize(
    "sql",
    ["a", "x * 2", "a / b", "a % b", "try_cast(note AS BIGINT)", "cast(a AS DOUBLE)", "upper(note)", "x > 1 AND day = '2026-01-05'"],
)
def test_what_cannot_fail_is_computed_as_it_is_written(sql: str) -> None:
    assert safely(sql, COLUMNS) == (spark_sql(sql), None)


def test_a_cast_fails_where_a_text_is_there_and_no_value() -> None:
    value, fails = safely("CAST(note AS BIGINT)", COLUMNS)
    assert value == "TRY_CAST(`note` AS BIGINT)"
    assert fails == "((NOT `note` IS NULL) AND (TRY_CAST(`note` AS BIGINT) IS NULL))"


def test_the_row_before_is_read_as_it_is_written() -> None:
    assert safely("a - prev.a", COLUMNS).value == "try_subtract(`a`, `prev`.`a`)"


def test_a_branch_fails_only_where_it_is_taken() -> None:
    _, fails = safely("if(a > 0, bigint(note), 0)", COLUMNS)
    assert fails is not None
    assert fails.startswith("CASE WHEN `a` > 0 THEN")
    assert fails.endswith("ELSE FALSE END")


def test_a_second_condition_fails_only_where_the_first_does_not_decide() -> None:
    assert str(safely("a > 0 AND bigint(note) > 0", COLUMNS).fails).startswith("(coalesce(`a` > 0, TRUE) AND")
    assert str(safely("a > 0 OR bigint(note) > 0", COLUMNS).fails).startswith("((NOT coalesce(`a` > 0, FALSE)) AND")
