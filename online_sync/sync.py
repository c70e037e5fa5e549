"""Sync: the newest row of every entity of a group goes to the online store, then the epoch record that makes it known, last.

(Feast calls this step materialize.) Only rows whose bytes differ from what the store holds are written, and nothing is read where nothing
was published since.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa
from pyspark.sql import SparkSession

from feature_definitions.intervals import MICROSECOND, duration, instant, micros
from feature_definitions.language import FeatureGroup
from feature_definitions.reading import kind_of, to_json
from feature_definitions.records import Epoch
from online_sync.codec import EpochRecord, RowSchema, Value
from online_sync.push import PushSpec, push_batches
from online_sync.store import Store
from spark_jobs import point_in_time, workers
from spark_jobs.point_in_time import Published


class SyncOvertaken(RuntimeError):
    """A later sync of the group has begun or finished; what it wrote stays."""


@dataclass(frozen=True, slots=True)
class Target:
    """The store to sync to: its URL (it may hold a password, so `repr` of this is not for logs) and the project's name in its keys."""

    url: str
    project: str


def unchanged(published: Published, *, target: Target, now: datetime) -> bool:
    """Whether the last sync to this store finished and saw all that is published and defined `now`, so that another would write nothing."""
    record = _held(target, published.group)
    if record is None or record.begun != record.epoch:
        return False
    wanted = _record(published, target, epoch=record.epoch, now=now, empty=record.empty)
    return replace(wanted, synced_at=record.synced_at, begun=record.begun, also=record.also) == record


def run(published: Published, *, target: Target, epoch: int, now: datetime, spark: SparkSession) -> Epoch:
    """Sync one group as it is known `now`; readers see the new coverage only once every row is there.

    `epoch` is the registry's next one; a store that has seen a later one (of a registry that is gone) is followed.
    """
    group = published.group
    held = _held(target, group)
    epoch = max(epoch, 1 + (0 if held is None else max(held.begun, held.epoch)))
    record = _record(published, target, epoch=epoch, now=now, empty=_empty(published, spark))
    with contextlib.closing(Store(target.url)) as store:
        if not store.begin_epoch(record):
            raise SyncOvertaken(f"another sync of {group.name} is under way; its rows stay, run this one again when it is done")
        spec = PushSpec(
            url=target.url,
            project=target.project,
            group=group.name,
            generation=published.generation,
            epoch=epoch,
            keys=tuple(group.entity.keys),
            schema=RowSchema(record.columns),
        )
        newest = point_in_time.newest(published, spark=spark, now=now)
        pushed = newest.mapInArrow(workers.carrying(_push(spec)), "rows bigint, written bigint, unchanged bigint, tombstones bigint")
        with workers.as_raised():
            counts = pushed.collect()
        if not store.publish_epoch(record):
            raise SyncOvertaken(f"a later sync of {group.name} finished first; its rows stay")
    covered = None if record.coverage is None else instant(record.coverage)
    rows, written = (sum(row[name] for row in counts) for name in ("rows", "written"))
    return Epoch(group.name, published.generation, epoch, covered, rows, written, now)


def _record(published: Published, target: Target, *, epoch: int, now: datetime, empty: tuple[Value, ...]) -> EpochRecord:
    group = published.group
    covered = point_in_time.covered(published, now) if group.by_coverage else None
    return EpochRecord(
        project=target.project,
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


def _held(target: Target, group: FeatureGroup) -> EpochRecord | None:
    with contextlib.closing(Store(target.url)) as store:
        return store.read_epoch(group.name, project=target.project)


def _push(spec: PushSpec) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    return lambda batches: push_batches(batches, spec)


def _empty(published: Published, spark: SparkSession) -> tuple[Value, ...]:
    """What is answered for an entity without live row; nothing but null in groups without coverage, which the record leaves out."""
    if not published.group.keeps_rows:
        return ()
    empty = point_in_time.empty_values(published, spark)
    return tuple(to_json(empty[column]) for column in published.group.outputs)
