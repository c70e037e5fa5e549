"""Queries on real Spark of which an expression fails: the row is put aside, or the source alone is refused, naming expression and row."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from spark_jobs.ingest import events
from tests import projects

if TYPE_CHECKING:
    from spark_jobs.ingest.journal import IngestReport

CATALOG = """
from feature_definitions import Files, Query, Source

orders = Source("orders", Files("data/orders/*.csv"), {"order_id": "string", "shop_id": "int64", "n": "int64", "note": "string",
                "at": "timestamp"}, event_timestamp="at", timezone="UTC", id=("order_id",))
shops = Source("shops", Files("data/shops.csv"), {"shop_id": "int64", "size": "string"}, id=("shop_id",), shape="static")
codes = Source("codes", Query("SELECT at, order_id, CAST(note AS BIGINT) + n AS code FROM orders", sources=(orders,)),
               {"at": "timestamp", "order_id": "string", "code": "int64"}, event_timestamp="at", id=("order_id",),
               derive={"twice": "code * 2"})
sized = Source("sized", Query('''
    SELECT o.at, order_id, n div bigint(s.size) AS share FROM orders AS o LEFT JOIN shops AS s USING (shop_id) WHERE int(o.note) > 1
''', sources=(orders, shops), assume_always_known=True),
               {"at": "timestamp", "order_id": "string", "share": "int64"}, event_timestamp="at", id=("order_id",))
upon = Source("upon", Query("SELECT at, sum(code) AS code FROM codes GROUP BY at", sources=(codes,)),
              {"at": "timestamp", "code": "int64"}, event_timestamp="at")
totals = Source("totals", Query("SELECT at, sum(CAST(note AS BIGINT)) AS code FROM orders WHERE n > 0 GROUP BY at", sources=(orders,)),
                {"at": "timestamp", "code": "int64"}, event_timestamp="at")
sums = Source("sums", Query("SELECT max(at) AS at, sum(n) AS n FROM orders", sources=(orders,)), {"at": "timestamp", "n": "int64"},
              event_timestamp="at")
"""
MOST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Asked:
    """What an ingest of all sources said, and the rows that are read after it."""

    reports: dict[str, IngestReport]
    live: dict[str, list[dict[str, Any]]]
    aside: dict[str, list[tuple[str, str | None, str | None]]]


@pytest.fixture(scope="module")
def asked(spark: object, tmp_path_factory: pytest.TempPathFactory) -> Asked:  # the project shares the session
    folder = projects.make(tmp_path_factory.mktemp("asked") / "p", catalog=CATALOG)
    orders = ("a,1,10,7,2026-01-03T10:00Z", "b,1,-1,abc,2026-01-03T11:00Z", f"c,1,{MOST},7,2026-01-03T12:00Z", "d,2,4,8,2026-01-04T13:00Z",
              "e,3,5,1e1,2026-01-04T14:00Z", "f,4,6,,2026-01-04T15:00Z")  # fmt: skip
    projects.write(folder, "data/orders/a.csv", projects.rows(*orders, header="order_id,shop_id,n,note,at"))
    projects.write(folder, "data/shops.csv", projects.rows("1,2", "2,big", "3,1", header="shop_id,size"))
    with closing(projects.opened(folder)) as p:
        reports = {report.source: report for report in p.ingest()}
        read = {name: events.read(p.catalog.sources[name], p._context).toArrow().to_pylist() for name in ("codes", "sized", "upon")}
        aside = {
            name: [(each.reason, each.examples[0].column, each.examples[0].value) for each in p.quarantine(name)]
            for name in ("codes", "sized")
        }
    return Asked(reports, read, aside)


def test_a_row_for_which_an_expression_of_a_query_fails_is_put_aside_and_the_others_go_on(asked: Asked) -> None:
    assert {row["order_id"]: (row["code"], row["twice"]) for row in asked.live["codes"]} == {
        "a": (17, 34),
        "d": (12, 24),
        "f": (None, None),
    }
    assert (asked.reports["codes"].rows, asked.reports["codes"].quarantined, asked.reports["codes"].failed) == (3, 3, None)
    ((reason, column, value),) = asked.aside["codes"]
    assert (reason, column) == ("code cannot be computed from n and note", "code")
    assert value in {"n=-1, note=abc", f"n={MOST}, note=7", "n=5, note=1e1"}


def test_a_row_whose_condition_fails_is_put_aside_too(asked: Asked) -> None:
    assert {row["order_id"]: row["share"] for row in asked.live["sized"]} == {"a": 5, "c": MOST // 2}
    told = {reason: (column, value) for reason, column, value in asked.aside["sized"]}
    assert set(told) == {"the query's WHERE cannot be computed from o.note", "share cannot be computed from n and s.size"}
    assert told["share cannot be computed from n and s.size"] == ("share", "n=4, s.size=big")


def test_what_reads_a_query_reads_the_rows_that_it_could_compute(asked: Asked) -> None:
    assert sorted(row["code"] for row in asked.live["upon"] if row["code"] is not None) == [12, 17]


def test_a_query_of_many_rows_is_refused_alone_and_names_the_expression_and_a_row_that_it_reads(asked: Asked) -> None:
    assert str(asked.reports["totals"].failed) == (
        "source totals cannot be computed: 'CAST(note AS BIGINT)' has no value for a row of orders with note=1e1, order_id=e, "
        "at=2026-01-04 14:00:00; correct the rows, or write try_cast and the like"
    )


def test_a_query_that_stops_at_no_single_row_is_refused_in_the_words_of_spark(asked: Asked) -> None:
    assert str(asked.reports["sums"].failed).startswith("source sums cannot be computed: [ARITHMETIC_OVERFLOW")
    assert [name for name, report in asked.reports.items() if report.failed] == ["totals", "sums"]
