"""Reads one source file into typed rows: pure, row by row, with the line and the reason of each row that can not be taken."""

import csv
import hashlib
import json
import math
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation, localcontext
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_definitions.errors import UserError
from feature_definitions.intervals import in_utc, micros
from feature_definitions.language import Source
from feature_definitions.layout import FILE, LINE, RAW, REASON
from feature_definitions.sql.data_types import element_of, is_array
from lake.delta import arrow_type

INT64 = range(-(2**63), 2**63)


class FileRefused(UserError):
    """A file that can not be taken as a whole: truncated, corrupt, or with other columns than the source has."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a file must look like: the part of a source that reading it needs, small enough to send to workers."""

    source: str
    format: str
    columns: tuple[tuple[str, str], ...]
    required: tuple[str, ...]
    timezone: str | None
    rules: str


def shape(source: Source, file_format: str) -> Shape:
    """The shape of a source's files; its id and event timestamp must not be null."""
    required = dict.fromkeys((*source.id, *([source.event_timestamp] if source.event_timestamp else [])))
    derived = f" {dict(source.derive)}" if source.expect and source.derive else ""
    rules = f"{source.id} {source.arrived_at} {source.expect}{derived}"
    return Shape(source.name, file_format, tuple(source.columns.items()), tuple(required), source.timezone, rules)


def schema(wanted: Shape) -> pa.Schema:
    """The Arrow schema of what `read` gives: the source's columns, then file, line (from 1), reason and raw text of refused rows."""
    fields = [pa.field(name, arrow_type(kind)) for name, kind in wanted.columns]
    return pa.schema([*fields, (FILE, pa.string()), (LINE, pa.int64()), (REASON, pa.string()), (RAW, pa.map_(pa.string(), pa.string()))])


def sha256(path: Path, wanted: Shape) -> str:
    """The SHA-256 of a file's bytes and of how they are read: another type or time zone makes it another file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(repr(wanted).encode())
    return digest.hexdigest()


def refusal(message: str, wanted: Shape, *, name: str) -> pa.RecordBatch:
    """The one row, on line 0, that stands for a file refused as a whole."""
    return _batch([(0, None, message, None)], schema(wanted), len(wanted.columns), name)


def read(path: Path, wanted: Shape, *, name: str) -> Iterator[pa.RecordBatch]:
    """The rows of a file, good and refused ones; `name` is how the file is called in records. Raises `FileRefused`."""
    try:
        match wanted.format:
            case "csv":
                yield from _read_csv(path, wanted, name)
            case "jsonl":
                yield from _read_json(path, wanted, name)
            case _:
                yield from _read_parquet(path, wanted, name)
    except (OSError, pa.ArrowException, UnicodeDecodeError, EOFError, OverflowError) as error:
        raise FileRefused(f"{name} can not be read ({_first_line(error)}): is it truncated or corrupt?") from error


# -------------------------------------------------------------------------------------------------------------------------- CSV


def _read_csv(path: Path, wanted: Shape, name: str) -> Iterator[pa.RecordBatch]:
    _refuse_zeros(path, name, what="CSV text")
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        reader = csv.reader(text, strict=True)
        try:
            header = [_printable(column.strip()) for column in next(reader, [])]
        except csv.Error as error:
            raise FileRefused(f"{name}, line 1: {error}") from None
        places = _places(header, wanted, name)
        convert = [(column, places[column], _converter(kind, wanted.timezone)) for column, kind in wanted.columns]
        yield from _batches(_rows(reader, header, convert, wanted, name), wanted, name)


def _refuse_zeros(path: Path, name: str, *, what: str) -> None:
    with path.open("rb") as raw:
        if b"\0" in raw.read(65536):
            raise FileRefused(f"{name} holds zero bytes: it is no {what}. Is it corrupt or compressed?")


def _places(header: list[str], wanted: Shape, name: str) -> dict[str, int]:
    if not any(header):
        raise FileRefused(f"{name} is empty: its first line must name the columns {', '.join(c for c, _ in wanted.columns)}")
    refuse_missing(header, wanted, name=name)
    twice = [column for column, _ in wanted.columns if header.count(column) > 1]
    if twice:
        raise FileRefused(f"{name} has the column {twice[0]!r} {header.count(twice[0])} times: which one is meant? Rename the others")
    return {column: header.index(column) for column, _ in wanted.columns}


def refuse_missing(held: Sequence[str], wanted: Shape, *, name: str) -> None:
    """Refuse a file or a frame that lacks one of the source's columns."""
    missing = next((column for column, _ in wanted.columns if column not in held), None)
    if missing is not None:
        listed = textwrap.shorten(", ".join(held), 500, placeholder=" ...")
        raise FileRefused(f"{name} has no column {missing!r}. It has: {listed}. Source {wanted.source} needs it")


Cell = Callable[[str], object]
Row = tuple[int, list[object] | None, str | None, dict[str, str] | None]


def _rows(reader: Iterator[list[str]], header: list[str], convert: list[tuple[str, int, Cell]], wanted: Shape, name: str) -> Iterator[Row]:
    """Each record as (line, values, reason, raw); a reason stands in for values."""
    while True:
        line = reader.line_num + 1  # type: ignore[attr-defined]  # csv.reader has it
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if reader.line_num > line:  # type: ignore[attr-defined]  # as above
                raise FileRefused(f"{name}, line {line}: a quote that opens here is never closed") from None
            yield line, None, f"not a CSV record: {error}", {}
            continue
        if not record:
            continue
        if len(record) != len(header):
            yield line, None, f"has {len(record)} fields, the header has {len(header)}", _raw(header, record)
            continue
        values, reason = _convert(record, convert, wanted.required)
        yield (line, values, None, None) if reason is None else (line, None, reason, _raw(header, record))


def _convert(record: list[str], convert: list[tuple[str, int, Cell]], required: tuple[str, ...]) -> tuple[list[object], str | None]:
    values: list[object] = []
    for column, place, cell in convert:
        text = record[place]
        try:
            value = cell(text) if text != "" else None
        except ValueError as error:
            return values, f"{column}: {_printable(text)!r} {error}"
        if value is None and column in required:
            return values, f"{column} is null"
        values.append(value)
    return values, None


def _raw(header: list[str], record: list[str]) -> dict[str, str]:
    return {column: _printable(text) for column, text in zip(header, record, strict=False)}


def _printable(text: str) -> str:
    return text[:1000].encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _batches(rows: Iterator[Row], wanted: Shape, name: str, size: int = 20_000) -> Iterator[pa.RecordBatch]:
    result = schema(wanted)
    held: list[Row] = []
    for row in rows:
        held.append(row)
        if len(held) == size:
            yield _batch(held, result, len(wanted.columns), name)
            held = []
    if held:
        yield _batch(held, result, len(wanted.columns), name)


def _batch(rows: list[Row], result: pa.Schema, width: int, name: str) -> pa.RecordBatch:
    nothing: list[object] = [None] * width
    columns: list[list[object]] = [list(column) for column in zip(*(nothing if r[1] is None else r[1] for r in rows), strict=True)]
    raws = [None if r[3] is None else list(r[3].items()) for r in rows]
    extra: list[list[object]] = [[name] * len(rows), [r[0] for r in rows], [r[2] for r in rows], list(raws)]
    return pa.RecordBatch.from_arrays([pa.array(c, type=f.type) for c, f in zip([*columns, *extra], result, strict=True)], schema=result)


# ------------------------------------------------------------------------------------------------------------ cells, from text


def _converter(kind: str, timezone: str | None) -> Cell:
    match kind:
        case "string":
            return _text
        case "int64":
            return _int64
        case "double":
            return _double
        case "boolean":
            return _boolean
        case "date":
            return _date
        case "timestamp":
            return _timestamp(None if timezone is None else ZoneInfo(timezone))
    return _decimal(kind)


def _text(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8 text") from None
    return text


def _int64(text: str) -> int:
    if not re.fullmatch(r"\s*[+-]?[0-9]{1,30}\s*", text) or int(text) not in INT64:
        raise ValueError("is not an int64")
    return int(text)


def _double(text: str) -> float:
    if "_" in text:
        raise ValueError("is not a double")
    try:
        value = float(text)
    except ValueError:
        raise ValueError("is not a double") from None
    if not math.isfinite(value):
        raise ValueError("is not a finite number")
    return value


def _boolean(text: str) -> bool:
    match text.strip().lower():
        case "true" | "t" | "1" | "yes":
            return True
        case "false" | "f" | "0" | "no":
            return False
    raise ValueError("is not a boolean (true or false)")


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise ValueError("is not a date like 2026-01-05") from None


def _timestamp(zone: ZoneInfo | None) -> Cell:
    def convert(text: str) -> datetime:
        try:
            parsed = datetime.fromisoformat(text.strip())
        except ValueError:
            raise ValueError("is not a time like 2026-01-05T06:00:00Z") from None
        try:
            return in_utc(parsed, zone)
        except OverflowError:
            raise ValueError("is not between the years 1 and 9999 in UTC") from None

    return convert


def _decimal(kind: str) -> Cell:
    digits, scale = (int(part) for part in kind.removeprefix("decimal(").rstrip(")").split(","))

    def convert(text: str) -> Decimal:
        if "_" in text:
            raise ValueError(f"is not a {kind}")
        try:
            with localcontext(prec=100, rounding=ROUND_HALF_EVEN):
                given = Decimal(text.strip())
                value = given.quantize(Decimal(1).scaleb(-scale))
        except InvalidOperation:
            raise ValueError(f"is not a {kind}") from None
        if value != given or len(value.as_tuple().digits) > max(digits, 1):
            raise ValueError(f"does not fit a {kind}")
        return value

    return convert


# ------------------------------------------------------------------------------------------------------------------- JSON lines


class _Number(str):
    """A number as it was written, so that no digit is lost before its column's type is known."""

    __slots__ = ()


Json = Callable[[object], object]


def _read_json(path: Path, wanted: Shape, name: str) -> Iterator[pa.RecordBatch]:
    _refuse_zeros(path, name, what="JSON")
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_int=_Number, parse_float=_Number, parse_constant=_Number)
    convert = {column: _json_value(kind, wanted.timezone) for column, kind in wanted.columns}
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="\n") as text:
        lines = ((number, line.strip()) for number, line in enumerate(text, 1))
        yield from _batches((_json_row(number, line, decoder, convert, wanted) for number, line in lines if line), wanted, name)


def _object(fields: list[tuple[str, object]]) -> dict[str, object]:
    held = dict(fields)
    if len(held) < len(fields):
        names = [field for field, _ in fields]
        raise ValueError(f"the field {next(n for n in names if names.count(n) > 1)!r} comes twice")
    return held


def _json_row(number: int, line: str, decoder: json.JSONDecoder, convert: Mapping[str, Json], wanted: Shape) -> Row:
    try:
        held = decoder.decode(line)
    except (ValueError, RecursionError) as error:
        said = error.msg if isinstance(error, json.JSONDecodeError) else _first_line(error)
        return number, None, f"not a JSON object: {said}", {}
    if not isinstance(held, dict):
        return number, None, "not a JSON object", {}
    values: list[object] = []
    for column, value in convert.items():
        try:
            values.append(None if held.get(column) is None else value(held[column]))
        except ValueError as error:
            return number, None, f"{column}: {_printable(_written(held[column]))!r} {error}", _raw_json(held, wanted)
        if values[-1] is None and column in wanted.required:
            return number, None, f"{column} is null", _raw_json(held, wanted)
    return number, values, None, None


def _json_value(kind: str, timezone: str | None) -> Json:
    """Takes a value of a JSON field: a list for an array's type alone, a number for a number's, text for what else JSON writes so."""
    if kind.startswith("array<"):
        element = _json_value(kind.removeprefix("array<").removesuffix(">"), timezone)
        return _json_list(element, kind)
    cell = _converter(kind, timezone)
    counts = kind in ("int64", "double") or kind.startswith("decimal")

    def convert(given: object) -> object:
        match given:
            case bool() if kind == "boolean":
                return given
            case _Number() if counts:
                return cell(given)
            case str() if not isinstance(given, _Number):
                return cell(given)
        raise ValueError(f"is not {'an' if kind == 'int64' else 'a'} {kind}")

    return convert


def _json_list(element: Json, kind: str) -> Json:
    def convert(given: object) -> object:
        match given:
            case list():
                return [None if each is None else element(each) for each in given]
        raise ValueError(f"is not an {kind}")

    return convert


def _raw_json(held: Mapping[str, object], wanted: Shape) -> dict[str, str]:
    return {column: _printable(_written(held[column])) for column, _ in wanted.columns if held.get(column) is not None}


def _written(value: object) -> str:
    """A value as JSON writes it, text without its quotes."""
    match value:
        case str():
            return value
        case list():
            return "[" + ", ".join(_written(each) for each in value) + "]"
        case dict():
            return "{" + ", ".join(f"{key}: {_written(each)}" for key, each in value.items()) + "}"
    return json.dumps(value)


# ---------------------------------------------------------------------------------------------------------------------- Parquet


def _read_parquet(path: Path, wanted: Shape, name: str) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        refuse_missing(file.schema_arrow.names, wanted, name=name)
        line = 1
        for batch in file.iter_batches(batch_size=65_536, columns=[column for column, _ in wanted.columns]):
            yield check(batch, wanted, name=name, line=line)
            line += batch.num_rows


def check(batch: pa.RecordBatch, wanted: Shape, *, name: str, line: int = 1) -> pa.RecordBatch:
    """Arrow rows in the source's types, with a reason for each row that can not be taken; a column of another type is refused whole."""
    columns: dict[str, pa.Array] = {}
    reasons = pa.nulls(batch.num_rows, pa.string())
    for column, kind in wanted.columns:
        array, bad = _arrow_column(batch.column(batch.schema.get_field_index(column)), column, kind, wanted.timezone, name)
        columns[column] = array
        if bad is not None:
            reasons = pc.if_else(pc.and_(bad, pc.is_null(reasons)), f"{column} {_unsound(kind)}", reasons)
        if column in wanted.required:
            reasons = pc.if_else(pc.and_(pc.is_null(array), pc.is_null(reasons)), f"{column} is null", reasons)
    raws = _raws(batch, reasons, [column for column, _ in wanted.columns])
    lines = pa.array(range(line, line + batch.num_rows), pa.int64())
    names = pa.array([name] * batch.num_rows, pa.string())
    return pa.RecordBatch.from_arrays([*columns.values(), names, lines, reasons, raws], schema=schema(wanted))


def _arrow_column(array: pa.Array, column: str, kind: str, timezone: str | None, name: str) -> tuple[pa.Array, pa.Array | None]:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), arrow_type(kind)), None
    if is_array(kind) and any(is_list(array.type) for is_list in _LISTS):
        return _list_column(array.cast(pa.list_(array.type.value_type)), column, element_of(kind), timezone, name)
    if not _fits(array.type, kind):
        raise FileRefused(f"{name}: column {column!r} is a {array.type}, the source says {kind}. Write the file or the source's type anew")
    if kind == "timestamp":
        return _without(_utc_column(array, column, timezone, name), _out_of_range)
    try:
        result = pc.cast(array, arrow_type(kind), safe=not pa.types.is_floating(array.type))
    except pa.ArrowInvalid as error:
        raise FileRefused(f"{name}: column {column!r} does not fit {kind}: {_first_line(error)}") from None
    return _without(result, lambda values: pc.invert(pc.is_finite(values))) if kind == "double" else (result, None)


_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def _list_column(array: pa.ListArray, column: str, kind: str, timezone: str | None, name: str) -> tuple[pa.Array, pa.Array | None]:
    """Lists with their elements in the type wanted, and which of them hold an unsound one."""
    elements, bad = _arrow_column(pc.list_flatten(array), column, kind, timezone, name)
    lengths = pc.fill_null(pc.list_value_length(array), 0)
    ends = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())])
    lists = pa.ListArray.from_arrays(ends, elements, mask=pc.is_null(array))
    if bad is None:
        return lists, None
    return lists, pc.is_in(pa.array(range(len(array)), pa.int64()), value_set=pc.list_parent_indices(array).filter(bad).cast(pa.int64()))


def _unsound(kind: str) -> str:
    return f"holds what is not {_SOUND[element_of(kind)]}" if is_array(kind) else f"is not {_SOUND[kind]}"


_SOUND = {"double": "a finite number", "timestamp": "between the years 1 and 9999 in UTC"}


def _without(values: pa.Array, unsound: Callable[[pa.Array], pa.Array]) -> tuple[pa.Array, pa.Array]:
    """The values without the unsound ones, and which those are."""
    bad = pc.fill_null(unsound(values), fill_value=False)
    return pc.if_else(bad, pa.scalar(None, values.type), values), bad


def _out_of_range(times: pa.Array) -> pa.Array:
    """Which times no `datetime` can hold."""
    first, last = (pa.scalar(micros(at.replace(tzinfo=UTC)), pa.int64()) for at in (datetime.min, datetime.max))  # noqa: DTZ901  # made aware
    numbers = times.cast(pa.int64())
    return pc.or_(pc.less(numbers, first), pc.greater(numbers, last))


def _utc_column(array: pa.Array, column: str, timezone: str | None, name: str) -> pa.Array:
    if array.type.tz is None:
        if timezone is None:
            raise FileRefused(
                f"{name}: column {column!r} has times without zone; say where they were written down by the source's timezone='UTC'"
            )
        zone = ZoneInfo(timezone)
        naive = pc.cast(array, pa.timestamp("us"), safe=False)
        return pa.array([None if at is None else in_utc(at, zone) for at in naive.to_pylist()], pa.timestamp("us", tz="UTC"))
    return pc.cast(pc.cast(array, pa.timestamp("us", tz=array.type.tz), safe=False), pa.timestamp("us", tz="UTC"))


def _fits(given: pa.DataType, kind: str) -> bool:
    integer = pa.types.is_integer(given)
    accepted: Mapping[str, bool] = {
        "string": pa.types.is_string(given) or pa.types.is_large_string(given) or str(given) == "string_view",
        "int64": integer,
        "double": pa.types.is_floating(given) or integer,
        "boolean": pa.types.is_boolean(given),
        "date": pa.types.is_date(given),
        "timestamp": pa.types.is_timestamp(given),
    }
    return accepted.get(kind, pa.types.is_decimal(given) or integer)


def _raws(batch: pa.RecordBatch, reasons: pa.Array, columns: list[str]) -> pa.Array:
    bad = set(pc.indices_nonzero(pc.is_valid(reasons)).to_pylist())
    rows = [[(c, _shown(batch.column(c)[i])) for c in columns] if i in bad else None for i in range(batch.num_rows)]
    return pa.array(rows, pa.map_(pa.string(), pa.string()))


def _shown(value: pa.Scalar) -> str | None:
    try:
        return None if not value.is_valid else str(value.as_py())
    except (ValueError, OverflowError):
        return str(value.cast(pa.int64()))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
