"""Joins many small Parquet files of a table into one: to open a file costs Spark some twenty times what it costs Arrow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from lake import split

if TYPE_CHECKING:
    import pyarrow as pa

_AT_ONCE = 32_000_000
"""How many bytes of rows are put together at once, in memory; a row group each."""
_OLD_CALENDAR = b"org.apache.spark.legacy"
"""How the notes of a file begin that has times in a calendar of old, which Spark alone converts."""


class Unlike(Exception):
    """A file that has a table's columns in other types than the table, or more in it than is read here at once: Spark may read it."""


def join(files: Mapping[str, str | None], into: str, *, schema: pa.Schema, date: str | None = None) -> None:
    """Write the rows of files as one file in a table's columns; those that a file lacks are null.

    `files` says which value each has in the partition column `date`, as ISO text. Of doubles no bounds are written, which would pass over
    NaN. Raises Unlike.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    part, bounded = Path(f"{into}.part"), [field.name for field in schema if not pa.types.is_floating(field.type)]
    try:
        with pq.ParquetWriter(part, schema, write_statistics=bounded, store_decimal_as_integer=True, store_schema=False) as writer:
            for block in _blocks(files, schema, date):
                writer.write_table(block, row_group_size=block.num_rows or None)
        part.replace(into)
    finally:
        part.unlink(missing_ok=True)


def _blocks(files: Mapping[str, str | None], schema: pa.Schema, date: str | None) -> Iterator[pa.Table]:
    """The rows of the files in a table's columns, some files at a time."""
    import pyarrow as pa

    own = pa.schema([field for field in schema if field.name != date])
    held, size = dict[str, pa.Table](), 0
    for number, file in enumerate(files, start=1):
        held[file] = _read(file)
        size += held[file].nbytes
        if size > _AT_ONCE or number == len(files):
            alike = [pa.concat_tables(each) for _, each in groupby(held.values(), key=attrgetter("schema"))]
            rows = pa.concat_tables([_in_schema(each, own) for each in alike])
            yield rows if date is None else _dated(rows, [(files[each], part.num_rows) for each, part in held.items()], schema, date)
            held, size = {}, 0


def _dated(rows: pa.Table, days: Sequence[tuple[str | None, int]], schema: pa.Schema, date: str) -> pa.Table:
    """The rows with the column of the partition, of which `days` says how many in turn have which value."""
    import numpy as np
    import pyarrow as pa

    values, counts = pa.array([day for day, _ in days], pa.string()), np.array([count for _, count in days])
    column = values.cast(schema.field(date).type).take(pa.array(np.repeat(np.arange(len(days)), counts)))
    return rows.add_column(schema.get_field_index(date), schema.field(date), column)


def _read(file: str) -> pa.Table:
    """A file's rows, with UTC where it has times as Spark once wrote them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = pq.ParquetFile(pa.BufferReader(Path(file).read_bytes()), pre_buffer=False, coerce_int96_timestamp_unit="us")
    said = found.metadata
    if said.num_rows * said.num_columns > split.AT_ONCE or any(key.startswith(_OLD_CALENDAR) for key in said.metadata or ()):
        raise Unlike(file)
    rows = found.read(use_threads=False).replace_schema_metadata(None)
    if pa.timestamp("us") in rows.schema.types:
        old = {column.path for column in map(found.schema.column, range(len(found.schema))) if column.physical_type == "INT96"}
        for at, field in enumerate(rows.schema):
            if field.name in old:
                rows = rows.set_column(at, field.name, rows.column(at).cast(pa.timestamp("us", "UTC")))
    return rows


def _in_schema(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows in a table's columns, of which they may lack some, or have some in another of Arrow's ways to hold the same."""
    import pyarrow as pa

    have, seen = set(rows.column_names), {name.lower() for name in rows.column_names}
    columns = []
    for field in schema:
        if field.name in have and _plain(rows.schema.field(field.name).type) == _plain(field.type):
            columns.append(rows.column(field.name).cast(field.type))
        elif field.name.lower() in seen:
            raise Unlike(field.name)
        else:
            columns.append(pa.nulls(rows.num_rows, field.type))
    return pa.table(columns, schema=schema)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type that holds the same values, each of which may be null, in Arrow's plainest way."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_list(kind) or types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    return pa.struct([(field.name, _plain(field.type)) for field in kind]) if types.is_struct(kind) else kind
