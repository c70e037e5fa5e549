"""Who may write no longer commits nothing, whenever it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from lake import delta, delta_commits, delta_files, logs

if TYPE_CHECKING:
    pass


class LeaseLost(Exception):
    """What a fence raises in these tests."""


def dated(path: str) -> None:
    write_deltalake(path, pa.table({"x": [1], "date": ["2026-01-05"]}), partition_by=["date"])


def taken_out(path: str, *, commit_id: str, fence: delta_commits.Fence | None) -> None:
    """Replace the table's only date by nothing."""
    table, days = DeltaTable(path), ["2026-01-05"]
    old = delta_files.in_partitions(table, days)
    delta_commits.commit(table, days=days, old=old, new=[], commit_id=commit_id, fence=fence)


def test_a_writer_that_lost_its_lease_commits_nothing(tmp_path: Path) -> None:
    def lost() -> None:
        raise LeaseLost

    dated(str(tmp_path))
    with pytest.raises(LeaseLost):
        taken_out(str(tmp_path), commit_id="one", fence=lost)
    assert (DeltaTable(str(tmp_path)).version(), delta.committed(str(tmp_path), "one")) == (0, False)


def test_the_fence_is_asked_before_each_attempt_to_commit(tmp_path: Path) -> None:
    asked: list[int] = []

    def overtaken() -> None:
        asked.append(DeltaTable(str(tmp_path)).version())
        if len(asked) < 3:
            write_deltalake(str(tmp_path), pa.table({"x": [2], "date": ["2026-01-06"]}), mode="append")

    dated(str(tmp_path))
    taken_out(str(tmp_path), commit_id="one", fence=overtaken)
    assert asked == [0, 1, 2]
    assert logs.commit_of(str(tmp_path), "one")[0] == 3
    assert delta.load(str(tmp_path)).column("date").to_pylist() == ["2026-01-06", "2026-01-06"]


def test_a_writer_that_was_stopped_after_its_last_look_at_the_lease_is_refused_once_its_table_was_fenced(tmp_path: Path) -> None:
    holder = ["writer"]

    def stopped_after_looking() -> None:
        if holder != ["writer"]:
            raise LeaseLost
        holder[0] = "another"
        delta_commits.fence(str(tmp_path), "takeover")

    dated(str(tmp_path))
    with pytest.raises(LeaseLost):
        taken_out(str(tmp_path), commit_id="one", fence=stopped_after_looking)
    assert (delta.committed(str(tmp_path), "one"), delta.committed(str(tmp_path), "takeover")) == (False, True)
    assert delta.load(str(tmp_path)).num_rows == 1


def test_a_fence_changes_no_row_and_makes_no_table(tmp_path: Path) -> None:
    delta_commits.fence(str(tmp_path / "none"), "takeover")
    assert not delta.exists(str(tmp_path / "none"))
    dated(str(tmp_path))
    before = delta.load(str(tmp_path))
    delta_commits.fence(str(tmp_path), "takeover")
    assert delta.load(str(tmp_path)).equals(before)
    assert DeltaTable(str(tmp_path)).metadata().partition_columns == ["date"]
