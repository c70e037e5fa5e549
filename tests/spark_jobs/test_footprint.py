"""Files and bytes of a table's dates, told by its log."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake import write_deltalake

from spark_jobs.footprint import footprint

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
