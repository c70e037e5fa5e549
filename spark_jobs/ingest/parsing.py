"""Reads one source file into typed rows: pure, row by row, with the line and the reason of each row that cannot be taken."""

import csv
import hashlib
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_definitions.errors import UserError
from feature_definitions.language import Source
from feature_definitions.layout import FILE, LINE, RAW, REASON
from lake.delta import arrow_type
from spark_jobs.ingest import cells
from spark_jobs.ingest.cells import Cell, Json, Number, Unfit, first_line, unsound, written


class FileRefused(UserError):
    """A file that cannot be taken as a whole: truncated, corrupt, or with other columns than the source has."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a file must look like: the part of a source that reading it needs, small enough to send to workers."""

    source: str
    format: str
    columns: tuple[tuple[str, str], ...]
    required: tuple[str, ...]
    timezone: str | None
    rules: str


def shape(source: Source, file_format: str) -> Shape:
    """The shape of a source's files; its id and event timestamp must not be null."""
    required = dict.fromkeys((*source.id, *([source.event_timestamp] if source.event_timestamp else [])))
    derived = f" {dict(source.derive)}" if source.expect and source.derive else ""
    rules = f"{source.id} {source.arrived_at} {source.expect}{derived}"
    return Shape(source.name, file_format, tuple(source.columns.items()), tuple(required), source.timezone, rules)


def schema(wanted: Shape) -> pa.Schema:
    """The Arrow schema of what `read` gives: the source's columns, then file, line (from 1), reason and raw text of refused rows."""
    fields = [pa.field(name, arrow_type(kind)) for name, kind in wanted.columns]
    return pa.schema([*fields, (FILE, pa.string()), (LINE, pa.int64()), (REASON, pa.string()), (RAW, pa.map_(pa.string(), pa.string()))])


def sha256(file: BufferedIOBase, wanted: Shape) -> str:
    """The SHA-256 of a file's bytes and of how they are read: another type or time zone makes it another file."""
    digest = hashlib.file_digest(file, "sha256")
    digest.update(repr(wanted).encode())
    return digest.hexdigest()


def refusal(message: str, wanted: Shape, *, name: str) -> pa.RecordBatch:
    """The one row, on line 0, that stands for a file refused as a whole."""
    return _batch([(0, None, message, None)], schema(wanted), len(wanted.columns), name)


def read(path: Path, wanted: Shape, *, name: str) -> Iterator[pa.RecordBatch]:
    """The rows of a file, good and refused ones; `name` is how the file is called in records. Raises `FileRefused`."""
    try:
        match wanted.format:
            case "csv":
                yield from _read_csv(path, wanted, name)
            case "jsonl":
                yield from _read_json(path, wanted, name)
            case _:
                yield from _read_parquet(path, wanted, name)
    except (OSError, pa.ArrowException, UnicodeDecodeError, EOFError, OverflowError) as error:
        raise FileRefused(f"{name} cannot be read ({first_line(error)}): is it truncated or corrupt?") from error


# -------------------------------------------------------------------------------------------------------------------------- CSV


def _read_csv(path: Path, wanted: Shape, name: str) -> Iterator[pa.RecordBatch]:
    _refuse_zeros(path, name, what="CSV text")
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        reader = csv.reader(text, strict=True)
        try:
            header = [_printable(column.strip()) for column in next(reader, [])]
        except csv.Error as error:
            raise FileRefused(f"{name}, line 1: {error}") from None
        places = _places(header, wanted, name)
        convert = [(column, places[column], cells.of_text(kind, wanted.timezone)) for column, kind in wanted.columns]
        yield from _batches(_rows(reader, header, convert, wanted, name), wanted, name)


def _refuse_zeros(path: Path, name: str, *, what: str) -> None:
    with path.open("rb") as raw:
        if b"\0" in raw.read(65536):
            raise FileRefused(f"{name} holds zero bytes: it is no {what}. Is it corrupt or compressed?")


def _places(header: list[str], wanted: Shape, name: str) -> dict[str, int]:
    if not any(header):
        raise FileRefused(f"{name} is empty: its first line must name the columns {', '.join(c for c, _ in wanted.columns)}")
    refuse_missing(header, wanted, name=name)
    twice = [column for column, _ in wanted.columns if header.count(column) > 1]
    if twice:
        raise FileRefused(f"{name} has the column {twice[0]!r} {header.count(twice[0])} times: which one is meant? Rename the others")
    return {column: header.index(column) for column, _ in wanted.columns}


def refuse_missing(held: Sequence[str], wanted: Shape, *, name: str) -> None:
    """Refuse a file or a frame that lacks one of the source's columns."""
    missing = next((column for column, _ in wanted.columns if column not in held), None)
    if missing is not None:
        listed = textwrap.shorten(", ".join(held), 500, placeholder=" ...")
        raise FileRefused(f"{name} has no column {missing!r}. It has: {listed}. Source {wanted.source} needs it")


Row = tuple[int, list[object] | None, str | None, dict[str, str] | None]


def _rows(reader: Iterator[list[str]], header: list[str], convert: list[tuple[str, int, Cell]], wanted: Shape, name: str) -> Iterator[Row]:
    """Each record as (line, values, reason, raw); a reason stands in for values."""
    while True:
        line = reader.line_num + 1  # type: ignore[attr-defined]  # csv.reader has it
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if reader.line_num > line:  # type: ignore[attr-defined]  # as above
                raise FileRefused(f"{name}, line {line}: a quote that opens here is never closed") from None
            yield line, None, f"not a CSV record: {error}", {}
            continue
        if not record:
            continue
        if len(record) != len(header):
            yield line, None, f"has {len(record)} fields, the header has {len(header)}", _raw(header, record)
            continue
        values, reason = _convert(record, convert, wanted.required)
        yield (line, values, None, None) if reason is None else (line, None, reason, _raw(header, record))


def _convert(record: list[str], convert: list[tuple[str, int, Cell]], required: tuple[str, ...]) -> tuple[list[object], str | None]:
    values: list[object] = []
    for column, place, cell in convert:
        text = record[place]
        try:
            value = cell(text) if text != "" else None
        except ValueError as error:
            return values, f"{column}: {_printable(text)!r} {error}"
        if value is None and column in required:
            return values, f"{column} is null"
        values.append(value)
    return values, None


def _raw(header: list[str], record: list[str]) -> dict[str, str]:
    return {column: _printable(text) for column, text in zip(header, record, strict=False)}


def _printable(text: str) -> str:
    return text[:1000].encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _batches(rows: Iterator[Row], wanted: Shape, name: str, size: int = 20_000) -> Iterator[pa.RecordBatch]:
    result = schema(wanted)
    held: list[Row] = []
    for row in rows:
        held.append(row)
        if len(held) == size:
            yield _batch(held, result, len(wanted.columns), name)
            held = []
    if held:
        yield _batch(held, result, len(wanted.columns), name)


def _batch(rows: list[Row], result: pa.Schema, width: int, name: str) -> pa.RecordBatch:
    nothing: list[object] = [None] * width
    columns: list[list[object]] = [list(column) for column in zip(*(nothing if r[1] is None else r[1] for r in rows), strict=True)]
    raws = [None if r[3] is None else list(r[3].items()) for r in rows]
    extra: list[list[object]] = [[name] * len(rows), [r[0] for r in rows], [r[2] for r in rows], list(raws)]
    return pa.RecordBatch.from_arrays([pa.array(c, type=f.type) for c, f in zip([*columns, *extra], result, strict=True)], schema=result)


# ------------------------------------------------------------------------------------------------------------------- JSON lines


def _read_json(path: Path, wanted: Shape, name: str) -> Iterator[pa.RecordBatch]:
    _refuse_zeros(path, name, what="JSON")
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_int=Number, parse_float=Number, parse_constant=Number)
    convert = {column: cells.of_json(kind, wanted.timezone) for column, kind in wanted.columns}
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as text:
        lines = ((number, line.strip()) for number, line in enumerate(text, 1))
        yield from _batches((_json_row(number, line, decoder, convert, wanted) for number, line in lines if line), wanted, name)


def _object(fields: list[tuple[str, object]]) -> dict[str, object]:
    held = dict(fields)
    if len(held) < len(fields):
        names = [field for field, _ in fields]
        raise ValueError(f"the field {next(n for n in names if names.count(n) > 1)!r} comes twice")
    return held


def _json_row(number: int, line: str, decoder: json.JSONDecoder, convert: Mapping[str, Json], wanted: Shape) -> Row:
    try:
        held = decoder.decode(line)
    except (ValueError, RecursionError) as error:
        said = error.msg if isinstance(error, json.JSONDecodeError) else first_line(error)
        return number, None, f"not a JSON object: {said}", {}
    if not isinstance(held, dict):
        return number, None, "not a JSON object", {}
    values: list[object] = []
    for column, value in convert.items():
        try:
            values.append(None if held.get(column) is None else value(held[column]))
        except ValueError as error:
            return number, None, f"{column}: {_printable(written(held[column]))!r} {error}", _raw_json(held, wanted)
        if values[-1] is None and column in wanted.required:
            return number, None, f"{column} is null", _raw_json(held, wanted)
    return number, values, None, None


def _raw_json(held: Mapping[str, object], wanted: Shape) -> dict[str, str]:
    return {column: _printable(written(held[column])) for column, _ in wanted.columns if held.get(column) is not None}


# ---------------------------------------------------------------------------------------------------------------------- Parquet


def _read_parquet(path: Path, wanted: Shape, name: str) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        refuse_missing(file.schema_arrow.names, wanted, name=name)
        line = 1
        for batch in file.iter_batches(batch_size=65_536, columns=[column for column, _ in wanted.columns]):
            yield check(batch, wanted, name=name, line=line)
            line += batch.num_rows


def check(batch: pa.RecordBatch, wanted: Shape, *, name: str, line: int = 1) -> pa.RecordBatch:
    """Arrow rows in the source's types, with a reason for each row that cannot be taken; a column of another type is refused whole."""
    columns: dict[str, pa.Array] = {}
    reasons = pa.nulls(batch.num_rows, pa.string())
    for column, kind in wanted.columns:
        try:
            array, bad = cells.of_arrow(batch.column(batch.schema.get_field_index(column)), kind, wanted.timezone)
        except Unfit as error:
            raise FileRefused(f"{name}: column {column!r} {error}") from None
        columns[column] = array
        if bad is not None:
            reasons = pc.if_else(pc.and_(bad, pc.is_null(reasons)), f"{column} {unsound(kind)}", reasons)
        if column in wanted.required:
            reasons = pc.if_else(pc.and_(pc.is_null(array), pc.is_null(reasons)), f"{column} is null", reasons)
    raws = _raws(batch, reasons, [column for column, _ in wanted.columns])
    lines = pa.array(range(line, line + batch.num_rows), pa.int64())
    names = pa.array([name] * batch.num_rows, pa.string())
    return pa.RecordBatch.from_arrays([*columns.values(), names, lines, reasons, raws], schema=schema(wanted))


def _raws(batch: pa.RecordBatch, reasons: pa.Array, columns: list[str]) -> pa.Array:
    bad = set(pc.indices_nonzero(pc.is_valid(reasons)).to_pylist())
    rows = [[(c, _shown(batch.column(c)[i])) for c in columns] if i in bad else None for i in range(batch.num_rows)]
    return pa.array(rows, pa.map_(pa.string(), pa.string()))


def _shown(value: pa.Scalar) -> str | None:
    try:
        return None if not value.is_valid else str(value.as_py())
    except (ValueError, OverflowError):
        return str(value.cast(pa.int64()))
