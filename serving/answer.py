"""What a request means and what its answer is: pure decisions over what the online store holds; the caller brings store and clock.

`lookup` is the whole of it: it asks for keys, is sent their values, and ends with the answer. A service is compiled once by
`compile_service`; one read fetches the epoch records of its groups and the rows of every entity together.
"""

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, TypeAlias, TypedDict, assert_never

from feature_definitions import FeatureService, Join, layout
from feature_definitions.errors import UserError
from feature_definitions.intervals import EPOCH, instant, iso, micros
from feature_definitions.language.rules import is_array
from feature_definitions.reading import age, default, spelled
from feature_definitions.sql.data_types import element_of
from feature_definitions.sql.expressions import shown_types
from online_sync.codec import (
    CodecError,
    Columns,
    EpochRecord,
    Kind,
    Row,
    RowSchema,
    Scalar,
    Value,
    decode,
    decode_epoch,
    kind_of,
    written_with,
)

MOST_ENTITIES = 1000
PRESENT, EMPTY, EXPIRED, NOT_FOUND, HELD = "PRESENT", "EMPTY", "EXPIRED", "NOT_FOUND", "HELD"

Entity: TypeAlias = Mapping[str, Any]
Stored: TypeAlias = Sequence[bytes | None]
Shown: TypeAlias = Scalar | list[Scalar]


class Result(TypedDict):
    """What is answered for one entity; status and event timestamp are those of each join.

    The event timestamp is that of the entity's newest row, also where its values are EXPIRED or HELD; None if it has no row.
    """

    entity: Entity
    values: dict[str, Shown]
    status: dict[str, str]
    event_timestamp: dict[str, str | None]


class RequestError(UserError):
    """A request that can not be answered; `field` says where in it."""

    def __init__(self, message: str, *, field: str) -> None:
        """Keep the field beside the message."""
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class JoinPlan:
    """One join of a service: its group, the caller's columns that hold the entity's keys, and the columns asked for.

    Of `columns` those in `ages` are shown as seconds since what is stored; `defaults` are shown in place of null.
    """

    name: str
    group: str
    kind: Kind
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    outputs: tuple[str, ...]
    ages: frozenset[str]
    defaults: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """Everything about a service that does not depend on the request."""

    service: str
    project: str
    keys: Mapping[str, str]
    groups: tuple[str, ...]
    joins: tuple[JoinPlan, ...]


def compile_service(service: FeatureService, *, project: str) -> ServicePlan:
    """The service as its answers need it."""
    joins = tuple(_join(join, service.defaults) for join in service.joins)
    groups = tuple(dict.fromkeys(join.group for join in joins))
    return ServicePlan(service.name, project, service.keys, groups, joins)


def check_entities(plan: ServicePlan, entities: object) -> list[Entity]:
    """The entities as they were asked for, each with exactly the service's keys; what is wrong is named. A null key is allowed."""
    if not isinstance(entities, list) or not entities:
        raise RequestError(f"entities is a list of one or more objects like {_example(plan.keys)}", field="entities")
    if len(entities) > MOST_ENTITIES:
        raise RequestError(f"{len(entities):,} entities in one request; ask for at most {MOST_ENTITIES:,}", field="entities")
    for i, entity in enumerate(entities):
        _check_entity(plan, entity, where=f"entities[{i}]")
    return entities


def parse_entity(service: FeatureService, texts: Mapping[str, str]) -> Entity:
    """One entity from texts as a command line has them, `{"customer_id": "42"}`."""
    _check_names(service.name, service.keys, texts, where="")
    return {key: _parsed(texts[key], kind=kind, field=key) for key, kind in service.keys.items()}


def read_keys(plan: ServicePlan, entities: Sequence[Entity], *, generations: Mapping[str, int]) -> list[str]:
    """The store's keys of one read: the epoch records of the plan's groups, then one row per entity and join that can have one."""
    records = [layout.epoch_key(plan.project, group) for group in plan.groups]
    rows = (
        layout.row_key(plan.project, join.group, generations[join.group], layout.entity_text(entity[key] for key in join.keys))
        for entity in entities
        for join in plan.joins
        if _has_row(join, entity, generations)
    )
    return [*records, *rows]


def epoch_records(plan: ServicePlan, stored: Stored) -> dict[str, EpochRecord]:
    """The epoch records among the values of `read_keys`; a group whose first sync has not finished has none."""
    found = {group: _epoch_record(data) for group, data in zip(plan.groups, stored, strict=False) if data is not None}
    return {group: record for group, record in found.items() if record.epoch > 0}


def answer(
    plan: ServicePlan, entities: Sequence[Entity], *, stored: Stored, records: Mapping[str, EpochRecord], now: datetime
) -> list[Result]:
    """The results in the order asked, from the values of `read_keys` with the records' generations."""
    at = micros(now)
    rows = iter(stored[len(plan.groups) :])
    shapes = {join.name: _shapes(records[join.group], join) for join in plan.joins if join.group in records}
    results = []
    for entity in entities:
        result = Result(entity=entity, values={}, status={}, event_timestamp={})
        for join in plan.joins:
            if _has_row(join, entity, records):
                found = _judged(records[join.group], shapes[join.name], next(rows), at)
            else:
                found = _unread(join, entity)
            result["values"].update(zip(join.outputs, found.values, strict=True))
            for name, value in join.defaults.items():
                if result["values"][name] is None:
                    result["values"][name] = _listed(value)
            result["status"][join.name] = found.status
            result["event_timestamp"][join.name] = found.event_timestamp
        results.append(result)
    return results


def lookup(
    plan: ServicePlan, entities: Sequence[Entity], *, generations: Mapping[str, int], now: datetime
) -> Generator[list[str], Stored, tuple[list[Result], dict[str, int]]]:
    """Yields the keys to read and is sent their values; returns the results and the generations that hold now.

    With the generations of the last answer it reads once, else twice: rows are only found under their generation.
    """
    known = {group: generations[group] for group in plan.groups if group in generations}
    stored = yield read_keys(plan, entities, generations=known)
    records = epoch_records(plan, stored)
    if _generations(records) != known:
        stored = yield read_keys(plan, entities, generations=_generations(records))
        # Were they replaced once more between the two reads, those that the rows were read by still hold together.
        newer = epoch_records(plan, stored)
        records = {g: newer[g] if g in newer and newer[g].generation == r.generation else r for g, r in records.items()}
    return answer(plan, entities, stored=stored, records=records, now=now), _generations(records)


def fetch(plan: ServicePlan, entities: Sequence[Entity], *, mget: Callable[[list[str]], Stored], now: datetime) -> list[Result]:
    """The results by a blocking read, for commands and Python."""
    reading = lookup(plan, entities, generations={}, now=now)
    keys = next(reading)
    while True:
        try:
            keys = reading.send(mget(keys))
        except StopIteration as end:
            results: list[Result] = end.value[0]
            return results


# --------------------------------------------------------------------------------------------------------------------- compiling


def _join(join: Join, defaults: Mapping[str, object]) -> JoinPlan:
    asked = dict(zip(join.outputs, join.columns, strict=True))
    types = shown_types(join.group) if defaults.keys() & asked.keys() else {}
    shown = {name: spelled(default(value, types[asked[name]])) for name, value in defaults.items() if name in asked}
    return JoinPlan(join.name, join.group.name, kind_of(join.group), join.keys, join.columns, join.outputs, join.group.ages, shown)


# ----------------------------------------------------------------------------------------------------------------------- request


def _check_entity(plan: ServicePlan, entity: object, *, where: str) -> None:
    if not isinstance(entity, dict):
        raise RequestError(f"{where} is an object like {_example(plan.keys)}", field=where)
    _check_names(plan.service, plan.keys, entity, where=f"{where}.")
    for key, kind in plan.keys.items():
        if not _fits(entity[key], kind):
            field = f"{where}.{key}"
            raise RequestError(f"{field}: {entity[key]!r} is not {_spoken(kind)}", field=field)


def _check_names(service: str, keys: Mapping[str, str], entity: Mapping[str, object], *, where: str) -> None:
    for name in entity:
        if name not in keys:
            raise RequestError(f"{where}{name} is no key of {service}; an entity is like {_example(keys)}", field=f"{where}{name}")
    for key in keys:
        if key not in entity:
            raise RequestError(f"{where}{key} is missing; an entity of {service} is like {_example(keys)}", field=f"{where}{key}")


def _fits(value: object, kind: str) -> bool:
    if value is None:
        return True
    if kind == "int64":
        return type(value) is int and -(2**63) <= value < 2**63
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "date":
        return type(value) is date or (isinstance(value, str) and _is_date(value))
    return isinstance(value, str) and not re.search("[\ud800-\udfff]", value)


def _is_date(text: str) -> bool:
    try:
        return re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII) is not None and bool(date.fromisoformat(text))
    except ValueError:
        return False


def _parsed(text: str, *, kind: str, field: str) -> object:
    value: object = text
    if kind == "int64" and re.fullmatch(r"[+-]?\d{1,19}", text, re.ASCII):
        value = int(text)
    elif kind == "boolean":
        value = {"true": True, "false": False}.get(text, text)
    if not _fits(value, kind):
        raise RequestError(f"{field}: {text!r} is not {_spoken(kind)}", field=field)
    return value


def _spoken(kind: str) -> str:
    return {"int64": "an int64", "date": "a date like 2026-01-05", "boolean": "true or false"}.get(kind, "a text")


def _example(keys: Mapping[str, str]) -> str:
    shown = {"int64": "42", "date": '"2026-01-05"', "boolean": "true"}
    return "{" + ", ".join(f'"{key}": {shown.get(kind, chr(34) + "..." + chr(34))}' for key, kind in keys.items()) + "}"


# ------------------------------------------------------------------------------------------------------------------------ shapes

_OWN = -1
"""Under which the shape of the epoch's own schema is found, beside its number."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """Where the columns that a join asks for lie in rows of a schema (None: not there yet), and which are not shown as they are stored."""

    schema: RowSchema
    places: tuple[int | None, ...]
    ages: tuple[int, ...]
    others: tuple[tuple[int, str], ...]

    def empty(self, values: Sequence[Value]) -> list[Shown]:
        """The values of an epoch record's `empty`, which are spelled already."""
        return [None if place is None else _listed(values[place]) for place in self.places]

    def shown(self, values: Sequence[Value], now: int) -> list[Shown]:
        """The values of a row as they are shown at `now`."""
        picked: list[Any] = [None if place is None else values[place] for place in self.places]
        for at in self.ages:
            picked[at] = None if picked[at] is None else age(now, picked[at])
        for at, kind in self.others:
            picked[at] = _shown(picked[at], kind)
        return picked


def _shapes(record: EpochRecord, join: JoinPlan) -> Mapping[int, _Shape]:
    return _shapes_of(record.columns, record.also, join.columns, join.ages)


@lru_cache(maxsize=1024)
def _shapes_of(columns: Columns, also: tuple[Columns, ...], asked: tuple[str, ...], ages: frozenset[str]) -> Mapping[int, _Shape]:
    own, *others = (_shape(RowSchema(each), asked, ages) for each in (columns, *also))
    return {_OWN: own, **{shape.schema.number: shape for shape in (*others, own)}}


def _shape(schema: RowSchema, asked: tuple[str, ...], ages: frozenset[str]) -> _Shape:
    places = {name: i for i, (name, _) in enumerate(schema.columns)}
    kinds = [dict(schema.columns).get(column, "") for column in asked]
    aging = tuple(i for i, kind in enumerate(kinds) if kind == "timestamp" and asked[i] in ages)
    others = tuple((i, kind) for i, kind in enumerate(kinds) if i not in aging and (kind in ("date", "timestamp") or is_array(kind)))
    return _Shape(schema, tuple(places.get(column) for column in asked), aging, others)


def _shown(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == "timestamp":
        return _time(value)
    if kind == "date":
        return (EPOCH.date() + timedelta(days=value)).isoformat()
    return [_shown(each, element_of(kind)) for each in value] if is_array(kind) else value


def _listed(value: Value) -> Shown:
    return list(value) if isinstance(value, tuple) else value


@lru_cache(maxsize=4096)
def _time(microseconds: int) -> str:
    return iso(instant(microseconds))


# ---------------------------------------------------------------------------------------------------------------------- one join


@dataclass(frozen=True, slots=True)
class _Found:
    status: str
    values: Sequence[Shown]
    event_timestamp: str | None = None


def _has_row(join: JoinPlan, entity: Entity, groups: Mapping[str, object]) -> bool:
    return join.group in groups and not _null_key(join, entity)


def _null_key(join: JoinPlan, entity: Entity) -> bool:
    return any(entity[key] is None for key in join.keys)


def _unread(join: JoinPlan, entity: Entity) -> _Found:
    """There was nothing to read: no entity, or no finished sync of its group."""
    expired = join.kind in ("windowed", "snapshot") and not _null_key(join, entity)
    return _Found(EXPIRED if expired else NOT_FOUND, (None,) * len(join.columns))


def _judged(record: EpochRecord, shapes: Mapping[int, _Shape], data: bytes | None, now: int) -> _Found:
    shape, row = _row(record, shapes, data)
    status = _status(record, row, now)
    values: Sequence[Shown] = (None,) * len(shape.places)
    if row is not None and status == PRESENT:
        values = shape.shown(row.values, now)
    elif record.kind == "windowed" and status in (EMPTY, NOT_FOUND):
        values = shapes[_OWN].empty(record.empty)
    return _Found(status, values, None if row is None else _time(row.event_timestamp))


def _row(record: EpochRecord, shapes: Mapping[int, _Shape], data: bytes | None) -> tuple[_Shape, Row | None]:
    """The live row and its shape; a tombstone is no row."""
    if data is None:
        return shapes[_OWN], None
    shape = shapes.get(written_with(data))
    if shape is None:
        raise CodecError(f"the store holds a row of {record.group} with columns that its epoch record does not name; sync the group again")
    row = decode(shape.schema, data)
    return shape, None if row.tombstone else row


def _status(record: EpochRecord, row: Row | None, now: int) -> str:
    """The status of a row, or of its absence, at `now`; a TTL is inclusive, and what was held back is empty once its windows are."""
    match record.kind:
        case "windowed" | "snapshot":
            since = record.coverage
        case "observation":
            since = now if row is None else row.event_timestamp
        case "static":
            since = now
        case _:
            assert_never(record.kind)
    if since is None or (record.ttl is not None and now - since > record.ttl):
        return EXPIRED
    if row is None:
        return NOT_FOUND
    if row.empties_at is not None and row.empties_at <= since:
        return EMPTY
    return HELD if row.held else PRESENT


@lru_cache(maxsize=1024)
def _epoch_record(data: bytes) -> EpochRecord:
    return decode_epoch(data)


def _generations(records: Mapping[str, EpochRecord]) -> dict[str, int]:
    return {group: record.generation for group, record in records.items()}
