"""Stores by TLS, with users, and behind Sentinels: jobs and serving reach them, and what is wrong is told in one sentence."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import redis

from online_sync.servers import READERS_PATIENCE, StoreUnavailable
from online_sync.store import AsyncStore, Store
from tests.online_sync import secured
from tests.online_sync.conftest import alone, free_port, sentinel, written
from tests.online_sync.secured import Certificates
from tests.online_sync.test_servers import key, row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return secured.certificates(tmp_path_factory.mktemp("certificates"))


USER = ("--user", "default", "off", "--user", "sync", "on", ">word", "~hw:shop:*", "+@all", "-@dangerous", "+info")


@pytest.fixture(scope="module")
def port(made: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A server by TLS that lets nobody in without a certificate and a password."""
    with secured.by_tls(tmp_path_factory.mktemp("tls"), made, *USER) as found:
        yield found


BUSY = 60.0
"""Seconds that an answer may take of a server that shows its certificate in this process, on a machine that does much else."""


def read(url: str, keys: list[str], *, patience: float = BUSY) -> list[bytes | None]:
    """What serving reads."""

    async def reading() -> list[bytes | None]:
        serving = AsyncStore(url, patience=patience)
        try:
            await serving.ping()
            return await serving.mget(keys)
        finally:
            await serving.close()
            await asyncio.sleep(0.02)  # the loop closes sockets after the connections that TLS refused

    return asyncio.run(reading())


def test_a_user_with_a_certificate_writes_and_serving_reads_by_tls(port: int, made: Certificates) -> None:
    url = f"rediss://sync:word@127.0.0.1:{port}/0?{made.of_client}"
    with closing(Store(url, patience=BUSY)) as store:
        assert written(store.put_rows([(key(n), row(n)) for n in range(1200)])) == 1200
        assert len(store.says()) == 1
    assert read(url, [key(7), key(5000)]) == [row(7), None]


@pytest.mark.skipif(secured.OWN is None, reason="no redis-server is installed, which has TLS itself; the tests above have a terminator")
def test_a_server_that_has_tls_itself_is_reached_and_its_refusals_are_told_the_same(made: Certificates, tmp_path: Path) -> None:
    with secured.by_tls(tmp_path, made, *USER, own=secured.OWN) as own:
        test_a_user_with_a_certificate_writes_and_serving_reads_by_tls(own, made)
        test_a_server_that_wants_a_certificate_says_so(own, made)


def told(url: str, *, patience: float = BUSY) -> str:
    """How a store's failure is told, by jobs and by serving alike."""
    with closing(Store(url, patience=patience)) as store, pytest.raises(StoreUnavailable) as raised:
        store.mget([key(1)])
    with pytest.raises(StoreUnavailable) as again:
        read(url, [key(1)], patience=patience)
    assert str(again.value) == str(raised.value)
    assert "word" not in str(raised.value).replace("password", "")
    return str(raised.value)


def test_a_certificate_of_an_unknown_authority_is_refused_by_name(port: int, made: Certificates, tmp_path: Path) -> None:
    other = secured.certificates(tmp_path)
    url = f"rediss://sync:word@127.0.0.1:{port}/0?{made.of_client}".replace(str(made.file("ca")), str(other.file("ca")))
    assert "shows a certificate that is not trusted (certificate verify failed:" in told(url)


def test_a_host_that_the_certificate_does_not_name_is_refused_unless_that_is_not_checked(port: int, made: Certificates) -> None:
    url = f"rediss://sync:word@localhost:{port}/0?{made.of_client}"
    assert "shows a certificate that is not trusted (certificate verify failed: Hostname mismatch" in told(url)
    assert read(f"{url}&ssl_check_hostname=no", []) == []


def test_a_server_that_wants_a_certificate_says_so(port: int, made: Certificates) -> None:
    said = pytest.raises(StoreUnavailable, match="wants a certificate of ours: name its files by ssl_certfile and ssl_keyfile")
    with closing(Store(f"rediss://sync:word@127.0.0.1:{port}/0?ssl_ca_certs={made.file('ca')}", patience=BUSY)) as store, said:
        store.ping()


def test_a_server_without_tls_says_so(server: str) -> None:
    assert "it may speak no TLS at this port: then begin HEADWATER_REDIS_URL with redis" in told(
        server.replace("redis://", "rediss://"), patience=0.5
    )


def test_sentinels_name_the_primary_that_is_written_and_read_by_tls_and_with_passwords(made: Certificates, tmp_path: Path) -> None:
    with (
        alone(tmp_path / "store", "--requirepass", "word") as (plain, _),
        secured.terminated(plain, made) as store_port,
        sentinel(tmp_path / "sentinel", "shop", store_port, "requirepass watch") as watching,
        secured.terminated(watching, made) as sentinel_port,
    ):
        options = f"{made.of_client}&sentinel_password=watch"
        url = f"rediss+sentinel://:word@127.0.0.1:{free_port()},127.0.0.1:{sentinel_port}/shop/2?{options}"
        with closing(redis.Redis(port=watching, password="watch")) as client:
            client.execute_command("SENTINEL", "SET", "shop", "down-after-milliseconds", 600_000)
        with closing(Store(url, patience=BUSY)) as store:
            assert written(store.put_rows([(key(1), row(1))])) == 1
            [said] = store.says().values()
            assert said.keys == 1
        assert read(url, [key(1)]) == [row(1)]
        assert "has Sentinels that want a user or a password" in told(url.replace("=watch", "=wr0ng"))
        assert "has no primary that its Sentinels see alive" in told(url.replace("/shop/", "/shp/"))


def test_sentinels_that_are_all_away_are_told_within_the_time_of_a_read() -> None:
    url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{free_port()}/shop"
    assert "has Sentinels that do not answer" in told(url, patience=READERS_PATIENCE)
