"""What a sync brings is what a training set has at the same time: ages, arrays, defaults, and rows that were held back."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from feature_definitions import Entity, Feature, FeatureService, Join, ObservationGroup, Source, WindowedGroup, layout
from feature_definitions.intervals import Interval
from feature_definitions.reading import to_json
from feature_definitions.records import Publish
from feature_definitions.sql.column_types import column_types_of
from feature_registry import open_registry
from lake.readable import Published
from online_sync import sync
from online_sync.store import Store
from serving import answer, request
from spark_jobs.context import Context
from spark_jobs.training import build
from spark_jobs.training.spine import TrainingRequest, of_frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspark.sql import SparkSession

    from feature_definitions.language import FeatureGroup

SPACE = layout.KeySpace("shop", "lakelake")
DAY = timedelta(days=1)
COVERAGE = datetime(2026, 1, 10, tzinfo=UTC)
NOW = COVERAGE + timedelta(hours=6, microseconds=1)
LATER = COVERAGE + timedelta(days=2, microseconds=1)
"""Past the windowed group's TTL."""
EVENT = COVERAGE - timedelta(microseconds=3)
ENTITIES = (1, 2, 3, 4, 5, 999, None)
UTC_TIME = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class Read:
    """The values of each entity at NOW and LATER, in a training set and online, and the statuses online."""

    training: dict[tuple[int | None, datetime], dict[str, Any]]
    online: dict[tuple[int | None, datetime], dict[str, Any]]
    status: dict[tuple[int | None, datetime], tuple[str, ...]]
    manifest: dict[str, object]


def groups() -> tuple[WindowedGroup, ObservationGroup]:
    customer = Entity("customer", {"customer_id": "int64"})
    columns = {
        "customer_id": "int64", "page": "string", "amount": "decimal(10,2)", "at": "timestamp", "tags": "array<string>",
        "prices": "array<double>", "opened": "array<timestamp>",
    }  # fmt: skip
    source = Source("events", columns=columns, event_timestamp="at")
    habit = WindowedGroup(
        "habit", customer, source, ttl="2d",
        features=(
            Feature("since", "time_since_last", windows=("1d",)), Feature("pages", "top_k", "page", windows=("1d",), k=3),
            Feature("paid", "last_n", "amount", windows=("1d",), k=3), Feature("visits", "count", windows=("1d",)),
            Feature("first", "first", "amount", windows=("1d",)),
        ),
    )  # fmt: skip
    return habit, ObservationGroup("basket", customer, source, columns=("tags", "prices", "opened"), ttl="1d")


HABIT = [  # customer, T, empties_at, held, then the values: 3 was held back and is empty by now, 4 is a closing row
    (1, COVERAGE, COVERAGE + DAY, False, EVENT, ["home", None], [Decimal("1.50")], 2, Decimal("1.50")),
    (2, COVERAGE, COVERAGE + DAY, True, None, None, None, None, None),
    (3, COVERAGE - DAY, COVERAGE, True, None, None, None, None, None),
    (4, COVERAGE, COVERAGE, False, None, None, None, 0, None),
    (5, COVERAGE, COVERAGE + DAY, False, None, [], None, 1, None),
]
BASKET = [
    (1, EVENT, None, False, ["a", None], [-0.0, 1.5], [EVENT]),
    (2, EVENT, None, True, None, None, None),
    (5, EVENT, None, False, [], None, [None]),
]
DEFAULTS = {"habit__since_1d": 86_400, "habit__pages_1d": ("none",), "habit__first_1d": 0, "basket__prices": (0,), "basket__opened": ()}
HABIT_TYPES = (UTC_TIME, pa.list_(pa.string()), pa.list_(pa.decimal128(10, 2)), pa.int64(), pa.decimal128(10, 2))
BASKET_TYPES = (pa.list_(pa.string()), pa.list_(pa.float64()), pa.list_(UTC_TIME))


def published(group: FeatureGroup, rows: Sequence[tuple[Any, ...]], types: Sequence[pa.DataType], *, lake: str) -> Published:
    """A group with these rows, each known an hour after its interval's end."""
    intervals = [Interval(COVERAGE - n * DAY, COVERAGE - (n - 1) * DAY) for n in (2, 1)]
    publishes = tuple(Publish("p1", group.name, 1, i, i.end + timedelta(hours=1), "OBSERVED") for i in intervals)
    kinds = [pa.int64(), UTC_TIME, UTC_TIME, pa.bool_(), *types]
    names = [*group.entity.keys, "event_timestamp", "empties_at", "held", *group.outputs]
    table = pa.table([pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)], names=names)
    path = layout.feature_table(lake, group.name, 1)
    Path(path).mkdir(parents=True)
    write_deltalake(path, table.append_column("publish_id", pa.array(["p1"] * len(rows))))
    return Published(group, 1, lake, column_types_of(group), publishes)


@pytest.fixture(scope="module")
def read(spark: SparkSession, server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Read]:
    root = tmp_path_factory.mktemp("sync")
    registry = open_registry(f"sqlite:///{root / 'registry.db'}")
    habit, basket = groups()
    service = FeatureService("habits", joins=(Join(habit), Join(basket)), defaults=DEFAULTS)
    both = {
        "habit": published(habit, HABIT, HABIT_TYPES, lake=str(root / "lake")),
        "basket": published(basket, BASKET, BASKET_TYPES, lake=str(root / "lake")),
    }
    asked = [(entity, at) for at in (NOW, LATER) for entity in ENTITIES]
    spine = pa.table(
        {"customer_id": pa.array([e for e, _ in asked], pa.int64()), "event_timestamp": pa.array([at for _, at in asked], UTC_TIME)}
    )
    context = Context(lambda: spark, root, str(root / "lake"), registry, lambda: LATER, lambda _: None)
    given = of_frame(spine, spark)
    built = build.build(given, TrainingRequest("habits", service), published=both, context=context)
    rows = {(row["customer_id"], row["event_timestamp"]): row for row in built.to_arrow().to_pylist()}
    for one in both.values():
        target = sync.Target(server, SPACE, "")
        sync.run(one, sync.look(one, target=target, now=NOW), target=target, work=sync.Work(1, NOW), spark=lambda: spark)
    plan, online = request.compile_service(service), {}
    with closing(Store(server)) as store:
        for at in (NOW, LATER):
            for result in answer.fetch(plan, [{"customer_id": e} for e in ENTITIES], space=SPACE, mget=store.mget, now=at):
                online[result["entity"]["customer_id"], at] = result
    yield Read(
        {asked: {name: row[name] for name in service.outputs} for asked, row in rows.items()},
        {asked: dict(result["values"]) for asked, result in online.items()},
        {asked: tuple(result["status"].values()) for asked, result in online.items()},
        dict(built.manifest),
    )
    registry.close()


def test_training_and_online_show_the_same_at_the_same_time(read: Read) -> None:
    assert {asked: {name: answered(value) for name, value in row.items()} for asked, row in read.training.items()} == read.online
    assert len(read.online) == 2 * len(ENTITIES)


def answered(value: object) -> object:
    found = to_json(value)
    return list(found) if isinstance(found, tuple) else found


GONE = (86_400.0, ["none"], None, None, Decimal("0.00"))
EMPTY = (86_400.0, ["none"], None, 0, Decimal("0.00"))
NOTHING = (None, [0.0], [])


@pytest.mark.parametrize(
    ("entity", "at", "status", "values"),
    [
        (1, NOW, ("PRESENT", "PRESENT"),
         (21_600.000004, ["home", None], [Decimal("1.50")], 2, Decimal("1.50"), ["a", None], [-0.0, 1.5], [EVENT])),
        (2, NOW, ("HELD", "HELD"), (*GONE, *NOTHING)),
        (3, NOW, ("EMPTY", "NOT_FOUND"), (*EMPTY, *NOTHING)),
        (4, NOW, ("EMPTY", "NOT_FOUND"), (*EMPTY, *NOTHING)),
        (5, NOW, ("PRESENT", "PRESENT"), (86_400.0, [], None, 1, Decimal("0.00"), [], [0.0], [None])),
        (999, NOW, ("NOT_FOUND", "NOT_FOUND"), (*EMPTY, *NOTHING)),
        (None, NOW, ("NOT_FOUND", "NOT_FOUND"), (*GONE, *NOTHING)),
        (1, LATER, ("EXPIRED", "EXPIRED"), (*GONE, *NOTHING)),
        (999, LATER, ("EXPIRED", "NOT_FOUND"), (*GONE, *NOTHING)),
    ],
)  # fmt: skip
def test_each_entity_has_its_status_and_its_values(
    read: Read, entity: int | None, at: datetime, status: tuple[str, ...], values: tuple[object, ...]
) -> None:
    assert (read.status[entity, at], tuple(read.training[entity, at].values())) == (status, values)


def test_the_manifest_names_the_defaults(read: Read) -> None:
    assert read.manifest["defaults"] == {name: str(value) for name, value in DEFAULTS.items()}
    assert read.manifest["nulls"] == dict.fromkeys(DEFAULTS, 0) | {"habit__paid_1d": 13, "habit__visits_1d": 9, "basket__tags": 12}
