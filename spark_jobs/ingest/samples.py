"""Looks at the first rows of what may become a source: where it lies, its format and dialect, and what each of its columns looks like."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.exceptions import DeltaError

from feature_definitions.errors import UserError
from feature_definitions.language import Column, Csv, DefinitionError, DeltaTable, Files, Jdbc
from feature_definitions.language.on_s3 import check_place
from lake import delta, storage
from spark_jobs.ingest import (
    cells,
    dialect_seen,
    dialects,
    first_bytes,
    folders,
    globs,
    guesses,
    json_lines,
    json_objects,
    opened,
    whereabouts,
)
from spark_jobs.ingest.cells import Number, first_line
from spark_jobs.ingest.guesses import Guess
from spark_jobs.ingest.whereabouts import Place

ROWS = 10_000
"""So many rows are looked at, of at most so many files."""
FILES = 5
_COMPRESSED = (".gz", ".zst", ".bz2", ".xz")


class NothingToSee(UserError):
    """Data that cannot be looked at: not there, of no format that is read, or without columns."""


class Sample(NamedTuple):
    """What was seen of data: where they lie, each column by its name there, how many rows were looked at, and what else is to know."""

    at: Files | DeltaTable | Jdbc
    columns: Mapping[str, Guess]
    rows: int
    remarks: tuple[str, ...] = ()


def look(path: str, *, root: Path) -> Sample:
    """What lies at a path or a glob, as given, relative to the project, or on S3: files, or a Delta table. Raises NothingToSee."""
    try:
        check_place(path, path)
    except DefinitionError as error:
        raise NothingToSee(str(error)) from None
    whole = whereabouts.whole(path, root=root)
    if whereabouts.has_log(whole):
        return _delta(whole, path)
    glob, files = _files(path, whole, root=root)
    told = _told(files, root)
    try:
        match _kind(files[0]):
            case "csv":
                return _csv(glob, files, told)
            case "jsonl":
                return _json(glob, files, told)
        return _parquet(glob, files, told)
    except (*opened.UNREADABLE, opened.LineTooLong, dialects.NeverClosed, json_objects.NotJson) as error:
        raise NothingToSee(f"{path} cannot be read: {first_line(error)}") from None


def of_arrow(at: Jdbc, table: pa.Table) -> Sample:
    """What the first rows of a database's table look like."""
    columns, remarks = _of_table(table)
    return Sample(at, columns, len(table), remarks)


def of_csv(file: Place) -> Sample:
    """What one file looks like, taken for CSV whatever its name is."""
    return _csv(file.name, [file], {})


def _files(path: str, whole: str, *, root: Path) -> tuple[str, list[Place]]:
    """The glob that a definition would have, and its files, oldest name first."""
    found = globs.matched([path], root=root)
    folder = bool(found.folders) or Path(whole).is_dir()
    found = globs.matched([f"{path}/**/*"], root=root) if folder else found
    files = [file for file in found.files if file.is_file()]
    if not files:
        raise NothingToSee(f"there is no data at {path}; give a file, a glob in quotes, a folder, or a Delta table")
    endings = Counter("".join(_ending(file)) for file in files)
    formats = {_format(file) for file in files}
    if len(formats) > 1:
        raise NothingToSee(f"{path} holds files of several kinds: {', '.join(endings)}; give a glob in quotes that means one kind")
    if not folder:
        return path, files
    ending = next(iter(endings)) if len(endings) == 1 else ""
    deep = "**/" if any(whereabouts.folder(file) != whole for file in files) else ""
    return f"{path.rstrip('/')}/{deep}*{ending}", files


def _ending(file: Place) -> tuple[str, str]:
    """The ending that tells a file's format, and that of its compression."""
    packed = file.suffix if file.suffix.lower() in _COMPRESSED else ""
    return Path(file.name.removesuffix(packed)).suffix, packed


def _format(file: Place) -> str:
    told = first_bytes.by_name(file.name)
    if told is None:
        raise NothingToSee(f"{file.name} is of no format that is read, by its name: .csv, .tsv, .txt, .jsonl, .json or .parquet")
    return told


def _kind(file: Place) -> str:
    """The format of a file by its first bytes, by its name if it is empty; raises NothingToSee for one that is not read."""
    with file.open("rb") as raw, closing(opened.content(raw)) as stream:
        begin = stream.read(4096)
        if opened.compression(raw.peek(8)) is not None and begin.startswith(b"PAR1"):
            raise NothingToSee(f"{file.name} is a Parquet file that was compressed as a whole: unpack it")
    if (other := first_bytes.unreadable(begin)) is not None:
        raise NothingToSee(f"{file.name} {other}")
    return first_bytes.kind(begin) or _format(file)


def _told(files: Sequence[Place], root: Path) -> dict[str, Guess]:
    """The columns that `key=value` folders tell."""
    values: dict[str, list[str | None]] = {}
    for file in files:
        for column, text in folders.texts(Path(whereabouts.named(file, root))).items():
            values.setdefault(column, []).append(text)
    told = {column: guesses.of_texts(column, texts) for column, texts in values.items()}
    return {column: guess._replace(unique=False, doubts=(*guess.doubts, "the folders tell it")) for column, guess in told.items()}


# -------------------------------------------------------------------------------------------------------------------------- CSV


def _csv(glob: str, files: Sequence[Place], told: Mapping[str, Guess]) -> Sample:
    dialect = dialect_seen.dialect(files[0])
    header = dialect_seen.header(files[0], dialect)
    dialect = dialect if header else replace(dialect, header=False)
    twice = [name for name, times in Counter(header).items() if name and times > 1]
    texts: dict[str, list[str | None]] = {name: [] for name in header if name and name not in twice}
    for file in files[:FILES]:
        for record in islice(dialect_seen.records(file, dialect), 1 if header else 0, ROWS // min(FILES, len(files))):
            names = header or [f"column_{place}" for place in range(1, len(record) + 1)]
            for name, text in zip(names, record, strict=False):
                if not header or name in texts:
                    texts.setdefault(name, []).append(text)
    dialect, columns = _of_one_dialect(dialect, {name: guesses.of_texts(name, held) for name, held in texts.items()})
    rows = max(map(len, texts.values()), default=0)
    remarks = (f"left out, since the header has them more than once: {', '.join(twice)}",) if twice else ()
    return Sample(Files(glob, csv=None if dialect == Csv() else dialect), columns | dict(told), rows, remarks)


def _of_one_dialect(dialect: Csv, seen: Mapping[str, Guess]) -> tuple[Csv, dict[str, Guess]]:
    """The dialect by which the columns of numbers are read; those that it does not fit are text."""
    points = any(guess.column.data_type == "double" and guess.decimal == "." for guess in seen.values())
    commas = [guess for guess in seen.values() if guess.decimal == "," and (guess.column.data_type == "double" or not points)]
    decimal = "," if commas else "."
    groups = dict.fromkeys(guess.thousands for guess in seen.values() if guess.thousands and guess.decimal == decimal)
    nulls = dict.fromkeys(("", *(word for guess in seen.values() for word in guess.nulls)))
    columns = {
        name: guess._replace(column=Column("string"), doubts=(*guess.doubts, "its numbers are written otherwise than in other columns"))
        if guess.column.data_type == "double" and guess.decimal != decimal
        else guess
        for name, guess in seen.items()
    }
    return replace(dialect, decimal=decimal, thousands=next(iter(groups), None), nulls=tuple(nulls)), columns


# ------------------------------------------------------------------------------------------------------------------------- JSON


def _json(glob: str, files: Sequence[Place], told: Mapping[str, Guess]) -> Sample:
    rows: list[dict[str, object]] = []
    for file in files[:FILES]:
        with opened.text(file, "utf-8", newline="") as text:
            found = islice(json_lines.objects(text), ROWS // min(FILES, len(files)))
            rows += [value for _, value in found if isinstance(value, dict)]
    names = dict.fromkeys(name for row in rows for name in row)
    nested = [name for name in names if any(isinstance(row.get(name), dict) for row in rows)]
    columns = {name: _of_json(name, [row.get(name) for row in rows]) for name in names if name not in nested}
    remarks = (f"left out, since they hold objects: {', '.join(nested)}",) if nested else ()
    return Sample(Files(glob, format="jsonl"), columns | dict(told), len(rows), remarks)


def _of_json(name: str, values: Sequence[object]) -> Guess:
    """The guess for a field; a text stays one, a number is none."""
    given = [value for value in values if value is not None]
    if any(isinstance(value, list) for value in given):
        element = _of_json(name, [each for value in given if isinstance(value, list) for each in value])
        return Guess(Column(f"array<{element.column.data_type}>"), element.doubts)
    if given and all(isinstance(value, bool) for value in given):
        return Guess(Column("boolean"), filled=len(given) == len(values))
    guess = guesses.of_texts(name, [None if value is None else cells.written(value) for value in values])
    if len({isinstance(value, Number) for value in given}) > 1:
        return Guess(Column("string"), ("it holds numbers and texts; a row with a number is put aside",))
    plain = guess.decimal == "." and guess.thousands is None and not guess.nulls
    return guess if plain else Guess(Column("string"), unique=guess.unique, filled=guess.filled)


# ------------------------------------------------------------------------------------------------------- Parquet, Delta, Arrow


def _parquet(glob: str, files: Sequence[Place], told: Mapping[str, Guess]) -> Sample:
    held = [_head(file, ROWS // min(FILES, len(files))) for file in files[:FILES]]
    table = pa.concat_tables([table for table, _ in held], promote_options="permissive")
    columns, remarks = _of_table(table, held[0][1])
    return Sample(Files(glob, format="parquet"), columns | dict(told), len(table), remarks)


def _head(path: Place, rows: int) -> tuple[pa.Table, frozenset[str]]:
    """The first rows of a Parquet file, and its times of 96 bits, which are instants."""
    with pq.ParquetFile(whereabouts.for_arrow(path), coerce_int96_timestamp_unit="us") as file:
        leaves = [file.schema.column(place) for place in range(len(file.schema.names))]
        batch = next(file.iter_batches(batch_size=rows), None)
        table = file.schema_arrow.empty_table() if batch is None else pa.Table.from_batches([batch])
    return table, frozenset(leaf.name for leaf in leaves if leaf.physical_type == "INT96")


def _delta(path: str, said: str) -> Sample:
    try:
        held = delta.opened(path)
        table = pa.schema(held.schema().to_arrow()).empty_table()
        with suppress(DeltaError, pa.ArrowException):
            table = held.to_pyarrow_dataset(filesystem=storage.arrow(path)).head(ROWS)
    except DeltaError as error:
        raise NothingToSee(f"the Delta table {said} cannot be read: {first_line(error)}") from None
    columns, remarks = _of_table(table)
    return Sample(DeltaTable(said), columns, len(table), remarks)


def _of_table(table: pa.Table, instants: Collection[str] = ()) -> tuple[dict[str, Guess], tuple[str, ...]]:
    found = {name: _of_column(name, table.column(name), is_instant=name in instants) for name in table.column_names}
    left = [name for name, guess in found.items() if guess is None]
    remarks = (f"left out, since no source has a column of their types: {', '.join(left)}",) if left else ()
    return {name: guess for name, guess in found.items() if guess is not None}, remarks


def _of_column(name: str, column: pa.ChunkedArray, *, is_instant: bool = False) -> Guess | None:
    """The guess for a column that has a type; texts and whole numbers that look like times are taken for times."""
    kind = _type(column.type)
    if kind is None:
        return None
    filled = column.null_count == 0 and len(column) > 0
    if column.type.num_fields:
        return Guess(Column(kind), filled=filled)
    unique = filled and len(column) > 1 and len(column.unique()) == len(column)
    if kind in ("string", "int64", "double"):
        like = guesses.of_texts(name, [None if value is None else str(value) for value in column.to_pylist()])
        if like.column.data_type in ("date", "timestamp"):
            return like._replace(doubts=(*like.doubts, f"it is {'text' if kind == 'string' else 'a number'} in the data"))
    zoneless = kind == "timestamp" and column.type.tz is None and not is_instant
    return Guess(Column(kind), zoneless=zoneless, unique=unique, filled=filled)


def _type(given: pa.DataType) -> str | None:
    """Our name of a type of Arrow; None for one that no source has."""
    if isinstance(given, pa.ListType | pa.LargeListType | pa.ListViewType):
        element = _type(given.value_type)
        return None if element is None or element.startswith("array") else f"array<{element}>"
    kind = cells.named(given.value_type if isinstance(given, pa.DictionaryType) else given)
    return kind if kind in ("int64", "double", "date", "timestamp", "boolean", "string") or kind.startswith("decimal(") else None
