"""A profile's files alone, with no keys in the environment, lead every client to S3, Spark's too, on a server that checks keys."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tests import s3
from tests.durability import shops
from tests.durability.shops import Worker

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

NOW = datetime(2026, 1, 4, 12, tzinfo=UTC)


def test_a_profile_alone_is_enough_for_a_whole_run(versitygw: s3.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = f"{versitygw.bucket('profile')}/lake"
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    said = {"config": tmp_path / "config", "credentials": tmp_path / "credentials"}
    said["config"].write_text(f"[profile shop]\nregion = {s3.REGION}\nendpoint_url = {versitygw.endpoint}\n")
    said["credentials"].write_text(f"[shop]\naws_access_key_id = {s3.KEY}\naws_secret_access_key = {s3.SECRET}\n")
    files = {"AWS_CONFIG_FILE": str(said["config"]), "AWS_SHARED_CREDENTIALS_FILE": str(said["credentials"])}
    found = {**files, "AWS_PROFILE": "shop", "AWS_EC2_METADATA_DISABLED": "true"}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    shop = shops.make(tmp_path / "shop")
    shops.bring(shop, days=3, round_=1)
    worker = Worker(shop, {**found, "HEADWATER_LAKE": lake}, tmp_path / "worker.log")
    worker.start()
    try:
        assert [worker.ask(verb, now=NOW) for verb in ("ingest", "materialize")] == ["done", "done"]
    finally:
        worker.close()
    assert shops.rounds_of(shops.published(lake)) == {1}
    assert s3.SECRET not in (tmp_path / "worker.log").read_text(errors="replace")
