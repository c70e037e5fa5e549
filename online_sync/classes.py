"""What rows online are beside those of the lake, byte for byte."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from online_sync import checks
from online_sync.checks import Sampled
from online_sync.codec import FLAGS, CodecError, EpochRecord, RowSchema, decode, is_tombstone, same_content, written_by
from online_sync.servers import KEYS_PER_CALL
from online_sync.store import Store

Class = Literal["equal", "older", "newer", "other", "missing", "extra"]
CLASSES: tuple[Class, ...] = ("equal", "older", "newer", "other", "missing", "extra")
"""What a row online is beside the lake's: of an older or a newer time, of the same but with other values, not there, or of nobody."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many rows were compared with what is online, and how many of them are of each class."""

    compared: int
    equal: int
    older: int = 0
    newer: int = 0
    other: int = 0
    missing: int = 0

    @property
    def holds(self) -> bool:
        """Whether every row is as it should be."""
        return self.equal == self.compared


def sampled(rows: pa.Table, *, count: int, seed: int) -> pa.Table:
    """So many rows, chosen by a seed; all where there are no more."""
    if len(rows) <= count:
        return rows
    return rows.take(pa.array(np.sort(np.random.default_rng(seed).choice(len(rows), count, replace=False))))


def of_rows(packed: Sequence[tuple[str, bytes]], record: EpochRecord, store: Store) -> Agreement:
    """Compare packed rows of the lake with what lies under their keys."""
    return counted(_classes(packed, record, store))


def of_hashes(sample: Sequence[Sampled], record: EpochRecord, store: Store) -> Agreement:
    """Compare what is remembered of rows, the hashes of their contents, with what lies under their keys."""
    held = store.mget([each.key for each in sample])
    return counted(_class_by_hash(each, row, record) for each, row in zip(sample, held, strict=True))


def counted(found: Iterable[Class]) -> Agreement:
    """How many there are of each class."""
    counts = Counter(found)
    return Agreement(counts.total(), **{name: counts[name] for name in CLASSES if name != "extra"})


def epoch_of(held: bytes) -> int:
    """The epoch of a row; -1 of what is none."""
    try:
        return written_by(held)[0]
    except CodecError:
        return -1


def _classes(packed: Sequence[tuple[str, bytes]], record: EpochRecord, store: Store) -> Iterator[Class]:
    for start in range(0, len(packed), KEYS_PER_CALL):
        some = packed[start : start + KEYS_PER_CALL]
        for (_, wanted), held in zip(some, store.mget([key for key, _ in some]), strict=True):
            yield _class(wanted, held, record)


def _class(wanted: bytes, held: bytes | None, record: EpochRecord) -> Class:
    """How a row that lies there compares with the lake's; one that readers take for absent is missing."""
    if held is None or epoch_of(held) < record.floor:
        return "equal" if is_tombstone(wanted) else "missing"
    if same_content(wanted, held) or (is_tombstone(wanted) and len(held) > FLAGS and is_tombstone(held)):
        return "equal"
    schema = RowSchema(record.columns)
    try:
        here, there = decode(schema, wanted).event_timestamp, decode(schema, held).event_timestamp
    except CodecError:
        return "other"
    return "older" if there < here else "newer" if there > here else "other"


def _class_by_hash(wanted: Sampled, held: bytes | None, record: EpochRecord) -> Class:
    if held is None or epoch_of(held) < record.floor:
        return "missing"
    return "equal" if checks.content(held) == wanted.content else "other"
