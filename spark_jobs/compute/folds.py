"""Folds of lists of doubles, whole columns at a time: each does what `array_sql` says in SQL, in the same order and to the same bits.

To Spark a fold costs some 8 us for each element, since it interprets the lambda; here a step costs some 10 us for all lists together.
Spark's Python workers run it, so nothing of Spark is imported.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_Doubles = npt.NDArray[np.float64]
_Whole = npt.NDArray[np.int64]
_unasked = np.errstate(over="ignore", invalid="ignore")
"""What is beyond a double becomes infinite, as in Spark, and is null in the end."""


class Spans(NamedTuple):
    """Stretches of values, which may overlap: where each begins, and how many values it has."""

    firsts: _Whole
    lengths: _Whole

    @classmethod
    def of(cls, lists: pa.Array) -> "Spans":
        """Where each of some lists has its elements among all; one that is null has none."""
        lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        return cls(lists.offsets.to_numpy().astype(np.int64)[:-1], lengths)


def variance(lists: pa.Array) -> pa.Array:
    """The sample variance of lists of parts (`n`, `mean`, `spread`), put together in the order given; null below two values."""
    return variance_of_parts(lists.values, Spans.of(lists))


def variance_of_values(lists: pa.Array) -> pa.Array:
    """The sample variance of lists of doubles, in two passes in the order given; null below two."""
    return variance_in(lists.values, Spans.of(lists))


def total(lists: pa.Array) -> pa.Array:
    """The sum of lists of doubles, added in the order given; 0 without any."""
    return total_in(lists.values, Spans.of(lists))


@_unasked
def variance_of_parts(parts: pa.Array, spans: Spans) -> pa.Array:
    """What `variance` says of stretches of parts."""
    laid = _laid(spans)
    numbers, means, spreads = (_doubles(parts.field(name)) for name in ("n", "mean", "spread"))
    n, mean, spread = np.zeros((3, len(laid.lengths)))
    for until, at in _steps(laid):
        had, more = n[:until], numbers[at]
        number, apart = had + more, means[at] - mean[:until]
        spread[:until] = spread[:until] + spreads[at] + apart * apart * had * more / number
        mean[:until] = mean[:until] + apart * more / number
        n[:until] = number
    return _of_spread(laid, n, spread)


@_unasked
def variance_in(doubles: pa.Array, spans: Spans) -> pa.Array:
    """What `variance_of_values` says of stretches of doubles."""
    laid, values = _laid(spans), _doubles(doubles)
    n = laid.lengths.astype(np.float64)
    mean, spread = _added(laid, values) / np.maximum(n, 1.0), np.zeros(len(n))
    for until, at in _steps(laid):
        apart = values[at] - mean[:until]
        spread[:until] = spread[:until] + apart * apart
    return _of_spread(laid, n, spread + mean * mean * 0.0)


@_unasked
def total_in(doubles: pa.Array, spans: Spans) -> pa.Array:
    """What `total` says of stretches of doubles."""
    laid = _laid(spans)
    return _unlaid(laid, _added(laid, _doubles(doubles)), np.zeros(len(laid.lengths), dtype=bool))


class _Laid(NamedTuple):
    """Stretches by their length, the longest first: which each was, its length, and where its first value is."""

    order: _Whole
    lengths: _Whole
    firsts: _Whole


def _laid(spans: Spans) -> _Laid:
    order = np.argsort(-spans.lengths, kind="stable")
    return _Laid(order, spans.lengths[order], spans.firsts[order])


def _steps(laid: _Laid) -> Iterator[tuple[int, _Whole]]:
    """For each place in stretches how many have one there, and where their values are."""
    for place in range(int(laid.lengths.max(initial=0))):
        until = int(np.searchsorted(-laid.lengths, -place, side="left"))
        yield until, laid.firsts[:until] + place


def _added(laid: _Laid, values: _Doubles) -> _Doubles:
    found = np.zeros(len(laid.lengths))
    for until, at in _steps(laid):
        found[:until] = found[:until] + values[at]
    return found


def _of_spread(laid: _Laid, n: _Doubles, spread: _Doubles) -> pa.Array:
    return _unlaid(laid, spread / np.maximum(n - 1, 1.0), n < 2)


def _unlaid(laid: _Laid, found: _Doubles, missing: npt.NDArray[np.bool_]) -> pa.Array:
    """What was found of stretches, in the order in which they came."""
    back = np.empty(len(laid.order), dtype=np.int64)
    back[laid.order] = np.arange(len(laid.order))
    return pa.array(found[back], pa.float64(), mask=missing[back])


def _doubles(values: pa.Array) -> _Doubles:
    found: _Doubles = values.to_numpy(zero_copy_only=False).astype(np.float64)
    return found
