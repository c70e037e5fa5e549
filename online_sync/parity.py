"""Parity: whether what lies online is, byte for byte, what the lake says that the last sync had to bring."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from feature_definitions import layout
from feature_definitions.errors import UserError
from feature_definitions.intervals import instant
from lake import newest
from lake.readable import Published
from online_sync import packing, sync
from online_sync.codec import FLAGS, TOMBSTONE, CodecError, EpochRecord, RowSchema, decode, same_content, written_by
from online_sync.servers import KEYS_PER_CALL
from online_sync.store import Store
from online_sync.sync import Target

Class = Literal["equal", "older", "newer", "other", "missing", "extra"]
CLASSES: tuple[Class, ...] = ("equal", "older", "newer", "other", "missing", "extra")
"""What a row online is beside the lake's: of an older or a newer time, of the same but with other values, not there, or of nobody."""

_LEAST, _SHARE = 10_000, 100
"""A sample has so many rows at least, and one of so many."""
_PATIENCE = 5.0

Scope = Literal["sample", "full"]


class NotComparable(UserError):
    """A group whose rows online cannot be compared with the lake's now."""


@dataclass(frozen=True, slots=True)
class Parity:
    """What a comparison of a group found: of which sync, of how many rows the lake has, and how many of the compared are of each class."""

    group: str
    generation: int
    epoch: int
    rows: int
    compared: int
    equal: int
    older: int
    newer: int
    other: int
    missing: int
    extra: int

    @property
    def share(self) -> float:
        """The share of rows that are equal, of those that were compared and those of nobody."""
        seen = self.compared + self.extra
        return self.equal / seen if seen else 1.0

    @property
    def holds(self) -> bool:
        """Whether every row is as it should be."""
        return self.equal == self.compared and not self.extra


def measure(published: Published, *, target: Target, scope: Scope) -> Parity | None:
    """Compare a group's rows online with what its last sync had to bring: a sample, or all, and then also whose rows lie there besides.

    None if no sync of the generation has finished. A group that no memory of one process holds is left to `sync --verify`.
    """
    group = published.group
    with contextlib.closing(Store(target.url, patience=_PATIENCE)) as store:
        record = store.read_epoch(target.space, group.name)
        if record is None or not record.epoch or record.generation != published.generation:
            return None
        if not sync.is_in_memory(published):
            raise NotComparable(
                f"{group.name} has more rows than one process compares; have Spark compare and repair them: "
                f"headwater sync --verify {group.name}"
            )
        rows = newest.newest(published, now=instant(record.synced_at))
        chosen = rows if scope == "full" else _sampled(rows, seed=record.epoch)
        packed = packing.packed(chosen, record, tuple(group.entity.keys), RowSchema(record.columns)).rows
        found = Counter(_classes(packed, record, store))
        extra = _extra(rows, record, tuple(group.entity.keys), store) if scope == "full" else 0
        if store.read_epoch(target.space, group.name) != record:
            raise NotComparable(f"a sync of {group.name} began while its rows were compared; try again")
    counts = {name: found[name] for name in CLASSES} | {"extra": extra}
    return Parity(group.name, published.generation, record.epoch, len(rows), len(packed), **counts)


def _sampled(rows: pa.Table, *, seed: int) -> pa.Table:
    count = max(_LEAST, len(rows) // _SHARE)
    if len(rows) <= count:
        return rows
    return rows.take(pa.array(np.sort(np.random.default_rng(seed).choice(len(rows), count, replace=False))))


def _classes(packed: Sequence[tuple[str, bytes]], record: EpochRecord, store: Store) -> Iterator[Class]:
    """The class of each row."""
    for start in range(0, len(packed), KEYS_PER_CALL):
        some = packed[start : start + KEYS_PER_CALL]
        for (_, wanted), held in zip(some, store.mget([key for key, _ in some]), strict=True):
            yield _class(wanted, held, record)


def _class(wanted: bytes, held: bytes | None, record: EpochRecord) -> Class:
    """How a row that lies there compares with the lake's; one that readers take for absent is missing."""
    if held is None or _epoch(held) < record.floor:
        return "equal" if _is_tombstone(wanted) else "missing"
    if same_content(wanted, held):
        return "equal"
    schema = RowSchema(record.columns)
    try:
        here, there = decode(schema, wanted).event_timestamp, decode(schema, held).event_timestamp
    except CodecError:
        return "other"
    return "older" if there < here else "newer" if there > here else "other"


def _extra(rows: pa.Table, record: EpochRecord, keys: Sequence[str], store: Store) -> int:
    """How many live rows of the generation lie there of which the lake knows nothing."""
    known, extra = set(packing.keys_of(rows, record, keys)), 0
    head = layout.row_key(record.space, record.group, record.generation, "").removesuffix("}")
    for found in store.keys(layout.online_keys(record.project)):
        strange = [key for key in set(found) - known if key.startswith(head)]
        known.update(strange)
        extra += sum(held is not None and _epoch(held) >= record.floor and not _is_tombstone(held) for held in store.mget(strange))
    return extra


def _epoch(held: bytes) -> int:
    """The epoch of a row; -1 of what is none."""
    try:
        return written_by(held)[0]
    except CodecError:
        return -1


def _is_tombstone(row: bytes) -> bool:
    return row[FLAGS] >= TOMBSTONE
