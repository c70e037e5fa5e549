"""What is told of many tables by their logs, read with few requests, is what deltalake tells of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from lake import delta, storage

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
