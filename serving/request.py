"""What a request means: a service compiled to what its answers need, and the entities of a request, checked."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from math import isfinite
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import astuple

from feature_definitions import FeatureService, Join, OnDemandFeature
from feature_definitions.errors import UserError
from feature_definitions.intervals import MICROSECOND, duration
from feature_definitions.language import DefinitionError
from feature_definitions.reading import GroupKind, default, from_json, kind_of, to_json
from feature_definitions.sql.column_types import types_of_outputs
from feature_definitions.sql.data_types import element_of, is_array, is_decimal
from online_sync.codec import Value

MOST_ENTITIES = 1000
MOST_VALUES = 10_000
"""How many values an array may have that a request brings."""

_FIELDS = ("service", "entities")
_MORE = ("include", "max_staleness")
_FRESHNESS = "freshness"

Entity: TypeAlias = Mapping[str, Any]
FormName: TypeAlias = Literal["rows", "row", "columns", "feast", "feast in full", "messages", "arrow"]


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

    Of `columns` those in `ages` are read as seconds since what is stored; `defaults` stand in place of null. `types` are those of the
    outputs, in their order.
    """

    name: str
    group: str
    kind: GroupKind
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    outputs: tuple[str, ...]
    ages: frozenset[str]
    defaults: Mapping[str, Value]
    types: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class OnDemandPlan:
    """A feature computed at the request: the columns of its inputs, in order, with their types; `requests` of them are in the request."""

    feature: OnDemandFeature
    inputs: tuple[tuple[str, str], ...]
    requests: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ServicePlan:
    """Everything about a service that does not depend on the request; `asked` is what this says of each entity, with the types."""

    service: str
    asked: Mapping[str, str]
    groups: tuple[str, ...]
    joins: tuple[JoinPlan, ...]
    on_demand: tuple[OnDemandPlan, ...]


def compile_service(service: FeatureService) -> ServicePlan:
    """The service as its answers need it."""
    joins = tuple(_join(join, service.defaults) for join in service.joins)
    groups = tuple(dict.fromkeys(join.group for join in joins))
    return ServicePlan(service.name, service.asked, groups, joins, tuple(_on_demand(each, service) for each in service.on_demand))


def parse_body(data: bytes) -> Mapping[str, Any]:
    """What a request's JSON says, not checked yet but for the names of its fields."""
    return _checked_names(_object(data))


def _object(data: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"the body is no JSON: {error}", field=None) from None
    if not isinstance(body, dict):
        raise RequestError('the body is an object like {"service": "...", "entities": [...]}', field=None)
    return body


def _checked_names(body: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in _FIELDS:
        if name not in body:
            raise RequestError(f"{name} is missing; the body has {' and '.join(_FIELDS)}", field=name)
    for name in body:
        if name not in (*_FIELDS, *_MORE):
            raise RequestError(f"{name} is not known; the body has {' and '.join(_FIELDS)}, and may have {' and '.join(_MORE)}", field=name)
    return body


def rows_of(plan: ServicePlan, columns: Mapping[str, Any]) -> list[Entity]:
    """The entities that are given as columns, a list of values for each key."""
    _check_names(plan.service, plan.asked, columns, where="entities.")
    for name, values in columns.items():
        if not isinstance(values, list):
            raise RequestError(f"entities.{name} is a list of values, one for each entity", field=f"entities.{name}")
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise RequestError(f"the lists of entities have different lengths: {lengths}", field="entities")
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def within(staleness: object) -> int | None:
    """A span of a request, in microseconds."""
    if staleness is None:
        return None
    try:
        return duration(str(staleness)) // MICROSECOND
    except ValueError:
        raise RequestError(f"max_staleness is a span like 30m or 2d, not {staleness!r}", field="max_staleness") from None


def _is_fresh(include: object) -> bool:
    if not isinstance(include, list) or not set(map(str, include)) <= {_FRESHNESS}:
        raise RequestError(f'include is a list that may have "{_FRESHNESS}", not {include!r}', field="include")
    return bool(include)


class Wanted(NamedTuple):
    """What a request asks for: entities, each as its values in the order of the plan's `asked`, and how to answer.

    `within` is for how many microseconds values are believed at most; `fresh`, whether the answer says how fresh they are.
    """

    plan: ServicePlan
    entities: Sequence[Any]
    form: FormName = "rows"
    within: int | None = None
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """How the bodies of requests are read, of every service in one pass where its keys are plain."""

    plans: Mapping[str, ServicePlan]
    quick: Mapping[str, msgspec.json.Decoder[Any]]
    quick_lists: Mapping[str, msgspec.json.Decoder[Any]]

    def asked(self, data: bytes) -> Wanted:
        """What a body asks for; a mistake is named."""
        return self.quickly(data) or self._asked(parse_body(data))

    def asked_of(self, service: str, data: bytes) -> Wanted:
        """What a body asks for of a service that it does not name: rows, all in all."""
        body = _object(data)
        if "service" in body:
            raise RequestError("service is not known here: a model has its own", field="service")
        return self._asked(_checked_names({"service": service, **body}))._replace(form="rows", fresh=False)

    def quickly(self, data: bytes) -> Wanted | None:
        """What a body asks for, if it has the form that is asked most and no mistake."""
        try:
            body = _BODY.decode(data)
            return Wanted(self.plans[body.service], [astuple(each) for each in self.quick[body.service].decode(body.entities)])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError):
            return None

    def _asked(self, body: Mapping[str, Any]) -> Wanted:
        plan, entities = self.plan(body["service"]), body["entities"]
        form: FormName = "rows"
        if isinstance(entities, dict) and entities:
            entities, form = rows_of(plan, entities), "columns"
        checked = check_entities(plan, entities)
        keys = [tuple(entity[name] for name in plan.asked) for entity in checked]
        return Wanted(plan, keys, form, within(body.get("max_staleness")), _is_fresh(body.get("include", [])))

    def plan(self, name: object) -> ServicePlan:
        """The plan of a service that is online."""
        plan = self.plans.get(name) if isinstance(name, str) else None
        if plan is None:
            known = ", ".join(sorted(self.plans)) or "none"
            raise UnknownService(f"there is no service {name!r}; there are {known}", field="service")
        return plan


def reading(services: Iterable[FeatureService]) -> Reading:
    """How requests for these services are read."""
    plans = {service.name: compile_service(service) for service in services}
    rows = {name: read for name, plan in plans.items() if (read := _quick(plan.asked)) is not None}
    lists = {name: read for name, plan in plans.items() if (read := quick_lists(plan.asked, more="refused")) is not None}
    return Reading(plans, rows, lists)


def check_entities(plan: ServicePlan, entities: object) -> list[Entity]:
    """The entities as they were asked for, each with exactly the service's keys, which may be null; a mistake is named."""
    if not isinstance(entities, list) or not entities:
        raise RequestError(f"entities is a list of one or more objects like {_example(plan.asked)}", field="entities")
    if len(entities) > MOST_ENTITIES:
        raise RequestError(f"{len(entities):,} entities in one request; ask for at most {MOST_ENTITIES:,}", field="entities")
    for i, entity in enumerate(entities):
        _check_entity(plan, entity, where=f"entities[{i}]")
    return entities


def parse_entity(service: FeatureService, texts: Mapping[str, str]) -> Entity:
    """One entity from texts as a command line has them, `{"customer_id": "42"}`."""
    return _entity(service.name, service.asked, texts)


def parse_query(plan: ServicePlan, texts: Mapping[str, str]) -> Entity:
    """One entity from the texts of a URL; `key` is the name of a service's only key, too."""
    [only, *more] = plan.asked
    return _entity(plan.service, plan.asked, {only: texts["key"]} if set(texts) == {"key"} and not more else texts)


def _entity(service: str, asked: Mapping[str, str], texts: Mapping[str, str]) -> Entity:
    _check_names(service, asked, texts, where="")
    return {key: _parsed(texts[key], data_type=data_type, field=key) for key, data_type in asked.items()}


def field_value(value: object, data_type: str) -> object:
    """A field of a request, which fits its type, as a function of on-demand features gets it: as it would come from a training set."""
    if value is None:
        return None
    if is_array(data_type):
        assert isinstance(value, list | tuple)
        return [field_value(each, element_of(data_type)) for each in value]
    if is_decimal(data_type):
        return default(Decimal(str(value)), data_type)
    return float(value) if data_type == "double" and isinstance(value, int) else from_json(to_json(value), data_type)


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    service: str
    entities: msgspec.Raw


_BODY = msgspec.json.Decoder(_Body)
_QUICK: Mapping[str, Any] = {
    "int64": Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None,
    "string": str | None,
    "boolean": bool | None,
}
"""Types that msgspec takes exactly as `_fits` does."""


def _quick(asked: Mapping[str, str]) -> msgspec.json.Decoder[Any] | None:
    """Reads entities that are right, and refuses all others without saying why; None where keys are not plain."""
    if not set(asked.values()) <= set(_QUICK):
        return None
    entity = _struct(asked, {key: _QUICK[kind] for key, kind in asked.items()}, more="refused")
    return msgspec.json.Decoder(Annotated[list[entity], msgspec.Meta(min_length=1, max_length=MOST_ENTITIES)])  # type: ignore[valid-type]


def quick_lists(asked: Mapping[str, str], *, more: Literal["allowed", "refused"]) -> msgspec.json.Decoder[Any] | None:
    """The same of entities that are given as lists, beside which there may be more."""
    if not set(asked.values()) <= set(_QUICK):
        return None
    return msgspec.json.Decoder(_struct(asked, {key: list[_QUICK[kind]] for key, kind in asked.items()}, more=more))  # type: ignore[valid-type]


def _struct(asked: Mapping[str, str], kinds: Mapping[str, Any], *, more: Literal["allowed", "refused"]) -> type[msgspec.Struct]:
    fields = [(f"field_{i}", kind) for i, kind in enumerate(kinds.values())]
    names = {field: name for (field, _), name in zip(fields, asked, strict=True)}
    return msgspec.defstruct("Wanted", fields, rename=names, forbid_unknown_fields=more == "refused", gc=False)


def _join(join: Join, defaults: Mapping[str, object]) -> JoinPlan:
    mine = {name: value for name, value in defaults.items() if name in join.outputs}
    types = types_of_outputs(join)
    defaulted = {name: to_json(default(value, types[name])) for name, value in mine.items()}
    return JoinPlan(
        join.name, join.group.name, kind_of(join.group), join.keys, join.columns, join.outputs, join.group.ages, defaulted, types
    )


def _on_demand(feature: OnDemandFeature, service: FeatureService) -> OnDemandPlan:
    shown = {out: kind for join in service.joins for out, kind in types_of_outputs(join).items()} if feature.refs else {}
    return OnDemandPlan(feature, feature.typed_inputs(shown), feature.requests)


def _check_entity(plan: ServicePlan, entity: object, *, where: str) -> None:
    if not isinstance(entity, dict):
        raise RequestError(f"{where} is an object like {_example(plan.asked)}", field=where)
    _check_names(plan.service, plan.asked, entity, where=f"{where}.")
    for key, data_type in plan.asked.items():
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
    """Whether a value of JSON (or a date of Python) is null or one of the type, exactly."""
    if value is None:
        return True
    if is_array(data_type):
        return isinstance(value, list | tuple) and len(value) <= MOST_VALUES and all(_fits(each, element_of(data_type)) for each in value)
    if is_decimal(data_type):
        return _is_decimal(value, data_type)
    return _FITTING.get(data_type, _is_text)(value)


def _is_int64(value: object) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _is_double(value: object) -> bool:
    """Whole numbers count as far as a double holds them exactly."""
    return (type(value) is float and isfinite(value)) or (type(value) is int and abs(value) <= 2**53)


def _is_decimal(value: object, data_type: str) -> bool:
    """Numbers count as they are written, and so do texts: a number of JSON is read as a double."""
    if type(value) not in (int, float, str, Decimal) or (isinstance(value, str) and not re.fullmatch(r"[+-]?\d+(\.\d+)?", value, re.ASCII)):
        return False
    try:
        return default(Decimal(str(value)), data_type) is not None
    except DefinitionError:
        return False


def _is_day(value: object) -> bool:
    return type(value) is date or (isinstance(value, str) and _is_date(value))


def _is_instant(value: object) -> bool:
    """A text in ISO 8601 with its zone, or a time of Python's that has one."""
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
        return isinstance(at, datetime) and at.tzinfo is not None and at.astimezone(UTC) is not None
    except (ValueError, OverflowError):
        return False


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not re.search("[\ud800-\udfff]", value)


_FITTING: Mapping[str, Callable[[object], bool]] = {
    "int64": _is_int64,
    "double": _is_double,
    "boolean": lambda value: isinstance(value, bool),
    "date": _is_day,
    "timestamp": _is_instant,
}


def _is_date(text: str) -> bool:
    try:
        return re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII) is not None and bool(date.fromisoformat(text))
    except ValueError:
        return False


def _parsed(text: str, *, data_type: str, field: str) -> object:
    value: object = text
    if data_type == "int64" and re.fullmatch(r"[+-]?\d{1,19}", text, re.ASCII):
        value = int(text)
    elif data_type == "double":
        with suppress(ValueError):
            value = float(text)
    elif data_type == "boolean":
        value = {"true": True, "false": False}.get(text, text)
    elif is_array(data_type):
        with suppress(msgspec.DecodeError):
            value = msgspec.json.decode(text)
    if not _fits(value, data_type):
        raise RequestError(f"{field}: {text!r} is not {_described(data_type)}", field=field)
    return value


def _described(data_type: str) -> str:
    if is_array(data_type):
        return f"a list of at most {MOST_VALUES:,} values, each {_described(element_of(data_type))}"
    return _DESCRIBED.get(data_type, f'a {data_type}, like 12.5 or "12.50"' if is_decimal(data_type) else "a text")


_DESCRIBED = {
    "int64": "an int64",
    "double": "a number",
    "date": "a date like 2026-01-05",
    "boolean": "true or false",
    "timestamp": "a time with its zone, like 2026-01-05T12:00:00Z",
}


def _example(keys: Mapping[str, str]) -> str:
    examples = {"int64": "42", "double": "12.5", "date": '"2026-01-05"', "boolean": "true", "timestamp": '"2026-01-05T12:00:00Z"'}
    return "{" + ", ".join(f'"{key}": {examples.get(data_type, chr(34) + "..." + chr(34))}' for key, data_type in keys.items()) + "}"
