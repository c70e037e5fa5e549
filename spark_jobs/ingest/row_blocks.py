"""Rows of a source in blocks of some hundred thousand, each block's by date: in memory while they are few, else in files beside."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from feature_definitions.intervals import ALWAYS
from feature_definitions.language import Source
from feature_definitions.layout import ASIDE, CONTENT, DATE, FILE, INGEST, LINE, LIVE, TIME
from lake import s3, storage
from lake.arrow_types import arrow_type
from lake.joined import Unlike
from spark_jobs.ingest import row_hashes

Mask = NDArray[np.bool_]
AT_ONCE = 2**22
"""So many rows are compared with each other at once."""
ID, _PLACE = "_hw_id", "_hw_id_place"
"""The hashes of the ids of a block's rows, by their first bytes, and which rows these are."""
_MEMORY = 128 * 2**20
"""So many bytes of rows stay in memory."""
_INSTANT = pa.timestamp("us", tz="UTC")
_NAMES = pa.dictionary(pa.int32(), pa.string())
_OLD_CALENDAR = b"org.apache.spark.legacy"
"""How the notes of a file begin that has times in a calendar of old, which Spark alone converts."""


@dataclass(slots=True)
class Block:
    """Rows with their time, date and hash, by date, and the hashes of their ids.

    `comes` says of all that the files bring them, else they were there. Of rows that were there `goes` says which the files take away,
    `held` which held, `was` which were live, and `failed` which of these lay aside too. `live`, `aside` and `read` are what becomes of
    each, `ingest` which ingest brought it where that is not the block's own. What is the same of all rows is one value (`even`), as it
    mostly is of all but `live`. `file` holds the rows if memory does not.
    """

    rows: pa.Table
    comes: bool
    goes: Mask
    held: Mask
    was: Mask
    failed: Mask
    _live: NDArray[Any] = field(init=False)
    aside: Mask = field(init=False)
    read: Mask = field(init=False)
    ingest: NDArray[np.int64] | None = None
    file: mmap.mmap | None = None
    _days: tuple[tuple[date, slice], ...] | None = None

    def __post_init__(self) -> None:
        """Begin with what held."""
        self.live, self.aside = self.held, _all(self.held, is_so=False)
        self.read = _all(self.held, is_so=True)

    @property
    def live(self) -> Mask:
        """Which rows hold and are read; a bit of each is kept, where not all are the same."""
        return self._live if self._live.dtype == np.bool_ else np.unpackbits(self._live, count=self.rows.num_rows).view(np.bool_)

    @live.setter
    def live(self, mask: Mask) -> None:
        """Say which do."""
        mask = even(mask)
        self._live = np.packbits(mask) if any(mask.strides) else mask

    @classmethod
    def coming(cls, rows: pa.Table, *, file: mmap.mmap | None = None) -> Block:
        """Rows that files bring."""
        no = np.broadcast_to(np.False_, rows.num_rows)
        return cls(rows, True, no, _all(no, is_so=True), no, no, file=file)  # a field

    def released(self) -> None:
        """Give back the memory into which rows were read that a file holds: who looks at them again reads them anew."""
        if self.file is not None:
            self.file.madvise(mmap.MADV_DONTNEED)

    def numbers(self, column: str) -> NDArray[Any]:
        """A column of numbers, times or dates as numbers, none of them null."""
        array = self.rows.column(column).chunk(0) if self.rows.num_rows else pa.array([], self.rows.schema.field(column).type)
        counted = {TIME: pa.int64(), DATE: pa.int32()}.get(column)
        return np.asarray(array if counted is None else array.view(counted))

    def days(self) -> tuple[tuple[date, slice], ...]:
        """Each date with the rows that it has."""
        if self._days is None:
            days = self.numbers(DATE)
            starts = np.flatnonzero(np.diff(days, prepend=days[:1] - 1)) if len(days) else np.zeros(0, np.int64)
            ends = [*starts[1:].tolist(), len(days)]
            found = zip(starts.tolist(), ends, days[starts].tolist(), strict=False)
            self._days = tuple((date.fromordinal(_EPOCH + day), slice(start, end)) for start, end, day in found)
        return self._days

    def ids(self, part: int = 0, parts: int = 1) -> Ids:
        """The ids whose hashes are in one of so many parts, a power of two and 256 at most; what is in others is not looked at."""
        hashes, ends = self.numbers(ID), (part * 256 // parts, (part + 1) * 256 // parts)
        first, last = (np.searchsorted(hashes, np.uint64(each << 56)) if each < 256 else len(hashes) for each in ends)
        return Ids(hashes[first:last], self.numbers(_PLACE)[first:last])

    def only(self, names: Collection[str]) -> Block:
        """Rows that files bring, of some files alone."""
        mine = self.of_files(names)
        if mine.all():
            return self
        rows = self.rows.filter(pa.array(mine))
        if ID in rows.column_names:
            hashes = np.empty(len(mine), np.uint64)
            hashes[self.numbers(_PLACE)] = self.numbers(ID)
            rows = with_ids(rows, hashes[mine])
        return Block.coming(rows.combine_chunks())

    def of_files(self, names: Collection[str]) -> Mask:
        """Which rows are of some files."""
        files = self.rows.column(FILE).chunk(0) if self.rows.num_rows else pa.array([], _NAMES)
        wanted = np.array([name in names for name in files.dictionary.to_pylist()] + [False], np.bool_)
        return np.asarray(wanted[np.asarray(pc.fill_null(files.indices, len(wanted) - 1))])


_EPOCH, _DAY = date(1970, 1, 1).toordinal(), 86_400_000_000


def schema(source: Source) -> pa.Schema:
    """The columns of a source's own table, but for the date by which it is parted."""
    columns = [(name, arrow_type(kind)) for name, kind in source.columns.items()]
    own = [(TIME, _INSTANT), (FILE, pa.string()), (LINE, pa.int64()), (INGEST, pa.int64()), (LIVE, pa.bool_()), (ASIDE, pa.bool_())]
    return pa.schema([*columns, *own])


def knows(source: Source) -> bool:
    """Whether rows of a source can be kept so."""
    return all(map(row_hashes.knows, source.columns.values()))


def dated(rows: pa.Table, source: Source) -> pa.Table:
    """Rows with the source's columns, file, line and what else they have, by their date, with all that is told of them."""
    rows = rows.combine_chunks()
    at = rows.column(TIME) if TIME in rows.column_names else _times(rows, source)
    at = _one(at) if isinstance(at, pa.ChunkedArray) else at
    days = pa.array((np.asarray(at.view(pa.int64())) // _DAY).astype(np.int32)).view(pa.date32())
    names = _one(rows.column(FILE)).dictionary_encode().cast(_NAMES)
    for name, value in ((TIME, at), (DATE, days), (FILE, names)):
        rows = _set(rows, name, value)
    order = np.asarray(_one(rows.column(DATE)).view(pa.int32()))
    if not np.all(order[1:] >= order[:-1]):
        rows = rows.take(pa.array(np.argsort(order, kind="stable"))).combine_chunks()
    rows = _set(rows, CONTENT, pa.array(row_hashes.of_rows([_one(rows.column(each)) for each in source.columns])))
    if not source.id:
        return rows.combine_chunks()
    return with_ids(rows, row_hashes.of_columns([_one(rows.column(each)) for each in source.id])).combine_chunks()


def with_ids(rows: pa.Table, hashes: row_hashes.Hashes) -> pa.Table:
    """Rows with the hashes of their ids."""
    places = np.argsort((hashes >> np.uint64(56)).astype(np.uint8), kind="stable")
    return _set(_set(rows, ID, pa.array(hashes[places])), _PLACE, pa.array(places.astype(np.int32)))


def _times(rows: pa.Table, source: Source) -> pa.Array:
    if source.event_timestamp is None:
        return pa.repeat(pa.scalar(ALWAYS.start, _INSTANT), rows.num_rows)
    return rows.column(source.event_timestamp)


def _set(rows: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    at = rows.schema.get_field_index(name)
    return rows.append_column(name, values) if at < 0 else rows.set_column(at, name, values)


def _one(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.array([], column.type) if not column.num_chunks else column.combine_chunks()


def even(mask: Mask) -> Mask:
    """The mask; as one value, for which no memory is needed, if it is the same for all rows."""
    if mask.all():
        return _all(mask, is_so=True)
    return mask if mask.any() else _all(mask, is_so=False)


def _all(mask: Mask, *, is_so: bool) -> Mask:
    return np.broadcast_to(np.bool_(is_so), len(mask))


class Ids(NamedTuple):
    """The hashes of the ids of some rows, and which rows of their block these are."""

    hashes: row_hashes.Hashes
    places: NDArray[np.int32]


class KeptRows(NamedTuple):
    """Rows that are kept, and the file that holds them, if memory does not."""

    rows: pa.Table
    file: mmap.mmap | None


def _moving(block: Block, ids: Ids) -> row_hashes.Hashes:
    """Of some ids of a block those of rows that come or go."""
    return ids.hashes if block.comes else ids.hashes[block.goes[ids.places]]


class Room:
    """Where rows are kept: in memory up to so many bytes, then in files of a folder, which are read as if they were memory.

    Files of a lake on S3 are brought into the folder to be read, and written there to be put.
    """

    def __init__(self, folder: str) -> None:
        """Begin with nothing, in a folder of this machine."""
        self.folder = folder
        self._left, self._files, self._copies = _MEMORY, 0, dict[str, str]()

    def kept(self, rows: pa.Table) -> KeptRows:
        """The rows, kept."""
        self._left -= rows.nbytes
        if self._left >= 0:
            return KeptRows(rows, None)
        path = f"{self.folder}/block-{self._files}.arrow"
        self._files += 1
        with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
            writer.write_table(rows, max_chunksize=max(1, rows.num_rows))
        with open(path, "rb") as file:  # noqa: PTH123  # a path of the lake is text
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return KeptRows(pa.ipc.open_file(pa.py_buffer(mapped)).read_all(), mapped)

    def in_order(self, blocks: Sequence[Block]) -> row_hashes.Hashes:
        """The hashes of the ids of the rows that come or go, in order; those of many rows lie in a file."""
        several = parts(blocks)
        found = (np.sort(np.concatenate([_moving(block, block.ids(part, several)) for block in blocks])) for part in range(several))
        if several == 1:
            return next(found)
        path = f"{self.folder}/ids-{self._files}"
        self._files += 1
        with open(path, "wb") as file:  # noqa: PTH123  # a path of the lake is text
            file.writelines(each.data for each in found)
        return np.memmap(path, np.uint64, mode="r")

    def near(self, paths: Collection[str]) -> dict[str, str]:
        """Where files of a lake, which never change, are to be read; those on S3 are copied, each once, many at the same time."""
        missing = [path for path in paths if s3.is_remote(path) and path not in self._copies]
        copies = {path: f"{self.folder}/copy-{len(self._copies) + n}.parquet" for n, path in enumerate(missing)}
        storage.bring(copies)
        self._copies |= copies
        return {path: self._copies.get(path, path) for path in paths}

    def written(self, run: str) -> str:
        """Where the files of a run's folder in a lake are to be written, before they are `put`."""
        return f"{self.folder}/{hashlib.sha256(run.encode()).hexdigest()[:16]}" if s3.is_remote(run) else run

    def put(self, run: str) -> None:
        """Put the files of a run in their places in the lake."""
        here = self.written(run)
        if here != run:
            storage.put_files({f"{run}/{storage.relative(file.path, to=here)}": file.path for file in storage.files(here)})


def of_table(files: Iterable[str], source: Source, *, coming: Collection[str], room: Room) -> Iterator[Block]:
    """The rows that files here of a source's own table hold; `coming` are the names of the files that take rows away. Raises Unlike."""
    for path in files:
        for rows in _tables(path, schema(source)):
            found = room.kept(dated(rows, source))
            live, aside = (np.asarray(pc.fill_null(_one(found.rows.column(name)), fill_value=False)) for name in (LIVE, ASIDE))
            flags = (even(live | aside), even(live), even(live & aside))
            block = Block(found.rows, False, _all(live, is_so=False), *flags, file=found.file)  # a field
            block.goes = even(block.of_files(coming))
            block.released()
            yield block


def ids_of_table(path: str, source: Source) -> row_hashes.Hashes:
    """The hash of the id of each row that a file of a source's own table holds. Raises Unlike."""
    tables = _tables(path, pa.schema([each for each in schema(source) if each.name in source.id]))
    found = [row_hashes.of_columns([_one(rows.column(name)) for name in source.id]) for rows in tables]
    return np.concatenate([np.zeros(0, np.uint64), *found])


def _tables(path: str, wanted: pa.Schema) -> Iterator[pa.Table]:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        physical = {file.schema.column(number).physical_type for number in range(len(file.schema))}
        if "INT96" in physical or any(key.startswith(_OLD_CALENDAR) for key in file.metadata.metadata or ()):
            raise Unlike(path)
        names = [field.name for field in wanted if field.name in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=2**19, columns=names):
            yield _in_schema(batch, wanted)


def _in_schema(batch: pa.RecordBatch, wanted: pa.Schema) -> pa.Table:
    have = set(batch.schema.names)
    columns = [batch.column(f.name).cast(f.type) if f.name in have else pa.nulls(batch.num_rows, f.type) for f in wanted]
    return pa.Table.from_arrays(columns, schema=wanted)


def parts(blocks: Sequence[Block]) -> int:
    """In how many parts the ids of blocks are looked at, so that each has not much more than `AT_ONCE`."""
    return min(256, 1 << (max(0, total(blocks) - 1) // AT_ONCE).bit_length())


def total(blocks: Sequence[Block]) -> int:
    """How many rows blocks have."""
    return sum(block.rows.num_rows for block in blocks)


def on_dates(blocks: Iterable[Block]) -> Mapping[date, list[tuple[Block, slice]]]:
    """Where the rows of each date lie."""
    found: dict[date, list[tuple[Block, slice]]] = {}
    for block in blocks:
        for day, rows in block.days():
            found.setdefault(day, []).append((block, rows))
    return found
