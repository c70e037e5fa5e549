"""The registry's database is made once, and says in one sentence why it cannot be used."""

import resource
import socket
import sqlite3
import stat
import subprocess
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_mock_engine, select

from feature_definitions.records import Epoch
from feature_registry import Registry, RegistryError, database, open_registry, postgresql, schema

T = datetime(2026, 1, 5, tzinfo=UTC)
Program = subprocess.Popen[bytes]
EPOCH = Epoch("spend", 1, 1, T, 5, 5, T)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A locked database is given up after 0.2 s."""
    monkeypatch.setattr(database, "PATIENCE_SECONDS", 0.2)


def file_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


@contextmanager
def writer(url: str) -> Iterator[sqlite3.Connection | psycopg.Connection]:
    """Another program that holds the write lock."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(file_of(url), isolation_level=None)) as file:
            file.execute("BEGIN IMMEDIATE")
            yield file
    else:
        with psycopg.connect(url) as connection:
            connection.execute(f"SELECT pg_advisory_xact_lock({postgresql._WRITERS})".encode())
            yield connection


def place_of(url: str) -> str:
    """How a registry is called in messages."""
    return f"the registry {file_of(url)}" if url.startswith("sqlite") else f"the registry in PostgreSQL at {url.rpartition('@')[2]}"


def refusal(url: str) -> str:
    with pytest.raises(RegistryError) as caught:
        open_registry(url).close()
    assert_teaches(caught.value)
    return str(caught.value)


def assert_teaches(error: RegistryError) -> None:
    """The error is one line, and nothing of SQLAlchemy is seen behind it."""
    assert "\n" not in str(error)
    assert "site-packages" not in "".join(traceback.format_exception(error))


def test_the_file_is_made_with_its_folders_for_its_owner_only(url_of_sqlite: str) -> None:
    with open_registry(url_of_sqlite) as registry:
        assert stat.S_IMODE(file_of(url_of_sqlite).stat().st_mode) == 0o600
        assert registry.epochs("spend") == ()


def test_readers_do_not_wait_for_a_writer(registry: Registry, url: str, impatient: None) -> None:
    registry.record_epoch(EPOCH)
    with writer(url), open_registry(url) as other:
        assert other.epochs("spend") == registry.epochs("spend") == (EPOCH,)


def test_a_locked_database_says_so(url: str, impatient: None) -> None:
    with open_registry(url) as registry, writer(url), pytest.raises(RegistryError) as caught:
        registry.record_epoch(EPOCH)
    assert str(caught.value) == (
        f"{place_of(url)} has been locked by another process for 0.2 s; wait until that one is done, or end it, and try again"
    )
    assert_teaches(caught.value)


def test_a_writer_waits_for_the_other_to_finish(url: str) -> None:
    with open_registry(url) as registry:
        with writer(url) as locked:
            working = threading.Thread(target=registry.record_epoch, args=(EPOCH,))
            working.start()
            working.join(0.2)
            assert working.is_alive()
            locked.rollback()
        working.join(60)
        assert registry.epochs("spend") == (EPOCH,)


def test_a_new_file_that_another_program_locks_is_given_up_in_time(url_of_sqlite: str, impatient: None) -> None:
    file_of(url_of_sqlite).parent.mkdir()
    with closing(sqlite3.connect(file_of(url_of_sqlite), isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "has been locked by another process" in refusal(url_of_sqlite)


def test_a_new_database_that_another_program_writes_to_is_given_up_in_time(url_of_postgresql: str, impatient: None) -> None:
    with writer(url_of_postgresql):
        assert "has been locked by another process" in refusal(url_of_postgresql)


def test_who_reads_sees_one_state_of_all_tables(registry: Registry, url: str) -> None:
    registry.record_epoch(EPOCH)
    with registry._database.reading() as connection, open_registry(url) as other:
        before = connection.execute(select(schema.EPOCHS.table)).all()
        other.record_epoch(replace(EPOCH, epoch=2))
        assert connection.execute(select(schema.EPOCHS.table)).all() == before
        assert len(other.epochs("spend")) == len(before) + 1


def test_a_file_that_is_no_database_says_so(tmp_path: Path) -> None:
    file = tmp_path / "registry.db"
    file.write_bytes(b"no database at all, but long enough to look at. " * 100)
    assert refusal(f"sqlite:///{file}") == (
        f"the registry {file} is no SQLite database; move the file away, or name another one by HEADWATER_REGISTRY_URL"
    )


def test_a_damaged_database_says_so(tmp_path: Path) -> None:
    file = tmp_path / "registry.db"
    open_registry(f"sqlite:///{file}").close()
    whole = file.read_bytes()
    file.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    assert "is damaged" in refusal(f"sqlite:///{file}")


def test_a_file_that_may_not_grow_says_so(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/registry.db"
    open_registry(url).close()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        assert "(disk I/O error); the disk may be full" in refusal(url)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_folder_that_can_not_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert f"{tmp_path}/file/registry.db cannot be opened: " in refusal(f"sqlite:///{tmp_path}/file/registry.db")


@pytest.mark.parametrize("url", ["", "registry.db", "mysql://u:secret@host/db", "postgresql://u:secret@host:port/db"])
def test_a_url_that_names_no_usable_database_shows_how_to_write_one(url: str) -> None:
    said = refusal(url)
    assert "write it like sqlite:////folder/registry.db or postgresql://" in said
    assert "secret" not in said


@pytest.mark.parametrize("secret", ["top@secret", "top@se/cret", "top@se@cret"])
def test_a_password_with_an_at_that_is_not_encoded_is_refused_and_no_part_of_it_told(secret: str) -> None:
    said = refusal(f"postgresql://u:{secret}@host/db")
    assert "write %40 for @" in said
    assert not any(part in said for part in ("secret", "cret", "top"))


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_registry_in_memory_is_refused(url: str) -> None:
    assert "names no file" in refusal(url)


@pytest.mark.parametrize("secret", ["u:top-secret@127.0.0.1:{port}/db", "127.0.0.1:{port}/db?user=u&password=top-secret"])
def test_a_server_that_can_not_be_used_is_named_without_the_password(secret: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        said = refusal("postgresql://" + secret.format(port=port))
    assert said.startswith(f"the registry in PostgreSQL at 127.0.0.1:{port}/db ")
    assert "top-secret" not in said


def test_processes_that_open_a_new_registry_at_once_all_find_its_tables(
    start: Callable[[str], Program], let_go: Callable[[list[Program]], list[int]]
) -> None:
    opening = """
import sys
from feature_registry import open_registry
print("ready", flush=True)
sys.stdin.read()
open_registry(sys.argv[1]).next_epoch("g")
"""
    assert let_go([start(opening) for _ in range(3)]) == [0, 0, 0]


def test_threads_that_open_a_new_registry_at_once_all_find_its_tables(tmp_path: Path, url_of_postgresql: str) -> None:
    failures: list[BaseException] = []
    for url in (*(f"sqlite:///{tmp_path}/{attempt}.db" for attempt in range(20)), url_of_postgresql):
        gate = threading.Barrier(6)
        working = [threading.Thread(target=open_at, args=(url, gate, failures)) for _ in range(6)]
        for thread in working:
            thread.start()
        for thread in working:
            thread.join()
    assert failures == []


def open_at(url: str, gate: threading.Barrier, failures: list[BaseException]) -> None:
    gate.wait()
    try:
        open_registry(url).close()
    except RegistryError as error:
        failures.append(error)


def test_the_tables_have_the_same_columns_in_postgresql() -> None:
    said: list[str] = []
    engine = create_mock_engine("postgresql+psycopg://", lambda sql, *_, **__: said.append(str(sql.compile(dialect=engine.dialect))))
    schema.metadata.create_all(engine, checkfirst=False)
    assert len(said) == len(schema.metadata.tables)
    assert "seconds DOUBLE PRECISION NOT NULL" in "".join(said)
    assert "delta_version BIGINT," in "".join(said)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Every thread that a test starts ends with it."""
    before = threading.active_count()
    yield
    assert threading.active_count() == before
