"""Reads Parquet: Arrow rows in a source's types."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.arrow_types import arrow_type
from spark_jobs.ingest import cells, folders
from spark_jobs.ingest.cells import Unfit
from spark_jobs.ingest.parsing import RAWS, FileRefused, Shape, refuse_missing, schema
from spark_jobs.ingest.whereabouts import Place, for_arrow

_PART = 2**20
"""So many bytes of a column are read at once of a file on this machine."""


def read(path: Place, wanted: Shape, *, name: str) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file, good and refused ones."""
    in_parts = {"pre_buffer": False, "buffer_size": _PART} if isinstance(path, Path) else {}  # else Arrow reads it whole beforehand
    with pq.ParquetFile(for_arrow(path), coerce_int96_timestamp_unit="us", **in_parts) as file:
        refuse_missing(file.schema_arrow.names, wanted, name=name)
        line, instants = 1, _instants(file.schema)
        for batch in file.iter_batches(batch_size=65_536, columns=[each for each in wanted.ours if each in file.schema_arrow.names]):
            yield check(_in_our_names(batch, wanted, instants), wanted, name=name, line=line)
            line += batch.num_rows


def _instants(schema: pq.ParquetSchema) -> frozenset[str]:
    """The columns of 96 bits: times that Spark, Impala and Hive write as instants, and Arrow reads as if they had no zone."""
    columns = [schema.column(n) for n in range(len(schema.names))]
    return frozenset(column.path for column in columns if column.physical_type == "INT96")


def _in_our_names(batch: pa.RecordBatch, wanted: Shape, instants: frozenset[str]) -> pa.RecordBatch:
    held = {written: ours for written, ours in wanted.ours.items() if written in batch.schema.names}
    columns = {ours: batch.column(batch.schema.get_field_index(written)) for written, ours in held.items()}
    in_utc = {ours: pc.assume_timezone(columns[ours], "UTC") for written, ours in held.items() if written in instants}
    return pa.RecordBatch.from_pydict({**columns, **in_utc})


def check(batch: pa.RecordBatch, wanted: Shape, *, name: str, line: int = 1) -> pa.RecordBatch:
    """Arrow rows in the source's types, with a reason for each row that cannot be taken; a column of another type is refused whole."""
    columns: dict[str, pa.Array] = {}
    told = folders.told(wanted, name=name)
    batch = _with_told(batch, told, wanted)
    reasons, at_fault = pa.nulls(batch.num_rows, pa.string()), pa.nulls(batch.num_rows, pa.string())
    for column, how in wanted.lying.items():
        try:
            array, bad = cells.of_arrow(batch.column(column), how.data_type, wanted.timezone, how=how)
        except Unfit as error:
            raise FileRefused(f"{name}: column {how.name!r} {error}") from None
        columns[column] = array
        for wrong in _wrong(array, bad, column, told, wanted):
            first = pc.and_(pc.is_valid(wrong), pc.is_null(reasons))
            reasons, at_fault = pc.if_else(first, wrong, reasons), pc.if_else(first, column, at_fault)
    lines = pa.array(np.arange(line, line + batch.num_rows))
    names = pa.repeat(pa.scalar(name, pa.string()), batch.num_rows)
    values, raws = _raws(batch, reasons, at_fault, [column for column, _ in wanted.columns])
    return pa.RecordBatch.from_arrays([*columns.values(), names, lines, reasons, at_fault, values, raws], schema=schema(wanted))


def _with_told(batch: pa.RecordBatch, told: Mapping[str, object], wanted: Shape) -> pa.RecordBatch:
    """The rows with the columns that folders alone tell."""
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    alone = {
        name: pa.array([told[name]] * batch.num_rows, arrow_type(wanted.lying[name].data_type)) for name in told if name not in columns
    }
    return pa.RecordBatch.from_pydict({**columns, **alone}) if alone else batch


def _wrong(array: pa.Array, bad: pa.Array | None, column: str, told: Mapping[str, object], wanted: Shape) -> Iterator[pa.Array]:
    """Why values of a column cannot be taken; null where they can."""
    if bad is not None:
        yield pc.binary_join_element_wise(column, bad, "")
    if column in wanted.required:
        yield pc.if_else(pc.is_null(array), f"{column} is null", pa.scalar(None, pa.string()))
    if column in told:
        same = pc.equal(array, pa.scalar(told[column], array.type)) if told[column] is not None else pc.is_null(array)
        other = pc.invert(pc.fill_null(same, fill_value=False))
        yield pc.if_else(other, f"{column} is not what its folder says: {told[column]}", pa.scalar(None, pa.string()))


def _raws(batch: pa.RecordBatch, reasons: pa.Array, at_fault: pa.Array, columns: list[str]) -> tuple[pa.Array, pa.Array]:
    """The value at fault of each row that cannot be taken, and its text by column."""
    bad = pc.is_valid(reasons)
    places = pc.indices_nonzero(bad)
    raws = [[(column, _shown(batch.column(column)[at])) for column in columns] for at in places.to_pylist()]
    values = [dict(raw).get(column) for raw, column in zip(raws, at_fault.filter(bad).to_pylist(), strict=True)]
    if not raws:
        return pa.nulls(batch.num_rows, pa.string()), pa.nulls(batch.num_rows, RAWS)
    spread = pc.if_else(bad, pc.subtract(pc.cumulative_sum(bad.cast(pa.int64())), 1), pa.scalar(None, pa.int64()))
    return pa.array(values, pa.string()).take(spread), pa.array(raws, RAWS).take(spread)


def _shown(value: pa.Scalar) -> str | None:
    try:
        return None if not value.is_valid else str(value.as_py())
    except (ValueError, OverflowError):
        if isinstance(value, pa.ListScalar):
            return f"[{', '.join(_shown(each) or 'null' for each in value.values)}]"
        return str(value.value)
