"""What a request means: a service compiled to what its answers need, and the entities of a request, checked."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeAlias

import msgspec

from feature_definitions import FeatureService, Join
from feature_definitions.errors import UserError
from feature_definitions.reading import GroupKind, default, kind_of, to_json
from feature_definitions.sql.column_types import types_as_read
from online_sync.codec import Value

MOST_ENTITIES = 1000

_FIELDS = ("service", "entities")

Entity: TypeAlias = Mapping[str, Any]


class RequestError(UserError):
    """A request that cannot be answered; `field` says where in it, or is None where the whole is wrong."""

    def __init__(self, message: str, *, field: str | None) -> None:
        """Keep the field beside the message."""
        super().__init__(message)
        self.field = field


class UnknownService(RequestError):
    """A request for a service that there is not."""


@dataclass(frozen=True, slots=True)
class JoinPlan:
    """One join of a service: its group, the caller's columns that hold the entity's keys, and the columns asked for.

    Of `columns` those in `ages` are read as seconds since what is stored; `defaults` stand in place of null.
    """

    name: str
    group: str
    kind: GroupKind
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    outputs: tuple[str, ...]
    ages: frozenset[str]
    defaults: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """Everything about a service that does not depend on the request."""

    service: str
    keys: Mapping[str, str]
    groups: tuple[str, ...]
    joins: tuple[JoinPlan, ...]


def compile_service(service: FeatureService) -> ServicePlan:
    """The service as its answers need it."""
    joins = tuple(_join(join, service.defaults) for join in service.joins)
    groups = tuple(dict.fromkeys(join.group for join in joins))
    return ServicePlan(service.name, service.keys, groups, joins)


def parse_body(data: bytes) -> tuple[object, object]:
    """The service and the entities that a request's JSON asks for, not checked yet."""
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"the body is no JSON: {error}", field=None) from None
    if not isinstance(body, dict):
        raise RequestError('the body is an object like {"service": "...", "entities": [...]}', field=None)
    for name in _FIELDS:
        if name not in body:
            raise RequestError(f"{name} is missing; the body has {' and '.join(_FIELDS)}", field=name)
    for name in body:
        if name not in _FIELDS:
            raise RequestError(f"{name} is not known; the body has {' and '.join(_FIELDS)}", field=name)
    return body["service"], body["entities"]


def check_entities(plan: ServicePlan, entities: object) -> list[Entity]:
    """The entities as they were asked for, each with exactly the service's keys, which may be null; a mistake is named."""
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
    return {key: _parsed(texts[key], data_type=data_type, field=key) for key, data_type in service.keys.items()}


def _join(join: Join, defaults: Mapping[str, object]) -> JoinPlan:
    asked = dict(zip(join.outputs, join.columns, strict=True))
    types = types_as_read(join.group) if defaults.keys() & asked.keys() else {}
    defaulted = {name: to_json(default(value, types[asked[name]])) for name, value in defaults.items() if name in asked}
    return JoinPlan(join.name, join.group.name, kind_of(join.group), join.keys, join.columns, join.outputs, join.group.ages, defaulted)


def _check_entity(plan: ServicePlan, entity: object, *, where: str) -> None:
    if not isinstance(entity, dict):
        raise RequestError(f"{where} is an object like {_example(plan.keys)}", field=where)
    _check_names(plan.service, plan.keys, entity, where=f"{where}.")
    for key, data_type in plan.keys.items():
        if not _fits(entity[key], data_type):
            field = f"{where}.{key}"
            raise RequestError(f"{field}: {entity[key]!r} is not {_described(data_type)}", field=field)


def _check_names(service: str, keys: Mapping[str, str], entity: Mapping[str, object], *, where: str) -> None:
    for name in entity:
        if name not in keys:
            raise RequestError(f"{where}{name} is no key of {service}; an entity is like {_example(keys)}", field=f"{where}{name}")
    for key in keys:
        if key not in entity:
            raise RequestError(f"{where}{key} is missing; an entity of {service} is like {_example(keys)}", field=f"{where}{key}")


def _fits(value: object, data_type: str) -> bool:
    if value is None:
        return True
    if data_type == "int64":
        return type(value) is int and -(2**63) <= value < 2**63
    if data_type == "boolean":
        return isinstance(value, bool)
    if data_type == "date":
        return type(value) is date or (isinstance(value, str) and _is_date(value))
    return isinstance(value, str) and not re.search("[\ud800-\udfff]", value)


def _is_date(text: str) -> bool:
    try:
        return re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII) is not None and bool(date.fromisoformat(text))
    except ValueError:
        return False


def _parsed(text: str, *, data_type: str, field: str) -> object:
    value: object = text
    if data_type == "int64" and re.fullmatch(r"[+-]?\d{1,19}", text, re.ASCII):
        value = int(text)
    elif data_type == "boolean":
        value = {"true": True, "false": False}.get(text, text)
    if not _fits(value, data_type):
        raise RequestError(f"{field}: {text!r} is not {_described(data_type)}", field=field)
    return value


def _described(data_type: str) -> str:
    return {"int64": "an int64", "date": "a date like 2026-01-05", "boolean": "true or false"}.get(data_type, "a text")


def _example(keys: Mapping[str, str]) -> str:
    examples = {"int64": "42", "date": '"2026-01-05"', "boolean": "true"}
    return "{" + ", ".join(f'"{key}": {examples.get(data_type, chr(34) + "..." + chr(34))}' for key, data_type in keys.items()) + "}"
