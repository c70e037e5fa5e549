"""Files are joined in a table's columns, a few at a time, or not at all."""

from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake import joined, split
from lake.joined import Unlike

SCHEMA = pa.schema({"n": pa.int64(), "day": pa.date32(), "text": pa.string()})


def written(tmp_path: Path, *tables: pa.Table, **how: object) -> list[str]:
    files = [str(tmp_path / f"{number}.parquet") for number in range(len(tables))]
    for table, file in zip(tables, files, strict=True):
        pq.write_table(table, file, **how)
    return files


def test_rows_come_in_the_tables_columns_with_their_files_date(tmp_path: Path) -> None:
    first, second = written(tmp_path, pa.table({"text": ["a", None], "n": [1, 2]}), pa.table({"more": [0.5], "n": [3]}))
    joined.join({first: "2026-01-05", second: None}, f"{tmp_path}/one", schema=SCHEMA, date="day")
    found = pq.read_table(f"{tmp_path}/one")
    assert found.schema == SCHEMA
    assert found.to_pylist() == [
        {"n": 1, "day": date(2026, 1, 5), "text": "a"},
        {"n": 2, "day": date(2026, 1, 5), "text": None},
        {"n": 3, "day": None, "text": None},
    ]


def test_few_rows_are_held_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = written(tmp_path, *[pa.table({"n": [number] * 10}) for number in range(6)])
    monkeypatch.setattr(joined, "_AT_ONCE", 100)
    joined.join(dict.fromkeys(files), f"{tmp_path}/one", schema=pa.schema({"n": pa.int64()}))
    found = pq.ParquetFile(f"{tmp_path}/one")
    assert [found.metadata.row_group(group).num_rows for group in range(found.num_row_groups)] == [20, 20, 20]
    assert found.read()["n"].to_pylist() == [number for number in range(6) for _ in range(10)]


def test_texts_lists_and_records_are_the_same_however_arrow_holds_them(tmp_path: Path) -> None:
    kind = pa.list_(pa.struct({"at": pa.timestamp("us", "UTC"), "name": pa.string()}))
    other = pa.large_list(
        pa.field("item", pa.struct([pa.field("at", pa.timestamp("us", "UTC"), nullable=False), ("name", pa.large_string())]))
    )
    events = [[{"at": datetime(2026, 1, 5, tzinfo=UTC), "name": "é"}], None]
    files = written(tmp_path, *[pa.table({"events": pa.array(events, each)}) for each in (kind, other)])
    joined.join(dict.fromkeys(files), f"{tmp_path}/one", schema=pa.schema({"events": kind}))
    assert pq.read_table(f"{tmp_path}/one")["events"].to_pylist() == events * 2


def test_times_of_old_files_are_utc(tmp_path: Path) -> None:
    at = datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    files = written(
        tmp_path, pa.table({"at": pa.array([at.replace(tzinfo=None)], pa.timestamp("us"))}), use_deprecated_int96_timestamps=True
    )
    joined.join(dict.fromkeys(files), f"{tmp_path}/one", schema=pa.schema({"at": pa.timestamp("us", "UTC")}))
    assert pq.read_table(f"{tmp_path}/one")["at"].to_pylist() == [at]


@pytest.mark.parametrize(
    "other",
    [
        pa.table({"n": pa.array([1], pa.int32())}),
        pa.table({"N": pa.array([1], pa.int64())}),
        pa.table({"n": pa.array([1], pa.timestamp("us"))}),
        pa.table({"n": [1]}).replace_schema_metadata({"org.apache.spark.legacyDateTime": ""}),
    ],
    ids=["another type", "another case", "a time without a zone", "an old calendar"],
)
def test_what_a_table_would_not_say_so_is_refused_and_leaves_nothing(tmp_path: Path, other: pa.Table) -> None:
    (file,) = written(tmp_path, other)
    with pytest.raises(Unlike):
        joined.join({file: None}, f"{tmp_path}/one", schema=SCHEMA, date="day")
    assert [path.name for path in tmp_path.iterdir()] == ["0.parquet"]


def test_a_file_of_very_many_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file,) = written(tmp_path, pa.table({"n": [1, 2, 3]}))
    monkeypatch.setattr(split, "AT_ONCE", 2)
    with pytest.raises(Unlike):
        joined.join({file: None}, f"{tmp_path}/one", schema=SCHEMA, date="day")
