"""API keys: who is let in, for what, until when and how often; and files of keys that are changed or wrong."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from serving.keys import Keys, KeysError, NoKey, NotAllowed, TooOften

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 1, 5, tzinfo=UTC)
HELD = b"Bearer open-sesame"


def line(text: str, **more: Any) -> dict[str, Any]:
    return {"name": "model", "sha256": hashlib.sha256(text.encode()).hexdigest(), **more}


def write(path: Path, *keys: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"keys": keys}))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "keys.json", line("open-sesame"))


def test_a_key_that_is_known_is_let_in(file: Path) -> None:
    assert Keys(file).allowed(HELD, "features", now=NOW, at=0.0).name == "model"


@pytest.mark.parametrize(
    "said", [b"", b"open-sesame", b"Basic open-sesame", b"Bearer", b"Bearer open", b"Bearer \xff", b"Bearer open-sesame2"]
)
def test_no_key_or_another_is_refused_without_being_repeated(file: Path, said: bytes) -> None:
    with pytest.raises(NoKey) as raised:
        Keys(file).allowed(said, "features", now=NOW, at=0.0)
    assert "sesame" not in str(raised.value)


def test_a_key_allows_the_verbs_and_services_that_it_names(tmp_path: Path) -> None:
    keys = Keys(write(tmp_path / "keys.json", line("open-sesame", verbs=["features"], services=["by_customer"])))
    key = keys.allowed(HELD, "features", now=NOW, at=0.0)
    key.allow("by_customer")
    with pytest.raises(NotAllowed, match="by_shop"):
        key.allow("by_shop")
    with pytest.raises(NotAllowed, match="metrics"):
        keys.allowed(HELD, "metrics", now=NOW, at=0.0)


def test_a_key_holds_until_it_expires(tmp_path: Path) -> None:
    keys = Keys(write(tmp_path / "keys.json", line("open-sesame", expires=NOW.isoformat())))
    assert keys.allowed(HELD, "features", now=NOW - timedelta(seconds=1), at=0.0)
    with pytest.raises(NoKey, match="2026-01-05"):
        keys.allowed(HELD, "features", now=NOW, at=0.0)


def test_a_key_is_used_so_often_and_again_later(tmp_path: Path) -> None:
    keys = Keys(write(tmp_path / "keys.json", line("open-sesame", per_second=2)))
    for at in (0.0, 0.0, 0.5):
        keys.allowed(HELD, "features", now=NOW, at=at)
    with pytest.raises(TooOften, match="2 requests a second"):
        keys.allowed(HELD, "features", now=NOW, at=0.5)
    assert keys.allowed(HELD, "features", now=NOW, at=1.0)


def test_keys_are_rotated_without_a_restart_and_a_wrong_file_changes_nothing(file: Path) -> None:
    keys = Keys(file)
    assert keys.allowed(HELD, "features", now=NOW, at=0.0)
    file.write_text("{")
    assert keys.allowed(HELD, "features", now=NOW, at=2.0)
    write(file, line("another-one"))
    os.utime(file, ns=(1, 1))
    with pytest.raises(NoKey):
        keys.allowed(HELD, "features", now=NOW, at=4.0)
    assert keys.allowed(b"Bearer another-one", "features", now=NOW, at=4.0)


@pytest.mark.parametrize("text", ["{", "[]", '{"keys": [{"name": "a", "sha256": "short"}]}', '{"keys": [{"name": "a"}]}'])
def test_a_file_that_is_wrong_is_refused_at_the_start(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys.json").write_text(text)
    with pytest.raises(KeysError, match=r"keys\.json"):
        Keys(tmp_path / "keys.json")
