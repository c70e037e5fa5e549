"""What a training set asks of Spark and of its workers: how often rows are exchanged and sorted, and which files are read at all."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest

from feature_definitions import Join
from feature_definitions.intervals import DAY, micros
from lake.readable import AsOf
from spark_jobs.training import packed_files
from spark_jobs.training.join import Extent, JoinAsked, joined
from tests.benchmarks.bench_training import FIRST, Made, Shape, made

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from spark_jobs.training.packed_files import FilesRead

ASKED, DAYS = 5, 40


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Three groups of one key, of TTLs of 30, 365 and 7 days, with some rows on each day; the spine asks of the last days."""
    return made(Shape(groups=3, rows=400, spine=2_000, entities=50, asked=ASKED, days=DAYS), tmp_path_factory.mktemp("plans"))


@pytest.fixture(scope="module")
def files() -> list[str]:
    """The files of groups that workers read, once rows are asked for."""
    return []


@pytest.fixture(scope="module")
def rows(tables: Made, files: list[str], spark: SparkSession) -> Iterator[DataFrame]:
    """The rows that are asked for."""
    spine = spark.read.schema("row bigint, customer bigint, at timestamp").parquet(str(tables.spine))
    asked = [JoinAsked(Join(each.group), each, AsOf()) for each in tables.groups]
    extent = Extent(micros(FIRST + (DAYS - ASKED) * DAY), micros(FIRST + DAYS * DAY), 2_000)
    listed = packed_files.tasks

    def kept(given: Sequence[FilesRead], *, least: int) -> packed_files.Tasks:
        found = listed(given, least=least)
        files.extend(path for task in found for _, path in task)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_files, "tasks", kept)
        yield joined(spine, asked, at="at", spark=spark, extent=extent)


def test_all_groups_of_a_key_share_one_exchange_and_spark_neither_reads_nor_joins_nor_sorts_their_rows(rows: DataFrame) -> None:
    plan = rows._jdf.queryExecution().executedPlan().toString()
    found = [re.sub(r"^[\s:+\-*()\d]*", "", line).split(" ")[0] for line in plan.splitlines()]
    wanted = {"Exchange": 1, "MapInArrow": 3, "FileScan": 1, "Sort": 0, "SortMergeJoin": 0, "BroadcastHashJoin": 0}
    assert {step: found.count(step) for step in wanted} == wanted


def test_of_each_group_only_the_dates_are_read_that_the_spine_and_the_ttl_leave(tables: Made, rows: DataFrame, files: list[str]) -> None:
    assert rows.columns
    for each, ttl in zip(tables.groups, (30, 365, 7), strict=True):
        dates = {date.fromisoformat(day) for file in files for day in re.findall(rf"/{each.group.name}/.*date=([\d-]+)", file)}
        oldest = (FIRST + (DAYS - ASKED - ttl) * DAY).date()
        assert min(dates) >= oldest - timedelta(days=3), each.group.name
        assert max(dates) == (FIRST + (DAYS - 1) * DAY).date()
        assert (min(dates) > FIRST.date()) == (ttl < DAYS - ASKED - 3)
