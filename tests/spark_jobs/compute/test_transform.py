"""Transforms: what they are given, what they may give, and their rows in a lake, against plain Python and against single runs."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from expectations import adapter
from feature_definitions import Entity, Feature, ObservationGroup, SnapshotGroup, Source, TransformGroup, WindowedGroup, layout
from feature_definitions.intervals import DAY, MICROSECOND, Interval
from feature_definitions.planning.plan import GroupPlan, IntervalStatus
from feature_definitions.sql.column_types import column_types_of
from feature_registry import open_registry, rebuild
from spark_jobs.compute import leaks, transform
from spark_jobs.compute.transform import TransformError
from spark_jobs.context import Run
from tests.offline import Lake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.oracle import Event

CUSTOMER = Entity("customer", {"customer_id": "int64"})
PAYMENTS = Source(
    "payments",
    columns={"payment_id": "string", "customer_id": "int64", "amount": "decimal(10,2)", "score": "double", "paid_at": "timestamp",
             "came_at": "timestamp"},
    event_timestamp="paid_at", id=("payment_id",), arrived_at="came_at",
)  # fmt: skip
PEOPLE = Source("people", columns={"customer_id": "int64", "age": "int64"}, shape="static", id=("customer_id",))
SPEND = WindowedGroup(
    "spend", CUSTOMER, PAYMENTS, ttl="2d",
    features=(Feature("paid", "sum", "amount", windows=("1d",)), Feature("n", "count", windows=("1d",))),
)  # fmt: skip
PERSON = SnapshotGroup("person", CUSTOMER, PEOPLE, columns=("age",), assume_always_known=True)
TOTALS = TransformGroup(
    "totals", CUSTOMER, (PAYMENTS,), lookback="2d", ttl="2d", schema={"total": "decimal(20,2)", "payments": "int64", "score": "double"},
    sql="SELECT customer_id, sum(amount) AS total, count(*) AS payments, avg(score) AS score FROM payments GROUP BY customer_id",
)  # fmt: skip


def best_days(spend: DataFrame, person: DataFrame) -> DataFrame:
    """The greatest sum of a day among the rows given, how many rows these are, and how old the customer is."""
    days = spend.groupBy("customer_id").agg(F.max("paid_1d").alias("best"), F.count(F.lit(1)).alias("days"))
    return days.join(person.select("customer_id", "age"), on="customer_id", how="left")


BEST = TransformGroup(
    "best", CUSTOMER, (SPEND, PERSON), function=best_days, lookback="3d", ttl="2d",
    schema={"best": "decimal(20,2)", "days": "int64", "age": "int64"},
)  # fmt: skip


def day(n: int, hour: int = 0) -> datetime:
    """An hour of day `n` of January 2026."""
    return datetime(2026, 1, n, hour, tzinfo=UTC)


def one_day(n: int) -> Interval:
    """Day `n` of January 2026."""
    return Interval(day(n), day(n + 1))


def paid(name: str, customer: int, amount: str, at: datetime) -> Event:
    """One payment, of which was heard at once."""
    return {
        "payment_id": name, "customer_id": customer, "amount": Decimal(amount), "score": float(amount) / 3, "paid_at": at, "came_at": at
    }  # fmt: skip


EVENTS = (
    paid("a", 1, "1.00", day(2, 9)),
    paid("b", 1, "2.50", day(3)),  # on a boundary: it counts from the day that begins with it
    paid("c", 1, "0.25", day(5) - MICROSECOND),
    paid("d", 2, "7.00", day(5)),
    paid("e", 2, "0.10", day(5)),
    paid("f", 3, "4.00", day(9, 12)),
    paid("g", 2, "3.00", day(11, 12)),
)
LAST = 12
"""The days 2 to 11 are sealed when the lakes are filled."""


def totals_at(end: datetime, events: Sequence[Event]) -> dict[int, tuple[Decimal, int]]:
    """The sum and the number of each customer's payments in the two days before."""
    seen = [e for e in events if end - 2 * DAY <= e["paid_at"] < end]
    return {c: (sum((e["amount"] for e in seen if e["customer_id"] == c), Decimal(0)), sum(e["customer_id"] == c for e in seen))
            for c in {e["customer_id"] for e in seen}}  # fmt: skip


def best_at(end: datetime, events: Sequence[Event]) -> dict[int, tuple[Decimal, int]]:
    """The greatest sum of the days that ended in the three days up to `end`, and how many of these had payments."""
    found: dict[int, list[Decimal]] = {}
    for until in (end - 2 * DAY, end - DAY, end):
        spent: dict[int, Decimal] = {}
        for e in events:
            if until - DAY <= e["paid_at"] < until:
                spent[e["customer_id"]] = spent.get(e["customer_id"], Decimal(0)) + e["amount"]
        for customer, amount in spent.items():
            found.setdefault(customer, []).append(amount)
    return {customer: (max(amounts), len(amounts)) for customer, amounts in found.items()}


def shown(rows: Sequence[dict[str, Any]], *columns: str) -> dict[datetime, dict[int, tuple[Any, ...]]]:
    """Live rows by time and customer, in these columns."""
    found: dict[datetime, dict[int, tuple[Any, ...]]] = {}
    for row in rows:
        if row["empties_at"] > row["event_timestamp"]:
            found.setdefault(row["event_timestamp"], {})[row["customer_id"]] = tuple(row[column] for column in columns)
    return found


def expected(by: Callable[[datetime, Sequence[Event]], dict[int, Any]], events: Sequence[Event]) -> dict[datetime, dict[int, Any]]:
    """What plain Python finds for every day that is sealed, as far as there is something."""
    return {day(n + 1): rows for n in range(2, LAST) if (rows := by(day(n + 1), events))}


def lake_at(spark: SparkSession, root: Path) -> Lake:
    """A lake at one o'clock of the day after the last sealed one, with the payments and people."""
    root.mkdir(exist_ok=True)
    lake = Lake(spark, root, open_registry(f"sqlite:///{root / 'registry.db'}"), now=day(LAST, 1))
    lake.ingest(PAYMENTS, EVENTS)
    lake.ingest(PEOPLE, [{"customer_id": 1, "age": 30}, {"customer_id": 3, "age": 50}])
    return lake


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """Everything published once, each group after what it reads; customers 2 and 3 later than 1."""
    made = lake_at(spark, tmp_path_factory.mktemp("transforms"))
    for group in (SPEND, PERSON, TOTALS, BEST):
        made.materialize(group)
        made.now += timedelta(minutes=1)
    yield made
    made.registry.close()


@pytest.fixture(scope="module")
def corrected(lake: Lake) -> tuple[Lake, dict[str, dict[int, str]]]:
    """The lake after a payment was moved and everything was computed again, with the statuses in between."""
    before = {"rows": lake.rows(TOTALS)}
    assert before["rows"]
    lake.ingest(PAYMENTS, [MOVED])
    seen = {group.name: {i.start.day: s.status for i, s in lake.statuses(group).items()} for group in (SPEND, TOTALS, BEST)}
    for group in (SPEND, TOTALS):
        lake.now += timedelta(minutes=1)
        lake.materialize(group)
    seen["best after spend"] = {i.start.day: s.status for i, s in lake.statuses(BEST).items()}
    lake.now += timedelta(minutes=1)
    lake.materialize(BEST)
    return lake, seen


MOVED = {**paid("f", 3, "4.00", day(7, 12)), "came_at": day(12)}
NOW_EVENTS = tuple(MOVED if e["payment_id"] == "f" else e for e in EVENTS)


# ------------------------------------------------------------------------------------------------------------------------- rows


def test_rows_are_what_plain_python_finds_in_the_lookback(lake: Lake) -> None:
    first = [r for r in (*lake.rows(TOTALS), *lake.history(TOTALS)) if r["publish_id"] == min(r["publish_id"] for r in lake.rows(TOTALS))]
    assert shown(first, "total", "payments") == expected(totals_at, EVENTS)
    assert {r["empties_at"] - r["event_timestamp"] for r in first} == {DAY}


def test_a_group_that_reads_a_group_sees_its_rows_up_to_its_own_time(lake: Lake) -> None:
    first = [r for r in (*lake.rows(BEST), *lake.history(BEST)) if r["publish_id"] == min(r["publish_id"] for r in lake.rows(BEST))]
    assert shown(first, "best", "days") == expected(best_at, EVENTS)
    assert {(r["customer_id"], r["age"]) for r in first} == {(1, 30), (2, None), (3, 50)}


def test_a_range_gives_the_rows_of_single_runs_bit_for_bit(lake: Lake, spark: SparkSession, tmp_path: Path) -> None:
    other = lake_at(spark, tmp_path / "single")
    for n in (2, 5, 11):
        other.materialize(TOTALS, intervals=[one_day(n)])
        other.now += timedelta(minutes=1)
    single = shown(other.rows(TOTALS), *TOTALS.outputs)
    other.registry.close()
    whole = shown([*lake.rows(TOTALS), *lake.history(TOTALS)], *TOTALS.outputs)
    assert len(expected(totals_at, EVENTS)) > transform.AT_ONCE // 2
    assert single == {at: whole[at] for at in single}
    assert sorted(single) == [day(3), day(6), day(12)]


def test_a_late_event_makes_exactly_what_depends_on_it_stale(corrected: tuple[Lake, dict[str, dict[int, str]]]) -> None:
    _, seen = corrected
    assert {n for n, status in seen["totals"].items() if status == "STALE(data)"} == {7, 8, 9, 10}
    assert {n for n, status in seen["spend"].items() if status == "STALE(data)"} == {7, 8, 9, 10}
    assert {n for n, status in seen["best"].items() if status == "WAITING"} == {7, 8, 9, 10, 11}
    assert {n for n, status in seen["best after spend"].items() if status == "STALE(data)"} == {7, 8, 9, 10, 11}


def test_a_correction_is_taken_over_and_what_is_gone_has_no_values(corrected: tuple[Lake, dict[str, dict[int, str]]]) -> None:
    lake, _ = corrected
    assert shown(lake.rows(TOTALS), "total", "payments") == expected(totals_at, NOW_EVENTS)
    assert shown(lake.rows(BEST), "best", "days") == expected(best_at, NOW_EVENTS)
    gone = [r for r in lake.rows(TOTALS) if r["empties_at"] <= r["event_timestamp"]]
    assert {(r["customer_id"], r["event_timestamp"], r["total"], r["payments"]) for r in gone} == {
        (3, day(10), None, None), (3, day(11), None, None)
    }  # fmt: skip
    assert {(r["customer_id"], r["event_timestamp"], r["total"]) for r in lake.history(TOTALS)} == {
        (3, day(10), Decimal("4.00")), (3, day(11), Decimal("4.00"))
    }  # fmt: skip
    assert {s.status for group in (SPEND, TOTALS, BEST) for s in lake.statuses(group).values()} == {"OK"}


def test_what_was_read_is_remembered_and_restored_from_the_lake(corrected: tuple[Lake, dict[str, dict[int, str]]]) -> None:
    lake, _ = corrected
    entry = lake.registry.ledger("best", 1)[one_day(8)]
    assert entry.inputs.keys() == {"spend", "person"}
    assert lake.registry.ledger("totals", 1)[one_day(8)].inputs == {"payments": "2"}
    assert rebuild.facts(lake.path) == lake.registry.facts()


def test_a_row_is_known_no_earlier_than_what_it_reads(corrected: tuple[Lake, dict[str, dict[int, str]]], spark: SparkSession) -> None:
    lake, _ = corrected
    later = replace(BEST, name="best_later")
    lake.materialize(later, intervals=[one_day(4), one_day(9)])
    known = {p.interval: p.known_from for p in lake.registry.publishes("best_later", 1)}
    spend = max(p.known_from for p in lake.registry.publishes("spend", 1) if p.interval == one_day(9))
    assert (known[one_day(4)], known[one_day(9)]) == (day(5), spend)
    assert spend > day(LAST)


# --------------------------------------------------------------------------------------------------------------------- the gate


def test_an_interval_with_an_entity_twice_or_without_key_is_rejected_and_named(spark: SparkSession, tmp_path: Path) -> None:
    lake = lake_at(spark, tmp_path / "bad")
    sql = "SELECT customer_id, amount FROM payments WHERE amount <> 2.5 UNION ALL SELECT null, amount FROM payments WHERE amount = 3"
    rows = TransformGroup("each", CUSTOMER, (PAYMENTS,), sql=sql, lookback="1d", ttl="2d", schema={"amount": "decimal(10,2)"})
    result = lake.materialize(rows, judge=adapter.judge)
    shown_on = {row["event_timestamp"] for row in lake.rows(rows)}
    lake.registry.close()
    assert {interval.start.day: failed for interval, failed in result.rejected} == {
        5: ("rows:unique",), 11: ("customer_id:not_null",)
    }  # fmt: skip
    assert shown_on == {day(3), day(5), day(10)}


# ---------------------------------------------------------------------------------------------------------- what a result must be


def a_function(function: Callable[..., object], **schema: str) -> TransformGroup:
    """A transform of payments by a function."""
    return TransformGroup("made", CUSTOMER, (PAYMENTS,), function=function, lookback="3d", ttl="2d", schema=schema or {"x": "int64"})


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ("1L AS customer_id", "group made: its result has no column 'x', which is declared. It has: customer_id"),
        (
            "1L AS customer_id, 1.5D AS x",
            "has 'x' as a double, declared is an int64; cast it, like cast(... as bigint), or declare what it is",
        ),
        ("'1' AS customer_id, 1L AS x", "has 'customer_id' as a string, declared is an int64"),
        ("1L AS customer_id, 1L AS x, 2L AS x", "its result has more than one column 'x'"),
    ],
)
def test_a_result_that_is_not_what_was_declared_is_refused(spark: SparkSession, select: str, message: str) -> None:
    group = a_function(lambda _: spark.sql(f"SELECT {select}"))
    with pytest.raises(TransformError) as refused:
        transform.transformed(group, [spark.range(1)])
    assert message in str(refused.value)


def test_what_a_function_raises_is_told_with_its_group(spark: SparkSession) -> None:
    with pytest.raises(TransformError, match="group made: its function raised KeyError: 'x'"):
        transform.transformed(a_function(lambda _: {}["x"]), [spark.range(1)])
    with pytest.raises(TransformError, match="group made: its function raised SystemExit: 3"):
        transform.transformed(a_function(lambda _: sys.exit(3)), [spark.range(1)])
    with pytest.raises(TransformError, match=r"group made: Spark does not take what its function does: \[UNRESOLVED_COLUMN"):
        transform.transformed(a_function(lambda frame: frame.select("nothing")), [spark.range(1)])


def test_what_is_no_frame_is_refused(spark: SparkSession) -> None:
    with pytest.raises(TransformError, match="group made: its function gave a list; let it return one DataFrame"):
        transform.transformed(a_function(lambda _: [1]), [spark.range(1)])


def test_sql_that_spark_does_not_take_is_refused_by_the_groups_name(spark: SparkSession) -> None:
    group = TransformGroup(
        "made", CUSTOMER, (PAYMENTS,), sql="SELECT nothing FROM payments", lookback="1d", ttl="2d", schema={"x": "int64"}
    )
    with pytest.raises(TransformError, match=r"group made: Spark does not take its sql: .*nothing"):
        transform.transformed(group, [spark.range(1)])


def test_smaller_types_become_the_declared_ones_and_other_columns_are_left_out(spark: SparkSession) -> None:
    group = a_function(
        lambda _: spark.sql("SELECT 1 AS customer_id, 2 AS x, cast(1.5 AS decimal(3,1)) AS d, float(1) AS f, null AS n, 7 AS y"),
        x="int64", d="decimal(5,2)", f="double", n="string",
    )  # fmt: skip
    found = transform.transformed(group, [spark.range(1)])
    assert dict(found.dtypes) == {"customer_id": "bigint", "x": "bigint", "d": "decimal(5,2)", "f": "double", "n": "string"}


def test_a_name_inside_a_query_is_no_input_of_that_name(spark: SparkSession) -> None:
    counts = "SELECT id AS customer_id, count(*) AS x FROM payments GROUP BY id"
    sql = f"WITH payments_of AS ({counts}) SELECT customer_id, x / 0 AS x FROM payments_of"
    group = TransformGroup("made", CUSTOMER, (PAYMENTS,), sql=sql, lookback="1d", ttl="2d", schema={"x": "double"})
    found = transform.transformed(group, [spark.range(2)])
    assert sorted(map(tuple, found.collect())) == [(0, None), (1, None)]
    assert [table.name for table in spark.catalog.listTables() if table.name.startswith("_hw_")] == []


def test_observations_are_given_up_to_the_time_and_static_rows_whole(lake: Lake) -> None:
    seen = ObservationGroup("seen", CUSTOMER, PAYMENTS, columns=("amount",), ttl="2d")
    lake.now += timedelta(minutes=1)
    lake.materialize(seen)
    group = TransformGroup(
        "reads", CUSTOMER, (seen, PERSON, PAYMENTS), function=lambda first, *_: first, lookback="2d", ttl="2d",
        schema={"amount": "decimal(10,2)"},
    )  # fmt: skip
    work = GroupPlan(group, 1, (), upstream=lake.upstream(group))
    given = transform.inputs_at(work, group, one_day(4), lake.context)
    assert sorted(row["amount"] for row in given[0].collect()) == [Decimal("0.25"), Decimal("2.50")]
    assert sorted(row["customer_id"] for row in given[1].collect()) == [1, 3]
    assert [frame.columns for frame in given] == [
        ["customer_id", "event_timestamp", "amount"], ["customer_id", "event_timestamp", "age"], list(PAYMENTS.columns)
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------------------------ leaks


def checked(lake: Lake, group: TransformGroup) -> None:
    """Check a group over the days 3 to 7, of which the middle one is looked at."""
    due = tuple(IntervalStatus(group.name, 1, one_day(n), "MISSING", ()) for n in range(3, 8))
    work, context = GroupPlan(group, 1, due, upstream=lake.upstream(group)), lake.context
    leaks.check(Run(context, work, column_types_of(group), context.mint("p"), 0, {}), group, among=[status.interval for status in due])


def counted(frame: DataFrame) -> DataFrame:
    return frame.groupBy("customer_id").agg(F.count(F.lit(1)).alias("x"))


def test_a_function_of_its_inputs_alone_passes(lake: Lake) -> None:
    checked(lake, a_function(counted))
    checked(lake, a_function(lambda p: counted(p.join(p.select("payment_id"), "payment_id").unionByName(p))))
    checked(lake, TOTALS)
    checked(lake, BEST)


def test_a_function_that_reads_around_its_inputs_is_refused(lake: Lake) -> None:
    path = layout.source_table(lake.path, "payments")
    leaking = a_function(lambda p: counted(p.sparkSession.read.format("delta").load(path)))
    with pytest.raises(TransformError, match=r"group made: its function reads .*, which is not among its inputs; name it in inputs="):
        checked(lake, leaking)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda: F.floor(F.rand() * 9), "leaves something to chance"),
        (lambda: F.datediff(F.current_date(), F.max("paid_at")), r"its function calls current_date\(\), so a value would depend on when"),
    ],
)
def test_a_function_of_chance_or_of_the_clock_is_refused(lake: Lake, value: Callable[[], Any], message: str) -> None:
    with pytest.raises(TransformError, match=message):
        checked(lake, a_function(lambda p: p.groupBy("customer_id").agg(value().alias("x"))))


def test_rows_that_move_are_refused_with_one_that_does(lake: Lake) -> None:
    calls: list[int] = []

    def moving(payments: DataFrame) -> DataFrame:
        calls.append(1)
        return counted(payments).withColumn("x", F.lit(len(calls)))

    with pytest.raises(
        TransformError, match=r"rows at 2026-01-06T00:00:00Z move when later events are added.*customer_id=\d: x 1 becomes 2"
    ):
        checked(lake, a_function(moving))


def test_a_first_run_that_leaks_publishes_nothing(lake: Lake) -> None:
    leaking = a_function(lambda p: p.groupBy("customer_id").agg(F.floor(F.rand() * 9).alias("x")))
    with pytest.raises(TransformError):
        lake.materialize(leaking, intervals=[one_day(3)])
    assert lake.registry.ledger("made", 1) == {}
