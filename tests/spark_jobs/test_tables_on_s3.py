"""Delta tables on S3: written in place by Spark, committed by delta-rs, read by what the log says of their files."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest
from deltalake import DeltaTable, write_deltalake

from lake import delta, delta_commits, delta_files, processes, storage
from spark_jobs import nearby, tables
from tests import s3_proxy
from tests.conftest import reached

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

    from tests import s3

ROWS = "SELECT id, DATE'2026-01-05' + CAST(id % 3 AS INT) AS date FROM range(9)"


@pytest.fixture(scope="module")
def asked(spark: SparkSession, moto: s3.Server) -> Iterator[s3_proxy.Counting]:
    """What this process and Spark ask of moto."""
    with s3_proxy.counting(moto) as proxy, reached(spark, proxy.environment):
        moto.bucket("tables")
        yield proxy


@pytest.fixture
def path(spark: SparkSession, asked: s3_proxy.Counting, request: pytest.FixtureRequest) -> str:
    """A table of three dates, made by the commit `one`."""
    path = f"s3a://tables/{request.node.name}/table"
    tables.append(spark.sql(ROWS), path, commit_id="one", partition=("date",))
    return path


def test_what_is_appended_replaced_and_overwritten_on_s3_is_read_back(spark: SparkSession, path: str) -> None:
    tables.append(spark.sql("SELECT 20L AS id, DATE'2026-01-05' AS date"), path, commit_id="two")
    tables.replace(spark.sql("SELECT 30L AS id, DATE'2026-01-06' AS date"), path, dates=[date(2026, 1, 6)], commit_id="three")
    tables.replace(spark.sql("SELECT 3L AS id, DATE'2026-01-05' AS date"), path, dates=[date(2026, 1, 5)], where="id = 3", commit_id="four")
    seen = {(row.id, row.date.day) for row in tables.read(spark, path).collect()}
    assert seen == {(0, 5), (3, 5), (6, 5), (20, 5), (30, 6), (2, 7), (5, 7), (8, 7)}
    assert sorted(delta.load(path).column("id").to_pylist()) == sorted(number for number, _ in seen)
    tables.overwrite(spark.sql("SELECT 1 AS other, DATE'2026-01-05' AS date"), path, partition=("date",), commit_id="five")
    assert [row.asDict() for row in tables.read(spark, path).collect()] == [{"other": 1, "date": date(2026, 1, 5)}]


def test_what_a_run_left_that_was_killed_is_not_seen_and_its_rerun_happens(spark: SparkSession, path: str) -> None:
    with pytest.MonkeyPatch.context() as killed:
        killed.setattr(delta_commits, "commit", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            tables.append(spark.sql("SELECT 20L AS id, DATE'2026-01-05' AS date"), path, commit_id="two")
    assert tables.read(spark, path).count() == 9
    tables.append(spark.sql("SELECT 20L AS id, DATE'2026-01-05' AS date"), path, commit_id="two")
    assert tables.read(spark, path).count() == 10


def test_one_date_is_read_without_asking_for_the_files_of_others(spark: SparkSession, path: str, asked: s3_proxy.Counting) -> None:
    asked.clear()
    assert tables.read(spark, path).where("date = DATE'2026-01-06'").select("id").count() == 3
    assert {part.key.split("date=")[1][:10] for part in asked.requests if "date=" in part.key} == {"2026-01-06"}


def rows_of(frame: DataFrame) -> list[str]:
    return sorted(map(str, frame.collect()))


def data(asked: s3_proxy.Counting) -> list[str]:
    """The files of rows that were asked for, each as often as it was."""
    return sorted(f"{one.verb} {one.key.split('date=')[1][:10]}" for one in asked.requests if "/date=" in one.key)


def test_files_of_the_dates_that_are_wanted_are_brought_once_by_one_request_each(
    spark: SparkSession, path: str, asked: s3_proxy.Counting
) -> None:
    nearby._of.cache_clear()
    asked.clear()
    for _ in range(2):
        found = tables.read(spark, path, wanted={date(2026, 1, 6)}.__contains__)
        assert sorted(row.id for row in found.collect()) == [1, 4, 7]
    assert data(asked) == ["GET 2026-01-06"]
    assert len(asked.requests) <= 2 * 5 + 1  # the log, twice


def test_what_was_written_here_is_read_here(spark: SparkSession, path: str, asked: s3_proxy.Counting) -> None:
    asked.clear()
    assert tables.read(spark, path, wanted=tables.every_date).count() == 9
    assert data(asked) == []


def test_a_copy_has_the_rows_that_spark_reads_on_s3(spark: SparkSession, path: str, asked: s3_proxy.Counting) -> None:
    typed = """SELECT id, IF(id % 2 = 0, NULL, CAST(id AS decimal(38, 9))) AS exact, CAST(id / 3 AS double) AS ratio,
        array(id, NULL) AS many, TIMESTAMP'1901-01-05 10:00:00.000001' AS at, DATE'0001-01-01' AS day,
        IF(id = 1, '', NULL) AS text, NULLIF(id > 2, id = 3) AS truth,
        IF(id = 5, NULL, DATE'2026-01-05' + CAST(id % 3 AS INT)) AS date FROM range(7)"""
    tables.overwrite(spark.sql(typed), path, partition=("date",), commit_id="typed")
    nearby._of.cache_clear()
    asked.clear()
    there = tables.read(spark, path)
    here = tables.read(spark, path, wanted=tables.every_date)
    assert len(data(asked)) == 4
    assert here.dtypes == there.dtypes
    assert rows_of(here) == rows_of(there) == rows_of(spark.sql(typed))


@pytest.mark.parametrize("limit", ["_LARGE", "_MOST"])
def test_large_files_and_too_many_are_left_on_s3(
    spark: SparkSession, path: str, asked: s3_proxy.Counting, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    nearby._of.cache_clear()
    monkeypatch.setattr(nearby, limit, 1)
    assert nearby.copied(spark, dict.fromkeys(delta_files.files(delta.opened(path)), 900)) is None
    assert tables.read(spark, path, wanted=tables.every_date).count() == 9


def test_the_copies_of_a_killed_process_are_deleted_and_those_of_a_living_one_stay(tmp_path: Path) -> None:
    me = processes.this()
    gone, alive = tmp_path / f"nearby-{me.pid}-1-x", tmp_path / f"nearby-{me.pid}-{me.started}-x"
    for folder in (gone, alive):
        folder.mkdir()
    nearby._of("test", tmp_path)
    assert (gone.exists(), alive.exists()) == (False, True)
    nearby._of.cache_clear()
    assert list(tmp_path.iterdir()) == [alive]


def test_a_server_that_is_busy_now_and_then_costs_time_alone(spark: SparkSession, path: str, asked: s3_proxy.Counting) -> None:
    asked.clear()
    asked.fault = lambda _: s3_proxy.Fault.BUSY if len(asked.requests) % 11 == 0 else None
    try:
        tables.append(spark.sql("SELECT 20L AS id, DATE'2026-01-05' AS date"), path, commit_id="two")
        assert tables.read(spark, path).count() == 10
    finally:
        asked.fault = lambda _: None


def test_staged_rows_are_read_back_from_s3(spark: SparkSession, asked: s3_proxy.Counting) -> None:
    assert tables.stage(spark.sql(ROWS), "s3a://tables/staged").count() == 9
    assert tables.stage(spark.sql("SELECT 1L AS id"), "s3a://tables/staged").count() == 1


def test_a_table_that_only_delta_itself_can_write_is_refused_on_s3(spark: SparkSession, path: str, moto: s3.Server) -> None:
    # Not through the proxy, a thread of this process: deltalake holds Python while it does this.
    past = {**(storage.options(path) or {}), "AWS_ENDPOINT_URL": moto.endpoint}
    DeltaTable(path, storage_options=past).alter.set_table_properties({"delta.enableChangeDataFeed": "true"})
    with pytest.raises(tables.Unwritable, match="may be lost"):
        tables.append(spark.sql(ROWS), path, commit_id="two")


def test_partitions_are_changed_in_one_commit_also_if_its_answer_is_lost(spark: SparkSession, path: str, asked: s3_proxy.Counting) -> None:
    lost = iter([True])
    asked.fault = lambda one: s3_proxy.Fault.UNANSWERED if one.creates and "_delta_log" in one.key and next(lost, False) else None
    try:
        tables.overwrite(spark.sql("SELECT 1L AS id, 'x' AS more"), path, commit_id="two")
    finally:
        asked.fault = lambda _: None
    table = delta.opened(path)
    assert (table.version(), table.metadata().partition_columns, delta.committed(path, "two")) == (2, [], True)
    tables.append(spark.sql("SELECT 2L AS id"), path, commit_id="three")
    assert {(row.id, row.more) for row in tables.read(spark, path).collect()} == {(1, "x"), (2, None)}


def test_a_footer_longer_than_what_is_read_at_first_is_read_whole(asked: s3_proxy.Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    path = "s3a://tables/long/table"
    write_deltalake(path, pa.table({"id": [1, 2]}), storage_options=storage.options(path))
    monkeypatch.setattr(delta_files, "_FOOTER", 16)
    actions, rows = delta_files.added(path, path)
    assert (len(actions), rows) == (1, 2)
