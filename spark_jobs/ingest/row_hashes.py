"""A 64-bit hash of each row, whole columns of Arrow at a time: Spark's `xxhash64`, in which a column's hash is the next one's seed."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from feature_definitions.sql.data_types import is_decimal

Hashes = NDArray[np.uint64]
_SEED = 42
_P1, _P2, _P3, _P4, _P5 = (
    np.uint64(prime) for prime in (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
)
_PLAIN = ("string", "int64", "double", "boolean", "date", "timestamp")
_LONGEST = 18
"""So many digits of a decimal Spark hashes as a whole number."""
_SIEVE = 2**22


def knows(kind: str) -> bool:
    """Whether values of a type are hashed here."""
    return kind in _PLAIN or (is_decimal(kind) and int(kind.removeprefix("decimal(").partition(",")[0]) <= _LONGEST)


def of_columns(columns: Sequence[pa.Array]) -> Hashes:
    """The hash of each row's values; a null leaves it as it is."""
    found = np.full(len(columns[0]), _SEED, np.uint64)
    for column in columns:
        found = _with(found, column)
    return found


def of_rows(columns: Sequence[pa.Array]) -> Hashes:
    """The hash of each row's values, and of which are null, as `tables.fingerprint_of` has it."""
    found = np.full(len(columns[0]), _SEED, np.uint64)
    for column in columns:
        found = _with(found, column)
        found = _of_ints(np.asarray(pc.is_null(column)).astype(np.uint64), found)
    return found


def of_counts(hashes: Hashes, counts: NDArray[np.int64]) -> Hashes:
    """The hash of each hash with how often it comes."""
    seeds = np.full(len(hashes), _SEED, np.uint64)
    return _of_longs(counts.astype(np.uint64), _of_longs(hashes, seeds))


def several(hashes: Sequence[Hashes]) -> Hashes:
    """The hashes that come more than once, in order."""
    found = np.concatenate(hashes)
    found.sort()
    return np.unique(found[1:][found[1:] == found[:-1]])


def among(hashes: Hashes, few: Hashes) -> NDArray[np.int64]:
    """Where hashes are that are among a few others, which are in order; a sieve of their last bits leaves few to look for."""
    if not len(few):
        return np.zeros(0, np.int64)
    sieve, last = np.zeros(_SIEVE, np.bool_), np.uint64(_SIEVE - 1)
    sieve[few & last] = True
    rows = np.flatnonzero(sieve[hashes & last])
    found = hashes[rows]
    is_one = few[np.minimum(np.searchsorted(few, found), len(few) - 1)] == found
    return np.asarray(rows[is_one])


def _with(seeds: Hashes, column: pa.Array) -> Hashes:
    if not len(column) or not column.null_count:
        return _of_column(column, seeds) if len(column) else seeds
    held = np.flatnonzero(np.asarray(pc.is_valid(column)))
    found = seeds.copy()
    if len(held):
        found[held] = _of_column(column.drop_null(), seeds[held])
    return found


def _of_column(column: pa.Array, seeds: Hashes) -> Hashes:
    """The hashes of values of which none is null."""
    kind = column.type
    if pa.types.is_string(kind):
        return _of_texts(column, seeds)
    if pa.types.is_boolean(kind):
        return _of_ints(np.asarray(column).astype(np.uint64), seeds)
    if pa.types.is_date32(kind):
        return _of_ints(np.asarray(column.cast(pa.int32())).view(np.uint32).astype(np.uint64), seeds)
    if pa.types.is_floating(kind):
        return _of_longs((np.asarray(column) + 0.0).view(np.uint64), seeds)  # -0.0 is 0.0
    if pa.types.is_decimal(kind):
        words = np.frombuffer(column.buffers()[1], np.uint64)
        return _of_longs(words[2 * column.offset : 2 * (column.offset + len(column)) : 2], seeds)
    return _of_longs(np.asarray(column.cast(pa.int64())).view(np.uint64), seeds)


def _of_ints(values: Hashes, seeds: Hashes) -> Hashes:
    return _mixed(_with_int(seeds + _P5 + np.uint64(4), values))


def _of_longs(values: Hashes, seeds: Hashes) -> Hashes:
    return _mixed(_with_word(seeds + _P5 + np.uint64(8), values))


def _of_texts(column: pa.StringArray, seeds: Hashes) -> Hashes:
    """The hashes of the texts' bytes, of all texts eight bytes at a time."""
    offsets = np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    at, left = offsets[:-1].copy(), np.diff(offsets)
    data = np.zeros(int(offsets[-1]) + 8, np.uint8)
    if column.buffers()[2] is not None:
        data[: offsets[-1]] = np.frombuffer(column.buffers()[2], np.uint8)[: offsets[-1]]
    words = np.ndarray((len(data) - 7,), np.dtype("<u8"), data, strides=(1,))
    found = seeds + _P5
    long = np.flatnonzero(left >= 32)
    if len(long):
        found[long], at[long] = _of_stripes(words, at[long], left[long], seeds[long])
    found += left.astype(np.uint64)
    left = offsets[1:] - at
    rows = np.flatnonzero(left >= 8)
    while len(rows):
        found[rows] = _with_word(found[rows], words[at[rows]])
        at[rows] += 8
        left[rows] -= 8
        rows = rows[left[rows] >= 8]
    rows = np.flatnonzero(left >= 4)
    if len(rows):
        found[rows] = _with_int(found[rows], words[at[rows]] & np.uint64(0xFFFFFFFF))
        at[rows] += 4
        left[rows] -= 4
    rows = np.flatnonzero(left)
    while len(rows):
        found[rows] = _turned(found[rows] ^ (data[at[rows]].astype(np.uint64) * _P5), 11) * _P1
        at[rows] += 1
        left[rows] -= 1
        rows = rows[left[rows] > 0]
    return _mixed(found)


def _of_stripes(words: Hashes, at: NDArray[np.int64], left: NDArray[np.int64], seeds: Hashes) -> tuple[Hashes, NDArray[np.int64]]:
    """What whole stripes of 32 bytes make of long texts, and where these end."""
    lanes = np.stack([seeds + _P1 + _P2, seeds + _P2, seeds, seeds - _P1])
    at, rows = at.copy(), np.arange(len(at))
    left = left.copy()
    while len(rows):
        for lane in range(4):
            lanes[lane, rows] = _turned(lanes[lane, rows] + words[at[rows] + 8 * lane] * _P2, 31) * _P1
        at[rows] += 32
        left[rows] -= 32
        rows = rows[left[rows] >= 32]
    found = _turned(lanes[0], 1) + _turned(lanes[1], 7) + _turned(lanes[2], 12) + _turned(lanes[3], 18)
    for lane in lanes:
        found = (found ^ (_turned(lane * _P2, 31) * _P1)) * _P1 + _P4
    return found, at


def _with_word(found: Hashes, words: Hashes) -> Hashes:
    return _turned(found ^ (_turned(words * _P2, 31) * _P1), 27) * _P1 + _P4


def _with_int(found: Hashes, values: Hashes) -> Hashes:
    return _turned(found ^ (values * _P1), 23) * _P2 + _P3


def _turned(values: Hashes, by: int) -> Hashes:
    return (values << np.uint64(by)) | (values >> np.uint64(64 - by))


def _mixed(found: Hashes) -> Hashes:
    found = (found ^ (found >> np.uint64(33))) * _P2
    found = (found ^ (found >> np.uint64(29))) * _P3
    return found ^ (found >> np.uint64(32))
