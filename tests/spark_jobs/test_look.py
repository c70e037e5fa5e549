"""What can be told of a table at once: rows that a condition holds for, files and bytes of its dates."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake import write_deltalake

from spark_jobs import look
from spark_jobs.look import footprint

if TYPE_CHECKING:
    from pathlib import Path


def test_the_files_of_the_dates_are_counted_with_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "table"
    for days in ((5, 6), (6, 7)):
        rows = pa.table({"x": [1, 2], "day": [date(2026, 1, n) for n in days]})
        write_deltalake(path, rows, mode="append", partition_by=["day"])
    on_disk = [file.stat().st_size for file in path.glob("day=2026-01-06/*.parquet")]
    assert footprint(str(path), partition="day", dates={date(2026, 1, 6)}) == (2, sum(on_disk))
    assert footprint(str(path), partition="day", dates={date(2026, 1, n) for n in range(1, 31)})[0] == 4
    assert footprint(str(path), partition="day", dates=set()) == (0, 0)


def test_files_that_were_replaced_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "table"
    for _ in range(2):
        write_deltalake(path, pa.table({"x": [1], "day": [date(2026, 1, 5)]}), mode="overwrite", partition_by=["day"])
    assert footprint(str(path), partition="day", dates={date(2026, 1, 5)})[0] == 1


def test_a_table_without_that_partition_is_read_whole_and_one_that_is_not_there_not_at_all(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "plain", pa.table({"x": [1]}))
    assert footprint(str(tmp_path / "plain"), partition="day", dates={date(2026, 1, 5)})[0] == 1
    assert footprint(str(tmp_path / "none"), partition="day", dates={date(2026, 1, 5)}) == (0, 0)


def test_rows_are_found_by_conditions_in_the_types_that_python_has(tmp_path: Path) -> None:
    at = datetime(2026, 1, 5, 3, 0, 0, 1, tzinfo=UTC)
    row = {"n": 1, "text": "it's", "at": at, "day": date(2026, 1, 5), "list": ["a"], "none": None, "flag": True}
    numbers, texts, times = {"n": pa.int64(), "none": pa.float64()}, {"text": pa.string()}, {"at": pa.timestamp("us", tz="UTC")}
    kinds = pa.schema(numbers | texts | times | {"day": pa.date32(), "list": pa.list_(pa.string()), "flag": pa.bool_()})
    write_deltalake(tmp_path / "table", pa.Table.from_pylist([row, row | {"n": 2, "text": "its"}], schema=kinds))
    values = {name: look.literal(row[name]) for name in ("n", "text", "day", "flag")}
    for name, value in values.items():
        assert row in look.rows(str(tmp_path / "table"), [f"{name} = {value}"])
    assert look.rows(str(tmp_path / "table"), [f"{name} = {value}" for name, value in values.items()]) == [row]
    assert look.rows(str(tmp_path / "table"), ["n = 3"]) == []
    assert look.rows(str(tmp_path / "nowhere"), ["n = 1"]) == []
