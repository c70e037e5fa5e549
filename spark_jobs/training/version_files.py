"""The versions of a group's rows as the workers of a join read them from its files, by Arrow: what `point_in_time.versions` gives.

Of Spark they need a task each, and no look at any row.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from feature_definitions import layout
from feature_definitions.intervals import MICROSECOND
from feature_definitions.language.group_rules import RowTime
from lake import delta, readable
from lake.arrow_types import arrow_type
from lake.known_times import KnownTimes, Numbers
from lake.readable import AsOf, Published
from spark_jobs import tables
from spark_jobs.point_in_time import Dates
from spark_jobs.training import kernel

_MOMENT = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class WantedVersions:
    """What is wanted of a group's versions: their tag, and the columns that are keys or values, each with that in which it comes."""

    tag: int
    keys: tuple[tuple[str, str], ...]
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """What makes versions of the rows in a group's files, which are named with their bytes.

    Of a key's or value's column it is said what it is named in the file, in which one it comes, and its type. `known` is None where rows
    are visible from their own time on, which is `later` by so many microseconds.
    """

    files: tuple[tuple[str, int], ...]
    tag: int
    keys: tuple[tuple[str, str, pa.DataType], ...]
    values: tuple[tuple[str, str, pa.DataType], ...]
    row_time: RowTime
    cadence: int
    later: int
    known: KnownTimes | None

    @property
    def without_values(self) -> "VersionFiles":
        """Keys and times alone."""
        return replace(self, values=())

    @property
    def columns(self) -> tuple[tuple[str, str, pa.DataType], ...]:
        """The keys and the values."""
        return (*self.keys, *self.values)


def of(published: Published, clock: AsOf, wanted: WantedVersions, *, dates: Dates, spark: SparkSession) -> VersionFiles | None:
    """The files of a group that can be read, of some dates; None where Spark is to read them."""
    group, types = published.group, published.types.outputs
    by_event_time = clock.mode == "event_time"
    if by_event_time and published.past:
        return None
    places = (layout.feature_table, layout.history_table)[: 1 if by_event_time else 2]
    files: dict[str, int] = {}
    for path in [place(published.lake, group.name, published.generation) for place in places]:
        if delta.exists(path):
            found = tables.files_here(spark, path, wanted=dates.hold)
            if found is None:
                return None
            files.update(found)
    return VersionFiles(
        files=tuple(files.items()),
        tag=wanted.tag,
        keys=tuple((own, name, arrow_type(group.entity.keys[own])) for own, name in wanted.keys),
        values=tuple((own, name, as_spark(types[own])) for own, name in wanted.values),
        row_time=group.row_time,
        cadence=group.cadence // MICROSECOND,
        later=1 if clock.strict and group.row_time == "event" and not group.by_snapshot else 0,
        known=None if by_event_time else KnownTimes.of(published, clock),
    )


def as_spark(kind: str) -> pa.DataType:
    """The Arrow type of a Headwater type as Spark's own rows have it: what is in a list has a name there."""
    return pa.list_(pa.field("element", as_spark(kind[6:-1]))) if kind.startswith("array<") else arrow_type(kind)


def read(of: VersionFiles, path: str) -> Iterator[pa.Table]:
    """The rows in a file, in the columns that `versions` asks for; those of many small files had better become versions together."""
    file = pq.ParquetFile(path, memory_map=True, pre_buffer=False, read_dictionary=["publish_id"])
    have = set(file.schema_arrow.names)
    asked = [name for name in (*_FIXED, *(own for own, _, _ in of.columns)) if name in have]
    for number in range(file.num_row_groups):
        yield file.read_row_group(number, columns=asked, use_threads=False)


_FIXED = ("event_timestamp", "publish_id", "held", "empties_at", "retracted")


def versions(rows: pa.Table, of: VersionFiles) -> pa.Table:
    """The versions that rows of a table are, in the columns of `kernel`; without those of publishes that never were.

    What a column lacks is null.
    """
    at = _micros(rows.column("event_timestamp"))
    flags = _marks(rows, "retracted") * kernel.RETRACTED + _marks(rows, "held") * kernel.HELD
    seen, order, kept = at + of.later, flags, None
    if of.known is not None:
        known = of.known.when(_one(rows.column("publish_id")), readable.starts_by(of.row_time, of.cadence, at))
        seen, kept = np.maximum(seen, known.since), known.ever
        order = flags + known.order * 8 + known.modelled * kernel.MODELLED
    columns = {
        kernel.TAG: pa.array(np.full(len(at), of.tag, np.int32)),
        **{name: _column(rows, own, kind) for own, name, kind in of.columns},
        kernel.AT: pa.array(seen),
        kernel.TIME: pa.array(at),
        kernel.ORDER: pa.array(order),
    }
    if of.row_time == "end":  # others never empty by themselves
        columns[kernel.EMPTIES] = _column(rows, "empties_at", _MOMENT).cast(pa.int64())
    found = pa.table(columns)
    return found if kept is None or kept.all() else found.filter(pa.array(kept))


def _column(rows: pa.Table, name: str, kind: pa.DataType) -> pa.Array:
    if name not in rows.column_names:
        return pa.nulls(rows.num_rows, kind)
    column = _one(rows.column(name))
    return column if column.type == kind else column.cast(kind)


def _micros(column: pa.ChunkedArray) -> Numbers:
    found: Numbers = _one(column).cast(_MOMENT).cast(pa.int64()).to_numpy()
    return found


def _marks(rows: pa.Table, name: str) -> Numbers:
    """1 where a mark is set, else 0."""
    if name not in rows.column_names:
        return np.zeros(rows.num_rows, np.int64)
    return np.asarray(pc.fill_null(_one(rows.column(name)), False)).astype(np.int64)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
