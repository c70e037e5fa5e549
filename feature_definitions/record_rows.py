"""Records as rows: a field is a column, an interval is two. A store says how it keeps each kind of value, so that a fact is spelled once.

What a field holds is read from its type; a mapping that is kept as JSON text says so by `metadata={"kind": "json"}`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, fields
from datetime import date, datetime
from types import NoneType
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

from feature_definitions.intervals import Interval

Record = TypeVar("Record")
Row = dict[str, Any]
"""A row by column name, in the values that its store keeps."""
Kind = Literal["text", "integer", "number", "truth", "instant", "date", "texts", "map", "json"]
"""What a column holds: `json` is a mapping of texts that is kept as JSON text, and as null where it is empty."""

_KINDS: dict[object, Kind] = {
    str: "text", int: "integer", float: "number", bool: "truth", datetime: "instant", date: "date",
    Literal: "text", tuple: "texts", Mapping: "map",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RecordStore:
    """How one store keeps records: the two columns of an interval, other names of fields, and values that it keeps otherwise."""

    interval: tuple[str, str]
    names: Mapping[str, str]
    keep: Mapping[Kind, Callable[[Any], Any]]
    read: Mapping[Kind, Callable[[Any], Any]]


@dataclass(frozen=True, slots=True)
class KeptColumn:
    """A column: its name in the store, what it holds, whether it may be null, and the field whose value it is (`end` names one of two)."""

    name: str
    kind: Kind
    optional: bool
    field: str
    end: Literal["start", "end"] | None = None

    def of(self, record: object) -> Any:
        """The column's value in a record."""
        value = getattr(record, self.field)
        return value if self.end is None else getattr(value, self.end)


class RecordRows(Generic[Record]):
    """The rows of one kind of record in one store, both ways; fields of `without` are kept elsewhere."""

    def __init__(self, record: type[Record], store: RecordStore, *, without: tuple[str, ...] = ()) -> None:
        """Derive the columns from the record."""
        types = get_type_hints(record)
        held = [field for field in fields(record) if field.name not in without]  # type: ignore[arg-type]  # every record is a dataclass
        self._record, self._store = record, store
        self.columns = tuple(column for field in held for column in _columns(field, types[field.name], store))
        self._plain = tuple((each, store.read.get(each.kind)) for each in self.columns if each.end is None)
        self._spans = tuple((start, end, store.read.get(start.kind)) for start, end in _spans(self.columns))
        self._fields = tuple(field.name for field in fields(record))  # type: ignore[arg-type]  # every record is a dataclass

    def row(self, record: Record, **beside: Any) -> Row:
        """The row of a record, with what is kept beside it."""
        return {column.name: self._kept(column, column.of(record)) for column in self.columns} | beside

    def record(self, row: Mapping[str, Any], **elsewhere: Any) -> Record:
        """The record of a row, with the fields that are kept elsewhere; a column that older rows lack is null in them."""
        for column, read in self._plain:
            value = row.get(column.name) if column.optional else row[column.name]
            elsewhere[column.field] = value if read is None or (value is None and column.kind != "json") else read(value)
        for start, end, read in self._spans:
            both = row[start.name], row[end.name]
            elsewhere[start.field] = Interval(*both) if read is None else Interval(*map(read, both))
        return self._record(**elsewhere)

    def records(self, columns: Mapping[str, Sequence[Any]], **elsewhere: Sequence[Any]) -> Iterator[Record]:
        """The records of rows that are given by column: each as `record` makes it, many of them in a fourth of the time."""
        for column, read in self._plain:
            found = columns[column.name]
            elsewhere[column.field] = found if read is None else _each(found, read, empty=column.kind != "json")
        for start, end, read in self._spans:
            both = (columns[name] if read is None else _each(columns[name], read) for name in (start.name, end.name))
            elsewhere[start.field] = _each(list(zip(*both, strict=True)), lambda ends: Interval(*ends))
        return map(self._record, *(elsewhere[name] for name in self._fields))

    def _kept(self, column: KeptColumn, value: Any) -> Any:
        keep = self._store.keep.get(column.kind)
        return value if value is None or keep is None else keep(value)


def _each(values: Sequence[Any], read: Callable[[Any], Any], *, empty: bool = True) -> Sequence[Any]:
    """Values as they are read, equal ones once where many are equal; `empty` values are null."""
    apart = dict.fromkeys(values)
    if len(apart) * 2 > len(values):
        return [None if empty and value is None else read(value) for value in values]
    known = {value: None if empty and value is None else read(value) for value in apart}
    return [*map(known.__getitem__, values)]


def json_text(mapping: Mapping[str, str]) -> str | None:
    """A mapping as JSON text; None if it is empty."""
    return json.dumps(dict(mapping), sort_keys=True) if mapping else None


def json_mapping(text: str | None) -> dict[str, str]:
    """The mapping that `json_text` was given."""
    return json.loads(text) if text else {}


def _spans(columns: tuple[KeptColumn, ...]) -> Iterator[tuple[KeptColumn, KeptColumn]]:
    """The two columns of each interval."""
    ends = {column.field: column for column in columns if column.end == "end"}
    return ((column, ends[column.field]) for column in columns if column.end == "start")


def _columns(field: "Field[Any]", hint: object, store: RecordStore) -> tuple[KeptColumn, ...]:
    (held,) = (part for part in get_args(hint) if part is not NoneType) if NoneType in get_args(hint) else (hint,)
    if held is Interval:
        start, end = store.interval
        return KeptColumn(start, "instant", False, field.name, "start"), KeptColumn(end, "instant", False, field.name, "end")
    kind: Kind = field.metadata.get("kind") or _KINDS[get_origin(held) or held]
    return (KeptColumn(store.names.get(field.name, field.name), kind, held is not hint or kind == "json", field.name),)
