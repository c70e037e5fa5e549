"""Jdbc: it names a table or a query, a connection, and how it is read."""

from __future__ import annotations

from typing import Any

import pytest

from feature_definitions import DefinitionError, Jdbc, Source


def test_a_table_or_a_query_is_read_by_a_connection() -> None:
    assert Jdbc("sales.payments", connection="warehouse").table == "sales.payments"
    assert Jdbc(query="SELECT 1 AS x;\n", connection="warehouse").query == "SELECT 1 AS x"
    assert Jdbc(query="-- all\nWITH a AS (SELECT 1) SELECT * FROM a", connection="warehouse").table is None


@pytest.mark.parametrize(
    ("table", "parts"),
    [("payments", ("payments",)), ("Sales.My Payments", ("Sales", "My Payments")), ('db.s."a.b"', ("db", "s", "a.b")), ("ü", ("ü",))],
)
def test_a_table_has_the_name_that_the_database_keeps(table: str, parts: tuple[str, ...]) -> None:
    assert Jdbc(table, connection="warehouse").parts == parts


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({}, "either a table or a query"),
        ({"table": "t", "query": "SELECT 1"}, "either a table or a query"),
        ({"table": ""}, "names no table"),
        ({"table": "a.b.c.d"}, "names no table"),
        ({"table": 'a"; DROP TABLE b; --'}, "names no table"),
        ({"table": "SELECT * FROM t"}, r"write Jdbc\(query='SELECT"),
        ({"query": "DELETE FROM t"}, "is no query; write one SELECT"),
        ({"query": " ; "}, "is no query"),
        ({"query": 3}, "is no query"),
        ({"table": "t", "connection": ""}, "write a name in small letters"),
        ({"table": "t", "connection": "postgresql://u:p@h/d"}, "write a name in small letters"),
        ({"table": "t", "connection": "ware_file"}, "name it without _file"),
        ({"table": "t", "partitions": 0}, "partitions=0; write a whole number from 1 to 64"),
        ({"table": "t", "partitions": True}, "partitions=True"),
        ({"table": "t", "fetch_size": 10_000_000}, "fetch_size=10000000; write a whole number from 1 to 1,000,000"),
    ],
)
def test_what_cannot_be_read_is_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Jdbc(**({"connection": "warehouse"} | words))


def test_a_source_of_a_database_lies_in_place_and_is_parted_by_a_column_that_it_has() -> None:
    columns = {"id": "int64", "at": "timestamp", "note": "string"}
    source = Source("s", Jdbc("t", connection="w", partition_by="id"), columns=columns, event_timestamp="at")
    assert source.lies_in_place
    with pytest.raises(DefinitionError, match="there is no partition_by 'ix'"):
        Source("s", Jdbc("t", connection="w", partition_by="ix"), columns=columns, event_timestamp="at")
    with pytest.raises(DefinitionError, match="partition_by='note', which is a string; name an int64, date or timestamp column"):
        Source("s", Jdbc("t", connection="w", partition_by="note"), columns=columns, event_timestamp="at")
