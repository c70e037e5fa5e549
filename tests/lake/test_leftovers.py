"""What is swept beside tables: by age, and nothing that anybody else wrote."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from feature_definitions import layout
from lake import delta, delta_commits, leftovers, staging, storage
from lake.leftovers import _Found, left_over

if TYPE_CHECKING:
    from pathlib import Path

    from tests.s3 import Server

NOW = datetime(2026, 3, 10, tzinfo=UTC)
WEEK = timedelta(days=7)


@pytest.mark.parametrize(
    ("key", "size", "goes"),
    [
        ("lake/features/spend/g1/", 0, True),
        ("lake/features/spend/g1/hw-run=a/__magic_job-1/tasks/0/part-0.parquet.pending", 90, True),
        ("lake/features/spend/g1/hw-run=a/__magic_job-1/tasks/0/part-0.parquet", 0, True),
        ("lake/staging/a/rows/_temporary/0/part-0.parquet", 9, True),
        ("lake/features/spend/g1/hw-run=a/date=2026-01-05/part-0.parquet", 9, False),
        ("lake/features/spend/g1/_delta_log/00000000000000000000.json", 9, False),
        ("lake/landing/__magic/rows.parquet", 9, False),
        ("lake/features/_temporary/g1/part-0.parquet", 9, False),
        ("lake/features/spend/g1/named/", 9, False),
    ],
)
def test_marks_and_writers_notes_go_once_they_are_old(key: str, size: int, *, goes: bool) -> None:
    aged = {days: list(left_over([_Found(key, size, NOW - timedelta(days=days))], before=NOW - WEEK)) for days in (6, 8)}
    assert aged == {6: [], 8: [key] if goes else []}


def test_uploads_that_nobody_finished_and_marks_are_swept_below_the_lake_alone(moto: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    bucket, client = moto.bucket("leftovers"), moto.client()
    for key in ("lake/tables/", "lake2/tables/"):
        client.put_object(Bucket="leftovers", Key=key)
        client.create_multipart_upload(Bucket="leftovers", Key=f"{key}part-0")
    storage.write(f"{bucket}/lake/tables/rows", b"rows")
    now = datetime.now(UTC)
    assert leftovers.sweep(f"{bucket}/lake", keep=WEEK, now=now).files == 0
    later = leftovers.sweep(f"{bucket}/lake", keep=WEEK, now=now + timedelta(days=8))
    assert later.files == 1
    assert [each["Key"] for each in client.list_multipart_uploads(Bucket="leftovers")["Uploads"]] == ["lake2/tables/part-0"]
    assert [each["Key"] for each in client.list_objects_v2(Bucket="leftovers")["Contents"]] == ["lake/tables/rows", "lake2/tables/"]


@pytest.mark.parametrize("age", [0, 8])
def test_staging_folders_of_runs_that_are_gone_are_swept_and_those_of_living_ones_are_not(tmp_path: Path, age: int) -> None:
    lake = str(tmp_path)
    storage.write(f"{layout.staging_folder(lake, 'gone')}/_owner", b"[]")
    with staging.staging(lake, "living") as folder:
        storage.write(f"{layout.staging_folder(lake, 'gone')}/_owner", b"[]")
        found = leftovers.sweep(lake, keep=WEEK, now=datetime.now(UTC) + timedelta(days=age))
        assert storage.folders(layout.staging(lake)) == [folder]
    assert found == leftovers.Swept(staging=1, uploads=0, files=0)


def test_below_a_table_the_files_of_runs_that_did_not_commit_are_swept(tmp_path: Path) -> None:
    table = str(tmp_path / "table")
    for run in ("committed", "cut-off"):
        storage.write(f"{layout.run_folder(table, run)}/hw_date=2026-01-01/part-0.parquet", b"rows")
    storage.write(f"{table}/notes/rows", b"rows")
    delta_commits.append_records(table, pa.table({"x": [1]}))
    delta_commits.fence(table, "committed")
    before = delta.load(table)
    leftovers.sweep_runs(table)
    assert [folder.rpartition("/")[2] for folder in storage.folders(table)] == ["_delta_log", "hw-run=committed", "notes"]
    assert delta.load(table).equals(before)


def test_below_what_is_no_table_yet_the_files_of_all_runs_are_swept(tmp_path: Path) -> None:
    storage.write(f"{layout.run_folder(str(tmp_path), 'cut-off')}/part-0.parquet", b"rows")
    leftovers.sweep_runs(str(tmp_path))
    assert storage.folders(str(tmp_path)) == []
    leftovers.sweep_runs(f"{tmp_path}/nowhere")
