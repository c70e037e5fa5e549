"""Writes a version of a training set as one file, its rows in the spine's order, without Spark and in bounded memory."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from feature_definitions import layout, reading
from feature_definitions.errors import UserError
from lake import delta, storage, training_sets
from lake.training_sets import BuiltVersion
from spark_jobs.ingest.cells import first_line

Format = Literal["parquet", "csv", "arrow"]
_AT_ONCE = 262_144
"""So many rows are held at once. Each time the files that hold some of them are read, which are few where the spine is in order of time."""


class ExportRefused(UserError):
    """A file that cannot be written, or a version that cannot be read any more."""


class Exported(NamedTuple):
    """What was written: which version of which training set, where, in which format, how many rows and bytes."""

    name: str
    version: int
    path: str
    format: Format
    rows: int
    bytes: int


def by_name(path: str) -> Format:
    """The format that a file's name says, or else Parquet."""
    ending = Path(path).suffix.lower()
    return "csv" if ending == ".csv" else "arrow" if ending in (".arrow", ".feather", ".ipc") else "parquet"


def export(of: BuiltVersion, lake: str, to: str, *, kind: Format) -> Exported:
    """Write all rows of a version to a file at `to`, which is there whole or not at all; one that was there is replaced."""
    name = str(of.manifest["name"])
    if of.version is None or not training_sets.is_readable(of, lake):
        raise ExportRefused(f"version {training_sets.number(of)} of {name} cannot be read any more: its files, or its log, were deleted")
    table = delta.opened(layout.training_set_table(lake, name), version=of.version)
    with _placed(to) as file:
        rows = _written(_parts(table, of), file, kind)
        size = file.stat().st_size
    return Exported(name, of.version, to, kind, rows, size)


@contextmanager
def _placed(to: str) -> Iterator[Path]:
    """A file of another name for the block, which then gets its own; on S3 it is put there as a whole."""
    remote = to.startswith(layout.S3)
    if "://" in to and not remote:
        raise ExportRefused(f"{to} is no place that is written to; name a file, or an object on S3 like {layout.S3}bucket/churn.parquet")
    place = Path(to) if remote else Path(to).resolve()  # a link stays one
    folder = Path(tempfile.gettempdir()) if remote else place.parent
    if not folder.is_dir():
        raise ExportRefused(f"there is no folder {folder}, in which {place.name} shall lie; make it first")
    if not remote and place.exists() and not place.is_file():
        raise ExportRefused(f"{place} is {'a folder' if place.is_dir() else 'no file, and would be replaced'}; name a file")
    try:
        handle, made = tempfile.mkstemp(dir=folder, prefix=f".{place.name}.")
    except OSError as error:
        raise ExportRefused(f"{place} cannot be written: {error.strerror}; name a file in a folder that can be written to") from error
    os.close(handle)
    try:
        yield Path(made)
        if remote:
            storage.put_files({to: made})
        else:
            Path(made).chmod(0o666 & ~_umask())
            Path(made).replace(place)
    finally:
        Path(made).unlink(missing_ok=True)


def _umask() -> int:
    """What files of this process may not be, which can only be asked by setting it."""
    held = os.umask(0)
    os.umask(held)
    return held


def _parts(table: Any, of: BuiltVersion) -> Iterator[pa.Table]:
    """The rows in their order, some at a time; one part at least, for its columns."""
    dataset, place = table.to_pyarrow_dataset(filesystem=storage.arrow(delta.place(table))), pc.field(layout.ROW_NUMBER)
    for first in range(0, max(int(str(of.manifest["rows"])), 1), _AT_ONCE):
        try:
            found = dataset.to_table(filter=(place >= first) & (place < first + _AT_ONCE))
        except (OSError, pa.ArrowException) as error:
            raise ExportRefused(f"version {of.version} of {of.manifest['name']} cannot be read: {first_line(error)}") from error
        yield found.sort_by(layout.ROW_NUMBER)


def _written(parts: Iterator[pa.Table], file: Path, kind: Format) -> int:
    head = next(parts)
    written = _of_format(head, kind)
    with _WRITERS[kind](file, written.schema) as writer:
        writer.write_table(written)
        total = int(head.num_rows)
        for part in parts:
            writer.write_table(_of_format(part, kind))
            total += part.num_rows
    return total


def _arrow(file: Path, schema: pa.Schema) -> AbstractContextManager[Any]:
    found: AbstractContextManager[Any] = pa.ipc.new_file(str(file), schema)
    return found


_WRITERS: dict[Format, Callable[[Path, pa.Schema], AbstractContextManager[Any]]] = {
    "parquet": lambda file, schema: pq.ParquetWriter(str(file), schema, compression="zstd"),
    "csv": lambda file, schema: pacsv.CSVWriter(str(file), schema),
    "arrow": _arrow,
}


def _of_format(rows: pa.Table, kind: Format) -> pa.Table:
    """Rows as a format holds them: in CSV what is nested is JSON, and bytes are hexadecimal."""
    rows = rows.replace_schema_metadata(None)
    if kind != "csv":
        return rows
    for place, field in enumerate(rows.schema):
        if pa.types.is_nested(field.type) or pa.types.is_binary(field.type):
            texts = [None if value is None else _text(value) for value in rows.column(place).to_pylist()]
            rows = rows.set_column(place, field.name, pa.array(texts, pa.string()))
    return rows


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else json.dumps(reading.to_json(value), ensure_ascii=False)
