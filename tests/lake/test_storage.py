"""The lake's files and folders on a local folder: put whole, found by prefix, whatever signs a path has."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake import storage

ROOT = Path(__file__).parent.parent.parent
NAMES = ("plain", "a lake", "über", "a#b", "[1] {2}", "50%20off", "what?*", "a+b&c=d", "it's")


@pytest.fixture(params=NAMES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder that is not there yet."""
    return str(tmp_path / request.param)


def test_what_is_written_is_there_and_read_back(folder: str) -> None:
    path = f"{folder}/deep/{Path(folder).name}.json"
    assert not storage.exists(path)
    storage.write(path, b"one")
    storage.write(path, b"two")
    assert storage.read(path) == Path(path).read_bytes() == b"two"
    assert storage.exists(path)
    assert storage.exists(folder)


def test_files_are_found_in_all_folders_below_and_folders_right_in_one(folder: str) -> None:
    for name in ("b.json", "a/x.parquet", "a/b/y.json", "c%20d/z.json"):
        storage.write(f"{folder}/{name}", b"12345")
    assert [each.path for each in storage.files(folder, suffix=".json")] == [
        f"{folder}/{n}" for n in ("a/b/y.json", "b.json", "c%20d/z.json")
    ]
    assert storage.folders(folder) == [f"{folder}/a", f"{folder}/c%20d"]
    (found,) = storage.files(folder, suffix=".parquet")
    assert (found.name, found.size) == ("x.parquet", 5)
    assert timedelta(0) <= datetime.now(UTC) - found.written_at < timedelta(minutes=1)


def test_of_what_is_not_there_nothing_is_found(folder: str) -> None:
    assert not storage.exists(folder)
    assert storage.files(folder) == []
    assert storage.folders(folder) == []
    storage.delete(folder)
    storage.delete_tree(folder)
    with pytest.raises(FileNotFoundError):
        storage.read(folder)


def test_a_folder_whose_name_begins_with_another_ones_is_another(tmp_path: Path) -> None:
    storage.write(f"{tmp_path}/payments_old/x", b"")
    assert not storage.exists(f"{tmp_path}/payments")
    assert storage.files(f"{tmp_path}/payments") == []


def test_a_folder_without_files_is_none_that_exists_but_one_to_clear_away(tmp_path: Path) -> None:
    (tmp_path / "staging/run").mkdir(parents=True)
    assert not storage.exists(f"{tmp_path}/staging")
    assert storage.folders(f"{tmp_path}/staging") == [f"{tmp_path}/staging/run"]


def test_files_and_folders_are_deleted(folder: str) -> None:
    for name in ("a/x", "a/y", "b"):
        storage.write(f"{folder}/{name}", b"")
    storage.delete(f"{folder}/b")
    assert [each.name for each in storage.files(folder)] == ["x", "y"]
    storage.delete_tree(f"{folder}/a")
    assert not Path(folder, "a").exists()


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
    Path(folder).mkdir()
    pq.write_table(pa.table({"x": [1]}), "a%20b.parquet", filesystem=storage.arrow(folder))
    assert [each.name for each in storage.files(folder)] == ["a%20b.parquet"]
    assert pq.read_table("a%20b.parquet", filesystem=storage.arrow(folder)).to_pydict() == {"x": [1]}


def test_a_place_is_said_relative_to_the_lake_or_whole(tmp_path: Path) -> None:
    assert storage.relative("/shop/data/views", to="/shop/lake") == "../data/views"
    assert storage.joined("/shop/lake", "../data/views") == "/shop/data/views"
    assert storage.joined("/shop/lake", "/elsewhere/views") == "/elsewhere/views"


def test_a_folder_is_held_by_one_at_a_time_and_by_nobody_who_is_gone(tmp_path: Path) -> None:
    folder = str(tmp_path / "a" / "b")
    with storage.held(folder):
        assert storage.is_held(folder)
    assert not storage.is_held(folder)
    holds = "import os, sys; from lake import storage; storage.held(sys.argv[1]).__enter__(); print('held', flush=True)"
    killed = f"{holds}; os.kill(os.getpid(), 9)"
    ended = subprocess.run([sys.executable, "-c", killed, folder], cwd=ROOT, check=False, capture_output=True)
    assert ended.stdout == b"held\n"
    assert not storage.is_held(folder)
