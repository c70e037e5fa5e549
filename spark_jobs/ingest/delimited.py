"""Reads CSV: text in columns, in the dialect that the source states.

Blocks of whole lines are read by Arrow. What it may read otherwise than Python's `csv` and `cells` is read again by these, record by
record: they alone say what is wrong, and where.
"""

import codecs
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import chain, islice
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from feature_definitions.language import Column, Csv
from feature_definitions.layout import LINE
from feature_definitions.sql.data_types import is_number
from spark_jobs.ingest import cells, csv_blocks, dialects, folders, opened, plain_numbers, text_columns
from spark_jobs.ingest.cells import Cell
from spark_jobs.ingest.csv_blocks import Field, Layout
from spark_jobs.ingest.dialects import NeverClosed, Record
from spark_jobs.ingest.opened import Blocks, LineTooLong, LongLine
from spark_jobs.ingest.parsing import FileRefused, Refused, Row, Shape, batches, printable, refuse_missing
from spark_jobs.ingest.whereabouts import Place

_FIRST = 20
"""By so many records it is decided whether each line ends with a delimiter that begins no field."""


class _Place(NamedTuple):
    """Where a column lies in a record, what gives that which makes a value of its text, and the texts that are null."""

    column: str
    at: int
    cell: Callable[[], Cell]
    nulls: frozenset[str]


_Made = tuple[str, int, Cell, frozenset[str]]
"""A place whose cell was made."""


def read(path: Place, wanted: Shape, *, name: str) -> Iterator[pa.RecordBatch]:
    """The rows of a CSV file, good and refused ones."""
    dialect, done = wanted.csv or Csv(), 0
    try:
        with opened.plain(path) as stream:
            begun = _begun(stream, wanted, dialect, name)
            for lines, batch in () if begun is None else _by_blocks(begun, wanted, dialect, name=name):
                yield batch
                done = lines
        if begun is None:
            yield from _by_records(path, wanted, dialect, name=name)
    except LongLine:
        yield from _by_records(path, wanted, dialect, name=name, after=done)
    except NeverClosed as error:
        raise FileRefused(f"{name}, {error}") from None


def _by_records(path: Place, wanted: Shape, dialect: Csv, *, name: str, after: int = 0) -> Iterator[pa.RecordBatch]:
    """The rows that come after so many lines, read one by one."""
    with opened.text(path, dialect.encoding, newline="") as text:
        try:
            records = dialects.records(text, dialect)
            header, first = _headed(records, wanted, name)
            rows = _rows(chain(first, records), header, _places(header, wanted, dialect, name), wanted)
            yield from batches((row for row in rows if row[0] > after), wanted, name=name, text=text)
        except (NeverClosed, LineTooLong) as error:
            raise FileRefused(f"{name}, {error}") from None


def _headed(records: Iterator[Record], wanted: Shape, name: str) -> tuple[list[str], list[Record]]:
    """The header, and the first records after it."""
    header = _header(records, wanted, name)
    first = list(islice(records, _FIRST))
    return _with_ends(header, first), first


# ----------------------------------------------------------------------------------------------------------------------- blocks


class _Begun(NamedTuple):
    """The blocks of a file after its header, and where columns lie in its records."""

    blocks: Blocks
    header: list[str]
    places: list[_Place]


def _begun(stream: BinaryIO, wanted: Shape, dialect: Csv, name: str) -> _Begun | None:
    """A file whose header is its first line; None where it had better be read record by record."""
    begin: bytes = stream.peek(4)  # type: ignore[attr-defined]  # all of them have it
    encoding = opened.encoding_of(begin, dialect.encoding)
    if not csv_blocks.is_plain(dialect) or encoding not in ("utf-8", "utf-8-sig"):
        return None
    if encoding == "utf-8-sig":
        stream.read(len(codecs.BOM_UTF8))
    blocks = Blocks(stream)
    head, is_whole = blocks.head()
    found, text = csv_blocks.of_block(head, dialect), opened.decoded(head)
    if found is None or dialects.has_mark(text[:20].partition("\n")[0]) or len(found.starts) <= (1 if is_whole else _FIRST + 1):
        return None
    if dialect.header and (found.starts[0] or found.line[1] != 1):
        return None
    header, _ = _headed(dialects.records(opened.lines_of(text), dialect), wanted, name)
    if dialect.header:
        blocks.skip(int(found.starts[1]), lines=1)
    return _Begun(blocks, header, _places(header, wanted, dialect, name))


def _by_blocks(begun: _Begun, wanted: Shape, dialect: Csv, *, name: str) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of a file's blocks, each with the number of lines that its rows and all before it come from."""
    blocks, header, places = begun
    told = folders.told(wanted, name=name)
    fields = [_field(place, wanted, is_plain=dialect.has_plain_numbers and place.column not in told) for place in places]
    layout = Layout(fields, header, wanted, name)
    for block in blocks:
        line, records, read = blocks.line, csv_blocks.of_block(block, dialect), None
        if records is not None:
            read = csv_blocks.read(block, records, layout, line=line)
        if records is None or read is None:
            rows = list(_rows(_records(blocks, block, dialect), header, places, wanted))
            yield from ((blocks.line, batch) for batch in batches(iter(rows), wanted, name=name))
            continue
        blocks.line += records.lines
        if not len(read.left):
            yield blocks.line, read.rows
            continue
        again = dialects.records_after(0, opened.lines_of(csv_blocks.text_of(block, records, read.left)), dialect)
        lines = (records.line[read.left] + line + 1).tolist()
        others = list(_rows(((at, record) for at, (_, record) in zip(lines, again, strict=True)), header, places, wanted))
        yield blocks.line, _in_order(read.rows, [*batches(iter(others), wanted, name=name)])


def _records(blocks: Blocks, block: bytes, dialect: Csv) -> Iterator[Record]:
    """The records of a block, the last of which may go on beyond it, read one by one."""
    before, within = blocks.line, sum(1 for _ in opened.lines_of(opened.decoded(block)))
    lines = blocks.lines(block)
    for record in dialects.records_after(before, lines, dialect):
        yield record
        if blocks.line >= before + within:
            break
    lines.close()


def _field(place: _Place, wanted: Shape, *, is_plain: bool) -> Field:
    how = wanted.lying[place.column]
    at_once = is_plain and text_columns.reads(how)
    return Field(place.column, place.at, how.data_type, place.cell, place.nulls, at_once, wanted.timezone)


def _in_order(rows: pa.RecordBatch, others: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Rows in the order of their lines."""
    if not others:
        return rows
    both = pa.Table.from_batches([rows, *others]).combine_chunks()
    return both.take(pc.sort_indices(both.column(LINE))).combine_chunks().to_batches()[0]


# ---------------------------------------------------------------------------------------------------------------------- records


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
        cell = cache(partial(_cell, column, wanted.timezone, dialect))
        nulls = words if column.data_type == "string" else words | {""}
        if ours not in told:
            places.append(_Place(ours, header.index(written), cell, nulls))
        elif written in header:
            places.append(_Place(ours, header.index(written), partial(_as_told, cell, nulls, told[ours]), frozenset()))
        else:
            places.append(_Place(ours, len(header) + beside.index(ours), partial(folders.always, told[ours]), frozenset()))
    return places


def _cell(column: Column, timezone: str | None, dialect: Csv) -> Cell:
    cell = cells.of_text(column.data_type, timezone, how=column)
    if is_number(column.data_type) and not dialect.has_plain_numbers:
        return plain_numbers.of_text(cell, column.data_type, dialect)
    return cell


def _as_told(cell: Callable[[], Cell], nulls: frozenset[str], told: object) -> Cell:
    """A cell whose value must be that which the file's folder tells."""
    return lambda text: folders.as_told(None if text in nulls else cell()(text), told)


def _rows(records: Iterator[Record], header: list[str], places: list[_Place], wanted: Shape) -> Iterator[Row]:
    """Each record, taken or refused, with the line where it begins."""
    named = [wanted.ours.get(column, None if column in wanted.lying else column) for column in header]
    alone = tuple((ours, text) for ours, text in wanted.folders if ours not in named)
    beside = ["" if text is None else text for _, text in wanted.folders]
    made = [(place.column, place.at, place.cell(), place.nulls) for place in places]
    has_header = wanted.csv is None or wanted.csv.header
    owner = "the header" if has_header else "the source"
    for line, record in records:
        if isinstance(record, str):
            yield line, None, Refused(record)
        elif has_header and record[0].strip() == header[0] and [printable(field.strip()) for field in record] == header:
            yield line, None, Refused("is the header again: were files joined?", raw=_raw(named, record))
        elif len(record) != len(header):
            if len(record) > 1 or record[0].strip():
                yield line, None, Refused(f"has {len(record)} fields, {owner} has {len(header)}", raw=_raw(named, record))
        else:
            values, refused = _convert(record + beside if beside else record, made, wanted.required)
            yield (line, values, None) if refused is None else (line, None, refused._replace(raw=(*_raw(named, record), *alone)))


def _convert(record: list[str], places: list[_Made], required: tuple[str, ...]) -> tuple[list[object], Refused | None]:
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
