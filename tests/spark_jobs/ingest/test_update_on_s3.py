"""An ingest into a lake on S3 asks for the files of those dates alone that may be touched by what came."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests import projects
from tests.conftest import reached
from tests.s3_proxy import Counting, counting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession

    import headwater as hw
    from tests.s3 import Server

CATALOG = """
from feature_definitions import Files, Source

payments = Source("payments", Files("data/*.csv"), columns={"payment_id": "int64", "amount": "int64", "at": "timestamp"},
                  timezone="UTC", event_timestamp="at", id=("payment_id",))
"""
HEADER = "payment_id,amount,at\n"


@pytest.fixture(scope="module")
def proxy(moto: Server, spark: SparkSession) -> Iterator[Counting]:
    """The proxy, by which everything reaches S3."""
    with counting(moto) as made, reached(spark, made.environment):
        moto.bucket("updates")
        yield made


@pytest.fixture(scope="module")
def project(proxy: Counting, tmp_path_factory: pytest.TempPathFactory) -> Iterator[hw.Project]:
    """Five days of payments, of which each day has ids of its own."""
    folder = projects.make(tmp_path_factory.mktemp("updates"), catalog=CATALOG)
    projects.write(folder, "headwater.toml", '[project]\nname = "shop"\nlake = "s3a://updates/lake"\n')
    bring(folder, "first", [(day, day * 10 + n) for day in range(1, 6) for n in range(3)])
    with projects.opened(folder) as p:
        p.ingest("payments")
        yield p


def bring(folder: Path, name: str, rows: list[tuple[int, int]], *, amount: int = 1) -> None:
    """A file of payments, each a day of January 2026 and an id."""
    lines = [f"{number},{amount},2026-01-{day:02}T09:00:00Z\n" for day, number in rows]
    projects.write(folder, f"data/{name}.csv", HEADER + "".join(lines))


def ingested(project: hw.Project, proxy: Counting, spark: SparkSession) -> tuple[set[int], set[int]]:
    """The days of January of whose files any bytes were asked for by an ingest, and those that it revised."""
    before = len(project._registry.revisions("payments"))
    proxy.clear()
    (report,) = project.ingest("payments")
    assert report.failed is None
    asked = [re.search(r"_hw_date=2026-01-(\d\d)/.*\.parquet$", r.key) for r in proxy.requests if r.verb == "GET" and "/sources/" in r.key]
    revised = project._registry.revisions("payments")[before:]
    return {int(found[1]) for found in asked if found}, {each.date.day for each in revised}


def test_a_file_of_a_new_day_reads_no_file_of_days_before(project: hw.Project, proxy: Counting, spark: SparkSession) -> None:
    bring(project.settings.root, "second", [(6, 60), (6, 61)])
    assert ingested(project, proxy, spark) == (set(), {6})


def test_a_correction_of_an_id_finds_the_day_where_it_was_and_reads_no_other(
    project: hw.Project, proxy: Counting, spark: SparkSession
) -> None:
    bring(project.settings.root, "third", [(4, 21)], amount=5)
    asked, revised = ingested(project, proxy, spark)
    assert revised == {2, 4}
    assert asked <= {2, 4}
