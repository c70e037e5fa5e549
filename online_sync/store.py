"""The online store, the only place that speaks to Redis or Valkey: `Store` for jobs and commands, `AsyncStore` for serving."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeAlias, cast

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from feature_definitions import layout
from feature_definitions.errors import UserError
from online_sync.codec import EPOCH_END, EPOCH_START, CodecError, EpochRecord, decode_epoch, encode_epoch

ROWS_PER_WRITE = 500
"""Rows that one call may write: more would keep readers waiting."""

_PATIENCE, _CONNECT = 0.5, 0.3
_CONNECTIONS = 32
_ATTEMPTS = 10

# A row is written where none of a later epoch is, unless a later sync of its group has begun. GETRANGE fetches the
# epoch field alone: its tag (25) and 64 bits, of which Lua's numbers hold the 53 that are used.
_PUT_ROWS = f"""
local function epoch(field)
  if #field ~= {EPOCH_END - EPOCH_START} or string.byte(field) ~= 25 then return -1 end
  local low, high = struct.unpack('<I4I4', field, 2)
  return high * 4294967296 + low
end
local record, begun = redis.call('GET', KEYS[1]), 0
if record then
  local readable, fields = pcall(cjson.decode, record)
  if readable and type(fields) == 'table' then begun = tonumber(fields.begun) or 0 end
end
local written = 0
for i, value in ipairs(ARGV) do
  local new = epoch(string.sub(value, {EPOCH_START + 1}, {EPOCH_END}))
  if new >= begun and new >= epoch(redis.call('GETRANGE', KEYS[i + 1], {EPOCH_START}, {EPOCH_END - 1})) then
    redis.call('SET', KEYS[i + 1], value)
    written = written + 1
  end
end
return written
"""

_SWAP = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


class StoreUnavailable(RuntimeError):
    """The online store does not answer, or refuses; the message names its address, never its password."""


class StoreAddressError(UserError):
    """A URL that is not that of a Redis or Valkey."""


_Change: TypeAlias = Callable[[EpochRecord | None], EpochRecord]


class Store:
    """A connection to the online store for jobs and commands; `patience` is how many seconds an answer may take."""

    def __init__(self, url: str, *, patience: float = _PATIENCE) -> None:
        """Remember the address; the first call connects."""
        with _address_errors():
            self._client = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 1, (redis.ConnectionError,)), **_options(patience))
        self.address = _address(self._client.get_connection_kwargs())
        self._put_rows = self._client.register_script(_PUT_ROWS)
        self._swap = self._client.register_script(_SWAP)

    def ping(self) -> None:
        """Raise StoreUnavailable unless the store answers."""
        with _errors(self.address):
            self._client.ping()

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of the keys, in their order; None where there is none."""
        if not keys:
            return []
        with _errors(self.address):
            return cast(list[bytes | None], self._client.mget(keys))

    def put_rows(self, rows: Sequence[tuple[str, bytes]], *, project: str, group: str) -> int:
        """Write the packed rows of a group under their keys, and say how many were written.

        A row is left out where one of a later epoch lies, and when a sync of a later epoch has begun. Each call to the
        store writes at most 500 rows at once, atomically.
        """
        record, written = layout.epoch_key(project, group), 0
        for start in range(0, len(rows), ROWS_PER_WRITE):
            some = rows[start : start + ROWS_PER_WRITE]
            with _errors(self.address):
                written += int(self._put_rows([record, *[key for key, _ in some]], [value for _, value in some]))
        return written

    def read_epoch(self, group: str, *, project: str) -> EpochRecord | None:
        """The group's epoch record; its `epoch` is 0 while its first sync runs."""
        data = self.mget([layout.epoch_key(project, group)])[0]
        return None if data is None else decode_epoch(data)

    def begin_epoch(self, coming: EpochRecord) -> bool:
        """Announce the sync that will end by `publish_epoch(coming)`; False if a later one has begun: this one must stop.

        From now on rows of earlier epochs are refused, and readers know the schema of the rows to come.
        """

        def begun(old: EpochRecord | None) -> EpochRecord:
            if old is None:
                return replace(coming, epoch=0, begun=coming.epoch)
            return replace(old, begun=coming.epoch, also=_other_columns(old, coming, keep=old))

        return self._replace(coming, begun)

    def publish_epoch(self, record: EpochRecord) -> bool:
        """Make a finished sync known to readers; False, and nothing changed, if a later one has begun or was published."""

        def published(old: EpochRecord | None) -> EpochRecord:
            also = () if old is None or old.generation != record.generation else _other_columns(old, record, keep=record)
            return replace(record, begun=record.epoch, also=also)

        return self._replace(record, published)

    def stop_server(self) -> None:
        """Ask the server itself to save and end: only for one that is ours alone."""
        with _errors(self.address):
            self._client.shutdown()

    def close(self) -> None:
        """Give up the connections."""
        self._client.close()

    def _replace(self, record: EpochRecord, change: _Change) -> bool:
        key = layout.epoch_key(record.project, record.group)
        for _ in range(_ATTEMPTS):
            data = self.mget([key])[0]
            old = _readable(data)
            if old is not None and max(old.begun, old.epoch) > record.epoch:
                return False
            with _errors(self.address):
                if self._swap([key], [data or b"", encode_epoch(change(old))]):
                    return True
        raise StoreUnavailable(f"the epoch record of {record.group} at {self.address} keeps changing; does another sync run?")


class AsyncStore:
    """The online store as serving reads it; every call ends within half a second, connecting included."""

    def __init__(self, url: str) -> None:
        """Remember the address; the first call connects."""
        with _address_errors():
            retry = AsyncRetry(NoBackoff(), 1, (redis.ConnectionError,))
            pool = redis.asyncio.BlockingConnectionPool.from_url(
                url, max_connections=_CONNECTIONS, timeout=_PATIENCE, retry=retry, **_options(_PATIENCE)
            )
        self._client = redis.asyncio.Redis(connection_pool=pool)
        self.address = _address(pool.connection_kwargs)

    async def ping(self) -> None:
        """Raise StoreUnavailable unless the store answers."""
        with _errors(self.address):
            async with asyncio.timeout(_PATIENCE):
                await self._client.ping()

    async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of the keys, in their order; None where there is none."""
        with _errors(self.address):
            async with asyncio.timeout(_PATIENCE):
                return cast(list[bytes | None], await self._client.mget(keys)) if keys else []

    async def close(self) -> None:
        """Give up the connections."""
        await self._client.connection_pool.disconnect()


def _options(patience: float) -> dict[str, Any]:
    return {"protocol": 2, "socket_timeout": patience, "socket_connect_timeout": min(patience, _CONNECT)}


def _readable(data: bytes | None) -> EpochRecord | None:
    """A damaged record counts as none, so that the next sync repairs it."""
    try:
        return None if data is None else decode_epoch(data)
    except CodecError:
        return None


def _other_columns(old: EpochRecord, new: EpochRecord, *, keep: EpochRecord) -> tuple[tuple[tuple[str, str], ...], ...]:
    """Every schema that rows may have beside that of `keep`, each once."""
    return tuple(columns for columns in dict.fromkeys((new.columns, old.columns, *old.also)) if columns != keep.columns)


def _address(options: dict[str, Any]) -> str:
    return str(options["path"]) if "path" in options else f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"


@contextmanager
def _address_errors() -> Iterator[None]:
    try:
        yield
    except ValueError:
        raise StoreAddressError("the online store's URL cannot be read; write one like redis://user:password@host:6379/0") from None


@contextmanager
def _errors(address: str) -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise StoreUnavailable(f"the online store at {address} does not answer: {reason}") from None
