"""Many small files are read as one, whose rows are those that Spark reads of them one by one."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import Schema
from deltalake.transaction import AddAction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from py4j.java_gateway import GatewayClient

from lake import delta, delta_commits, delta_files, joined
from spark_jobs import nearby, tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyspark.sql import DataFrame, SparkSession

TYPED = """SELECT id + {n} AS id, IF(id % 2 = 0, NULL, CAST(id AS decimal(38, 9))) AS exact, CAST(id / 4 AS decimal(9, 2)) AS short,
    CASE id WHEN 0 THEN double('NaN') WHEN 1 THEN double('-0.0') WHEN 2 THEN double('Infinity') ELSE id / 3 END AS ratio,
    array(id, NULL) AS many, array(named_struct('at', TIMESTAMP'1582-10-04 10:00:00', 'value', 'é')) AS events,
    TIMESTAMP'1901-01-05 10:00:00.000001' AS at, DATE'0001-01-01' AS day, IF(id = 1, '', NULL) AS text,
    NULLIF(id > 2, id = 3) AS truth, IF(id = 5, NULL, DATE'2026-01-05' + CAST(id % 3 AS INT)) AS date FROM range(7)"""
COLUMNS = pa.schema(
    {
        "id": pa.int64(),
        "ratio": pa.float64(),
        "exact": pa.decimal128(12, 3),
        "text": pa.string(),
        "truth": pa.bool_(),
        "at": pa.timestamp("us", "UTC"),
        "day": pa.date32(),
        "many": pa.list_(pa.float64()),
    }
)


@pytest.fixture
def path(spark: SparkSession, tmp_path: Path) -> str:
    """A table of rows of every type in seven files, and one with a column more."""
    path = str(tmp_path / "table")
    tables.append(spark.sql(TYPED.format(n=0)), path, commit_id="one", partition=("date",))
    tables.append(spark.sql(TYPED.format(n=10)).where("id < 12"), path, commit_id="two")
    tables.append(spark.sql(f"SELECT *, 1.5D AS added FROM ({TYPED.format(n=20)}) WHERE id = 26"), path, commit_id="three")
    return path


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files are many."""
    monkeypatch.setattr(nearby, "_MANY", 2)


def one_by_one(spark: SparkSession, path: str) -> DataFrame:
    with patch.object(nearby, "_MANY", 10_000):
        return tables.read(spark, path)


def rows_of(frame: DataFrame) -> list[str]:
    return sorted(map(str, frame.collect()))


def read_as(spark: SparkSession, path: str, condition: str = "true") -> list[str]:
    """The rows, which are the same in both ways."""
    alone = one_by_one(spark, path)
    with patch.object(joined, "join", wraps=joined.join) as join:
        together = tables.read(spark, path)
    assert together.dtypes == alone.dtypes
    assert together.inputFiles() != alone.inputFiles() or join.called
    found = rows_of(together.where(condition))
    assert found == rows_of(alone.where(condition))
    return found


@pytest.mark.usefixtures("few")
def test_rows_of_every_type_are_those_that_spark_reads_file_by_file(spark: SparkSession, path: str) -> None:
    assert len(read_as(spark, path)) == 10
    assert len(tables.read(spark, path).inputFiles()) == 1
    assert len(read_as(spark, path, "date IS NULL")) == 1
    assert len(read_as(spark, path, "date = DATE'2026-01-06' AND id < 10")) == 2


@pytest.mark.usefixtures("few")
def test_a_value_that_is_no_number_is_greater_than_all_whoever_wrote_it(spark: SparkSession, path: str) -> None:
    """Arrow notes the least and greatest value of a column without it, and Spark skips rows by these."""
    assert len(read_as(spark, path, "ratio > 1000 AND ratio != double('Infinity')")) == 2
    assert one_by_one(spark, path).where("ratio > 1000 AND ratio != double('Infinity')").count() == 2


@pytest.mark.usefixtures("few")
def test_files_of_other_writers_are_read_as_spark_reads_them(spark: SparkSession, path: str) -> None:
    files = sorted(delta_files.files(delta.opened(path)))
    legacy = {"spark.sql.parquet.outputTimestampType": "INT96", "spark.sql.parquet.writeLegacyFormat": "true"}
    for name, value in legacy.items():
        spark.conf.set(name, value)
    try:
        rewritten(spark, files[0])
    finally:
        spark.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
        spark.conf.unset("spark.sql.parquet.writeLegacyFormat")
    assert pq.ParquetFile(files[0]).schema.to_arrow_schema().field("at").type == pa.timestamp("ns")
    strings = pq.ParquetFile(files[1]).read()
    at = strings.schema.get_field_index("text")
    pq.write_table(strings.set_column(at, "text", strings["text"].cast(pa.large_string())), files[1])
    assert len(read_as(spark, path)) == 10


def rewritten(spark: SparkSession, file: str) -> None:
    """A file with the same rows as Spark is told to write it now."""
    spark.read.parquet(file).coalesce(1).write.parquet(f"{file}.folder")
    (new,) = Path(f"{file}.folder").glob("*.parquet")
    new.replace(file)


@pytest.mark.usefixtures("few")
def test_files_that_hold_a_column_in_another_type_are_left_to_spark(spark: SparkSession, tmp_path: Path) -> None:
    path = made(tmp_path / "table", [[{"id": 1}], [{"id": 2}]])
    (first, _) = sorted(delta_files.files(delta.opened(path)))
    pq.write_table(pa.table({"id": pa.array([7], pa.int32())}), first)
    with patch.object(joined, "join", wraps=joined.join) as join:
        assert {row.id for row in tables.read(spark, path).select("id").collect()} == {7, 2}
        assert tables.read(spark, path).count() == 2
    assert join.call_count == 1


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("limit", ["_SMALL", "_FEW_BYTES", "_MOST"])
def test_large_files_are_left_to_spark(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    path = made(tmp_path / "table", [[{"id": 1}], [{"id": 2}]])
    monkeypatch.setattr(nearby, limit, 1)
    monkeypatch.setattr(joined, "join", lambda *_, **__: pytest.fail("joined"))
    assert tables.read(spark, path).count() == 2


@pytest.mark.usefixtures("few")
def test_a_table_that_is_parted_by_no_date_is_left_to_spark(spark: SparkSession, tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    tables.append(spark.sql("SELECT id, id % 2 = 0 AS truth FROM range(4)"), path, commit_id="one", partition=("truth",))
    assert len(tables.read(spark, path).inputFiles()) == 2
    assert rows_of(tables.read(spark, path)) == rows_of(spark.read.format("delta").load(path))


@pytest.mark.usefixtures("few")
def test_the_same_files_are_joined_once_and_others_anew(spark: SparkSession, tmp_path: Path) -> None:
    path = made(tmp_path / "table", [[{"id": 1}], [{"id": 2}], [{"id": 3}]])
    with patch.object(joined, "join", wraps=joined.join) as join:
        first = tables.read(spark, path)
        assert tables.read(spark, path).count() == 3
        assert join.call_count == 1
        tables.append(spark.sql("SELECT 4L AS id, DATE'2026-01-05' AS date"), path, commit_id="more")
        assert tables.read(spark, path).count() == 4
        assert tables.read(spark, path, wanted=lambda day: day > date(2026, 1, 5)).where("date > DATE'2026-01-05'").count() == 2
        assert join.call_count == 3
    assert first.count() == 3


@pytest.mark.usefixtures("few")
def test_a_file_that_is_gone_is_spark_s_to_miss(spark: SparkSession, tmp_path: Path) -> None:
    path = made(tmp_path / "table", [[{"id": 1}], [{"id": 2}]])
    Path(min(delta_files.files(delta.opened(path)))).unlink()
    with pytest.raises(Exception, match=r"FILE_NOT_EXIST|does not exist"):
        tables.read(spark, path).collect()


def test_of_ten_times_as_many_files_spark_is_told_no_more(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables_of = [made(tmp_path / str(count), [[{"id": n}] for n in range(count)]) for count in (20, 200)]
    calls, said = list[str](), GatewayClient.send_command

    def noted(self: GatewayClient, command: str, *more: Any, **named: Any) -> Any:
        calls.append(command)
        return said(self, command, *more, **named)

    monkeypatch.setattr(GatewayClient, "send_command", noted)
    counted = []
    for path in tables_of:
        calls.clear()
        tables.read(spark, path)
        counted.append(len([call for call in calls if not call.startswith("m\n")]))  # what Python forgets is no question of ours
    assert counted[0] == counted[1] < 60


def made(path: Path, parts: Sequence[Sequence[dict[str, Any]]]) -> str:
    """A table of a file for each part, each of a date later than the one before, which lacks the columns that none of its rows has."""
    columns = COLUMNS.append(pa.field("date", pa.date32()))
    table = delta_commits.create(str(path), Schema.from_arrow(columns).to_json(), partition=("date",))
    new = []
    for number, rows in enumerate(parts):
        day = None if number == 3 else (date(2026, 1, 5) + timedelta(number)).isoformat()
        place = f"hw-run=one/date={day or '__HIVE_DEFAULT_PARTITION__'}/{number}.parquet"
        file, have = path / place, [field for field in COLUMNS if any(field.name in row for row in rows)] or [COLUMNS.field("id")]
        file.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(list(rows), schema=pa.schema(have)), file, row_group_size=2)
        new.append(AddAction(place, file.stat().st_size, {"date": day}, 0, True, json.dumps({"numRecords": len(rows)})))
    delta_commits.commit(table, days=(), old=(), new=new, commit_id="one")
    return str(path)


def some_rows() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Rows of which some have some columns."""
    values = {
        "id": st.integers(-(2**63), 2**63 - 1),
        "ratio": st.floats(),
        "exact": st.decimals(-(10**9) + 1, 10**9 - 1, places=3),
        "text": st.text(max_size=5),
        "truth": st.booleans(),
        "at": st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001  # hypothesis adds it
        "day": st.dates(),
        "many": st.lists(st.none() | st.floats(), max_size=3),
    }
    return st.lists(st.fixed_dictionaries({}, optional={name: st.none() | value for name, value in values.items()}), max_size=4)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the tables of drawn rows lie."""
    return iter(tmp_path_factory.mktemp("drawn") / str(number) for number in range(10_000))


@pytest.mark.usefixtures("few")
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(some_rows(), min_size=2, max_size=6))
def test_drawn_rows_are_the_same_in_one_file_and_in_their_own(
    spark: SparkSession, places: Iterator[Path], parts: list[list[dict[str, Any]]]
) -> None:
    path = made(next(places), parts)
    assert len(read_as(spark, path)) == sum(map(len, parts))
    some = "date > DATE'2026-01-06' AND at < TIMESTAMP'2000-01-01' AND NOT truth"
    assert rows_of(tables.read(spark, path).where(some)) == rows_of(one_by_one(spark, path).where(some))


def test_rows_that_were_parted_by_date_are_read_as_they_were_before_while_all_their_files_are_the_tables(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = str(tmp_path / "table")
    rows = "SELECT {n} + id AS id, DATE'2026-01-01' + CAST(id AS INT) AS date FROM range({days})"

    def opened() -> int:
        """How many rows there are, when those wanted were read without a file of the table; 0 when files were."""
        with patch.object(joined, "join", wraps=joined.join) as join:
            frame = tables.read(spark, path, wanted=lambda day: day > date(2026, 1, 3))
        assert rows_of(frame.where("date > DATE'2026-01-03'")) == rows_of(one_by_one(spark, path).where("date > DATE'2026-01-03'"))
        files = tables.files_here(spark, path, wanted=lambda day: day > date(2026, 1, 3)) or {}
        ids = [number for file in files for number in pq.ParquetFile(file).read(["id"])["id"].to_pylist()]
        assert sorted(set(ids) & set(range(3, 40))) == sorted(number for number in ids if 3 <= number < 40) == [*range(3, 40)]
        together = not join.called and not any(path in file for file in frame.inputFiles())
        assert together == (not any(path in file for file in files))
        return frame.count() if together else 0

    tables.append(spark.sql(rows.format(n=0, days=40)), path, commit_id="one", partition=("date",))
    assert opened() == 40
    tables.append(spark.sql(rows.format(n=100, days=2)), path, commit_id="two")
    assert opened() == 40
    tables.replace(spark.sql(rows.format(n=200, days=1)), path, dates=[date(2026, 1, 1)], commit_id="three")
    assert opened() == 0
