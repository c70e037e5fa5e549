"""The lake's files and folders, on a local folder and on S3: put whole, found by prefix, whatever signs a local path has."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake import s3, storage

if TYPE_CHECKING:
    from tests.s3 import Server

NAMES = ("plain", "a lake", "über", "a#b", "[1] {2}", "50%20off", "what?*", "a+b&c=d", "it's")
SOON = timedelta(minutes=1)


@pytest.fixture(params=["s3", *NAMES])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder that is not there yet."""
    return f"{request.getfixturevalue('on_s3')}/a/folder" if request.param == "s3" else str(tmp_path / request.param)


def test_what_is_written_is_there_and_read_back(folder: str) -> None:
    path = f"{folder}/deep/{folder.rpartition('/')[2]}.json"
    assert not storage.exists(path)
    storage.write(path, b"one")
    storage.write(path, b"two")
    assert storage.read(path) == b"two"
    assert storage.exists(path)
    assert storage.exists(folder)


def test_a_local_file_lies_where_its_path_says(tmp_path: Path) -> None:
    storage.write(f"{tmp_path}/a b#.json", b"one")
    assert (tmp_path / "a b#.json").read_bytes() == b"one"


def test_files_are_found_in_all_folders_below_and_folders_right_in_one(folder: str) -> None:
    for name in ("b.json", "a/x.parquet", "a/b/y.json", "c%20d/z.json"):
        storage.write(f"{folder}/{name}", b"12345")
    assert [each.path for each in storage.files(folder, suffix=".json")] == [
        f"{folder}/{n}" for n in ("a/b/y.json", "b.json", "c%20d/z.json")
    ]
    assert storage.folders(folder) == [f"{folder}/a", f"{folder}/c%20d"]
    (found,) = storage.files(folder, suffix=".parquet")
    assert (found.name, found.size) == ("x.parquet", 5)
    assert abs(datetime.now(UTC) - found.written_at) < SOON


def test_of_what_is_not_there_nothing_is_found(folder: str) -> None:
    assert not storage.exists(folder)
    assert storage.files(folder) == []
    assert storage.folders(folder) == []
    storage.delete(folder)
    storage.delete_tree(folder)
    with pytest.raises(FileNotFoundError):
        storage.read(folder)


def test_a_folder_whose_name_begins_with_another_ones_is_another(lake: str) -> None:
    storage.write(f"{lake}/payments_old/x", b"1")
    assert not storage.exists(f"{lake}/payments")
    assert storage.files(f"{lake}/payments") == []


def test_a_folder_without_files_is_none_that_exists_but_one_to_clear_away(tmp_path: Path) -> None:
    (tmp_path / "staging/run").mkdir(parents=True)
    assert not storage.exists(f"{tmp_path}/staging")
    assert storage.folders(f"{tmp_path}/staging") == [f"{tmp_path}/staging/run"]


def test_marks_by_which_others_make_folders_on_s3_are_no_files_and_go_with_the_folder(on_s3: str, moto: Server) -> None:
    client, bucket = moto.client(), on_s3.removeprefix("s3a://")
    for key in ("staging/", "staging/run/", "staging/run/rows/"):
        client.put_object(Bucket=bucket, Key=key)
    assert not storage.exists(f"{on_s3}/staging")
    assert storage.files(on_s3) == []
    assert storage.folders(f"{on_s3}/staging") == [f"{on_s3}/staging/run"]
    storage.delete_tree(f"{on_s3}/staging/run")
    assert [each["Key"] for each in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["staging/"]


def test_files_and_folders_are_deleted(folder: str) -> None:
    for name in ("a/x", "a/y", "b"):
        storage.write(f"{folder}/{name}", b"1")
    storage.delete(f"{folder}/b")
    assert [each.name for each in storage.files(folder)] == ["x", "y"]
    storage.delete_tree(f"{folder}/a")
    assert storage.folders(folder) == []


def test_a_folder_of_very_many_files_is_listed_and_deleted_whole(on_s3: str) -> None:
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda n: storage.write(f"{on_s3}/many/{n}", b"1"), range(1005)))
    assert len(storage.files(f"{on_s3}/many")) == 1005
    storage.delete_tree(f"{on_s3}/many")
    assert storage.files(on_s3) == []


def test_a_file_is_made_by_one_of_all_who_try_at_once(folder: str) -> None:
    def made(n: int) -> int:
        try:
            storage.create(f"{folder}/lock", str(n).encode())
        except FileExistsError:
            return 0
        return 1

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(made, range(40))) == 1


def test_parquet_is_written_and_read_through_pyarrow(folder: str) -> None:
    storage.write(f"{folder}/there", b"1")
    pq.write_table(pa.table({"x": [1]}), "a%20b.parquet", filesystem=storage.arrow(folder))
    assert [each.name for each in storage.files(folder)] == ["a%20b.parquet", "there"]
    assert pq.read_table("a%20b.parquet", filesystem=storage.arrow(folder)).to_pydict() == {"x": [1]}


@pytest.mark.parametrize(
    ("lake", "place", "whole"),
    [
        ("/shop/lake", "../data/views", "/shop/data/views"),
        ("/shop/lake", "/elsewhere/views", "/elsewhere/views"),
        ("/shop/lake", "s3a://b/views", "s3a://b/views"),
        ("s3a://b/lake", "landing/views", "s3a://b/lake/landing/views"),
        ("s3a://b/lake", "/elsewhere/views", "/elsewhere/views"),
        ("s3a://b/lake", "s3a://c/views", "s3a://c/views"),
    ],
)
def test_a_place_is_said_relative_to_the_lake_or_whole(lake: str, place: str, whole: str) -> None:
    assert storage.joined(lake, place) == whole
    assert storage.joined(lake, storage.relative(whole, to=lake)) == whole


def test_a_path_below_a_folder_is_seen_from_it_without_it() -> None:
    assert storage.relative("s3a://b/lake/x/date=2026-01-01/f", to="s3a://b/lake/x") == "date=2026-01-01/f"
    assert storage.relative("/shop/data/views", to="/shop/lake") == "../data/views"


@pytest.mark.usefixtures("on_s3")
def test_a_bucket_that_is_not_there_is_said_and_is_no_empty_one() -> None:
    for look in (storage.exists, storage.files, storage.folders, storage.read, storage.delete_tree, lambda path: storage.write(path, b"1")):
        with pytest.raises(s3.S3Fault, match=r"there is no bucket nobodys at http://127\.0\.0\.1:\d+; make it, or correct the name"):
            look("s3a://nobodys/lake")
