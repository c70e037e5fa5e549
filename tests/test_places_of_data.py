"""Whole runs of the command on data that lies elsewhere than in CSV files: JSON lines, a Delta table and a query, both read in place."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from feature_definitions.intervals import iso
from tests import oracle, projects
from tests.offline import feature_rows
from tests.projects import Done, within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import SparkSession

CATALOG = """
from feature_definitions import (
    DeltaTable, Entity, Feature, FeatureService, Files, Join, ObservationGroup, Query, Source, TrainingSet, WindowedGroup,
)

customer = Entity("customer", keys={"customer_id": "int64"})
orders = Source(
    "orders", Files("data/orders/*.jsonl", format="jsonl"),
    columns={"order_id": "string", "customer_id": "int64", "amount": "double", "tags": "array<string>", "ordered_at": "timestamp"},
    event_timestamp="ordered_at", timezone="UTC", id=("order_id",),
)
views = Source("views", DeltaTable("data/views"), columns={"view_id": "int64", "customer_id": "int64", "seconds": "int64",
               "seen_at": "timestamp"}, event_timestamp="seen_at", id=("view_id",))
busy = Source("busy", Query("SELECT customer_id, seen_at, sum(seconds) AS seconds FROM views GROUP BY customer_id, seen_at", views),
              columns={"customer_id": "int64", "seconds": "int64", "seen_at": "timestamp"}, event_timestamp="seen_at")
spend = WindowedGroup("spend", customer, orders, ttl="2d", features=(Feature("spent", "sum", "amount", windows=("1d", "2d")),))
viewing = WindowedGroup("viewing", customer, views, every="1h", ttl="2d", features=(
    Feature("views", "count", windows=("1h", "1d")), Feature("seconds", "max", "seconds", windows=("1d",)),
))
last_view = ObservationGroup("last_view", customer, busy, columns=("seconds",), ttl="7d")
customer_v1 = FeatureService("customer_v1", joins=(Join(spend), Join(viewing), Join(last_view)))
ordering = TrainingSet("ordering", orders, customer_v1)
"""
SCHEMA = pa.schema([("view_id", pa.int64()), ("customer_id", pa.int64()), ("seconds", pa.int32()), ("seen_at", pa.timestamp("us", "UTC"))])


def at(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 1, day, hour, minute, tzinfo=UTC)


def order(name: str, customer: int, amount: float, when: datetime) -> dict[str, Any]:
    return {"order_id": name, "customer_id": customer, "amount": amount, "tags": ["a", name], "ordered_at": when}


def view(number: int, customer: int, seconds: int, when: datetime) -> dict[str, Any]:
    return {"view_id": number, "customer_id": customer, "seconds": seconds, "seen_at": when}


ORDERS = [order("o1", 1, 10.5, at(3, 9)), order("o2", 2, 4.5, at(4, 9)), order("o3", 1, 2.25, at(5, 23))]
VIEWS = [view(1, 1, 30, at(3, 9)), view(2, 1, 50, at(4, 9)), view(3, 2, 20, at(4, 9)), view(4, 2, 10, at(4, 9)), view(5, 1, 5, at(5, 22))]
CHANGED = [*VIEWS[:4], view(5, 1, 6, at(5, 21)), view(6, 2, 70, at(3, 10, 30))]
"""The fifth view was an hour earlier, and a sixth one came late."""


@dataclass(frozen=True, slots=True)
class Lived:
    """The project after each verb, and what was published before and after the table changed."""

    folder: Path
    ingest: Done
    plan: Done
    materialize: Done
    explain: Done
    query: Done
    changed: Done
    stale: Done
    before: dict[str, list[dict[str, Any]]]
    after: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def lived(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    folder = projects.make(tmp_path_factory.mktemp("places") / "shop", catalog=CATALOG)
    lines = [json.dumps(each, default=iso) for each in ORDERS]
    projects.write(folder, "data/orders/first.jsonl", "\n".join((*lines, '{"order_id": "o9", "customer_id": "one"}', "")))
    write_deltalake(folder / "data/views", pa.Table.from_pylist(VIEWS, schema=SCHEMA))
    ingest, plan, done = (within(verb, "--json", project=folder) for verb in ("ingest", "plan", "materialize"))
    told = within("explain", "viewing", "customer_id=2", "--at", "2026-01-04T10:30:00Z", "--json", project=folder)
    query = within("explain", "last_view", "customer_id=2", project=folder)
    before = published(folder)
    DeltaTable(folder / "data/views").delete("view_id = 5")
    write_deltalake(folder / "data/views", pa.Table.from_pylist(CHANGED[4:], schema=SCHEMA), mode="append")
    changed = within("ingest", "last_view", "--json", project=folder)
    stale = within("plan", "--json", project=folder)
    within("materialize", project=folder)
    return Lived(folder, ingest, plan, done, told, query, changed, stale, before, published(folder))


def published(folder: Path) -> dict[str, list[dict[str, Any]]]:
    with closing(projects.opened(folder)) as p:
        from lake import delta

        return {name: delta.load(path).to_pylist() for name, path in p.tables().items()}


def differences(folder: Path, name: str, events: Sequence[dict[str, Any]], found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What a group's rows differ in from what plain Python makes of these events."""
    with closing(projects.opened(folder)) as p:
        group, intervals = p.catalog.groups[name], [s.interval for s in p.status(name)]
    expected = [row for interval in intervals for row in oracle.rows(group, events, interval, functions=oracle.NONE)]
    assert expected
    return oracle.differences(group, expected, feature_rows(group, found[name]))


def by_time(views: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the query makes of views."""
    times = {(v["customer_id"], v["seen_at"]) for v in views}
    return [
        {"customer_id": c, "seen_at": t, "seconds": sum(v["seconds"] for v in views if (v["customer_id"], v["seen_at"]) == (c, t))}
        for c, t in times
    ]


def test_every_place_is_ingested_and_reports_what_it_holds(lived: Lived) -> None:
    found = {each["source"]: (each["files"], each["rows"], each["quarantined"]) for each in lived.ingest.json["sources"]}
    assert found == {"orders": (1, 3, 1), "views": (1, 5, 0), "busy": (1, 4, 0)}
    assert lived.ingest.code == 3
    assert "orders: 1 row in quarantine: customer_id" in lived.ingest.err


def test_rows_from_json_lines_a_delta_table_and_a_query_are_those_of_the_oracle(lived: Lived) -> None:
    assert lived.materialize.code == 0
    for name, events in (("spend", ORDERS), ("viewing", VIEWS), ("last_view", by_time(VIEWS))):
        assert differences(lived.folder, name, events, lived.before) == []


def test_the_bill_counts_the_files_of_tables_that_are_read_in_place(lived: Lived) -> None:
    bills = {bill["group"]: bill for bill in lived.plan.json["bill"]}
    assert {name: bill["files"] for name, bill in bills.items()} == {"spend": 3, "viewing": 1, "last_view": 1}
    assert all(bill["bytes"] > 0 for bill in bills.values())


def test_a_value_is_explained_by_the_rows_of_its_table(lived: Lived) -> None:
    story = lived.explain.json
    assert (story["status"], story["values"]["views_1h"], story["event_count"]) == ("PRESENT", 2, 2)
    assert [(event["view_id"], event["seconds"], event["line"]) for event in story["events"]] == [(3, 20, None), (4, 10, None)]


def test_the_events_of_a_query_are_not_listed(lived: Lived) -> None:
    assert lived.query.code == 0
    assert "the events of busy in" in lived.query.out
    assert "are not listed" in lived.query.out


def test_what_changed_in_the_table_makes_exactly_the_intervals_stale_that_read_it(lived: Lived) -> None:
    assert {each["source"]: each["dates_changed"] for each in lived.changed.json["sources"]} == {"views": 2, "busy": 2}
    stale = {
        step["interval_start"] for step in lived.stale.json["steps"] if step["group"] == "viewing" and step["step"].lower() == "compute"
    }
    late = [at(3, 10) + timedelta(hours=n) for n in range(25)]
    moved = [at(5, 21) + timedelta(hours=n) for n in range(14)]
    assert stale == {iso(start) for start in (*late, *moved)}
    assert {step["interval_start"] for step in lived.stale.json["steps"] if step["group"] == "spend"} == set()


def test_after_the_change_rows_are_those_of_the_oracle_again(lived: Lived) -> None:
    for name, events in (("spend", ORDERS), ("viewing", CHANGED), ("last_view", by_time(CHANGED))):
        assert differences(lived.folder, name, events, lived.after) == []
    assert lived.after["viewing"] != lived.before["viewing"]


def test_a_training_set_joins_what_was_known_from_every_place(lived: Lived) -> None:
    done = within("training-set", "--json", project=lived.folder)
    assert done.code == 0
    with closing(projects.opened(lived.folder)) as p:
        built = p.training_set("ordering").to_pandas().set_index("order_id")
    assert built.loc["o3", ["spend__spent_2d", "viewing__views_1d", "last_view__seconds"]].tolist() == [10.5, 1, 50]
