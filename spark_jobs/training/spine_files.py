"""Spines that lie in files: keys are of the service's types, and all other columns are text as written, unless their types are declared."""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_definitions.language import Column, Csv, DefinitionError, Files, Source
from feature_definitions.layout import COLUMN, LINE, REASON
from feature_definitions.sql.data_types import is_array
from lake import delta
from lake.arrow_types import arrow_type
from spark_jobs.ingest import cells, first_bytes, folders, formats, globs, json_lines, opened, parsing, whereabouts
from spark_jobs.ingest.cells import Unfit, first_line
from spark_jobs.ingest.json_objects import NotJson
from spark_jobs.ingest.parsing import FileRefused
from spark_jobs.ingest.whereabouts import Place
from spark_jobs.training.spine import TIME, SpineRefused

_DELIMITERS = (",", ";", "\t", "|")
_READ = "a Delta table, a Parquet file or folder, or a file of CSV, TSV or JSON lines, compressed or not"


@dataclass(frozen=True, slots=True)
class Declared:
    """How a spine's file is read: the keys of its service and other columns, by type, and where times without a zone were written down."""

    keys: Mapping[str, str]
    columns: Mapping[str, Column]
    timezone: str | None = None

    @property
    def typed(self) -> dict[str, Column]:
        """Each column that is not just text."""
        return {TIME: Column("timestamp")} | {key: Column(kind) for key, kind in self.keys.items()} | dict(self.columns)


def declared(keys: Mapping[str, str], columns: Mapping[str, "Column | str"] | None, timezone: str | None) -> Declared:
    """What is said of a spine's columns; raises SpineRefused for a type or a time zone that there is not."""
    try:
        said = {name: kind if isinstance(kind, Column) else Column(kind) for name, kind in (columns or {}).items()}
        Source("spine", columns={"at": "timestamp"}, event_timestamp="at", timezone=timezone)
    except DefinitionError as error:
        raise SpineRefused(f"the spine's columns: {error}") from None
    return Declared(keys, {name: replace(column, name=None) for name, column in said.items()}, timezone)


def read(path: str, said: Declared, *, name: str) -> pa.Table:
    """The rows of a spine's file; `name` is what it is called. Raises SpineRefused, with the line, for what cannot be taken."""
    try:
        if whereabouts.has_log(path):
            return _typed(delta.load(path), said, name)
        file = _file(path)
        if file is None:
            return _typed(_folder(path, said, name), said, name)
        match _format(file, name):
            case "csv":
                return _delimited(file, said, name)
            case "jsonl":
                return _json(file, said, name)
        return _typed(_rows(file), said, name)
    except (FileRefused, NotJson, opened.LineTooLong, *opened.UNREADABLE) as error:
        raise SpineRefused(f"the spine {name} cannot be read: {first_line(error)}") from None


def _file(path: str) -> Place | None:
    """The file at a path; None where a folder is."""
    if not whereabouts.is_remote(path):
        return None if Path(path).is_dir() else Path(path)
    return globs.at(path)


def _format(path: Place, name: str) -> str:
    told = first_bytes.by_name(path.name)
    if told is None:
        raise SpineRefused(f"the spine {name} is of no format that is read, by its name; a spine is {_READ}")
    return told


# -------------------------------------------------------------------------------------------------------------------------- CSV


def _delimited(path: Place, said: Declared, name: str) -> pa.Table:
    """A file of CSV: the character between its columns is that which parts its first line into the keys and event_timestamp."""
    dialect, header = _header(path, said, name)
    columns = [replace(said.typed.get(column, Column("string")), name=column) for column in header]
    for column in columns:
        if is_array(column.data_type):
            raise SpineRefused(
                f"the spine {name} is CSV, and {column.name!r} is an array, which no text holds; write it as Parquet or JSON"
            )
    ours = {f"c{place}": column for place, column in enumerate(columns)}
    at = f"c{header.index(TIME)}"
    source = Source("spine", Files(str(path), csv=dialect), columns=ours, event_timestamp=at, timezone=said.timezone or "UTC")
    shape = replace(parsing.shape(source, "csv"), timezone=said.timezone)
    table = pa.Table.from_batches(formats.read(path, shape, name=name), parsing.schema(shape))
    _refuse_rows(table, dict(zip(ours, header, strict=True)), name)
    return table.select(list(ours)).rename_columns(header)


def _header(path: Place, said: Declared, name: str) -> tuple[Csv, list[str]]:
    needed, found = [TIME, *said.keys], list(_headers(path))
    fitting = [(delimiter, header) for delimiter, header in found if set(needed) <= set(header)]
    if not fitting:
        header = max((header for _, header in found), key=len, default=[])
        missing = next(column for column in needed if column not in header)
        raise SpineRefused(f"the spine {name} has no column {missing!r}. Its first line names: {', '.join(header)}")
    delimiter, header = fitting[0][0], [column for column in fitting[0][1] if column]  # numbers of rows have no name
    for column in header:
        if "\ufffd" in parsing.printable(column):
            raise SpineRefused(f"the spine {name} names the column {parsing.printable(column)!r}: it is not UTF-8 text; write it anew")
        if header.count(column) > 1:
            raise SpineRefused(f"the spine {name} has the column {column!r} {header.count(column)} times; rename one of them")
    _check_declared(header, said, name)
    return Csv(delimiter=delimiter), header


def _headers(path: Place) -> Iterator[tuple[str, list[str]]]:
    """The names in the first line, by what may part them."""
    for delimiter in _DELIMITERS:
        with opened.text(path, "utf-8", newline="") as text:
            lines = iter(text)
            first = next(lines, "")
            begin = [] if re.fullmatch(r'"?sep=.\W*', first, re.IGNORECASE) else [first]
            with suppress(csv.Error):
                yield delimiter, [column.strip() for column in next(csv.reader(chain(begin, lines), delimiter=delimiter, strict=True), [])]


def _check_declared(header: Sequence[str], said: Declared, name: str) -> None:
    for column in said.columns:
        if column not in header:
            raise SpineRefused(f"the spine {name} has no column {column!r}, whose type is declared. It has: {', '.join(header)}")


def _refuse_rows(table: pa.Table, names: Mapping[str, str], name: str) -> None:
    """Refuse a spine of which a row cannot be taken: each of its rows is a row of the training set."""
    refused = table.filter(pc.is_valid(table.column(REASON)))
    if refused.num_rows:
        reason, column, line = (refused.column(of)[0].as_py() for of in (REASON, COLUMN, LINE))
        said = reason if column is None else f"{names[column]}{reason.removeprefix(column)}"
        raise SpineRefused(f"the spine {name}, line {line}: {_in_words_of_spines(said)}{_and_more(refused.num_rows - 1)}")


def _in_words_of_spines(said: str) -> str:
    """What is said of a cell, with what a person says of a spine in place of what a source's definition says."""
    said = said.replace("the source names no timezone", 'no timezone is named: --timezone Europe/Berlin, spine_timezone="Europe/Berlin"')
    column = json.dumps(said.partition(":")[0])
    return re.sub(r"write (Column\([^)]*\))", rf"write spine_columns={{{column}: \1}} in Python", said)


def _and_more(rows: int) -> str:
    return f"; {rows:,} more rows cannot be taken" if rows else ""


# ------------------------------------------------------------------------------------------------------------------------- JSON


def _json(path: Place, said: Declared, name: str) -> pa.Table:
    """A file of JSON objects: its columns are all fields that any of its objects has; what is not text is written as JSON writes it."""
    objects = list(_objects(path, name))
    names = list(dict.fromkeys(field for _, held in objects for field in held))
    if objects:
        _check_declared(names, said, name)
    names = names or list(said.typed)
    arrays = {column: _field(objects, column, said, name) for column in names}
    return pa.table(arrays)


def _objects(path: Place, name: str) -> Iterator[tuple[int, dict[str, object]]]:
    with opened.text(path, "utf-8", newline="") as text:
        for line, held in json_lines.objects(text):
            if not isinstance(held, dict):
                said = f": {held}" if isinstance(held, ValueError) else ""
                raise SpineRefused(f"the spine {name}, line {line}: not a JSON object{said}")
            yield line, held


def _field(objects: Sequence[tuple[int, Mapping[str, object]]], column: str, said: Declared, name: str) -> pa.Array:
    how = said.typed.get(column)
    take = cells.written if how is None else cells.of_json(how.data_type, said.timezone, how=how)
    values: list[object] = []
    for line, held in objects:
        value = held.get(column)
        try:
            values.append(None if value is None else take(value))
        except ValueError as error:
            shown = _in_words_of_spines(f"{column}: {parsing.printable(cells.written(value))!r} {error}")
            raise SpineRefused(f"the spine {name}, line {line}: {shown}") from None
    return pa.array(values, arrow_type("string" if how is None else how.data_type))


# ---------------------------------------------------------------------------------------------------------------------- Parquet


def _folder(path: str, said: Declared, name: str) -> pa.Table:
    """All Parquet files of a folder, whose `key=value` folders are columns, of text like those of CSV."""
    files = globs.below(path, "**/*.parquet")
    if not files:
        raise SpineRefused(f"the spine {name} is a folder without a Parquet file or a Delta log; a spine is {_READ}")
    return pa.concat_tables([_with_folders(file, path, said) for file in files], promote_options="default")


def _rows(file: Place) -> pa.Table:
    with pq.ParquetFile(whereabouts.for_arrow(file), coerce_int96_timestamp_unit="us") as held:
        return held.read()


def _with_folders(file: Place, root: str, said: Declared) -> pa.Table:
    table = _rows(file)
    for column, text in folders.texts(Path(str(file)).relative_to(root)).items():
        if column not in table.column_names:
            table = table.append_column(column, _told(column, text, len(table), said))
    return table


def _told(column: str, text: str | None, rows: int, said: Declared) -> pa.Array:
    """What a folder's name tells of each row below it."""
    how = said.typed.get(column, Column("string"))
    try:
        value = None if text is None else cells.of_text(how.data_type, said.timezone, how=how)(text)
    except ValueError as error:
        raise SpineRefused(f"the spine's folder {column}={text}: {text!r} {error}") from None
    return pa.array([value] * rows, arrow_type(how.data_type))


def _typed(table: pa.Table, said: Declared, name: str) -> pa.Table:
    """A table with its times in UTC, and with the columns that are declared in their types."""
    _check_declared(table.column_names, said, name)
    for column in (TIME, *said.columns):
        if column not in table.column_names or not _is_read(table.schema.field(column).type, column, said):
            continue
        how = said.typed[column]
        try:
            values, wrong = cells.of_arrow(table.column(column).combine_chunks(), how.data_type, said.timezone, how=how)
        except Unfit as error:
            raise SpineRefused(f"the spine {name}: column {column!r} {error}") from None
        if wrong is not None and wrong.null_count < len(wrong):
            raise SpineRefused(f"the spine {name}: {column}{next(reason for reason in wrong.to_pylist() if reason)}")
        table = table.set_column(table.column_names.index(column), column, values)
    return table


def _is_read(given: pa.DataType, column: str, said: Declared) -> bool:
    """Whether a column is not what it must be already: it is declared, or it is the time, and not an instant."""
    return column in said.columns or not pa.types.is_timestamp(given) or given.tz is None
