"""A training set as one file: its rows in the spine's order and in their types, there whole or not at all."""

from __future__ import annotations

import csv
import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from feature_definitions import layout
from lake import delta_commits, storage, training_sets
from spark_jobs.training import export
from spark_jobs.training.export import ExportRefused

if TYPE_CHECKING:
    from lake.training_sets import BuiltVersion

ROWS = 10
NAMES = ["", "ünï", "a,b", 'say "x"', "two\nlines"]


def table() -> pa.Table:
    places = [(7 * n + 3) % ROWS for n in range(ROWS)]
    return pa.table({
        "name": [None if n == 4 else NAMES[n % 5] for n in places],
        "at": pa.array([datetime(2026, 1, 1 + n, 9, 0, 0, 5, tzinfo=UTC) for n in places], pa.timestamp("us", tz="UTC")),
        "pages": pa.array([None if n == 5 else ["a", None] for n in places], pa.list_(pa.string())),
        "count": pa.array([None if n == 6 else 2**60 + n for n in places], pa.int64()),
        layout.ROW_NUMBER: pa.array(places, pa.int64()),
        layout.ROW_DATE: [date(2026, 1, 1) for _ in places],
    })  # fmt: skip


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def version(lake: str) -> BuiltVersion:
    """A training set whose files hold their rows in no order."""
    path = layout.training_set_table(lake, "churn")
    training_sets.begin({"name": "churn", "rows": ROWS}, lake, "churn", build_id="one")
    delta_commits.replace_records(path, table(), commit_id="one", fence=lambda: None)
    training_sets.finish({"name": "churn", "rows": ROWS}, lake, "churn", build_id="one")
    return training_sets.at(lake, "churn")


@pytest.mark.parametrize("at_once", [3, 1000])
@pytest.mark.parametrize(("kind", "read"), [("parquet", pq.read_table), ("arrow", feather.read_table)])
def test_a_file_has_all_rows_in_order_and_in_their_types(
    kind: str, read: object, at_once: int, version: BuiltVersion, lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_AT_ONCE", at_once)
    to = str(tmp_path / "churn")
    done = export.export(version, lake, to, kind=kind)  # type: ignore[arg-type]  # it is a format
    found = read(to)  # type: ignore[operator]  # it reads a file
    assert found.equals(table().sort_by(layout.ROW_NUMBER))
    assert (done.rows, done.version, done.format, done.bytes) == (ROWS, version.version, kind, (tmp_path / "churn").stat().st_size)


def test_csv_tells_nothing_from_an_empty_text_and_what_is_nested_is_json(version: BuiltVersion, lake: str, tmp_path: Path) -> None:
    export.export(version, lake, str(tmp_path / "churn.csv"), kind="csv")
    text = (tmp_path / "churn.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines(keepends=True)))
    assert [row["hw_row"] for row in rows] == [str(n) for n in range(ROWS)]
    assert [row["name"] for row in rows][:5] == ["", "ünï", "a,b", 'say "x"', ""]
    assert ('\n"","2026' in text or '\n"",2026' in text, "\n,2026" in text) == (True, True)
    assert (rows[0]["pages"], rows[5]["pages"], rows[1]["count"]) == ('["a", null]', "", str(2**60 + 1))
    assert rows[0]["at"] == "2026-01-01 09:00:00.000005Z"


@pytest.mark.parametrize(("path", "kind"), [("a.csv", "csv"), ("a.ARROW", "arrow"), ("a.parquet", "parquet"), ("a", "parquet")])
def test_the_format_is_that_of_the_name_or_parquet(path: str, kind: str) -> None:
    assert export.by_name(path) == kind


def test_a_file_is_replaced_and_one_that_fails_leaves_what_was_there(
    version: BuiltVersion, lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "churn.parquet"
    file.write_text("old")

    def broken(*_: object) -> object:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(export, "_of_format", broken)
        with pytest.raises(OSError, match="disk full"):
            export.export(version, lake, str(file), kind="parquet")
    assert (file.read_text(), list(tmp_path.iterdir())) == ("old", [file])
    export.export(version, lake, str(file), kind="parquet")
    assert (pq.read_metadata(file).num_rows, list(tmp_path.iterdir())) == (ROWS, [file])


def test_what_cannot_be_written_or_read_is_told(version: BuiltVersion, lake: str, tmp_path: Path) -> None:
    with pytest.raises(ExportRefused, match=r"there is no folder .*nowhere, in which churn.csv shall lie; make it first"):
        export.export(version, lake, str(tmp_path / "nowhere" / "churn.csv"), kind="csv")
    with pytest.raises(ExportRefused, match=r"b/churn\.csv is no place that is written to; name a file, or an object on S3 like s3a://"):
        export.export(version, lake, "s3://b/churn.csv", kind="csv")
    with pytest.raises(ExportRefused, match="is a folder; name a file"):
        export.export(version, lake, str(tmp_path), kind="csv")
    with pytest.raises(ExportRefused, match=r"/proc/churn.csv cannot be written: .*; name a file in a folder that can be written to"):
        export.export(version, lake, "/proc/churn.csv", kind="csv")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ExportRefused, match="pipe is no file, and would be replaced; name a file"):
        export.export(version, lake, str(tmp_path / "pipe"), kind="csv")
    with pytest.raises(ExportRefused, match="version 99 of churn cannot be read any more"):
        export.export(version._replace(version=99), lake, "x", kind="csv")


def test_a_link_stays_one_and_its_file_is_replaced(version: BuiltVersion, lake: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "churn.csv").symlink_to("there/real.csv")
    export.export(version, lake, str(tmp_path / "churn.csv"), kind="csv")
    assert ((tmp_path / "churn.csv").is_symlink(), (tmp_path / "there" / "real.csv").is_file()) == (True, True)


def test_a_training_set_without_rows_is_a_file_without_rows(lake: str, tmp_path: Path) -> None:
    path = layout.training_set_table(lake, "none")
    training_sets.begin({"name": "none", "rows": 0}, lake, "none", build_id="one")
    delta_commits.replace_records(path, table().slice(0, 0), commit_id="one", fence=lambda: None)
    training_sets.finish({"name": "none", "rows": 0}, lake, "none", build_id="one")
    export.export(training_sets.at(lake, "none"), lake, str(tmp_path / "none.parquet"), kind="parquet")
    assert pq.read_table(tmp_path / "none.parquet").schema == table().schema
    assert storage.exists(layout.training_set_build(lake, "none", "one"))


def test_a_version_whose_files_are_gone_is_told(lake: str, tmp_path: Path) -> None:
    path = layout.training_set_table(lake, "lost")
    training_sets.begin({"name": "lost", "rows": ROWS}, lake, "lost", build_id="one")
    delta_commits.replace_records(path, table(), commit_id="one", fence=lambda: None)
    training_sets.finish({"name": "lost", "rows": ROWS}, lake, "lost", build_id="one")
    for file in Path(path).rglob("*.parquet"):
        file.unlink()
    with pytest.raises(ExportRefused, match=r"version 1 of lost cannot be read: .*part-"):
        export.export(training_sets.at(lake, "lost"), lake, str(tmp_path / "lost.csv"), kind="csv")
