"""Which dates may hold what is looked for is told by the log: never too few of them, and none whose files say that they cannot."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from lake import skipping

if TYPE_CHECKING:
    from pathlib import Path

FIRST = date(2026, 1, 1)
AT = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = st.lists(st.tuples(st.integers(0, 4), st.none() | st.integers(0, 30)), min_size=1, max_size=12)


def written(folder: str, rows: list[tuple[int, int | None]]) -> DeltaTable:
    """A table of numbers, and of texts and times that say the same, by date: each row on day n after the first."""
    table = pa.table(
        {
            "n": pa.array([n for _, n in rows], pa.int64()),
            "text": pa.array([None if n is None else f"{n:03}" for _, n in rows], pa.string()),
            "at": pa.array([None if n is None else AT + n * timedelta(microseconds=1) for _, n in rows], pa.timestamp("us", tz="UTC")),
            "date": pa.array([FIRST + timedelta(days=day) for day, _ in rows], pa.date32()),
        }
    )
    write_deltalake(folder, table, partition_by=["date"], mode="overwrite")
    return DeltaTable(folder)


@settings(max_examples=25)
@given(rows=ROWS, spans=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=3))
def test_all_dates_are_told_that_hold_a_row_in_a_range_and_none_beyond_its_ends(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int | None]], spans: list[tuple[int, int]]
) -> None:
    table = written(str(tmp_path_factory.mktemp("table")), rows)
    ends = [(min(span), max(span)) for span in spans]
    held = {FIRST + timedelta(days=day) for day, n in rows if n is not None and any(low <= n <= high for low, high in ends)}
    found = skipping.dates(table, "date", [{"n": span} for span in ends])
    assert held <= found
    for day in found:
        mine = [n for at, n in rows if FIRST + timedelta(days=at) == day and n is not None]
        assert not mine or any(low <= max(mine) and min(mine) <= high for low, high in ends)
    assert found == skipping.dates(table, "date", [{"text": (f"{low:03}", f"{high:03}")} for low, high in ends])
    assert found <= skipping.dates(
        table, "date", [{"at": (AT + low * timedelta(microseconds=1), AT + high * timedelta(microseconds=1))} for low, high in ends]
    )


def test_a_range_of_two_columns_is_left_out_by_either(tmp_path: Path) -> None:
    table = written(str(tmp_path), [(0, 1), (1, 2)])
    assert skipping.dates(table, "date", [{"n": (1, 1), "text": ("001", "001")}]) == {FIRST}
    assert skipping.dates(table, "date", [{"n": (1, 1), "text": ("002", "002")}]) == frozenset()


def test_what_nothing_is_told_of_may_be_anywhere(tmp_path: Path) -> None:
    table = written(str(tmp_path), [(0, 1), (1, None)])
    assert skipping.dates(table, "date", [{"unknown": (1, 1)}]) == {FIRST, FIRST + timedelta(days=1)}
    assert skipping.dates(table, "date", [{"n": (5, 9)}]) == {FIRST + timedelta(days=1)}
    assert skipping.dates(table, "date", [{"n": ("5", "9")}]) == {FIRST, FIRST + timedelta(days=1)}
    assert skipping.dates(table, "date", []) == frozenset()
