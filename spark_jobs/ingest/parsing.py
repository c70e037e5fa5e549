"""What all formats of source files share: the shape that a file must have, and rows that are taken or refused with line and reason."""

import hashlib
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BufferedIOBase
from typing import NamedTuple

import pyarrow as pa

from feature_definitions.errors import UserError
from feature_definitions.language import Column, Csv, Files, Source
from feature_definitions.layout import COLUMN, FILE, LINE, RAW, REASON, VALUE
from feature_definitions.sql.derivations import may_fail, may_fail_beside
from lake.arrow_types import arrow_type
from spark_jobs.ingest.opened import Text


class FileRefused(UserError):
    """A file that cannot be taken as a whole: truncated, corrupt, or with other columns than the source has."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a file must look like: the part of a source that reading it needs, small enough to send to workers."""

    source: str
    format: str
    columns: tuple[tuple[str, str], ...]
    written: tuple[Column, ...]
    required: tuple[str, ...]
    timezone: str | None
    rules: str
    csv: Csv | None = None
    folders: tuple[tuple[str, str | None], ...] = ()

    @property
    def lying(self) -> dict[str, Column]:
        """How each column lies in a file, by our name."""
        return {name: column for (name, _), column in zip(self.columns, self.written, strict=True)}

    @property
    def ours(self) -> dict[str, str]:
        """Our name of each column, by its name in a file."""
        return {str(column.name): name for name, column in self.lying.items()}


FRAME = "frame"
"""The format of rows that came in a frame and are kept as Parquet: their columns have our names."""


def shape(source: Source, file_format: str) -> Shape:
    """The shape of a source's files; its id and event timestamp must not be null."""
    lying = source.written.items()
    written = tuple(replace(column, name=name) if file_format == FRAME else column for name, column in lying)
    required = dict.fromkeys((*source.id, *([source.event_timestamp] if source.event_timestamp else [])))
    rules = f"{source.id} {source.arrived_at} {source.expect}{_judging(source)}"
    return Shape(
        source.name,
        file_format,
        tuple(source.columns.items()),
        written,
        tuple(required),
        source.timezone,
        rules,
        _dialect(source, file_format),
    )


def _judging(source: Source) -> str:
    """What of a source's derivations says which rows are put aside; nothing where no row can be."""
    beside = f" {source.lag_over} {source.lag}" if may_fail_beside(source) else ""
    judging = source.derive and (beside or source.expect or may_fail(source))
    return f" {dict(source.derive)}{beside}" if judging else ""


def _dialect(source: Source, file_format: str) -> Csv | None:
    return source.at.csv if isinstance(source.at, Files) and file_format == "csv" else None


REFUSED = f"{REASON} string, {COLUMN} string, {VALUE} string, {RAW} map<string,string>"
"""The columns that tell why a row is put aside, as Spark writes them down; they are null where it is not."""
RAWS = pa.map_(pa.string(), pa.string())
"""The text of a refused row, by column."""


def schema(wanted: Shape) -> pa.Schema:
    """The Arrow schema of rows that were read: the source's columns, then the file, the line (from 1) and why a row is put aside."""
    fields = [pa.field(name, arrow_type(kind)) for name, kind in wanted.columns]
    refused = [(REASON, pa.string()), (COLUMN, pa.string()), (VALUE, pa.string()), (RAW, RAWS)]
    return pa.schema([*fields, (FILE, pa.string()), (LINE, pa.int64()), *refused])


def sha256(file: BufferedIOBase, wanted: Shape) -> str:
    """The SHA-256 of a file's bytes and of how they are read: another type or time zone makes it another file."""
    digest = hashlib.file_digest(file, "sha256")
    digest.update(repr(wanted).encode())
    return digest.hexdigest()


def refuse_missing(held: Sequence[str], wanted: Shape, *, name: str) -> None:
    """Refuse a file or a frame that lacks one of the source's columns, or has it twice."""
    missing = {o: column for o, column in wanted.lying.items() if column.name not in held and o not in dict(wanted.folders)}
    if missing:
        listed = textwrap.shorten(", ".join(held), 500, placeholder=" ...")
        advice = "".join(named_otherwise(ours, column, held) for ours, column in missing.items())
        first = next(iter(missing.values())).name
        raise FileRefused(f"{name} has no column {first!r}.{advice} It has: {listed}. Source {wanted.source} needs it")
    for column in wanted.lying.values():
        if (times := held.count(column.name)) > 1:
            raise FileRefused(f"{name} has the column {column.name!r} {times} times: which one is meant? Rename the others")


def named_otherwise(ours: str, column: Column, held: Iterable[str]) -> str:
    """What to write if the data have a column of nearly this name."""
    near = [each for each in held if _plain(each) in (_plain(ours), _plain(str(column.name)))]
    return f' If it is {near[0]!r}, write "{ours}": Column("{column.data_type}", "{near[0]}").' if near else ""


def _plain(name: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFKC", name).casefold() if letter.isalnum())


# ------------------------------------------------------------------------------------------------------------------------- rows


class Refused(NamedTuple):
    """Why a row is put aside, the column and the value at fault unless it is the whole row, and its text by column."""

    reason: str
    column: str | None = None
    value: str | None = None
    raw: tuple[tuple[str, str | None], ...] = ()


_ROWS, _CHARACTERS = 20_000, 64 * 2**20
"""A batch has at most so many rows, of so many characters and one row's more."""
_TAKEN = (None, None, None, None)
Row = tuple[int, list[object] | None, Refused | None]
"""A line, and the values of the row there or why it is refused."""


def refusal(message: str, wanted: Shape, *, name: str) -> pa.RecordBatch:
    """The one row, on line 0, that stands for a file refused as a whole."""
    return _batch([(0, None, Refused(message))], schema(wanted), len(wanted.columns), name)


def batches(rows: Iterator[Row], wanted: Shape, *, name: str, text: Text | None = None) -> Iterator[pa.RecordBatch]:
    """Rows in Arrow batches, bounded in the characters of the text from which they come, if that is not held as a whole."""
    result, held, before = schema(wanted), list[Row](), 0
    for row in rows:
        held.append(row)
        if len(held) == _ROWS or (text is not None and text.characters - before > _CHARACTERS):
            yield _batch(held, result, len(wanted.columns), name)
            held, before = [], 0 if text is None else text.characters
    if held:
        yield _batch(held, result, len(wanted.columns), name)


def _batch(rows: list[Row], result: pa.Schema, width: int, name: str) -> pa.RecordBatch:
    nothing: list[object] = [None] * width
    columns = [list(column) for column in zip(*(nothing if row[1] is None else row[1] for row in rows), strict=True)]
    columns += [[name] * len(rows), [row[0] for row in rows]]
    if any(row[2] is not None for row in rows):
        columns += [list(column) for column in zip(*(_TAKEN if row[2] is None else row[2] for row in rows), strict=True)]
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, result, strict=False)]
    nulls = [pa.nulls(len(rows), field.type) for field in list(result)[len(arrays) :]]
    return pa.RecordBatch.from_arrays([*arrays, *nulls], schema=result)


def printable(text: str) -> str:
    """Text as it can be shown and kept: its first 1000 characters, with a mark for what is no text."""
    return text[:1000].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
