"""Staging folders: one a run, gone with it, and gone after it if the run was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from lake.staging import staging

ROOT = Path(__file__).parent.parent.parent
KILLED = """
import os, signal, sys
from pathlib import Path
from lake.staging import staging
with staging(sys.argv[1], "killed") as folder:
    Path(folder, "rows").mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_runs_folder_is_there_in_the_block_and_gone_after_it(tmp_path: Path) -> None:
    with staging(str(tmp_path), "one") as folder:
        Path(folder, "rows").mkdir()
    assert list((tmp_path / "staging").iterdir()) == []


def test_runs_at_the_same_time_leave_each_others_folders_alone(tmp_path: Path) -> None:
    with staging(str(tmp_path), "one") as one:
        with staging(str(tmp_path), "two") as two:
            assert Path(one).is_dir()
            assert Path(two).is_dir()
        assert Path(one).is_dir()


def test_the_folder_of_a_killed_run_goes_with_the_next_run(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert (tmp_path / "staging/killed/rows").is_dir()
    with staging(str(tmp_path), "next"):
        assert [path.name for path in (tmp_path / "staging").iterdir()] == ["next"]
