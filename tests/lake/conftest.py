"""Lakes to test with: each test that takes `lake` runs on a local folder and on S3."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.s3 import Server


@pytest.fixture
def on_s3(moto: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of the test's own, which the environment's variables lead to."""
    for name, value in moto.environment.items():
        if name != "AWS_ALLOW_HTTP":  # it follows from the endpoint
            monkeypatch.setenv(name, value)
    return moto.bucket(f"b{uuid4().hex[:12]}")


@pytest.fixture(params=["folder", "s3"])
def lake(request: pytest.FixtureRequest) -> str:
    """A lake in which nothing lies yet."""
    if request.param == "s3":
        return f"{request.getfixturevalue('on_s3')}/a/lake"
    folder: Path = request.getfixturevalue("tmp_path")
    return f"{folder}/lake"
