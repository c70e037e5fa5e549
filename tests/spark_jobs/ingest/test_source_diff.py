"""What an ingest finds changed in tables that are read in place, on real Spark.

Each fixture lives through one table's history once and keeps what was there after every step; the tests read that.
"""

from __future__ import annotations

from contextlib import closing
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from deltalake import DeltaTable, write_deltalake

from feature_definitions.intervals import ALWAYS, in_utc
from spark_jobs.ingest import events
from spark_jobs.ingest.journal import IngestReport
from tests import projects
from tests.tables_in_place import CATALOG, Step, ingested, on, rows

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="module")
def project(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return projects.make(tmp_path_factory.mktemp("in_place"), catalog=CATALOG)


@pytest.fixture(scope="module")
def clicks(project: Path) -> dict[str, Step]:
    path, steps = str(project / "data/clicks"), {}
    with closing(projects.opened(project)) as p:
        write_deltalake(path, rows("clicks", (1, on(3, 8)), (1, on(3, 8)), (2, on(3, 20)), (3, on(4)), (4, on(5, 9)), (5, on(5, 10))))
        steps["first"] = ingested(p, "clicks")
        steps["again"] = ingested(p, "clicks")
        write_deltalake(path, rows("clicks", (6, on(3, 10))), mode="append")
        steps["late"] = ingested(p, "clicks")
        DeltaTable(path).optimize.compact()
        steps["optimized"] = ingested(p, "clicks")
        DeltaTable(path).delete("x = 5")
        steps["deleted"] = ingested(p, "clicks")
        DeltaTable(path).update(updates={"at": "TIMESTAMP '2026-01-06T01:00:00Z'"}, predicate="x = 3")
        steps["moved"] = ingested(p, "clicks")
        DeltaTable(path).update(updates={"beside": "'b'"}, predicate="x = 4")
        steps["beside"] = ingested(p, "clicks")
        write_deltalake(path, rows("clicks", (7, None), (8, on(7))), mode="append")
        steps["bad"] = ingested(p, "clicks")
    return steps


def test_the_first_ingest_revises_every_date_with_the_exact_extent(clicks: dict[str, Step]) -> None:
    first = clicks["first"]
    assert first.extents == {3: (on(3, 8), on(3, 20)), 4: (on(4), on(4)), 5: (on(5, 9), on(5, 10))}
    assert [r.rows for r in first.revisions] == [3, 1, 2]
    assert [row["x"] for row in first.live] == [1, 1, 2, 3, 4, 5]
    assert {row["twice"] for row in first.live} == {2, 4, 6, 8, 10}


def test_a_table_at_the_version_that_was_seen_last_is_not_read_again(clicks: dict[str, Step]) -> None:
    assert clicks["again"].report == IngestReport("clicks")


def test_a_late_row_revises_its_own_time_alone(clicks: dict[str, Step]) -> None:
    assert clicks["late"].extents == {3: (on(3, 10), on(3, 10))}
    assert clicks["late"].report.rows == 7


def test_optimizing_the_table_or_changing_a_column_beside_revises_nothing(clicks: dict[str, Step]) -> None:
    for step in (clicks["optimized"], clicks["beside"]):
        assert (step.report.files, step.report.dates_changed, step.report.revision, step.extents) == (1, 0, None, {})
    assert clicks["optimized"].live == clicks["late"].live


def test_a_deleted_row_revises_its_date(clicks: dict[str, Step]) -> None:
    assert clicks["deleted"].extents == {5: (on(5, 10), on(5, 10))}
    assert 5 not in clicks["deleted"].values(key="x")


def test_a_row_that_moves_revises_both_dates_and_the_one_that_it_leaves_empty_too(clicks: dict[str, Step]) -> None:
    moved = clicks["moved"]
    assert moved.extents == {4: (on(4), on(4)), 6: (on(6, 1), on(6, 1))}
    assert {r.date.day: r.rows for r in moved.revisions} == {4: 0, 6: 1}


def test_a_row_without_time_is_counted_and_not_read(clicks: dict[str, Step]) -> None:
    bad = clicks["bad"]
    assert (bad.report.quarantined, bad.report.reasons, bad.report.rows) == (1, {"at is null": 1}, 7)
    assert sorted(bad.values(key="x")) == [1, 2, 3, 4, 6, 8]


@pytest.mark.usefixtures("clicks")
def test_a_source_diff_of_what_changed_finds_what_one_of_everything_does(project: Path) -> None:
    with closing(projects.opened(project)) as p:
        whole = {r.date: (r.rows, r.content_hash) for r in ingested(p, "copied").revisions}
        parts = {r.date: (r.rows, r.content_hash) for r in p._registry.revisions("clicks")}
    assert {day: state for day, state in parts.items() if state[0]} == whole


# ------------------------------------------------------------------------------------------------------------------- rows of ids


@pytest.fixture(scope="module")
def orders(project: Path) -> dict[str, Step]:
    path, steps = str(project / "data/orders"), {}
    with closing(projects.opened(project)) as p:
        first = (("o1", 1, 0.5, on(3), on(3)), ("o2", 2, 0.5, on(4), on(4)), ("o3", 3, 0.5, on(5), on(5)), ("o3", 4, 0.5, on(5), None))
        write_deltalake(path, rows("orders", *first))
        steps["first"] = ingested(p, "orders")
        later = (("o1", 9, 0.5, on(6), on(7)), ("o2", 8, 0.5, on(4), on(2)), ("o4", 4, 0.5, on(5), on(5)), ("o4", 5, 0.5, on(5), on(5)))
        write_deltalake(path, rows("orders", *later), mode="append")
        steps["corrected"] = ingested(p, "orders")
        bad = (
            (None, 1, 0.5, on(5), on(9)),
            ("o3", 5000, 0.5, on(5), on(9)),
            ("o2", 7, float("nan"), on(4), on(9)),
            ("o1", 7, 0.5, None, on(9)),
        )
        write_deltalake(path, rows("orders", *bad), mode="append")
        steps["bad"] = ingested(p, "orders")
    return steps


def test_of_several_rows_of_an_id_the_newest_arrival_counts_also_across_dates(orders: dict[str, Step]) -> None:
    assert orders["first"].values() == {"o1": 1, "o2": 2, "o3": 3}
    corrected = orders["corrected"]
    assert corrected.values() == {"o1": 9, "o2": 2, "o3": 3, "o4": 5}
    assert corrected.extents == {3: (on(3), on(3)), 5: (on(5), on(5)), 6: (on(6), on(6))}
    assert {r.date.day: r.rows for r in corrected.revisions} == {3: 0, 5: 2, 6: 1}


def test_rows_that_ingest_would_quarantine_are_counted_by_reason_and_correct_nothing(orders: dict[str, Step]) -> None:
    bad = orders["bad"]
    assert bad.report.reasons == {"at is null": 1, "expected x < 1000": 1, "id is null": 1, "w is not a finite number": 1}
    assert (bad.report.quarantined, bad.report.revision) == (4, None)
    assert bad.live == orders["corrected"].live


@pytest.mark.usefixtures("orders")
def test_rows_that_are_not_read_where_they_lie_are_shown_with_an_example_of_each_reason(project: Path) -> None:
    with closing(projects.opened(project)) as p:
        found = {each.reason: each for each in p.quarantine("orders")}
        assert {reason: each.rows for reason, each in found.items()} == {
            "at is null": 1, "expected x < 1000": 1, "id is null": 1, "w is not a finite number": 1,
        }  # fmt: skip
        (example,) = found["expected x < 1000"].examples
        assert (example.file, example.line, example.row["id"], example.row["x"]) == ("data/orders", None, "o3", "5000")


@pytest.mark.usefixtures("orders", "clicks")
@pytest.mark.parametrize("name", ["orders", "clicks"])
def test_the_rows_of_some_dates_are_those_of_all_dates_that_lie_on_them(project: Path, name: str) -> None:
    with closing(projects.opened(project)) as p:
        source, context, days = p.catalog.sources[name], p._context, [date(2026, 1, 4), date(2026, 1, 6)]
        everything = events.read(source, context).toArrow().to_pylist()
        some = events.read(source, context, dates=days).toArrow().to_pylist()
    assert sorted(map(str, some)) == sorted(str(row) for row in everything if row["_hw_date"] in days)
    assert 0 < len(some) < len(everything)


def test_a_row_that_derives_from_the_one_before_changes_with_it(project: Path) -> None:
    path = str(project / "data/steps")
    with closing(projects.opened(project)) as p:
        write_deltalake(path, rows("steps", ("a", 1, on(3)), ("a", 5, on(4)), ("b", 5, on(4)), ("a", 9, on(9))))
        assert [row["more"] for row in ingested(p, "steps").live] == [None, 4, None, None]
        DeltaTable(path).update(updates={"x": "2"}, predicate="x = 1")
        changed = ingested(p, "steps")
    assert changed.extents == {3: (on(3), on(3)), 4: (on(4), on(4))}
    assert [row["more"] for row in changed.live] == [None, 3, None, None]


def test_local_times_without_zone_are_read_as_those_of_files(project: Path) -> None:
    naive = [datetime(2026, 1, 5, 12), datetime(2026, 3, 29, 2, 30), datetime(2026, 10, 25, 2, 30)]  # noqa: DTZ001  # they have none
    write_deltalake(str(project / "data/local"), rows("local", *[(n, at) for n, at in enumerate(naive)]))
    with closing(projects.opened(project)) as p:
        found = ingested(p, "local").values(key="x", value="_hw_time")
    assert found == {n: in_utc(at, ZoneInfo("Europe/Berlin")) for n, at in enumerate(naive)}


def test_a_static_table_has_one_date_and_every_change_is_of_all_time(project: Path) -> None:
    path = str(project / "data/people")
    with closing(projects.opened(project)) as p:
        write_deltalake(path, rows("people", ("a", "Oslo"), ("b", "Bergen")))
        assert len(ingested(p, "people").revisions) == 1
        write_deltalake(path, rows("people", ("b", "Oslo")), mode="append")
        (revision,) = ingested(p, "people").revisions
    assert (revision.first, revision.end, revision.rows) == (ALWAYS.start, ALWAYS.end, 2)
