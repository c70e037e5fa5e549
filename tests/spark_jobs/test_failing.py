"""What cannot be computed costs itself: a row whose derivation fails is put aside, an interval is rejected, naming column and entity."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from feature_definitions import layout
from headwater import output
from lake import delta
from tests import projects

if TYPE_CHECKING:
    from pathlib import Path

    from spark_jobs.ingest.journal import IngestReport
    from spark_jobs.publish.group_results import GroupResult

CATALOG = """
from feature_definitions import (
    DeltaTable, Derived, Entity, Feature, Files, ObservationGroup, Rows, Source, TransformGroup, WindowedGroup, expression,
)

shop = Entity("shop", {"shop_id": "int64"})
orders = Source(
    "orders", Files("data/orders/*.csv"), {"shop_id": "int64", "n": "int64", "note": "string", "at": "timestamp"},
    event_timestamp="at", timezone="UTC",
    derive={"code": "CAST(note AS BIGINT)", "loose": "try_cast(note AS BIGINT)", "twice": "n * 2", "most": "code + twice"},
    expect=(expression("100 / CAST(n AS INT) > 0"),),
)
loose = Source(
    "loose", Files("data/loose/*.csv"), {"shop_id": "int64", "n": "int64", "note": "string", "at": "timestamp"},
    event_timestamp="at", timezone="UTC",
)
sums = WindowedGroup("sums", shop, loose, ttl="9d", features=(
    Feature("n", "sum", "n", windows=("1d", Rows(2, within="1d"))),
    Feature("mean", "mean", "n", windows=("1d",)),
))
texts = WindowedGroup("texts", shop, loose, ttl="9d", features=(
    Feature("noted", "sum", "CAST(note AS BIGINT)", windows=("1d",)),
    Feature("big", "count", where="CAST(note AS BIGINT) > 5", windows=("1d",)),
))
ratios = WindowedGroup("ratios", shop, loose, ttl="9d", features=(
    Feature("most", "max", "n", windows=("1d",)),
    Derived("double_of_most", "most_1d * 2"),
))
scores = TransformGroup("scores", shop, (loose,), lookback="1d", ttl="9d", schema={"score": "int64"},
    sql="SELECT shop_id, sum(CAST(note AS BIGINT)) AS score FROM loose GROUP BY shop_id")
def nothing(rows):
    return {}["nothing"]
broken = TransformGroup("broken", shop, (loose,), lookback="1d", ttl="9d", schema={"score": "int64"}, function=nothing)
def counted(rows):
    import pyspark.sql.functions as F
    def one(batches):
        for batch in batches:
            if "abc" in batch.column("note").to_pylist():
                raise ValueError("abc is no\\nnote")
            yield batch
    return rows.select("shop_id", "note").mapInArrow(one, "shop_id bigint, note string").groupBy("shop_id").agg(F.count("*").alias("score"))
counts = TransformGroup("counts", shop, (loose,), lookback="1d", ttl="9d", schema={"score": "int64"}, function=counted)
def looking(rows):
    if rows.where("note = 'abc'").count():
        raise ValueError("abc is no note")
    return rows.groupBy("shop_id").count().withColumnRenamed("count", "score")
looks = TransformGroup("looks", shop, (loose,), lookback="1d", ttl="9d", schema={"score": "int64"}, function=looking)
lying = Source("lying", DeltaTable("tables/lying"), {"shop_id": "int64", "note": "string", "at": "timestamp"}, event_timestamp="at",
    derive={"code": "CAST(note AS BIGINT)", "before": "CAST(prev.note AS BIGINT)"}, lag_over=("shop_id",), lag_within="3d")
paced = Source("paced", DeltaTable("tables/paced"), {"shop_id": "int64", "n": "int64", "at": "timestamp"}, event_timestamp="at",
    derive={"pace": "n - prev.n"}, lag_over=("shop_id",), lag_within="3d")
codes = ObservationGroup("codes", shop, lying, columns=("code", "before"), ttl="9d")
seen = ObservationGroup("seen", shop, loose, columns=("n",), ttl="9d", where="CAST(note AS BIGINT) >= 0")
"""
STEPS = """
from feature_definitions import Files, Source

steps = Source(
    "steps", Files("data/*.csv"), {"shop_id": "int64", "n": "int64", "note": "string", "at": "timestamp"},
    event_timestamp="at", timezone="UTC", derive={"code": "CAST(note AS BIGINT)", "rise": "n - prev.n"},
    lag_over=("shop_id",), lag_within="3d",
)
"""
MOST = 2**63 - 1
HEADER = "shop_id,n,note,at"


@dataclass(frozen=True, slots=True)
class Week:
    """What an ingest and a run of all groups left."""

    report: IngestReport
    lying: IngestReport
    paced: IngestReport
    codes: list[tuple[int, int | None]]
    explained: str
    aside: list[dict[str, Any]]
    kept: int
    results: dict[str, GroupResult]
    bad: dict[str, list[dict[str, Any]]]
    rows: dict[str, int]


@pytest.fixture(scope="module")
def week(spark: object, tmp_path_factory: pytest.TempPathFactory) -> Week:
    folder = projects.make(tmp_path_factory.mktemp("failing") / "p", catalog=CATALOG)
    orders = ("1,1,7,2026-01-03T10:00Z", "1,2,abc,2026-01-03T11:00Z", f"1,{MOST},7,2026-01-03T12:00Z", "1,5000000000,8,2026-01-03T13:00Z",
              f"1,3,{MOST},2026-01-04T10:00Z", "1,4,,2026-01-04T11:00Z")  # fmt: skip
    projects.write(folder, "data/orders/a.csv", projects.rows(*orders, header=HEADER))
    loose = ("1,1,7,2026-01-03T10:00Z", "2,2,3,2026-01-03T10:00Z", f"1,{MOST},6,2026-01-04T10:00Z", f"1,{MOST},6,2026-01-04T11:00Z",
             "2,2,3,2026-01-04T10:00Z", "1,1,abc,2026-01-05T10:00Z", "2,2,3,2026-01-05T10:00Z")  # fmt: skip
    projects.write(folder, "data/loose/a.csv", projects.rows(*loose, header=HEADER))
    times = [datetime(2026, 1, 3, hour, tzinfo=UTC) for hour in range(4)]
    table = pa.table({"shop_id": [1] * 4, "note": ["1", "abc", "3", "4"], "at": pa.array(times, pa.timestamp("us", "UTC"))})
    write_deltalake(folder / "tables/lying", table)
    write_deltalake(folder / "tables/paced", table.drop_columns("note").append_column("n", pa.array([-5, MOST, 3, 4])))
    with closing(projects.opened(folder)) as p:
        report, _, lying, pace = p.ingest("orders", "loose", "lying", "paced")
        results = {r.group: r for r in p.materialize(end="2026-01-06")}
        lake = p.settings.lake
        bad = {
            name: delta.load(path).to_pylist() if delta.exists(path := layout.quarantine_table(lake, name)) else []
            for name in ("orders", "paced", *results)
        }
        rows = {name: len(p.read(name)) for name in results}
        codes = [(row["code"], row["before"]) for row in delta.load(p.tables("codes")["codes"]).sort_by("event_timestamp").to_pylist()]
        explained = "\n".join(map(str, output.story_lines(p.explain("codes", {"shop_id": 1}, at="2026-01-06T12:00:00Z"))))
        kept = delta.load(layout.source_table(lake, "orders")).num_rows
    return Week(report, lying, pace, codes, explained, sorted(bad.pop("orders"), key=lambda row: row["line"]), kept, results, bad, rows)


def _failed(week: Week, group: str) -> dict[str, tuple[str, ...]]:
    """The rejected intervals of a group by date, with the checks that failed."""
    return {interval.start.date().isoformat(): failed for interval, failed in week.results[group].rejected}


def test_a_row_whose_derivation_fails_is_put_aside_and_the_others_go_on(week: Week) -> None:
    assert (week.report.rows, week.report.quarantined, week.kept) == (2, 4, 2)
    assert [(row["line"], row["reason"]) for row in week.aside] == [
        (3, "code cannot be derived from note"),
        (4, "twice cannot be derived from n"),
        (5, "expected 100 / CAST(n AS INT) > 0"),
        (6, "most cannot be derived from code and twice"),
    ]


def test_a_row_in_place_whose_derivation_fails_is_not_read_and_is_no_row_before(week: Week) -> None:
    assert (week.lying.rows, week.lying.quarantined, week.lying.reasons) == (3, 1, {"code cannot be derived from note": 1})
    assert week.codes == [(1, None), (3, 1), (4, 3)]


def test_a_row_in_place_that_fails_because_of_the_row_before_is_told(week: Week) -> None:
    reason = "pace cannot be derived from n and prev.n, given the row before"
    assert (week.paced.rows, week.paced.quarantined, week.paced.reasons) == (3, 1, {reason: 1})
    ((reason_kept, column, value, n),) = [tuple(row[name] for name in ("reason", "column", "value", "n")) for row in week.bad["paced"]]
    assert (reason_kept, column, value, n) == (reason, "pace", f"n={MOST}, prev.n=-5", str(MOST))


def test_after_a_fix_of_what_is_derived_rows_come_back_though_no_file_changed(spark: object, tmp_path: Path) -> None:
    lines = ("1,-5,1,2026-01-03T10:00Z", f"1,{MOST},2,2026-01-03T11:00Z", "1,3,3,2026-01-04T10:00Z", "1,4,abc,2026-01-04T11:00Z")
    folder = projects.make(tmp_path / "p", catalog=STEPS, files={"data/steps.csv": projects.rows(*lines, header=HEADER)})
    with closing(projects.opened(folder)) as p:
        (report,) = p.ingest()
        told = {each.reason: (each.examples[0].line, each.examples[0].column, each.examples[0].value) for each in p.quarantine("steps")}
        assert (report.rows, report.quarantined) == (2, 2)
        assert told == {
            "code cannot be derived from note": (5, "code", "abc"),
            "rise cannot be derived from n and prev.n, given the row before": (3, "rise", f"n={MOST}, prev.n=-5"),
        }
    tried = STEPS.replace("CAST(note", "try_cast(note")
    projects.write(folder, "catalog/shop.py", tried)
    with closing(projects.opened(folder)) as p:
        (report,) = p.ingest()
        assert (report.rows, report.quarantined, report.dates_changed) == (3, 1, 1)
    projects.write(folder, "catalog/shop.py", tried.replace("n - prev.n", "CAST(n AS DOUBLE) - prev.n"))
    with closing(projects.opened(folder)) as p:
        (retried,) = p.retry_quarantine("steps")
        assert (retried.before.rows, retried.after.rows, p.quarantine("steps")) == (1, 0, ())


def test_explain_says_that_rows_in_place_may_be_among_the_events_that_are_put_aside(week: Week) -> None:
    assert "as they are now; 1 row of it put aside, which may be among them: `headwater quarantine lying`" in week.explained


def test_the_sql_of_a_transform_that_fails_rejects_its_interval_and_the_others_go_on(week: Week) -> None:
    ((day, (reason,)),) = _failed(week, "scores").items()
    assert day == "2026-01-05"
    assert reason.startswith("rows:computed ([CAST_INVALID_INPUT] The value 'abc'")
    assert week.results["scores"].published == 2


def test_a_function_that_fails_in_a_worker_rejects_its_interval_and_the_others_go_on(week: Week) -> None:
    assert _failed(week, "counts") == {"2026-01-05": ("rows:computed (its function failed in a worker: ValueError: abc is no note)",)}
    assert (week.results["counts"].published, week.rows["counts"]) == (2, 4)


def test_a_function_that_raises_for_an_interval_rejects_it_and_the_others_go_on(week: Week) -> None:
    assert _failed(week, "looks") == {"2026-01-05": ("rows:computed (its function raised ValueError: abc is no note)",)}
    assert (week.results["looks"].published, week.rows["looks"]) == (2, 4)


def test_a_group_that_cannot_be_computed_at_all_is_refused_alone(week: Week) -> None:
    assert week.results["broken"].refused == "group broken: its function raised KeyError: 'nothing'"
    assert [name for name, result in week.results.items() if result.refused is not None] == ["broken"]


def test_a_group_whose_rows_can_all_be_computed_is_published(week: Week) -> None:
    assert week.results["sums"].published == 2


def test_a_sum_beyond_its_type_rejects_its_interval_with_the_entity(week: Week) -> None:
    assert _failed(week, "sums") == {"2026-01-04": ("n_1d:computed", "n_2rows:computed")}
    assert [(row["shop_id"], row["failed_expectation"]) for row in week.bad["sums"]] == [(1, "n_1d:computed, n_2rows:computed")]


def test_an_event_for_which_an_expression_fails_rejects_its_interval_with_the_features(week: Week) -> None:
    assert _failed(week, "texts") == {"2026-01-05": ("big_1d:computed", "noted_1d:computed")}
    assert [row["shop_id"] for row in week.bad["texts"]] == [1]


def test_a_derived_feature_that_fails_rejects_its_interval(week: Week) -> None:
    assert _failed(week, "ratios") == {"2026-01-04": ("double_of_most:computed",)}


def test_a_condition_of_a_group_that_fails_for_a_row_rejects_its_interval(week: Week) -> None:
    assert _failed(week, "seen") == {"2026-01-05": ("where:computed",)}
    assert week.rows["seen"] == 5
