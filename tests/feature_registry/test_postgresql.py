"""The registry on a real PostgreSQL."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
import pytest
from sqlalchemy import insert, make_url, text

from feature_definitions.intervals import Interval
from feature_definitions.records import Epoch, Release
from feature_registry import LeaseHeld, Registry, RegistryError, Subject, open_registry, postgresql, schema, subjects
from tests.postgresql import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.postgresql import Server

T = datetime(2026, 1, 5, tzinfo=UTC)
EPOCH = Epoch("spend", 1, 1, T, 5, 5, T)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Server:
    """The server, under a name that is free."""
    found: Server = request.getfixturevalue("postgresql")
    return found


@pytest.fixture
def registry(url_of_postgresql: str) -> Iterator[Registry]:
    """An empty registry there."""
    with open_registry(url_of_postgresql) as opened:
        yield opened


def asked(server: Server, url: str, query: str) -> list[tuple[object, ...]]:
    """What somebody else finds in the database of a URL."""
    with psycopg.connect(server.url(url.rpartition("/")[2])) as connection:
        return connection.execute(query.encode()).fetchall()


def test_the_registry_opens_there_and_remembers(server: Server) -> None:
    url = server.create("remembering")
    with open_registry(url) as registry:
        assert registry.blank()
        registry.record_epoch(EPOCH)
    with open_registry(url) as registry:
        assert registry.epochs("spend") == (EPOCH,)
        with registry.lease(subjects.source("spend", lake="/lake"), now=T) as lease:
            lease.check()


@pytest.mark.parametrize(
    ("said", "instead", "message"),
    [
        (PASSWORD, f"{PASSWORD}-not", 'password authentication failed for user "ada"'),
        ("/absent", "/nowhere", 'database "nowhere" does not exist'),
        (r":\d+/", ":1/", "Connection refused"),
    ],
)
def test_what_is_wrong_there_is_told_in_one_sentence_without_the_password(server: Server, said: str, instead: str, message: str) -> None:
    with pytest.raises(RegistryError, match=message) as refused:
        open_registry(re.sub(said, instead, server.url("absent"))).close()
    assert "\n" not in str(refused.value)
    assert PASSWORD not in str(refused.value)


# ------------------------------------------------------------------------------------------------------------------------ restarts


def test_a_server_that_was_killed_and_started_again_is_used_without_a_word(server: Server, registry: Registry) -> None:
    registry.record_epoch(EPOCH)
    server.kill()
    server.start()
    registry.record_epoch(replace(EPOCH, epoch=2))
    assert len(registry.epochs("spend")) == 2


def test_a_server_that_is_away_for_a_moment_is_waited_for(server: Server, registry: Registry) -> None:
    server.kill()
    starting = threading.Timer(0.5, server.start)
    starting.start()
    try:
        registry.record_epoch(EPOCH)
    finally:
        starting.join()
    assert registry.epochs("spend") == (EPOCH,)


def test_a_server_that_stays_away_is_waited_for_only_so_long(server: Server, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("feature_registry.database.RESTART_SECONDS", 0.3)
    server.kill()
    try:
        with pytest.raises(RegistryError, match="does not answer: "):
            registry.record_epoch(EPOCH)
    finally:
        server.start()


def test_of_several_servers_that_are_all_away_any_is_waited_for(server: Server, url_of_postgresql: str) -> None:
    here = make_url(url_of_postgresql)
    both = f"postgresql://{here.username}:{here.password}@/{here.database}?host=127.0.0.1:{here.port}&host=127.0.0.1:1"
    with open_registry(both) as registry:
        registry.record_epoch(EPOCH)
        server.kill()
        with pytest.raises(RegistryError, match="does not answer: "):
            open_registry(both)
        starting = threading.Timer(0.5, server.start)
        starting.start()
        try:
            registry.record_epoch(replace(EPOCH, epoch=2))
        finally:
            starting.join()
        assert [each.epoch for each in registry.epochs("spend")] == [1, 2]


def test_a_change_that_was_cut_off_is_told_and_nothing_of_it_is_kept(server: Server, registry: Registry) -> None:
    def cut_off() -> None:
        with registry._database.writing() as connection:
            connection.execute(insert(schema.tiles), {"path": "/t", "date": "d", "table_id": "t", "revision": 1, "states": "[]"})
            server.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'headwater'")
            connection.execute(text("SELECT 1"))

    with pytest.raises(RegistryError, match="was lost in the middle; what was being changed happened as a whole or not at all"):
        cut_off()
    assert registry.tiles("/t", table_id="t") == {}


def test_a_lease_outlives_a_restart_of_the_server(server: Server, url_of_postgresql: str) -> None:
    with open_registry(url_of_postgresql, silence=timedelta(seconds=3)) as registry, registry.lease(Subject("a"), now=T) as lease:
        server.kill()
        time.sleep(0.5)
        server.start()
        time.sleep(3)
        lease.check()
        with open_registry(url_of_postgresql, silence=timedelta(seconds=3)) as other, pytest.raises(LeaseHeld, match="worked on"):
            other.lease(Subject("a"), now=T).__enter__()


# --------------------------------------------------------------------------------------------------------------------- connections


def test_a_process_has_few_connections_and_keeps_one_that_says_whose_it_is(
    server: Server, registry: Registry, url_of_postgresql: str
) -> None:
    database = url_of_postgresql.rpartition("/")[2]
    query = f"SELECT application_name FROM pg_stat_activity WHERE datname = '{database}' AND application_name = 'headwater'"

    def look(_: int) -> int:
        with registry._database.reading() as connection:
            connection.execute(text("SELECT pg_sleep(0.1)"))
            return len(asked(server, url_of_postgresql, query))

    with ThreadPoolExecutor(10) as threads:
        assert max(threads.map(look, range(10))) == 5
    deadline = time.monotonic() + 60
    while len(found := asked(server, url_of_postgresql, query)) > 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert found == [("headwater",)]


def test_the_url_says_what_the_driver_is_told(server: Server, url_of_postgresql: str) -> None:
    url = f"{url_of_postgresql}?application_name=nightly&sslmode=prefer"
    with open_registry(url) as registry, registry._database.reading() as connection:
        assert connection.execute(text("SHOW application_name")).scalar() == "nightly"


def test_no_statement_is_prepared_since_a_pooler_would_lose_it(server: Server, registry: Registry) -> None:
    for _ in range(8):
        registry.epochs("spend")
    with registry._database.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar() == 0


def test_who_stops_in_the_middle_of_a_change_does_not_hold_up_others_for_ever(
    url_of_postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "_IDLE_SECONDS", 0.2)
    with open_registry(url_of_postgresql) as stopped, open_registry(url_of_postgresql) as other:
        with pytest.raises(RegistryError, match="was lost in the middle"), stopped._database.writing() as connection:
            other.record_epoch(EPOCH)
            connection.execute(text("SELECT 1"))
        assert stopped.epochs("spend") == (EPOCH,)


@pytest.mark.parametrize(
    ("url", "named"),
    [("postgresql://u@h/d", "h:5432/d"), ("postgres://h:1/d", "h:1/d"), ("postgresql:///d?host=a:1&host=b:2", "a:1,b:2/d")],
)
def test_a_server_is_named_by_host_port_and_database(url: str, named: str) -> None:
    assert postgresql.place(make_url(url)) == f"the registry in PostgreSQL at {named}"


# ------------------------------------------------------------------------------------------------------------------------- refusals


def test_a_password_may_hold_any_sign_and_is_never_told(server: Server, url_of_postgresql: str) -> None:
    secret = "p@ss:/%?#&=+ ü'[]"
    said = secret.replace("'", "''")
    server.run("DROP ROLE IF EXISTS odd", f"CREATE ROLE odd LOGIN PASSWORD '{said}'")
    place = url_of_postgresql.rpartition("@")[2]
    with pytest.raises(RegistryError, match=r"refuses its role \(permission denied for schema public\); grant it what docs") as caught:
        open_registry(f"postgresql://odd:{quote(secret, safe='')}@{place}")
    with pytest.raises(RegistryError, match="password authentication failed"):
        open_registry(f"postgresql://odd:{quote(secret[1:], safe='')}@{place}")
    assert secret not in str(caught.value)


def test_a_password_may_come_from_where_libpq_looks(url_of_postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    open_registry(url_of_postgresql.replace(f":{PASSWORD}", "")).close()


def test_a_role_that_may_only_change_rows_is_enough_once_the_tables_are_there(server: Server, url_of_postgresql: str) -> None:
    open_registry(url_of_postgresql).close()
    database = url_of_postgresql.rpartition("/")[2]
    server.run("DROP ROLE IF EXISTS worker", "CREATE ROLE worker LOGIN PASSWORD 'w'")
    server.run("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO worker", database=database)
    with open_registry(url_of_postgresql.replace(f"ada:{PASSWORD}", "worker:w")) as registry:
        registry.record_epoch(EPOCH)
        with registry.lease(Subject("a"), now=T):
            assert registry.epochs("spend") == (EPOCH,)
    server.run("DROP OWNED BY worker", database=database)


def test_a_server_that_only_reads_is_read_and_refuses_a_change(url_of_postgresql: str) -> None:
    open_registry(url_of_postgresql).close()
    with open_registry(f"{url_of_postgresql}?options=-cdefault_transaction_read_only%3Don") as registry:
        assert registry.epochs("spend") == ()
        with pytest.raises(RegistryError, match="can only be read there: the server is a replica"):
            registry.record_epoch(EPOCH)


def test_a_text_that_postgresql_cannot_hold_is_told(registry: Registry) -> None:
    release = Release("spend", 1, Interval(T, T + timedelta(days=1)), 1, "a\0b", T)
    with pytest.raises(RegistryError, match=r"cannot hold a value: .* NUL"):
        registry.release([release])
