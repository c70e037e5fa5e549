"""What the log of a table says of its files: rows, bytes and dates."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake import DeltaTable, TableFeatures, write_deltalake

from feature_definitions.intervals import Interval
from lake import delta_files
from lake.delta_files import footprint

if TYPE_CHECKING:
    pass


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


def test_the_rows_of_dates_are_counted_by_the_log(tmp_path: Path) -> None:
    days = [date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 2), date(2026, 1, 3)]
    write_deltalake(tmp_path / "dated", pa.table({"date": pa.array(days, pa.date32()), "n": range(4)}), partition_by=["date"])
    write_deltalake(tmp_path / "plain", pa.table({"n": range(4)}))
    asked = [(None, None), (date(2026, 1, 2), None), (None, date(2026, 1, 1)), (date(2026, 1, 4), None)]
    assert [delta_files.rows_in(str(tmp_path / "dated"), first=first, last=last) for first, last in asked] == [4, 3, 1, 0]
    assert [delta_files.rows_in(str(tmp_path / name), first=days[1], last=days[1]) for name in ("plain", "none")] == [4, 0]
    whole, part, none = (
        delta_files.bytes_in(str(tmp_path / name), wanted=lambda day: day == days[1]) for name in ("plain", "dated", "none")
    )
    assert whole > part > none == 0
    assert sum(each.stat().st_size for each in (tmp_path / "dated").glob("*/*.parquet")) > part


def events(*hours: int | None, zone: str | None = "UTC") -> pa.Table:
    """Rows at these hours of January, null among them."""
    at = [None if hour is None else datetime(2026, 1, 1 + hour // 24, hour % 24) for hour in hours]  # noqa: DTZ001  # the type has the zone
    return pa.table({"x": pa.array(range(len(at)), pa.int64()), "at": pa.array(at, pa.timestamp("us", zone))})


def day(n: int) -> Interval:
    return Interval(datetime(2026, 1, n, tzinfo=UTC), datetime(2026, 1, n + 1, tzinfo=UTC))


def test_the_log_says_in_which_dates_two_versions_differ(tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    for hours in ((0, 23), (25, None), (72,)):
        write_deltalake(path, events(*hours), mode="append")
    DeltaTable(path).delete("at = arrow_cast('2026-01-01T23:00:00', 'Timestamp(Microsecond, Some(\"UTC\"))')")
    assert delta_files.times_changed(path, since=2, version=2, time="at") == ()
    assert delta_files.times_changed(path, since=1, version=2, time="at") == (day(4),)
    assert delta_files.times_changed(path, since=0, version=2, time="at") == (day(2), day(4))
    assert delta_files.times_changed(path, since=2, version=3, time="at") == (day(1),)


@pytest.mark.parametrize("rows", [events(None), events(1, zone=None)])
def test_a_file_without_times_or_with_local_ones_may_hold_any_date(tmp_path: Path, rows: pa.Table) -> None:
    write_deltalake(str(tmp_path), rows)
    write_deltalake(str(tmp_path), rows, mode="append")
    assert delta_files.times_changed(str(tmp_path), since=0, version=1, time="at") is None


def test_where_rows_are_deleted_without_new_files_the_log_does_not_tell(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path), events(1), configuration={"delta.enableDeletionVectors": "true"})
    write_deltalake(str(tmp_path), events(2), mode="append")
    DeltaTable(str(tmp_path)).alter.add_feature(TableFeatures.DeletionVectors, allow_protocol_versions_increase=True)
    assert delta_files.times_changed(str(tmp_path), since=0, version=DeltaTable(str(tmp_path)).version(), time="at") is None


def test_the_files_of_a_table_without_partitions_are_counted_by_their_times(tmp_path: Path) -> None:
    path = str(tmp_path)
    for hours in ((0, 30), (50,), (None,)):
        write_deltalake(path, events(*hours), mode="append")
    by_day = {n: delta_files.files_of(path, version=2, time="at", dates={date(2026, 1, n)})[0] for n in (1, 2, 3, 4)}
    assert by_day == {1: 2, 2: 2, 3: 2, 4: 1}
    assert delta_files.files_of(path, version=1, time=None, dates={date(2026, 1, 4)})[0] == 2
    assert delta_files.files_of(path, version=2, time=None, dates=set())[1] == sum(
        file.stat().st_size for file in tmp_path.glob("*.parquet")
    )
