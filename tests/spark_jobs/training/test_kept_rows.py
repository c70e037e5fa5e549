"""What tasks write of a training set's rows, and when these are brought together by date before."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spark_jobs.training import kept_rows, order, statistics
from spark_jobs.training.kept_rows import RowsAsked
from spark_jobs.training.statistics import FILES, ColumnsLookedAt

if TYPE_CHECKING:
    from pathlib import Path

LOOK = ColumnsLookedAt(("amount",), ("case",), ("amount",))


@pytest.mark.parametrize(
    ("rows", "dates", "tasks", "spread"),
    [
        (10_000, 1, 4, False),
        (9_999, 1, 4, True),
        (300_000, 30, 4, False),
        (299_999, 30, 4, True),
        (10_000_000, 1, None, True),
        (0, 0, 4, False),
    ],
)
def test_rows_are_brought_together_where_files_would_hold_few(rows: int, dates: int, tasks: int | None, spread: bool) -> None:
    asked = RowsAsked("table", "build", (), ColumnsLookedAt((), (), ()), dates, rows)
    assert asked.is_spread(tasks) == spread


def rows() -> pa.Table:
    """Rows of three dates in no order, with a column that readers do not see."""
    places = [n * 37 % 100 for n in range(100)]
    return pa.table({
        "amount": [n / 4 for n in places], "case": pa.array([n % 3 for n in places], pa.int8()), order.NUMBER: places,
        "hw_row": places, "hw_date": [date(2026, 1, 1 + n % 3) for n in places],
    })  # fmt: skip


@pytest.mark.parametrize("at_once", [1, 2**28])
def test_a_task_names_each_file_that_it_writes_with_its_rows_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(kept_rows, "_BYTES_AT_ONCE", at_once)
    asked = RowsAsked("table", "build", ("amount", "hw_row", "hw_date"), LOOK, 3, 100)
    given = iter(rows().to_batches(max_chunksize=30))
    told = statistics._found([row for part in kept_rows._writing(asked, str(tmp_path))(given) for row in part.to_pylist()], LOOK)
    assert {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.parquet")} == told.counts[FILES].keys()
    assert len(told.counts[FILES]) == (12 if at_once == 1 else 3)
    found = []
    for file, count in told.counts[FILES].items():
        held = pq.ParquetFile(tmp_path / file).read()
        assert (held.column_names, held.num_rows) == (["amount", "hw_row"], count)
        assert held.column("hw_row").to_pylist() == sorted(held.column("hw_row").to_pylist())
        found += [(row["hw_row"], row["amount"], file.partition("/")[0]) for row in held.to_pylist()]
    assert sorted(found) == [(n, n / 4, f"hw_date=2026-01-0{1 + n % 3}") for n in range(100)]


def test_what_a_task_writes_holds_what_a_look_at_the_same_rows_finds(tmp_path: Path) -> None:
    asked = RowsAsked("table", "build", ("amount", "hw_row", "hw_date"), LOOK, 3, 100)
    works = (kept_rows._writing(asked, str(tmp_path)), statistics._looking_at_batches(LOOK))
    written, looked = (
        statistics._found([row for part in work(iter(rows().to_batches())) for row in part.to_pylist()], LOOK) for work in works
    )
    assert (written.rows, written.places, written.counts["case"]) == (looked.rows, looked.places, looked.counts["case"])
    assert written.sample is not None
    assert written.sample.equals(looked.sample)
    assert str(written.columns) == str(looked.columns)
