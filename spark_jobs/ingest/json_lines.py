"""Reads JSON: objects in lines, in an array or over several lines."""

import json
from collections.abc import Iterator, Mapping

import pyarrow as pa

from spark_jobs.ingest import cells, dialects, folders, json_objects, opened
from spark_jobs.ingest.cells import Json, Number, written
from spark_jobs.ingest.json_objects import NotJson
from spark_jobs.ingest.parsing import FileRefused, Refused, Row, Shape, batches, printable
from spark_jobs.ingest.whereabouts import Place


def read(path: Place, wanted: Shape, *, name: str) -> Iterator[pa.RecordBatch]:
    """The rows of a JSON file, good and refused ones."""
    told = folders.told(wanted, name=name)
    fields = {
        ours: (str(column.name), cells.of_json(column.data_type, wanted.timezone, how=column)) for ours, column in wanted.lying.items()
    }
    with opened.text(path, "utf-8", newline="") as text:
        try:
            rows = (_row(line, held, fields, told, wanted) for line, held in objects(text))
            yield from batches(rows, wanted, name=name, text=text)
        except NotJson as error:
            raise FileRefused(f"{name}, {error}") from None


def objects(text: opened.Text) -> Iterator[json_objects.Found]:
    """Each object of an open text with its line, numbers as they are written; raises NotJson."""
    return json_objects.objects(
        (piece.removeprefix(dialects.BOM) for piece in text.pieces()),  # of a file that was joined to another
        json.JSONDecoder(object_pairs_hook=_object, parse_int=Number, parse_float=Number, parse_constant=Number),
    )


def _object(fields: list[tuple[str, object]]) -> dict[str, object]:
    held = dict(fields)
    if len(held) < len(fields):
        names = [field for field, _ in fields]
        raise ValueError(f"the field {next(n for n in names if names.count(n) > 1)!r} comes twice")
    return held


def _row(line: int, held: object, fields: Mapping[str, tuple[str, Json]], told: Mapping[str, object], wanted: Shape) -> Row:
    if not isinstance(held, dict):
        return line, None, Refused(f"not a JSON object: {held}" if isinstance(held, ValueError) else "not a JSON object")
    values: list[object] = []
    for column, (field, value) in fields.items():
        given = held.get(field)
        try:
            found = told[column] if column in told and field not in held else None if given is None else value(given)
            values.append(folders.as_told(found, told[column]) if column in told else found)
        except ValueError as error:
            shown = printable(written(given))
            return line, None, Refused(f"{column}: {shown!r} {error}", column, shown, _raw(held, wanted))
        if values[-1] is None and column in wanted.required:
            return line, None, Refused(f"{column} is null", column, raw=_raw(held, wanted))
    return line, values, None


def _raw(held: Mapping[str, object], wanted: Shape) -> tuple[tuple[str, str | None], ...]:
    shown = {ours: printable(written(held[field])) for field, ours in wanted.ours.items() if held.get(field) is not None}
    return tuple({**dict(wanted.folders), **shown}.items())
