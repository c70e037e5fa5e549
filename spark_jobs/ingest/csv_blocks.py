"""A block of whole lines of a CSV file as typed columns, read by Arrow at once: what that may read otherwise is left to others."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from feature_definitions.language import Csv
from lake.arrow_types import arrow_type
from spark_jobs.ingest import opened, text_columns
from spark_jobs.ingest.cells import Cell
from spark_jobs.ingest.parsing import Shape, schema

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]
_LF, _CR = 10, 13
_BOM = b"\xef\xbb\xbf"


class Records(NamedTuple):
    """The records of a block: where each begins and ends (without its line's end), on which line of the block (from 0) it begins, and how
    many fields it has. Blank lines are none. `within` says that a field holds a line's end, `lines` how many lines the block has."""

    starts: Places
    ends: Places
    line: Places
    fields: Places
    within: bool
    lines: int


def is_plain(dialect: Csv) -> bool:
    """Whether a dialect is one in which records are told apart by single bytes."""
    signs = [dialect.delimiter, *([] if dialect.quote is None else [dialect.quote])]
    return dialect.escape is None and all(sign.isascii() for sign in signs)


def of_block(block: bytes, dialect: Csv) -> Records | None:
    """The records of a block that ends with its last line's end; None if some may be read otherwise by one of the two."""
    if b"\0" in block or _BOM in block:
        return None
    data = np.frombuffer(block, np.uint8)
    newlines = np.flatnonzero(data == _LF)
    if b"\r" in block and np.any(data[np.flatnonzero(data == _CR) + 1] != _LF):
        return None
    delimiters = np.flatnonzero(data == ord(dialect.delimiter))
    ends = newlines
    if dialect.quote is not None and dialect.quote.encode() in block:
        quotes = np.flatnonzero(data == ord(dialect.quote))
        if not _are_whole(quotes, data, dialect):
            return None
        ends = newlines[_outside(newlines, quotes)]
        delimiters = delimiters[_outside(delimiters, quotes)]
    starts = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
    line = np.searchsorted(newlines, starts)
    fields = np.diff(np.searchsorted(delimiters, ends), prepend=0) + 1
    ends = ends - (data[np.maximum(ends - 1, 0)] == _CR)
    held = ends > starts
    return Records(starts[held], ends[held], line[held], fields[held], within=len(ends) < len(newlines), lines=len(newlines))


def _are_whole(quotes: Places, data: Bytes, dialect: Csv) -> bool:
    """Whether quotes open where fields begin, close where they end, and are doubled in between."""
    if len(quotes) % 2:
        return False
    opening, closing = quotes[::2], quotes[1::2]
    before = data[np.maximum(opening - 1, 0)]
    after = data[closing + 1]
    quote, delimiter = ord(str(dialect.quote)), ord(dialect.delimiter)
    begins = (opening == 0) | np.isin(before, np.array([_LF, delimiter, quote], np.uint8))
    return bool(np.all(begins) and np.all(np.isin(after, np.array([_LF, _CR, delimiter, quote], np.uint8))))


def _outside(places: Places, quotes: Places) -> NDArray[np.bool_]:
    """Which places are not within quotes."""
    return np.asarray(np.searchsorted(quotes, places) % 2 == 0, np.bool_)


# --------------------------------------------------------------------------------------------------------------------------------- columns


class Field(NamedTuple):
    """A column: where it lies in a record (beyond its end: nowhere), its type, what gives its cell, and the texts that are null.

    `at_once` says that `text_columns` reads texts as the cell does, those of local times by `timezone`.
    """

    column: str
    at: int
    kind: str
    cell: Callable[[], Cell]
    nulls: frozenset[str]
    at_once: bool
    timezone: str | None


class Layout(NamedTuple):
    """How the records of a file lie: their columns, the header (as wide as each is), the shape of the file and its name."""

    fields: Sequence[Field]
    header: Sequence[str]
    wanted: Shape
    name: str

    @property
    def width(self) -> int:
        """How many fields each record has."""
        return len(self.header)


class ReadBlock(NamedTuple):
    """The rows of records that are taken, and the numbers of the records, in their order, that are to be read one by one."""

    rows: pa.RecordBatch
    left: NDArray[np.int64]


def read(block: bytes, records: Records, how: Layout, *, line: int) -> ReadBlock | None:
    """The records of a block that begins after so many lines; None if Arrow finds other records there."""
    whole = np.flatnonzero(records.fields == how.width)
    texts = _texts(block, records, how)
    if texts is None or texts.num_rows != len(whole):
        return None
    columns, left = list[pa.Array](), _like_the_header(texts, how)
    for field in how.fields:
        values, unread = _values(field, texts, how.width)
        columns.append(values)
        left |= np.asarray(pc.or_(unread, pc.is_null(values)) if field.column in how.wanted.required else unread)
    lines = pa.array(records.line[whole] + (line + 1), pa.int64())
    result = schema(how.wanted)
    nothing = [pa.nulls(len(whole), field.type) for field in list(result)[len(columns) + 2 :]]
    rows = pa.RecordBatch.from_arrays([*columns, pa.repeat(pa.scalar(how.name), len(whole)), lines, *nothing], schema=result)
    others = np.setdiff1d(np.arange(len(records.fields)), whole[~left], assume_unique=True)
    return ReadBlock(rows.filter(pa.array(~left)) if left.any() else rows, others)


def _like_the_header(texts: pa.Table, how: Layout) -> NDArray[np.bool_]:
    """Which records may be the header again: none where a column's name is no value of it anyway."""
    alike = np.full(texts.num_rows, all(field.kind == "string" for field in how.fields), np.bool_)
    for field in how.fields:
        if field.at < how.width and alike.any():
            alike &= np.asarray(pc.equal(pc.utf8_trim_whitespace(texts.column(str(field.at))), how.header[field.at]))
    return alike


def text_of(block: bytes, records: Records, numbers: NDArray[np.int64]) -> str:
    """The text of some records of a block, in lines."""
    spans = zip(records.starts[numbers].tolist(), records.ends[numbers].tolist(), strict=True)
    return opened.decoded(b"".join(block[start:end] + b"\n" for start, end in spans))


def _texts(block: bytes, records: Records, how: Layout) -> pa.Table | None:
    """The texts of the columns, by their places in a record."""
    read, dialect = list(dict.fromkeys(str(field.at) for field in how.fields if field.at < how.width)) or ["0"], how.wanted.csv or Csv()
    parts = csv.ParseOptions(
        delimiter=dialect.delimiter,
        quote_char=dialect.quote or False,
        newlines_in_values=records.within,
        invalid_row_handler=lambda _: "skip",
    )
    try:
        reader = csv.open_csv(  # which costs a small file half of what `read_csv` does
            pa.py_buffer(block),
            read_options=csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=list(map(str, range(how.width)))),
            parse_options=parts,
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(read, pa.string()), include_columns=read),
        )
        return reader.read_all().combine_chunks()
    except pa.ArrowInvalid:  # text that is not UTF-8
        return None


def _values(field: Field, texts: pa.Table, width: int) -> text_columns.Read:
    if field.at >= width:
        always = pa.repeat(pa.scalar(field.cell()(""), arrow_type(field.kind)), texts.num_rows)
        return always, pa.repeat(pa.scalar(False), texts.num_rows)
    found = texts.column(str(field.at))
    held = found.chunk(0) if found.num_chunks else pa.array([], pa.string())
    if field.nulls:
        held = pc.if_else(pc.is_in(held, value_set=pa.array(sorted(field.nulls), pa.string())), pa.scalar(None, pa.string()), held)
    return text_columns.of_texts(held, field.kind, field.timezone) if field.at_once else _by_cell(field, held)


def _by_cell(field: Field, texts: pa.Array) -> text_columns.Read:
    """The values of texts, of which each is read once."""
    known, cell = texts.dictionary_encode(), field.cell()
    values, unread = list[object](), list[bool]()
    for text in known.dictionary.to_pylist():
        try:
            values.append(cell(text))
            unread.append(False)
        except ValueError:
            values.append(None)
            unread.append(True)
    left = pc.fill_null(pa.array(unread, pa.bool_()).take(known.indices), fill_value=False)
    return pa.array(values, arrow_type(field.kind)).take(known.indices), left
