"""Delta tables: commits that happen once, rows that are replaced exactly, and conditions that are exact to the microsecond."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, QueryBuilder, write_deltalake
from pyspark.sql.types import StructType

from feature_definitions.intervals import MICROSECOND, Interval
from lake import delta, delta_commits, delta_files, logs, optimize, split, storage
from spark_jobs import tables

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture
def path(spark: SparkSession, tmp_path: Path) -> str:
    """A table of two dates, made by the commit `one`."""
    path = str(tmp_path / "table")
    tables.append(
        spark.sql("SELECT id, DATE'2026-01-05' + CAST(id % 2 AS INT) AS date FROM range(6)"), path, commit_id="one", partition=("date",)
    )
    return path


def ids(path: str) -> list[int]:
    return sorted(delta.load(path).column("id").to_pylist())


def test_a_commit_is_found_by_its_id_and_happens_once(spark: SparkSession, path: str) -> None:
    assert delta.committed(path, "one")
    assert not delta.committed(path, "two")
    assert not delta.committed(f"{path}/nowhere", "one")
    tables.append(spark.sql("SELECT 7L AS id, DATE'2026-01-05' AS date"), path, commit_id="one", partition=("date",))
    assert ids(path) == [0, 1, 2, 3, 4, 5]
    version, at = logs.commit_of(path, "one")
    assert version == 1
    assert at.tzinfo is not None


def test_replacing_touches_only_the_rows_that_the_condition_names(spark: SparkSession, path: str) -> None:
    tables.replace(spark.sql("SELECT 9L AS id, DATE'2026-01-06' AS date"), path, where="date = DATE'2026-01-06'", commit_id="two")
    assert ids(path) == [0, 2, 4, 9]
    assert logs.commit_of(path, "two")[0] == 2


def replaced(spark: SparkSession, path: str, sql: str, **changed: Any) -> None:
    tables.replace(spark.sql(sql), path, **{"dates": [date(2026, 1, 6)], "commit_id": "two"} | changed)


def test_the_rows_of_dates_are_replaced_in_one_commit_that_happens_once(spark: SparkSession, path: str) -> None:
    replaced(spark, path, "SELECT 9L AS id, DATE'2026-01-06' AS date")
    replaced(spark, path, "SELECT 8L AS id, DATE'2026-01-06' AS date")
    assert ids(path) == [0, 2, 4, 9]
    assert logs.commit_of(path, "two")[0] == 2
    assert sorted(row.id for row in spark.read.format("delta").load(path).collect()) == [0, 2, 4, 9]


def test_of_dates_only_rows_of_a_condition_are_replaced(spark: SparkSession, path: str) -> None:
    replaced(spark, path, "SELECT 9L AS id, DATE'2026-01-06' AS date", where="id IN (1, 9)")
    assert ids(path) == [0, 2, 3, 4, 5, 9]
    replaced(spark, path, "SELECT 9L AS id, DATE'2026-01-06' AS date WHERE false", where="id > 4", commit_id="three")
    assert ids(path) == [0, 2, 3, 4]


def test_rows_that_do_not_fulfil_the_condition_are_refused(spark: SparkSession, path: str) -> None:
    with pytest.raises(Exception, match="there are rows for which not: id > 4"):
        replaced(spark, path, "SELECT 3L AS id, DATE'2026-01-06' AS date", where="id > 4")
    assert ids(path) == [0, 1, 2, 3, 4, 5]


def test_dates_are_replaced_by_nothing_and_new_ones_come(spark: SparkSession, path: str) -> None:
    replaced(spark, path, "SELECT 7L AS id, DATE'2026-01-09' AS date", dates=[date(2026, 1, 5), date(2026, 1, 9)])
    assert ids(path) == [1, 3, 5, 7]
    replaced(spark, path, "SELECT 7L AS id, DATE'2026-01-09' AS date WHERE false", dates=[date(2026, 1, 7)], commit_id="three")
    assert ids(path) == [1, 3, 5, 7]
    assert delta.committed(path, "three")


def test_replaced_rows_come_in_the_tables_types_and_columns(spark: SparkSession, path: str) -> None:
    tables.add_columns(spark, path, [("price", "decimal(10,2)"), ("name", "string")])
    replaced(spark, path, "SELECT 'x' AS name, 9 AS id, DATE'2026-01-06' AS date")
    assert delta.load(path).filter(pc.field("id") == 9).to_pylist() == [{"id": 9, "date": date(2026, 1, 6), "price": None, "name": "x"}]
    with pytest.raises(ValueError, match=r"has no columns \['colour'\]"):
        replaced(spark, path, "SELECT 1L AS id, 'red' AS colour, DATE'2026-01-06' AS date", commit_id="three")


def test_rows_of_other_dates_than_are_replaced_are_refused(spark: SparkSession, path: str) -> None:
    with pytest.raises(ValueError, match=r"rows of .*2026-01-05.* are not of the dates that are replaced"):
        replaced(spark, path, "SELECT 9L AS id, DATE'2026-01-05' AS date")
    assert ids(path) == [0, 1, 2, 3, 4, 5]


def test_a_commit_to_another_date_does_not_disturb_and_one_to_the_same_date_does(spark: SparkSession, path: str) -> None:
    def meanwhile(day: int) -> delta_commits.Fence:
        rows = [pa.table({"id": [100 + day], "date": [date(2026, 1, day)]})]
        return lambda: write_deltalake(path, rows.pop(), mode="append") if rows else None

    replaced(spark, path, "SELECT 9L AS id, DATE'2026-01-06' AS date", fence=meanwhile(5))
    assert ids(path) == [0, 2, 4, 9, 105]
    with pytest.raises(delta_commits.CommitConflict, match="nothing was changed: run the same command again"):
        replaced(spark, path, "SELECT 10L AS id, DATE'2026-01-06' AS date", commit_id="three", fence=meanwhile(6))
    assert ids(path) == [0, 2, 4, 9, 105, 106]


def test_a_table_with_what_only_delta_understands_is_replaced_by_it(spark: SparkSession, path: str) -> None:
    spark.sql(f"ALTER TABLE delta.`{path}` ADD CONSTRAINT few CHECK (id < 10)")
    replaced(spark, path, "SELECT 9L AS id, DATE'2026-01-06' AS date")
    assert ids(path) == [0, 2, 4, 9]
    with pytest.raises(Exception, match="CHECK constraint few"):
        replaced(spark, path, "SELECT 10L AS id, DATE'2026-01-06' AS date", commit_id="three")


def test_files_are_skipped_by_what_the_log_says_of_them(spark: SparkSession, path: str) -> None:
    sql = """SELECT id, TIMESTAMP'2026-01-06 10:00:00.000001' AS at, CAST(id AS double) AS ratio, repeat('x', id * 20) AS name,
        NULLIF(id, 2) AS some, array(id) AS many, DATE'2026-01-06' AS date FROM range(1, 3)"""
    tables.add_columns(spark, path, [(n, t) for n, t in spark.sql(sql).dtypes if n not in ("id", "date")])
    replaced(spark, path, sql)
    (found,) = [one for one in pa.table(DeltaTable(path).get_add_actions()).to_pylist() if one["partition"]["date"] == date(2026, 1, 6)]
    at = datetime(2026, 1, 6, 10, microsecond=1, tzinfo=UTC)
    assert found["num_records"] == 2
    assert {n: v for n, v in found["min"].items() if v is not None} == {"id": 1, "at": at, "some": 1}
    assert {n: v for n, v in found["max"].items() if v is not None} == {"id": 2, "at": at, "some": 1}
    assert {n: v for n, v in found["null_count"].items() if v is not None} == {"id": 0, "at": 0, "ratio": 0, "name": 0, "some": 1}
    assert spark.read.format("delta").load(path).where("at >= TIMESTAMP'2026-01-06 10:00:00.000001' AND id = 2").count() == 1


# ------------------------------------------------------------------------------------------------------------ files of a run


def test_files_are_written_where_they_stay_and_unseen_until_the_commit(spark: SparkSession, path: str) -> None:
    before, seen = {file.path for file in storage.files(path, suffix=".parquet")}, list[set[str]]()

    def look() -> None:
        assert ids(path) == [0, 1, 2, 3, 4, 5]
        seen.append({file.path for file in storage.files(path, suffix=".parquet")} - before)

    replaced(spark, path, "SELECT 9L AS id, DATE'2026-01-06' AS date", fence=look)
    (new,) = seen
    assert {file.rpartition("/")[0] for file in new} == {f"{path}/hw-run=two/date=2026-01-06"}
    assert new <= set(delta_files.files(DeltaTable(path)))
    assert ids(path) == [0, 2, 4, 9]


def test_a_rerun_of_a_run_that_was_cut_off_begins_with_a_clean_folder(spark: SparkSession, path: str) -> None:
    def killed() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replaced(spark, path, "SELECT 8L AS id, DATE'2026-01-06' AS date", fence=killed)
    assert ids(path) == [0, 1, 2, 3, 4, 5]
    replaced(spark, path, "SELECT 9L AS id, DATE'2026-01-06' AS date")
    assert ids(path) == [0, 2, 4, 9]
    assert len(storage.files(f"{path}/hw-run=two", suffix=".parquet")) == 1


def test_files_that_hold_other_rows_than_were_computed_are_not_committed(spark: SparkSession, path: str) -> None:
    with patch.object(storage, "files", return_value=[]), pytest.raises(RuntimeError, match="1 rows were computed, but 0 written"):
        replaced(spark, path, "SELECT 9L AS id, DATE'2026-01-06' AS date")
    assert ids(path) == [0, 1, 2, 3, 4, 5]


def test_files_of_workers_become_the_whole_table_without_those_that_nobody_names(spark: SparkSession, path: str) -> None:
    rows = pa.table({"n": [1, 2], "date": [date(2026, 1, 6), date(2026, 1, 7)]})
    with tables.run_folder(spark, path, "two") as folder:
        written = split.parted(rows, folder, date="date", name="part-1.parquet")
        split.parted(rows.slice(1), folder, date="date", name="part-0.parquet")
        assert ids(path) == [0, 1, 2, 3, 4, 5]
        files = tables.RunFiles(folder, written, StructType.fromDDL("n bigint, date date"))
        for _ in range(2):
            tables.overwrite_by(files, path, commit_id="two", partition=["date"], spark=spark)
    assert sorted(delta.load(path).to_pylist(), key=str) == rows.to_pylist()
    assert len(storage.files(folder, suffix=".parquet")) == 2


@pytest.mark.parametrize("there", [True, False])
def test_files_of_workers_that_nobody_commits_are_gone_with_their_folder(spark: SparkSession, path: str, there: bool) -> None:
    place, before = (path if there else f"{path}2"), ids(path)
    with pytest.raises(KeyboardInterrupt), tables.run_folder(spark, place, "two") as folder:
        split.parted(pa.table({"date": [date(2026, 1, 6)]}), folder, date="date", name="part-0.parquet")
        raise KeyboardInterrupt
    assert (ids(path), Path(folder).exists(), Path(place).exists()) == (before, False, there)


def test_files_of_workers_that_hold_other_rows_than_these_said_are_refused(spark: SparkSession, path: str) -> None:
    with tables.run_folder(spark, path, "two") as folder:
        (file,) = split.parted(pa.table({"n": [1], "date": [date(2026, 1, 6)]}), folder, date="date", name="part-0.parquet")
        files = tables.RunFiles(folder, {file: 2}, StructType.fromDDL("n bigint, date date"))
        with pytest.raises(RuntimeError, match="2 rows were computed, but 1 written; nothing was changed"):
            tables.overwrite_by(files, path, commit_id="two", partition=["date"], spark=spark)
    assert ids(path) == [0, 1, 2, 3, 4, 5]


def test_every_reader_reads_files_of_runs_and_joined_ones_side_by_side(spark: SparkSession, path: str) -> None:
    def read() -> list[list[tuple[int, date]]]:
        arrow = delta.load(path).select(["id", "date"])
        rust = pa.table(QueryBuilder().register("t", DeltaTable(path)).execute("SELECT id, date FROM t").read_all())
        frames = (tables.read(spark, path), spark.read.format("delta").load(path))
        found = [[tuple(row) for row in frame.select("id", "date").collect()] for frame in frames]
        found += [[(row["id"], row["date"]) for row in table.to_pylist()] for table in (arrow, rust)]
        return [sorted(each) for each in [*found, duckdb.from_arrow(arrow).fetchall()]]

    tables.append(spark.sql("SELECT id, DATE'2026-01-06' AS date FROM range(10, 13)"), path, commit_id="two")
    done = optimize.optimize(path)
    assert done.files_after < done.files_before
    replaced(spark, path, "SELECT 9L AS id, DATE'2026-01-05' AS date", dates=[date(2026, 1, 5)], commit_id="three")
    expected = sorted([(9, date(2026, 1, 5)), *[(n, date(2026, 1, 6)) for n in (1, 3, 5, 10, 11, 12)]])
    assert read() == [expected] * 5


def test_a_table_begins_without_rows_so_that_its_first_ones_are_fenced_too(spark: SparkSession, tmp_path: Path) -> None:
    path, frame = str(tmp_path / "new"), spark.sql("SELECT 1L AS id")

    def lost() -> None:
        raise PermissionError

    with pytest.raises(PermissionError):
        tables.append(frame, path, commit_id="one", fence=lost)
    assert ids(path) == []
    tables.append(frame, path, commit_id="one")
    assert ids(path) == [1]


def test_a_date_that_is_null_is_read_and_replaced_like_any_other(spark: SparkSession, path: str) -> None:
    tables.append(spark.sql("SELECT 9L AS id, CAST(NULL AS date) AS date"), path, commit_id="two")
    for frame in (tables.read(spark, path), spark.read.format("delta").load(path)):
        assert {row.id for row in frame.where("date IS NULL").collect()} == {9}
    replaced(spark, path, "SELECT 8L AS id, DATE'2026-01-06' AS date", commit_id="three")
    assert ids(path) == [0, 2, 4, 8, 9]
    replaced(spark, path, "SELECT 7L AS id, DATE'2026-01-06' AS date", dates=None, commit_id="four")
    assert ids(path) == [7]


def test_a_column_is_added_to_old_rows_as_null(spark: SparkSession, path: str) -> None:
    tables.add_columns(spark, path, [("id", "bigint"), ("price", "decimal(10,2)")])
    tables.add_columns(spark, path, [("price", "decimal(10,2)")])
    tables.append(
        spark.sql("SELECT 9L AS id, DATE'2026-01-06' AS date, CAST(1.5 AS decimal(10,2)) AS price"),
        path,
        commit_id="two",
        partition=("date",),
    )
    assert delta.load(path).column("price").drop_null().to_pylist() == [Decimal("1.50")]


def test_a_whole_table_is_overwritten_with_its_columns(spark: SparkSession, path: str) -> None:
    tables.overwrite(spark.sql("SELECT 'x' AS name"), path, commit_id="two")
    assert delta.load(path).to_pylist() == [{"name": "x"}]


def test_the_partitions_of_a_table_are_changed_with_its_rows(spark: SparkSession, path: str) -> None:
    before = delta.table_id(path)
    for number, partition in enumerate(((), ("id",), ("date",))):
        rows = spark.sql(f"SELECT {number}L AS id, DATE'2026-01-05' AS date UNION ALL SELECT NULL, NULL")
        tables.overwrite(rows, path, partition=partition, commit_id=f"to {number}")
        tables.overwrite(spark.sql("SELECT 'happens once' AS x"), path, commit_id=f"to {number}")
        assert DeltaTable(path).metadata().partition_columns == list(partition)
        for frame in (tables.read(spark, path), spark.read.format("delta").load(path)):
            assert {(row.id, row.date) for row in frame.collect()} == {(number, date(2026, 1, 5)), (None, None)}
    assert delta.table_id(path) == before
    assert {row["id"] for row in delta.rows(path, ["true"])} == {2, None}
    assert logs.commit_of(path, "to 2")[0] == 4
    with pytest.raises(PermissionError):
        tables.overwrite(spark.sql("SELECT 1 AS y"), path, commit_id="lost", fence=lambda: (_ for _ in ()).throw(PermissionError()))


def test_a_table_is_read_wherever_it_lies_and_without_rows(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "a lake [1] {2}, ü#?" / "table")
    tables.append(spark.sql("SELECT 1L AS id, DATE'2026-01-05' AS date, 'x' AS name"), path, commit_id="one", partition=("date",))
    found = tables.read(spark, path)
    assert found.dtypes == [("id", "bigint"), ("date", "date"), ("name", "string")]
    assert [tuple(row) for row in found.collect()] == [(1, date(2026, 1, 5), "x")]
    tables.replace(found.where("false"), path, where="date = DATE'2026-01-05'", commit_id="two")
    assert tables.read(spark, path).dtypes == found.dtypes
    assert tables.read(spark, path).count() == 0
    assert delta_files.readable(path, 0)


def test_what_only_deltas_reader_understands_is_left_to_it(spark: SparkSession, path: str) -> None:
    spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES ('delta.enableDeletionVectors' = true)")
    spark.sql(f"DELETE FROM delta.`{path}` WHERE id = 2")
    assert sorted(row.id for row in tables.read(spark, path).collect()) == [0, 1, 3, 4, 5]


def test_staged_rows_are_read_back_as_they_are(spark: SparkSession, tmp_path: Path) -> None:
    frame = spark.sql("SELECT 1L AS a, CAST(NULL AS STRING) AS b WHERE false")
    assert tables.stage(frame, str(tmp_path / "nothing")).dtypes == frame.dtypes
    drawn = tables.stage(spark.sql("SELECT rand() AS r"), str(tmp_path / "one"))
    assert drawn.collect() == drawn.collect()


def test_many_rows_are_staged_and_parted_by_workers_as_few_are_by_spark(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = "id, CAST(id AS decimal(38,18)) AS d, array(id, NULL) AS l, timestamp_micros(id) AS t, IF(id = 7, double('NaN'), id) AS x"
    rows = spark.sql(f"SELECT {values}, IF(id = 9, NULL, date_add(DATE'2026-01-05', CAST(id % 3 AS int))) AS date FROM range(0, 20, 1, 3)")
    found = []
    for number, size in enumerate((64_000_000, -1)):
        monkeypatch.setattr(tables, "_SOME_BYTES", size)
        monkeypatch.setattr(tables, "_FEW_BYTES", size)
        path = str(tmp_path / str(number))
        kept = tables.stage(rows, f"{path}/staged")
        nothing = tables.stage(rows.where("id < 0"), f"{path}/nothing")
        tables.append(kept, f"{path}/table", commit_id="one", partition=("date",))
        tables.append(nothing, f"{path}/table", commit_id="two", partition=("date",))
        nan = tables.read(spark, f"{path}/table").where("x > 100").count()
        again = [frame.orderBy("id").toArrow().to_pylist() for frame in (kept, nothing, tables.read(spark, f"{path}/table"))]
        actions = pa.table(DeltaTable(f"{path}/table").get_add_actions()).to_pylist()
        log = sorted((str(action["partition"]), action["num_records"]) for action in actions)
        found.append(repr((kept.dtypes, nan, again, log)))
    assert found[0] == found[1]


def test_records_are_appended_without_spark(tmp_path: Path) -> None:
    path = str(tmp_path / "records")
    assert not delta.exists(path)
    for n in (1, 2):
        delta_commits.append_records(path, pa.table({"n": [n]}))
    assert delta.exists(path)
    assert sorted(delta.load(path).column("n").to_pylist()) == [1, 2]


def test_records_get_columns_that_those_before_do_not_have(tmp_path: Path) -> None:
    path = str(tmp_path / "records")
    for row in ({"n": [1]}, {"n": [2], "more": ["x"]}):
        delta_commits.append_records(path, pa.table(row))
    rows = {(row["n"], row["more"]) for row in delta.load(path).to_pylist()}
    assert rows == {(1, None), (2, "x")}


def test_spans_are_open_on_one_side_to_the_microsecond(spark: SparkSession) -> None:
    spans = [Interval(NOON, NOON + timedelta(hours=1)), Interval(NOON + timedelta(hours=2), NOON + timedelta(hours=3))]
    times = [at + beside for span in spans for at in (span.start, span.end) for beside in (-MICROSECOND, timedelta(0), MICROSECOND)]
    frame = spark.createDataFrame(pa.table({"at": pa.array(times, pa.timestamp("us", tz="UTC"))}))
    for after_start in (True, False):
        found = frame.where(tables.within("at", spans, after_start=after_start)).toArrow().column("at").to_pylist()
        inside = [at for at in times if any((s.start < at <= s.end) if after_start else (s.start <= at < s.end) for s in spans)]
        assert found == inside


def test_no_spans_and_no_dates_hold_for_nothing(spark: SparkSession) -> None:
    assert tables.within("at", [], after_start=True) == "false"
    assert tables.in_dates("date", []) == "false"
    assert tables.in_dates("d", [date(2026, 1, 6), date(2026, 1, 5), date(2026, 1, 6)]) == "`d` IN (DATE'2026-01-05', DATE'2026-01-06')"


@pytest.mark.parametrize("at", [NOON + MICROSECOND, datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)])
def test_an_instant_is_written_exactly(spark: SparkSession, at: datetime) -> None:
    assert spark.sql(f"SELECT {tables.timestamp(at)} AS at").toArrow().column("at").to_pylist() == [at]


def test_a_hash_of_a_row_tells_nulls_apart(spark: SparkSession) -> None:
    frame = spark.sql("SELECT * FROM VALUES (1, NULL), (NULL, 1), (NULL, NULL), (1, 1) AS t(a, b)")
    assert frame.select(tables.fingerprint_of(["a", "b"]).alias("h")).distinct().count() == 4
