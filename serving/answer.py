"""What the answer to a request is: pure decisions over what the online store holds; the caller brings store and clock.

`lookup` is the whole of it: it asks for keys, is sent their values, and ends with the answer. One read fetches the epoch records of the
service's groups and the rows of every entity together.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, TypedDict

from feature_definitions import layout, on_demand
from feature_definitions.intervals import EPOCH, instant, iso, micros
from feature_definitions.layout import KeySpace
from feature_definitions.reading import CASES, FAILED, FOREVER, NEVER, PRESENT, Question, age, conditions, from_json, to_json
from feature_definitions.sql.data_types import element_of, is_array
from online_sync.codec import CodecError, Columns, EpochRecord, Row, RowSchema, Scalar, Value, decode, decode_epoch, written_by
from serving.request import Entity, JoinPlan, OnDemandPlan, ServicePlan, field_value

Stored: TypeAlias = Sequence[bytes | None]
JsonValue: TypeAlias = Scalar | list[Scalar]


class Result(TypedDict):
    """What is answered for one entity; status and event timestamp are those of each join, and of each feature computed on demand.

    The event timestamp is that of the entity's newest row, also where its values are EXPIRED or HELD; None if it has no row.
    """

    entity: Entity
    values: dict[str, JsonValue]
    status: dict[str, str]
    event_timestamp: dict[str, str | None]


def read_keys(plan: ServicePlan, entities: Sequence[Entity], *, space: KeySpace, generations: Mapping[str, int]) -> list[str]:
    """The store's keys of one read: the epoch records of the plan's groups, then one row per entity and join that can have one."""
    records = [layout.epoch_key(space, group) for group in plan.groups]
    rows = (
        layout.row_key(space, join.group, generations[join.group], layout.entity_text([entity[key] for key in join.keys]))
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
    questions = {group: _question(record, at) for group, record in records.items()}
    shapes = {join.name: _shapes(records[join.group], join) for join in plan.joins if join.group in records}
    results = []
    for entity in entities:
        result = Result(entity=entity, values={}, status={}, event_timestamp={})
        for join in plan.joins:
            if _has_row(join, entity, records):
                found = _judged(records[join.group], shapes[join.name], next(rows), questions[join.group])
            else:
                found = _unread(join, entity, at)
            values = result["values"]
            values.update(zip(join.outputs, found.values, strict=True))
            for name, value in join.defaults.items():
                if values[name] is None:
                    values[name] = _listed(value)
            result["status"][join.name] = found.status
            result["event_timestamp"][join.name] = found.event_timestamp
        results.append(result)
    for feature in plan.on_demand:
        _compute(feature, results)
    return results


def _compute(plan: OnDemandPlan, results: Sequence[Result]) -> None:
    """Add a feature that is computed now, for all entities at once."""
    feature, columns = plan.feature, []
    for name, kind in plan.inputs:
        if name in plan.requests:
            given = [field_value(each["entity"][name], kind) for each in results]
        else:
            given = [from_json(each["values"][name], kind) for each in results]
        columns.append(on_demand.of_python(given, kind))
    found = on_demand.compute(feature, columns, count=len(results))
    for result, value, failed in zip(results, on_demand.to_python(found, feature.type), found.failures, strict=True):
        result["values"][feature.name] = _listed(to_json(value))
        result["status"][feature.name] = FAILED if failed else PRESENT
        result["event_timestamp"][feature.name] = None


def lookup(
    plan: ServicePlan, entities: Sequence[Entity], *, space: KeySpace | None, generations: Mapping[str, int], now: datetime
) -> Generator[list[str], Stored, tuple[list[Result], dict[str, int]]]:
    """Yields the keys to read and is sent their values; returns the results and the generations that hold now.

    With the generations of the last answer it reads once, else twice: rows are only found under their generation. Without a key space, of
    a lake from which nothing was ever brought online, there is nothing to read.
    """
    if space is None:
        yield []
        return answer(plan, entities, stored=[None] * len(plan.groups), records={}, now=now), {}
    known = {group: generations[group] for group in plan.groups if group in generations}
    stored = yield read_keys(plan, entities, space=space, generations=known)
    records = epoch_records(plan, stored)
    held = {group: record.generation for group, record in records.items()}
    if held != known:
        stored = yield read_keys(plan, entities, space=space, generations=held)
        # Were they replaced once more between the two reads, those that the rows were read by still hold together.
        newer = epoch_records(plan, stored)
        records = {g: newer[g] if g in newer and newer[g].generation == r.generation else r for g, r in records.items()}
    return answer(plan, entities, stored=stored, records=records, now=now), held


def fetch(
    plan: ServicePlan, entities: Sequence[Entity], *, space: KeySpace | None, mget: Callable[[list[str]], Stored], now: datetime
) -> list[Result]:
    """The results by a blocking read, for commands and Python."""
    asking = lookup(plan, entities, space=space, generations={}, now=now)
    keys = next(asking)
    while True:
        try:
            keys = asking.send(mget(keys))
        except StopIteration as end:
            results: list[Result] = end.value[0]
            return results


# ------------------------------------------------------------------------------------------------------------------------ shapes

_OWN = -1
"""Under which the shape of the epoch's own schema is found, beside its number."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """Where the columns that a join asks for lie in rows of a schema (None: not there yet), and which are not read as they are stored."""

    schema: RowSchema
    places: tuple[int | None, ...]
    ages: tuple[int, ...]
    others: tuple[tuple[int, str], ...]

    def empty(self, values: Sequence[Value]) -> list[JsonValue]:
        """The values of an epoch record's `empty`, which are as answers have them already."""
        return [None if place is None else _listed(values[place]) for place in self.places]

    def as_read(self, values: Sequence[Value], now: int) -> list[JsonValue]:
        """The values of a row as a reader gets them at `now`."""
        picked: list[Any] = [None if place is None else values[place] for place in self.places]
        for at in self.ages:
            picked[at] = None if picked[at] is None else age(now, picked[at])
        for at, kind in self.others:
            picked[at] = _as_json(picked[at], kind)
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


def _as_json(value: Any, data_type: str) -> Any:
    if value is None:
        return None
    if data_type == "timestamp":
        return _time(value)
    if data_type == "date":
        return (EPOCH.date() + timedelta(days=value)).isoformat()
    return [_as_json(each, element_of(data_type)) for each in value] if is_array(data_type) else value


def _listed(value: Value) -> JsonValue:
    return list(value) if isinstance(value, tuple) else value


@lru_cache(maxsize=4096)
def _time(microseconds: int) -> str:
    return iso(instant(microseconds))


# ---------------------------------------------------------------------------------------------------------------------- one join


class _Found(NamedTuple):
    status: str
    values: Sequence[JsonValue]
    event_timestamp: str | None = None


def _has_row(join: JoinPlan, entity: Entity, groups: Mapping[str, object]) -> bool:
    return join.group in groups and None not in [entity[key] for key in join.keys]


def _unread(join: JoinPlan, entity: Entity, now: int) -> _Found:
    """There was nothing to read: no entity, or no finished sync of its group."""
    question, nobody = Question(join.kind, now, NEVER, FOREVER), None in [entity[key] for key in join.keys]
    case = CASES[conditions(question, nobody=nobody, absent=True, at=now, empties_at=FOREVER, held=False).index(True)]
    return _Found(case.status, (None,) * len(join.columns))


def _question(record: EpochRecord, now: int) -> Question:
    coverage, ttl = NEVER if record.coverage is None else record.coverage, FOREVER if record.ttl is None else record.ttl
    return Question(record.kind, now, coverage, ttl)


def _judged(record: EpochRecord, shapes: Mapping[int, _Shape], data: bytes | None, question: Question) -> _Found:
    shape, row = _row(record, shapes, data)
    if row is None:
        found = conditions(question, nobody=False, absent=True, at=question.at, empties_at=FOREVER, held=False)
    else:
        at, empties_at = row.event_timestamp, FOREVER if row.empties_at is None else row.empties_at
        found = conditions(question, nobody=False, absent=False, at=at, empties_at=empties_at, held=row.held)
    status, given = CASES[found.index(True)]
    values: Sequence[JsonValue]
    if row is not None and given == "row":
        values = shape.as_read(row.values, question.at)
    elif given == "empty" and record.empty:
        values = shapes[_OWN].empty(record.empty)
    else:
        values = (None,) * len(shape.places)
    return _Found(status, values, None if row is None else _time(row.event_timestamp))


def _row(record: EpochRecord, shapes: Mapping[int, _Shape], data: bytes | None) -> tuple[_Shape, Row | None]:
    """The live row and its shape; a tombstone is no row, nor is what a sync wrote that was overtaken."""
    epoch, schema = (0, 0) if data is None else written_by(data)
    if data is None or epoch < record.floor:
        return shapes[_OWN], None
    shape = shapes.get(schema)
    if shape is None:
        raise CodecError(f"the store holds a row of {record.group} with columns that its epoch record does not name; sync the group again")
    row = decode(shape.schema, data)
    return shape, None if row.tombstone else row


@lru_cache(maxsize=1024)
def _epoch_record(data: bytes) -> EpochRecord:
    return decode_epoch(data)
