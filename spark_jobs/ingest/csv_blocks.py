"""Blocks of whole lines of a CSV file, and their records as typed columns, read by Arrow: what it may read otherwise is left to others."""

from collections.abc import Iterator, Sequence
from io import StringIO
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from feature_definitions.errors import UserError
from feature_definitions.language import Csv
from lake.delta import arrow_type
from spark_jobs.ingest import dialects, opened, text_columns
from spark_jobs.ingest.cells import Cell
from spark_jobs.ingest.dialects import Record
from spark_jobs.ingest.parsing import Shape, schema
from spark_jobs.ingest.record_places import Records

_BLOCK, _HEAD = 4 * 2**20, 2**16


class LongLine(UserError):
    """A line that is longer than a block: only who reads line by line may say whether it is too long."""


class Blocks:
    """The whole lines of a stream of bytes, some millions of bytes at a time; `line` is how many lines were read."""

    def __init__(self, stream: BinaryIO) -> None:
        """Begin before the first line."""
        self.line = 0
        self._stream = stream
        self._rest = b""
        self._is_at_end = False

    def __iter__(self) -> Iterator[bytes]:
        """Each block, with an end to its last line; raises LongLine. Who reads one adds its lines to `line`."""
        while block := self._next():
            yield block

    def head(self) -> tuple[bytes, bool]:
        """The first lines, which stay to be read, and whether these are all."""
        self._fill()
        if self._is_at_end and len(self._rest) <= _HEAD:
            return _ended(self._rest), True
        return self._rest[: self._rest.rfind(b"\n", 0, _HEAD) + 1], False

    def skip(self, length: int, *, lines: int) -> None:
        """Leave out some bytes, which are so many lines."""
        self._rest = self._rest[length:]
        self.line += lines

    def records(self, block: bytes, dialect: Csv) -> Iterator[Record]:
        """The records of a block, read one by one; where the last one goes on beyond it, the lines after it that belong to it."""
        lines = StringIO(opened.decoded(block), newline="").readlines()
        given, end = self.line, self.line + len(lines)
        asked = self._lines(lines)
        for record in dialects.records_after(given, asked, dialect):
            yield record
            if self.line >= end:
                break
        asked.close()

    def _lines(self, lines: list[str]) -> Iterator[str]:
        for line in lines:
            self.line += 1
            yield line
        for block in self:
            text = StringIO(opened.decoded(block), newline="")
            try:
                for line in text:
                    self.line += 1
                    yield line
            finally:
                self._rest = opened.encoded(text.read()) + self._rest

    def _next(self) -> bytes:
        self._fill()
        end = len(self._rest) if self._is_at_end else self._rest.rfind(b"\n") + 1
        if not end and self._rest:
            raise LongLine(f"line {self.line + 1} is longer than a block")
        block, self._rest = _ended(self._rest[:end]), self._rest[end:]
        return block

    def _fill(self) -> None:
        while len(self._rest) < _BLOCK and not self._is_at_end:
            piece = self._stream.read(_BLOCK)
            self._rest += piece
            self._is_at_end = not piece


def _ended(lines: bytes) -> bytes:
    return lines if not lines or lines.endswith(b"\n") else lines + b"\n"


# ---------------------------------------------------------------------------------------------------------------------- columns


class Field(NamedTuple):
    """A column: where it lies in a record (beyond its end: nowhere), its type, what makes a value of its text, and the texts that are null.

    `at_once` says that `text_columns` reads texts as the cell does, those of local times by `timezone`.
    """

    column: str
    at: int
    kind: str
    cell: Cell
    nulls: frozenset[str]
    at_once: bool
    timezone: str | None


class Layout(NamedTuple):
    """How the records of a file lie: their columns, how many fields each has, the shape of the file and its name."""

    fields: Sequence[Field]
    width: int
    wanted: Shape
    name: str


class Read(NamedTuple):
    """The rows of records that are taken, and the numbers of the records, in their order, that are to be read one by one."""

    rows: pa.RecordBatch
    left: NDArray[np.int64]


def read(block: bytes, records: Records, how: Layout, *, line: int) -> Read | None:
    """The records of a block that begins after so many lines; None if Arrow finds other records there."""
    whole = np.flatnonzero(records.fields == how.width)
    texts = _texts(block, records, how)
    if texts is None or texts.num_rows != len(whole):
        return None
    columns, left = list[pa.Array](), np.zeros(len(whole), np.bool_)
    for field in how.fields:
        values, unread = _values(field, texts, how.width)
        columns.append(values)
        left |= np.asarray(pc.or_(unread, pc.is_null(values)) if field.column in how.wanted.required else unread)
    lines = pa.array(records.line[whole] + (line + 1), pa.int64())
    result = schema(how.wanted)
    nothing = [pa.nulls(len(whole), field.type) for field in list(result)[len(columns) + 2 :]]
    rows = pa.RecordBatch.from_arrays([*columns, pa.repeat(pa.scalar(how.name), len(whole)), lines, *nothing], schema=result)
    others = np.setdiff1d(np.arange(len(records.fields)), whole[~left], assume_unique=True)
    return Read(rows.filter(pa.array(~left)) if left.any() else rows, others)


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
        return csv.read_csv(
            pa.py_buffer(block),
            read_options=csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=list(map(str, range(how.width)))),
            parse_options=parts,
            convert_options=csv.ConvertOptions(column_types=dict.fromkeys(read, pa.string()), include_columns=read),
        ).combine_chunks()
    except pa.ArrowInvalid:  # text that is not UTF-8
        return None


def _values(field: Field, texts: pa.Table, width: int) -> text_columns.Read:
    if field.at >= width:
        always = pa.repeat(pa.scalar(field.cell(""), arrow_type(field.kind)), texts.num_rows)
        return always, pa.repeat(pa.scalar(False), texts.num_rows)
    found = texts.column(str(field.at))
    held = found.chunk(0) if found.num_chunks else pa.array([], pa.string())
    if field.nulls:
        held = pc.if_else(pc.is_in(held, value_set=pa.array(sorted(field.nulls), pa.string())), pa.scalar(None, pa.string()), held)
    return text_columns.of_texts(held, field.kind, field.timezone) if field.at_once else _by_cell(field, held)


def _by_cell(field: Field, texts: pa.Array) -> text_columns.Read:
    """The values of texts, of which each is read once."""
    known = texts.dictionary_encode()
    values, unread = list[object](), list[bool]()
    for text in known.dictionary.to_pylist():
        try:
            values.append(field.cell(text))
            unread.append(False)
        except ValueError:
            values.append(None)
            unread.append(True)
    left = pc.fill_null(pa.array(unread, pa.bool_()).take(known.indices), fill_value=False)
    return pa.array(values, arrow_type(field.kind)).take(known.indices), left
