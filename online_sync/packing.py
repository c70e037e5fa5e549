"""Rows of Arrow as packed rows, whole columns at a time: the bytes are those that `codec.encode` writes row by row.

A batch has the keys, `event_timestamp`, `empties_at`, `held`, `retracted` and the feature columns. Rows with a null key are left out: such
an entity is never asked for. Of a value only those of arrays become Python objects.
"""

import re
from collections.abc import Collection, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_definitions import layout
from feature_definitions.sql.data_types import element_of, is_array, is_decimal
from online_sync import codec, wire
from online_sync.codec import HELD, NEVER, TOMBSTONE, CodecError, EpochRecord, RowSchema

Numbers = np.ndarray[Any, Any]

_PLAIN = re.compile(r"[A-Za-z0-9_.~ :@/+,-]*")
"""Texts that `entity_text` leaves as they are."""
_TEXT_TAG = 0x4A


class Packed(NamedTuple):
    """The keys and bytes of rows, which of a batch's rows they are, and how many of them are tombstones."""

    rows: list[tuple[str, bytes]]
    places: Numbers
    tombstones: int


class _Varying(NamedTuple):
    """Bytes of different lengths, one of each row; `tagged` where a text's tag and length must still be written before them."""

    data: Numbers
    lengths: Numbers
    tagged: bool


def packed(
    batch: pa.RecordBatch | pa.Table, record: EpochRecord, keys: Sequence[str], schema: RowSchema, erased: Collection[str] = ()
) -> Packed:
    """The rows of a batch that belong to somebody, as the store holds them; those of the `erased` (by `entity_text`) say nothing."""
    part = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
    nobody = np.zeros(len(part), bool)
    for key in keys:
        nobody |= _nulls(_column(part, key))
    places = np.flatnonzero(~nobody)
    if nobody.any():
        part = part.take(pa.array(places))
    if not len(part):
        return Packed([], places, 0)
    named = _keys(part, record, keys)
    if erased:
        told = [layout.row_key(record.space, record.group, record.generation, entity) for entity in sorted(erased)]
        part = _blank(part, pc.is_in(named, value_set=pa.array(told, pa.string())))
    flags = HELD * _truths(part, "held") + TOMBSTONE * _truths(part, "retracted")
    found = _bytes(part, schema, record, flags)
    return Packed(list(zip(named.to_pylist(), found, strict=True)), places, int((flags >= TOMBSTONE).sum()))


def _blank(part: pa.Table, erased: pa.Array) -> pa.Table:
    """Rows of which the erased ones are taken back, and hold nothing but keys and time."""
    if not pc.any(erased).as_py():
        return part
    kept = {"event_timestamp", "publish_id"}
    columns = {name: _column(part, name) for name in part.column_names}
    blank = {name: pc.if_else(erased, pa.scalar(None, each.type), each) for name, each in columns.items() if name not in kept}
    own = {"held": pc.and_(_filled(columns["held"]), pc.invert(erased)), "retracted": pc.or_(_filled(columns["retracted"]), erased)}
    return pa.table(columns | blank | own)


def _filled(truths: pa.Array) -> pa.Array:
    return pc.fill_null(truths, False)


def keys_of(part: pa.Table, record: EpochRecord, keys: Sequence[str]) -> list[str]:
    """The store's key of each row; none has a null key."""
    found: list[str] = _keys(part, record, keys).to_pylist()
    return found


def _keys(part: pa.Table, record: EpochRecord, keys: Sequence[str]) -> pa.Array:
    head = layout.row_key(record.space, record.group, record.generation, "").removesuffix("}")
    texts = [_escaped(_column(part, key)) for key in keys]
    joined = texts[0] if len(texts) == 1 else pc.binary_join_element_wise(*texts, "|")
    return pc.binary_join_element_wise(head, joined, "}", "")


def _escaped(column: pa.Array) -> pa.Array:
    """A key's values as `entity_text` spells each."""
    if pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
        return column.cast(pa.string())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        distinct = column.dictionary_encode()
        texts = distinct.dictionary.to_pylist()
        if all(map(_PLAIN.fullmatch, texts)):
            return column.cast(pa.string())
        return pa.array([layout.entity_text((text,)) for text in texts], pa.string()).take(distinct.indices)
    return pa.array([layout.entity_text((value,)) for value in column.to_pylist()], pa.string())


# ------------------------------------------------------------------------------------------------------------------------- bytes


def _bytes(part: pa.Table, schema: RowSchema, record: EpochRecord, flags: Numbers) -> list[bytes]:
    columns = {name: _column(part, name) for name, _ in schema.columns}
    fixed = _fixed(part, schema, record, flags, columns)
    size, whole = fixed.shape[1], fixed.tobytes()
    starts = range(0, len(whole), size)
    shape = codec.shape_of(schema)
    kinds = [schema.columns[i] for i in (*shape.texts, *(i for i, *_ in shape.arrays))]
    if not kinds:
        return [whole[start : start + size] for start in starts]
    data, ends = _varying([_pieces(columns[name], data_type) for name, data_type in kinds], len(part))
    bounds = zip(starts, [0, *ends[:-1]], ends, strict=True)
    return [whole[start : start + size] + data[begin:end] for start, begin, end in bounds]


def _fixed(part: pa.Table, schema: RowSchema, record: EpochRecord, flags: Numbers, columns: dict[str, pa.Array]) -> Numbers:
    """What has a fixed size of all rows: one line of bytes each."""
    shape, names = codec.shape_of(schema), [name for name, _ in schema.columns]
    at = _column(part, "event_timestamp")
    if at.null_count:
        raise CodecError(f"a row of {record.group} has no event_timestamp")
    empty = codec.template(schema, epoch=record.epoch)
    lines = np.empty((len(part), len(empty)), np.uint8)
    lines[:] = np.frombuffer(empty, np.uint8)
    lines[:, 1:9] = _lines(_whole(at, "timestamp"))
    lines[:, 10:18] = _lines(_whole(_column(part, "empties_at"), "timestamp", null=NEVER))
    lines[:, codec.FLAGS] = flags
    nulls = np.stack([_nulls(columns[name]) for name in names], axis=1)
    first = shape.nulls_at
    lines[:, first : first + shape.nulls] = np.packbits(nulls, axis=1, bitorder="little")
    for section, begin in ((shape.doubles, shape.doubles_at), (shape.integers, shape.integers_at)):
        if section:
            numbers = [_whole(columns[names[i]], schema.columns[i][1]) for i in section]
            lines[:, begin : begin + 8 * len(section)] = _lines(np.stack(numbers, axis=1))
    return lines


def _lines(numbers: Numbers) -> Numbers:
    """Numbers of eight bytes each as bytes, those of a row in one line."""
    little = np.ascontiguousarray(numbers, numbers.dtype.newbyteorder("<"))
    return little.view(np.uint8).reshape(len(numbers), -1)


def _whole(column: pa.Array, data_type: str, *, null: int = 0) -> Numbers:
    """A column as numbers of eight bytes: doubles, or what is stored as an integer."""
    if data_type == "double":
        doubles: Numbers = pc.fill_null(column.cast(pa.float64()), float(null)).to_numpy(zero_copy_only=False)
        return doubles
    if data_type == "timestamp":
        column = column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None)))
    elif data_type == "date":
        column = column.cast(pa.date32()).cast(pa.int32())
    numbers: Numbers = pc.fill_null(column.cast(pa.int64()), null).to_numpy(zero_copy_only=False)
    return numbers


# ----------------------------------------------------------------------------------------------------------------------- varying


def _pieces(column: pa.Array, data_type: str) -> _Varying:
    """The bytes of each value of a text or an array."""
    if is_array(data_type):
        section = codec.section_of(data_type)
        values = pa.array([wire.array(value, section) for value in stored(column, data_type)], pa.large_binary())
        return _Varying(*_raw(values), tagged=False)
    texts = _decimals(column) if is_decimal(data_type) else column.cast(pa.large_string())
    return _Varying(*_raw(pc.fill_null(texts, "").cast(pa.large_binary())), tagged=True)


def _decimals(column: pa.Array) -> pa.Array:
    """Decimals as texts; Arrow writes very small ones with an exponent, which we never do."""
    texts = column.cast(pa.large_string())
    small = pc.fill_null(pc.match_substring(texts, "E"), False)
    if not pc.any(small).as_py():
        return texts
    plain = [format(value, "f") for value in column.filter(small).to_pylist()]
    return pc.replace_with_mask(texts, small, pa.array(plain, pa.large_string()))


def _raw(values: pa.Array) -> tuple[Numbers, Numbers]:
    """The bytes of a column without nulls, one value after the other, and the length of each."""
    _, offsets, data = values.buffers()
    bounds = np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1]
    whole = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return whole[bounds[0] : bounds[-1]], np.diff(bounds)


def _varying(pieces: Sequence[_Varying], count: int) -> tuple[bytes, list[int]]:
    """The pieces of each row one after the other, for all rows; and where each row ends."""
    heads = [_head_size(piece.lengths) if piece.tagged else np.zeros(count, np.int64) for piece in pieces]
    sizes = sum(head + piece.lengths for head, piece in zip(heads, pieces, strict=True))
    ends = np.cumsum(sizes)
    out, at = np.zeros(int(ends[-1]), np.uint8), ends - sizes
    for head, piece in zip(heads, pieces, strict=True):
        if piece.tagged:
            _write_heads(out, at, piece.lengths)
        at = at + head
        shifts = at - (np.cumsum(piece.lengths) - piece.lengths)
        out[np.repeat(shifts, piece.lengths) + np.arange(len(piece.data))] = piece.data
        at = at + piece.lengths
    return out.tobytes(), ends.tolist()


def _head_size(lengths: Numbers) -> Numbers:
    """How many bytes a text's tag and its length take."""
    size = np.full(len(lengths), 2, np.int64)
    rest = lengths >> 7
    while rest.any():
        size += rest > 0
        rest = rest >> 7
    return size


def _write_heads(out: Numbers, at: Numbers, lengths: Numbers) -> None:
    """Write each text's tag and, seven bits a byte, its length."""
    out[at] = _TEXT_TAG
    at, rest = at + 1, lengths
    while len(rest):
        more = rest > 0x7F
        out[at] = rest & 0x7F | more * 0x80
        at, rest = at[more] + 1, rest[more] >> 7


def stored(column: pa.Array, data_type: str) -> list[Any]:
    """The values as a packed row holds them, each as a Python object."""
    if is_array(data_type):
        elements = iter(stored(column.flatten(), element_of(data_type)))
        return [None if length is None else tuple(islice(elements, length)) for length in column.value_lengths().to_pylist()]
    if is_decimal(data_type):
        return [None if value is None else format(value, "f") for value in column.to_pylist()]
    if data_type == "timestamp":
        column = column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None))).cast(pa.int64())
    elif data_type == "date":
        column = column.cast(pa.date32()).cast(pa.int32())
    elif data_type == "double":
        column = column.cast(pa.float64())
    return list(column.to_pylist())


# ----------------------------------------------------------------------------------------------------------------------- columns


def _column(part: pa.Table, name: str) -> pa.Array:
    if name not in part.column_names:
        raise CodecError(f"the rows to sync have no column {name!r}; they have {', '.join(part.column_names)}")
    whole = part.column(name).combine_chunks()
    return whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole


def _truths(part: pa.Table, name: str) -> Numbers:
    found: Numbers = pc.fill_null(_column(part, name), False).to_numpy(zero_copy_only=False).astype(np.uint8)
    return found


def _nulls(column: pa.Array) -> Numbers:
    found: Numbers = column.is_null().to_numpy(zero_copy_only=False)
    return found
