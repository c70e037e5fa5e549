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


@pytest.fixture
def said_by_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable says how S3 is reached, and no file does."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ALLOW_HTTP", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
