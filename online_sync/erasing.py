"""Erasure: an entity's row online becomes a tombstone without values at once, by a sync of its own that brings nothing else."""

import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from feature_definitions import layout
from feature_definitions.language import FeatureGroup
from feature_definitions.records import Epoch
from online_sync import checks, sync
from online_sync.codec import EpochRecord, Row, RowSchema, encode, is_tombstone, time_of
from online_sync.servers import KEYS_PER_CALL, Saying, StoreUnavailable
from online_sync.store import LATER, Store
from online_sync.sync import Target, Work

State = Literal["erased", "not online", "a sync runs"]


@dataclass(frozen=True, slots=True)
class Erased:
    """What was done in one group: its row is a tombstone since the epoch, nothing of the group was ever online, or a sync runs.

    Then the row is deleted, and another sync must follow, which overtakes the one that runs: that may still bring the row.
    """

    group: str
    state: State
    epoch: int | None = None


def erase(group: FeatureGroup, entity: str, *, target: Target, work: Work, beside: Iterable[str]) -> Erased:
    """Take away what lies online of an entity (an `entity_text`); its erasure is in the lake already, where later syncs find it.

    `beside` are the groups that are online: their next sync does not take the key that goes here for one that the store lost.
    """
    with target.store() as store:
        held = store.read_epoch(target.space, group.name)
        if held is None:
            return Erased(group.name, "not online")
        key, before = layout.row_key(target.space, group.name, held.generation, entity), store.says()
        try:
            made = _begun(held, work, store=store)
            buried = made is not None and _buried(key, made, work, store=store)
        except sync.SyncOutdated:
            made, buried = None, False
        except StoreUnavailable:
            store.unlink([key])  # a store that is full still deletes; the next sync leaves a tombstone
            raise
        if made is None or not buried:
            store.unlink([key])
            done = Erased(group.name, "a sync runs")
        else:
            done = Erased(group.name, "erased", made.epoch)
        _forget(key, done, target, {group.name, *beside}, before=before, store=store)
        return done


def withdraw(group: str, *, target: Target, beside: Iterable[str]) -> int:
    """Take a group that is to be offline from the online store, its record last; returns how many keys there were.

    `beside` are the groups that are online, whose next sync does not take these keys for some that the store lost.
    """
    with target.store() as store:
        if store.read_epoch(target.space, group) is None:
            return 0
        before = store.says()
        gone, after = store.withdraw(target.space, group), store.says()
        for other in sorted(beside):
            looked = checks.without_gone(store.looked(target.space, other), before, after)
            if looked is not None:
                store.put_looked(target.space, other, looked)
        return gone


def _begun(held: EpochRecord, work: Work, *, store: Store) -> EpochRecord | None:
    """The record of a sync that leaves all rows as they are but one; None where one runs, or was cut off, after which all are written."""
    if held.begun != held.epoch:
        return None
    made = store.begin_epoch(replace(held, epoch=work.epoch, by=secrets.token_hex(8)), check=sync.follows(held, held.group))
    return None if made.floor == made.epoch else made


def _buried(key: str, made: EpochRecord, work: Work, *, store: Store) -> bool:
    """Whether the key has a tombstone, and readers know of it; not where a later sync has begun."""
    begun_at = sync.begun(made, work)
    [row] = store.mget([key])
    nothing = (None,) * len(made.columns)
    tombstone = Row(0 if row is None else time_of(row), None, held=False, tombstone=True, epoch=made.epoch, values=nothing)
    if store.put_rows([(key, encode(RowSchema(made.columns), tombstone))], floor=made.floor) == LATER or not store.publish_epoch(made):
        return False
    ended_at = None if work.ledger is None else work.ledger.clock()
    if work.ledger is not None and work.last is not None:
        of = (made.group, made.generation, made.epoch, work.last.coverage, work.last.rows, 1, work.last.synced_at)
        work.ledger.remember(Epoch(*of, begun_at, ended_at))
    return True


def _forget(key: str, done: Erased, target: Target, groups: Iterable[str], *, before: Mapping[str, Saying], store: Store) -> None:
    """Leave the key out of what the next syncs of groups look at, which find everything else as it was."""
    after = store.says()
    for group in sorted(groups):
        looked = checks.without_gone(store.looked(target.space, group), before, after)
        if looked is not None:
            sample = tuple(each for each in looked.sample if each.key != key)
            epoch = looked.epoch if group != done.group or done.epoch is None else done.epoch
            store.put_looked(target.space, group, replace(looked, epoch=epoch, sample=sample))


def lies_online(group: FeatureGroup, erased: Collection[str], *, target: Target) -> bool:
    """Whether a row of an erased entity is online all the same: the store was away when it was erased."""
    with target.store() as store:
        held = store.read_epoch(target.space, group.name)
        if held is None:
            return False
        keys = [layout.row_key(target.space, group.name, held.generation, entity) for entity in sorted(erased)]
        parts = (keys[start : start + KEYS_PER_CALL] for start in range(0, len(keys), KEYS_PER_CALL))
        return any(row is not None and not is_tombstone(row) for part in parts for row in store.mget(part))
