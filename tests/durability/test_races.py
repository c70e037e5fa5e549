"""As tests/lake/test_races.py, on a server that writes to a disk, and more often."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lake import racing

if TYPE_CHECKING:
    import pytest

    from tests import s3


def test_of_two_processes_that_commit_to_s3_at_once_neither_loses_a_commit(versitygw: s3.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in versitygw.environment.items():
        monkeypatch.setenv(name, value)
    racing.two(f"{versitygw.bucket('races')}/lake", tables=5, times=10)
