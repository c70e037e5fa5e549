"""Summaries of parts, put together in whatever way, describe the whole: exactly in counts and bounds, closely in the rest."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expectations import sketches
from expectations.sketches import described, described_at_once, summaries

if TYPE_CHECKING:
    from collections.abc import Sequence

Row = tuple[int, float | None, int | None]


def batch(rows: Sequence[Row]) -> pa.RecordBatch:
    """Rows of an interval, a number, and the hash of something else."""
    intervals, numbers, hashes = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.RecordBatch.from_arrays(
        [pa.array(intervals, pa.int64()), pa.array(numbers, pa.float64()), pa.array(hashes, pa.int64())], names=["interval", "v0", "v1"]
    )


def summarized(*parts: Sequence[Sequence[Row]]) -> dict[tuple[int, int], dict[str, Any]]:
    """The description of each interval and column; a part is a list of batches."""
    partials = pa.concat_tables([pa.Table.from_batches(list(summaries([batch(rows) for rows in part])), PARTIAL) for part in parts])
    return {(row["interval"], row["column"]): row for row in described(partials).to_pylist()}


PARTIAL = sketches._PARTIAL
floats = st.floats(-1e6, 1e6, allow_nan=False)
rows = st.lists(st.tuples(st.integers(0, 2), st.none() | floats, st.none() | st.integers(-(2**63), 2**63 - 1)), max_size=12)


def seen(distinct: int, values: Sequence[float]) -> bool:
    """Whether a count of distinct values is right: of two values whose hashes are of one kind (1 pair in 2,048) one may be missed."""
    return 0 <= len(set(values)) - distinct <= 1 + len(values) // 20


@given(st.lists(st.lists(rows, max_size=3), min_size=1, max_size=3))
def test_few_rows_are_described_exactly_however_they_are_parted(parts: list[list[list[Row]]]) -> None:
    found, everything = summarized(*parts), [row for part in parts for some in part for row in some]
    assert set(found) == {(interval, column) for interval, *_ in everything for column in (0, 1)}
    for interval, _ in found:
        numbers = sorted(x for i, x, _ in everything if i == interval and x is not None)
        row = found[interval, 0]
        assert (row["values"], seen(row["distinct"], numbers)) == (len(numbers), True)
        assert (row["min"], row["max"]) == ((numbers[0], numbers[-1]) if numbers else (None, None))
        if numbers:
            assert row["mean"] == pytest.approx(statistics.fmean(numbers), abs=1e-6)
            assert row["quantiles"] == [numbers[max(math.ceil(q * len(numbers) - 1e-9), 1) - 1] for q in sketches.QUANTILES]
        if len(numbers) > 1:
            assert row["stddev"] == pytest.approx(statistics.stdev(numbers), abs=1e-4)
        hashes = [h for i, _, h in everything if i == interval and h is not None]
        assert (found[interval, 1]["values"], seen(found[interval, 1]["distinct"], hashes)) == (len(hashes), True)
        assert found[interval, 1]["quantiles"] is found[interval, 1]["mean"] is None


def many(seed: int, count: int = 30_000) -> list[Row]:
    """Rows of one interval, skewed, with a twentieth missing."""
    drawn = np.random.default_rng(seed)
    values = drawn.lognormal(3, 1, count).round(2)
    return [(0, None if n % 20 == 0 else float(x), n) for n, x in enumerate(values)]


@pytest.mark.parametrize("at_once", [3_000, 10_000_000])
def test_many_rows_are_described_closely(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(sketches, "AT_ONCE", at_once)
    parts = [many(seed) for seed in (1, 2, 3)]
    found = summarized(*([part[at : at + 5_000] for at in range(0, len(part), 5_000)] for part in parts))[0, 0]
    values = sorted(x for part in parts for _, x, _ in part if x is not None)
    assert (found["values"], found["min"], found["max"]) == (len(values), values[0], values[-1])
    assert found["mean"] == pytest.approx(statistics.fmean(values), rel=1e-9)
    assert found["stddev"] == pytest.approx(statistics.stdev(values), rel=1e-9)
    assert found["distinct"] == pytest.approx(len(Counter(values)), rel=0.05)
    for wanted, value in zip(sketches.QUANTILES, found["quantiles"], strict=True):
        assert np.searchsorted(values, value) / len(values) == pytest.approx(wanted, abs=0.01)


@settings(max_examples=10)
@given(st.integers(1, 50_000))
def test_distinct_values_are_estimated_within_a_tenth(count: int) -> None:
    assert summarized([[(0, float(n), None) for n in range(count)]])[0, 0]["distinct"] == pytest.approx(count, rel=0.1)


def test_what_is_not_finite_counts_as_a_value_and_in_nothing_else() -> None:
    row = summarized([[(0, math.nan, None), (0, math.inf, None), (0, -math.inf, None), (0, 2.0, None)]])[0, 0]
    assert (row["values"], row["infinite"], row["min"], row["max"], row["mean"], row["stddev"]) == (4, 3, 2.0, 2.0, 2.0, None)


def test_the_two_zeros_are_one_value() -> None:
    assert summarized([[(0, 0.0, None), (0, -0.0, None)]])[0, 0]["distinct"] == 1


unlike = st.lists(
    st.tuples(st.integers(0, 4), st.none() | st.sampled_from([0.0, -0.0, math.nan, math.inf]) | floats, st.none() | st.integers(0, 3))
)


@given(unlike)
def test_rows_that_fit_into_memory_are_described_exactly(rows: list[Row]) -> None:
    found = {(each["interval"], each["column"]): each for each in described_at_once(pa.Table.from_batches([batch(rows)])).to_pylist()}
    assert set(found) == {(interval, column) for interval, *_ in rows for column in (0, 1)}
    for interval, _ in found:
        values, hashes = ([row[place] for row in rows if row[0] == interval and row[place] is not None] for place in (1, 2))
        numbers, row, other = sorted(x for x in values if math.isfinite(x)), found[interval, 0], found[interval, 1]
        assert (row["values"], row["infinite"]) == (len(values), len(values) - len(numbers))
        assert row["distinct"] == len({"nan" if math.isnan(x) else x for x in values})
        assert (row["min"], row["max"]) == ((numbers[0], numbers[-1]) if numbers else (None, None))
        assert row["mean"] == (pytest.approx(statistics.fmean(numbers)) if numbers else None)
        assert row["stddev"] == (pytest.approx(statistics.stdev(numbers), abs=1e-4) if len(numbers) > 1 else None)
        ranks = [max(math.ceil(q * len(numbers) - 1e-9), 1) - 1 for q in sketches.QUANTILES]
        assert row["quantiles"] == ([numbers[rank] for rank in ranks] if numbers else None)
        assert (other["values"], other["distinct"], other["quantiles"]) == (len(hashes), len(set(hashes)), None)


def test_no_rows_are_not_described() -> None:
    assert summarized([[]], []) == {}
    assert described_at_once(pa.Table.from_batches([batch([])])).num_rows == 0
