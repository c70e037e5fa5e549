"""Rows that wait for a person: what is taken for what was judged, and what is swept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from feature_definitions import layout
from lake import judged, leftovers, storage

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime.now(UTC)
WEEK = timedelta(days=7)


@pytest.fixture
def lake(tmp_path: Path) -> str:
    """A lake in which run p1 of a group waits."""
    storage.write(f"{judged.rows_folder(str(tmp_path), 'spend', 'p1')}/part-0.parquet", b"rows")
    judged.note(str(tmp_path), "spend", "p1", schema="{}")
    return str(tmp_path)


def test_rows_are_as_they_were_judged_while_their_files_are(lake: str) -> None:
    assert judged.noted(lake, "spend", "p1") == "{}"


@pytest.mark.parametrize("change", ["longer", "gone", "more", "no note"])
def test_rows_that_are_not_those_that_were_judged_are_refused(lake: str, change: str) -> None:
    rows = judged.rows_folder(lake, "spend", "p1")
    match change:
        case "longer":
            storage.write(f"{rows}/part-0.parquet", b"other rows")
        case "gone":
            storage.delete(f"{rows}/part-0.parquet")
        case "more":
            storage.write(f"{rows}/part-1.parquet", b"rows")
        case _:
            storage.delete(f"{layout.waiting_folder(lake, 'spend', 'p1')}/_judged.json")
    with pytest.raises(judged.WaitingLost, match=r"rows of run p1 in .* are not those that were judged; compute it again: headwater"):
        judged.noted(lake, "spend", "p1")


def test_a_run_that_waits_is_not_swept_however_old_and_others_are_once_they_are_old(lake: str) -> None:
    def swept(days: int, *runs: tuple[str, str]) -> int:
        return leftovers.sweep(lake, keep=WEEK, now=NOW + timedelta(days=days), runs=runs).staging

    assert [swept(99, ("spend", "p1")), swept(6), swept(8, ("spend", "p2")), swept(8)] == [0, 0, 1, 0]
    assert not storage.exists(layout.waiting_folder(lake, "spend", "p1"))


def test_what_was_decided_leaves_nothing_behind(lake: str) -> None:
    judged.clear(lake, "spend", "p1")
    assert not storage.exists(layout.waiting_folder(lake, "spend", "p1"))
