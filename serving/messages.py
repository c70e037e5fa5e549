"""The messages of gRPC and Connect: what requests ask for, and answers, which are put together from pieces like all others.

The messages are those of `proto/headwater/v1/features.proto`; what protoc made of it lies beside it.
"""

import struct
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, TypeAlias

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError

from feature_definitions.reading import FAILED
from online_sync.wire import varint
from serving.forms import Beside, JsonValue, Keys, Said
from serving.request import MOST_ENTITIES, Reading, RequestError, ServicePlan, Wanted, check_entities, rows_of, within

SERVICE = "headwater.v1.Features"
METHODS = ("Get", "BatchGet")

Message: TypeAlias = Any
"""What protobuf's messages are typed as: their classes are made when this is imported."""

_POOL = descriptor_pool.Default()
for _file in descriptor_pb2.FileDescriptorSet.FromString(
    (files("serving") / "proto" / "headwater" / "v1" / "features.binpb").read_bytes()
).file:
    _POOL.AddSerializedFile(_file.SerializeToString())


def message(name: str) -> Message:
    """The class of a message, like `GetRequest`."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"headwater.v1.{name}"))


_GET, _BATCH = message("GetRequest"), message("BatchGetRequest")
_NUMBERED = _POOL.FindEnumTypeByName("headwater.v1.Status").values_by_name
_STATUSES: Mapping[str, int] = {name: found.number for name, found in _NUMBERED.items()}


def asked(reading: Reading, method: str, data: bytes) -> Wanted:
    """What a call of a method asks for; a mistake is named."""
    kind = _GET if method == "Get" else _BATCH
    try:
        body = kind.FromString(data)
    except DecodeError as error:
        raise RequestError(f"the body is no {kind.DESCRIPTOR.full_name}: {error}", field=None) from None
    plan = reading.plan(body.service)
    plain = _plain_keys(plan, body) if method == "BatchGet" and not body.max_staleness else None
    if plain is not None:
        return Wanted(plan, plain, "messages")
    rows = [{name: _plain(value) for name, value in body.entity.items()}] if method == "Get" else rows_of(plan, _columns(body))
    checked = check_entities(plan, rows)
    keys = [tuple(entity[name] for name in plan.asked) for entity in checked]
    return Wanted(plan, keys, "messages", within(body.max_staleness or None))


def _plain_keys(plan: ServicePlan, body: Message) -> list[Keys] | None:
    """The entities, if each key is an int64 or a text, is given once, and is never null; None if they have to be looked at one by one."""
    lists: dict[str, Any] = {}
    for column in body.entities:
        name, integers, texts = column.name, column.integers, column.texts
        kind = plan.asked.get(name)
        if name in lists or column.values or (texts if kind == "int64" else integers) or kind not in ("int64", "string"):
            return None
        lists[name] = integers if kind == "int64" else texts
    columns = [lists[name] for name in plan.asked if name in lists]
    count = len(columns[0]) if columns else 0
    if len(columns) < len(plan.asked) or not 0 < count <= MOST_ENTITIES or any(len(each) != count for each in columns):
        return None
    return list(zip(*columns, strict=True))


def from_json(method: str, data: bytes) -> bytes:
    """A request that is written in protobuf's JSON, as bytes."""
    made = (_GET if method == "Get" else _BATCH)()
    try:
        json_format.Parse(data, made)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"the body is no {made.DESCRIPTOR.full_name} in JSON: {error}", field=None) from None
    return bytes(made.SerializeToString())


def to_json(method: str, data: bytes) -> bytes:
    """An answer in protobuf's JSON."""
    text: str = json_format.MessageToJson(message(f"{method}Response").FromString(data), indent=None)
    return text.encode()


class MessagesForm:
    """A `GetResponse` of one entity, a `BatchGetResponse` of more: they lie in bytes alike."""

    flags = True

    def __init__(self, plan: ServicePlan) -> None:
        """Prepare the names, which come before the results."""
        self._plan = plan
        features = [*(out for join in plan.joins for out in join.outputs), *(each.feature.name for each in plan.on_demand)]
        parts = [*(join.name for join in plan.joins), *(each.feature.name for each in plan.on_demand)]
        self._names = _field(b"\x0a", bytes(message("Names")(features=features, parts=parts).SerializeToString()))

    def piece(self, _: Keys, found: Sequence[Said]) -> bytes:
        """A result, as a field of the answer."""
        values = b"".join([_field(b"\x0a", _value(value)) for said in found for value in said.values or ()])
        statuses = bytes(_STATUSES[said.status] for said in found)
        times = b"".join([_field(b"\x1a", (said.event_timestamp or "").encode()) for said in found])
        return _field(b"\x12", values + _field(b"\x12", statuses) + times)

    def whole(self, pieces: Sequence[bytes], beside: Beside) -> bytes:
        """The names, the results, and whether the store was away."""
        return b"".join((self._names, *pieces, b"\x18\x01" if beside.stale else b""))

    def computed(self, results: Sequence[Mapping[str, Any]], beside: Beside) -> bytes:
        """The same of results as plain data."""
        return self.whole([self.piece((), self._said(result)) for result in results], beside)

    def _said(self, result: Mapping[str, Any]) -> list[Said]:
        values, status, times = result["values"], result["status"], result["event_timestamp"]
        joins = [Said(status[join.name], [values[out] for out in join.outputs], times[join.name]) for join in self._plan.joins]
        return [*joins, *(Said(status.get(name, FAILED), [values[name]]) for name in (each.feature.name for each in self._plan.on_demand))]


def _columns(body: Message) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for column in body.entities:
        kinds = [list(each) for each in (column.integers, column.texts, column.values) if each]
        if len(kinds) > 1 or column.name in found:
            raise RequestError(f"entities: {column.name} is given twice; a column is integers, texts or values", field="entities")
        found[column.name] = [] if not kinds else [_plain(each) for each in column.values] if column.values else kinds[0]
    return found


def _plain(value: Message) -> Any:
    kind = value.WhichOneof("kind")
    if kind is None:
        return None
    return [_plain(each) for each in value.list.values] if kind == "list" else getattr(value, kind)


def _value(value: JsonValue) -> bytes:
    """The content of a `Value`."""
    match value:
        case None:
            return b""
        case bool():
            return b"\x18\x01" if value else b"\x18\x00"
        case int():
            return b"\x08" + varint(value & (2**64 - 1))
        case float():
            return b"\x11" + struct.pack("<d", value)
        case str():
            return _field(b"\x22", value.encode())
        case _:
            return _field(b"\x2a", b"".join([_field(b"\x0a", _value(each)) for each in value]))


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + varint(len(content)) + content
