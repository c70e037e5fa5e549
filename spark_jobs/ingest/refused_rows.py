"""Puts rows that were refused, or lie far from all others, into a source's quarantine, without Spark."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from itertools import chain
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import Schema

from feature_definitions import layout
from feature_definitions.layout import COLUMN, DATE, FILE, LINE, RAW, REASON, VALUE
from feature_definitions.planning import far
from feature_definitions.planning.far import Aside
from lake import delta, delta_commits, delta_files, quarantine, storage
from spark_jobs.ingest.journal import Ingest
from spark_jobs.ingest.row_blocks import Room

_ROWS = 65_536
_OWN = {FILE: "file", LINE: "line", REASON: "reason", COLUMN: "column", VALUE: "value"}


def put_aside(bad: str | None, names: Collection[str], job: Ingest, room: Room) -> None:
    """Put the rows in a file of refused ones aside, as far as they are of some files; those that these had before are replaced."""
    found = iter(()) if bad is None else _shown(bad, frozenset(names), job)
    mine = f"file IN ({', '.join(map(delta.literal, sorted(names)))})"
    _replaced(found, Old(mine, lambda rows: _is_of(rows.column("file"), names)), job, room, commit_id=job.ingest_id)


def put_far_aside(rows: Iterable[pa.Table], aside: Aside | None, job: Ingest, room: Room) -> None:
    """Put rows aside that lie far from all others, each with the reason that its date has, in the place of those that did so before."""
    found = (_far(each, aside.reasons, job) for each in rows) if aside is not None and aside.rows else iter(())
    mine = Old(f"reason ~ '{far.REASONS}'", lambda rows: pc.match_substring_regex(rows.column("reason"), far.REASONS))
    if aside is not None:
        _replaced(found, mine, job, room, commit_id=f"{job.ingest_id}-aside")


class Old(NamedTuple):
    """Rows that stand in quarantine and are to be replaced: as an SQL condition, and of some rows which these are."""

    condition: str
    which: Callable[[pa.Table], pa.Array]


def _replaced(rows: Iterator[pa.Table], mine: Old, job: Ingest, room: Room, *, commit_id: str) -> None:
    """Put rows into quarantine, in the place of others, in one commit."""
    path = layout.quarantine_table(job.context.lake, job.source.name)
    has_old, first = delta.holds(path, mine.condition), next(rows, None)
    if first is None and not has_old:
        return
    schema = _schema(job)
    table = delta_commits.add_columns(
        delta_commits.create(path, Schema.from_arrow(schema).to_json(), partition=()), Schema.from_arrow(schema).to_json()
    )
    if table.transaction_version(commit_id) is not None:
        return
    columns = pa.schema(table.schema().to_arrow())
    run = layout.run_folder(path, commit_id)
    storage.delete_tree(run)
    here = room.written(run)
    base = path if here == run else room.folder
    files, folder = storage.arrow(base), storage.relative(here, to=base)
    files.create_dir(folder)
    with pq.ParquetWriter(f"{folder}/part-0.parquet", columns, filesystem=files, store_schema=False) as writer:
        for others in _others(path, mine) if has_old else ():
            writer.write_table(_in_schema(others, columns))
        for new in () if first is None else chain((first,), rows):
            writer.write_table(_in_schema(new, columns))
    room.put(run)
    added, _ = delta_files.added(path, run, copy=here if here != run else None)
    old = delta_files.in_partitions(table, None) if has_old else []
    delta_commits.commit(table, days=None if has_old else (), old=old, new=added, commit_id=commit_id, fence=job.fence)


def _schema(job: Ingest) -> pa.Schema:
    texts = [("file", pa.string()), ("line", pa.int64()), *((name, pa.string()) for name in ("reason", "column", "value"))]
    beside = [(quarantine.beside(name), pa.string()) for name in job.source.columns]
    return pa.schema([*texts, *beside, ("quarantined_at", pa.timestamp("us", tz="UTC"))])


def _shown(bad: str, names: frozenset[str], job: Ingest) -> Iterator[pa.Table]:
    """The rows of some files as they stand in quarantine."""
    with pq.ParquetFile(bad, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=_ROWS):
            rows = pa.Table.from_batches([batch])
            rows = rows.filter(_is_of(rows.column(FILE), names))
            told = {shown: rows.column(name) for name, shown in _OWN.items()}
            texts = {quarantine.beside(name): pc.map_lookup(rows.column(RAW), pa.scalar(name), "first") for name in job.source.columns}
            if rows.num_rows:
                yield pa.table({**told, **texts, "quarantined_at": pa.repeat(pa.scalar(job.now), rows.num_rows)}).cast(_schema(job))


def _is_of(files: pa.ChunkedArray, names: Collection[str]) -> pa.Array:
    return pc.is_in(files.cast(pa.string()), value_set=pa.array(sorted(names), pa.string()))


def _far(rows: pa.Table, reasons: Mapping[date, str], job: Ingest) -> pa.Table:
    """Rows with their dates as they stand in quarantine."""
    event_timestamp = str(job.source.event_timestamp)
    texts = {name: _texts(rows.column(name)) for name in job.source.columns}
    own = {"file": rows.column(FILE), "line": rows.column(LINE), "reason": pa.array(map(reasons.get, rows.column(DATE).to_pylist()))}
    own |= {"column": pa.repeat(event_timestamp, rows.num_rows), "value": texts[event_timestamp]}
    beside = {quarantine.beside(name): column for name, column in texts.items()}
    return pa.table({**own, **beside, "quarantined_at": pa.repeat(pa.scalar(job.now), rows.num_rows)}).cast(_schema(job))


def _others(path: str, mine: Old) -> Iterator[pa.Table]:
    """The rows that stand in quarantine, but for those that are replaced."""
    for batch in delta.batches(path, rows=_ROWS):
        rows = pa.Table.from_batches([batch])
        yield rows.filter(pc.invert(pc.fill_null(mine.which(rows), fill_value=False)))


def _in_schema(rows: pa.Table, columns: pa.Schema) -> pa.Table:
    have = set(rows.column_names)
    found = [rows.column(f.name).cast(f.type) if f.name in have else pa.nulls(rows.num_rows, f.type) for f in columns]
    return pa.Table.from_arrays(found, schema=columns)


def _texts(values: pa.ChunkedArray) -> pa.Array:
    """Values as Spark writes them."""
    return pa.array([None if value is None else _text(value) for value in values.to_pylist()], pa.string())


def _text(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float():
            return _java(value)
        case datetime():
            whole, _, fraction = value.replace(tzinfo=None).isoformat(sep=" ").partition(".")
            return f"{whole}.{fraction.rstrip('0')}" if fraction else whole
        case Decimal():
            return format(value, "f")
    return str(value)


def _java(value: float) -> str:
    """A finite double as Java writes it: with an exponent below a thousandth and from ten million on."""
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    text = "".join(map(str, digits)).rstrip("0") or "0"
    before = len(digits) + int(exponent)  # digits before the point
    if not value or 1e-3 <= abs(value) < 1e7:
        plain = format(Decimal(repr(value)), "f")
        return plain if "." in plain else f"{plain}.0"
    return f"{'-' if sign else ''}{text[0]}.{text[1:] or '0'}E{before - 1}"
