"""The inner part of a sync, in this process or in Spark's workers (`mapInArrow`): Arrow batches in, counts out.

A batch has the group's newest row per entity: what `packing` packs, and the `publish_id`.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_definitions import layout
from online_sync import checks, packing, turns
from online_sync.checks import Sampled
from online_sync.codec import CodecError, EpochRecord, RowSchema, decode_epoch, is_tombstone, written_by
from online_sync.packing import Numbers, Packed
from online_sync.servers import KEYS_PER_CALL
from online_sync.store import GONE, LATER, OLDER, OTHER, SAME, UNSURE, WRITTEN, Rule, Store, is_under_way

_AT_ONCE = 16 * KEYS_PER_CALL
"""Rows that are packed and written together: enough that whole columns pay, few enough that they stay in the processor's cache."""

COUNTS = ("rows", "written", "unchanged", "tombstones", "gone", "others", "older", "ahead")
"""What is counted; `ahead` is no count, but the greatest epoch of a row that was met, if that is greater than the sync's own."""


@dataclass(frozen=True, slots=True)
class PushSpec:
    """What a partition needs to know to write its rows; it travels to the executors. `url` may hold a password.

    `record` is what the sync publishes at its end. `seen` is the greatest id of a publish that the last sync saw. `runs` are those of the
    server that the sync began with: no other one is written to. Of the keys that are `watched` it is told what lies there afterwards. Of
    those that are `erased`, by their `entity_text`, tombstones are written.
    """

    url: str = field(repr=False)
    record: EpochRecord
    keys: tuple[str, ...]
    schema: RowSchema
    seen: str = ""
    rule: Rule = "replace"
    runs: frozenset[str] | None = None
    watched: frozenset[str] = frozenset()
    erased: frozenset[str] = frozenset()


class Pushed(NamedTuple):
    """What was done with rows: counts, a sample of them, the keys of which the lake must be asked (by the rule `unless older`), and the
    content of the rows that are watched, by their keys; None of one that a tombstone took the place of.
    """

    counts: Counter[str]
    sample: list[Sampled]
    unsure: list[str]
    watched: dict[str, str | None]


def push_batches(batches: Iterable[pa.RecordBatch], spec: PushSpec) -> Iterator[pa.RecordBatch]:
    """What `push` does, told as one batch: counts (`COUNTS`), and a sample of the rows as JSON."""
    with contextlib.closing(Store(spec.url, runs=spec.runs)) as store:
        done = push(batches, spec, store=store)
    columns = {name: pa.array([done.counts[name]], pa.int64()) for name in COUNTS}
    yield pa.RecordBatch.from_pydict({**columns, "sample": pa.array([json.dumps(done.sample)])})


def push(batches: Iterable[pa.RecordBatch | pa.Table], spec: PushSpec, *, store: Store) -> Pushed:
    """Write the rows that differ from what the store holds.

    Of what the last sync saw already, `gone` is no longer there and `others` are not what they should be. It ends early, with what was
    done until then, once a later sync has begun. Doing it twice does no harm.
    """
    done = Pushed(Counter(), [], [], {})
    with turns.short():
        for part in _parts(batches):
            packed = packing.packed(part, spec.record, spec.keys, spec.schema, spec.erased)
            if not _is_under_way(store, spec.record):
                return done
            letters = store.put_rows(packed.rows, rule=spec.rule, floor=spec.record.floor)
            _count(done, packed.rows, letters, _seen(part, packed, spec))
            _look(done, _lying(packed.rows, letters), spec)
            done.counts["ahead"] = max(done.counts["ahead"], _ahead(store, packed.rows, letters))
            done.counts["tombstones"] += packed.tombstones
    return done


def _lying(rows: list[tuple[str, bytes]], letters: str) -> list[tuple[str, bytes]]:
    """Those of the rows that lie in the store now."""
    there = {*WRITTEN, SAME}
    return rows if there.issuperset(letters) else [row for row, letter in zip(rows, letters, strict=True) if letter in there]


def _look(done: Pushed, rows: list[tuple[str, bytes]], spec: PushSpec) -> None:
    """Note what the next sync looks at again; tombstones go by themselves, so they are not among it."""
    live = [(key, row) for key, row in rows if not is_tombstone(row)]
    done.sample[:] = checks.sample(done.sample, live, epoch=spec.record.epoch)
    if spec.watched:
        told = ((key, None if is_tombstone(row) else checks.content(row)) for key, row in rows if key in spec.watched)
        done.watched.update(told)


def _is_under_way(store: Store, record: EpochRecord) -> bool:
    [kept] = store.mget([layout.epoch_key(record.space, record.group)])
    return kept is not None and is_under_way(record, decode_epoch(kept))


def _count(done: Pushed, rows: list[tuple[str, bytes]], letters: str, seen: Numbers) -> None:
    """Add what was done with some rows, by the letters that the store says of them."""
    said = np.frombuffer(letters.encode(), np.uint8)
    counts, known = done.counts, said[seen]
    counts["rows"] += len(rows)
    counts["written"] += sum(letters.count(each) for each in WRITTEN)
    counts["unchanged"] += letters.count(SAME)
    counts["older"] += letters.count(OLDER)
    counts["new"] += letters.count(GONE)
    counts["gone"] += int((known == ord(GONE)).sum())
    counts["others"] += int((known == ord(OTHER)).sum())
    if UNSURE in letters:
        done.unsure.extend(key for (key, _), letter in zip(rows, letters, strict=True) if letter == UNSURE)


def _ahead(store: Store, rows: list[tuple[str, bytes]], letters: str) -> int:
    """The greatest epoch of rows of later epochs that lie there; 0 if there are none."""
    keys = [key for (key, _), letter in zip(rows, letters, strict=True) if letter == LATER] if LATER in letters else []
    parts = (keys[start : start + KEYS_PER_CALL] for start in range(0, len(keys), KEYS_PER_CALL))
    return max((_epoch(kept) for part in parts for kept in store.mget(part)), default=0)


def _epoch(kept: bytes | None) -> int:
    """The epoch of a row that lies there; -1 of what is none."""
    try:
        return -1 if kept is None else written_by(kept)[0]
    except CodecError:
        return -1


def _seen(part: pa.RecordBatch | pa.Table, packed: Packed, spec: PushSpec) -> Numbers:
    """Which of the packed rows the last sync saw."""
    if "publish_id" not in part.schema.names:
        raise CodecError(f"the rows to sync have no column 'publish_id'; they have {', '.join(part.schema.names)}")
    known = pc.fill_null(pc.less_equal(part.column("publish_id"), spec.seen), False)
    whole: Numbers = np.asarray(known.to_numpy(zero_copy_only=False) if isinstance(known, pa.Array) else known.to_numpy())
    return whole[packed.places]


def _parts(batches: Iterable[pa.RecordBatch | pa.Table]) -> Iterator[pa.RecordBatch | pa.Table]:
    for batch in batches:
        for start in range(0, batch.num_rows, _AT_ONCE):
            yield batch.slice(start, _AT_ONCE)
