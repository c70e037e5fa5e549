"""What the values of a column are like, without Spark: a summary of each part, and one of all, whose size does not grow with the rows.

The number, the nulls, the mean and the standard deviation are exact but for rounding. Quantiles are values of the column; each time that
parts are merged their ranks may move by a thousandth of the rows, and those of a single part are exact. Distinct values are counted up to
2,047, and beyond that estimated from the smallest hashes, to about 2 %.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Numbers = np.ndarray[Any, Any]

QUANTILES = (1, 5, 25, 50, 75, 95, 99)
"""In percent."""
_POINTS, _HASHES = 1000, 2048


class Summary(NamedTuple):
    """What values are like: of numbers themselves, of text, bytes and arrays their lengths, of times whole microseconds or days.

    `mean` and `norm`, the root of the sum of squared distances from it, are of the finite ones. So are `points`, values in order: each
    stands for as many as its weight, and is the greatest of them. `hashes` are the smallest of the distinct values.
    """

    rows: int
    nulls: int
    not_finite: int
    mean: float
    norm: float
    points: Numbers
    weights: Numbers
    hashes: Numbers

    @property
    def finite(self) -> int:
        """How many values are neither null, NaN nor infinite."""
        return self.rows - self.nulls - self.not_finite

    @property
    def sd(self) -> float | None:
        """The standard deviation of the sample, None below two values or where no double holds it."""
        if self.finite < 2:
            return None
        found = 0.0 if self.points[0] == self.points[-1] else self.norm / math.sqrt(self.finite - 1)
        return found if math.isfinite(found) else None

    @property
    def distinct(self) -> int:
        """How many values there are, equal ones counted once."""
        if len(self.hashes) < _HASHES:
            return len(self.hashes)
        return round((_HASHES - 1) / (float(self.hashes[-1]) / 2.0**64))

    def quantile(self, percent: int) -> int | float | None:
        """The smallest value that so many percent of the values do not exceed."""
        if not self.finite:
            return None
        rank = max(1, -(-percent * self.finite // 100))
        found: int | float = self.points[np.searchsorted(np.cumsum(self.weights), rank)].item()
        return found


NOTHING = Summary(0, 0, 0, 0.0, 0.0, np.array([], np.int64), np.array([], np.int64), np.array([], np.uint64))
"""The summary of no rows."""


def of_column(column: pa.ChunkedArray) -> Summary:
    """The summary of one part of a column."""
    held = column.drop_null().combine_chunks()
    measured = _measured(held)
    finite = measured[np.isfinite(measured)] if measured.dtype.kind == "f" else measured
    ordered = np.sort(finite)
    mean, norm = _spread(ordered)
    points, weights = _thinned(ordered, np.ones(len(ordered), np.int64))
    hashes = _smallest(_hashes(held, ordered, odd=measured[~np.isfinite(measured)] if len(finite) < len(measured) else finite[:0]))
    return Summary(len(column), column.null_count, len(measured) - len(finite), mean, norm, points, weights, hashes)


def merged(parts: Sequence[Summary]) -> Summary:
    """The summary of all parts of a column."""
    if len(parts) == 1:
        return parts[0]
    finite = sum(part.finite for part in parts)
    mean = sum(part.mean * (part.finite / finite) for part in parts if part.finite)
    norm = math.hypot(*(part.norm for part in parts), *(abs(part.mean - mean) * math.sqrt(part.finite) for part in parts if part.finite))
    points, weights = np.concatenate([part.points for part in parts]), np.concatenate([part.weights for part in parts])
    in_order = np.argsort(points, kind="stable")
    rows, nulls, not_finite = (sum(counts) for counts in zip(*[(p.rows, p.nulls, p.not_finite) for p in parts], strict=True))
    hashes = _smallest(np.unique(np.concatenate([part.hashes for part in parts])))
    return Summary(rows, nulls, not_finite, mean, norm, *_thinned(points[in_order], weights[in_order]), hashes)


def is_number(kind: pa.DataType) -> bool:
    """Whether a mean and a difference say something of values of a type."""
    return bool(pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _measured(held: pa.Array) -> Numbers:
    """Values as numbers: whole ones as int64, others as doubles."""
    kind = held.type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _numpy(held.cast(pa.float64())) + 0.0  # -0.0 is 0.0
    if pa.types.is_date32(kind):
        held = held.cast(pa.int32())
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        held = pc.list_value_length(held)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        held = pc.utf8_length(held)
    elif pa.types.is_binary(kind):
        held = pc.binary_length(held)
    return _numpy(held.cast(pa.int64()))


def _numpy(held: pa.Array) -> Numbers:
    found: Numbers = held.to_numpy(zero_copy_only=False)
    return found


def _spread(ordered: Numbers) -> tuple[float, float]:
    """The mean and the root of the sum of squared distances from it; no sum on the way is too great for a double."""
    if not len(ordered):
        return 0.0, 0.0
    values = ordered.astype(np.float64)
    scale = float(max(abs(values[0]), abs(values[-1]))) or 1.0
    values /= scale
    mean = float(values.mean())
    return mean * scale, float(np.linalg.norm(values - mean)) * scale


def _thinned(ordered: Numbers, weights: Numbers) -> tuple[Numbers, Numbers]:
    """Of values in order so many that ranks stay right to a thousandth, the first and the last among them, with their weights."""
    if len(ordered) <= _POINTS + 1:
        return ordered, weights
    upto = np.cumsum(weights)
    ranks = np.array([1, *(-(-int(upto[-1]) * n // _POINTS) for n in range(1, _POINTS + 1))])
    chosen = np.unique(np.searchsorted(upto, ranks))
    return ordered[chosen], np.diff(upto[chosen], prepend=0)


# -------------------------------------------------------------------------------------------------------------------------- hashes


def _hashes(held: pa.Array, ordered: Numbers, *, odd: Numbers) -> Numbers:
    """The hashes of the distinct values; of numbers those in order, and the odd ones: NaN and infinities."""
    if not _is_itself(held.type):
        return np.array(sorted({_hash(text) for text in _texts(held)}), np.uint64)
    if not len(ordered):
        return np.unique(mixed(odd))
    distinct = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])]
    return np.concatenate([mixed(distinct), np.unique(mixed(odd))])


def _is_itself(kind: pa.DataType) -> bool:
    """Whether values are measured as what they are."""
    return bool(is_number(kind) and not pa.types.is_decimal(kind)) or pa.types.is_temporal(kind)


def _texts(held: pa.Array) -> set[str]:
    nested = pa.types.is_list(held.type) or pa.types.is_large_list(held.type)
    return {repr(value) for value in (held if nested else held.unique()).to_pylist()}


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def mixed(numbers: Numbers) -> Numbers:
    """Numbers as hashes of 64 bits, no two numbers one hash (splitmix64)."""
    if numbers.dtype.kind == "f":
        numbers = np.where(np.isnan(numbers), np.nan, numbers)
    bits = numbers.view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Numbers = bits ^ (bits >> np.uint64(31))
    return mixed


def _smallest(hashes: Numbers) -> Numbers:
    few = np.partition(hashes, _HASHES - 1)[:_HASHES] if len(hashes) > _HASHES else hashes
    found: Numbers = np.sort(few)
    return found
