"""Checksums of columns that know no order: each value is hashed with its row's place, and the hashes are added up, modulo 2^64.

So tasks add up their own rows, in whatever files these lie, and a value that moved to another row is noticed. They tell what was changed or
damaged from what was not; they are no defence against somebody who wants them to agree. -0.0 and 0.0 are one value, and so are all NaN.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spark_jobs.training.summaries import Numbers, is_number, mixed

_ROWS, _BYTES = 65_536, 16 * 2**20
"""So many rows, and about so many bytes of them, are hashed at once."""
_NULL = np.uint64(0x6E756C6C6E756C6C)
_ODD = np.uint64(1)


def of_columns(rows: pa.Table, columns: Sequence[str], *, place: str) -> dict[str, int]:
    """The checksum of each column in some rows; `place` is the column of the rows' places."""
    found = dict.fromkeys(columns, 0)
    step = max(1, min(_ROWS, rows.num_rows * _BYTES // max(1, rows.nbytes)))
    for first in range(0, rows.num_rows, step):
        part = rows.slice(first, step)
        places = mixed(_plain(part.column(place), pa.int64()))
        for name in columns:
            hashed = mixed(_hashes(_whole(part.column(name))) ^ places)
            found[name] = wrapped(found[name] + int(np.sum(hashed, dtype=np.uint64)))
    return found


def wrapped(total: int) -> int:
    """A sum modulo 2^64, as the signed number that Arrow and Spark hold."""
    return (total + 2**63) % 2**64 - 2**63


def text(total: int) -> str:
    """A checksum as a manifest spells it."""
    return f"{total % 2**64:016x}"


def whole(rows: int, columns: Mapping[str, tuple[str, str]]) -> str:
    """The checksum of a table: of its columns, by name with their types and checksums, and of how many rows there are."""
    said = json.dumps([rows, sorted((name, *each) for name, each in columns.items())])
    return hashlib.sha256(said.encode()).hexdigest()


def added(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The checksums of all rows by those of parts of them."""
    found: dict[str, int] = {}
    for part in parts:
        for name, total in part.items():
            found[name] = wrapped(found.get(name, 0) + total)
    return found


# -------------------------------------------------------------------------------------------------------------------------- values


def _whole(column: pa.ChunkedArray) -> pa.Array:
    held = column.combine_chunks()
    return pa.concat_arrays(held.chunks) if isinstance(held, pa.ChunkedArray) else held


def _plain(column: pa.ChunkedArray, kind: pa.DataType) -> Numbers:
    found: Numbers = _whole(column).cast(kind).fill_null(0).to_numpy(zero_copy_only=False)
    return found


def _hashes(values: pa.Array) -> Numbers:
    """The hash of each value."""
    found = _of_type(values)
    if values.null_count:
        found = np.where(values.is_null().to_numpy(zero_copy_only=False), _NULL, found)
    return found


def _of_type(values: pa.Array) -> Numbers:
    kind = values.type
    if pa.types.is_dictionary(kind):
        return _of_type(values.dictionary_decode())
    if pa.types.is_null(kind):
        return np.full(len(values), _NULL)
    if pa.types.is_floating(kind):
        return mixed(values.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False) + 0.0)
    if pa.types.is_date32(kind):
        return mixed(values.cast(pa.int32()).cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False))
    if pa.types.is_timestamp(kind):
        micros = values.cast(pa.timestamp("us", tz=kind.tz)).cast(pa.int64())
        return mixed(micros.fill_null(0).to_numpy(zero_copy_only=False))
    if is_number(kind) and not pa.types.is_decimal(kind):
        return mixed(values.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _combined(_hashes(values.flatten()), pc.list_value_length(values))
    return _of_bytes(values if _is_text(kind) else _written(values))


def _is_text(kind: pa.DataType) -> bool:
    return any(is_kind(kind) for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary))


def _written(values: pa.Array) -> pa.Array:
    """Values of any other type as text."""
    if pa.types.is_decimal(values.type) or pa.types.is_string_view(values.type):
        return values.cast(pa.large_string())
    return pa.array([None if value is None else repr(value) for value in values.to_pylist()], pa.large_string())


def _of_bytes(values: pa.Array) -> Numbers:
    held = values.cast(pa.large_binary()).fill_null(b"")
    _, offsets, data = held.buffers()
    ends = np.frombuffer(offsets, np.int64)[held.offset : held.offset + len(held) + 1]
    signs = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]] if data is not None and len(held) else np.zeros(0, np.uint8)
    return _combined(signs.astype(np.uint64) + _ODD, pa.array(np.diff(ends)))


def _combined(parts: Numbers, lengths: pa.Array) -> Numbers:
    """The hash of each run of parts, whose places in it count: a sum of products with odd numbers that are as good as random."""
    counts: Numbers = lengths.fill_null(0).cast(pa.int64()).to_numpy(zero_copy_only=False)
    filled = counts > 0
    firsts = np.cumsum(counts) - counts
    places = np.arange(len(parts)) - np.repeat(firsts, counts)
    factors = mixed(np.arange(int(counts.max(initial=0)))) | _ODD
    sums = np.zeros(len(counts), np.uint64)
    if filled.any():
        sums[filled] = np.add.reduceat(parts * factors[places], firsts[filled])
    return mixed(sums ^ mixed(counts))
