"""Columns of a source: a name in the data and one of ours, and how its times are written; what cannot be is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from feature_definitions import Column, DefinitionError, DeltaTable, Files, Source

if TYPE_CHECKING:
    from collections.abc import Callable

TIME = {"at": Column("timestamp")}


def source(columns: dict[str, str | Column], **changes: Any) -> Source:
    whole = {"at": Files("x.csv"), "columns": columns, "event_timestamp": "at", "timezone": "UTC"}
    return Source("things", **{**whole, **changes})


def test_a_column_has_our_name_and_one_in_the_data_which_is_ours_unless_said() -> None:
    of = source({"at": "timestamp", "id": Column("int64", "Customer ID"), "tags": "decimal(6, 2)"})
    assert dict(of.columns) == {"at": "timestamp", "id": "int64", "tags": "decimal(6,2)"}
    assert {name: column.name for name, column in of.written.items()} == {"at": "at", "id": "Customer ID", "tags": "tags"}


def test_a_copy_of_a_source_keeps_how_its_columns_lie_in_the_data() -> None:
    of = source({"at": "timestamp", "id": Column("int64", "Customer ID")})
    assert replace(of, ready_after="2h").written["id"].name == "Customer ID"
    assert replace(of, columns={**of.columns, "at": "timestamp"}).written["id"].name == "id"


def test_two_sources_whose_columns_lie_otherwise_are_not_equal() -> None:
    plain, named = source({"at": "timestamp", "id": "int64"}), source({"at": "timestamp", "id": Column("int64", "ID")})
    assert plain == source({"at": Column("timestamp"), "id": Column("int64", "id")}) != named


@pytest.mark.parametrize("name", ["a.b", "\u00fc", "Customer ID", "a`b", "1", "_hw_x"])
def test_a_column_may_have_any_name_in_the_data(name: str) -> None:
    assert source({"at": "timestamp", "x": Column("string", name)}).written["x"].name == name


@pytest.mark.parametrize(
    ("at", "column"),
    [
        (Files("x.csv"), Column("timestamp", epoch="ms")),
        (Files("x.jsonl", "jsonl"), Column("timestamp", format="%Y%m%d%H%M%S%z")),
        (DeltaTable("x"), Column("timestamp", format="%d.%m.%Y %z")),
    ],
)
def test_no_timezone_is_asked_of_times_that_carry_one_or_are_counts(at: Files | DeltaTable, column: Column) -> None:
    assert source({"at": column}, at=at, timezone=None).timezone is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Column("int"), "has the type 'int'; the types are string, int64"),
        (lambda: Column("int64", " "), "has the name ' '; write the column's name in the data, like Column('int64', 'Customer ID')"),
        (lambda: Column("string", epoch="ms"), "has an epoch, which only a timestamp has; write Column('timestamp', epoch='ms')"),
        (lambda: Column("timestamp", epoch="min"), "has epoch='min'; write the unit of its counts: 's', 'ms', 'us' or 'ns'"),  # type: ignore[arg-type]
        (lambda: Column("timestamp", epoch="s", format="%Y"), "has a format and an epoch; its times are either written out or counted"),
        (lambda: Column("double", format="%Y"), "has format='%Y'; a timestamp or a date has one, like '%d.%m.%Y %H:%M'"),
        (lambda: Column("timestamp", format="%d.%m.%Y %Q"), "its format has %Q; write one of %m %d %H"),
        (lambda: Column("timestamp", format="%d.%m.%Y %Z"), "has %Z; write %z, which reads UTC, Z, +01:00 and +0100"),
        (lambda: Column("timestamp", format="%s"), "has %s; write epoch='s'"),
        (lambda: Column("timestamp", format="%d.%m.%Y %"), "its format has %; write"),
        (lambda: Column("timestamp", format="%d.%m %H:%M"), "its format has no year: write %Y or %y"),
        (lambda: Column("timestamp", format="%m.%Y"), "its format has no day of the year: write %m and %d, %b and %d, or %j"),
        (lambda: Column("timestamp", format="%d.%m.%Y %d"), "its format has %d twice; which one is meant?"),
        (lambda: Column("timestamp", format="%d.%m.%Y %I:%M"), "its format has %I without %p; write both"),
        (lambda: Column("timestamp", format="%d.%m.%Y %M"), "its format has %M without %H or %I; write both"),
        (lambda: Column("timestamp", format="%d.%m.%y %Y"), "its format says its month or its year twice; write one"),
        (lambda: Column("timestamp", format=" "), "its format is ' '; write strptime's letters, like '%d.%m.%Y %H:%M'"),
        (lambda: Column("date", format="%d.%m.%Y %H:%M"), "its format has %H, which no date has; say that the column is a timestamp"),
        (
            lambda: source({**TIME, "a": "int64", "b": Column("int64", "a")}),
            "has the column of the data 'a' twice; one column of ours reads",
        ),
        (lambda: source({**TIME, "Customer ID": "int64"}), "like 'customer_id': Column('int64', 'Customer ID')"),
        (lambda: source({**TIME, "1st": "int64"}), "like 'column_1st': Column('int64', '1st')"),
        (lambda: source({"at": Column("timestamp", format="%Y-%j")}, at=None, timezone=None), "the format of 'at' has no zone; say where"),
        (lambda: source(("at",)), "has columns=('at',); write them with their types"),  # type: ignore[arg-type]
    ],
)
def test_a_column_that_cannot_be_is_refused_and_told_what_to_write(make: Callable[[], object], message: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        make()
    assert message in str(refused.value)
