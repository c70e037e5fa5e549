"""A summary is what plain Python says of the same values, in one part or in many, for every type that a feature may have."""

from __future__ import annotations

import itertools
import math
import statistics
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_jobs.training import summaries
from spark_jobs.training.summaries import QUANTILES, Summary

if TYPE_CHECKING:
    from collections.abc import Sequence

NUMBERS = st.one_of(st.none(), st.floats(), st.sampled_from([0.0, -0.0, 1.5, math.nan, math.inf]))


def summary(values: Sequence[Any], kind: pa.DataType, *, cuts: Sequence[int] = ()) -> Summary:
    bounds = [0, *cuts, len(values)]
    parts = [pa.chunked_array([pa.array(values[a:b], kind)]) for a, b in itertools.pairwise(bounds)]
    return summaries.merged([summaries.of_column(part) for part in parts])


def by_rank(values: Sequence[Any], percent: int) -> Any:
    return sorted(values)[max(1, math.ceil(percent * len(values) / 100)) - 1]


@settings(max_examples=200, deadline=None)
@given(values=st.lists(NUMBERS, max_size=40), cuts=st.tuples(st.integers(0, 40), st.integers(0, 40)))
def test_doubles_in_parts_are_summed_up_as_plain_python_does(values: list[float | None], cuts: tuple[int, int]) -> None:
    found = summary(values, pa.float64(), cuts=sorted(min(cut, len(values)) for cut in cuts))
    held = [value for value in values if value is not None]
    finite = [value for value in held if math.isfinite(value)]
    assert (found.rows, found.nulls, found.not_finite) == (len(values), len(values) - len(held), len(held) - len(finite))
    assert found.distinct == len({"nan" if math.isnan(value) else value for value in held})
    assert [found.quantile(q) for q in QUANTILES] == [by_rank(finite, q) if finite else None for q in QUANTILES]
    if finite:
        size = max(map(abs, finite))
        assert found.mean == pytest.approx(float(statistics.mean(map(Decimal, finite))), rel=1e-12, abs=size * 1e-12)


@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40), cut=st.integers(0, 40))
def test_the_standard_deviation_is_of_the_sample(values: list[float], cut: int) -> None:
    found = summary(values, pa.float64(), cuts=[min(cut, len(values))])
    assert found.sd == pytest.approx(statistics.stdev(values), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("values", [[1e308, 1e308, 1.7e308], [0.1] * 7, [5e-324, 5e-324]])
def test_numbers_at_the_ends_of_doubles_have_a_mean_and_a_deviation(values: list[float]) -> None:
    found = summary(values, pa.float64(), cuts=[1])
    assert found.mean == pytest.approx(float(statistics.mean(map(Decimal, values))), rel=1e-12)
    assert found.sd == pytest.approx(float(statistics.stdev(map(Decimal, values))), rel=1e-12)


def test_whole_numbers_keep_their_digits() -> None:
    values = [2**63 - 1, 2**63 - 2, -(2**63)]
    found = summary(values, pa.int64(), cuts=[2])
    assert [found.quantile(q) for q in (1, 50, 99)] == [-(2**63), 2**63 - 2, 2**63 - 1]
    assert found.distinct == 3


def test_other_types_are_measured_by_their_number_their_time_or_their_length() -> None:
    noon = datetime(2026, 1, 4, 12, 0, 0, 1, tzinfo=UTC)
    cases: list[tuple[list[Any], pa.DataType, list[Any], int]] = [
        ([True, False, True, None], pa.bool_(), [0, 1], 2),
        ([Decimal("1.10"), Decimal("-2.25"), None], pa.decimal128(10, 2), [-2.25, 1.1], 2),
        ([Decimal(10**30), Decimal(10**30 + 1)], pa.decimal128(38, 0), [1e30, 1e30], 2),
        (["", "ü", None, "abc", "abd"], pa.string(), [0, 3], 4),
        ([[1, 2], [], None, [1, 2], [2, 1]], pa.list_(pa.int64()), [0, 2], 3),
        ([date(1969, 12, 31), date(2026, 1, 4), None], pa.date32(), [-1, 20457], 2),
        ([noon, noon, None], pa.timestamp("us", tz="UTC"), [int(noon.timestamp()) * 10**6 + 1] * 2, 1),
    ]
    for values, kind, ends, distinct in cases:
        for cuts in ([], [1]):
            found = summary(values, kind, cuts=cuts)
            assert [found.quantile(1), found.quantile(99)] == ends, kind
            assert (found.distinct, found.nulls) == (distinct, values.count(None)), kind


def test_a_column_without_values_has_no_numbers() -> None:
    for kind in (pa.float64(), pa.string(), pa.list_(pa.string())):
        for values in ([], [None, None]):
            found = summary(values, kind)
            assert (found.nulls, found.sd, found.quantile(50), found.distinct) == (len(values), None, None, 0)


def test_quantiles_of_many_parts_are_right_to_a_thousandth_of_the_rows_and_keep_both_ends() -> None:
    values = np.random.default_rng(1).permutation(200_000)
    found = summary(values.tolist(), pa.int64(), cuts=range(7_000, 200_000, 7_000))
    assert (found.points[0], found.points[-1], found.weights.sum()) == (0, 199_999, 200_000)
    assert max(abs(found.quantile(q) - (q * 2000 - 1)) for q in QUANTILES) <= 2 * 200  # type: ignore[operator]  # there are values
    assert len(found.points) <= 1001


def test_quantiles_of_one_part_are_exact() -> None:
    values = np.random.default_rng(1).permutation(100_000)
    found = summary(values.tolist(), pa.int64())
    assert [found.quantile(q) for q in QUANTILES] == [q * 1000 - 1 for q in QUANTILES]


@pytest.mark.parametrize("count", [2_047, 2_048, 100_000])
def test_many_distinct_values_are_estimated_to_five_percent(count: int) -> None:
    for values, kind in ((range(count), pa.int64()), ([f"v{n}" for n in range(count)], pa.string())):
        found = summary([*values, *values], kind, cuts=[count, count + 5]).distinct
        assert abs(found - count) <= (0 if count < 2_048 else count / 20)
