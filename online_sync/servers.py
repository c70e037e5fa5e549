"""The only place that speaks Redis: one server or a cluster, for jobs (`Servers`) and for serving (`AsyncServers`).

Which of the two a URL leads to is asked at the first call. In a cluster every command is about one key, or about keys of one slot.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple, TypeAlias, cast

import redis
import redis.asyncio
import redis.asyncio.cluster
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from feature_definitions.errors import UserError

KEYS_PER_CALL = 500
"""Keys that one call is about at most: more would keep readers waiting."""

_PATIENCE, _CONNECT = 0.5, 0.3
_CONNECTIONS = 32

_ELSEWHERE = (redis.exceptions.AskError, redis.exceptions.TryAgainError)
"""What a server of a cluster says of a key that lies, or will lie, at another; a moved one is such an error too."""

_Client: TypeAlias = Any
"""Of one server or of a cluster; what redis-py has for clusters is hardly typed."""


class StoreUnavailable(RuntimeError):
    """The online store does not answer, or refuses; the message names its address, never its password."""


class StoreAddressError(UserError):
    """A URL that is not that of a Redis or Valkey."""


class Script(NamedTuple):
    """A program that runs inside the store, for each of its keys by itself, with one value each; it returns how many it changed."""

    text: str


class Servers:
    """The store's servers for jobs and commands; `patience` is how many seconds an answer may take."""

    def __init__(self, url: str, *, patience: float = _PATIENCE) -> None:
        """Remember the address; the first call connects."""
        self._url = url
        self._options = {"retry": Retry(NoBackoff(), 1, (redis.ConnectionError,)), **_options(patience)}
        with _address_errors():
            self._single = redis.Redis.from_url(url, **self._options)
        self.address = _address(self._single.get_connection_kwargs())
        self._known: dict[Script, str] = {}

    def ping(self) -> None:
        """Raise StoreUnavailable unless the store answers."""
        with errors(self.address):
            self._single.ping()

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of the keys, in their order; None where there is none."""
        if not keys:
            return []
        with errors(self.address):
            return cast(list[bytes | None], self._client.mget_nonatomic(keys) if self._is_cluster else self._client.mget(keys))

    def run(self, script: Script, pairs: Sequence[tuple[str, bytes]]) -> int:
        """Run a script for keys with a value each, and say how many it changed; at most 500 keys a call, in a cluster one."""
        changed = 0
        with errors(self.address):
            for start in range(0, len(pairs), KEYS_PER_CALL):
                some = pairs[start : start + KEYS_PER_CALL]
                try:
                    changed += self._run(self._loaded(script), some)
                except redis.exceptions.NoScriptError:
                    del self._known[script]
                    changed += self._run(self._loaded(script), some)
        return changed

    def swap(self, key: str, old: bytes | None, new: bytes) -> bool:
        """Put a value in the place of another, or of none, unless something else lies there."""
        with errors(self.address):
            return bool(self._client.eval(_SWAP, 1, key, old or b"", new))

    def keys(self, pattern: str) -> Iterator[list[str]]:
        """The keys of a pattern, some at a time; a key may come twice."""
        with errors(self.address):
            found = iter(self._client.scan_iter(match=pattern, count=KEYS_PER_CALL))
            while some := [bytes(key).decode(errors="replace") for key in islice(found, KEYS_PER_CALL)]:
                yield some

    def unlink(self, keys: Sequence[str]) -> int:
        """Delete keys, and say how many there were."""
        if not keys:
            return 0
        with errors(self.address):
            if not self._is_cluster:
                return int(self._client.unlink(*keys))
            with self._client.pipeline() as pipeline:
                for key in keys:
                    pipeline.unlink(key)
                return sum(pipeline.execute())

    def info(self, section: str) -> Mapping[str, Mapping[str, Any]]:
        """What each server that holds keys says of itself, by its address."""
        with errors(self.address):
            if not self._is_cluster:
                return {self.address: self._client.info(section)}
            return {node.name: self._client.info(section, target_nodes=node) for node in self._client.get_primaries()}

    def stop_server(self) -> None:
        """Ask the server itself to save and end: only for one that is ours alone."""
        with errors(self.address):
            self._single.shutdown()

    def close(self) -> None:
        """Give up the connections."""
        self._single.close()
        if "_client" in self.__dict__:
            self._client.close()

    @cached_property
    def _is_cluster(self) -> bool:
        with suppress(redis.exceptions.NoPermissionError):
            return _says_cluster(self._single.info("cluster"))
        return False

    @cached_property
    def _client(self) -> _Client:
        if not self._is_cluster:
            return self._single
        return redis.RedisCluster.from_url(_plain(self._url), **{**self._options, "retry": Retry(NoBackoff(), 3)})

    def _loaded(self, script: Script) -> str:
        if script not in self._known:
            sha = self._client.script_load(script.text)
            self._known[script] = sha.decode() if isinstance(sha, bytes) else sha
        return self._known[script]

    def _run(self, sha: str, pairs: Sequence[tuple[str, bytes]]) -> int:
        if not self._is_cluster:
            return int(self._client.evalsha(sha, len(pairs), *[key for key, _ in pairs], *[value for _, value in pairs]))
        shares: dict[str, list[tuple[str, bytes]]] = {}
        for key, value in pairs:
            shares.setdefault(self._client.get_node_from_key(key).name, []).append((key, value))
        return sum(_run_at(self._client, name, sha, share) for name, share in shares.items())


def _run_at(client: _Client, name: str, sha: str, pairs: Sequence[tuple[str, bytes]]) -> int:
    """Run a script at one server of a cluster, key by key in one go; a key that has moved meanwhile is followed."""
    with client.get_redis_connection(client.get_node(node_name=name)).pipeline(transaction=False) as pipeline:
        for key, value in pairs:
            pipeline.evalsha(sha, 1, key, value)
        found = pipeline.execute(raise_on_error=False)
    changed = 0
    for (key, value), first in zip(pairs, found, strict=True):
        result = client.execute_command("EVALSHA", sha, 1, key, value) if isinstance(first, _ELSEWHERE) else first
        if isinstance(result, Exception):
            raise result
        changed += int(result)
    return changed


class AsyncServers:
    """The store's servers as serving reads them; every call ends within half a second, connecting included."""

    def __init__(self, url: str) -> None:
        """Remember the address; the first call connects."""
        self._url = url
        self._options = {"retry": AsyncRetry(NoBackoff(), 1, (redis.ConnectionError,)), **_options(_PATIENCE)}
        with _address_errors():
            pool = redis.asyncio.BlockingConnectionPool.from_url(url, max_connections=_CONNECTIONS, timeout=_PATIENCE, **self._options)
        self._single = redis.asyncio.Redis(connection_pool=pool)
        self._client: _Client = None
        self.address = _address(pool.connection_kwargs)

    async def ping(self) -> None:
        """Raise StoreUnavailable unless the store answers."""
        with errors(self.address):
            async with asyncio.timeout(_PATIENCE):
                await self._single.ping()

    async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of the keys, in their order; None where there is none. One round trip, in a cluster one to each server."""
        if not keys:
            return []
        with errors(self.address):
            async with asyncio.timeout(_PATIENCE):
                client = self._client or await self._connected()
                found = client.mget(keys) if client is self._single else client.mget_nonatomic(keys)
                return cast(list[bytes | None], await found)

    async def close(self) -> None:
        """Give up the connections."""
        await self._single.connection_pool.disconnect()
        if self._client is not None and self._client is not self._single:
            await self._client.aclose()

    async def _connected(self) -> _Client:
        client: _Client = self._single
        with suppress(redis.exceptions.NoPermissionError):
            if _says_cluster(await self._single.info("cluster")):
                client = redis.asyncio.RedisCluster.from_url(_plain(self._url), **self._options)
        self._client = self._client or client
        return self._client


_SWAP = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


@contextmanager
def errors(address: str) -> Iterator[None]:
    """What went wrong with a store, as one sentence without its password."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise StoreUnavailable(f"the online store at {address} does not answer: {reason}") from None


@contextmanager
def _address_errors() -> Iterator[None]:
    try:
        yield
    except ValueError:
        raise StoreAddressError("the online store's URL cannot be read; write one like redis://user:password@host:6379/0") from None


def _options(patience: float) -> dict[str, Any]:
    return {"protocol": 2, "socket_timeout": patience, "socket_connect_timeout": min(patience, _CONNECT)}


def _says_cluster(info: Mapping[str, Any]) -> bool:
    return bool(info.get("cluster_enabled", 0))


def _plain(url: str) -> str:
    """The URL without the number of a database, of which a cluster has but one."""
    head, slash, tail = url.partition("://")
    return head + slash + tail.partition("/")[0] + ("?" + tail.partition("?")[2] if "?" in tail else "")


def _address(options: Mapping[str, Any]) -> str:
    return str(options["path"]) if "path" in options else f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
