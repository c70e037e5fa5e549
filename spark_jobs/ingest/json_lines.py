"""Reads JSON lines: one object a line."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from spark_jobs.ingest import cells
from spark_jobs.ingest.cells import Json, Number, first_line, written
from spark_jobs.ingest.parsing import Refused, Row, Shape, batches, printable, refuse_zeros


def read(path: Path, wanted: Shape, *, name: str) -> Iterator[pa.RecordBatch]:
    """The rows of a file of JSON lines, good and refused ones."""
    refuse_zeros(path, name, what="JSON")
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_int=Number, parse_float=Number, parse_constant=Number)
    convert = {
        name: (str(column.name), cells.of_json(column.data_type, wanted.timezone, how=column)) for name, column in wanted.lying.items()
    }
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as text:
        lines = ((number, line.strip()) for number, line in enumerate(text, 1))
        yield from batches((_row(number, line, decoder, convert, wanted) for number, line in lines if line), wanted, name=name)


def _object(fields: list[tuple[str, object]]) -> dict[str, object]:
    held = dict(fields)
    if len(held) < len(fields):
        names = [field for field, _ in fields]
        raise ValueError(f"the field {next(n for n in names if names.count(n) > 1)!r} comes twice")
    return held


def _row(number: int, line: str, decoder: json.JSONDecoder, convert: Mapping[str, tuple[str, Json]], wanted: Shape) -> Row:
    try:
        held = decoder.decode(line)
    except (ValueError, RecursionError) as error:
        said = error.msg if isinstance(error, json.JSONDecodeError) else first_line(error)
        return number, None, Refused(f"not a JSON object: {said}")
    if not isinstance(held, dict):
        return number, None, Refused("not a JSON object")
    values: list[object] = []
    for column, (field, value) in convert.items():
        try:
            values.append(None if held.get(field) is None else value(held[field]))
        except ValueError as error:
            shown = printable(written(held[field]))
            return number, None, Refused(f"{column}: {shown!r} {error}", column, shown, _raw(held, wanted))
        if values[-1] is None and column in wanted.required:
            return number, None, Refused(f"{column} is null", column, raw=_raw(held, wanted))
    return number, values, None


def _raw(held: Mapping[str, object], wanted: Shape) -> tuple[tuple[str, str], ...]:
    return tuple((ours, printable(written(held[field]))) for field, ours in wanted.ours.items() if held.get(field) is not None)
