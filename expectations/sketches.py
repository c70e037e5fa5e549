"""Statistics of many columns by interval, from Arrow batches: summaries of parts that can be merged, so that rows are read once.

In one place instead of as Spark aggregates, because an aggregate that tracks quantiles and distinct values of a hundred
columns costs Spark over ten times the CPU (measured: tests/benchmarks/bench_gate.py). Loaded by Spark's Python workers,
so it imports only numpy and pyarrow.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

PARTIAL = (
    "interval long, column int, values long, number long, low double, high double, mean double, squares double, "
    "points array<double>, weights array<double>, registers binary"
)
"""A part's summary, one row per interval and column, in Spark's words: how many values, how many of these are finite numbers, their least,
greatest, mean and sum of squared distances from it; points of their distribution with weights; what estimates how many
are distinct."""

DESCRIBED = (
    "interval long, column int, values long, infinite long, distinct long, min double, max double, mean double, stddev double, "
    "quantiles array<double>"
)

AT_ONCE = 4_000_000
"""How many values are held in memory before they are summarized."""
_POINTS = 200
_BITS = 11
_REGISTERS = 1 << _BITS
_BIAS = 0.7213 / (1 + 1.079 / _REGISTERS)

_PARTIAL = pa.schema(
    [
        ("interval", pa.int64()),
        ("column", pa.int32()),
        ("values", pa.int64()),
        ("number", pa.int64()),
        *((name, pa.float64()) for name in ("low", "high", "mean", "squares")),
        ("points", pa.list_(pa.float64())),
        ("weights", pa.list_(pa.float64())),
        ("registers", pa.binary()),
    ]
)
_DESCRIBED = pa.schema(
    [
        ("interval", pa.int64()),
        ("column", pa.int32()),
        ("values", pa.int64()),
        ("infinite", pa.int64()),
        ("distinct", pa.int64()),
        *((name, pa.float64()) for name in ("min", "max", "mean", "stddev")),
        ("quantiles", pa.list_(pa.float64())),
    ]
)
_Row = dict[str, object]


def summaries(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """One summary per interval and column of all batches of a part.

    A batch's first column is the interval; each other one holds numbers, as doubles, or of anything else a hash, as
    64-bit integers.
    """
    held: list[pa.RecordBatch] = []
    merged: list[_Row] = []
    for batch in batches:
        held.append(batch)
        if sum(b.num_rows for b in held) * batch.num_columns >= AT_ONCE:
            merged, held = _merged([*merged, *_summarized(held)]), []
    if held:
        merged = _merged([*merged, *_summarized(held)])
    yield from pa.Table.from_pylist(merged, schema=_PARTIAL).to_batches()


def described(partials: pa.Table) -> pa.Table:
    """The statistics of each interval and column from the summaries of all parts."""
    rows = [_description(row) for row in _merged(partials.to_pylist())]
    return pa.Table.from_pylist(rows, schema=_DESCRIBED)


def described_at_once(rows: pa.Table) -> pa.Table:
    """The statistics of each interval and column of rows that fit into memory, all exact: many intervals cost as little as few."""
    intervals, places = np.unique(rows.column(0).to_numpy(), return_inverse=True)
    parts = [_DESCRIBED.empty_table()]
    for number, column in enumerate(rows.columns[1:]):
        found = {"interval": intervals, "column": np.full(len(intervals), number)} | _exact(column.combine_chunks(), places, len(intervals))
        parts.append(pa.table([pa.array(found[field.name], field.type) for field in _DESCRIBED], schema=_DESCRIBED))
    return pa.concat_tables(parts)


# ------------------------------------------------------------------------------------------------------------------ summarizing


def _summarized(batches: Sequence[pa.RecordBatch]) -> Iterator[_Row]:
    table = pa.Table.from_batches(batches)
    if not table.num_rows:
        return
    intervals = table.column(0).to_numpy()
    order = np.argsort(intervals, kind="stable")
    ordered = intervals[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    places = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(ordered)]))
    for number in range(1, table.num_columns):
        array = table.column(number).combine_chunks()
        found = _numbers(array, order, starts) if pa.types.is_floating(array.type) else _texts(array, order, starts)
        registers = _registers(found.hashes, places[found.valid], len(starts))
        for at, start in enumerate(starts):
            counts = {"interval": int(ordered[start]), "column": number - 1, "values": int(found.counts[at])}
            yield counts | found.distribution(at) | {"registers": registers[at].tobytes()}


class _Found:
    """A column's values in the order of the intervals: which are there, their hashes, how many an interval has, how they are spread."""

    __slots__ = ("counts", "distribution", "hashes", "valid")

    def __init__(self, valid: np.ndarray, hashes: np.ndarray, starts: np.ndarray, distribution: Callable[[int], _Row]) -> None:
        self.valid, self.hashes, self.distribution = valid, hashes, distribution
        self.counts = np.add.reduceat(valid.astype(np.int64), starts)


def _numbers(array: pa.Array, order: np.ndarray, starts: np.ndarray) -> _Found:
    valid = np.asarray(array.is_valid())[order]
    values = array.fill_null(np.nan).to_numpy(zero_copy_only=False)[order]
    ends = np.r_[starts[1:], len(values)]

    def distribution(at: int) -> _Row:
        part = values[starts[at] : ends[at]]
        return _distribution(np.sort(part[np.isfinite(part)]))

    return _Found(valid, _mixed((values[valid] + 0.0).view(np.uint64)), starts, distribution)


def _texts(array: pa.Array, order: np.ndarray, starts: np.ndarray) -> _Found:
    valid = np.asarray(array.is_valid())[order]
    hashes = array.fill_null(0).to_numpy(zero_copy_only=False)[order]
    return _Found(valid, _mixed(hashes[valid].view(np.uint64)), starts, lambda _: _distribution(np.empty(0)))


def _distribution(values: np.ndarray) -> _Row:
    """What sorted finite numbers leave behind: their moments, and points at even distances with the weight of those between."""
    count = len(values)
    if not count:
        return {"number": 0, "low": None, "high": None, "mean": None, "squares": None, "points": [], "weights": []}
    mean = float(values.mean())
    points = values if count <= _POINTS else values[((np.arange(_POINTS) + 0.5) * count / _POINTS).astype(np.int64)]
    return {
        "number": count,
        "low": float(values[0]),
        "high": float(values[-1]),
        "mean": mean,
        "squares": float(((values - mean) ** 2).sum()),
        "points": points,
        "weights": np.full(len(points), count / len(points)),
    }


def _mixed(values: np.ndarray) -> np.ndarray:
    """Hashes of 64-bit values (splitmix64)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _registers(hashes: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """HyperLogLog: for each interval and each of 2,048 kinds of hashes the most zeros that one of them ends the rest with, plus one."""
    kinds = (hashes & np.uint64(_REGISTERS - 1)).astype(np.int64)
    rest = (hashes >> np.uint64(_BITS)) | np.uint64(1 << (64 - _BITS))
    zeros = np.frexp((rest & (~rest + np.uint64(1))).astype(np.float64))[1].astype(np.uint8)
    registers = np.zeros(count * _REGISTERS, np.uint8)
    np.maximum.at(registers, places * _REGISTERS + kinds, zeros)
    return registers.reshape(count, _REGISTERS)


# ---------------------------------------------------------------------------------------------------------------------- merging


def _merged(rows: Iterable[_Row]) -> list[_Row]:
    """One summary per interval and column."""
    parts: dict[tuple[object, object], list[_Row]] = {}
    for row in rows:
        parts.setdefault((row["interval"], row["column"]), []).append(row)
    return [_joined(some) if len(some) > 1 else some[0] for some in parts.values()]


def _joined(rows: Sequence[_Row]) -> _Row:
    registers = np.stack([np.frombuffer(_bytes(row["registers"]), np.uint8) for row in rows]).max(axis=0)
    values = sum(_whole(row["values"]) for row in rows)
    same = {"interval": rows[0]["interval"], "column": rows[0]["column"], "values": values, "registers": registers.tobytes()}
    filled = [row for row in rows if row["number"]]
    if not filled:
        return {**rows[0], **same}
    counts, means, squares, low, high = (np.array([row[name] for row in filled], np.float64) for name in _MOMENTS)
    mean = float((counts * means).sum() / counts.sum())
    points, weights = _thinned(
        np.concatenate([np.asarray(row["points"], np.float64) for row in filled]),
        np.concatenate([np.asarray(row["weights"], np.float64) for row in filled]),
    )
    return same | {
        "number": int(counts.sum()),
        "low": float(np.min(low)),
        "high": float(np.max(high)),
        "mean": mean,
        "squares": float(squares.sum() + (counts * (means - mean) ** 2).sum()),
        "points": points,
        "weights": weights,
    }


_MOMENTS = ("number", "mean", "squares", "low", "high")


def _thinned(points: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points sorted; of too many those at even distances by weight."""
    order = np.argsort(points, kind="stable")
    points, weights = points[order], weights[order]
    if len(points) <= 2 * _POINTS:
        return points, weights
    reached, total = np.cumsum(weights), weights.sum()
    at = np.searchsorted(reached, (np.arange(_POINTS) + 0.5) * total / _POINTS)
    return points[np.minimum(at, len(points) - 1)], np.full(_POINTS, total / _POINTS)


def _description(row: _Row) -> _Row:
    count = _whole(row["number"])
    spread = np.sqrt(float(str(row["squares"])) / (count - 1)) if count > 1 else None
    points, weights = _thinned(np.asarray(row["points"], np.float64), np.asarray(row["weights"], np.float64))
    return {
        "interval": row["interval"],
        "column": row["column"],
        "values": row["values"],
        "infinite": _whole(row["values"]) - count,
        "distinct": min(_estimate(np.frombuffer(_bytes(row["registers"]), np.uint8)), _whole(row["values"])),
        "min": row["low"],
        "max": row["high"],
        "mean": row["mean"],
        "stddev": spread,
        "quantiles": _quantiles(points, weights) if count else None,
    }


def _quantiles(points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The least point up to which the share of the weight is reached."""
    reached = np.cumsum(weights)
    wanted = np.array(QUANTILES) * reached[-1] * (1 - 1e-12)
    found: np.ndarray = points[np.minimum(np.searchsorted(reached, wanted), len(points) - 1)]
    return found


def _estimate(registers: np.ndarray) -> int:
    """How many distinct hashes there were, within about 5 %; few are told almost exactly."""
    empty = int((registers == 0).sum())
    if empty == _REGISTERS:
        return 0
    estimate = _BIAS * _REGISTERS**2 / np.exp2(-registers.astype(np.float64)).sum()
    if estimate <= 2.5 * _REGISTERS and empty:
        estimate = _REGISTERS * np.log(_REGISTERS / empty)
    return round(float(estimate))


def _whole(value: object) -> int:
    return int(str(value))


def _bytes(value: object) -> bytes:
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else b""


# ---------------------------------------------------------------------------------------------------------------------- at once


def _exact(array: pa.Array, places: np.ndarray, count: int) -> dict[str, np.ndarray | pa.Array]:
    """The statistics of a column by interval, of so many intervals; `places` says which one a row is of."""
    values, places = array.drop_null().to_numpy(), places[np.asarray(array.is_valid())]
    numeric = pa.types.is_floating(array.type)
    finite = np.isfinite(values) if numeric else np.zeros(len(values), bool)
    there, number = (np.bincount(those, minlength=count) for those in (places, places[finite]))
    distinct = _distinct((values + 0.0).view(np.int64) if numeric else values, places, count)
    return {"values": there, "infinite": there - number, "distinct": distinct} | _distributions(values[finite], places[finite], number)


def _distinct(values: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    order = np.lexsort((values, places))
    values, places = values[order], places[order]
    first = np.ones(len(values), bool)
    first[1:] = (values[1:] != values[:-1]) | (places[1:] != places[:-1])
    return np.bincount(places[first], minlength=count)


def _distributions(values: np.ndarray, places: np.ndarray, number: np.ndarray) -> dict[str, np.ndarray | pa.Array]:
    """Moments and quantiles of finite numbers by interval, of which each has its `number`; null where it has none."""
    values, some, several = values[np.lexsort((values, places))], number > 0, number > 1
    counts = number[some]
    ends = np.cumsum(counts)
    starts = ends - counts
    means = np.add.reduceat(values, starts) / counts
    squares = np.add.reduceat((values - np.repeat(means, counts)) ** 2, starts)
    ranks = np.maximum(np.ceil(np.outer(counts, QUANTILES) * (1 - 1e-12)), 1).astype(np.int64) - 1
    offsets = np.append(0, np.cumsum(some)) * len(QUANTILES)
    return {
        "min": _where(some, values[starts]),
        "max": _where(some, values[ends - 1]),
        "mean": _where(some, means),
        "stddev": _where(several, np.sqrt(squares[counts > 1] / (counts[counts > 1] - 1))),
        "quantiles": pa.ListArray.from_arrays(
            pa.array(offsets, pa.int32(), mask=np.append(~some, False)), values[starts[:, None] + ranks].ravel()
        ),
    }


def _where(there: np.ndarray, values: np.ndarray) -> pa.Array:
    """One value for each that is there, null for the others."""
    whole = np.zeros(len(there))
    whole[there] = values
    return pa.array(whole, mask=~there)
