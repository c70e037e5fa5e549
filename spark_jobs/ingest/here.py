"""What files make of a source's table, without Spark: what `update` says, of rows in blocks, whole columns at a time.

Memory holds some bytes of each row at most. It is for a Spark that would run on this machine alone, and for sources of whose rows no SQL
says whether they are taken.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable, Schema

from feature_definitions import layout
from feature_definitions.intervals import micros
from feature_definitions.language import Source
from feature_definitions.layout import ASIDE, ASIDE_DATE, DATE, FILE, INGEST, LINE, LIVE, TIME
from feature_definitions.planning import far
from feature_definitions.planning.far import Aside, Bound
from lake import delta, delta_commits, delta_files, skipping, storage
from spark_jobs import tables
from spark_jobs.ingest import far_dates, known_ids, rights, row_blocks
from spark_jobs.ingest.journal import Ingest
from spark_jobs.ingest.row_blocks import Block, Mask, Room

_ROWS_WRITTEN = 2**17
"""So many rows of a date are written together."""
_RANGES = 64
"""Ids are looked for in so many ranges, before they are looked for in one around all."""


class Made(NamedTuple):
    """All rows of the dates that an ingest touches; the rest as `update.Update` has it."""

    blocks: Sequence[Block]
    dates: tuple[date, ...]
    log: DeltaTable | None
    aside: Aside | None = None
    put_aside: Mapping[date, int] = MappingProxyType({})
    by_file: Mapping[str, int] = MappingProxyType({})

    @property
    def summary(self) -> dict[str, int]:
        """How many rows are put aside by it for which reason."""
        return {} if self.aside is None else self.aside._replace(rows=self.put_aside).summary


def takes(job: Ingest) -> bool:
    """Whether rows of the source can be kept in blocks, and its tables are such as are read and written here."""
    source = job.source
    log, aside = delta.told(job.table), delta.told(layout.quarantine_table(job.context.lake, source.name))
    return row_blocks.knows(source) and _is_plain(log) and _is_plain(aside) and (log is None or _is_alike(log, source))


def _is_plain(log: DeltaTable | None) -> bool:
    """Whether a table has no features that only Delta's own reader or writer knows."""
    return log is None or (log.protocol().min_reader_version <= 1 and log.protocol().min_writer_version <= 2)


def _is_alike(log: DeltaTable, source: Source) -> bool:
    """Whether a table has the source's columns in their types."""
    types = tables.types_of(log)
    return all(types.get(name, tables.spark_type(kind)) == tables.spark_type(kind) for name, kind in source.columns.items())


def of_files(coming: Sequence[Block], files: Collection[str], job: Ingest, room: Room, *, number: int) -> Made:
    """What becomes of the source's table by the rows that files bring, and by the time that passed. Raises Unlike.

    The rows get the number of this ingest, unless their file brought them before.
    """
    source, log = job.source, delta.told(job.table)
    dates = set(row_blocks.on_dates(coming))
    if log is None:
        rights.judge(coming, source, number)
        return _bounded(Made(coming, tuple(dates), None), None, {}, job)
    live = far_dates.live_rows(job) if source.event_timestamp else {}
    held = _Held(job, log, frozenset(files), room)
    dates |= _touched(coming, held)
    dates |= far_dates.to_look_at(job, live) if source.event_timestamp else set()
    if not dates and not far_dates.moves(job):
        return Made(coming, (), log)
    blocks = [*coming, *held.on(dates)]
    rights.age(blocks, number)
    rights.judge(blocks, source, number)
    return _bounded(Made(blocks, tuple(dates), log), held, live, job)


# ---------------------------------------------------------------------------------------------------------------- what was there


class _Held:
    """What the source's table holds before an ingest, by the dates that are asked for; each file is read once."""

    def __init__(self, job: Ingest, log: DeltaTable, coming: frozenset[str], room: Room) -> None:
        self.job, self.log, self.coming = job, log, coming
        self.room, self._read = room, dict[str, list[Block]]()

    def sizes(self, dates: Collection[date] | None) -> dict[str, int]:
        """The table's files of some partitions, or of all, each with its bytes."""
        return delta_files.sizes(self.log, at=self.job.table, wanted=None if dates is None else frozenset(dates).__contains__)

    def files(self, dates: Collection[date]) -> list[str]:
        """The table's files of some partitions."""
        return sorted(self.sizes(dates)) if dates else []

    def on(self, dates: Collection[date]) -> list[Block]:
        """The rows of some partitions."""
        return [block for path in self._near(dates) for block in self._of(path)]

    def _near(self, dates: Collection[date]) -> list[str]:
        """The files of some partitions, which can be read quickly now."""
        files = self.files(dates)
        self.room.near([path for path in files if path not in self._read])
        return files

    def _of(self, path: str) -> list[Block]:
        if path not in self._read:
            near = self.room.near([path]).values()
            self._read[path] = list(row_blocks.of_table(near, self.job.source, coming=self.coming, room=self.room))
        return self._read[path]

    def dates_of_files(self) -> set[date]:
        """The partitions in which rows of the files are."""
        known = {file.came_as or file.path for file in self.job.context.registry.files(self.job.source.name).values()}
        there = skipping.dates(self.log, DATE, [{FILE: (name, name)} for name in self.coming if name in known])
        return {_partition(path) for path in self._near(there) if any(block.goes.any() for block in self._of(path))}


def _partition(path: str) -> date:
    """The date that a file's path says."""
    return date.fromisoformat(path.rpartition(f"/{DATE}=")[2].partition("/")[0])


def _touched(coming: Sequence[Block], held: _Held) -> set[date]:
    """The dates of rows that go, and of all rows that may gain or lose their right by those that come or go."""
    source, before = held.job.source, held.dates_of_files()
    if not source.id:
        return before
    theirs = [block for block in held.on(before) if block.goes.any()]
    bounds = [bound for block in coming for bound in _bounds(block, np.ones(len(block.goes), np.bool_), source)]
    bounds += [bound for block in theirs for bound in _bounds(block, block.goes, source)]
    near = skipping.dates(held.log, DATE, _apart(bounds)) - before - set(row_blocks.on_dates(coming)) if bounds else frozenset()
    if not near:
        return before
    ids = held.room.in_order([*coming, *theirs])
    there = held.sizes(None)
    files = {path: size for path, size in there.items() if _partition(path) in near}
    rivals = known_ids.files_with(ids, files, source, there=there.keys(), lake=held.job.context.lake, room=held.room)
    return before | {_partition(path) for path in rivals}


def _bounds(block: Block, which: Mask, source: Source) -> Iterator[skipping.Range]:
    """Between which values the ids of some rows of a block lie, on each date while these are few."""
    spans = [rows for _, rows in block.days()]
    for rows in spans if len(spans) <= _RANGES else [slice(0, len(which))]:
        if which[rows].any():
            part = block.rows.slice(rows.start, rows.stop - rows.start).filter(pa.array(which[rows])).select(list(source.id))
            ends = {name: pc.min_max(part.column(name)).as_py() for name in source.id}
            yield {name: (end["min"], end["max"]) for name, end in ends.items()}


def _apart(bounds: Sequence[Mapping[str, tuple[Any, Any]]]) -> list[skipping.Range]:
    """Bounds, if there are few of them; else one around all."""
    known = [one for one in bounds if all(low is not None for low, _ in one.values())]
    if len(known) <= _RANGES:
        return list(known)
    return [{name: (min(one[name][0] for one in known), max(one[name][1] for one in known)) for name in known[0]}]


# ------------------------------------------------------------------------------------------------------------------ what is read


def _bounded(made: Made, before: _Held | None, live: Mapping[date, int], job: Ingest) -> Made:
    """The rows that hold are live only where they are read; with the dates that this touches too. `live` is how many each had."""
    source = job.source
    if source.event_timestamp is None:
        return made
    around = far.outer(source, now=job.now)
    live = {day: n for day, n in live.items() if day not in made.dates}
    within, outside = far_dates.by_date(live, around)
    here, there = _holding(made.blocks, around)
    for part, found in ((within, here), (outside, there)):
        for day, n in found.items():
            part[day] = part.get(day, 0) + n
    split = far_dates.split(job, within, outside)
    aside = split.of(job)
    coming_in = {day for day in here if split.read.last > far.midnight(day) >= split.read.first}
    more = ((aside.rows.keys() & live.keys()) | coming_in) - set(made.dates) if before is not None else set()
    blocks = [*made.blocks, *(before.on(more) if before is not None else ())]
    for block in blocks:
        block.read = _inside(block, split.read)
        block.aside, block.live = row_blocks.even(block.live & ~block.read), block.live & block.read
    dates = tuple({*made.dates, *more, ASIDE_DATE})
    return _counted(made._replace(blocks=blocks, dates=dates, aside=aside))


def _inside(block: Block, read: Bound) -> Mask:
    at = block.numbers(TIME)
    found = np.asarray((at >= micros(read.first)) & (at < micros(read.last)), np.bool_)
    block.released()
    return row_blocks.even(found)


def _holding(blocks: Iterable[Block], around: Bound) -> tuple[dict[date, int], dict[date, int]]:
    """How many rows of each date hold within a bound and outside of it, of the dates that have any rows there that stay."""
    here, there = dict[date, int](), dict[date, int]()
    for block in blocks:
        inside = _inside(block, around)
        for day, rows in block.days():
            stay, within, live = ~block.goes[rows], inside[rows], block.live[rows]
            for part, mine in ((here, stay & within), (there, stay & ~within)):
                if mine.any():
                    part[day] = part.get(day, 0) + int((live & mine).sum())
    return here, there


def _counted(made: Made) -> Made:
    """With how many rows it puts aside."""
    put_aside, by_file = Counter[date](), Counter[str]()
    for block in made.blocks if made.aside is not None and made.aside.rows else ():
        new = block.aside & ~block.live & (block.was | block.comes)
        for day, rows in block.days() if new.any() else ():
            put_aside[day] += int(new[rows].sum())
        if block.comes and new.any():
            by_file.update(block.rows.column(FILE).filter(pa.array(new)).to_pylist())
    return made._replace(put_aside=+put_aside, by_file=by_file)


def lying_aside(made: Made, source: Source) -> Iterator[pa.Table]:
    """The rows that lie aside because of their dates, with their dates, files and lines."""
    names = [*source.columns, DATE, FILE, LINE]
    for block in made.blocks:
        which = block.aside & ~block.live & ~block.goes
        if which.any():
            rows = block.rows.select(names).filter(pa.array(which))
            yield rows.set_column(names.index(FILE), FILE, rows.column(FILE).cast(pa.string()))


# ------------------------------------------------------------------------------------------------------------------------ commit


def commit(made: Made, number: int, job: Ingest, room: Room) -> None:
    """Put the rows in the place of those that the dates have now, in one commit."""
    whole = row_blocks.schema(job.source)
    columns = Schema.from_arrow(whole.insert(whole.get_field_index(TIME) + 1, pa.field(DATE, pa.date32()))).to_json()
    table = delta_commits.create(job.table, columns, partition=(DATE,))
    if made.log is not None:
        table = delta_commits.add_columns(table, columns)
    run = layout.run_folder(job.table, job.ingest_id)
    storage.delete_tree(run)
    here = room.written(run)
    written = _write(made, number, job, here)
    room.put(run)
    new, found = delta_files.added(job.table, run, copy=here if here != run else None)
    if found != written:
        raise RuntimeError(f"{job.table}: {written} rows were to be written, but {found} are there; nothing was changed: run it again")
    if made.log is None:
        delta_commits.overwrite(table, schema=columns, partition=(DATE,), new=new, commit_id=job.ingest_id, fence=job.fence)
        return
    days = {day.isoformat() for day in made.dates}
    delta_commits.commit(table, days=days, old=delta_files.in_partitions(table, days), new=new, commit_id=job.ingest_id, fence=job.fence)


def _write(made: Made, number: int, job: Ingest, run: str) -> int:
    """Write a file for each partition; how many rows that are."""
    parts, timed, total = row_blocks.on_dates(made.blocks), job.source.event_timestamp is not None, 0
    for day, each in sorted(parts.items()):
        if day != ASIDE_DATE:
            total += _written(((block, rows, block.read[rows]) for block, rows in each), number, job, run, day=day)
        for block, _ in each:
            block.released()
    aside = ((block, rows, ~block.read[rows]) for each in parts.values() for block, rows in each) if timed else iter(())
    both = chain(aside, ((block, rows, block.read[rows]) for block, rows in parts.get(ASIDE_DATE, ())))
    return total + _written(both, number, job, run, day=ASIDE_DATE)


def _written(parts: Iterable[tuple[Block, slice, Mask]], number: int, job: Ingest, run: str, *, day: date) -> int:
    """Write rows that do not go as the file of a partition, some at a time."""
    schema, total, files, folder = row_blocks.schema(job.source), 0, storage.arrow(run), f"{DATE}={day.isoformat()}"
    writer: pq.ParquetWriter | None = None
    try:
        for rows in _gathered(parts, number, schema):
            if writer is None:
                files.create_dir(folder)
                bounded = [field.name for field in schema if not pa.types.is_floating(field.type)]  # which would pass over NaN
                how = {"write_statistics": bounded, "store_schema": False}
                writer = pq.ParquetWriter(f"{folder}/part-0.parquet", schema, filesystem=files, **how)
            writer.write_table(rows)
            total += rows.num_rows
    finally:
        if writer is not None:
            writer.close()
    return total


def _gathered(parts: Iterable[tuple[Block, slice, Mask]], number: int, schema: pa.Schema) -> Iterator[pa.Table]:
    held, size = list[pa.Table](), 0
    for block, rows, which in parts:
        mine = which & ~block.goes[rows]
        if mine.any():
            held.append(_of_table(block, rows, mine, number, schema))
            size += held[-1].num_rows
        if size >= _ROWS_WRITTEN:
            yield pa.concat_tables(held)
            held, size = [], 0
    if held:
        yield pa.concat_tables(held)


def _of_table(block: Block, rows: slice, which: Mask, number: int, schema: pa.Schema) -> pa.Table:
    """Rows as the source's table has them."""
    length = rows.stop - rows.start
    found = block.rows.slice(rows.start, length)
    brought = found.column(INGEST) if not block.comes else pa.array(rights.ingests(block, number)[rows])
    mine: dict[str, Any] = {INGEST: brought, LIVE: pa.array(block.live[rows]), ASIDE: pa.array(block.aside[rows])}
    columns = {field.name: mine.get(field.name, found.column(field.name) if field.name not in mine else None) for field in schema}
    columns[FILE] = found.column(FILE).cast(pa.string())
    table = pa.table(columns, schema=schema)
    return table if which.all() else table.filter(pa.array(which))
