"""The gate over staged rows: verdicts, marks, quarantine, records and reports of one run in which everything happens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pytest

from expectations import adapter, sketches
from expectations.suite import Verdict, as_json
from feature_definitions import (
    Entity,
    Feature,
    Source,
    WindowedGroup,
    at_least,
    expression,
    layout,
    mean_between,
    not_null,
    one_of,
    quantile_between,
    row_count,
    unique,
)
from feature_definitions.intervals import DAY, Interval
from feature_definitions.planning.plan import MISSING, GroupPlan, IntervalStatus
from feature_definitions.records import LedgerEntry
from feature_definitions.sql.column_types import ColumnTypes
from lake import delta
from spark_jobs.compute.rows import START
from spark_jobs.context import Context, Run
from spark_jobs.publish import validate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspark.sql import SparkSession

    from feature_registry import Registry
    from spark_jobs.publish.validate import Judged

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
NOW = FIRST + 30 * DAY
ROWS = 20
customer = Entity("customer", {"customer": "int64"})
payments = Source("payments", columns={"customer": "int64", "at": "timestamp", "x": "double", "code": "string"}, event_timestamp="at")
GOOD, BAD, HELD, SHARED, DOUBLE, GONE, EMPTY, NAN = range(8)
"""The days of the run, by what is wrong with them."""


@dataclass(frozen=True)
class Gate:
    """A run that was judged: where its lake lies and what came of it."""

    lake: str
    group: WindowedGroup
    judged: Judged

    def verdict(self, number: int) -> Verdict:
        return self.judged.verdicts[day(number)]

    def records(self, kind: str) -> list[dict[str, Any]]:
        return cast("list[dict[str, Any]]", delta.load(layout.records_table(self.lake, kind)).to_pylist())

    def quarantine(self) -> list[dict[str, Any]]:
        return cast("list[dict[str, Any]]", delta.load(layout.quarantine_table(self.lake, "spend")).to_pylist())

    def report(self, name: str) -> str:
        return Path(self.lake, "reports/spend", name).read_text(encoding="utf-8")


def day(number: int) -> Interval:
    return Interval(FIRST + number * DAY, FIRST + (number + 1) * DAY)


def row(number: int, customer: int | None, x: float | None = 1.0, code: str = "a") -> dict[str, Any]:
    """A staged row of a day; every customer paid on the day itself."""
    end = day(number).end
    values = {"customer": customer, "event_timestamp": end, "empties_at": end + DAY, "x_1d": x, "code_1d": code, "n_1d": 10 * number}
    return values | {START: day(number).start}


def staged_rows() -> Iterator[dict[str, Any]]:
    """Twenty customers a day, and what is wrong with the day."""
    for number in (GOOD, BAD, HELD, SHARED, DOUBLE, NAN):
        yield from (row(number, n, x=float(n)) for n in range(2, ROWS))
    yield from (row(GOOD, 0), row(GOOD, 1))
    yield from (row(BAD, 0, x=-1.0), row(BAD, 1, x=-2.0, code="b"))
    yield from (row(HELD, 0, x=-1.0), row(HELD, 1))
    yield from (row(SHARED, 0, x=None), row(SHARED, 1, x=None), row(SHARED, 30, x=None))
    yield from (row(DOUBLE, 0), row(DOUBLE, 1), row(DOUBLE, 5))
    yield from (row(NAN, 0, x=float("nan")), row(NAN, 1))
    yield row(GONE, 1)


SCHEMA = pa.schema(
    [
        ("customer", pa.int64()),
        ("event_timestamp", pa.timestamp("us", tz="UTC")),
        ("empties_at", pa.timestamp("us", tz="UTC")),
        ("x_1d", pa.float64()),
        ("code_1d", pa.string()),
        ("n_1d", pa.int64()),
        (START, pa.timestamp("us", tz="UTC")),
    ]
)


def spend() -> WindowedGroup:
    return WindowedGroup(
        "spend", customer, payments, ttl="2d", hold_below=0.05,
        features=(
            Feature("x", "last", "x", windows=("1d",), expect=(
                at_least(0), not_null(0.9), mean_between(0, 20), quantile_between(0.5, 0, 100), expression("x_1d > -2", "warning"),
            )),
            Feature("code", "last", "code", windows=("1d",), expect=(one_of("a", severity="info"), unique("info"))),
            Feature("n", "count", windows=("1d",)),
        ),
        expect=(row_count(change=0.5),),
    )  # fmt: skip


def run_of(
    group: WindowedGroup, days: Sequence[int], *, spark: SparkSession, lake: str, publish_id: str = "p1", before: Sequence[LedgerEntry] = ()
) -> Run:
    context = Context(lambda: spark, Path(lake).parent, lake, cast("Registry", None), lambda: NOW, lambda _: None)
    due = tuple(IntervalStatus(group.name, 1, day(number), MISSING, ()) for number in days)
    types = {"x_1d": "double", "code_1d": "string", "n_1d": "int64"}
    return Run(context, GroupPlan(group, 1, due), ColumnTypes(types, {}), publish_id, 1, {entry.interval: entry for entry in before})


def frame(spark: SparkSession, rows: Sequence[dict[str, Any]]) -> Any:
    return spark.createDataFrame(pa.Table.from_pylist(list(rows), schema=SCHEMA))


@pytest.fixture(scope="module")
def gate(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Gate:
    """Eight days, judged by Great Expectations."""
    group = spend()
    lake = str(tmp_path_factory.mktemp("lake"))
    job = run_of(group, range(8), spark=spark, lake=lake)
    return Gate(lake, group, validate.validate(job, frame(spark, list(staged_rows())), judge=adapter.judge))


def test_an_interval_in_which_everything_holds_passes(gate: Gate) -> None:
    assert gate.verdict(GOOD) == Verdict(noted=("code_1d:unique()",))


def test_too_many_bad_rows_reject_their_interval_alone(gate: Gate) -> None:
    assert gate.verdict(BAD) == Verdict(
        failed=("x_1d:at_least(0)",),
        warned=("x:expression('x_1d > -2')",),
        noted=("code_1d:one_of('a')", "code_1d:unique()"),
    )


def test_few_bad_rows_are_held(gate: Gate) -> None:
    assert gate.verdict(HELD) == Verdict(held=("x_1d:at_least(0)",), noted=("code_1d:unique()",))


def test_bounds_on_the_whole_interval_reject_it_however_few_rows_are_bad(gate: Gate) -> None:
    assert gate.verdict(SHARED).failed == ("x_1d:not_null(0.9)",)
    assert gate.verdict(DOUBLE).failed == ("rows:unique",)
    assert gate.verdict(NAN).failed == ("rows:finite", "x_1d:at_least(0)", "x_1d:mean_between(0, 20)")


def test_rows_are_compared_with_the_newest_interval_whose_number_held(gate: Gate) -> None:
    assert gate.verdict(GONE).failed == ("rows:row_count(change=0.5)",)
    assert gate.verdict(EMPTY).failed == ("rows:row_count(change=0.5)",)
    assert [r["value"] for r in gate.records("checks") if r["check"] == "rows:row_count(change=0.5)"] == [
        None, 0.0, 0.0, 0.05, 0.0, pytest.approx(-20 / 21), -1.0, pytest.approx(-1 / 21),
    ]  # fmt: skip


def test_the_rows_of_each_interval_are_counted(gate: Gate) -> None:
    assert list(gate.judged.rows.values()) == [20, 20, 20, 21, 21, 1, 0, 20]


def test_bad_rows_of_held_intervals_are_marked_and_have_no_values(gate: Gate) -> None:
    rows = gate.judged.staged.where("held").toArrow().to_pylist()
    assert [(r["customer"], r[START], r["x_1d"], r["code_1d"], r["n_1d"]) for r in rows] == [(0, day(HELD).start, None, None, None)]
    good = gate.judged.staged.where("not held").groupBy(START).count().toArrow().to_pylist()
    assert {(r[START] - FIRST).days: r["count"] for r in good} == {0: 20, 1: 20, 2: 19, 3: 21, 4: 21, 5: 1, 7: 20}


def test_bad_rows_of_rejected_and_held_intervals_are_in_quarantine_with_what_they_failed(gate: Gate) -> None:
    found = sorted(((r["interval_start"] - FIRST).days, r["customer"], r["failed_expectation"]) for r in gate.quarantine())
    assert found == [
        (BAD, 0, "x_1d:at_least(0)"),
        (BAD, 1, "x_1d:at_least(0)"),
        (HELD, 0, "x_1d:at_least(0)"),
        (SHARED, 0, "x_1d:not_null(0.9)"),
        (SHARED, 1, "x_1d:not_null(0.9)"),
        (SHARED, 30, "x_1d:not_null(0.9)"),
        (DOUBLE, 5, "rows:unique"),
        (DOUBLE, 5, "rows:unique"),
        (NAN, 0, "rows:finite, x_1d:at_least(0)"),
    ]
    assert {r["x_1d"] for r in gate.quarantine() if r["interval_start"] == day(HELD).start} == {-1.0}


def test_many_rows_are_described_by_sparks_workers_as_few_are_here(
    gate: Gate, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, rows = run_of(gate.group, range(8), spark=spark, lake=gate.lake), frame(spark, list(staged_rows()))
    here = validate._statistics(job, rows, 141)
    monkeypatch.setattr(sketches, "AT_ONCE", 0)
    there = validate._statistics(job, rows, 141)
    assert set(here) == set(there)
    for interval, found in here.items():
        assert {name: pytest.approx(value) for name, value in found.items()} == there[interval]


def test_the_profile_of_each_column_and_interval_is_kept(gate: Gate) -> None:
    found = {((r["interval_start"] - FIRST).days, r["column"]): r for r in gate.records("profiles")}
    assert len(found) == 8 * 3
    names = ("rows", "nulls", "min", "max", "mean", "q05", "q50", "q95", "distinct")
    assert [found[HELD, "x_1d"][name] for name in names] == [20, 0, -1.0, 19.0, pytest.approx(9.45), -1.0, 9.0, 18.0, 20]
    assert [found[SHARED, "x_1d"][name] for name in ("rows", "nulls")] == [21, 3]
    assert [found[BAD, "code_1d"][name] for name in names] == [20, 0, None, None, None, None, None, None, 2]
    assert [found[BAD, "n_1d"][name] for name in ("min", "max", "mean", "stddev", "q50", "distinct")] == [10.0, 10.0, 10.0, 0.0, 10.0, 1]
    assert [found[EMPTY, "x_1d"][name] for name in ("rows", "mean", "distinct")] == [0, None, 0]


def test_what_came_of_each_check_is_kept(gate: Gate) -> None:
    rows = [r for r in gate.records("checks") if r["check"] == "x_1d:at_least(0)"]
    assert [(r["passed"], r["bad_rows"], r["severity"], r["publish_id"]) for r in rows] == [
        (bad == 0, bad, "critical", "p1") for bad in (0, 2, 1, 0, 0, 0, 0, 1)
    ]


def test_the_report_names_what_failed_and_shows_bad_rows(gate: Gate) -> None:
    text = gate.report("p1.html")
    assert text == gate.report("newest.html")
    assert "x_1d:at_least(0)" in text
    assert "<td>-2.0</td>" in text
    results = json.loads(gate.report("p1.json"))
    assert {r["expectation_config"]["meta"]["id"] for r in results["failed"]["results"]} >= {"rows:unique", "rows:row_count(change=0.5)"}
    assert gate.report("suite.json") == as_json(gate.group)


def test_a_day_is_compared_with_the_days_before_the_run_and_a_good_run_keeps_only_the_newest_report(
    gate: Gate, spark: SparkSession, tmp_path: Path
) -> None:
    lake = str(tmp_path)
    change = "rows:row_count(change=0.5)"
    before = [entry(2, rows=2, failed=(change,)), entry(1, rows=3), entry(0, rows=1)]
    job = run_of(gate.group, [3], spark=spark, lake=lake, publish_id="p2", before=before)
    rows = frame(spark, [row(3, n, x=float(n), code=str(n)) for n in range(4)])
    judged = validate.validate(job, rows, judge=adapter.judge)
    assert not judged.verdicts[day(3)].failed
    assert judged.staged.columns == [*rows.columns, "held"]
    kept = {r["check"]: r["value"] for r in Gate(lake, gate.group, judged).records("checks")}
    assert kept[change] == pytest.approx(1 / 3)
    assert kept["rows:recent"] == 0.0
    assert not delta.exists(layout.quarantine_table(lake, "spend"))
    assert sorted(path.name for path in Path(lake, "reports/spend").iterdir()) == ["newest.html", "newest.json", "suite.json"]


def entry(number: int, *, rows: int, failed: tuple[str, ...] = ()) -> LedgerEntry:
    """What the ledger says of a day."""
    return LedgerEntry(
        group="spend", generation=1, interval=day(number), state="REJECTED" if failed else "PUBLISHED", publish_id=f"p0{number}",
        features={}, gate="", revision=1, rows=rows, delta_version=None, failed=failed, warned=(), run_id="r", seconds=0.0,
        recorded_at=FIRST + timedelta(days=number + 1),
    )  # fmt: skip
