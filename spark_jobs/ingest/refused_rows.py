"""Puts rows that were refused into a source's quarantine, without Spark."""

from collections.abc import Collection, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import Schema

from feature_definitions import layout
from feature_definitions.layout import COLUMN, FILE, LINE, RAW, REASON, VALUE
from lake import delta, quarantine, storage
from spark_jobs.ingest.journal import Ingest
from spark_jobs.ingest.row_blocks import Room

_ROWS = 65_536
_OWN = {FILE: "file", LINE: "line", REASON: "reason", COLUMN: "column", VALUE: "value"}


def put_aside(bad: str | None, names: Collection[str], job: Ingest, room: Room) -> None:
    """Put the rows in a file of refused ones aside, as far as they are of some files; those that these had before are replaced."""
    path = layout.quarantine_table(job.context.lake, job.source.name)
    has_old = delta.holds(path, f"file IN ({', '.join(map(delta.literal, sorted(names)))})")
    found = [] if bad is None else _shown(bad, frozenset(names), job)
    first = next(iter(found := iter(found)), None)
    if first is None and not has_old:
        return
    schema = _schema(job)
    table = delta.add_columns(delta.create(path, Schema.from_arrow(schema).to_json(), partition=()), Schema.from_arrow(schema).to_json())
    if table.transaction_version(job.ingest_id) is not None:
        return
    columns = pa.schema(table.schema().to_arrow())
    run = layout.run_folder(path, job.ingest_id)
    storage.delete_tree(run)
    here = room.written(run)
    base = path if here == run else room.folder
    files, folder = storage.arrow(base), storage.relative(here, to=base)
    files.create_dir(folder)
    with pq.ParquetWriter(f"{folder}/part-0.parquet", columns, filesystem=files, store_schema=False) as writer:
        for rows in _others(path, frozenset(names)) if has_old else ():
            writer.write_table(_in_schema(rows, columns))
        for rows in () if first is None else (first, *found):
            writer.write_table(_in_schema(rows, columns))
    room.put(run)
    new, _ = delta.added(path, run, copy=here if here != run else None)
    old = delta.in_partitions(table, None) if has_old else []
    delta.commit(table, days=None if has_old else (), old=old, new=new, commit_id=job.ingest_id, fence=job.fence)


def _schema(job: Ingest) -> pa.Schema:
    texts = [("file", pa.string()), ("line", pa.int64()), *((name, pa.string()) for name in ("reason", "column", "value"))]
    beside = [(quarantine.beside(name), pa.string()) for name in job.source.columns]
    return pa.schema([*texts, *beside, ("quarantined_at", pa.timestamp("us", tz="UTC"))])


def _shown(bad: str, names: frozenset[str], job: Ingest) -> Iterator[pa.Table]:
    """The rows of some files as they stand in quarantine."""
    with pq.ParquetFile(bad, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=_ROWS):
            rows = pa.Table.from_batches([batch])
            rows = rows.filter(pc.is_in(rows.column(FILE), value_set=pa.array(sorted(names), pa.string())))
            told = {shown: rows.column(name) for name, shown in _OWN.items()}
            texts = {quarantine.beside(name): pc.map_lookup(rows.column(RAW), pa.scalar(name), "first") for name in job.source.columns}
            if rows.num_rows:
                yield pa.table({**told, **texts, "quarantined_at": pa.repeat(pa.scalar(job.now), rows.num_rows)}).cast(_schema(job))


def _others(path: str, names: frozenset[str]) -> Iterator[pa.Table]:
    """The rows that stand in quarantine of other files."""
    for batch in delta.batches(path, rows=_ROWS):
        rows = pa.Table.from_batches([batch])
        files = rows.column("file").cast(pa.string())
        yield rows.filter(pc.invert(pc.is_in(files, value_set=pa.array(sorted(names), pa.string()))))


def _in_schema(rows: pa.Table, columns: pa.Schema) -> pa.Table:
    have = set(rows.column_names)
    found = [rows.column(f.name).cast(f.type) if f.name in have else pa.nulls(rows.num_rows, f.type) for f in columns]
    return pa.Table.from_arrays(found, schema=columns)
