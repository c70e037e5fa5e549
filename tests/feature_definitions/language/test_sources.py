"""Sources: where they may lie, what they may hold, and which columns they may derive."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from feature_definitions import DefinitionError, DeltaTable, Entity, Files, Query, Source, Table
from feature_definitions.language.sources import reads_previous

if TYPE_CHECKING:
    from collections.abc import Callable


COLUMNS = {"symbol": "string", "close": "double", "volume": "int64", "at": "timestamp"}
LAG: dict[str, Any] = {"derive": {"change": "close / prev.close - 1"}, "lag_over": ("symbol",), "lag_within": "10d"}


def bars(**changes: Any) -> Source:
    return Source(**{"name": "bars", "columns": COLUMNS, "event_timestamp": "at", **changes})


def refuses(make: Callable[[], object], message: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        make()
    assert message in str(refused.value)


# ---------------------------------------------------------------------------------------------------------------------- places


def test_json_lines_go_by_two_names() -> None:
    assert Files("bars/*.json", format="json") == Files("bars/*.json", format="jsonl")


def test_tables_and_queries_are_read_in_place_without_a_time_of_arrival() -> None:
    for place in (DeltaTable("lake/bars"), Table("market.daily.bars"), Query("SELECT 1", sources=bars(name="raw"))):  # type: ignore[arg-type]
        assert bars(at=place).arrived_at is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DeltaTable(" "), "DeltaTable needs a path, like DeltaTable('data/payments')"),
        (lambda: DeltaTable(None), "DeltaTable needs a path"),  # type: ignore[arg-type]
        (lambda: Table("bars; drop table x"), "names no table; write its name in Spark's catalog, like Table('sales.payments')"),
        (lambda: Table("a.b.c.d"), "names no table"),
        (lambda: Query("SELECT 1"), "reads no sources; name them as values, like Query('SELECT ...', sources=(payments,))"),
        (lambda: Query("SELECT 1", sources=("bars",)), "reads no sources; name them as values"),  # type: ignore[arg-type]
        (lambda: Query(" ", sources=(bars(),)), "sql is ' '; write a column or a Spark SQL expression"),
        (lambda: Query("SELECT 1", sources=(bars(), bars())), "has the source 'bars' twice; remove one"),
        (lambda: bars(at=Query("SELECT 1", sources=(bars(),))), "is a query that reads 'bars', itself; give it a name of its own"),
        (
            lambda: bars(at=Files("x", format="jsonl")),
            "'at' is a timestamp in a JSON file, which may be written without a zone; say where it was written down",
        ),
    ],
)
def test_a_place_where_nothing_can_lie_is_refused(make: Callable[[], object], message: str) -> None:
    refuses(make, message)


# ---------------------------------------------------------------------------------------------------------------------- arrays


def test_arrays_come_from_whatever_can_hold_them() -> None:
    columns = {**COLUMNS, "tags": "array< string >", "ticks": "array<decimal(12,2)>"}
    for at in (None, Files("x", format="parquet"), Files("x", format="json"), DeltaTable("x")):
        assert bars(columns=columns, at=at, timezone="UTC").columns["tags"] == "array<string>"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: bars(columns={**COLUMNS, "tags": "array<string>"}, at=Files("x"), timezone="UTC"),
            "'tags' is an array, which a CSV file cannot hold; write format='parquet' or 'jsonl'",
        ),
        (lambda: bars(columns={**COLUMNS, "tags": "array<string>"}, id=("tags",)), "is an array, which cannot tell rows apart"),
        (
            lambda: bars(columns={**COLUMNS, "tags": "array<string>"}, **{**LAG, "lag_over": "tags"}),
            "is an array, which cannot tell rows apart",
        ),
        (lambda: bars(columns={**COLUMNS, "tags": "array<array<string>>"}), "has the type 'array<array<string>>'; the types are string,"),
        (lambda: bars(columns={**COLUMNS, "tags": "array"}), "and array<type> of one of them"),
        (lambda: bars(columns={**COLUMNS, "tags": "array<decimal(39,2)>"}), "a decimal has 1 to 38 digits"),
        (
            lambda: bars(columns={**COLUMNS, "tags": "array<timestamp>"}, event_timestamp="tags"),
            "its type is timestamp, not array<timestamp>",
        ),
        (lambda: Entity("e", keys={"k": "array<string>"}), "its key 'k' is a array<string>; a key is a string, int64, date or boolean"),
    ],
)
def test_an_array_stands_only_where_several_values_can(make: Callable[[], object], message: str) -> None:
    refuses(make, message)


# ------------------------------------------------------------------------------------------------------------------- snapshots


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"event_timestamp": None}, "has no event_timestamp; name the column that says when the state was extracted"),
        ({"id": ()}, "has snapshots: name what makes a row unique within one, like id=('contract_id',)"),
    ],
)
def test_snapshots_say_when_they_were_extracted_and_what_makes_their_rows_unique(changes: dict[str, Any], message: str) -> None:
    whole = {"shape": "snapshots", "id": ("symbol",)}
    assert bars(**whole).shape == "snapshots"
    refuses(lambda: bars(**{**whole, **changes}), message)


def test_an_id_of_snapshots_is_of_one_of_them() -> None:
    taken = bars(shape="snapshots", id=("symbol",))
    assert taken.id == replace(taken, ready_after="2h").id == (taken.event_timestamp, "symbol")
    refuses(lambda: bars(shape="snapshots", id=(taken.event_timestamp,)), "has snapshots: name what makes a row unique within one")


# --------------------------------------------------------------------------------------------------------------------- derived


def test_derived_columns_stand_behind_those_that_the_source_has() -> None:
    source = bars(derive={"value": "close * volume", "double_value": "value * 2"})
    assert source.names == ("symbol", "close", "volume", "at", "value", "double_value")
    assert source.lag == timedelta(0)


def test_the_mapping_of_derived_columns_can_not_be_changed() -> None:
    given = {"value": "close * volume"}
    source = bars(derive=given)
    given["other"] = "close"
    assert dict(source.derive) == {"value": "close * volume"}
    with pytest.raises(TypeError):
        source.derive["new"] = "close"  # type: ignore[index]


def test_a_source_with_a_lag_says_how_far_back_it_reads() -> None:
    source = bars(**{**LAG, "lag_over": "symbol"})
    assert (source.lag, source.lag_over) == (timedelta(days=10), ("symbol",))


@pytest.mark.parametrize("sql", ["prev.close", "1 + PREV . close", "`prev`.x", "'it\\'s' || prev.x"])
def test_the_row_before_is_seen_in_an_expression(sql: str) -> None:
    assert reads_previous(sql)


@pytest.mark.parametrize("sql", ["close", "prev", "'prev.close'", '"prev.close"', "myprev.close", "'a\\'prev.b'"])
def test_no_row_before_is_seen_where_there_is_none(sql: str) -> None:
    assert not reads_previous(sql)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"derive": ("a",)}, "has derive=('a',); write derive={'value': 'price * volume'}"),
        ({"derive": {"close": "volume"}}, "derives 'close', which is a column of it already; give it another name"),
        ({"derive": {"CLOSE": "volume"}}, "derives 'CLOSE', which is a column of it already"),
        ({"derive": {"a": "close", "A": "close"}}, "has the column 'a' twice"),
        ({"derive": {"a b": "close"}}, "'a b' cannot name a column"),
        ({"derive": {"_hw_a": "close"}}, "starts with _hw_"),
        ({"derive": {"a": " "}}, "derive['a'] is ' '; write a column or a Spark SQL expression"),
        ({**LAG, "lag_over": ()}, "'change' reads the row before by prev.; before it of what? Name the columns that both rows share, like"),
        ({**LAG, "lag_within": None}, "say how old that row may be, like lag_within='10d'"),
        ({**LAG, "lag_over": ("ticker",)}, "there is no lag_over 'ticker'. source bars has: at, close, symbol, volume"),
        ({**LAG, "lag_over": ("change",)}, "there is no lag_over 'change'"),
        ({**LAG, "lag_within": "0s"}, "has lag_within='0s'; write a duration above 0s, at most 730d"),
        ({**LAG, "lag_within": "731d"}, "has lag_within='731d'"),
        ({**LAG, "lag_within": "long"}, "lag_within: 'long' is not a duration"),
        ({**LAG, "columns": {**COLUMNS, "Prev": "double"}}, "has a column named prev; rename that column"),
        ({**LAG, "shape": "snapshots", "id": ("symbol",)}, "which only a source of events has; its shape is 'snapshots'"),
        ({**LAG, "derive": {"a": "close"}}, "has lag_over or lag_within, but derives nothing by prev.; remove them, or write prev.close"),
        ({"lag_within": "10d"}, "derives nothing by prev."),
        ({"event_timestamp": "value", "derive": {"value": "at"}}, "there is no time column 'value'"),
        ({"id": "value", "derive": {"value": "symbol"}}, "there is no id 'value'"),
    ],
)
def test_a_derived_column_that_can_not_be_is_refused(changes: dict[str, Any], message: str) -> None:
    refuses(lambda: bars(**changes), message)


def test_a_query_of_events_reads_static_rows_only_where_it_says_what_is_assumed() -> None:
    names = Source("names", columns={"symbol": "string", "name": "string"}, shape="static", id=("symbol",))
    sources = (bars(name="raw"), names)
    refuses(lambda: bars(at=Query("SELECT 1", sources=sources)), "is a query that reads names, which is static, so nobody knows when its")
    assert bars(at=Query("SELECT 1", sources=sources, assume_always_known=True)).name == "bars"
    assert Source("upper", Query("SELECT 1", sources=(names,)), names.columns, shape="static", id=("symbol",)).shape == "static"


def test_a_source_may_say_from_when_to_when_its_rows_are_taken() -> None:
    source = bars(since="2020-01-01", until="2027-01-01T06:00:00Z")
    assert source.starts == datetime(2020, 1, 1, tzinfo=UTC)
    assert source.ends == datetime(2027, 1, 1, 6, tzinfo=UTC)
    assert (bars().starts, bars().ends) == (None, None)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"since": "yesterday"}, "has since='yesterday'; write a date or an instant in UTC, like since='2020-01-01'"),
        ({"until": 2027}, "has until=2027; write a date or an instant in UTC"),
        ({"since": "0001-01-01T00:00:00+02:00"}, "has since='0001-01-01T00:00:00+02:00'; write a date"),
        ({"since": "2020-01-01", "until": "2020-01-01"}, "has until='2020-01-01', which is not after since='2020-01-01'"),
        (
            {"since": "2020-01-01", "shape": "static", "event_timestamp": None, "id": ("symbol",)},
            "is static, so its rows have no time that since could bound; remove since",
        ),
    ],
)
def test_bounds_that_are_none_are_refused(given: dict[str, Any], says: str) -> None:
    refuses(lambda: bars(**given), says)
