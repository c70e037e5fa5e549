"""Two processes commit to the same tables at once: every commit that was acknowledged is there, once."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from lake import delta
from tests import projects
from tests.lake import racing

if TYPE_CHECKING:
    from pathlib import Path

    from tests import s3

TIMES = 50


@pytest.fixture(params=["local", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A lake on the local disk, and one on S3, which this process and those that it starts can reach."""
    if request.param == "local":
        return str(tmp_path / "lake")
    server: s3.Server = request.getfixturevalue("moto")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server.bucket("races") + "/lake"


def racer(lake: str, who: str) -> subprocess.Popen[str]:
    environment = projects.environment(PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    words = [sys.executable, "-m", "tests.lake.racing", lake, who, str(TIMES)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)


def test_of_two_processes_that_commit_at_once_neither_loses_a_commit(lake: str) -> None:
    racing.made(lake)
    both = [racer(lake, who) for who in ("one", "two")]
    told = [line.split() for process in both for line in process.communicate(timeout=300)[0].splitlines()]
    assert [process.returncode for process in both] == [0, 0]

    records, counter = racing.tables(lake)
    appended = [row["id"] for row in delta.rows(records, ["true"])]
    assert sorted(appended) == sorted(["first", *(word for kind, word in told if kind == "record")])
    # Each commit replaced what it had read: had two read the same, one would be missing in the sum.
    assert racing.now(counter) == 2 * TIMES
    table = delta.opened(counter)
    assert all(table.transaction_version(word) is not None for kind, word in told if kind == "count")
