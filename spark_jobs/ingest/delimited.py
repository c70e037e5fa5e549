"""Reads CSV: text in columns, record by record, in the dialect that the source states."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

import pyarrow as pa

from feature_definitions.language import Csv
from feature_definitions.sql.data_types import is_number
from spark_jobs.ingest import cells, dialects, folders, opened, plain_numbers
from spark_jobs.ingest.cells import Cell
from spark_jobs.ingest.dialects import NeverClosed, Record
from spark_jobs.ingest.opened import LineTooLong
from spark_jobs.ingest.parsing import FileRefused, Refused, Row, Shape, batches, printable, refuse_missing
from spark_jobs.ingest.whereabouts import Place

_FIRST = 20
"""By so many records it is decided whether each line ends with a delimiter that begins no field."""


class _Place(NamedTuple):
    """Where a column lies in a record, what makes a value of its text, and the texts that are null."""

    column: str
    at: int
    cell: Cell
    nulls: frozenset[str]


def read(path: Place, wanted: Shape, *, name: str) -> Iterator[pa.RecordBatch]:
    """The rows of a CSV file, good and refused ones."""
    dialect = wanted.csv or Csv()
    with opened.text(path, dialect.encoding, newline="") as text:
        try:
            records = dialects.records(text, dialect)
            header = _header(records, wanted, name)
            first = list(islice(records, _FIRST))
            header = _with_ends(header, first)
            places = _places(header, wanted, dialect, name)
            yield from batches(_rows(chain(first, records), header, places, wanted), wanted, name=name, text=text)
        except (NeverClosed, LineTooLong) as error:
            raise FileRefused(f"{name}, {error}") from None


def _header(records: Iterator[Record], wanted: Shape, name: str) -> list[str]:
    """The names of a file's columns: in its first record, or in the source."""
    if wanted.csv is not None and not wanted.csv.header:
        return [written for written, ours in wanted.ours.items() if ours not in dict(wanted.folders)]
    line, record = next(records, (1, []))
    if isinstance(record, str):
        raise FileRefused(f"{name}, line {line}: {record}")
    header = [printable(column.strip()) for column in record]
    if not any(header):
        raise FileRefused(f"{name} is empty: its first line must name the columns {', '.join(wanted.ours)}")
    if any("\0" in column for column in header):
        raise FileRefused(f"{name} holds zero bytes: it is no CSV text. Is it corrupt, or written in another encoding?")
    refuse_missing(header, wanted, name=name)
    return header


def _with_ends(header: list[str], first: Sequence[Record]) -> list[str]:
    """The header of the records, if each line, or the header alone, ends with a delimiter that begins no field."""
    records = [record for _, record in first if isinstance(record, list)]
    if records and all(len(record) == len(header) + 1 and not record[-1] for record in records):
        return [*header, ""]
    if records and not header[-1] and all(len(record) == len(header) - 1 for record in records):
        return header[:-1]
    return header


def _places(header: list[str], wanted: Shape, dialect: Csv, name: str) -> list[_Place]:
    told, words = folders.told(wanted, name=name), frozenset(dialect.nulls)
    beside = list(told)
    places: list[_Place] = []
    for written, ours in wanted.ours.items():
        column = wanted.lying[ours]
        cell = cells.of_text(column.data_type, wanted.timezone, how=column)
        if is_number(column.data_type):
            cell = plain_numbers.of_text(cell, column.data_type, dialect)
        nulls = words if column.data_type == "string" else words | {""}
        if ours not in told:
            places.append(_Place(ours, header.index(written), cell, nulls))
        elif written in header:
            places.append(_Place(ours, header.index(written), _as_told(cell, nulls, told[ours]), frozenset()))
        else:
            places.append(_Place(ours, len(header) + beside.index(ours), folders.always(told[ours]), frozenset()))
    return places


def _as_told(cell: Cell, nulls: frozenset[str], told: object) -> Cell:
    """A cell whose value must be that which the file's folder tells."""
    return lambda text: folders.as_told(None if text in nulls else cell(text), told)


def _rows(records: Iterator[Record], header: list[str], places: list[_Place], wanted: Shape) -> Iterator[Row]:
    """Each record, taken or refused, with the line where it begins."""
    named = [wanted.ours.get(column, None if column in wanted.lying else column) for column in header]
    alone = tuple((ours, text) for ours, text in wanted.folders if ours not in named)
    beside = ["" if text is None else text for _, text in wanted.folders]
    owner = "the header" if wanted.csv is None or wanted.csv.header else "the source"
    for line, record in records:
        if isinstance(record, str):
            yield line, None, Refused(record)
        elif len(record) != len(header):
            if len(record) > 1 or record[0].strip():
                yield line, None, Refused(f"has {len(record)} fields, {owner} has {len(header)}", raw=_raw(named, record))
        else:
            values, refused = _convert(record + beside if beside else record, places, wanted.required)
            yield (line, values, None) if refused is None else (line, None, refused._replace(raw=(*_raw(named, record), *alone)))


def _convert(record: list[str], places: list[_Place], required: tuple[str, ...]) -> tuple[list[object], Refused | None]:
    values: list[object] = []
    for column, at, cell, nulls in places:
        text = record[at]
        try:
            value = None if text in nulls else cell(text)
        except ValueError as error:
            if not nulls or text.strip() not in nulls:
                shown = printable(text)
                return values, Refused(f"{column}: {shown!r} {error}", column, shown)
            value = None
        if value is None and column in required:
            return values, Refused(f"{column} is null", column)
        values.append(value)
    return values, None


def _raw(named: list[str | None], record: list[str]) -> tuple[tuple[str, str], ...]:
    """The text of a record by column; another column that has a name of ours is left out."""
    return tuple({column: printable(text) for column, text in zip(named, record, strict=False) if column is not None}.items())
