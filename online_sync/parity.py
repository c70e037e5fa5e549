"""Parity: whether what lies online is, byte for byte, what the lake says that the last sync had to bring."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import pyarrow as pa

from feature_definitions import layout
from feature_definitions.errors import UserError
from feature_definitions.intervals import instant
from feature_definitions.records import Epoch
from lake import newest
from lake.readable import Published
from online_sync import classes, packing, sync
from online_sync.classes import Agreement
from online_sync.codec import EpochRecord, RowSchema, is_tombstone
from online_sync.store import Store
from online_sync.sync import Target

_LEAST, _SHARE = 10_000, 100
"""A sample has so many rows at least, and one of so many."""
_SOME = 500
"""Rows that are compared after each sync, at most: as many as one call asks for."""
_FEW_VALUES, _FEW_FILES = 500_000, 1_000
"""Values of a group that are read from the lake for that, and files, at most."""

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


def measure(
    published: Published, *, target: Target, scope: Scope, last: Epoch | None = None, erased: Collection[str] = ()
) -> Parity | None:
    """Compare a group's rows online with what its last sync had to bring: a sample, or all, and then also whose rows lie there besides.

    The `last` finished sync is that of the registry, where the store has lost it. Of the `erased` entities (by `entity_text`) nothing may
    lie there.

    None if no sync of the generation has finished. A group that no memory of one process holds is left to `sync --verify`.
    """
    group = published.group
    with target.store() as store:
        held = store.read_epoch(target.space, group.name)
        record = _brought(held, published, target, last)
        if record is None or record.generation != published.generation:
            return None
        if not sync.is_in_memory(published):
            raise NotComparable(
                f"{group.name} has more rows than one process compares; have Spark compare and repair them: "
                f"headwater sync --verify {group.name}"
            )
        rows = newest.newest(published, now=instant(record.synced_at))
        chosen = rows if scope == "full" else classes.sampled(rows, count=max(_LEAST, len(rows) // _SHARE), seed=record.epoch)
        found = _found(chosen, record, tuple(group.entity.keys), erased, store=store)
        extra = _extra(rows, record, tuple(group.entity.keys), store) if scope == "full" else 0
        if store.read_epoch(target.space, group.name) != held:
            raise NotComparable(f"a sync of {group.name} began while its rows were compared; try again")
    return Parity(group.name, published.generation, record.epoch, len(rows), **asdict(found), extra=extra)


def _brought(held: EpochRecord | None, published: Published, target: Target, last: Epoch | None) -> EpochRecord | None:
    """The record of the last sync, by the store or, where that has lost it, by the registry; readers see no row without a record."""
    finished = None if held is None or not held.epoch else held
    if last is None or (finished is not None and (finished.epoch >= last.epoch or finished.generation != last.generation)):
        return finished
    floor, group = last.epoch + 1 if finished is None else finished.floor, published.group
    empty = (None,) * len(group.outputs) if group.keeps_rows else ()
    return replace(sync.record_of(published, target, epoch=last.epoch, now=last.synced_at, empty=empty), floor=floor)


def after(published: Published, *, target: Target, epoch: int, erased: Collection[str] = ()) -> Agreement | None:
    """Compare some rows of a group with what a sync had to bring, just after it; None if a later one has begun.

    They are read from the lake where the group has few rows in few files. Of others it is remembered what the lake's rows were when they
    were written.
    """
    group = published.group
    with target.store() as store:
        record, looked = store.read_epoch(target.space, group.name), store.looked(target.space, group.name)
        if record is None or looked is None or not record.epoch == record.begun == looked.epoch == epoch:
            return None
        if newest.size(published) <= _FEW_VALUES and newest.files(published) <= _FEW_FILES:
            rows = classes.sampled(newest.newest(published, now=instant(record.synced_at)), count=_SOME, seed=epoch)
            found = _found(rows, record, tuple(group.entity.keys), erased, store=store)
        else:
            found = classes.of_hashes(looked.sample[:_SOME], record, store)
        return found if store.read_epoch(target.space, group.name) == record else None


def _found(rows: pa.Table, record: EpochRecord, keys: tuple[str, ...], erased: Collection[str], *, store: Store) -> Agreement:
    """How rows of the lake compare with what lies online."""
    return classes.of_rows(packing.packed(rows, record, keys, RowSchema(record.columns), erased).rows, record, store)


def _extra(rows: pa.Table, record: EpochRecord, keys: Sequence[str], store: Store) -> int:
    """How many live rows of the generation lie there of which the lake knows nothing."""
    known, extra = set(packing.keys_of(rows, record, keys)), 0
    head = layout.row_key(record.space, record.group, record.generation, "").removesuffix("}")
    for found in store.keys(layout.online_keys(record.project)):
        strange = [key for key in set(found) - known if key.startswith(head)]
        known.update(strange)
        extra += sum(held is not None and classes.epoch_of(held) >= record.floor and not is_tombstone(held) for held in store.mget(strange))
    return extra
