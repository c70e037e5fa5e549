"""The statistics of a training set's rows: however these are cut into tasks and batches, they say the same."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from feature_definitions.reading import CASES
from spark_jobs.training import order, statistics
from spark_jobs.training.statistics import SAMPLE_ROWS, ColumnsLookedAt, Places, Statistics

if TYPE_CHECKING:
    from collections.abc import Sequence

LOOK = ColumnsLookedAt(("amount", "name"), ("case", "modelled"), ("name",))
ROWS = 1000


def table() -> pa.Table:
    return pa.table({
        statistics._PLACE: [(place * 7919) % 1009 for place in range(ROWS)],
        order.NUMBER: range(ROWS),
        "amount": [None if n % 10 == 0 else math.nan if n % 10 == 1 else n / 4 for n in range(ROWS)],
        "name": [f"n{n % 3}" for n in range(ROWS)],
        "case": pa.array([6 if n % 4 else 2 for n in range(ROWS)], pa.int8()),
        "modelled": [n % 8 == 1 for n in range(ROWS)],
    })  # fmt: skip


def found(tasks: Sequence[pa.Table], *, batch: int) -> Statistics:
    """What two stages make of these tasks' rows."""
    parts = [part for task in tasks for part in statistics._looking(LOOK)(iter(task.to_batches(max_chunksize=batch)))]
    return statistics._found([row for whole in statistics._merging(iter(parts)) for row in whole.to_pylist()], LOOK)


@pytest.mark.parametrize("cuts", [[0, ROWS], [0, 1, 400, ROWS]])
@pytest.mark.parametrize("at_once", [1, 300, ROWS])
def test_however_rows_are_cut_into_tasks_and_batches_they_say_the_same(
    cuts: list[int], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "_AT_ONCE", at_once)
    rows = table()
    told = found([rows.slice(a, b - a) for a, b in pairwise(cuts)], batch=100)
    amounts = [n / 4 for n in range(ROWS) if n % 10 > 1]
    amount = statistics.described(told.columns["amount"], "double")
    assert (told.rows, told.places) == (ROWS, Places(sum(range(ROWS)), 0, ROWS - 1))
    assert {name: amount[name] for name in ("count", "nulls", "not_finite", "distinct", "min", "max")} == {
        "count": 900, "nulls": 100, "not_finite": 100, "distinct": 801, "min": 0.5, "max": 249.75,
    }  # fmt: skip
    assert amount["mean"] == pytest.approx(sum(amounts) / 800)
    assert amount["quantiles"]["50"] == pytest.approx(sorted(amounts)[399], abs=1)  # type: ignore[index]  # it is a dict
    assert statistics.statuses(told, case="case", modelled="modelled") == {
        "rows": {"NOT_FOUND": 250, "EXPIRED": 0, "EMPTY": 0, "HELD": 0, "PRESENT": 750},
        "shares": {"NOT_FOUND": 0.25, "EXPIRED": 0.0, "EMPTY": 0.0, "HELD": 0.0, "PRESENT": 0.75},
        "on_modelled_times": 125 / 750,
    }


def test_the_sample_is_of_the_rows_with_the_smallest_hashes() -> None:
    rows = table()
    for tasks in ([rows], [rows.slice(0, 10), rows.slice(10)]):
        sample = found(tasks, batch=64).sample
        assert sample is not None
        expected = sorted(range(ROWS), key=lambda place: (place * 7919) % 1009)[:SAMPLE_ROWS]
        assert sorted(sample.column(order.NUMBER).to_pylist()) == sorted(expected)
        assert sample.column("name").to_pylist() == [f"n{n % 3}" for n in sample.column(order.NUMBER).to_pylist()]


def test_no_rows_have_statistics_too() -> None:
    told = found([table().slice(0, 0)], batch=1)
    assert (told.rows, told.places, told.sample) == (0, Places(0, None, None), None)
    assert statistics.statuses(told, case="case", modelled="modelled")["shares"] == dict.fromkeys(
        ["NOT_FOUND", "EXPIRED", "EMPTY", "HELD", "PRESENT"]
    )
    assert statistics.described(told.columns.get("amount"), "double")["quantiles"] == dict.fromkeys(
        ["1", "5", "25", "50", "75", "95", "99"]
    )


def test_every_case_has_its_status_counted() -> None:
    counts = {"case": {str(number): 1 for number in range(len(CASES))}, "modelled": {}}
    told = Statistics(len(CASES), Places(0, None, None), {}, counts, None)
    rows = statistics.statuses(told, case="case", modelled="modelled")["rows"]
    assert sum(rows.values()) == len(CASES)  # type: ignore[attr-defined]  # it is a dict


def test_times_and_dates_are_told_as_text_without_a_mean() -> None:
    summary = statistics.summaries.of_column(pa.chunked_array([pa.array([0, 86_400_000_000], pa.timestamp("us", tz="UTC"))]))
    told = statistics.described(summary, "timestamp")
    assert (told["min"], told["max"], told["mean"], told["sd"]) == ("1970-01-01T00:00:00Z", "1970-01-02T00:00:00Z", None, None)
    days = statistics.described(statistics.summaries.of_column(pa.chunked_array([pa.array([-1, 1], pa.date32())])), "date")
    assert (days["min"], days["max"], days["mean"]) == ("1969-12-31", "1970-01-02", None)
