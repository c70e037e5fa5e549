"""Training, serving, `explain` and the oracle give one answer to one question, and none of them starts Spark's work to ask it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from feature_definitions import Derived, Entity, Feature, FeatureService, Join, SnapshotGroup, Source, TransformGroup, WindowedGroup
from feature_definitions.intervals import DAY
from feature_registry import open_registry, rebuild
from lake.readable import AsOf
from spark_jobs import point_in_time
from spark_jobs.training import join
from spark_jobs.training.spine import of_frame
from tests import oracle
from tests.offline import Lake, feature_rows
from tests.readers import Asked, disagreements

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspark.sql import SparkSession

    from feature_definitions.language import FeatureGroup
    from tests.offline import World

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
customer = Entity("customer", {"customer": "int64"})
payments = Source(
    "payments", columns={"customer": "int64", "amount": "double", "paid_at": "timestamp"}, event_timestamp="paid_at", timezone="UTC"
)
people = Source("people", columns={"customer": "int64", "name": "string"}, id=("customer",), shape="static")
spend = WindowedGroup(
    "spend", customer, payments, ttl="2d",
    features=(Feature("paid", "sum", "amount", windows=("1d",)), Derived("more", "paid_1d + 1")),
)  # fmt: skip
person = SnapshotGroup("person", customer, people, columns=("name",), assume_always_known=True)
paid = TransformGroup(
    "paid", customer, (payments,), lookback="1d", ttl="2d", schema={"times": "int64"},
    sql="SELECT customer, count(*) AS times FROM payments GROUP BY customer",
)  # fmt: skip
everything = FeatureService("everything", joins=(Join(spend), Join(person), Join(paid)))


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """Four days of payments, and who the customers are."""
    root = tmp_path_factory.mktemp("readers")
    with open_registry(f"sqlite:///{root / 'registry.db'}") as registry:
        made = Lake(spark, root, registry, now=FIRST + 4 * DAY + timedelta(hours=2))
        events = [(1, 0, 9), (1, 1, 3), (2, 0, 1), (2, 3, 5), (3, 2, 2)]
        made.ingest(payments, [{"customer": c, "amount": 1.5, "paid_at": FIRST + n * DAY + timedelta(hours=h)} for c, n, h in events])
        made.ingest(people, [{"customer": 1, "name": "Ada"}, {"customer": 2, "name": None}])
        for group in (spend, person, paid):
            made.materialize(group)
        yield made


def as_published(lake: Lake, group: FeatureGroup) -> tuple[oracle.Publish, ...]:
    """What was published once, as the lake has it: each interval with its rows."""
    rows, publishes = feature_rows(group, lake.rows(group)), lake.registry.publishes(group.name, 1)
    return tuple(
        oracle.Publish(
            n,
            p.interval,
            p.known_from,
            tuple(r for r in rows if group.row_time == "none" or p.interval.start < r.at <= p.interval.end),
        )
        for n, p in enumerate(publishes, start=1)
    )


@pytest.mark.parametrize("kind", ["windowed", "observed"])
def test_random_histories_are_answered_alike_by_all_who_read_them(worlds: Sequence[World], kind: str) -> None:
    seen: set[str] = set()
    for world in worlds:
        types = getattr(world, kind)
        wrong, statuses = disagreements(Asked(world.lake, types.group, world.published(types), types.functions), times=5, entities=12)
        assert wrong == []
        seen |= statuses
    assert seen == {"PRESENT", "EXPIRED", "NOT_FOUND"} | ({"EMPTY"} if kind == "windowed" else set())


def test_some_of_the_random_histories_derive_columns(worlds: Sequence[World]) -> None:
    assert any(isinstance(feature, Derived) for world in worlds for feature in world.windowed.group.features)


@pytest.mark.parametrize("group", [spend, person, paid], ids=lambda group: group.name)
def test_windows_static_rows_and_transforms_are_answered_alike_by_all_who_read_them(lake: Lake, group: FeatureGroup) -> None:
    functions: oracle.Functions = {"paid_1d + 1": lambda values: values["paid_1d"] + 1}
    asked = Asked(lake, group, as_published(lake, group), functions)
    wrong, statuses = disagreements(asked, times=1 if group is person else 6, entities=2)
    assert wrong == []
    assert statuses >= {"PRESENT", "NOT_FOUND"}


def test_no_join_starts_a_job_of_spark_while_it_is_built(lake: Lake) -> None:
    spark = lake.spark
    at = pa.array([lake.now], pa.timestamp("us", tz="UTC"))
    spine = of_frame(pa.table({"customer": pa.array([4]), "event_timestamp": at}), spark)
    spark.sparkContext.setJobGroup("building", "a training set's plan")
    try:
        asked = [join.JoinAsked(wanted, lake.published(wanted.group), AsOf()) for wanted in everything.joins]
        rows = join.joined(spine.rows, asked, at=spine.at, spark=spark)
        assert list(spark.sparkContext.statusTracker().getJobIdsForGroup("building")) == []
        [row] = rows.collect()
        assert list(spark.sparkContext.statusTracker().getJobIdsForGroup("building")) != []
    finally:
        spark.sparkContext.setLocalProperty("spark.jobGroup.id", None)
    assert (row["spend__paid_1d"], row["spend__more"], row["person__name"], row["paid__times"]) == (0.0, 1.0, None, None)


def test_a_publish_keeps_the_empty_values_and_they_are_restored_from_the_lake(lake: Lake) -> None:
    kept = {name: lake.registry.generations(name)[0].empty for name in ("spend", "person", "paid")}
    assert kept == {"spend": '{"paid_1d": 0.0, "more": 1.0}', "person": '{"name": null}', "paid": '{"times": null}'}
    assert {g.group: g.empty for g in rebuild.facts(lake.path).generations} == kept


def test_what_is_derived_of_nothing_is_computed_where_no_publish_kept_it(lake: Lake) -> None:
    before = replace(lake.published(spend), empty=None)
    assert point_in_time.empty_values(before, lake.spark) == {"paid_1d": 0.0, "more": 1.0}


def test_a_column_that_is_added_is_added_to_the_empty_values_by_its_publish(lake: Lake) -> None:
    wider = replace(spend, features=(*spend.features, Derived("most", "paid_1d + 2")))
    assert [g.number for g in lake.registry.generations("spend")] == [1]
    lake.materialize(wider)
    assert [g.empty for g in lake.registry.generations("spend")] == ['{"paid_1d": 0.0, "more": 1.0, "most": 2.0}']
