"""Takes what was asked and reads the store until it is answered; it knows no protocol."""

import asyncio
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from feature_definitions import FeatureService, layout
from feature_definitions.intervals import micros
from feature_definitions.layout import KeySpace
from online_sync.codec import EpochRecord
from online_sync.store import AsyncStore, Owner
from serving import described
from serving.answer import lookup
from serving.forms import columns
from serving.metrics import Counts
from serving.request import ServicePlan, Wanted, reading
from serving.splice import Splicer, Stored, finished

_Answer = TypeVar("_Answer")

_MOST_SPLICERS = 256


class Desk:
    """The services that are online, the store, and what is known of its rows.

    `find` says whose keys to read (None: the lake has no identity yet, so nothing of it is online), `clock` what time it is. Epoch records
    that were read at most `trust` seconds ago are not read again.
    """

    def __init__(
        self,
        services: Iterable[FeatureService],
        *,
        find: Callable[[], KeySpace | None],
        store: AsyncStore,
        clock: Callable[[], datetime],
        trust: float,
    ) -> None:
        """Compile the services, and ask whose keys to read."""
        self.store, self.reading = store, reading(each for each in services if each.online)
        self._find, self._clock, self._trust, self.space = find, clock, trust, find()
        self._splicers: dict[tuple[str, int | None], Splicer] = {}
        self.counts = Counts()
        self._generations: dict[str, int] = {}

    async def features(self, body: bytes) -> bytes:
        """What a request for features is answered."""
        asked = self.reading.asked(body)
        results = await self.results(asked)
        if asked.form == "columns":
            results = msgspec.json.encode(columns(msgspec.json.decode(results)))
        if not asked.fresh:
            return b'{"results":%b}' % results
        return b'{"results":%b,"freshness":%b}' % (results, msgspec.json.encode(await self._freshness(asked.plan)))

    async def results(self, asked: Wanted) -> bytes:
        """The results that are asked for, as a JSON array of rows."""
        if self.space is None and await self.look() is None:
            await self.store.ping()  # the answer needs nothing of the store, which may be away all the same
        clock = asyncio.get_running_loop().time
        counted, at = self.counts.of(asked.plan.service), clock()
        if asked.plan.on_demand:
            results = await self._computed(asked)
        else:
            splicer = self._splicers.get((asked.plan.service, asked.within)) or self._splicer(asked)
            results = await self._read(splicer.asking(asked.entities, now=micros(self._clock()), at=at, trust=self._trust))
            counted.near, counted.found = counted.near + splicer.near, counted.found + splicer.found
            splicer.near = splicer.found = 0
        counted.answered(len(asked.entities), clock() - at)
        return results

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

    async def _freshness(self, plan: ServicePlan) -> dict[str, Any]:
        """How fresh the groups of a service's joins are."""
        records = await self.records(plan.groups)
        return described.freshness(records, {join.name: join.group for join in plan.joins}, now=micros(self._clock()))

    def _splicer(self, asked: Wanted) -> Splicer:
        if len(self._splicers) >= _MOST_SPLICERS:
            self._splicers.clear()
        splicer = Splicer(asked.plan, space=self.space, within=asked.within)
        return self._splicers.setdefault((asked.plan.service, asked.within), splicer)

    async def _computed(self, asked: Wanted) -> bytes:
        """What a service with features computed on demand answers."""
        entities = [dict(zip(asked.plan.asked, entity, strict=True)) for entity in asked.entities]
        generations = self._generations
        looking = lookup(asked.plan, entities, space=self.space, generations=generations, now=self._clock(), within=asked.within)
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
