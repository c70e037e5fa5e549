"""Types of columns and values in Feast's words: how a column is declared there, and how a value travels."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

from feast.field import Field
from feast.protos.feast.types import Value_pb2 as protos
from feast.type_map import feast_value_type_to_python_type
from feast.types import Array, Bool, FeastType, Float64, Int64, String, UnixTimestamp
from feast.types import Decimal as FeastDecimal

from feature_definitions.sql.data_types import element_of, is_array, is_decimal

TYPE = "headwater.type"
"""The tag of a field that says its type, where Feast has none of its own for it."""

_PLAIN: Mapping[str, FeastType] = {
    "string": String,
    "int64": Int64,
    "double": Float64,
    "boolean": Bool,
    "timestamp": UnixTimestamp,
    "date": UnixTimestamp,
}
_WORDS = {
    "string": "string",
    "int64": "int64",
    "double": "double",
    "boolean": "bool",
    "timestamp": "unix_timestamp",
    "date": "unix_timestamp",
}
_LISTS = {
    "string": protos.StringList,
    "int64": protos.Int64List,
    "double": protos.DoubleList,
    "boolean": protos.BoolList,
    "timestamp": protos.Int64List,
    "date": protos.Int64List,
}


def declared(data_type: str) -> FeastType:
    """The type that Feast has for one of ours. Of dates and instants it has one type, in whole seconds."""
    if is_array(data_type):
        return Array(declared(element_of(data_type)))
    return FeastDecimal if is_decimal(data_type) else _PLAIN[data_type]


def field(name: str, data_type: str) -> Field:
    """A column as Feast declares it; a tag keeps the type that it came from, where another one has the same in Feast."""
    tags = {} if _told(declared(data_type)) == data_type else {TYPE: data_type}
    return Field(name=name, dtype=declared(data_type), tags=tags)


def ours(of: Field) -> str:
    """The type that a column of Feast's came from."""
    return of.tags.get(TYPE) or _told(of.dtype) or str(of.dtype)


def _told(kind: FeastType) -> str | None:
    """The type of ours that a type of Feast's tells of alone."""
    if isinstance(kind, Array):
        inner = _told(kind.base_type)
        return None if inner is None else f"array<{inner}>"
    found = {Float64: "double", Int64: "int64", String: "string", Bool: "boolean", UnixTimestamp: "timestamp"}
    return found.get(kind)


def proto(value: Any, data_type: str) -> protos.Value:
    """A value in Feast's form; None is its value without one."""
    if value is None:
        return protos.Value()
    if is_array(data_type):
        element = element_of(data_type)
        if is_decimal(element):
            return protos.Value(decimal_list_val=protos.StringList(val=[str(each) for each in value]))
        return protos.Value(**{f"{_WORDS[element]}_list_val": _LISTS[element](val=[_sent(each) for each in value])})
    word = "decimal" if is_decimal(data_type) else _WORDS[data_type]
    return protos.Value(**{f"{word}_val": _sent(value)})


def _sent(value: Any) -> Any:
    match value:
        case datetime():
            return int(value.timestamp())
        case date():
            return int(datetime.combine(value, time(), UTC).timestamp())
        case Decimal():
            return format(value, "f")
    return value


def key(value: protos.Value, data_type: str) -> Any:
    """A key as requests of ours have it."""
    found = feast_value_type_to_python_type(value)
    if data_type == "date" and isinstance(found, datetime):
        return found.date().isoformat()
    return found
