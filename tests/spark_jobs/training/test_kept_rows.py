"""When the rows of a training set are brought together by date before they are written."""

from __future__ import annotations

import pytest

from spark_jobs.training.kept_rows import RowsAsked
from spark_jobs.training.statistics import ColumnsLookedAt


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
