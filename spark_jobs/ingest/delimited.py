"""Reads CSV: text in columns, record by record."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from spark_jobs.ingest import cells
from spark_jobs.ingest.cells import Cell
from spark_jobs.ingest.parsing import FileRefused, Refused, Row, Shape, batches, printable, refuse_missing, refuse_zeros


def read(path: Path, wanted: Shape, *, name: str) -> Iterator[pa.RecordBatch]:
    """The rows of a CSV file, good and refused ones."""
    refuse_zeros(path, name, what="CSV text")
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        reader = csv.reader(text, strict=True)
        try:
            header = [printable(column.strip()) for column in next(reader, [])]
        except csv.Error as error:
            raise FileRefused(f"{name}, line 1: {error}") from None
        places = _places(header, wanted, name)
        convert = [
            (name, places[name], cells.of_text(column.data_type, wanted.timezone, how=column)) for name, column in wanted.lying.items()
        ]
        yield from batches(_rows(reader, header, convert, wanted, name), wanted, name=name)


def _places(header: list[str], wanted: Shape, name: str) -> dict[str, int]:
    if not any(header):
        raise FileRefused(f"{name} is empty: its first line must name the columns {', '.join(wanted.ours)}")
    refuse_missing(header, wanted, name=name)
    return {ours: header.index(written) for written, ours in wanted.ours.items()}


def _rows(reader: Iterator[list[str]], header: list[str], convert: list[tuple[str, int, Cell]], wanted: Shape, name: str) -> Iterator[Row]:
    """Each record, taken or refused, with the line where it begins."""
    named = [wanted.ours.get(column, column) for column in header]
    while True:
        line = reader.line_num + 1  # type: ignore[attr-defined]  # csv.reader has it
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if reader.line_num > line:  # type: ignore[attr-defined]  # as above
                raise FileRefused(f"{name}, line {line}: a quote that opens here is never closed") from None
            yield line, None, Refused(f"not a CSV record: {error}")
            continue
        if not record:
            continue
        if len(record) != len(header):
            yield line, None, Refused(f"has {len(record)} fields, the header has {len(header)}", raw=_raw(named, record))
            continue
        values, refused = _convert(record, convert, wanted.required)
        yield (line, values, None) if refused is None else (line, None, refused._replace(raw=_raw(named, record)))


def _convert(record: list[str], convert: list[tuple[str, int, Cell]], required: tuple[str, ...]) -> tuple[list[object], Refused | None]:
    values: list[object] = []
    for column, place, cell in convert:
        text = record[place]
        try:
            value = cell(text) if text != "" else None
        except ValueError as error:
            shown = printable(text)
            return values, Refused(f"{column}: {shown!r} {error}", column, shown)
        if value is None and column in required:
            return values, Refused(f"{column} is null", column)
        values.append(value)
    return values, None


def _raw(named: list[str], record: list[str]) -> tuple[tuple[str, str], ...]:
    return tuple({column: printable(text) for column, text in zip(named, record, strict=False)}.items())
