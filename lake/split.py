"""Parts rows by their dates: a file for each, at a fraction of what a file costs Spark."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import datetime as dt

    import pyarrow as pa

AT_ONCE = 4_000_000
"""Up to how many values are parted at once, in memory."""
NULL = "__HIVE_DEFAULT_PARTITION__"
"""How the folder of a partition is called whose value is null."""
_FILE = "the file"
"""The number of a row's file, by a name that no column has, for it is no identifier."""


class FileSummary(NamedTuple):
    """What a file holds: how many rows, and of each column how many nulls, and the least and greatest value where it has some.

    There are none of columns of arrays, nor of those that hold NaN. Doubles and truths have no bounds.
    """

    rows: int
    nulls: Mapping[str, int]
    bounds: Mapping[str, tuple[object, object]]


def by_date(folder: str, into: str, *, date: str, order: Sequence[str] = ()) -> dict[str, FileSummary]:
    """Write the rows of a folder's Parquet files as `into/<date>=<its value>/`, a file each, without that column, and sum each up.

    Rows of a date come by `order`, else as they were.
    """
    import pyarrow.parquet as pq

    rows = _ordered(pq.read_table(folder).replace_schema_metadata(None), date, order)
    written = _written(rows, into, date=date, name="part-0.parquet")
    return dict(zip(written, _summaries(rows.drop_columns([date]), [*written.values()]), strict=True))


def parted(rows: pa.Table, into: str, *, date: str, order: Sequence[str] = (), name: str) -> dict[str, int]:
    """Write rows as `into/<date>=<its value>/<name>`, without that column, each date's by `order`; gives how many each file holds.

    Others may write files of other names there at the same time.
    """
    return _written(_ordered(rows, date, order), into, date=date, name=name)


def emptied(folder: str) -> str:
    """A folder of this machine, without what was in it."""
    shutil.rmtree(folder, ignore_errors=True)
    Path(folder).mkdir(parents=True)
    return folder


def lay_out(rows: pa.Table, into: str, *, date: str) -> None:
    """Write rows as one file of Arrow's, in which those of each date lie together, as they were: `put_together` takes them from there."""
    import pyarrow as pa

    ordered = _ordered(rows, date, ())
    with pa.OSFile(into, "wb") as file, pa.ipc.new_file(file, ordered.schema) as writer:
        for _, first, end in _runs(ordered, date):
            writer.write_table(ordered.slice(first, end - first))


def put_together(laid_out: Sequence[str], into: str, *, date: str) -> None:
    """Write the rows of files that were laid out as `into/<date>=<its value>/`, a file each, without that column; the files are mapped."""
    import pyarrow as pa

    found: dict[dt.date | None, list[pa.RecordBatch]] = {}
    for file in laid_out:
        with pa.memory_map(file) as mapped:
            reader = pa.ipc.open_file(mapped)
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                found.setdefault(batch.column(date)[0].as_py(), []).append(batch)

    def write(day: dt.date | None) -> None:
        rows = pa.Table.from_batches(found.pop(day)).drop_columns([date])
        _write(rows, _place(into, date, day), name="part-0.parquet", bounded=_without_nan(rows))

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(write, list(found)))


def _ordered(rows: pa.Table, date: str, order: Sequence[str]) -> pa.Table:
    import pyarrow.compute as pc

    return rows.take(pc.sort_indices(rows, sort_keys=[(column, "ascending") for column in (date, *order)])).combine_chunks()


def _written(rows: pa.Table, into: str, *, date: str, name: str) -> dict[str, int]:
    """Write rows that come by date, and give how many each file holds, in their order."""
    values, written = rows.drop_columns([date]), {}
    bounded = _without_nan(values)
    for day, first, end in _runs(rows, date):
        place = _place(into, date, day)
        _write(values.slice(first, end - first), place, name=name, bounded=bounded)
        written[f"{place.name}/{name}"] = end - first
    return written


def _runs(rows: pa.Table, date: str) -> Iterator[tuple[dt.date | None, int, int]]:
    """Each date of rows that come by date, with where its rows begin and end."""
    import pyarrow.compute as pc

    if rows.num_rows:
        runs = pc.run_end_encode(rows[date].combine_chunks())
        ends = runs.run_ends.to_pylist()
        yield from zip(runs.values.to_pylist(), [0, *ends], ends, strict=False)


def _place(into: str, date: str, day: dt.date | None) -> Path:
    """The folder of a date."""
    return Path(into) / f"{date}={NULL if day is None else day.isoformat()}"


def _write(rows: pa.Table, place: Path, *, name: str, bounded: Sequence[str]) -> None:
    import pyarrow.parquet as pq

    place.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, place / name, write_statistics=bounded)


def _summaries(values: pa.Table, counts: Sequence[int]) -> Iterator[FileSummary]:
    """What files hold that have so many of the rows, in turn: what their footers say of them, of all files at once."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    told = [name for name in _without_nan(values) if not pa.types.is_nested(values.schema.field(name).type)]
    ordered = [name for name in told if _is_bounded(values.schema.field(name).type)]
    file = pa.array(np.repeat(np.arange(len(counts)), counts))
    asked = [(name, "count", pc.CountOptions(mode="only_null")) for name in told]
    found = pa.TableGroupBy(values.select(told).append_column(_FILE, file), _FILE, use_threads=False).aggregate(
        [*asked, *((name, how) for name in ordered for how in ("min", "max"))]
    )
    nulls = _by_row(found, {name: f"{name}_count" for name in told})
    least, greatest = (_by_row(found, {name: f"{name}_{how}" for name in ordered}) for how in ("min", "max"))
    for rows, none, low, high in zip(counts, nulls, least, greatest, strict=True):
        yield FileSummary(rows, none, {name: (low[name], high[name]) for name in ordered if low[name] is not None})


def _by_row(found: pa.Table, columns: Mapping[str, str]) -> list[dict[str, Any]]:
    """Some columns of each row, by other names."""
    values = [found[column].to_pylist() for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)] if values else [{} for _ in range(found.num_rows)]


def _is_bounded(kind: pa.DataType) -> bool:
    """Whether values of a type have bounds in Delta's log as we write it."""
    from pyarrow import types

    return any(is_it(kind) for is_it in (types.is_integer, types.is_date, types.is_timestamp, types.is_string))


def _without_nan(values: pa.Table) -> list[str]:
    return [name for name in values.column_names if not _has_nan(values[name])]


def _has_nan(column: pa.ChunkedArray) -> bool:
    """Whether NaN is in a column: Arrow's least and greatest values pass over it, which Spark takes for the greatest, and would skip."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py() is True
