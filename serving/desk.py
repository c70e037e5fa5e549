"""Takes what was asked and reads the store until it is answered; it knows no protocol."""

import asyncio
from collections.abc import Callable, Generator, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from feature_definitions import FeatureService
from feature_definitions.intervals import micros
from feature_definitions.layout import KeySpace
from online_sync.store import AsyncStore, Owner
from serving.answer import lookup
from serving.request import ServicePlan, reading
from serving.splice import Splicer, Stored

_Answer = TypeVar("_Answer")


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
        self._splicers: dict[str, Splicer] = {}
        self._generations: dict[str, int] = {}

    async def features(self, body: bytes) -> bytes:
        """The results that a request's body asks for, as a JSON array."""
        plan, entities = self.reading.asked(body)
        return await self.results(plan, entities)

    async def results(self, plan: ServicePlan, entities: Sequence[Any]) -> bytes:
        """What a service answers for entities, as a JSON array."""
        if self.space is None and await self.look() is None:
            await self.store.ping()  # the answer needs nothing of the store, which may be away all the same
        if plan.on_demand:
            return await self._computed(plan, entities)
        splicer = self._splicers.get(plan.service) or self._splicer(plan)
        at = asyncio.get_running_loop().time()
        return await self._read(splicer.asking(entities, now=micros(self._clock()), at=at, trust=self._trust))

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

    def _splicer(self, plan: ServicePlan) -> Splicer:
        return self._splicers.setdefault(plan.service, Splicer(plan, space=self.space))

    async def _computed(self, plan: ServicePlan, entities: Sequence[Any]) -> bytes:
        """What a service with features computed on demand answers."""
        asked = [dict(zip(plan.asked, entity, strict=True)) for entity in entities]
        looking = lookup(plan, asked, space=self.space, generations=self._generations, now=self._clock())
        results, generations = await self._read(looking)
        self._generations.update(generations)
        return msgspec.json.encode(results)

    async def _read(self, asking: Generator[list[str], Stored, _Answer]) -> _Answer:
        try:
            keys = next(asking)
            while True:
                keys = asking.send(await self.store.mget(keys))
        except StopIteration as end:
            answer: _Answer = end.value
            return answer
