"""Two processes commit to the same tables at once: every commit that was acknowledged is there, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lake import racing

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests import s3


def test_of_two_processes_that_commit_at_once_neither_loses_a_commit(tmp_path: Path) -> None:
    racing.two(str(tmp_path / "lake"), tables=5, times=10)


def test_of_two_processes_that_commit_to_s3_at_once_neither_loses_a_commit(moto: s3.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    racing.two(f"{moto.bucket('races')}/lake", tables=5, times=4)
