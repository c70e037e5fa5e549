"""Rows on their way to the tasks that join them: those for one task, or some of them, are one value of bytes.

So an exchange moves few rows with much in each, and Spark's JVM looks at none of what is in them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql.types import BinaryType, BooleanType, IntegerType, StructField, StructType

from spark_jobs import workers
from spark_jobs.training import hot
from spark_jobs.training.hot import Copied, CutKeys, Placed
from spark_jobs.training.kernel import AT, ORDER, TAG, TIME, Numbers

PART = "_hw_part"
"""The column that says to which task a parcel goes."""
_ASKS, _ROWS = "_hw_asks", "_hw_rows"
SCHEMA = StructType([StructField(PART, IntegerType()), StructField(_ASKS, BooleanType()), StructField(_ROWS, BinaryType())])
_ARROW = pa.schema([(PART, pa.int32()), (_ASKS, pa.bool_()), (_ROWS, pa.binary())])
BYTES = 64 << 20
"""So many bytes of rows are put into parcels at once."""
_LATER, _RUN = "_hw_later", 8
"""How much later than its `TIME` a row is visible, in place of `AT`; how many rows the mean run of equal values has that are said once."""
_LARGEST, _TOGETHER = 16 << 20, 64 << 20
"""How many bytes a parcel has at most, if its rows have about as many each, and those that come together."""
_LONG, _OF_LONG_ROWS = 4, 200_000
"""Rows of so many times the bytes that were planned may be more in a task than the 2 GB that a batch of Spark's holds of a column: of these
a parcel has fewer bytes, so that 10,000 parcels, the most that a batch has, are no more."""


def row_bytes(columns: int) -> int:
    """How many bytes a row of so many columns is planned to have; what text and lists have beyond that is not known."""
    return 64 + 9 * columns


@dataclass(frozen=True, slots=True)
class Spread:
    """How rows are spread: by which columns, over how many tasks, which keys are cut, and the hashes of the keys that are asked, if few."""

    keys: tuple[str, ...]
    parts: int
    cuts: CutKeys
    asked: pa.Array | None = None

    def of_asked(self, rows: pa.Table, found: Numbers) -> tuple[pa.Table, Numbers]:
        """The rows of keys that are asked, with their hashes."""
        if self.asked is None:
            return rows, found
        wanted = pc.is_in(pa.array(found), value_set=self.asked)
        return rows.filter(wanted), found[np.asarray(wanted)]


@dataclass(frozen=True, slots=True)
class Kind:
    """What rows are: of the spine, or versions, of which some are copied; those that go `everywhere` are not spread by their keys."""

    asks: bool = False
    everywhere: bool = False
    copied: Copied | None = None


def packing(spread: Spread, kind: Kind) -> workers.Work:
    """The work that makes parcels of rows."""

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for rows in workers.gathered(batches, size=attrgetter("nbytes"), enough=BYTES):
            yield from packed(rows, spread, kind)

    return run


def packed(rows: pa.Table, spread: Spread, kind: Kind) -> Iterator[pa.RecordBatch]:
    """Parcels of rows."""
    rows = rows.combine_chunks()
    if kind.everywhere:
        once = [*_parcels(rows)]
        yield from _together(((number, each) for number in range(spread.parts) for each in once), kind)
        return
    found = hot.hashes(rows, spread.keys)
    if not kind.asks:
        rows, found = spread.of_asked(rows, found)
    yield from _together(_spread(rows, hot.placed(rows, found, spread.cuts, parts=spread.parts, copied=kind.copied), spread), kind)


def _spread(rows: pa.Table, placed: Placed, spread: Spread) -> Iterator[tuple[int, bytes]]:
    """The parcels of rows for each task that some go to."""
    part = placed.part.astype(np.uint16) if spread.parts < 2**16 else placed.part  # numpy sorts short numbers by their digits
    by_part = np.argsort(part, kind="stable")
    ends = np.searchsorted(part[by_part], np.arange(spread.parts + 1, dtype=np.int64))
    sorted_ = rows.take(pa.array(placed.where[by_part]))
    for number in np.unique(part).tolist():
        yield from ((number, each) for each in _parcels(sorted_.slice(ends[number], ends[number + 1] - ends[number])))


def _parcels(rows: pa.Table) -> Iterator[bytes]:
    is_long = rows.nbytes > rows.num_rows * _LONG * row_bytes(rows.num_columns)
    size = max(1, (_OF_LONG_ROWS if is_long else _LARGEST) * rows.num_rows // max(1, rows.nbytes))
    for start in range(0, rows.num_rows, size):
        sent, sink = _shortened(rows.slice(start, size)), pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, sent.schema) as stream:
            stream.write_table(sent)
        yield sink.getvalue().to_pybytes()


def _shortened(rows: pa.Table) -> pa.Table:
    """Rows with what many in turn have alike said once: rows of a file are of one group, and often of one publish or one time."""
    for name in (TAG, ORDER, TIME, AT):
        place = rows.schema.get_field_index(name)
        if place < 0 or rows.column(place).null_count:
            continue
        values = rows.column(place).to_numpy()
        if _is_alike(values):
            rows = rows.set_column(place, name, pc.run_end_encode(rows.column(place)))
        elif name == AT and TIME in rows.column_names and not rows.column(TIME).null_count:
            later = values - _decoded(rows.column(TIME)).to_numpy()
            if _is_alike(later):
                rows = rows.set_column(place, _LATER, pc.run_end_encode(pa.array(later)))
    return rows


def _is_alike(values: Numbers) -> bool:
    return int(np.count_nonzero(values[1:] != values[:-1])) * _RUN < len(values)


def _in_full(rows: pa.Table) -> pa.Table:
    """Rows as they were before they were shortened."""
    rows = pa.table({name: _decoded(rows.column(name)) for name in rows.column_names})
    if _LATER not in rows.column_names:
        return rows
    return rows.append_column(AT, pc.add(rows.column(_LATER), rows.column(TIME))).drop_columns(_LATER)


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.run_end_decode(column) if pa.types.is_run_end_encoded(column.type) else column


def _together(parcels: Iterator[tuple[int, bytes]], kind: Kind) -> Iterator[pa.RecordBatch]:
    """Parcels in batches that are not too large."""
    held: list[tuple[int, bytes]] = []
    size = 0
    for each in parcels:
        held.append(each)
        size += len(each[1])
        if size >= _TOGETHER:
            yield _batch(held, kind)
            held, size = [], 0
    if held:
        yield _batch(held, kind)


def _batch(parcels: list[tuple[int, bytes]], kind: Kind) -> pa.RecordBatch:
    parts, rows = zip(*parcels, strict=True)
    return pa.RecordBatch.from_arrays(
        [pa.array(parts, pa.int32()), pa.array([kind.asks] * len(parts)), pa.array(rows, pa.binary())], schema=_ARROW
    )


def opening(types: Mapping[str, pa.DataType]) -> workers.Work:
    """The work that gives the rows of a task's parcels, all in the same columns, these among them, null where a row has none.

    A task in which nobody asks gets nothing.
    """

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held = list(batches)
        if any(pc.any(batch.column(_ASKS)).as_py() for batch in held):
            rows = [_in_full(pa.ipc.open_stream(value.as_buffer()).read_all()) for batch in held for value in batch.column(_ROWS)]
            yield from pa.concat_tables([*rows, pa.schema([*types.items()]).empty_table()], promote_options="default").to_batches()

    return run
