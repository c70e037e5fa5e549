"""Sync: the newest row of every entity of a group goes to the online store, then the epoch record that makes it known, last.

(Feast calls this step materialize.) Only rows whose bytes differ from what the store holds are written. Where something was published since
the last sync, only the intervals of which it was are read, and nothing where nothing was; all rows are where the store is doubted. What
the memory of one process holds needs no Spark.
"""

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from feature_definitions import reading
from feature_definitions.errors import UserError
from feature_definitions.intervals import MICROSECOND, Interval, duration, instant, micros
from feature_definitions.language import FeatureGroup
from feature_definitions.layout import KeySpace
from feature_definitions.reading import kind_of, to_json
from feature_definitions.records import Epoch
from lake import newest, readable
from lake.readable import Published
from online_sync import checks, packing, push
from online_sync.checks import Looked, Sampled
from online_sync.classes import Agreement
from online_sync.codec import EpochRecord, RowSchema, Value
from online_sync.push import Pushed, PushSpec
from online_sync.servers import Saying, is_replaced, replaced
from online_sync.store import Owner, Store, is_under_way

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Depth = Literal["as needed", "verify", "full"]
"""Which rows a sync compares and writes: those that it must, compare all, or write all."""

Session: TypeAlias = "Callable[[], SparkSession]"
"""Starts Spark, if it does not run yet; it is asked only for what is too much for the memory of this process."""

_ATTEMPTS, _CLOCKS_APART = 3, timedelta(minutes=1)
_IN_MEMORY = 60_000_000
"""Values that one process holds at most; more are left to Spark."""
_WEIGHED, _OVERHEAD = 100, 64
"""Rows that are weighed to tell what all take, and the bytes that a store adds to a key and its value, about."""
_READERS_END = 1.0
"""Seconds within which every answer has ended that began before an epoch record was replaced."""


class SyncOvertaken(RuntimeError):
    """A later sync of the group has begun or finished; what it wrote stays."""


class SyncOutdated(SyncOvertaken):
    """Another sync of the group began or finished since it was read what is published; nothing was written."""


class TooMuchMemory(UserError):
    """A group that would take more of the online store's memory than is allowed."""


class ClockBehind(UserError):
    """A group that was synced at a time that has not come by this machine's clock."""


class OtherLake(UserError):
    """The online store has this project's rows from another lake."""


@dataclass(frozen=True, slots=True)
class Target:
    """The store to sync to: its URL, which may hold a password, whose keys, and where the lake lies; and the store, if it is open."""

    url: str = field(repr=False)
    space: KeySpace
    place: str
    kept: Store | None = field(default=None, repr=False)

    @contextlib.contextmanager
    def store(self) -> Iterator[Store]:
        """The store, which is opened for this alone unless it is kept open."""
        with contextlib.nullcontext(self.kept) if self.kept else contextlib.closing(Store(self.url)) as store:
            yield store

    @contextlib.contextmanager
    def kept_open(self) -> Iterator["Target"]:
        """The same, by the same connections all the while."""
        with self.store() as store:
            yield replace(self, kept=store)


@dataclass(frozen=True, slots=True)
class Synced:
    """What one sync of a group did: its epoch, how many rows were compared with the store, and how many of them were repaired.

    A row is repaired where the last sync had brought it, and it was gone or was another one. `reason` says why all rows were compared,
    though it was known which had changed. `bytes` is about what the group takes in the store's memory; None where it was not asked.
    `parity` is of some rows that were looked at once more afterwards; None where a later sync had begun by then.
    """

    group: str
    generation: int
    epoch: int
    coverage: datetime | None
    rows: int
    written: int
    synced_at: datetime
    compared: int
    repaired: int
    reason: str | None = None
    bytes: int | None = None
    parity: Agreement | None = None

    @property
    def holds(self) -> bool:
        """Whether all rows that were compared afterwards are as they should be."""
        return self.parity is None or self.parity.holds

    @property
    def record(self) -> Epoch:
        """What the registry remembers of it."""
        return Epoch(self.group, self.generation, self.epoch, self.coverage, self.rows, self.written, self.synced_at)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found before a sync: the epoch record, whether the lake changed since or the store is doubted, and why.

    `compared` counts the rows that were looked at, `sample` has them. A store may be doubted too where the lake changed. `fell_back` says
    that the store has lost a sync that the registry knows, so that rows of which nothing is known may lie there again.
    """

    held: EpochRecord | None
    state: Literal["changed", "doubted", "as it was"]
    compared: int = 0
    doubt: str | None = None
    sample: tuple[Sampled, ...] = ()
    fell_back: bool = False


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where it is remembered when a sync begins and ends, and by which clock."""

    remember: Callable[[Epoch], None]
    clock: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Work:
    """What a sync is told: its epoch by the registry, the time, the generation's last sync by the registry, and how deep to go.

    A store that has seen a later epoch (of a registry that is gone) is followed. A generation that is brought online for the first time may
    take no more bytes of memory than the `limit`. `erased` says which entities are not to be online, by their `entity_text`: it is asked
    once the sync has begun, so that whoever erases one either is heard or sees that the sync runs.
    """

    epoch: int
    now: datetime
    last: Epoch | None = None
    depth: Depth = "as needed"
    ledger: Ledger | None = None
    limit: int | None = None
    erased: Callable[[], frozenset[str]] = frozenset


def of_before(last: Epoch, look: Finding) -> Synced:
    """What is told where nothing was to be done since a sync."""
    said = (last.group, last.generation, last.epoch, last.coverage, last.rows, 0, last.synced_at)
    return Synced(*said, compared=look.compared, repaired=0, parity=Agreement(look.compared, look.compared))


def ended_unheard(epochs: Sequence[Epoch], look: Finding) -> list[Epoch]:
    """The sync, if there is one, that published its record, but was cut off before it could be remembered that it had."""
    held = look.held
    if held is None or held.begun != held.epoch:
        return []
    return [each for each in epochs if each.epoch == held.epoch and each.generation == held.generation and not each.finished]


def claim(target: Target, *, other_lake: Literal["refuse", "take over"] = "refuse") -> bool:
    """Make sure that the project's rows in the store come from this lake; another one's are refused (OtherLake) or taken over.

    Returns whether the store had none of the project's rows until now.
    """
    with target.store() as store:
        first = False
        for _ in range(_ATTEMPTS):
            owner = store.owner(target.space.project)
            if owner is not None and owner.lake == target.space.lake:
                return first
            first = owner is None
            if owner is not None and other_lake == "refuse":
                raise _other_lake(owner, target, store.address)
            store.claim(target.space, place=target.place, instead_of=owner)
        raise SyncOvertaken(f"several lakes are being brought online for {target.space.project} at {store.address} right now; one can be")


def former_names(target: Target) -> list[str]:
    """Other projects whose rows in the store come from this lake: the project may have had these names before."""
    with target.store() as store:
        return [project for project in store.projects_of(target.space.lake) if project != target.space.project]


def standing(group: str, target: Target) -> EpochRecord | None:
    """The group's epoch record, which has to be the same before its publishes are read and when a sync of these begins."""
    with target.store() as store:
        return store.read_epoch(target.space, group)


def follows(held: EpochRecord | None, group: str) -> Callable[[EpochRecord | None], None]:
    """Raises SyncOutdated where a group's record is of another sync than the one that is held: who follows might know less than that."""

    def check(found: EpochRecord | None) -> None:
        if _sync_of(found) != _sync_of(held):
            raise SyncOutdated(f"another sync of {group} has begun or finished since its publishes were read; run this one again")

    return check


def in_time(held: EpochRecord | None, group: str, *, now: datetime) -> None:
    """Raise ClockBehind where a group was synced more than a minute after `now`: less is known by then, so that readers would go back."""
    if held is None or not held.epoch or instant(held.synced_at) <= now + _CLOCKS_APART:
        return
    raise ClockBehind(
        f"{group} was synced at {instant(held.synced_at):%Y-%m-%d %H:%M:%S} UTC, and by the clock of this machine it is "
        f"{now:%Y-%m-%d %H:%M:%S}: set the clock that is wrong. If that was the other one, headwater sync --full goes on from here"
    )


def _sync_of(record: EpochRecord | None) -> tuple[int, int, str] | None:
    return None if record is None else (record.epoch, record.begun, record.by)


def look(published: Published, *, target: Target, now: datetime, last: Epoch | None = None) -> Finding:
    """What the store has of a group, and whether it may be believed that nothing is to be done.

    Nothing is where the last sync finished and saw all that is published and defined `now`, no server was restarted, evicted keys or has
    fewer than then, a sample of the rows is as it was left, and the store has the sync that is the `last` by the registry.
    """
    group = published.group
    with target.store() as store:
        held = store.read_epoch(target.space, group.name)
        if held is None or held.begun != held.epoch or held.generation != published.generation:
            return Finding(held, "changed")
        unchanged = _is_unchanged(held, published, target, now)
        if last is not None and last.generation == held.generation and held.epoch < last.epoch:
            return Finding(held, "doubted" if unchanged else "changed", 0, _fell_back(held, last), fell_back=True)
        looked, servers = store.looked(target.space, group.name), store.says()
        rows = store.mget([] if looked is None else [each.key for each in looked.sample])
        doubt = checks.doubt(looked, epoch=held.epoch, servers=servers, rows=rows)
        if looked is None or doubt is not None:
            return Finding(held, "doubted" if unchanged else "changed", 0, doubt)
        store.put_looked(target.space, group.name, replace(looked, servers=servers))
        return Finding(held, "as it was" if unchanged else "changed", len(rows), None, looked.sample)


def run(published: Published, look: Finding, *, target: Target, work: Work, spark: Session) -> Synced:
    """Sync one group as it is known now; readers see the new coverage only once every row is there.

    The rows that may have changed are compared with the store's, or all of them; written are those that are others, or all.
    """
    group, held, last = published.group, look.held, work.last
    coming = replace(record_of(published, target, epoch=work.epoch, now=work.now, empty=_empty(published, spark)), by=secrets.token_hex(8))
    seen = _seen(published, (None if last is None else last.synced_at) if held is None else _last(held, published))
    way = _Way(look, _changed(published, look, coming, work), work, spark, cache(partial(newest.newest, published, now=work.now)))
    if work.limit is not None and (held is None or held.generation != published.generation) and is_in_memory(published):
        _refuse_too_much(published, way.everything(), coming, limit=work.limit)
    with target.store() as store, store.staying() as before:
        spec = PushSpec(target.url, coming, tuple(group.entity.keys), RowSchema(coming.columns), seen, runs=store.runs)
        record, done, begun_at = _written(published, spec, way, store=store)
        _stay(before, store)
        if not store.publish_epoch(record):
            raise _overtaken(group)
        ended_at = None if work.ledger is None else work.ledger.clock()
        after = _stay(before, store)
        # Evictions count from before the rows were compared, keys from after they were written.
        servers = {address: said._replace(keys=now.keys) for address, now in after.items() if (said := before.get(address))}
        store.put_looked(target.space, group.name, Looked(record.epoch, servers, tuple(done.sample)))
        weighed = store.memory([each.key for each in done.sample[:_WEIGHED]])
    counts, covered = done.counts, None if record.coverage is None else instant(record.coverage)
    in_part = way.changed is not None and last is not None and record.floor != record.epoch
    rows = last.rows + counts["new"] if in_part and last else counts["rows"]
    synced = Synced(
        group.name, published.generation, record.epoch, covered, rows,
        counts["written"], work.now, compared=counts["rows"],
        repaired=counts["gone"] + (0 if look.state == "changed" else counts["others"]), reason=look.doubt,
        bytes=rows * sum(weighed) // len(weighed) if weighed else None,
    )  # fmt: skip
    if work.ledger is not None:
        lost = is_lost(look, last) or (look.doubt is not None and synced.repaired > 0)
        work.ledger.remember(replace(synced.record, begun_at=begun_at, ended_at=ended_at, found_lost=lost or None))
    return synced


def is_lost(look: Finding, last: Epoch | None) -> bool:
    """Whether the store has lost the group's last sync as a whole; of one that has its record it is seen by rows that are repaired."""
    return look.fell_back or (look.held is None and last is not None)


def is_in_memory(published: Published) -> bool:
    """Whether this process holds the newest rows of a group, and all that they are found among."""
    return newest.size(published) <= _IN_MEMORY


def sweep(target: Target, groups: Sequence[str]) -> int:
    """Delete the keys of these groups and of the project that nobody reads any more, if there may be some; returns how many there were."""
    with target.store() as store:
        records = [record for group in groups if (record := store.read_epoch(target.space, group)) is not None]
        finished = [record for record in records if record.unswept and record.begun == record.epoch]
        owner = store.owner(target.space.project)
        if not finished and not (owner and owner.sweep):
            return 0
        if finished:
            time.sleep(_READERS_END)
        swept = store.sweep(target.space, finished)
        servers = store.says()
        for group in groups:
            if (looked := checks.recounted(store.looked(target.space, group), servers)) is not None:
                store.put_looked(target.space, group, looked)
        return swept


@dataclass(frozen=True, slots=True)
class _Way:
    """How rows are found: what was seen before, the intervals that alone changed (None: not known), what the sync is told, Spark, and the
    newest row of every entity, for those groups that are held in memory; many files are read once.
    """

    look: Finding
    changed: tuple[Interval, ...] | None
    work: Work
    spark: Session
    everything: Callable[[], pa.Table]


def _written(published: Published, spec: PushSpec, way: _Way, *, store: Store) -> tuple[EpochRecord, Pushed, datetime | None]:
    """Begin the sync and write its rows; returns the record to publish, and when it was remembered to begin.

    A store that has rows of later epochs than its record knows has lost that record once: then the sync begins again, after them.
    """
    coming, begun_at, kept = spec.record, None, way.look.held
    for _ in range(_ATTEMPTS):
        whole = way.work.depth == "full" or way.look.fell_back
        check = follows(kept, published.group.name)
        record = store.begin_epoch(coming, rewrite="every row" if whole else "where others differ", check=check)
        begun_at = begun_at or begun(record, way.work, found_lost=is_lost(way.look, way.work.last))
        done = _pushed(published, replace(spec, record=record, erased=way.work.erased()), way, store=store)
        kept = store.read_epoch(record.space, record.group)
        if kept is None or not is_under_way(record, kept):
            break
        if not done.counts["ahead"]:
            return record, done, begun_at
        coming = replace(coming, epoch=done.counts["ahead"] + 1)
    raise _overtaken(published.group)


def _stay(before: Mapping[str, Saying], store: Store) -> Mapping[str, Saying]:
    """What the servers say of themselves, unless one of them is another than before: then rows that it took may be lost (StoreReplaced)."""
    now = store.says()
    if is_replaced(before, now):
        raise replaced(store.address)
    return now


def begun(record: EpochRecord, work: Work, *, found_lost: bool = False) -> datetime | None:
    """Remember that a sync begins, before any reader meets a row of it; returns when that was."""
    if work.ledger is None:
        return None
    begun_at, covered = work.ledger.clock(), None if record.coverage is None else instant(record.coverage)
    work.ledger.remember(
        Epoch(record.group, record.generation, record.epoch, covered, 0, 0, work.now, begun_at, found_lost=found_lost or None)
    )
    return begun_at


def _changed(published: Published, look: Finding, coming: EpochRecord, work: Work) -> tuple[Interval, ...] | None:
    """The intervals that alone may have other rows than the store; None where all rows must be compared.

    Nothing else changed where the last sync finished, saw all publishes of its time, and had the same columns, and where the store is not
    doubted. Snapshots take away who is not in them, so all rows are others by a new one.
    """
    held, group = look.held, published.group
    if held is None or work.last is None or work.depth != "as needed" or look.doubt is not None or group.by_snapshot:
        return None
    if held.begun != held.epoch or (held.generation, held.columns) != (coming.generation, coming.columns):
        return None
    since = instant(held.synced_at)
    if work.last.epoch != held.epoch or held.publishes != sum(publish.known_from <= since for publish in published.publishes):
        return None
    return newest.changed(published, since=since, now=work.now)


def _pushed(published: Published, spec: PushSpec, way: _Way, *, store: Store) -> Pushed:
    """Write the newest rows, of the intervals that changed or all, in this process or in Spark's workers."""
    now = instant(spec.record.synced_at)
    if way.changed is not None and spec.record.floor != spec.record.epoch and newest.size(published, way.changed) <= _IN_MEMORY:
        return _pushed_in_part(spec, way, newest.newest(published, now=now, intervals=way.changed), store=store)
    if is_in_memory(published):
        return push.push([way.everything()], spec, store=store)
    from online_sync import spread

    return spread.pushed(published, spec, way.spark())


def _pushed_in_part(spec: PushSpec, way: _Way, rows: pa.Table, *, store: Store) -> Pushed:
    """Write the rows that are newer than what lies there; of the entities that fall back to another row, all rows are read."""
    sample = way.look.sample
    watched = replace(spec, rule="unless older", watched=frozenset(each.key for each in sample))
    retracted = rows.column("retracted")
    falling = rows.filter(retracted)
    done = push.push([rows.filter(pc.invert(retracted))], watched, store=store)
    unsure = {*done.unsure, *(packing.keys_of(falling, spec.record, spec.keys) if len(falling) else ())}
    if unsure:
        everything = way.everything()
        keys = pa.array(packing.keys_of(everything, spec.record, spec.keys), pa.string())
        fallen = everything.filter(pc.is_in(keys, value_set=pa.array(sorted(unsure))))
        again = push.push([fallen], replace(watched, rule="replace"), store=store)
        ahead = max(done.counts["ahead"], again.counts["ahead"])
        done = Pushed(done.counts + again.counts, [*done.sample, *again.sample], [], done.watched | again.watched)
        done.counts["ahead"] = ahead
    held = [(each, done.watched.get(each.key, each.content)) for each in sample]
    kept = [each._replace(content=content) for each, content in held if content is not None]
    more = [each for each in done.sample if each.key not in watched.watched]
    return done._replace(sample=[*kept, *more][: checks.SAMPLE])


def _refuse_too_much(published: Published, rows: pa.Table, coming: EpochRecord, *, limit: int) -> None:
    """Refuse rows that would take more memory than is allowed, by what some of them take; those that Spark finds are not weighed."""
    some = packing.packed(rows.slice(0, _WEIGHED), coming, tuple(published.group.entity.keys), RowSchema(coming.columns)).rows
    mean = sum(len(key) + len(row) + _OVERHEAD for key, row in some) // max(len(some), 1)
    if mean * len(rows) > limit:
        raise TooMuchMemory(
            f"{published.group.name} would take about {mean * len(rows):,} bytes of the online store's memory ({len(rows):,} entities of "
            f"{mean}), and {limit:,} are allowed: allow more, or write online=False"
        )


def _fell_back(held: EpochRecord, last: Epoch) -> str:
    return (
        f"the store has its sync {held.epoch} and the registry remembers sync {last.epoch}: a replica that lacked the newest writes took "
        "its primary's place, or an old state was brought back"
    )


def _overtaken(group: FeatureGroup) -> SyncOvertaken:
    return SyncOvertaken(
        f"a later sync of {group.name} has begun, or the store was emptied meanwhile; what it wrote stays, so run this one again"
    )


def _last(held: EpochRecord, published: Published) -> datetime | None:
    """When the generation was synced before, by its epoch record."""
    return instant(held.synced_at) if held.epoch and held.generation == published.generation else None


def _seen(published: Published, since: datetime | None) -> str:
    """The greatest id of a publish that a sync at that time saw."""
    return max((publish.publish_id for publish in published.publishes if since is not None and publish.known_from <= since), default="")


def _is_unchanged(held: EpochRecord, published: Published, target: Target, now: datetime) -> bool:
    if (held.kind, len(held.columns)) != (kind_of(published.group), len(published.group.outputs)):
        return False  # its empty values are those of other columns
    wanted = record_of(published, target, epoch=held.epoch, now=now, empty=held.empty)
    of_the_sync = replace(wanted, synced_at=held.synced_at, begun=held.begun, by=held.by, floor=held.floor)
    return replace(of_the_sync, also=held.also, unswept=held.unswept) == held


def _other_lake(owner: Owner, target: Target, address: str) -> OtherLake:
    project, lake = target.space
    return OtherLake(
        f"the online store at {address} has the rows of {project} from lake {owner.lake} ({owner.place}), not from this one, {lake} "
        f"({target.place}): give one of the projects another name, or put its rows in place of the other's: headwater sync --take-over"
    )


def record_of(published: Published, target: Target, *, epoch: int, now: datetime, empty: tuple[Value, ...]) -> EpochRecord:
    """What a sync of this epoch and time publishes, whose entities without a live row have the values `empty`."""
    group = published.group
    covered = readable.covered(published, now) if group.by_coverage else None
    return EpochRecord(
        project=target.space.project,
        lake=target.space.lake,
        group=group.name,
        generation=published.generation,
        epoch=epoch,
        kind=kind_of(group),
        columns=tuple((column, published.types.outputs[column]) for column in group.outputs),
        synced_at=micros(now),
        coverage=None if covered is None else micros(covered),
        ttl=None if group.ttl is None else duration(group.ttl) // MICROSECOND,
        empty=empty,
        publishes=sum(publish.known_from <= now for publish in published.publishes),
    )


def _empty(published: Published, spark: Session) -> tuple[Value, ...]:
    """What is answered for an entity without live row; nothing but null in groups without coverage, which the record leaves out.

    Spark computes it only where something is derived and no publish kept the values (those before 2026-11 did not).
    """
    group = published.group
    if not group.keeps_rows:
        return ()
    empty = reading.empty_values(group, published.types.outputs, kept=published.empty)
    if not empty.keys() >= set(group.outputs):
        from spark_jobs import point_in_time

        empty = {**point_in_time.empty_values(published, spark())}
    return tuple(to_json(empty[column]) for column in group.outputs)
