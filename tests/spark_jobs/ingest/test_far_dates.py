"""Rows whose dates lie far from all others, on real Spark: put aside, and taken when they lie far no more, in whatever order they came.

Each fixture lives through a source's history once and keeps what was there after every step; the tests read that.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from feature_definitions import layout
from feature_definitions.intervals import DAY
from feature_definitions.planning import far
from lake import delta
from tests import projects
from tests.projects import NOW

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

    from feature_definitions.planning.plan import IntervalStatus
    from spark_jobs.ingest.journal import IngestReport

CATALOG = """
from feature_definitions import Entity, Feature, Files, Source, WindowedGroup

clicks = Source("clicks", Files("data/clicks/*.csv", format="csv"), columns={"x": "int64", "at": "timestamp"},
                event_timestamp="at", timezone="UTC")
orders = Source("orders", Files("data/orders/*.csv", format="csv"), columns={"id": "string", "x": "int64", "at": "timestamp"},
                event_timestamp="at", timezone="UTC", id=("id",))
often = WindowedGroup("often", Entity("thing", keys={"x": "int64"}), clicks, ttl="2d",
                      features=(Feature("clicks", "count", windows=("1d",)),))
"""
END = "9999-12-31T23:59:59.999999Z"
_BEFORE = '1 row of 1970-01-01 lies 20,454 days before all others; write since="1970-01-01" if they are meant'
LAST_WEEK = tuple(f"{n},2026-01-0{n}T12:00:00Z" for n in range(1, 6))


@dataclass(frozen=True, slots=True)
class Step:
    """What an ingest reported, which rows are read after it, those put aside with their reason, and the group's intervals."""

    report: IngestReport
    rows: list[tuple[Any, ...]]
    aside: list[tuple[Any, ...]]
    status: tuple[IntervalStatus, ...]

    @property
    def state(self) -> tuple[Any, ...]:
        """What a reader sees, whatever the numbers of revisions are."""
        return self.rows, self.aside, [(s.interval, s.status) for s in self.status]


def ingested(folder: Path, source: str, *groups: str, now: datetime = NOW) -> Step:
    with projects.opened(folder, now=now) as project:
        (report,) = project.ingest(source)
        status = project.status(*groups) if groups else ()
    lake = str(folder / "lake")
    held = delta.load(layout.source_table(lake, source)).to_pylist()
    live = sorted((row["_hw_time"], row["x"], row["_hw_file"], row["_hw_line"]) for row in held if row["_hw_live"])
    path = layout.quarantine_table(lake, source)
    aside = delta.load(path).to_pylist() if delta.exists(path) else []
    return Step(report, live, sorted((r["file"], r["line"], r["column"], r["value"], r["x"], r["reason"]) for r in aside), status)


_LAST_OF_ALL = "1 row of 9999-12-31 lies more than a day after now: taken when their time has come"


def _after(day: str, until: str) -> str:
    return f'1 row of {day} lies more than a day after now: taken when their time has come, or write until="{until}" if they are meant'


def write(folder: Path, name: str, *lines: str, header: str = "x,at") -> None:
    projects.write(folder, f"data/{name}.csv", projects.rows(*lines, header=header))


@pytest.fixture(scope="module")
def folder(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:  # the project shares it
    return projects.make(tmp_path_factory.mktemp("far") / "shop", catalog=CATALOG)


@pytest.fixture(scope="module")
def clicks(folder: Path) -> dict[str, Step]:
    """A first event of 1970 alone, then with the others; then days pass; then the file is set right."""
    write(folder, "clicks/old", "1,1970-01-01T00:00:00Z")
    steps = {"alone": ingested(folder, "clicks", "often")}
    write(folder, "clicks/week", *LAST_WEEK, "7,2026-01-09T12:00:00Z", f"9,{END}")
    steps["together"] = ingested(folder, "clicks", "often")
    steps["again"] = ingested(folder, "clicks", "often")
    steps["later"] = ingested(folder, "clicks", "often", now=NOW + 2 * DAY)
    write(folder, "clicks/old", "1,2026-01-01T00:00:00Z")
    write(folder, "clicks/week", *LAST_WEEK)
    steps["right"] = ingested(folder, "clicks", "often", now=NOW + 2 * DAY)
    return steps


@pytest.fixture(scope="module")
def fresh(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Step]:  # as above
    """Projects that have only ever seen the files as they are at the end of a step."""
    together = projects.make(tmp_path_factory.mktemp("fresh") / "shop", catalog=CATALOG)
    write(together, "clicks/old", "1,1970-01-01T00:00:00Z")
    write(together, "clicks/week", *LAST_WEEK, "7,2026-01-09T12:00:00Z", f"9,{END}")
    right = projects.make(tmp_path_factory.mktemp("fresh") / "shop", catalog=CATALOG)
    write(right, "clicks/old", "1,2026-01-01T00:00:00Z")
    write(right, "clicks/week", *LAST_WEEK)
    return {"together": ingested(together, "clicks", "often"), "right": ingested(right, "clicks", "often", now=NOW + 2 * DAY)}


def test_a_first_event_that_is_alone_is_read(clicks: dict[str, Step]) -> None:
    assert [row[1] for row in clicks["alone"].rows] == [1]


def test_rows_far_from_all_others_are_put_aside_with_file_line_column_value_and_what_to_write(clicks: dict[str, Step]) -> None:
    step = clicks["together"]
    assert [row[1] for row in step.rows] == [1, 2, 3, 4, 5]
    assert step.aside == [
        ("data/clicks/old.csv", 2, "at", "1970-01-01 00:00:00", "1", _BEFORE),
        ("data/clicks/week.csv", 7, "at", "2026-01-09 12:00:00", "7", _after("2026-01-09", "2026-01-10")),
        ("data/clicks/week.csv", 8, "at", "9999-12-31 23:59:59.999999", "9", _LAST_OF_ALL),
    ]


def test_the_report_counts_what_was_put_aside(clicks: dict[str, Step]) -> None:
    report = clicks["together"].report
    assert (report.files, report.rows, report.quarantined) == (1, 5, 3)
    assert report.reasons == {
        _BEFORE: 1,
        "rows of 2 dates from 2026-01-09 to 9999-12-31 lie more than a day after now": 2,
    }


def test_nothing_is_left_of_what_was_read_before_the_others_came(clicks: dict[str, Step], fresh: dict[str, Step]) -> None:
    assert clicks["together"].state == fresh["together"].state


def test_an_ingest_of_nothing_new_does_nothing(clicks: dict[str, Step]) -> None:
    assert clicks["again"].state == clicks["together"].state
    assert (clicks["again"].report.files, clicks["again"].report.quarantined, clicks["again"].report.revision) == (0, 0, None)


def test_a_row_is_taken_when_its_time_has_come_though_no_file_changed(clicks: dict[str, Step]) -> None:
    assert [row[1] for row in clicks["later"].rows] == [1, 2, 3, 4, 5, 7]
    assert [row[4] for row in clicks["later"].aside] == ["1", "9"]
    assert clicks["later"].report.dates_changed == 1


def test_after_a_correction_all_is_as_if_the_row_had_never_been_there(clicks: dict[str, Step], fresh: dict[str, Step]) -> None:
    assert clicks["right"].state == fresh["right"].state
    assert clicks["right"].aside == []


@pytest.fixture(scope="module")
def orders(folder: Path) -> dict[str, Step]:
    """A correction to a far date, which is corrected back; then the definition says that far dates are meant, and when they begin."""
    header, week = "id,x,at", [f"o{line}" for line in LAST_WEEK]
    week = [f"o{n},{line}" for n, line in enumerate(LAST_WEEK, 1)]
    write(folder, "orders/a", *week, header=header)
    steps = {"first": ingested(folder, "orders")}
    write(folder, "orders/b", "o3,3,1970-01-01T00:00:00Z", header=header)
    steps["far"] = ingested(folder, "orders")
    catalog = folder / "catalog" / "shop.py"
    text = catalog.read_text()
    catalog.write_text(text.replace('id=("id",))', 'id=("id",), since="1970-01-01")'))
    steps["meant"] = ingested(folder, "orders")
    catalog.write_text(text.replace('id=("id",))', 'id=("id",), since="2026-01-02T12:00:00Z", until="2026-01-05")'))
    steps["bounded"] = ingested(folder, "orders")
    catalog.write_text(text)
    write(folder, "orders/b", "o3,30,2026-01-03T12:00:00Z", header=header)
    steps["back"] = ingested(folder, "orders")
    return steps


def test_a_correction_that_is_put_aside_replaces_what_it_corrects(orders: dict[str, Step]) -> None:
    assert [row[1] for row in orders["far"].rows] == [1, 2, 4, 5]
    assert [row[4] for row in orders["far"].aside] == ["3"]


def test_a_source_that_says_since_takes_such_rows_though_no_file_changed(orders: dict[str, Step]) -> None:
    assert [row[0].year for row in orders["meant"].rows] == [1970, 2026, 2026, 2026, 2026]
    assert orders["meant"].aside == []


def test_since_and_until_cut_dates_at_their_instants(orders: dict[str, Step]) -> None:
    assert [row[1] for row in orders["bounded"].rows] == [2, 4]
    assert [(row[4], row[5].partition("; ")[0]) for row in orders["bounded"].aside] == [
        ("1", '1 row of 2026-01-01 lies before since="2026-01-02T12:00:00Z"'),
        ("5", '1 row of 2026-01-05 lies at or after until="2026-01-05"'),
        ("3", '1 row of 1970-01-01 lies before since="2026-01-02T12:00:00Z"'),
    ]


def test_a_correction_back_leaves_nothing_aside(orders: dict[str, Step]) -> None:
    assert [row[1] for row in orders["back"].rows] == [1, 2, 30, 4, 5]
    assert orders["back"].aside == []


# ---------------------------------------------------------------------------------------------------------- whatever the order is


def _oracle(times: list[datetime]) -> list[datetime]:
    """The times that are read, by the rule over all of them."""
    past = [at for at in times if at < NOW + timedelta(days=1)]
    days = Counter(at.date() for at in past)
    left: dict[date, int] = dict(days)
    while left:
        segment = [min(left)]
        while later := [day for day in left if segment[-1] < day <= segment[-1] + timedelta(days=366)]:
            segment.append(min(later))
        size, rest = sum(left[d] for d in segment), sum(n for d, n in left.items() if d not in segment)
        if size >= rest or (len(segment) > far.FEW_DATES and size >= far.FEW_ROWS):
            break
        left = {day: n for day, n in left.items() if day not in segment}
    return sorted(at for at in past if at.date() in left)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_rows_give_the_same_rows_and_the_same_quarantine_in_whatever_order_they_came(
    seed: int,
    spark: SparkSession,
    tmp_path: Path,  # the project shares it
) -> None:
    some = random.Random(seed)
    days = [date.min, date(1900, 1, 1), date(1970, 1, 1), date(1970, 1, 2), date(2024, 6, 1), date(2026, 1, 3), date(2026, 1, 4), date.max]
    times = [datetime.combine(some.choice(days), datetime.min.time(), UTC) + timedelta(hours=some.randrange(24)) for _ in range(24)]
    files = {f"clicks/f{n}": [f"{k},{at.isoformat()}" for k, at in enumerate(times) if k % 4 == n] for n in range(4)}
    found = []
    for batches in ([[*files]], [[name] for name in some.sample([*files], 4)]):
        folder = projects.make(tmp_path / f"p{len(found)}", catalog=CATALOG)
        for batch in batches:
            for name in batch:
                write(folder, name, *files[name])
            step = ingested(folder, "clicks")
        found.append((step.rows, step.aside))
    assert found[0] == found[1]
    assert [row[0] for row in found[0][0]] == _oracle(times)
    assert len(found[0][0]) + len(found[0][1]) == len(times)
