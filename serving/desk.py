"""Takes what was asked and reads the store until it is answered; it knows no protocol."""

import asyncio
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from feature_definitions import FeatureService, layout
from feature_definitions.intervals import micros
from feature_definitions.layout import KeySpace
from online_sync.codec import EpochRecord
from online_sync.servers import StoreUnavailable
from online_sync.store import AsyncStore, Owner
from serving import described
from serving.answer import lookup
from serving.forms import columns
from serving.keys import Key
from serving.metrics import Counts
from serving.request import RequestError, ServicePlan, Wanted, reading
from serving.splice import Splicer, Stored, finished

_Answer = TypeVar("_Answer")

_MOST_SPLICERS = 256


class Overloaded(RequestError):
    """More requests at once than are allowed."""


class TooSlow(RequestError):
    """A request whose time is over."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server allows itself.

    `trust`: epoch records that were read at most so many seconds ago are not read again. `stale`: while the store is away, what is near is
    answered for so many seconds, and flagged. `at_once`: requests under way.
    """

    trust: float = 0.0
    stale: float = 0.0
    at_once: int = 1000


class Desk:
    """The services that are online, the store, and what is known of its rows.

    `find` says whose keys to read (None: the lake has no identity yet, so nothing of it is online), `clock` what time it is.
    """

    def __init__(
        self,
        services: Iterable[FeatureService],
        *,
        find: Callable[[], KeySpace | None],
        store: AsyncStore,
        clock: Callable[[], datetime],
        limits: Limits,
    ) -> None:
        """Compile the services, and ask whose keys to read."""
        self.store, self.reading = store, reading(each for each in services if each.online)
        self._find, self.clock, self._limits, self.space = find, clock, limits, find()
        self._under_way = 0
        self._splicers: dict[tuple[str, int | None], Splicer] = {}
        self.counts = Counts()
        self._generations: dict[str, int] = {}

    async def features(self, body: bytes, key: Key | None = None) -> bytes:
        """What a request for features is answered; `key` says which services it may ask."""
        asked = self.reading.asked(body)
        flags = b""
        try:
            results = await self.results(asked, key)
        except StoreUnavailable:
            stale = self._stale(asked)
            if stale is None:
                raise
            results, flags = stale, b',"stale":true'
        if asked.form == "columns":
            results = msgspec.json.encode(columns(msgspec.json.decode(results)))
        if asked.fresh and not flags:
            flags = b',"freshness":%b' % msgspec.json.encode(await self._freshness(asked.plan))
        return b'{"results":%b%b}' % (results, flags)

    async def results(self, asked: Wanted, key: Key | None = None) -> bytes:
        """The results that are asked for, as a JSON array of rows."""
        if key is not None:
            key.allow(asked.plan.service)
        if self._under_way >= self._limits.at_once:
            raise Overloaded(f"{self._under_way:,} requests are under way; try again in a moment", field=None)
        self._under_way += 1
        try:
            return await self._answered(asked)
        finally:
            self._under_way -= 1

    async def records(self, groups: Sequence[str]) -> Mapping[str, EpochRecord]:
        """The epoch records of groups, of those that are online."""
        if self.space is None and await self.look() is None:
            return {}
        space = self.space
        assert space is not None
        return finished(groups, await self.store.mget([layout.epoch_key(space, group) for group in groups]))

    async def look(self) -> KeySpace | None:
        """Look again whose keys to read."""
        found = await asyncio.to_thread(self._find)
        if found != self.space:
            self.space = found
            self._splicers.clear()
        return self.space

    async def owner(self) -> Owner | None:
        """From which lake the store's rows of this project come."""
        return None if self.space is None else await self.store.owner(self.space.project)

    async def _answered(self, asked: Wanted) -> bytes:
        if self.space is None and await self.look() is None:
            await self.store.ping()  # the answer needs nothing of the store, which may be away all the same
        clock = asyncio.get_running_loop().time
        counted, at = self.counts.of(asked.plan.service), clock()
        if asked.plan.on_demand:
            results = await self._computed(asked)
        else:
            splicer = self._splicers.get((asked.plan.service, asked.within)) or self._splicer(asked)
            asking = splicer.asking(asked.entities, now=micros(self.clock()), at=at, trust=self._limits.trust)
            results = await self._read(asking)
            counted.near, counted.found = counted.near + splicer.near, counted.found + splicer.found
            splicer.near = splicer.found = 0
        counted.answered(len(asked.entities), clock() - at)
        return results

    def _stale(self, asked: Wanted) -> bytes | None:
        """What is near of what is asked for, while the store is away."""
        splicer = self._splicers.get((asked.plan.service, asked.within))
        if splicer is None or not self._limits.stale:
            return None
        at = asyncio.get_running_loop().time()
        return splicer.stale(asked.entities, now=micros(self.clock()), at=at, most=self._limits.stale)

    async def _freshness(self, plan: ServicePlan) -> dict[str, Any]:
        """How fresh the groups of a service's joins are."""
        records = await self.records(plan.groups)
        return described.freshness(records, {join.name: join.group for join in plan.joins}, now=micros(self.clock()))

    def _splicer(self, asked: Wanted) -> Splicer:
        if len(self._splicers) >= _MOST_SPLICERS:
            self._splicers.clear()
        splicer = Splicer(asked.plan, space=self.space, within=asked.within)
        return self._splicers.setdefault((asked.plan.service, asked.within), splicer)

    async def _computed(self, asked: Wanted) -> bytes:
        """What a service with features computed on demand answers."""
        entities = [dict(zip(asked.plan.asked, entity, strict=True)) for entity in asked.entities]
        generations = self._generations
        looking = lookup(asked.plan, entities, space=self.space, generations=generations, now=self.clock(), within=asked.within)
        results, held = await self._read(looking)
        generations.update(held)
        return msgspec.json.encode(results)

    async def _read(self, asking: Generator[list[str], Stored, _Answer]) -> _Answer:
        try:
            keys = next(asking)
            while True:
                keys = asking.send(await self.store.mget(keys))
        except StopIteration as end:
            answer: _Answer = end.value
            return answer
