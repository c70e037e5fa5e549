"""Columns of files: under other names than ours, with times in text and as counts; times of 96 bits are instants; no Spark."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_definitions import Column, Files, Source
from feature_definitions.planning import fingerprint
from spark_jobs.ingest import formats, parsing
from spark_jobs.ingest.parsing import FileRefused

if TYPE_CHECKING:
    from pathlib import Path

    from feature_definitions.language import Column as Lying

COLUMNS: dict[str, str | Lying] = {
    "customer_id": Column("int64", "Customer ID"), "dotted": Column("string", "a.b"), "umlaut": Column("double", "ü"),
    "at": Column("timestamp", "At", format="%d.%m.%Y %H:%M"),
    "sent": Column("timestamp", epoch="ms"), "day": Column("date", format="%Y%m%d"),
}  # fmt: skip
GIVEN = {"Customer ID": 1, "a.b": "x", "ü": 1.5, "At": "05.01.2026 06:00", "sent": 1767592800000, "day": "20260105", "customer_id": 9}
MEANT = {
    "customer_id": 1, "dotted": "x", "umlaut": 1.5, "at": datetime(2026, 1, 5, 5, tzinfo=UTC),
    "sent": datetime(2026, 1, 5, 6, tzinfo=UTC), "day": date(2026, 1, 5),
}  # fmt: skip


def source(columns: dict[str, Any], kind: str, *, timezone: str | None = "Europe/Berlin") -> Source:
    return Source("odd", Files(f"x.{kind}", kind), columns=columns, event_timestamp="at", timezone=timezone)


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    match path.suffix:
        case ".csv":
            cells = [rows[0].keys(), *[row.values() for row in rows]]
            path.write_text("\n".join(",".join(map(str, line)) for line in cells))
        case ".jsonl":
            path.write_text("\n".join(json.dumps(row) for row in rows))
        case _:
            pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def read(path: Path, of: Source) -> list[dict[str, Any]]:
    shape = parsing.shape(of, path.suffix.removeprefix("."))
    return [row for batch in formats.read(path, shape, name=path.name) for row in batch.to_pylist()]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_columns_lie_in_files_under_their_own_names_with_times_as_the_definition_says(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path / f"x.{kind}", [GIVEN, {**GIVEN, "At": "2026-01-05"}])
    good, bad = read(path, source(COLUMNS, kind))
    assert {name: good[name] for name in MEANT} == MEANT
    assert good["_hw_reason"] is None
    assert (bad["_hw_column"], bad["_hw_value"]) == ("at", "2026-01-05")
    assert bad["_hw_reason"] == "at: '2026-01-05' is not written as \"%d.%m.%Y %H:%M\""
    assert dict(bad["_hw_raw"])["customer_id"] == "1"


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_that_has_nearly_our_name_in_a_file_is_told_with_what_to_write(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path / f"x.{kind}", [{"Customer ID": 1, "at": "2026-01-05"}])
    with pytest.raises(
        FileRefused, match=r'has no column .customer_id.\. If it is .Customer ID., write "customer_id": Column\("int64", "Cu'
    ):
        read(path, source({"customer_id": "int64", "at": "timestamp"}, kind))


def test_a_capital_letter_makes_another_column_of_a_file(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", [{"ID": 1, "id": 2, "at": "2026-01-05"}])
    columns = {"small": Column("int64", "id"), "large": Column("int64", "ID"), "at": "timestamp"}
    (row,) = read(path, source(columns, "csv"))
    assert (row["small"], row["large"]) == (2, 1)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_digits_are_no_time_and_told_how_to_say_what_they_are(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path / f"x.{kind}", [{"at": 1712011200000}])
    (row,) = read(path, source({"at": "timestamp"}, kind))
    assert row["_hw_reason"] == 'at: \'1712011200000\' is not a time like 2026-01-05T06:00:00Z; write Column("timestamp", epoch="ms")'


def test_whole_numbers_of_parquet_are_no_times_and_told_how_to_say_what_they_are(tmp_path: Path) -> None:
    path = written(tmp_path / "x.parquet", [{"at": 1712011200}])
    with pytest.raises(FileRefused, match=r'column .at. is a int64, the source says timestamp\. Write Column\("timestamp", epoch="s"\)$'):
        read(path, source({"at": "timestamp"}, "parquet"))


SIX = datetime(2026, 1, 5, 6, tzinfo=UTC)


@pytest.mark.parametrize("timezone", ["Europe/Berlin", None])
def test_times_of_96_bits_are_instants_whatever_the_sources_timezone(tmp_path: Path, timezone: str | None) -> None:
    far = datetime(9999, 12, 31, 23, 59, 59, 999_999)  # noqa: DTZ001  # as Spark writes it, in UTC
    times = pa.table({"at": pa.array([SIX.replace(tzinfo=None), far], pa.timestamp("us"))})
    pq.write_table(times, tmp_path / "x.parquet", use_deprecated_int96_timestamps=True)
    rows = read(tmp_path / "x.parquet", source({"at": "timestamp"}, "parquet", timezone=timezone))
    assert [row["at"] for row in rows] == [SIX, far.replace(tzinfo=UTC)]


def test_times_of_64_bits_say_themselves_whether_they_are_instants(tmp_path: Path) -> None:
    columns = {"at": "timestamp", "local": "timestamp"}
    given = {"at": pa.array([SIX], pa.timestamp("ms", "UTC")), "local": pa.array([SIX.replace(tzinfo=None)], pa.timestamp("ms"))}
    pq.write_table(pa.table(given), tmp_path / "x.parquet")
    (row,) = read(tmp_path / "x.parquet", source(columns, "parquet"))
    assert (row["at"], row["local"]) == (SIX, datetime(2026, 1, 5, 5, tzinfo=UTC))


def test_nanoseconds_are_cut_off_also_before_1970_and_times_of_no_year_put_aside(tmp_path: Path) -> None:
    times = {"at": pa.array([-1], pa.timestamp("ns", "UTC")), "far": pa.array([2**60], pa.timestamp("ms", "UTC"))}
    pq.write_table(pa.table(times), tmp_path / "x.parquet")
    (row,) = read(tmp_path / "x.parquet", source({"at": "timestamp"}, "parquet"))
    assert row["at"] == datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    (row,) = read(tmp_path / "x.parquet", source({"at": "timestamp", "far": "timestamp"}, "parquet"))
    assert row["_hw_reason"] == "far is not between the years 1 and 9999 in UTC"


def test_a_local_time_at_the_end_of_all_times_puts_its_row_aside_alone(tmp_path: Path) -> None:
    last = datetime(9999, 12, 31, 23, 59, 59)  # noqa: DTZ001  # naive on purpose
    pq.write_table(pa.table({"at": pa.array([last, last.replace(year=2026)], pa.timestamp("us"))}), tmp_path / "x.parquet")
    far, near = read(tmp_path / "x.parquet", source({"at": "timestamp"}, "parquet", timezone="America/New_York"))
    assert (far["_hw_reason"], near["_hw_reason"]) == ("at is not between the years 1 and 9999 in UTC", None)


def test_rows_of_frames_have_our_names_and_times_that_need_no_reading(tmp_path: Path) -> None:
    of = source({"customer_id": Column("int64", "Customer ID"), "at": Column("timestamp", epoch="ms")}, "csv")
    pq.write_table(pa.table({"customer_id": [1, 2], "at": pa.array([SIX, SIX], pa.timestamp("us", "UTC"))}), tmp_path / "x.frame")
    assert [(row["customer_id"], row["at"]) for row in read(tmp_path / "x.frame", of)] == [(1, SIX), (2, SIX)]


def test_how_a_column_lies_in_files_makes_them_others() -> None:
    plain, named = source({"at": "timestamp", "x": "int64"}, "csv"), source({"at": "timestamp", "x": Column("int64", "X")}, "csv")
    assert repr(parsing.shape(plain, "csv")) != repr(parsing.shape(named, "csv"))
    assert fingerprint.of_source(plain, "x") != fingerprint.of_source(named, "x")


def test_a_list_with_a_date_of_no_year_puts_its_row_aside(tmp_path: Path) -> None:
    lists = pa.array([[2_933_532, None], [3]], pa.list_(pa.int32())).cast(pa.list_(pa.date32()))
    pq.write_table(pa.table({"days": lists, "at": pa.array([SIX, SIX], pa.timestamp("us", "UTC"))}), tmp_path / "x.parquet")
    bad, good = read(tmp_path / "x.parquet", source({"days": "array<date>", "at": "timestamp"}, "parquet"))
    assert bad["_hw_reason"] == "days holds what is not between the years 1 and 9999"
    assert good["_hw_reason"] is None
