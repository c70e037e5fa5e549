"""The inner part of a sync, which Spark's executors run through `mapInArrow`: Arrow batches in, counts out.

A batch has the group's newest row per entity: the keys, `event_timestamp`, `empties_at`, `held`, `retracted` and the
feature columns. Rows with a null key are left out: such an entity is never asked for.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

import pyarrow as pa

from feature_definitions import layout
from feature_definitions.sql.data_types import element_of, is_array
from online_sync.codec import CodecError, Row, RowSchema, encode, same_content
from online_sync.store import ROWS_PER_WRITE, Store

_PATIENCE = 5.0

_Packed: TypeAlias = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class PushSpec:
    """What a partition needs to know to write its rows; it travels to the executors. `url` may hold a password."""

    url: str = field(repr=False)
    project: str
    group: str
    generation: int
    epoch: int
    keys: tuple[str, ...]
    schema: RowSchema


def push_batches(batches: Iterable[pa.RecordBatch], spec: PushSpec) -> Iterator[pa.RecordBatch]:
    """Write the rows that differ from what the store holds; one batch of counts: rows, written, unchanged, tombstones.

    What is neither written nor unchanged was refused, because a later epoch has begun. Doing it twice does no harm.
    """
    rows = written = unchanged = tombstones = 0
    with contextlib.closing(Store(spec.url, patience=_PATIENCE)) as store:
        for part in _parts(batches):
            packed, retracted = _packed(part, spec)
            changed = _changed(store, packed)
            written += store.put_rows(changed, project=spec.project, group=spec.group)
            rows, unchanged, tombstones = rows + len(packed), unchanged + len(packed) - len(changed), tombstones + retracted
    yield _counts(rows=rows, written=written, unchanged=unchanged, tombstones=tombstones)


def _parts(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for start in range(0, batch.num_rows, ROWS_PER_WRITE):
            yield batch.slice(start, ROWS_PER_WRITE)


def _changed(store: Store, packed: _Packed) -> _Packed:
    kept = store.mget([key for key, _ in packed])
    return [row for row, old in zip(packed, kept, strict=True) if old is None or not same_content(old, row[1])]


def _packed(part: pa.RecordBatch, spec: PushSpec) -> tuple[_Packed, int]:
    """The keys and bytes of the rows, and how many of them are tombstones."""
    keys = list(zip(*[_column(part, key).to_pylist() for key in spec.keys], strict=True))
    times = [_converted(part, name, "timestamp") for name in ("event_timestamp", "empties_at")]
    marks = [_column(part, name).to_pylist() for name in ("held", "retracted")]
    values = zip(*[_converted(part, name, data_type) for name, data_type in spec.schema.columns], strict=True)
    packed, tombstones = [], 0
    for key, at, empties_at, held, retracted, row in zip(keys, *times, *marks, values, strict=True):
        if None in key:
            continue
        if at is None:
            raise CodecError(f"a row of {spec.group} has no event_timestamp")
        entity = layout.row_key(spec.project, spec.group, spec.generation, layout.entity_text(key))
        stored = Row(
            event_timestamp=at, empties_at=empties_at, held=bool(held), tombstone=bool(retracted), epoch=spec.epoch, values=tuple(row)
        )
        packed.append((entity, encode(spec.schema, stored)))
        tombstones += stored.tombstone
    return packed, tombstones


def _converted(part: pa.RecordBatch, name: str, data_type: str) -> list[Any]:
    return _stored(_column(part, name), data_type)


def _stored(column: pa.Array, data_type: str) -> list[Any]:
    """The values as a packed row holds them."""
    if is_array(data_type):
        elements = iter(_stored(column.flatten(), element_of(data_type)))
        return [None if length is None else tuple(islice(elements, length)) for length in column.value_lengths().to_pylist()]
    if data_type == "timestamp":
        column = column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None))).cast(pa.int64())
    elif data_type == "date":
        column = column.cast(pa.date32()).cast(pa.int32())
    elif data_type == "double":
        column = column.cast(pa.float64())
    elif data_type.startswith("decimal("):
        return [None if value is None else format(value, "f") for value in column.to_pylist()]
    return list(column.to_pylist())


def _column(part: pa.RecordBatch, name: str) -> pa.Array:
    if name not in part.schema.names:
        raise CodecError(f"the rows to sync have no column {name!r}; they have {', '.join(part.schema.names)}")
    return part.column(name)


def _counts(**counts: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({name: pa.array([count], pa.int64()) for name, count in counts.items()})
