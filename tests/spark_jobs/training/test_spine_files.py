"""Spines in files: keys of the service's types, all else as written; what cannot be read so is refused by file, line and column."""

from __future__ import annotations

import bz2
import gzip
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_definitions import Column
from lake import delta_commits
from spark_jobs.training import spine_files
from spark_jobs.training.spine import SpineRefused
from tests import projects

if TYPE_CHECKING:
    from collections.abc import Mapping

AT = datetime(2026, 1, 5, 6, tzinfo=UTC)
TEXT = {"customer_id": "string"}


def read(
    path: Path,
    keys: Mapping[str, str] = TEXT,
    columns: Mapping[str, str | Column] | None = None,
    timezone: str | None = None,
) -> pa.Table:
    return spine_files.read(str(path), spine_files.declared(keys, columns, timezone), name=path.name)


def csv(folder: Path, *lines: str, name: str = "spine.csv") -> Path:
    return projects.write(folder, name, "\n".join((*lines, "")))


@pytest.mark.parametrize(
    ("kind", "key", "expected"),
    [
        ("string", "007", "007"),
        ("string", "2026-01-05", "2026-01-05"),
        ("string", "true", "true"),
        ("string", "NULL", "NULL"),
        ("string", "", None),
        ("int64", "007", 7),
        ("date", "2026-01-05", date(2026, 1, 5)),
        ("boolean", "true", True),
    ],
)
def test_a_key_is_of_the_services_type_whatever_it_looks_like(tmp_path: Path, kind: str, key: str, expected: object) -> None:
    path = csv(tmp_path, "customer_id,event_timestamp", f"{key},2026-01-05T06:00:00Z")
    assert read(path, {"customer_id": kind}).to_pylist() == [{"customer_id": expected, "event_timestamp": AT}]


def test_numbers_of_rows_that_have_no_name_are_left_out(tmp_path: Path) -> None:
    path = csv(tmp_path, ",customer_id,event_timestamp", "0,a,2026-01-05T06:00:00Z")
    assert read(path).to_pylist() == [{"customer_id": "a", "event_timestamp": AT}]


def test_what_the_refusal_of_a_count_says_to_write_reads_it(tmp_path: Path) -> None:
    path = csv(tmp_path, "customer_id,event_timestamp", "a,1767592800000")
    assert read(path, columns={"event_timestamp": Column("timestamp", epoch="ms")}).to_pylist() == [
        {"customer_id": "a", "event_timestamp": AT}
    ]


def test_other_columns_are_text_as_written_unless_declared(tmp_path: Path) -> None:
    path = csv(tmp_path, "event_timestamp,zip,customer_id,amount,when", "2026-01-05T06:00:00Z,00501,a,1.50,1767592800000")
    (row,) = read(path, columns={"amount": "decimal(5, 2)", "when": Column("timestamp", epoch="ms")}).to_pylist()
    assert {name: str(value) for name, value in row.items()} == {
        "event_timestamp": "2026-01-05 06:00:00+00:00",
        "zip": "00501",
        "customer_id": "a",
        "amount": "1.50",
        "when": "2026-01-05 06:00:00+00:00",
    }


LINES = "customer_id{0}event_timestamp{0}label\n007{0}2026-01-05T06:00:00Z{0}1\n"
OBJECT = b'{"customer_id": "007", "event_timestamp": "2026-01-05T06:00:00Z", "label": 1}\n'
WAYS: dict[str, bytes] = {
    "spine.csv": LINES.format(",").encode(),
    "SPINE.CSV": LINES.format(",").encode(),
    "semicolons.csv": LINES.format(";").encode(),
    "bars.txt": LINES.format("|").encode(),
    "told.csv": b"sep=;\n" + LINES.format(";").encode(),
    "tabs.tsv": LINES.format("\t").encode(),
    "marked.csv": b"\xef\xbb\xbf" + LINES.format(",").encode(),
    "wide.csv": LINES.format(",").encode("utf-16"),
    "quoted.csv": b'"customer_id","event_timestamp","label"\n"007","2026-01-05T06:00:00Z","1"\n',
    "spine.csv.gz": gzip.compress(LINES.format(",").encode()),
    "spine.tsv.bz2": bz2.compress(LINES.format("\t").encode()),
    "spine.csv.zst": pa.compress(LINES.format(",").encode(), "zstd", asbytes=True),
    "spine.jsonl": OBJECT,
    "spine.ndjson.gz": gzip.compress(OBJECT),
    "spine.json": OBJECT,
}


@pytest.mark.parametrize("name", WAYS)
def test_a_file_of_any_way_to_write_it_gives_the_same_spine(tmp_path: Path, name: str) -> None:
    found = read(projects.write(tmp_path, name, WAYS[name]))
    assert found.to_pylist() == [{"customer_id": "007", "event_timestamp": AT, "label": "1"}]


def test_a_header_alone_is_a_spine_without_rows(tmp_path: Path) -> None:
    found = read(csv(tmp_path, "customer_id,event_timestamp,label"))
    assert (found.num_rows, found.column_names) == (0, ["customer_id", "event_timestamp", "label"])


def test_every_field_of_any_json_object_is_a_column(tmp_path: Path) -> None:
    lines = ('{"customer_id": "a", "event_timestamp": "2026-01-05T06:00:00Z"}', '{"customer_id": null, "x": 1.50, "l": [1]}')
    found = read(csv(tmp_path, *lines, name="a.jsonl"), columns={"l": "array<int64>"})
    assert found.select(["customer_id", "x", "l"]).to_pylist() == [
        {"customer_id": "a", "x": None, "l": None},
        {"customer_id": None, "x": "1.50", "l": [1]},
    ]


def test_times_without_a_zone_are_of_the_zone_that_is_said(tmp_path: Path) -> None:
    path = csv(tmp_path, "customer_id,event_timestamp", "a,2026-01-05 07:00:00")
    assert read(path, timezone="Europe/Berlin").column("event_timestamp").to_pylist() == [AT]


HEAD, INT64 = "customer_id,event_timestamp", {"keys": {"customer_id": "int64"}}
REFUSED: dict[str, tuple[str, str | bytes, dict[str, Any], str]] = {
    "a key of another type": ("a.csv", f"{HEAD}\n1,2026-01-05T06:00Z\nx,", INT64, "a.csv, line 3: customer_id: 'x' is not an int64"),
    "a time without a zone": ("a.csv", f"{HEAD}\na,2026-01-05T06:00", {}, "line 2: event_timestamp: '2026-01-05T06:00' has no zone"),
    "no zone is named": ("a.csv", f"{HEAD}\na,2026-01-05T06:00", {}, "and no timezone is named: --timezone Europe/Berlin, spine_timezone="),
    "a count since 1970": (
        "a.csv",
        f"{HEAD}\na,1767592800000",
        {},
        'write spine_columns={"event_timestamp": Column("timestamp", epoch="ms")} in Python',
    ),
    "a name that is no UTF-8": ("a.csv", f"{HEAD},gr\u00f6".encode("latin-1"), {}, "it is not UTF-8 text; write it anew"),
    "no time": ("a.csv", f"{HEAD}\na,", {}, "line 2: event_timestamp is null"),
    "a field too many": ("a.csv", f"{HEAD}\na,b,c", {}, "line 2: has 3 fields, the header has 2"),
    "no key": ("a.csv", "customer,event_timestamp", {}, "has no column 'customer_id'. Its first line names: customer, event_timestamp"),
    "a delimiter of its own": ("a.csv", "customer_id~event_timestamp", {}, "has no column 'event_timestamp'. Its first line names: cust"),
    "nothing at all": ("a.csv", "", {}, "has no column 'event_timestamp'"),
    "a column twice": ("a.csv", f"{HEAD},x,x", {}, "has the column 'x' 2 times"),
    "a declared column that is not there": ("a.csv", HEAD, {"columns": {"x": "double"}}, "has no column 'x', whose type is declared"),
    "an array in text": ("a.csv", f"{HEAD},x", {"columns": {"x": "array<int64>"}}, "'x' is an array, which no text holds"),
    "no object": ("a.jsonl", "[1]", {}, "a.jsonl, line 1: not a JSON object"),
    "no JSON": ("a.jsonl", "{\n", {}, "a.jsonl, line 1: not a JSON object"),
    "a field of another type": ("a.jsonl", '{"customer_id": 7}', {}, "line 1: customer_id: '7' is not a string"),
    "a format that nobody reads": ("a.xlsx", "", {}, "the spine a.xlsx is of no format that is read"),
    "a file that is no Parquet": ("a.parquet", "customer_id", {}, "the spine a.parquet cannot be read"),
    "a file that was cut off": ("a.csv.gz", gzip.compress(HEAD.encode() * 999)[:40], {}, "the spine a.csv.gz cannot be read"),
    "no type": ("a.csv", "", {"columns": {"x": "float"}}, "has the type 'float'"),
    "no time zone": ("a.csv", "", {"timezone": "Mars"}, "has the timezone 'Mars'"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_refused_by_file_line_and_column(tmp_path: Path, kind: str) -> None:
    name, text, said, sentence = REFUSED[kind]
    path = projects.write(tmp_path, name, text)
    with pytest.raises(SpineRefused) as refused:
        read(path, **said)
    assert sentence in str(refused.value)


def test_all_rows_that_cannot_be_taken_are_counted(tmp_path: Path) -> None:
    path = csv(tmp_path, "customer_id,event_timestamp", "a,x", "b,y", "c,z")
    with pytest.raises(SpineRefused, match=r"line 2: event_timestamp: 'x' .*; 2 more rows cannot be taken"):
        read(path)


# ---------------------------------------------------------------------------------------------------------------------- Parquet


def parquet(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def test_a_folder_of_parquet_is_read_with_the_columns_that_its_folders_tell(tmp_path: Path) -> None:
    at = pa.array([AT])
    parquet(tmp_path / "customer_id=007/zip=00501/a.parquet", event_timestamp=at, n=[1])
    parquet(tmp_path / "customer_id=__HIVE_DEFAULT_PARTITION__/zip=a%2Fb/b.parquet", event_timestamp=at, n=[2])
    parquet(tmp_path / "_temporary/c.parquet", event_timestamp=at, n=[3])
    projects.write(tmp_path, "_SUCCESS", "")
    assert read(tmp_path).sort_by("n").to_pylist() == [
        {"event_timestamp": AT, "n": 1, "customer_id": "007", "zip": "00501"},
        {"event_timestamp": AT, "n": 2, "customer_id": None, "zip": "a/b"},
    ]
    assert sorted(str(value) for value in read(tmp_path, columns={"zip": "string"}).column("zip").to_pylist()) == ["00501", "a/b"]


def test_a_key_in_a_folders_name_is_of_the_services_type(tmp_path: Path) -> None:
    parquet(tmp_path / "customer_id=7/a.parquet", event_timestamp=pa.array([AT]))
    assert read(tmp_path, {"customer_id": "int64"}).column("customer_id").to_pylist() == [7]
    parquet(tmp_path / "customer_id=x/a.parquet", event_timestamp=pa.array([AT]))
    with pytest.raises(SpineRefused, match="the spine's folder customer_id=x: 'x' is not an int64"):
        read(tmp_path, {"customer_id": "int64"})


def test_times_of_parquet_and_delta_follow_the_rules_of_sources(tmp_path: Path) -> None:
    local = pa.array([datetime(2026, 1, 5, 7)], pa.timestamp("ns"))  # noqa: DTZ001  # on purpose
    naive = parquet(tmp_path / "naive.parquet", customer_id=["a"], event_timestamp=local)
    text = parquet(tmp_path / "text.parquet", customer_id=["a"], event_timestamp=["2026-01-05 06:00:00 UTC"])
    delta_commits.append_records(str(tmp_path / "delta"), pa.table({"customer_id": ["a"], "event_timestamp": pa.array([AT])}))
    for path in (naive, text, tmp_path / "delta"):
        assert read(path, timezone="Europe/Berlin").column("event_timestamp").to_pylist() == [AT]
    with pytest.raises(SpineRefused, match=r"naive.parquet: column 'event_timestamp' has times without zone"):
        read(naive)


def test_a_folder_without_data_is_named(tmp_path: Path) -> None:
    csv(tmp_path, "customer_id,event_timestamp")
    with pytest.raises(SpineRefused, match="is a folder without a Parquet file or a Delta log"):
        read(tmp_path)
