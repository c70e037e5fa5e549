"""What is told of many tables by their logs, read with few requests, is what deltalake tells of each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Schema, write_deltalake

from lake import delta, delta_commits, logs, storage

if TYPE_CHECKING:
    from collections.abc import Callable


def appended(path: str, commits: int) -> None:
    for n in range(commits):
        rows = pa.table({"n": [n], "day": [f"{n % 3}"]})
        write_deltalake(path, rows, mode="append", partition_by=["day"], storage_options=storage.options(path))


def unchanged(_: str) -> None:
    """Nothing befalls the log."""


def summed_up(path: str) -> None:
    DeltaTable(path, storage_options=storage.options(path)).create_checkpoint()


def without_a_hint(path: str) -> None:
    summed_up(path)
    storage.delete(f"{path}/_delta_log/_last_checkpoint")


def with_a_torn_hint(path: str) -> None:
    summed_up(path)
    storage.write(f"{path}/_delta_log/_last_checkpoint", b'{"vers')


def without_the_oldest(path: str) -> None:
    summed_up(path)
    storage.delete(f"{path}/_delta_log/{0:020}.json")


def summed_up_and_gone_on(path: str) -> None:
    summed_up(path)
    appended(path, 2)


@pytest.mark.parametrize(
    "befalls", [unchanged, summed_up, without_a_hint, with_a_torn_hint, without_the_oldest, summed_up_and_gone_on], ids=lambda f: f.__name__
)
def test_what_the_log_says_is_what_deltalake_says(lake: str, befalls: Callable[[str], None]) -> None:
    path = f"{lake}/table"
    appended(path, 3)
    befalls(path)
    held, itself = delta.told(path), delta.opened(path)
    assert held is not None
    assert (held.version(), held.metadata().id, held.schema()) == (itself.version(), itself.metadata().id, itself.schema())
    files = [pa.table(table.get_add_actions(flatten=True)).sort_by("path") for table in (held, itself)]
    assert files[0].equals(files[1])
    assert files[0].num_rows == itself.version() + 1


def test_where_no_table_is_there_is_none(lake: str) -> None:
    assert delta.told_all([f"{lake}/none", f"{lake}/none"]) == {f"{lake}/none": None}


def test_a_log_that_is_not_whole_is_left_to_deltalake(lake: str) -> None:
    path = f"{lake}/table"
    appended(path, 3)
    summed_up(path)
    log = f"{path}/_delta_log"
    storage.write(f"{log}/{2:020}.checkpoint.0000000001.0000000001.parquet", storage.read(f"{log}/{2:020}.checkpoint.parquet"))
    storage.delete(f"{log}/{2:020}.checkpoint.parquet")
    storage.write(f"{log}/_last_checkpoint", b'{"version":2,"size":9,"parts":1}')
    appended(path, 1)
    found = delta.told(path)
    assert found is not None
    assert len(found.file_uris()) == 4


@pytest.mark.parametrize("sign", ["#", "?", "%", "{x}", "*", "ü "])
def test_a_commit_is_found_whatever_signs_the_path_has(tmp_path: Path, sign: str) -> None:
    path = str(tmp_path / f"a{sign}b")
    for number in (0, 1):
        write_deltalake(path, pa.table({"x": [number]}), mode="append", commit_properties=CommitProperties({"userMetadata": f"p{number}"}))
    assert logs.commit_of(path, "p0")[0] == 0
    assert logs.oldest_commit(path) == logs.commit_of(path, "p0")[1]
    with pytest.raises(LookupError, match="has no commit p2 in its log"):
        logs.commit_of(path, "p2")


def test_the_ids_of_all_commits_are_known_also_of_those_that_the_log_only_sums_up(tmp_path: Path) -> None:
    assert logs.commit_ids(str(tmp_path / "none")) == frozenset()
    path = str(tmp_path / "table")
    delta_commits.create(path, Schema.from_arrow(pa.schema([("x", pa.int64())])).to_json(), partition=())
    for n in range(23):
        delta_commits.fence(path, f"c{n}")
    assert Path(path, "_delta_log", "00000000000000000019.checkpoint.parquet").exists()
    for old in Path(path, "_delta_log").glob("0000000000000000000*.json"):
        old.unlink()
    assert logs.commit_ids(path) == {f"c{n}" for n in range(23)}
