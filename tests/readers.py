"""Asks everybody who reads published rows the same questions: training, serving, `explain`, and the oracle."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pyarrow as pa

from feature_definitions import FeatureService, Join, layout
from feature_definitions.intervals import MICROSECOND, duration, iso
from feature_definitions.reading import CASES, from_json
from feature_definitions.sql.column_types import types_as_read
from feature_registry import explain
from lake import newest
from lake.arrow_types import arrow_type
from lake.readable import AsOf
from online_sync import packing, sync
from online_sync.codec import RowSchema, encode_epoch
from serving.answer import fetch
from serving.request import compile_service
from spark_jobs import point_in_time
from spark_jobs.training import found_here
from spark_jobs.training.join import CASE, JoinAsked, joined
from spark_jobs.training.recomputed import recomputed
from spark_jobs.training.spine import of_frame
from tests import oracle
from tests.offline import answer_differences

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from feature_definitions.language import FeatureGroup
    from lake.readable import Published
    from tests.offline import Lake
    from tests.oracle import Publish

Entity = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What somebody says of one entity at one time; values by the outputs of the group's join."""

    status: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """A group in a lake, and what the oracle says was published of it."""

    lake: Lake
    group: FeatureGroup
    publishes: Sequence[Publish]
    functions: oracle.Functions

    @property
    def published(self) -> Published:
        return self.lake.published(self.group)

    @property
    def service(self) -> FeatureService:
        return FeatureService("everybody", joins=(Join(self.group),))


def disagreements(asked: Asked, *, times: int, entities: int, seed: int = 7) -> tuple[list[str], set[str]]:
    """What somebody answers otherwise than the oracle, a sentence each, and the statuses that were answered."""
    about = asked_about(asked, times=times, entities=entities, chosen=random.Random(seed))
    questions = [(time, entity) for time, some in about.items() for entity in some]
    expected = [answer for time, some in about.items() for answer in said_by_oracle(asked, time, some)]
    found = {
        "training": trained(asked, questions),
        "serving": [answer for time, some in about.items() for answer in served(asked, time, some)],
        "explain": [explained(asked, time, entity) for time, entity in questions],
    }
    wrong = []
    for who, most in (("recomputed here", found_here.VALUES), ("recomputed by Spark", -1)):
        again = recomputed_values(asked, questions, most=most)
        for (time, entity), want, got in zip(questions, expected, again, strict=True):
            where = f"{who} for {entity} at {iso(time)}"
            wrong += [f"{where}: {text}" for text in answer_differences(asked.service, want.values, got)]
    for who, answers in found.items():
        for (time, entity), want, got in zip(questions, expected, answers, strict=True):
            where = f"{who} of {entity} at {iso(time)}"
            wrong += [] if got.status == want.status else [f"{where}: {want.status}, not {got.status}"]
            wrong += [f"{where}: {text}" for text in answer_differences(asked.service, want.values, got.values)]
    return wrong, {answer.status for answer in expected}


def asked_about(asked: Asked, *, times: int, entities: int, chosen: random.Random) -> dict[datetime, list[Entity]]:
    """At some times some entities; and of each status that anybody has at one of 20 more times, one who has it."""
    who, more = everybody(asked), moments(asked)
    about = {time: chosen.sample(who, min(entities, len(who))) + nobody(asked.group) for time in chosen.sample(more, min(times, len(more)))}
    rare: dict[str, tuple[datetime, Entity]] = {}
    for time in chosen.sample(more, min(20, len(more))):
        for entity, answer in zip(who, said_by_oracle(asked, time, who), strict=True):
            rare.setdefault(answer.status, (time, entity))
    for time, entity in rare.values():
        about.setdefault(time, []).append(entity)
    return about


def moments(asked: Asked) -> list[datetime]:
    """When answers change, and a microsecond before and after."""
    ttl = duration(asked.group.ttl or "1d")
    changes = {time for p in asked.publishes for time in (p.known_from, p.interval.end, p.known_from + ttl, p.interval.end + ttl)}
    changes |= {row.at + ttl for p in asked.publishes for row in p.rows}
    first = min(p.known_from for p in asked.publishes)
    return sorted(time + n * MICROSECOND for time in changes if time >= first for n in (-1, 0, 1))


def everybody(asked: Asked) -> list[Entity]:
    """All entities that ever had a row."""
    keys = {row.key for p in asked.publishes for row in p.rows}
    return [dict(zip(asked.group.entity.keys, key, strict=True)) for key in sorted(keys, key=repr)]


def nobody(group: FeatureGroup) -> list[Entity]:
    """A stranger, and one without keys."""
    strange = {"string": "nobody", "boolean": True, "date": date(1900, 1, 1)}
    known = group.entity.keys
    return [{key: strange.get(kind, -1) for key, kind in known.items()}, dict.fromkeys(known)]


def said_by_oracle(asked: Asked, at: datetime, entities: Iterable[Entity]) -> list[Answer]:
    """What the oracle says."""
    found = oracle.online(asked.service, {asked.group.name: asked.publishes}, entities, now=at, functions=asked.functions)
    return [Answer(result["status"][asked.group.name], result["values"]) for result in found]


def trained(asked: Asked, questions: Sequence[tuple[datetime, Entity]]) -> list[Answer]:
    """What a training set has, and by which case."""
    [join] = asked.service.joins
    types = {key: arrow_type(kind) for key, kind in asked.group.entity.keys.items()}
    columns = {key: pa.array([entity[key] for _, entity in questions], kind) for key, kind in types.items()}
    more = {"event_timestamp": pa.array([at for at, _ in questions], pa.timestamp("us", tz="UTC")), "number": range(len(questions))}
    spine, spark, published = of_frame(pa.table(columns | more), asked.lake.spark), asked.lake.spark, asked.published
    found = joined(spine.rows, (JoinAsked(join, published, AsOf()),), at=spine.at, spark=spark)
    rows = sorted(found.toArrow().to_pylist(), key=lambda row: row["number"])
    return [Answer(CASES[row[f"{CASE}{join.name}"]].status, row) for row in rows]


def recomputed_values(asked: Asked, questions: Sequence[tuple[datetime, Entity]], *, most: int) -> list[Mapping[str, Any]]:
    """What the sample of a training set is compared with; groups of so many values at most are looked at without Spark."""
    [join] = asked.service.joins
    columns = {key: pa.array([entity[key] for _, entity in questions], arrow_type(kind)) for key, kind in asked.group.entity.keys.items()}
    at = {"event_timestamp": pa.array([at for at, _ in questions], pa.timestamp("us", tz="UTC"))}
    join_asked = JoinAsked(join, asked.published, AsOf())
    with patch.object(found_here, "VALUES", most):
        found = recomputed(pa.table(columns | at), (join_asked,), at="event_timestamp", spark=asked.lake.spark)
    return [each.expected for each in found[join.name]]


def served(asked: Asked, at: datetime, entities: Sequence[Entity]) -> list[Answer]:
    """What serving answers over a store that was synced then; the store is a dict."""
    published, group, spark = asked.published, asked.group, asked.lake.spark
    record = sync.record_of(
        published, sync.Target("", layout.KeySpace("tests", "lakelake"), ""), epoch=1, now=at, empty=sync._empty(published, lambda: spark)
    )
    keys, schema = tuple(group.entity.keys), RowSchema(record.columns)
    by_arrow, by_spark = newest.newest(published, now=at), point_in_time.newest(published, spark=spark, now=at).toArrow()
    store = dict(packing.packed(by_arrow, record, keys, schema).rows)
    assert store == dict(packing.packed(by_spark, record, keys, schema).rows)
    store[layout.epoch_key(record.space, group.name)] = encode_epoch(replace(record, begun=1))
    plan, types = compile_service(asked.service), types_as_read(group)
    [join] = asked.service.joins
    kinds = {output: types[column] for output, column in zip(join.outputs, join.columns, strict=True)}
    return [
        Answer(result["status"][group.name], {name: _listed(from_json(value, kinds[name])) for name, value in result["values"].items()})
        for result in fetch(plan, entities, space=record.space, mget=lambda keys: [store.get(key) for key in keys], now=at)
    ]


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def explained(asked: Asked, at: datetime, entity: Entity) -> Answer:
    """What `explain` says."""
    published = asked.published
    known = explain.Known(published.generation, published.publishes, (), published.types.outputs, published.empty)
    story = explain.explain(explain.Asked(asked.group, entity, at), known, lake=asked.lake.path)
    return Answer(story.status, {f"{asked.group.name}__{column}": value for column, value in story.values.items()})
