"""Transforms through the front door: planned and run in order, with the same values in training and online, and explained."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import headwater
from lake import delta
from tests import projects

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession

CATALOG = """
from feature_definitions import Entity, Feature, FeatureService, Join, Source, TransformGroup, WindowedGroup

customer = Entity("customer", keys={"customer_id": "int64"})
payments = Source(
    "payments", columns={"customer_id": "int64", "amount": "decimal(12,2)", "paid_at": "timestamp"}, event_timestamp="paid_at",
)
spend = WindowedGroup("spend", customer, payments, ttl="2d", features=(Feature("paid", "sum", "amount", windows=("1d",)),))


def greatest(spend):
    from pyspark.sql import functions as F

    return spend.groupBy("customer_id").agg(F.max("paid_1d").alias("best"))


best = TransformGroup("best", customer, (spend,), function=greatest, lookback="3d", ttl="2d", schema={"best": "decimal(22,2)"})
places = TransformGroup(
    "a_place", customer, (best, payments), lookback="1d", ttl="2d", schema={"place": "int64"},
    sql=\"\"\"
        SELECT b.customer_id, rank() OVER (ORDER BY b.best DESC) AS place
        FROM best b JOIN (SELECT DISTINCT customer_id FROM payments) p ON b.customer_id = p.customer_id
    \"\"\",
)
everything = FeatureService("everything", joins=(Join(best), Join(places)))
"""
PAID = ((1, "1.50", 3, 9), (1, "2.50", 4, 0), (2, "5.00", 6, 10), (1, "0.50", 6, 11), (3, "9.00", 7, 1))
"""Customer, amount, day and hour."""


def day(n: int, hour: int = 0) -> datetime:
    """An hour of day `n` of January 2026."""
    return datetime(2026, 1, n, hour, tzinfo=UTC)


def expected(at: datetime) -> dict[int, tuple[Decimal | None, int | None]]:
    """The values of every customer at a midnight, by plain Python: the greatest day among three, and the place of those who paid today."""
    days = [(at - timedelta(days=n + 1), at - timedelta(days=n)) for n in range(3)]
    found: dict[int, list[Decimal]] = {}
    for start, end in days:
        for c in {c for c, _, d, h in PAID if start <= day(d, h) < end}:
            found.setdefault(c, []).append(sum((Decimal(a) for x, a, d, h in PAID if x == c and start <= day(d, h) < end), Decimal(0)))
    best = {c: max(sums) for c, sums in found.items()}
    today = [c for c in best if any(x == c and days[0][0] <= day(d, h) < at for x, _, d, h in PAID)]
    places = {c: 1 + sum(best[o] > best[c] for o in today) for c in today}
    return {c: (best.get(c), places.get(c)) for c in (1, 2, 3)}


@pytest.fixture(scope="module")
def project(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[headwater.Project]:
    """Five days published from the file's definitions, which name the last group first; its clock stands on the 8th."""
    folder = projects.make(tmp_path_factory.mktemp("transforms") / "project", catalog=CATALOG)
    now = iter(day(8, 12) + timedelta(seconds=n) for n in range(10_000))
    opened = headwater.open(folder, clock=lambda: next(now))
    rows = [{"customer_id": c, "amount": Decimal(a), "paid_at": pd.Timestamp(day(d, h))} for c, a, d, h in PAID]
    opened.write("payments", pd.DataFrame(rows))
    yield opened
    opened.down()
    opened.close()


@pytest.fixture(scope="module")
def run(project: headwater.Project) -> dict[str, Any]:
    """What was planned before the first run, and what that did."""
    planned = {work.group.name: work for work in project.plan()}
    return {"planned": planned, "costs": project.cost(planned.values()), "done": project.materialize()}


def test_groups_are_planned_and_run_after_those_that_they_read(project: headwater.Project, run: dict[str, Any]) -> None:
    assert list(run["planned"]) == ["spend", "best", "a_place"]
    assert [len(work.due) for work in run["planned"].values()] == [5, 0, 0]
    assert run["planned"]["a_place"].waiting[0].reasons == ("waits for best 2026-01-03T00:00:00Z..2026-01-04T00:00:00Z (WAITING)",)
    assert [(each.group, each.published, each.rejected) for each in run["done"]] == [("spend", 5, ()), ("best", 5, ()), ("a_place", 5, ())]
    assert {status.status for status in project.status()} == {"OK"}
    assert [each.stale.groups for each in run["costs"]] == [("best", "a_place")]


def test_a_plan_of_a_transform_has_a_cost_estimate(project: headwater.Project, run: dict[str, Any]) -> None:
    assert run["done"]
    works = project.plan("a_place", start=day(6), end=day(8), only="all")
    (cost,) = project.cost(works)
    assert (cost.group, cost.intervals, cost.stale.groups) == ("a_place", 2, ())
    assert cost.files >= 3
    assert cost.bytes > 0


def test_training_sets_and_answers_have_the_values_that_plain_python_finds(project: headwater.Project, run: dict[str, Any]) -> None:
    assert run["done"]
    asked = [(c, day(n, h)) for c in (1, 2, 3) for n, h in ((3, 5), (4, 0), (5, 23), (7, 0), (8, 5), (8, 11))]
    spine = pd.DataFrame([{"customer_id": c, "event_timestamp": pd.Timestamp(at)} for c, at in asked])
    built = project.training_set(spine=spine, service="everything")
    found = {(r["customer_id"], r["event_timestamp"]): r for r in delta.load(built.path).to_pylist()}
    for c, at in asked:
        row = found[c, at]
        assert (row["best__best"], row["a_place__place"]) == expected(at.replace(hour=0))[c], (c, at)
    project.sync()
    answers = project.online("everything", [{"customer_id": c} for c in (1, 2, 3, 4, None)])["results"]
    for c, answer in zip((1, 2, 3), answers, strict=False):
        best, place = expected(day(8))[c]
        assert answer["values"] == {"best__best": None if best is None else str(best), "a_place__place": place}
    statuses = [answer["status"]["a_place"] for answer in answers]
    assert statuses == ["EMPTY", "EMPTY", "PRESENT", "NOT_FOUND", "NOT_FOUND"]
    assert answers[3]["values"] == {"best__best": None, "a_place__place": None}


def test_values_are_expired_when_the_coverage_is_older_than_the_ttl(project: headwater.Project, run: dict[str, Any]) -> None:
    assert run["done"]
    ends = [{"customer_id": 3, "event_timestamp": pd.Timestamp(day(10) + timedelta(microseconds=n))} for n in (0, 1)]
    built = project.training_set("late", spine=pd.DataFrame(ends), service="everything")
    found = {r["event_timestamp"]: r["a_place__place"] for r in delta.load(built.path).to_pylist()}
    assert list(found.values()).count(None) == 1
    assert found[day(10)] == 1


def test_a_value_is_explained_with_the_events_of_its_source(project: headwater.Project, run: dict[str, Any]) -> None:
    assert run["done"]
    story = project.explain("a_place", {"customer_id": 3})
    assert (story.status, story.values, story.source) == ("PRESENT", {"place": 1}, "payments")
    assert [event["paid_at"] for event in story.events] == [day(7, 1)]
    assert story.window is not None
    assert (story.window.start, story.window.end) == (day(7), day(8))
    other = project.explain("best", {"customer_id": 2}, at=day(7, 1))
    assert (other.status, other.values, other.source, other.events) == ("PRESENT", {"best": Decimal("5.00")}, None, ())


def test_what_waits_is_said_and_a_leak_is_a_mistake(project: headwater.Project, run: dict[str, Any]) -> None:
    assert run["done"]
    leaking = CATALOG.replace('F.max("paid_1d")', 'F.when(F.rand() >= 0, F.max("paid_1d"))')
    file = project.settings.catalog / "shop.py"
    file.write_text(leaking, encoding="utf-8")
    told = projects.within("materialize", "best", project=project.settings.root, now=day(8, 18))
    status = projects.within("status", "best", "a_place", project=project.settings.root, now=day(8, 18))
    file.write_text(CATALOG, encoding="utf-8")
    assert told.code == 2
    assert "group best: its function leaves something to chance" in told.err
    assert status.code == 0
    assert "a_place: 5 intervals from 2026-01-03T00:00:00Z to 2026-01-08T00:00:00Z: the first waits for best" in " ".join(
        status.err.split()
    )


RAISING = """
from feature_definitions import Entity, Source, TransformGroup
from feature_definitions.errors import UserError

customer = Entity("customer", keys={"customer_id": "int64"})
payments = Source("payments", columns={"customer_id": "int64", "paid_at": "timestamp"}, event_timestamp="paid_at")


def looked_up(payments):
    def one(batches):
        for batch in batches:
            raise UserError("there is no rate\\nfor SEK")
            yield batch

    return payments.select("customer_id").mapInArrow(one, "customer_id bigint").selectExpr("customer_id", "1L AS rate")


rates = TransformGroup("rates", customer, (payments,), function=looked_up, lookback="1d", ttl="2d", schema={"rate": "int64"})
"""


def test_what_a_function_raises_in_a_worker_is_told_in_one_sentence_and_its_traceback_is_kept(spark: SparkSession, tmp_path: Path) -> None:
    folder = projects.make(tmp_path / "project", catalog=RAISING)
    with projects.opened(folder, now=day(6, 12)) as p:
        p.write("payments", pd.DataFrame({"customer_id": [1], "paid_at": [pd.Timestamp(day(5))]}))
    done = projects.within("materialize", "--json", project=folder, now=day(6, 12))
    assert (done.code, done.out) == (2, "")
    said = [line for line in done.err.splitlines() if line.startswith("error:")]
    assert said == ["error: group rates: its function failed in a worker: feature_definitions.errors.UserError: there is no rate for SEK"]
    assert done.err.splitlines()[-1] == f"details: {folder / '.headwater/last-error.log'}"
    assert "in one" in (folder / ".headwater/last-error.log").read_text()
