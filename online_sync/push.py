"""The inner part of a sync, which Spark's executors run through `mapInArrow`: Arrow batches in, counts out.

A batch has the group's newest row per entity: the keys, `event_timestamp`, `empties_at`, `held`, `retracted`,
`publish_id` and the feature columns. Rows with a null key are left out: such an entity is never asked for.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from feature_definitions import layout
from feature_definitions.sql.data_types import element_of, is_array
from online_sync import checks
from online_sync.checks import Sampled
from online_sync.codec import CodecError, EpochRecord, Row, RowSchema, decode_epoch, encode, same_content, written_by
from online_sync.servers import KEYS_PER_CALL
from online_sync.store import Store, is_under_way

_PATIENCE = 5.0

_Packed: TypeAlias = list[tuple[str, bytes]]

COUNTS = ("rows", "written", "unchanged", "tombstones", "gone", "others", "ahead")
"""What is counted; `ahead` is no count, but the greatest epoch of a row that was met, if that is greater than the sync's own."""


@dataclass(frozen=True, slots=True)
class PushSpec:
    """What a partition needs to know to write its rows; it travels to the executors. `url` may hold a password.

    `record` is what the sync publishes at its end. `seen` is the greatest id of a publish that the last sync saw.
    """

    url: str = field(repr=False)
    record: EpochRecord
    keys: tuple[str, ...]
    schema: RowSchema
    seen: str = ""


def push_batches(batches: Iterable[pa.RecordBatch], spec: PushSpec) -> Iterator[pa.RecordBatch]:
    """Write the rows that differ from what the store holds; one batch of counts (`COUNTS`), and a sample of the rows as JSON.

    Of what the last sync saw already, `gone` is no longer there and `others` are not what they should be. It ends early, with what was
    done until then, once a later sync has begun. Doing it twice does no harm.
    """
    counts, sampled = Counter[str](), list[Sampled]()
    with contextlib.closing(Store(spec.url, patience=_PATIENCE)) as store:
        for part in _parts(batches):
            packed, seen, tombstones = _packed(part, spec)
            found = _pushed(packed, seen, store, spec)
            if found is None:
                break
            sampled = checks.sample(sampled, packed, epoch=spec.record.epoch)
            found["tombstones"] = tombstones
            ahead = max(counts["ahead"], found["ahead"])
            counts += found
            counts["ahead"] = ahead
    columns = {name: pa.array([counts[name]], pa.int64()) for name in COUNTS}
    yield pa.RecordBatch.from_pydict({**columns, "sample": pa.array([json.dumps(sampled)])})


def _pushed(packed: _Packed, seen: Sequence[bool], store: Store, spec: PushSpec) -> Counter[str] | None:
    """Write some rows; None if a later sync has begun."""
    record, *kept = store.mget([layout.epoch_key(spec.record.space, spec.record.group), *[key for key, _ in packed]])
    if record is None or not is_under_way(spec.record, decode_epoch(record)):
        return None
    states = [_state(old, row, spec.record) for (_, row), old in zip(packed, kept, strict=True)]
    changed = [row for row, state in zip(packed, states, strict=True) if state != "same"]
    lost = Counter(state for state, known in zip(states, seen, strict=True) if known)
    return Counter(
        rows=len(packed), written=store.put_rows(changed), unchanged=states.count("same"),
        gone=lost["gone"], others=lost["other"], ahead=max((each for each in map(_epoch, kept) if each > spec.record.epoch), default=0),
    )  # fmt: skip


def _state(old: bytes | None, new: bytes, record: EpochRecord) -> Literal["gone", "other", "rewritten", "same"]:
    """How what lies there compares with what should; a row that counts for nothing, though it says the same, is rewritten."""
    if old is None:
        return "gone"
    if not same_content(old, new):
        return "other"
    return "same" if _epoch(old) >= record.floor else "rewritten"


def _epoch(old: bytes | None) -> int:
    """The epoch of a row that lies there; -1 of what is none."""
    try:
        return -1 if old is None else written_by(old)[0]
    except CodecError:
        return -1


def _parts(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for start in range(0, batch.num_rows, KEYS_PER_CALL):
            yield batch.slice(start, KEYS_PER_CALL)


def _packed(part: pa.RecordBatch, spec: PushSpec) -> tuple[_Packed, list[bool], int]:
    """The keys and bytes of the rows, which of them the last sync saw, and how many of them are tombstones."""
    keys = list(zip(*[_column(part, key).to_pylist() for key in spec.keys], strict=True))
    times = [_converted(part, name, "timestamp") for name in ("event_timestamp", "empties_at")]
    marks = [_column(part, name).to_pylist() for name in ("held", "retracted", "publish_id")]
    values = zip(*[_converted(part, name, data_type) for name, data_type in spec.schema.columns], strict=True)
    record, packed, seen, tombstones = spec.record, [], [], 0
    for key, at, empties_at, held, retracted, publish_id, row in zip(keys, *times, *marks, values, strict=True):
        if None in key:
            continue
        if at is None:
            raise CodecError(f"a row of {record.group} has no event_timestamp")
        entity = layout.row_key(record.space, record.group, record.generation, layout.entity_text(key))
        stored = Row(
            event_timestamp=at, empties_at=empties_at, held=bool(held), tombstone=bool(retracted), epoch=record.epoch, values=tuple(row)
        )
        packed.append((entity, encode(spec.schema, stored)))
        seen.append(publish_id is not None and publish_id <= spec.seen)
        tombstones += stored.tombstone
    return packed, seen, tombstones


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
