"""Rows of a table that a condition holds for, held a few at a time, and logs that lost something."""

from __future__ import annotations

import weakref
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from lake import delta, delta_commits, logs

if TYPE_CHECKING:
    from collections.abc import Callable


def test_batches_of_many_files_are_held_one_at_a_time(tmp_path: Path) -> None:
    files, rows = 24, 50_000
    for number in range(files):
        values = range(number * rows, (number + 1) * rows)
        write_deltalake(tmp_path / "table", pa.table({"n": values, "m": values, "k": values}), mode="append")
    before, seen, most, held = pa.total_allocated_bytes(), 0, 0, list[weakref.ref[pa.RecordBatch]]()
    for batch in delta.batches(str(tmp_path / "table"), rows=10_000):
        held = [*(each for each in held if each() is not None), weakref.ref(batch)]
        seen, most = seen + batch.num_rows, max(most, pa.total_allocated_bytes() - before)
        assert (len(held) <= 2, batch.num_rows <= 10_000) == (True, True)
    assert seen == files * rows
    assert most < files * rows * 3 * 8 / 3


def test_rows_are_found_by_conditions_in_the_types_that_python_has(tmp_path: Path) -> None:
    at = datetime(2026, 1, 5, 3, 0, 0, 1, tzinfo=UTC)
    row = {"n": 1, "text": "it's", "at": at, "day": date(2026, 1, 5), "list": ["a"], "none": None, "flag": True}
    numbers, texts, times = {"n": pa.int64(), "none": pa.float64()}, {"text": pa.string()}, {"at": pa.timestamp("us", tz="UTC")}
    kinds = pa.schema(numbers | texts | times | {"day": pa.date32(), "list": pa.list_(pa.string()), "flag": pa.bool_()})
    write_deltalake(tmp_path / "table", pa.Table.from_pylist([row, row | {"n": 2, "text": "its"}], schema=kinds))
    values = {name: delta.literal(row[name]) for name in ("n", "text", "day", "flag")}
    for name, value in values.items():
        assert row in delta.rows(str(tmp_path / "table"), [f"{name} = {value}"])
    assert delta.rows(str(tmp_path / "table"), [f"{name} = {value}" for name, value in values.items()]) == [row]
    assert delta.rows(str(tmp_path / "table"), ["n = 3"]) == []
    assert delta.rows(str(tmp_path / "nowhere"), ["n = 1"]) == []


def _torn(log: Path) -> None:
    (log / f"{2:020}.json").write_text('{"add": {"path')


def _without_checkpoint(log: Path) -> None:
    DeltaTable(log.parent).create_checkpoint()
    for checkpoint in log.glob("*.checkpoint.parquet"):
        checkpoint.unlink()


@pytest.mark.parametrize(
    ("damage", "remedy"),
    [(_torn, f"/_delta_log/{2:020}.json was cut off: delete it;"), (_without_checkpoint, "delete .*/_delta_log/_last_checkpoint too")],
)
def test_a_log_that_cannot_be_read_is_told_with_what_to_do(tmp_path: Path, damage: Callable[[Path], None], remedy: str) -> None:
    path = str(tmp_path / "table")
    for number in (1, 2):
        delta_commits.append(path, pa.table({"n": [number]}), commit_id=f"c{number}", partition=())
    damage(tmp_path / "table" / "_delta_log")
    with pytest.raises(logs.DamagedLog, match=f"the log of the table {path} cannot be read: .*{remedy}"):
        delta.load(path)


def test_a_table_lacks_a_commit_once_its_log_does(tmp_path: Path) -> None:
    path = str(tmp_path / "table")
    for number in (1, 2):
        delta_commits.append(path, pa.table({"n": [number]}), commit_id=f"c{number}", partition=())
    assert [delta.lacks(path, f"c{number}") for number in (1, 2)] == [False, False]
    max((tmp_path / "table" / "_delta_log").glob("*.json")).unlink()
    assert [delta.lacks(path, f"c{number}") for number in (1, 2)] == [False, True]
