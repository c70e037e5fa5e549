"""Staging folders: one a run, gone with it, and gone after it if the run was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lake import processes, staging, storage
from tests.waiting import until

ROOT = Path(__file__).parent.parent.parent
KILLED = """
import os, signal, sys
from lake import staging, storage
with staging.staging(sys.argv[1], "killed") as folder:
    storage.write(f"{folder}/rows/1", b"1")
    os.kill(os.getpid(), signal.SIGKILL)
"""
ELSEWHERE = json.dumps(processes.this()._replace(host="elsewhere")).encode()


def now() -> datetime:
    return datetime.now(UTC)


def test_a_runs_folder_is_there_in_the_block_and_gone_after_it(lake: str) -> None:
    with staging.staging(lake, "one") as folder:
        storage.write(f"{folder}/rows/1", b"1")
        assert storage.folders(folder) == [f"{folder}/rows"]
    assert storage.folders(f"{lake}/staging") == []


def test_a_runs_folder_is_gone_after_a_run_that_failed(lake: str) -> None:
    with pytest.raises(LookupError), staging.staging(lake, "one"):
        raise LookupError
    assert storage.folders(f"{lake}/staging") == []


def test_runs_at_the_same_time_leave_each_others_folders_alone(lake: str) -> None:
    with staging.staging(lake, "one") as one:
        with staging.staging(lake, "two") as two:
            assert storage.exists(one)
            assert storage.exists(two)
        assert storage.exists(one)


def test_the_folder_of_a_killed_run_goes_with_the_next_run(lake: str) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, lake], cwd=ROOT, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert ended.returncode == -signal.SIGKILL
    assert storage.exists(f"{lake}/staging/killed/rows")
    with staging.staging(lake, "next"):
        assert storage.folders(f"{lake}/staging") == [f"{lake}/staging/next"]


def test_the_folder_of_another_machines_run_goes_when_it_was_silent_for_an_hour(lake: str) -> None:
    folder = f"{lake}/staging/far"
    storage.write(f"{folder}/_owner", ELSEWHERE)
    assert staging.sweep(lake, now=lambda: now() + timedelta(minutes=58)) == []
    assert storage.exists(folder)
    assert staging.sweep(lake, now=lambda: now() + timedelta(minutes=62)) == [folder]
    assert not storage.exists(folder)


def test_a_folder_that_does_not_say_whose_it_is_goes_when_nothing_came_to_it_for_an_hour(lake: str) -> None:
    storage.write(f"{lake}/staging/old/rows/1", b"1")
    assert staging.sweep(lake, now=now) == []
    assert staging.sweep(lake, now=lambda: now() + timedelta(minutes=62)) == [f"{lake}/staging/old"]


def test_a_folder_that_is_being_cleared_away_is_cleared_by_whoever_finds_it(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(storage, "delete_tree", lambda _: None)
        staging.clear(f"{lake}/staging/half")
    assert staging.sweep(lake, now=now) == [f"{lake}/staging/half"]


def test_a_run_says_again_and_again_that_it_lives(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "SILENCE", timedelta(seconds=0.06))
    with staging.staging(lake, "one") as folder:
        until(lambda: storage.exists(f"{folder}/_alive"), pause=0.01)


def test_a_run_whose_folder_was_cleared_away_commits_nothing_and_says_why(lake: str) -> None:
    asked: list[str] = []
    with staging.staging(lake, "one") as folder:
        fence = staging.guarded(folder, lambda: asked.append("fence"))
        fence()
        staging.clear(folder)
        storage.write(f"{folder}/_alive", b".")  # it goes on living
        with pytest.raises(staging.StagingLost, match="were cleared away by another process, since this one was silent for too long"):
            fence()
    assert asked == ["fence"]
    assert storage.folders(f"{lake}/staging") == []
