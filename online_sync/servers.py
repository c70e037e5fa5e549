"""The only place that speaks Redis: one server or a cluster, for jobs (`Servers`) and for serving (`AsyncServers`).

Which of the two a URL leads to is asked at the first call. In a cluster every command is about one key, or about keys of one slot.
`clients` opens the connections.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from itertools import chain, islice
from time import monotonic, sleep
from typing import Any, NamedTuple, TypeVar, cast

import redis

from online_sync import address as addresses
from online_sync import clients, faults
from online_sync.clients import Client
from online_sync.pace import Pace, Told

KEYS_PER_CALL = 500
"""Keys that one call is about at most: more would keep readers waiting."""
_KEYS_PER_SCRIPT, _NEW_KEYS_AT_ONCE = 20, 50
"""Keys that a script runs for at most, and that are put at once where nothing lies, which takes as long: between two of these the server
answers others."""

PATIENCE, READERS_PATIENCE = 5.0, 0.5
"""Seconds that a job or a command waits for an answer, and those that one who asks for features does."""
_FAILURES, _PAUSE = 5, 0.5
"""Calls that fail one after the other before most are told so without trying, and the seconds between two that are tried then."""
_CALLS, _KEYS_PER_READ = 4, 2000
"""Calls for values that are under way at most, and keys that one is for, unless one asker has more."""

_ELSEWHERE = (redis.exceptions.AskError, *clients.UNSETTLED)
"""What a server of a cluster says of a key that lies, or will lie, at another; a moved one is such an error too."""
_SETTLES = 0.3
"""Seconds that a read waits at most while the servers of a cluster do not agree whose a key is; jobs wait as long as for an answer."""


_T = TypeVar("_T")


class StoreUnavailable(RuntimeError):
    """The online store does not answer, or refuses; the message names its address, never its password."""


class StoreReplaced(StoreUnavailable):
    """Another server answers than the one that a job began with, so what the job wrote may be lost; the rerun compares every row."""


class Saying(NamedTuple):
    """What a server says of itself: which run it is, how many keys it evicted in it, how many it has that never expire, and by which
    policy it may evict those (None if it does not).
    """

    run_id: str
    evicted: int
    keys: int
    evicts: str | None


def is_replaced(before: Mapping[str, Saying], now: Mapping[str, Saying]) -> bool:
    """Whether a server that there was before is another one now, or is gone; new ones may have come."""
    return any(address not in now or now[address].run_id != said.run_id for address, said in before.items())


def warnings(says: Mapping[str, Saying]) -> list[str]:
    """What is wrong with the settings of servers, though they work."""
    return [
        f"the online store at {address} evicts rows once its memory is full (maxmemory-policy {saying.evicts}); such rows are answered as "
        "NOT_FOUND until a sync repairs them: set maxmemory-policy to noeviction"
        for address, saying in says.items()
        if saying.evicts is not None
    ]


class Script(NamedTuple):
    """A program that runs inside the store, for each of its keys by itself, with one value each and what all have in common.

    It returns a text: one letter for each key, which says what was done.
    """

    text: str


class Servers:
    """The store's servers for jobs and commands; `patience` is how many seconds an answer may take."""

    def __init__(self, url: str, *, patience: float = PATIENCE, runs: frozenset[str] | None = None) -> None:
        """Remember the address; the first call connects. With `runs` no server is spoken to that is not one of these (`StoreReplaced`)."""
        self._at, self._patience, self.runs = addresses.read(url), patience, runs
        self._single = clients.single(self._at, patience=patience, runs=lambda: self.runs)
        self.address = str(self._at)
        self._known: dict[Script, str] = {}
        self._paces: defaultdict[Script | None, Pace] = defaultdict(Pace)

    def ping(self) -> None:
        """Raise StoreUnavailable unless the store answers."""
        with errors(self._at):
            self._single.ping()

    def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of the keys, in their order; None where there is none."""
        if not keys:
            return []
        with errors(self._at):
            found = self._settled(lambda: self._client.mget_nonatomic(keys)) if self._is_cluster else self._client.mget(keys)
            return cast(list[bytes | None], found)

    def run(self, script: Script, pairs: Sequence[tuple[str, bytes]], *common: str | int) -> str:
        """Run a script for at most 500 keys with a value each, each key once, and say by its letters what it did."""
        if not pairs:
            return ""
        with errors(self._at):
            try:
                return self._run(script, pairs, common)
            except redis.exceptions.NoScriptError:
                del self._known[script]
                return self._run(script, pairs, common)

    def _run(self, script: Script, pairs: Sequence[tuple[str, bytes]], common: Sequence[str | int]) -> str:
        sha = self._loaded(script)
        if self._is_cluster:
            return self._paced(script, len(pairs), lambda: (self._run_in_cluster(sha, pairs, common), 0.0))
        return "".join(map(_letters, self._at_once(script, len(pairs), lambda: _calls(sha, pairs, common))))

    def put_new(self, pairs: Sequence[tuple[str, bytes]]) -> list[bool]:
        """Put values under at most 500 keys where nothing lies, and say which were put: of some beside each other all or none.

        It takes a server half of what a script takes. In a cluster none are put.
        """
        with errors(self._at):
            if self._is_cluster:
                return [False] * len(pairs)
            parts = [pairs[start : start + _NEW_KEYS_AT_ONCE] for start in range(0, len(pairs), _NEW_KEYS_AT_ONCE)]
            put = self._at_once(None, len(pairs), lambda: (("MSETNX", *chain.from_iterable(part)) for part in parts))
        return [bool(said) for said, part in zip(put, parts, strict=True) for _ in part]

    def _at_once(self, script: Script | None, keys: int, commands: Callable[[], Iterator[tuple[Any, ...]]]) -> list[Any]:
        """What the one server answers to commands about so many keys in all."""
        return self._paced(script, keys, lambda: clients.answers(self._single, commands, under_way=self._paces[script].under_way))

    def _paced(self, script: Script | None, keys: int, call: Callable[[], tuple[_T, float]]) -> _T:
        """What a round of calls about so many keys returns beside the seconds until its first answer; others who had to wait get a rest.

        Each script, and what is put without one, has a pace of its own: their keys take unlike times.
        """
        began = monotonic()
        found, first = call()
        told = Told(keys, monotonic() - began, first)
        self._paces[script] = pace = self._paces[script].after(told)
        if pause := pace.rest(told):
            sleep(pause)
        return found

    def swap(self, key: str, old: bytes | None, new: bytes) -> bool:
        """Put a value in the place of another, or of none, unless something else lies there."""
        with errors(self._at):
            return bool(self._settled(lambda: self._client.eval(_SWAP, 1, key, old or b"", new)))

    def keys(self, pattern: str) -> Iterator[list[str]]:
        """The keys of a pattern, some at a time; a key may come twice."""
        with errors(self._at):
            found = iter(self._client.scan_iter(match=pattern, count=KEYS_PER_CALL))
            while some := [bytes(key).decode(errors="replace") for key in islice(found, KEYS_PER_CALL)]:
                yield some

    def unlink(self, keys: Sequence[str]) -> int:
        """Delete keys, and say how many there were."""
        if not keys:
            return 0
        with errors(self._at):
            if not self._is_cluster:
                return int(self._client.unlink(*keys))
            with self._client.pipeline() as pipeline:
                for key in keys:
                    pipeline.unlink(key)
                found = pipeline.execute(raise_on_error=False)
            return sum(int(self._followed(said, "UNLINK", key)) for key, said in zip(keys, found, strict=True))

    def put(self, key: str, value: bytes) -> None:
        """Put a value under a key, whatever lay there."""
        with errors(self._at):
            self._settled(lambda: self._client.set(key, value))

    def memory(self, keys: Sequence[str]) -> list[int]:
        """The bytes that each key takes with its value, of those that are there; nothing where the user may not ask."""
        with errors(self._at), suppress(redis.exceptions.NoPermissionError):
            found = [self._settled(partial(self._client.memory_usage, key, samples=0)) for key in keys]
            return [each for each in found if each is not None]
        return []

    def says(self) -> dict[str, Saying]:
        """What each server that holds keys says of itself, by its address; nothing where the user may not ask."""
        with errors(self._at), suppress(redis.exceptions.NoPermissionError):
            found = self._client.info(target_nodes=redis.RedisCluster.PRIMARIES) if self._is_cluster else self._client.info()
            return _sayings(found, self._at)
        return {}

    @contextmanager
    def staying(self) -> Iterator[Mapping[str, Saying]]:
        """Until the end no other run of the server is spoken to (`StoreReplaced`); says what the servers say of themselves at first.

        Where the user may not ask which run it is, no connection may be made anew. Of a cluster any server is spoken to.
        """
        before = self.says()
        self.runs = None if self._is_cluster else frozenset(said.run_id for said in before.values())
        try:
            yield before
        finally:
            self.runs = None

    def stop_server(self) -> None:
        """Ask the server itself to save and end: only for one that is ours alone."""
        with errors(self._at):
            self._single.shutdown()

    def close(self) -> None:
        """Give up the connections."""
        clients.close(self._single)
        if self.__dict__.get("_client", self._single) is not self._single:
            self._client.close()

    @cached_property
    def _is_cluster(self) -> bool:
        with suppress(redis.exceptions.NoPermissionError):
            return _says_cluster(self._single.info("cluster"))
        return False

    @cached_property
    def _client(self) -> Client:
        return clients.cluster(self._at, patience=self._patience) if self._is_cluster else self._single

    def _loaded(self, script: Script) -> str:
        if script not in self._known:
            sha = self._client.script_load(script.text)
            self._known[script] = sha.decode() if isinstance(sha, bytes) else sha
        return self._known[script]

    def _run_in_cluster(self, sha: str, pairs: Sequence[tuple[str, bytes]], common: Sequence[str | int]) -> str:
        shares: dict[str, tuple[Client, list[int]]] = {}
        for place, (key, _) in enumerate(pairs):
            home = self._home(key)
            shares.setdefault(home.name, (home, []))[1].append(place)
        done = [""] * len(pairs)
        for home, places in shares.values():
            calls = [(sha, 1, *pairs[place], *common) for place in places]
            for place, letter in zip(places, self._run_at(home, calls), strict=True):
                done[place] = letter
        return "".join(done)

    def _home(self, key: str) -> Client:
        """The server of the cluster that has a key; where nobody is known to, it is asked for anew."""
        try:
            return self._client.get_node_from_key(key)
        except redis.exceptions.SlotNotCoveredError:
            self._settled(lambda: self._client.exists(key))
            return self._client.get_node_from_key(key)

    def _run_at(self, home: Client, calls: Sequence[tuple[Any, ...]]) -> list[str]:
        """Run a script at one server of a cluster, key by key in one go."""
        with self._client.get_redis_connection(home).pipeline(transaction=False) as pipeline:
            for call in calls:
                pipeline.evalsha(*call)
            found = pipeline.execute(raise_on_error=False)
        return [_letters(self._followed(said, "EVALSHA", *call)) for call, said in zip(calls, found, strict=True)]

    def _followed(self, said: Any, *command: Any) -> Any:
        """What a command of one key returns that said something; it is made again where its key lies, once that is known."""
        if isinstance(said, _ELSEWHERE):
            return self._settled(lambda: self._client.execute_command(*command))
        if isinstance(said, Exception):
            raise said
        return said

    def _settled(self, call: Callable[[], _T]) -> _T:
        """What a call returns; it is made again while the servers of a cluster do not agree whose its keys are."""
        return clients.settled(call, seconds=self._patience)


def _calls(sha: str, pairs: Sequence[tuple[str, bytes]], common: Sequence[str | int]) -> Iterator[tuple[Any, ...]]:
    """The calls of a script for some keys at a time."""
    for start in range(0, len(pairs), _KEYS_PER_SCRIPT):
        keys, values = zip(*pairs[start : start + _KEYS_PER_SCRIPT], strict=True)
        yield ("EVALSHA", sha, len(keys), *keys, *values, *common)


def _letters(said: Any) -> str:
    return said.decode() if isinstance(said, bytes) else str(said)


class _Asked(NamedTuple):
    """Keys that somebody waits for the values of."""

    keys: Sequence[str]
    values: "asyncio.Future[list[bytes | None]]"


class AsyncServers:
    """The store's servers as serving reads them; every call ends within its patience, connecting included.

    What is asked for in one turn of the event loop, or while a few calls are on their way, goes as one call. After some calls that failed
    one after the other only one is tried every half second, until one succeeds.
    """

    def __init__(self, url: str, *, patience: float = READERS_PATIENCE) -> None:
        """Remember the address; the first call connects."""
        self._at, self._patience = addresses.read(url), patience
        self._single = clients.async_single(self._at, patience=patience)
        self._waiting: list[_Asked] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._failures, self._closed_until, self._fault = 0, float("-inf"), ""
        self._client: Client = None
        self.address = str(self._at)

    async def ping(self) -> None:
        """Raise StoreUnavailable unless the store answers."""
        with errors(self._at):
            async with asyncio.timeout(self._patience):
                await self._single.ping()
        self._failures = 0

    async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of the keys, in their order; None where there is none. One round trip, in a cluster one to each server."""
        if not keys:
            return []
        loop = asyncio.get_running_loop()
        asked = _Asked(keys, loop.create_future())
        self._waiting.append(asked)
        if len(self._waiting) == 1:
            loop.call_soon(self._send)
        return await asked.values

    def _send(self) -> None:
        """Send off what waits, as few calls as are allowed; calls that return send off the rest."""
        while self._waiting and len(self._under_way) < _CALLS:
            calling = asyncio.get_running_loop().create_task(self._call(self._taken()))
            self._under_way.add(calling)
            calling.add_done_callback(self._returned)

    def _taken(self) -> "list[_Asked]":
        """As many as fit into one call, at least one."""
        taken, keys = 0, 0
        while taken < len(self._waiting) and (not taken or keys + len(self._waiting[taken].keys) <= _KEYS_PER_READ):
            keys += len(self._waiting[taken].keys)
            taken += 1
        some, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return some

    def _returned(self, calling: "asyncio.Task[None]") -> None:
        self._under_way.discard(calling)
        self._send()

    async def _call(self, some: "list[_Asked]") -> None:
        """One call for all of them: each key once."""
        places = {key: i for i, key in enumerate(dict.fromkeys(chain.from_iterable(asked.keys for asked in some)))}
        try:
            found = await self._guarded(list(places))
        except Exception as error:  # noqa: BLE001  # whoever waits is told
            for asked in some:
                if not asked.values.done():
                    asked.values.set_exception(StoreUnavailable(str(error)) if isinstance(error, StoreUnavailable) else error)
            return
        for asked in some:
            if not asked.values.done():
                asked.values.set_result([found[places[key]] for key in asked.keys])

    async def _guarded(self, keys: list[str]) -> list[bytes | None]:
        """Ask, unless the last calls failed one after the other: then only now and then, and everybody else is told at once."""
        now = asyncio.get_running_loop().time()
        if self._failures >= _FAILURES:
            if now < self._closed_until:
                raise StoreUnavailable(self._fault)
            self._closed_until = now + _PAUSE
        try:
            found = await self._mget(keys)
        except StoreUnavailable as error:
            self._failures, self._fault, self._closed_until = self._failures + 1, str(error), asyncio.get_running_loop().time() + _PAUSE
            raise
        self._failures = 0
        return found

    async def _mget(self, keys: list[str]) -> list[bytes | None]:
        with errors(self._at):
            async with asyncio.timeout(self._patience):
                client = self._client or await self._connected()
                if client is self._single:
                    return cast(list[bytes | None], await client.mget(keys))
                return cast(list[bytes | None], await clients.async_settled(lambda: client.mget_nonatomic(keys), seconds=_SETTLES))

    async def says(self) -> dict[str, Saying]:
        """What each server that holds keys says of itself, by its address; nothing where the user may not ask."""
        with errors(self._at), suppress(redis.exceptions.NoPermissionError):
            async with asyncio.timeout(self._patience):
                client = self._client or await self._connected()
                found = await (client.info() if client is self._single else client.info(target_nodes=redis.RedisCluster.PRIMARIES))
                return _sayings(found, self._at)
        return {}

    async def close(self) -> None:
        """Give up the connections."""
        await clients.async_close(self._single)
        if self._client is not None and self._client is not self._single:
            await self._client.aclose()

    async def _connected(self) -> Client:
        client: Client = self._single
        with suppress(redis.exceptions.NoPermissionError):
            if _says_cluster(await self._single.info("cluster")):
                client = clients.async_cluster(self._at, patience=self._patience)
        self._client = self._client or client
        return self._client


# GET of a key that is no text is an error, which is a table: nothing of ours lies there, as MGET says of such a key too.
_SWAP = """
local kept = redis.pcall('GET', KEYS[1])
if type(kept) ~= 'string' then kept = '' end
if kept ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""


@contextmanager
def errors(at: addresses.Address) -> Iterator[None]:
    """What went wrong with a store, as one sentence without its password."""
    try:
        yield
    except clients.OtherServer:
        raise replaced(str(at)) from None
    except (redis.RedisError, redis.exceptions.RedisClusterException, OSError) as error:
        raise StoreUnavailable(f"the online store at {at} {faults.said(error, at)}") from None


def replaced(address: str) -> StoreReplaced:
    """What is said where another server took the place of the one that a job began with."""
    return StoreReplaced(
        f"the online store at {address} was restarted, or a replica took its primary's place, while rows were written: some of them may be "
        "lost, so nothing of it is shown; run the sync again, and it compares every row"
    )


def _sayings(found: Mapping[str, Any], at: addresses.Address) -> dict[str, Saying]:
    """By their addresses; of a cluster those that hold keys of their own: one that was made a replica since gave up what it had."""
    if "run_id" in found:
        return {str(at): _saying(found, at.db)}
    return {name: _saying(each, 0) for name, each in found.items() if each.get("role") != "slave"}


def _saying(info: Mapping[str, Any], db: int) -> Saying:
    """Keys with an expiry are left out: none of ours has one, and caches beside us come and go."""
    space, policy = info.get(f"db{db}", {}), str(info.get("maxmemory_policy", ""))
    evicts = policy if int(info.get("maxmemory", 0)) and policy.startswith("allkeys") else None
    return Saying(str(info["run_id"]), int(info.get("evicted_keys", 0)), int(space.get("keys", 0)) - int(space.get("expires", 0)), evicts)


def _says_cluster(info: Mapping[str, Any]) -> bool:
    return bool(info.get("cluster_enabled", 0))
