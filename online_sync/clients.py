"""Opens what speaks to the online store: one server, a cluster, or the primary that Sentinels name; for jobs and for serving.

Nothing is connected here: the first call does that. Of a service of Sentinels each new connection asks them who the primary is.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from time import monotonic, sleep
from typing import Any, TypeAlias, TypeVar

import hiredis
import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.sentinel
import redis.sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from online_sync.address import Address, Login

_CONNECTIONS = 32

UNSETTLED = (redis.exceptions.ClusterError, redis.exceptions.SlotNotCoveredError, redis.exceptions.TryAgainError)
"""What is said while the servers of a cluster do not agree yet whose a key is, or lack who has it; nothing was done of what was asked."""
_UNTIL_SETTLED = 0.05
"""Seconds between two calls then; servers tell each other of their slots some times a second."""

_T = TypeVar("_T")

Client: TypeAlias = Any
"""Of one server or of a cluster; what redis-py has for clusters is hardly typed."""


class OtherServer(redis.RedisError):
    """Another server answers than the one that a job began with."""


def single(address: Address, *, patience: float, runs: Callable[[], frozenset[str] | None]) -> Client:
    """One server, or the primary of a service; every call is tried once more where its connection was gone.

    `runs` says, whenever a connection is made, to which runs of the server it may lead: None, to any; none, it is not known which, so that
    no connection may be made a second time.
    """
    options: dict[str, Any] = {"retry": Retry(NoBackoff(), 1, (redis.ConnectionError,)), **_options(address, patience)}
    options["redis_connect_func"] = _staying(runs)
    if address.service is None:
        kind = (redis.UnixDomainSocketConnection, redis.SSLConnection, redis.Connection)
        return redis.Redis.from_pool(redis.ConnectionPool(connection_class=_kind(address, kind), **_place(address), **options))
    watching = {"retry": Retry(NoBackoff(), 0), **_of_sentinels(address, patience)}
    sentinel: Client = redis.sentinel.Sentinel
    return sentinel(address.hosts, sentinel_kwargs=watching, **_secured(address), **options).master_for(address.service)


def cluster(address: Address, *, patience: float) -> Client:
    """The cluster that a server belongs to."""
    options = {"retry": Retry(NoBackoff(), 3), **_options(address, patience, db=False)}
    return redis.RedisCluster(**_first(address), **_secured(address), **options)


def settled(call: Callable[[], _T], *, seconds: float) -> _T:
    """What a call to a cluster returns; while its servers do not agree whose a key is, it is made again, for so many seconds."""
    end = monotonic() + seconds
    while True:
        try:
            return call()
        except UNSETTLED:
            if monotonic() > end:
                raise
        sleep(_UNTIL_SETTLED)


async def async_settled(call: Callable[[], Awaitable[_T]], *, seconds: float) -> _T:
    """As `settled`, in an event loop."""
    end = monotonic() + seconds
    while True:
        try:
            return await call()
        except UNSETTLED:
            if monotonic() > end:
                raise
        await asyncio.sleep(_UNTIL_SETTLED)


def answers(client: Client, commands: Callable[[], Iterator[tuple[Any, ...]]], *, under_way: int) -> tuple[list[Any], float]:
    """What one server answers to commands, of which so many are under way at most, and the seconds until it answered the first.

    An error among the answers is raised. While the server works on one, the next are made and sent. If the connection breaks, all are
    sent once more.
    """
    pool = client.connection_pool
    connection = pool.get_connection()
    try:
        found, first = connection.retry.call_with_retry(
            lambda: _answers(connection, commands(), under_way), lambda _: connection.disconnect()
        )
    except BaseException:  # what was not read would be taken for the answer to what is asked next
        connection.disconnect()
        raise
    finally:
        pool.release(connection)
    for each in found:
        if isinstance(each, Exception):
            raise each
    return found, first


def _answers(connection: Any, commands: Iterator[tuple[Any, ...]], under_way: int) -> tuple[list[Any], float]:
    found: list[Any] = []
    sent, began, first = 0, monotonic(), 0.0
    for command in commands:
        if sent - len(found) == under_way:
            found.append(_answer(connection))
            first = first or monotonic() - began
        connection.send_packed_command([hiredis.pack_command(command)])
        sent += 1
    while len(found) < sent:
        found.append(_answer(connection))
        first = first or monotonic() - began
    return found, first


def _answer(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error


def close(client: Client) -> None:
    """Give up the connections, those to Sentinels too."""
    client.close()
    sentinel = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    if sentinel is not None:
        sentinel.close()


def async_single(address: Address, *, patience: float) -> Client:
    """One server, or the primary of a service, for an event loop."""
    options: dict[str, Any] = {"retry": AsyncRetry(NoBackoff(), 1, (redis.ConnectionError,)), **_options(address, patience)}
    if address.service is None:
        made = redis.asyncio
        kind = _kind(address, (made.UnixDomainSocketConnection, made.SSLConnection, made.Connection))
        limits: dict[str, Any] = {"max_connections": _CONNECTIONS, "timeout": patience}
        return made.Redis(connection_pool=made.BlockingConnectionPool(connection_class=kind, **limits, **_place(address), **options))
    watching = {"retry": AsyncRetry(NoBackoff(), 0), **_of_sentinels(address, patience)}
    sentinel: Client = redis.asyncio.sentinel.Sentinel
    return sentinel(address.hosts, sentinel_kwargs=watching, **_secured(address), **options).master_for(address.service)


def async_cluster(address: Address, *, patience: float) -> Client:
    """The cluster that a server belongs to, for an event loop."""
    options = {"retry": AsyncRetry(NoBackoff(), 1, (redis.ConnectionError,)), **_options(address, patience, db=False)}
    return redis.asyncio.RedisCluster(**_first(address), **_secured(address), **options)


async def async_close(client: Client) -> None:
    """Give up the connections, those to Sentinels too."""
    await client.aclose()
    pool = getattr(client, "connection_pool", None)
    if pool is not None:
        await pool.disconnect()
    for sentinel in getattr(getattr(pool, "sentinel_manager", None), "sentinels", ()):
        await sentinel.aclose()


def _options(address: Address, patience: float, *, db: bool = True) -> dict[str, Any]:
    named = {} if address.client_name is None else {"client_name": address.client_name}
    return {**_timed(patience), **_known(address.login), **named, **({"db": address.db} if db else {})}


def _timed(patience: float) -> dict[str, Any]:
    return {"protocol": 2, "socket_timeout": patience, "socket_connect_timeout": patience}


def _of_sentinels(address: Address, patience: float) -> dict[str, Any]:
    """Each Sentinel has so little time that the last is asked, too, before the patience of who reads ends."""
    return {**_timed(patience / (len(address.hosts) + 1)), **_known(address.sentinels_login), **_secured(address)}


def _known(login: Login) -> dict[str, Any]:
    return {"username": login.username, "password": login.password}


def _secured(address: Address) -> dict[str, Any]:
    return {} if address.tls is None else {"ssl": True, **address.tls}


def _first(address: Address) -> dict[str, Any]:
    host, port = address.hosts[0]
    return {"host": host, "port": port}


def _place(address: Address) -> dict[str, Any]:
    return {"path": address.path} if address.path is not None else {**_first(address), **(address.tls or {})}


def _kind(address: Address, kinds: tuple[Any, Any, Any]) -> Any:
    """The connections to an address, of those by a socket's path, by TLS and without."""
    return kinds[0] if address.path is not None else kinds[2] if address.tls is None else kinds[1]


def _staying(runs: Callable[[], frozenset[str] | None]) -> Callable[[Any], None]:
    """What a new connection does first: it makes sure that the server is still the one that the job began with."""
    made: set[object] = set()

    def connected(connection: Any) -> None:
        connection.on_connect()
        stays = runs()
        if stays:
            connection.send_command("INFO", "server")
            if _run(connection.read_response()) not in stays:
                raise OtherServer
        elif stays is not None and made:
            raise OtherServer
        made.add(True)

    return connected


def _run(said: Any) -> str:
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    found = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for name, _, value in found if name == "run_id"), "")
