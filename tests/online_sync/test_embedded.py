"""The embedded store: found again, kept, repaired, started once however many ask, and gone when stopped."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from online_sync import embedded
from online_sync.codec import Row, RowSchema, encode
from online_sync.store import Store, StoreUnavailable
from tests.online_sync.conftest import written

if TYPE_CHECKING:
    from collections.abc import Iterator

VALUE = encode(RowSchema((("a", "int64"),)), Row(event_timestamp=0, empties_at=None, held=False, tombstone=False, epoch=1, values=(1,)))
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / 'a "quoted" folder' / "store"
    yield place
    embedded.stop(place)


def write(url: str) -> None:
    with closing(Store(url)) as store:
        assert written(store.put_rows([("k", VALUE)])) == 1


def read(url: str) -> bytes | None:
    with closing(Store(url)) as store:
        return store.mget(["k"])[0]


def process(folder: Path) -> int:
    return int((folder / "valkey.pid").read_text())


def test_a_running_one_is_used_again(folder: Path) -> None:
    first = embedded.ensure(folder)
    number = process(folder)
    assert embedded.ensure(folder) == first
    assert process(folder) == number


def test_it_outlives_the_command_that_started_it(folder: Path) -> None:
    program = f"import pathlib; from online_sync import embedded; print(embedded.ensure(pathlib.Path({str(folder)!r})))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert read(done.stdout.strip()) is None


def test_a_stopped_one_serves_the_same_data_at_the_same_url_when_it_starts_again(folder: Path) -> None:
    url = embedded.ensure(folder)
    write(url)
    assert embedded.stop(folder)
    with pytest.raises(StoreUnavailable):
        read(url)
    assert embedded.ensure(folder) == url
    assert read(url) == VALUE


def test_stopping_one_that_does_not_run_says_so(folder: Path) -> None:
    assert not embedded.stop(folder)
    embedded.ensure(folder)
    assert [embedded.stop(folder), embedded.stop(folder)] == [True, False]


def test_a_killed_one_is_started_again_with_its_data(folder: Path) -> None:
    url = embedded.ensure(folder)
    write(url)
    os.kill(process(folder), signal.SIGKILL)
    assert read(embedded.ensure(folder)) == VALUE


def test_a_file_cut_off_by_a_crash_does_not_keep_it_from_starting(folder: Path) -> None:
    url = embedded.ensure(folder)
    write(url)
    os.kill(process(folder), signal.SIGKILL)
    [log] = (folder / "appendonlydir").glob("*.incr.aof")
    with log.open("ab") as out:
        out.write(b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$100\r\nhalf")
    assert read(embedded.ensure(folder)) == VALUE


def test_processes_that_start_it_at_once_share_one_server(folder: Path) -> None:
    program = f"import pathlib; from online_sync import embedded; print(embedded.ensure(pathlib.Path({str(folder)!r})))"
    commands = [subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    urls = {command.communicate()[0].strip() for command in commands}
    assert {command.returncode for command in commands} == {0}
    assert urls == {embedded.ensure(folder)}
    assert (folder / "valkey.log").read_text().count("Server initialized") == 1


def test_a_port_that_another_program_took_is_given_up(folder: Path) -> None:
    url = embedded.ensure(folder)
    write(url)
    embedded.stop(folder)
    with socket.create_server(("127.0.0.1", int((folder / "port").read_text()))):
        other = embedded.ensure(folder)
        assert other != url
        assert read(other) == VALUE


@pytest.mark.parametrize("left", ["", "nonsense", "99999999", "-1", "1"])
def test_a_port_file_left_damaged_is_repaired(folder: Path, left: str) -> None:
    folder.mkdir(parents=True)
    (folder / "port").write_text(left)
    (folder / "valkey.pid").write_text("1")
    assert read(embedded.ensure(folder)) is None


def test_the_password_is_its_owners_alone_and_needed(folder: Path) -> None:
    url = embedded.ensure(folder)
    assert (folder / "password").stat().st_mode & 0o777 == 0o600
    arguments = Path(f"/proc/{process(folder)}/cmdline")
    password = (folder / "password").read_text().strip()
    assert not arguments.exists() or password not in arguments.read_text()
    with pytest.raises(StoreUnavailable):
        read(url.replace(password, ""))


def test_only_loopback_is_listened_on(folder: Path) -> None:
    embedded.ensure(folder)
    assert "bind 127.0.0.1\n" in configured(embedded.ensure(folder))


def test_a_platform_without_a_server_program_is_told_what_to_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(StoreUnavailable, match="HEADWATER_REDIS_URL"):
        embedded.ensure(folder)


def configured(url: str) -> str:
    import redis

    with closing(redis.Redis.from_url(url, decode_responses=True)) as client:
        return "".join(f"{name} {value}\n" for name, value in client.config_get("bind").items())
