"""Reads Parquet: Arrow rows in a source's types."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spark_jobs.ingest import cells
from spark_jobs.ingest.cells import Unfit, unsound
from spark_jobs.ingest.parsing import RAWS, FileRefused, Shape, refuse_missing, schema


def read(path: Path, wanted: Shape, *, name: str) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file, good and refused ones."""
    with pq.ParquetFile(path) as file:
        refuse_missing(file.schema_arrow.names, wanted, name=name)
        line = 1
        for batch in file.iter_batches(batch_size=65_536, columns=[column for column, _ in wanted.columns]):
            yield check(batch, wanted, name=name, line=line)
            line += batch.num_rows


def check(batch: pa.RecordBatch, wanted: Shape, *, name: str, line: int = 1) -> pa.RecordBatch:
    """Arrow rows in the source's types, with a reason for each row that cannot be taken; a column of another type is refused whole."""
    columns: dict[str, pa.Array] = {}
    reasons, at_fault = pa.nulls(batch.num_rows, pa.string()), pa.nulls(batch.num_rows, pa.string())
    for column, kind in wanted.columns:
        try:
            array, bad = cells.of_arrow(batch.column(batch.schema.get_field_index(column)), kind, wanted.timezone)
        except Unfit as error:
            raise FileRefused(f"{name}: column {column!r} {error}") from None
        columns[column] = array
        for wrong, reason in _wrong(array, bad, column, kind, wanted):
            first = pc.and_(wrong, pc.is_null(reasons))
            reasons, at_fault = pc.if_else(first, reason, reasons), pc.if_else(first, column, at_fault)
    raws = _raws(batch, reasons, [column for column, _ in wanted.columns])
    values = pa.array([dict(raw or ()).get(column) for raw, column in zip(raws, at_fault.to_pylist(), strict=True)], pa.string())
    lines = pa.array(range(line, line + batch.num_rows), pa.int64())
    names = pa.array([name] * batch.num_rows, pa.string())
    return pa.RecordBatch.from_arrays(
        [*columns.values(), names, lines, reasons, at_fault, values, pa.array(raws, RAWS)], schema=schema(wanted)
    )


def _wrong(array: pa.Array, bad: pa.Array | None, column: str, kind: str, wanted: Shape) -> Iterator[tuple[pa.Array, str]]:
    """Which values of a column cannot be taken, and why."""
    if bad is not None:
        yield bad, f"{column} {unsound(kind)}"
    if column in wanted.required:
        yield pc.is_null(array), f"{column} is null"


def _raws(batch: pa.RecordBatch, reasons: pa.Array, columns: list[str]) -> list[list[tuple[str, str | None]] | None]:
    bad = set(pc.indices_nonzero(pc.is_valid(reasons)).to_pylist())
    return [[(c, _shown(batch.column(c)[i])) for c in columns] if i in bad else None for i in range(batch.num_rows)]


def _shown(value: pa.Scalar) -> str | None:
    try:
        return None if not value.is_valid else str(value.as_py())
    except (ValueError, OverflowError):
        return str(value.cast(pa.int64()))
