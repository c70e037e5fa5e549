"""What is put aside, as it is counted and shown without Spark."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from feature_definitions import layout
from feature_definitions.intervals import Interval
from feature_definitions.records import IngestedFile, LedgerEntry
from lake import quarantine, storage

if TYPE_CHECKING:
    pass

T = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)


def put(lake: str, name: str, rows: list[dict[str, Any]]) -> str:
    table = layout.quarantine_table(lake, name)
    write_deltalake(table, pa.Table.from_pylist(rows), mode="append", storage_options=storage.options(lake))
    return lake


def refused(line: int, reason: str, value: str | None, *, file: str = "a.csv") -> dict[str, Any]:
    column = reason.partition(":")[0] if value else None
    return {"file": file, "line": line, "reason": reason, "column": column, "value": value, "amount": value, "quarantined_at": T}


@pytest.mark.parametrize(
    ("reason", "folded"),
    [
        ("amount: 'much' is not a double", "amount: is not a double"),
        ('amount: "it\'s much" is not a double', "amount: is not a double"),
        ("amount: 'a: \\'b\\' c' is not a double", "amount: is not a double"),
        ("not a JSON object: the field 'x' comes twice", "not a JSON object: comes twice"),
        ("expected kind = 'food'", "expected kind = 'food'"),
        ("has 2 fields, the header has 3", "has 2 fields, the header has 3"),
    ],
)
def test_reasons_are_the_same_whatever_value_they_quote(reason: str, folded: str) -> None:
    assert quarantine.kind(reason) == folded


def test_rows_of_a_source_are_counted_by_reason_with_a_few_examples(lake: str) -> None:
    rows = [refused(n, f"amount: 'x{n}' is not a double", f"x{n}") for n in range(1, 6)]
    put(lake, "payments", [*rows, refused(9, "has 1 fields, the header has 2", None)])
    first, second = quarantine.of_source("payments", lake=lake, files={})
    assert (first.reason, first.rows, second.reason, second.rows) == (
        "amount: is not a double", 5, "has 1 fields, the header has 2", 1,
    )  # fmt: skip
    assert [(e.file, e.line, e.column, e.value) for e in first.examples] == [("a.csv", n, "amount", f"x{n}") for n in (1, 2, 3)]
    assert second.examples[0].row == {"amount": None}
    assert quarantine.rows_of_source("payments", lake=lake) == 6


def test_a_file_that_was_renamed_is_called_as_it_is_now(lake: str) -> None:
    put(lake, "payments", [refused(1, "amount is null", None)])
    files = {"b.csv": IngestedFile("payments", "b.csv", "f0", 1, 1, "i2", came_as="a.csv")}
    (aside,) = quarantine.of_source("payments", lake=lake, files=files)
    assert aside.examples[0].file == "b.csv"
    assert [row["file"] for row in quarantine.all_rows("payments", lake=lake, files=files)] == ["b.csv"]
    assert quarantine.files_of("payments", lake=lake) == {"a.csv"}


def test_of_a_table_read_in_place_an_example_says_how_many_rows_it_stands_for(lake: str) -> None:
    rows = [refused(1, "amount is null", None) | {"rows": 70} for _ in range(3)]
    (aside,) = quarantine.of_source("payments", lake=put(lake, "payments", rows), files={})
    assert (aside.rows, len(aside.examples)) == (70, 3)
    assert quarantine.rows_of_source("payments", lake=lake) == 70


def entry(day: int, publish: str, *failed: str) -> LedgerEntry:
    interval = Interval(T + day * DAY, T + (day + 1) * DAY)
    state = "REJECTED" if failed else "PUBLISHED"
    return LedgerEntry("spend", 1, interval, state, publish, {}, "g", 1, 9, None, failed, (), publish, 0.1, T)  # type: ignore[arg-type]  # a state


def bad(day: int, publish: str, customer: int) -> dict[str, Any]:
    at = T + (day + 1) * DAY
    return {
        "customer_id": customer, "event_timestamp": at, "paid": -1.0, "failed_expectation": "paid:at_least(0)",
        "interval_start": T + day * DAY, "publish_id": publish, "quarantined_at": at,
    }  # fmt: skip


def test_of_a_group_only_rows_of_the_newest_run_of_each_interval_count(lake: str) -> None:
    put(lake, "spend", [bad(0, "p1", 1), bad(1, "p1", 2), bad(0, "p2", 3)])
    ledger = [entry(0, "p3"), entry(1, "p1", "paid:at_least(0)"), entry(2, "p1", "row_count")]
    first, second = quarantine.of_group("spend", lake=lake, ledger=ledger)
    assert (first.reason, first.rows, first.intervals) == ("paid:at_least(0)", 1, 1)
    assert [(e.interval_start, e.row["customer_id"]) for e in first.examples] == [(T + DAY, 2)]
    assert (second.reason, second.rows, second.intervals, second.examples) == ("row_count", 0, 1, ())
    assert [row["customer_id"] for row in quarantine.current_rows("spend", lake=lake, ledger=ledger)] == [2]
    assert quarantine.intervals_of("spend", lake=lake, ledger=ledger) == {T + DAY, T + 2 * DAY}


def test_where_nothing_was_ever_put_aside_there_is_nothing(lake: str) -> None:
    assert quarantine.of_source("payments", lake=lake, files={}) == ()
    assert quarantine.of_group("spend", lake=lake, ledger=[entry(0, "p1")]) == ()
    assert quarantine.rows_of_source("payments", lake=lake) == 0
