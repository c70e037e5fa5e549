"""Finds the versions that a sample asks for without Spark, where a group's rows are few: each file is read once, by deltalake's engine."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from feature_definitions import layout
from feature_definitions.intervals import micros
from feature_definitions.records import Publish
from lake import delta, delta_files, readable, s3
from lake.arrow_types import arrow_type
from spark_jobs.training.sampled import NOTHING, AskedOfSample, FoundVersions, SampledVersion

Numbers = npt.NDArray[np.int64]

VALUES = 20_000_000
"""Up to how many values of a group are looked at here."""
_FIXED = {"event_timestamp": "timestamp", "publish_id": "string", "held": "boolean", "empties_at": "timestamp", "retracted": "boolean"}
"""The columns beside keys and features, with their types; only a history has the last one."""
_NEVER = np.iinfo(np.int64).max


def tables(asked: AskedOfSample) -> list[DeltaTable] | None:
    """The tables to look at; None where there are so many rows, or what only Delta's own reader understands, that Spark is to look.

    They are those of the group's rows, and of rows that were replaced only where it matters when they were known. On S3 Spark looks, which
    has copies of the files that the join has read.
    """
    published, dates = asked.asked.published, asked.dates
    if s3.is_remote(published.lake):
        return None
    places = (layout.feature_table, layout.history_table)[: 1 if asked.by_event_time else 2]
    opened = [delta.found(place(published.lake, published.group.name, published.generation)) for place in places]
    there = [table for table in opened if table is not None]
    values = len(asked.asked.join.columns) + len(asked.keys) + len(_FIXED)
    spans = [(dates.first, dates.last)] + ([] if dates.also is None else [(dates.also, None)])
    rows = sum(delta_files.rows_of(table, first=first, last=last) for table in there for first, last in spans)
    return there if rows * values <= VALUES and all(table.protocol().min_reader_version == 1 for table in there) else None


def found(asked: AskedOfSample, tables: Iterable[DeltaTable]) -> list[FoundVersions]:
    """The versions for each row of a sample, in its order."""
    rows = [_rows(table, asked) for table in tables] if any(_has_entity(asked)) else []
    if not rows:
        return [NOTHING] * len(asked.times)
    return _Versions(asked, pa.concat_tables(rows)).found()


def _has_entity(asked: AskedOfSample) -> Iterable[bool]:
    """For each row of the sample whether it has an entity: no key of it is null."""
    return (None not in key for key in zip(*(column.to_pylist() for column in asked.keys.values()), strict=True))


def _rows(table: DeltaTable, asked: AskedOfSample) -> pa.Table:
    """The rows of a table that have a key of the sample's, in the columns that versions need; a column that it lacks is null."""
    have, types = {field.name for field in table.schema().fields}, asked.asked.published.types.outputs
    kinds = {**asked.group.entity.keys, **_FIXED, **{column: types[column] for column in asked.asked.join.columns}}
    conditions = [f'"{key}" IN ({", ".join(_literals(column))})' for key, column in asked.keys.items()]
    if "date" in have and (dated := asked.dates.condition):
        conditions.append(dated)
    rows = delta.selected(table, [name for name in kinds if name in have], conditions)
    columns = {
        name: rows.column(name).cast(arrow_type(kind)) if name in have else pa.nulls(rows.num_rows, arrow_type(kind))
        for name, kind in kinds.items()
    }
    return pa.table(columns)


def _literals(column: pa.ChunkedArray) -> list[str]:
    return [delta.literal(value) for value in pc.unique(column).drop_null().to_pylist()]


class _Versions:
    """The versions of the sample's entities, by entity, time and order of publishes."""

    def __init__(self, asked: AskedOfSample, rows: pa.Table) -> None:
        self._asked = asked
        self._wanted, entity = _entities(asked, rows)
        at = rows.column("event_timestamp").cast(pa.int64()).to_numpy()
        order, known = _publishes(asked, rows, at)
        there = (entity >= 0) & (np.ones(len(at), bool) if asked.by_event_time else order >= 0)
        order = np.zeros_like(order) if asked.by_event_time else order
        sorted_ = np.lexsort((order, at, entity))
        self._places = sorted_[there[sorted_]]
        self._entity, self._at, self._known = (each[self._places] for each in (entity, at, known))
        self._retracted = rows.column("retracted").fill_null(False).to_numpy()[self._places]
        self._rows = rows
        self._ended = asked.newest
        self._falls_back = readable.falls_back(asked.asked.published, asked.asked.clock)

    def found(self) -> list[FoundVersions]:
        """What is found for each row of the sample."""
        chosen = [(self._best(row, at), self._newest(row, at)) for row, at in enumerate(self._asked.times)]
        versions = self._read(sorted({place for both in chosen for place in both if place is not None}))
        return [FoundVersions(*[None if place is None else versions[place] for place in both]) for both in chosen]

    def _of_entity(self, row: int) -> tuple[int, int]:
        entity = self._wanted[row]
        return (0, 0) if entity < 0 else (int(np.searchsorted(self._entity, entity)), int(np.searchsorted(self._entity, entity, "right")))

    def _best(self, row: int, at: int) -> int | None:
        """The newest version that was there at a time."""
        low, high = self._of_entity(row)
        times, back = self._at[low:high], self._asked.back
        first = 0 if back is None else np.searchsorted(times, at - back, "right")
        last = np.searchsorted(times, at, "left" if self._asked.strict else "right")
        places = np.arange(low + first, low + last)
        return self._last(places if self._asked.by_event_time else places[self._known[places] <= at])

    def _newest(self, row: int, at: int) -> int | None:
        """The newest version of all, of those that may hold at the time or now."""
        low, high = self._of_entity(row)
        times, back = self._at[low:high], self._asked.back
        if back is None:
            return self._last(np.arange(low, high))
        near = (times > at - back) & (times <= at)
        return self._last(low + np.flatnonzero(near | (times > self._ended - back)))

    def _last(self, places: npt.NDArray[np.intp]) -> int | None:
        """The last of some versions; a time whose last one is a tombstone has none."""
        end = len(places) - 1
        while end >= 0 and self._falls_back and self._retracted[places[end]]:
            end = int(np.searchsorted(self._at[places], self._at[places[end]])) - 1
        return int(places[end]) if end >= 0 else None

    def _read(self, places: Sequence[int]) -> Mapping[int, SampledVersion]:
        """Versions by their places."""
        columns = self._asked.asked.join.columns
        rows = self._rows.take(pa.array(self._places[list(places)], pa.int64())).select(["empties_at", "held", *columns])
        read = {}
        for place, row in zip(places, rows.to_pylist(), strict=True):
            at, known, until = int(self._at[place]), int(self._known[place]), row["empties_at"]
            fixed = (at, None if known == _NEVER else known, None if until is None else micros(until), row["held"])
            read[place] = SampledVersion(*fixed, bool(self._retracted[place]), {column: row[column] for column in columns})
        return read


def _entities(asked: AskedOfSample, rows: pa.Table) -> tuple[Numbers, Numbers]:
    """The entity of each row of the sample and of each version, as a number; -1 of nobody and of others."""
    wanted, there = np.zeros(len(asked.times), np.int64), np.zeros(rows.num_rows, np.int64)
    for key, column in asked.keys.items():
        values = pc.unique(column).drop_null()
        for numbers, of in ((wanted, column), (there, rows.column(key))):
            place = pc.index_in(of, value_set=values).fill_null(-1).to_numpy().astype(np.int64)
            numbers[:] = np.where((numbers < 0) | (place < 0), -1, numbers * max(1, len(values)) + place)
    return wanted, there


def _publishes(asked: AskedOfSample, rows: pa.Table, at: Numbers) -> tuple[Numbers, Numbers]:
    """The place of each version's publish among all, -1 of one that never was, and since when it is known, in microseconds."""
    publishes: Sequence[Publish] = asked.asked.published.publishes
    names = pa.array(sorted({each.publish_id for each in publishes}), pa.string())
    order = pc.index_in(rows.column("publish_id"), value_set=names).fill_null(-1).to_numpy().astype(np.int64)
    number = {name: place for place, name in enumerate(names.to_pylist())}
    known = {(number[name], start): since for (name, start), since in asked.known.items()}
    pairs = zip(order.tolist(), readable.starts(asked.group, at).tolist(), strict=True)
    since = np.fromiter((known.get(pair, _NEVER) for pair in pairs), np.int64, len(order))
    return np.where(since == _NEVER, -1, order), since
