"""What cannot be computed costs itself: a row whose derivation fails is put aside, an interval is rejected, naming column and entity."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from feature_definitions import layout
from lake import delta
from tests import projects

if TYPE_CHECKING:
    from spark_jobs.ingest.journal import IngestReport
    from spark_jobs.publish.materialize import GroupResult

CATALOG = """
from feature_definitions import Derived, Entity, Feature, Files, ObservationGroup, Rows, Source, WindowedGroup, expression

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
seen = ObservationGroup("seen", shop, loose, columns=("n",), ttl="9d", where="CAST(note AS BIGINT) >= 0")
"""
MOST = 2**63 - 1
HEADER = "shop_id,n,note,at"


@dataclass(frozen=True, slots=True)
class Week:
    """What an ingest and a run of all groups left."""

    report: IngestReport
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
    with closing(projects.opened(folder)) as p:
        report, _ = p.ingest("orders", "loose")
        results = {r.group: r for r in p.materialize(end="2026-01-06")}
        lake = p.settings.lake
        bad = {
            name: delta.load(path).to_pylist() if delta.exists(path := layout.quarantine_table(lake, name)) else []
            for name in ("orders", *results)
        }
        rows = {name: len(p.read(name)) for name in results}
        kept = delta.load(layout.source_table(lake, "orders")).num_rows
    return Week(report, sorted(bad.pop("orders"), key=lambda row: row["line"]), kept, results, bad, rows)


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
