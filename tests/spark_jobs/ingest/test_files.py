"""Ingest on real Spark: corrections, moved and removed rows, equal content, changed definitions, and the revisions that each makes.

Each fixture lives through one source's history once and keeps what was there after every step; the tests read that.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

import headwater as hw
from feature_definitions import layout
from feature_definitions.intervals import MICROSECOND
from lake import delta
from spark_jobs.ingest import files
from tests import projects
from tests.projects import rows

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

    from feature_definitions.records import Revision
    from headwater import Project
    from spark_jobs.ingest.journal import IngestReport

CATALOG = """
from feature_definitions import Files, Source

orders = Source("orders", Files("data/orders/*.csv", format="csv"), columns={"id": "string", "x": "int64", "at": "timestamp"},
                event_timestamp="at", timezone="UTC", id=("id",))
payments = Source("payments", Files("data/payments/*.csv", format="csv"),
                  columns={"id": "string", "x": "int64", "at": "timestamp", "arrived": "timestamp"},
                  event_timestamp="at", timezone="UTC", id=("id",), arrived_at="arrived")
clicks = Source("clicks", Files("data/clicks/*.csv", format="csv"), columns={"x": "int64", "at": "timestamp"},
                event_timestamp="at", timezone="UTC")
"""
SENSORS = """
from feature_definitions import Files, Source

sensors = Source("sensors", Files("data/sensors/*.csv", format="csv"), columns={COLUMNS, "at": "timestamp"},
                 event_timestamp="at", timezone="UTC")
"""


def on(day: int, hour: int = 12) -> datetime:
    return datetime(2026, 1, day, hour, tzinfo=UTC)


def text(day: int, hour: int = 12) -> str:
    return f"{on(day, hour):%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True, slots=True)
class Step:
    """What an ingest reported, which rows held after it, the revisions that it made, and the rows then in quarantine."""

    report: IngestReport
    live: list[dict[str, Any]]
    revisions: tuple[Revision, ...]
    quarantine: list[dict[str, Any]]

    def values(self, key: str = "id") -> dict[str, int]:
        """The live values of x by id."""
        return {row[key]: row["x"] for row in self.live}

    @property
    def extents(self) -> dict[date, tuple[datetime, datetime]]:
        """The first and the last time that changed on each date."""
        return {r.date: (r.first, r.end - MICROSECOND) for r in self.revisions}


def ingested(project: Project, source: str) -> Step:
    (report,) = project.ingest(source)
    lake = project.settings.lake
    held = delta.load(layout.source_table(lake, source)).to_pylist()
    aside = layout.quarantine_table(lake, source)
    revisions = project._registry.revisions(source)
    return Step(
        report,
        sorted(({k: v for k, v in row.items() if not k.startswith("_hw_")} for row in held if row["_hw_live"]), key=str),
        tuple(r for r in revisions if r.revision == report.revision),
        delta.load(aside).to_pylist() if delta.exists(aside) else [],
    )


@pytest.fixture(scope="module")
def project(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return projects.make(tmp_path_factory.mktemp("sources") / projects.ODD, catalog=CATALOG)


@pytest.fixture(scope="module")
def orders(project: Path) -> dict[str, Step]:
    def put(name: str, *lines: str) -> None:
        projects.write(project, f"data/orders/{name}.csv", rows(*lines, header="id,x,at"))

    steps = {}
    with closing(projects.opened(project)) as p:
        put("a", f"o1,1,{text(3)}", f"o2,2,{text(4, 8)}", f"o3,3,{text(5)}", f"o4,4,{text(5, 20)}")
        steps["first"] = ingested(p, "orders")
        put("b", f"o1,9,{text(3)}", f"o2,2,{text(6)}")
        steps["corrected"] = ingested(p, "orders")
        put("a", f"o1,1,{text(3)}", f"o2,2,{text(4, 8)}", f"o3,33,{text(5)}", f"o4,4,{text(5, 20)}")
        steps["elsewhere"] = ingested(p, "orders")
        put("a", f"o4,4,{text(5, 20)}", f"o2,2,{text(4, 8)}", f"o3,33,{text(5)}", f"o1,1,{text(3)}")
        steps["reordered"] = ingested(p, "orders")
        (project / "data/orders/a.csv").rename(project / "a.csv")
        steps["deleted"] = ingested(p, "orders")
        (project / "a.csv").rename(project / "data/orders/a.csv")
        put("b", f"o2,2,{text(6)}")
        put("a", f"o1,1,{text(3)}", f"o2,2,{text(4, 8)}", f"o3,33,{text(7)}", f"o4,4,{text(5, 20)}", f"o4,4,{text(5, 20)}")
        steps["moved"] = ingested(p, "orders")
    return steps


def test_the_first_ingest_revises_every_date_with_the_exact_extent(orders: dict[str, Step]) -> None:
    first = orders["first"]
    assert first.values() == {"o1": 1, "o2": 2, "o3": 3, "o4": 4}
    assert first.extents == {date(2026, 1, 3): (on(3), on(3)), date(2026, 1, 4): (on(4, 8),) * 2, date(2026, 1, 5): (on(5), on(5, 20))}
    assert [r.rows for r in first.revisions] == [1, 1, 2]


def test_the_same_id_from_another_file_is_a_correction_also_across_dates(orders: dict[str, Step]) -> None:
    corrected = orders["corrected"]
    assert corrected.values() == {"o1": 9, "o2": 2, "o3": 3, "o4": 4}
    assert {row["id"]: row["at"] for row in corrected.live}["o2"] == on(6)
    assert corrected.extents == {date(2026, 1, 3): (on(3), on(3)), date(2026, 1, 4): (on(4, 8),) * 2, date(2026, 1, 6): (on(6), on(6))}
    assert {r.date.day: r.rows for r in corrected.revisions} == {3: 1, 4: 0, 6: 1}


def test_a_correction_is_not_undone_when_the_file_that_it_corrects_changes_elsewhere(orders: dict[str, Step]) -> None:
    changed = orders["elsewhere"]
    assert changed.values() == {"o1": 9, "o2": 2, "o3": 33, "o4": 4}
    assert {row["id"]: row["at"] for row in changed.live}["o2"] == on(6)
    assert changed.extents == {date(2026, 1, 5): (on(5), on(5))}


def test_rows_in_another_order_are_the_same_content_and_make_no_revision(orders: dict[str, Step]) -> None:
    assert (orders["reordered"].report.files, orders["reordered"].report.revision) == (1, None)
    assert orders["reordered"].live == orders["elsewhere"].live


def test_a_file_that_is_gone_keeps_its_rows(orders: dict[str, Step]) -> None:
    assert (orders["deleted"].report.files, orders["deleted"].report.revision) == (0, None)
    assert orders["deleted"].live == orders["elsewhere"].live


def test_a_correction_that_its_file_no_longer_holds_falls_back_to_what_it_corrected(orders: dict[str, Step]) -> None:
    assert orders["moved"].values()["o1"] == 1
    assert orders["moved"].extents[date(2026, 1, 3)] == (on(3), on(3))


def test_a_row_moved_to_another_date_revises_the_date_that_it_left_and_the_one_it_came_to(orders: dict[str, Step]) -> None:
    moved = orders["moved"]
    assert {row["id"]: row["at"] for row in moved.live}["o3"] == on(7)
    assert set(moved.extents) == {date(2026, 1, 3), date(2026, 1, 5), date(2026, 1, 7)}
    assert moved.extents[date(2026, 1, 5)] == (on(5), on(5))


def test_an_id_that_comes_twice_in_a_file_is_one_row(orders: dict[str, Step]) -> None:
    assert [row["id"] for row in orders["moved"].live] == ["o1", "o2", "o3", "o4"]


@pytest.fixture(scope="module")
def payments(project: Path) -> dict[str, Step]:
    """Read by Spark's workers, as large files are; those of the other fixtures are read here, as they are small."""

    def put(name: str, x: int, arrived: datetime) -> None:
        line = f"p1,{x},{text(5)},{arrived:%Y-%m-%dT%H:%M:%SZ}"
        projects.write(project, f"data/payments/{name}.csv", rows(line, header="id,x,at,arrived"))

    steps = {}
    with closing(projects.opened(project)) as p, pytest.MonkeyPatch.context() as large:
        large.setattr(files, "_SMALL", -1)
        put("a", 1, on(5, 15))
        put("b", 2, on(5, 14))
        steps["first"] = ingested(p, "payments")
        put("c", 3, on(5, 14))
        steps["older"] = ingested(p, "payments")
        put("d", 4, on(5, 16))
        steps["newer"] = ingested(p, "payments")
    return steps


def test_of_one_id_the_newest_arrival_holds_whatever_file_is_read_last(payments: dict[str, Step]) -> None:
    assert payments["first"].values() == {"p1": 1}


def test_an_older_arrival_that_is_ingested_later_changes_nothing(payments: dict[str, Step]) -> None:
    assert (payments["older"].report.files, payments["older"].report.revision, payments["older"].values()) == (1, None, {"p1": 1})


def test_a_newer_arrival_replaces_the_row(payments: dict[str, Step]) -> None:
    assert payments["newer"].values() == {"p1": 4}
    assert payments["newer"].extents == {date(2026, 1, 5): (on(5), on(5))}


ODD = "o'clock \\ 100%.csv"
"""A file's name that wants to be quoted well."""


@pytest.fixture(scope="module")
def clicks(project: Path) -> dict[str, Step]:
    def put(*lines: str) -> None:
        projects.write(project, f"data/clicks/{ODD}", rows(*lines, header="x,at"))

    steps = {}
    with closing(projects.opened(project)) as p:
        put(f"7,{text(5)}", f"7,{text(5)}", f"8,{text(4)}", f"many,{text(4)}", "9,", "1")
        steps["twice"] = ingested(p, "clicks")
        put(f"7,{text(5)}", f"8,{text(4)}")
        steps["once"] = ingested(p, "clicks")
    return steps


def test_equal_rows_of_a_source_without_id_are_events_of_their_own(clicks: dict[str, Step]) -> None:
    assert [row["x"] for row in clicks["twice"].live] == [7, 7, 8]


def test_one_of_two_equal_rows_taken_away_revises_its_date_alone(clicks: dict[str, Step]) -> None:
    assert [row["x"] for row in clicks["once"].live] == [7, 8]
    assert clicks["once"].extents == {date(2026, 1, 5): (on(5), on(5))}


def test_each_refused_row_is_in_quarantine_with_its_line_and_reason(clicks: dict[str, Step]) -> None:
    found = sorted((row["file"], row["line"], row["reason"], row["x"], row["at"]) for row in clicks["twice"].quarantine)
    assert found == [
        (f"data/clicks/{ODD}", 5, "x: 'many' is not an int64", "many", text(4)),
        (f"data/clicks/{ODD}", 6, "at is null", "9", ""),
        (f"data/clicks/{ODD}", 7, "has 1 fields, the header has 2", "1", None),
    ]
    assert clicks["twice"].report.quarantined == 3


def test_a_file_that_was_set_right_has_nothing_in_quarantine(clicks: dict[str, Step]) -> None:
    assert clicks["once"].quarantine == []


@pytest.fixture(scope="module")
def sensors(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Step]:
    folder = projects.make(tmp_path_factory.mktemp("sensors"))

    def step(columns: str) -> Step:
        projects.write(folder, "catalog/shop.py", SENSORS.replace("COLUMNS", columns))
        with closing(projects.opened(folder)) as p:
            return ingested(p, "sensors")

    projects.write(folder, "data/sensors/a.csv", rows(f"1,{text(4)}", header="x,at"))
    projects.write(folder, "data/sensors/b.csv", rows(f"2,{text(5)}", header="x,at"))
    steps = {"first": step('"x": "int64"')}
    projects.write(folder, "data/sensors/a.csv", rows(f"1,C,{text(4)}", header="x,unit,at"))
    steps["added"] = step('"x": "int64", "unit": "string"')
    (folder / "data/sensors/b.csv").unlink()
    steps["retyped"] = step('"x": "double", "unit": "string"')
    steps["removed"] = step('"x": "double"')
    return steps


def test_a_column_that_the_definition_gained_is_null_in_rows_whose_file_lacks_it(sensors: dict[str, Step]) -> None:
    assert [(row["x"], row["unit"]) for row in sensors["added"].live] == [(1, "C"), (2, None)]
    assert sensors["added"].report.refused == ("data/sensors/b.csv has no column 'unit'. It has: x, at. Source sensors needs it",)


def test_a_column_of_another_type_is_read_anew_and_kept_for_files_that_are_gone(sensors: dict[str, Step]) -> None:
    assert [(row["x"], type(row["x"])) for row in sensors["retyped"].live] == [(1.0, float), (2.0, float)]


def test_a_column_that_the_definition_lost_does_not_stop_the_ingest(sensors: dict[str, Step]) -> None:
    assert [row["x"] for row in sensors["removed"].live] == [1.0, 2.0]
    assert sensors["removed"].report.refused == ()


@pytest.fixture(scope="module")
def rotated(project: Path) -> dict[str, Step]:
    """The clicks of a source without id, whose file is renamed, followed by another one, and then copied."""

    def put(name: str, *lines: str) -> None:
        projects.write(project, f"data/views/{name}.csv", rows(*lines, header="x,at"))

    catalog = CATALOG.replace("clicks", "views")
    projects.write(project, "catalog/views.py", f"from feature_definitions import Files, Source\n{catalog[catalog.index('views = ') :]}")
    steps, hours = {}, count()
    with closing(hw.open(project, clock=lambda: projects.NOW + timedelta(hours=next(hours)))) as p:
        put("log", f"1,{text(5)}", "none,")
        steps["first"] = ingested(p, "views")
        (project / "data/views/log.csv").rename(project / "data/views/log-1.csv")
        steps["renamed"] = ingested(p, "views")
        put("log", f"2,{text(6)}")
        steps["followed"] = ingested(p, "views")
        put("log-1", f"3,{text(5)}", "no,", "number,")
        put("log-2", f"2,{text(6)}")
        steps["changed"] = ingested(p, "views")
        p.rebuild_registry(over="anything")
        steps["again"] = ingested(p, "views")
    return steps


def test_a_file_that_was_renamed_brings_nothing(rotated: dict[str, Step]) -> None:
    report = rotated["renamed"].report
    assert (report.files, report.revision, report.renamed) == (0, None, {"data/views/log-1.csv": "data/views/log.csv"})
    assert rotated["renamed"].live == rotated["first"].live


def test_a_new_file_under_the_old_name_of_a_renamed_one_adds_its_rows(rotated: dict[str, Step]) -> None:
    assert [row["x"] for row in rotated["followed"].live] == [1, 2]


def test_a_renamed_file_that_changes_replaces_its_rows_also_those_in_quarantine(rotated: dict[str, Step]) -> None:
    assert [row["x"] for row in rotated["changed"].live] == [2, 2, 3]
    assert sorted(row["x"] for row in rotated["changed"].quarantine) == ["no", "number"]


def test_a_copy_counts_and_is_said(rotated: dict[str, Step]) -> None:
    assert rotated["changed"].report.copies == {"data/views/log-2.csv": "data/views/log.csv"}


def test_a_registry_that_is_rebuilt_knows_which_files_were_renamed(rotated: dict[str, Step]) -> None:
    assert (rotated["again"].report.files, rotated["again"].report.renamed) == (0, {})
    assert rotated["again"].live == rotated["changed"].live
