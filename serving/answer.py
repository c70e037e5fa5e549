"""What the answer to a request is: pure decisions over what the online store holds; the caller brings store and clock.

`lookup` asks for keys, is sent their values, and ends with the answer, to which `computed` adds what is computed on demand. One read
fetches the epoch records of the service's groups and the rows of every entity together.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypedDict

from feature_definitions import OnDemandFeature, layout
from feature_definitions.intervals import micros
from feature_definitions.layout import KeySpace
from feature_definitions.reading import FAILED, PRESENT, from_json, to_json
from online_sync.codec import EpochRecord, written_by
from serving.forms import JsonValue
from serving.request import Entity, JoinPlan, OnDemandPlan, ServicePlan, field_value
from serving.splice import Stored, finished, judged, listed, question, shapes_of, unread

if TYPE_CHECKING:  # numpy takes memory, and is needed only where features are computed on demand
    from feature_definitions.on_demand import Values


class Result(TypedDict):
    """What is answered for one entity; status and event timestamp are those of each join, and of each feature computed on demand.

    The event timestamp is that of the entity's newest row, also where its values are EXPIRED or HELD; None if it has no row.
    """

    entity: Entity
    values: dict[str, JsonValue]
    status: dict[str, str]
    event_timestamp: dict[str, str | None]


class FromStore(NamedTuple):
    """What was answered, and by what: the generations and the epoch records that held, and by join which sync wrote each entity's row."""

    results: list[Result]
    generations: dict[str, int]
    records: Mapping[str, EpochRecord]
    epochs: dict[str, list[int | None]]


class Computing(Protocol):
    """Calls a feature's function, as `on_demand.compute` does."""

    def __call__(self, feature: OnDemandFeature, inputs: "Sequence[Values]", *, count: int) -> "Values":
        """The values of `count` rows from the columns of the inputs."""


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


def answer(
    plan: ServicePlan, entities: Sequence[Entity], *, stored: Stored, records: Mapping[str, EpochRecord], now: datetime
) -> list[Result]:
    """The results in the order asked, from the values of `read_keys` with the records' generations; nothing is computed on demand yet."""
    at = micros(now)
    rows = iter(stored[len(plan.groups) :])
    questions = {group: question(record, at) for group, record in records.items()}
    shapes = {join.name: shapes_of(records[join.group], join) for join in plan.joins if join.group in records}
    results = []
    for entity in entities:
        result = Result(entity=entity, values={}, status={}, event_timestamp={})
        for join in plan.joins:
            if _has_row(join, entity, records):
                found = judged(records[join.group], shapes[join.name], next(rows), questions[join.group])
            else:
                found = unread(join, nobody=None in [entity[key] for key in join.keys], now=at)
            values = result["values"]
            values.update(dict.fromkeys(join.outputs) if found.values is None else zip(join.outputs, found.values, strict=True))
            for name, value in join.defaults.items():
                if values[name] is None:
                    values[name] = listed(value)
            result["status"][join.name] = found.status
            result["event_timestamp"][join.name] = found.event_timestamp
        results.append(result)
    return results


def row_epochs(
    plan: ServicePlan, entities: Sequence[Entity], *, stored: Stored, records: Mapping[str, EpochRecord]
) -> dict[str, list[int | None]]:
    """By join which sync wrote the row of each entity, from what `answer` is given; None where no row lies there that counts."""
    rows, found = iter(stored[len(plan.groups) :]), {join.name: list[int | None]() for join in plan.joins}
    for entity in entities:
        for join in plan.joins:
            data = next(rows) if _has_row(join, entity, records) else None
            epoch = None if data is None else written_by(data)[0]
            found[join.name].append(epoch if epoch is not None and epoch >= records[join.group].floor else None)
    return found


def computed(plan: ServicePlan, results: list[Result], *, by: Computing | None = None) -> list[Result]:
    """The results with the features that are computed now, each for all entities at once, by `on_demand.compute` or what bounds it."""
    for feature in plan.on_demand:
        _compute(feature, results, by)
    return results


def _compute(plan: OnDemandPlan, results: Sequence[Result], by: Computing | None) -> None:
    from feature_definitions import on_demand

    feature, columns = plan.feature, []
    for name, kind in plan.inputs:
        if name in plan.requests:
            given = [field_value(each["entity"][name], kind) for each in results]
        else:
            given = [from_json(each["values"][name], kind) for each in results]
        columns.append(on_demand.of_python(given, kind))
    found = (by or on_demand.compute)(feature, columns, count=len(results))
    for result, value, failed in zip(results, on_demand.to_python(found, feature.type), found.failures, strict=True):
        result["values"][feature.name] = listed(to_json(value))
        result["status"][feature.name] = FAILED if failed else PRESENT
        result["event_timestamp"][feature.name] = None


def lookup(
    plan: ServicePlan,
    entities: Sequence[Entity],
    *,
    space: KeySpace | None,
    generations: Mapping[str, int],
    now: datetime,
    within: int | None = None,
) -> Generator[list[str], Stored, FromStore]:
    """Yields the keys to read and is sent their values; returns the results, the generations that hold now, and by what was answered.

    With the generations of the last answer it reads once, else twice: rows are only found under their generation. Without a key space, of
    a lake from which nothing was ever brought online, there is nothing to read. Values are believed for no longer than `within`
    microseconds.
    """
    if space is None:
        yield []
        nothing: list[bytes | None] = [None] * len(plan.groups)
        return _from_store(plan, entities, nothing, {}, now=now)
    known = {group: generations[group] for group in plan.groups if group in generations}
    stored = yield read_keys(plan, entities, space=space, generations=known)
    records = finished(plan.groups, stored, within=within)
    held = {group: record.generation for group, record in records.items()}
    if held != known:
        stored = yield read_keys(plan, entities, space=space, generations=held)
        # Were they replaced once more between the two reads, those that the rows were read by still hold together.
        newer = finished(plan.groups, stored, within=within)
        records = {g: newer[g] if g in newer and newer[g].generation == r.generation else r for g, r in records.items()}
    return _from_store(plan, entities, stored, records, now=now)


def _from_store(
    plan: ServicePlan, entities: Sequence[Entity], stored: Stored, records: Mapping[str, EpochRecord], *, now: datetime
) -> FromStore:
    results, epochs = (
        answer(plan, entities, stored=stored, records=records, now=now),
        row_epochs(plan, entities, stored=stored, records=records),
    )
    return FromStore(results, {group: record.generation for group, record in records.items()}, records, epochs)


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
            looked: FromStore = end.value
            return computed(plan, looked.results)


def _has_row(join: JoinPlan, entity: Entity, groups: Mapping[str, object]) -> bool:
    return join.group in groups and None not in [entity[key] for key in join.keys]
