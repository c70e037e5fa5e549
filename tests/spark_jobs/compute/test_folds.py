"""Lists are folded to the bits that a loop over their elements gives, whatever other lists come along."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from spark_jobs.compute import folds

if TYPE_CHECKING:
    from collections.abc import Sequence

    Part = dict[str, float]

DOUBLES = st.floats(-1e200, 1e200)
PART = st.fixed_dictionaries({"tile": st.integers(0, 9), "n": st.integers(1, 5), "mean": DOUBLES, "spread": st.floats(0, 1e200)})
PARTS = pa.list_(pa.struct({"tile": pa.int64(), "n": pa.int64(), "mean": pa.float64(), "spread": pa.float64()}))


def variance(parts: Sequence[Part] | None) -> float | None:
    """As `array_sql.variance` says."""
    n, mean, spread = 0, 0.0, 0.0
    for part in parts or ():
        number, apart = n + int(part["n"]), part["mean"] - mean
        n, mean, spread = (
            number,
            mean + apart * part["n"] / number,
            spread + part["spread"] + apart * apart * n * part["n"] / number,
        )
    return spread / (n - 1) if n >= 2 else None


def moments(values: Sequence[float]) -> Part:
    """As `array_sql.moments` says."""
    mean, spread = total(values) / len(values), 0.0
    for value in values:
        spread += (value - mean) * (value - mean)
    return {"n": len(values), "mean": mean, "spread": spread}


def total(values: Sequence[float]) -> float:
    found = 0.0
    for value in values:
        found += value
    return found


def bits(values: Sequence[float | None]) -> list[str | None]:
    return [None if value is None else value.hex() for value in values]


@given(st.lists(st.none() | st.lists(PART, max_size=6), max_size=6), st.integers(0, 3))
def test_the_variance_of_parts_is_put_together_in_their_order(lists: list[list[Part] | None], first: int) -> None:
    found = folds.variance(pa.array(lists, PARTS)[first:])
    assert bits(found.to_pylist()) == bits([variance(each) for each in lists[first:]])


@given(st.lists(st.lists(DOUBLES, max_size=6), max_size=6), st.integers(0, 3))
def test_the_variance_of_values_is_that_of_their_moments(lists: list[list[float]], first: int) -> None:
    found = folds.variance_of_values(pa.array(lists, pa.list_(pa.float64()))[first:])
    assert bits(found.to_pylist()) == bits([variance([moments(each)]) if each else None for each in lists[first:]])


@given(st.lists(st.lists(DOUBLES, max_size=6), max_size=6), st.integers(0, 3))
def test_values_are_added_in_their_order(lists: list[list[float]], first: int) -> None:
    assert bits(folds.total(pa.array(lists, pa.list_(pa.float64()))[first:]).to_pylist()) == bits([total(each) for each in lists[first:]])
