"""Takes what was asked and reads the store until it is answered; it knows no protocol."""

import asyncio
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from time import monotonic
from typing import Any, TypeVar, assert_never

from feature_definitions import FeatureService, layout
from feature_definitions.intervals import micros
from feature_definitions.layout import KeySpace
from online_sync.codec import CodecError, EpochRecord
from online_sync.servers import StoreUnavailable
from online_sync.store import AsyncStore, Owner
from serving import described
from serving.answer import FromStore, computed, lookup
from serving.forms import PLAIN, Beside, ColumnsForm, FeastForm, Form, RowForm, RowsForm
from serving.keys import Key
from serving.messages import MessagesForm
from serving.metrics import Counts
from serving.refusals import Overloaded
from serving.request import FormName, RequestError, ServicePlan, Wanted, check_entities, reading
from serving.splice import MOST_NEAR, Splicer, Stored, finished
from serving.timed import Timed
from serving.warming import MOST, Hot

_Answer = TypeVar("_Answer")

_MOST_SPLICERS = 256
_AT_A_TIME = 200
"""Entities that are read together when they are warmed, so that requests do not wait for long."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server allows itself.

    `trust`: epoch records that were read at most so many seconds ago are not read again. `stale`: while the store is away, what is near is
    answered for so many seconds, and flagged. `at_once`: requests under way. `near`: entities of one service that are kept near.
    """

    trust: float = 0.0
    stale: float = 0.0
    at_once: int = 1000
    near: int = MOST_NEAR


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
        self._splicers: dict[tuple[str, FormName, int | None], Splicer] = {}
        self._forms: dict[tuple[str, FormName], Form] = {}
        self._refreshing: dict[Splicer, asyncio.Task[Any]] = {}
        self._arrow: asyncio.Task[Any] | None = None
        self.timed = Timed()
        self.counts = Counts(late=self.timed.late)
        self._generations: dict[str, int] = {}
        if any(plan.on_demand for plan in self.reading.plans.values()):
            import feature_definitions.on_demand  # noqa: F401  # now, so that the first request does not wait for numpy

    async def features(self, body: bytes, key: Key | None = None, *, form: FormName | None = None) -> bytes:
        """What a request for features is answered, in a form if it wants another; `key` says which services it may ask."""
        asked = self.reading.asked(body)
        return await self.answer(asked if form is None else asked._replace(form=form), key)

    def features_at_once(self, body: bytes, key: Key | None = None) -> bytes | None:
        """The same, if it is a plain request and its answer is near."""
        asked = self.reading.quickly(body)
        return None if asked is None else self.at_once(asked, key)

    async def answer(self, asked: Wanted, key: Key | None = None) -> bytes:
        """What is asked for, in the form in which it is asked for."""
        if key is not None:
            key.allow(asked.plan.service)
        if self._under_way >= self._limits.at_once:
            raise Overloaded(f"{self._under_way:,} requests are under way; try again in a moment", field=None)
        self._under_way += 1
        try:
            return await self._answered(asked)
        finally:
            self._under_way -= 1

    def at_once(self, asked: Wanted, key: Key | None = None) -> bytes | None:
        """The answer, if all of it is near and epoch records were read just now; None if the store has to be asked, or it is refused."""
        splicer = self._splicers.get((asked.plan.service, asked.form, asked.within))
        if splicer is None or asked.fresh or (key is not None and not key.allows(asked.plan.service)):
            return None
        at = monotonic()
        pieces = splicer.at_hand(asked.entities, now=micros(self.clock()), at=at, within=self._limits.trust)
        if pieces is None:
            return None
        self._keep_up(splicer, at)
        data = splicer.form.whole(pieces, PLAIN)
        self._count(asked, splicer, monotonic() - at)
        return data

    def _keep_up(self, splicer: Splicer, at: float) -> None:
        """Have epoch records read meanwhile, and what they changed, so that what is near is answered at once further on."""
        if splicer in self._refreshing or not splicer.is_behind(at, self._limits.trust / 2):
            return
        self._refreshing[splicer] = asyncio.get_running_loop().create_task(self._renew(splicer))

        def refreshed(done: asyncio.Task[None]) -> None:
            del self._refreshing[splicer]
            if not done.cancelled():
                done.exception()  # whoever asks next asks the store itself, and is told

        self._refreshing[splicer].add_done_callback(refreshed)

    async def _renew(self, splicer: Splicer) -> None:
        while await self._read(splicer.renewing(now=micros(self.clock()), at=monotonic(), trust=self._limits.trust)):
            pass

    def hot(self) -> list[Hot]:
        """The entities of services that are near, for `warm` of another desk."""
        splicers = [(key, splicer) for key, splicer in self._splicers.items() if key[0] in self.reading.plans and key[2] is None]
        return [Hot(service, form, splicer.hot(MOST)) for (service, form, _), splicer in splicers]

    async def warm(self, hot: Iterable[Hot]) -> None:
        """Have these entities near, as far as they still can be asked for; stop where the store is away."""
        for each in hot:
            plan = self.reading.plans.get(each.service)
            if plan is None or plan.on_demand:
                continue
            for start in range(0, len(each.entities), _AT_A_TIME):
                some = each.entities[start : start + _AT_A_TIME]
                try:
                    checked = check_entities(plan, [dict(zip(plan.asked, keys, strict=True)) for keys in some])
                    asked = Wanted(plan, [tuple(entity.values()) for entity in checked], each.form)
                    splicer = self._splicer(asked)
                    await self._read(splicer.warming(asked.entities, now=micros(self.clock()), at=monotonic()))
                except (RequestError, StoreUnavailable, CodecError, ValueError):
                    break

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
        if asked.form == "arrow":
            await self._arrow_loaded()
        at, splicer = monotonic(), None
        if asked.plan.on_demand or asked.fresh:
            looked = await self._from_store(asked)
            data = self._form(asked).computed(looked.results, self._beside(asked, looked))
        else:
            splicer = self._splicer(asked)
            pieces, beside = await self._pieces(asked, splicer, at)
            data = splicer.form.whole(pieces, beside)
        self._count(asked, splicer, monotonic() - at)
        return data

    async def _arrow_loaded(self) -> None:
        """Wait until pyarrow is loaded, which takes a while, in which others are answered."""
        if self._arrow is None:
            self._arrow = asyncio.create_task(asyncio.to_thread(import_module, "pyarrow"))
        await asyncio.shield(self._arrow)

    async def _pieces(self, asked: Wanted, splicer: Splicer, at: float) -> tuple[Sequence[Any], Beside]:
        """The pieces of an answer, and what is said beside them; while the store is away, of what is near, if that is wished."""
        now = micros(self.clock())
        try:
            pieces = await self._read(splicer.asking(asked.entities, now=now, at=at, trust=self._limits.trust))
        except StoreUnavailable:
            stale = splicer.at_hand(asked.entities, now=now, at=at, within=self._limits.stale) if splicer.form.flags else None
            if stale is None:
                raise
            return stale, Beside(stale=True)
        if self._limits.trust:
            self._keep_up(splicer, at)
        return pieces, PLAIN

    def _beside(self, asked: Wanted, looked: FromStore) -> Beside:
        """How fresh an answer is, by the very records and rows that it was made of, if that is asked for."""
        if not asked.fresh:
            return PLAIN
        joins = {join.name: join.group for join in asked.plan.joins}
        return Beside(freshness=described.freshness(looked.records, joins, looked.epochs, now=micros(self.clock())))

    def _count(self, asked: Wanted, splicer: Splicer | None, seconds: float) -> None:
        counted = self.counts.of(asked.plan.service)
        if splicer is not None:
            counted.near, counted.found = counted.near + splicer.near, counted.found + splicer.found
            splicer.near = splicer.found = 0
        counted.answered(len(asked.entities), seconds)

    def _splicer(self, asked: Wanted) -> Splicer:
        key = (asked.plan.service, asked.form, asked.within)
        if key not in self._splicers:
            if len(self._splicers) >= _MOST_SPLICERS:
                self._splicers.clear()
            self._splicers[key] = Splicer(
                asked.plan, space=self.space, form=self._form(asked), most=self._limits.near, within=asked.within
            )  # fmt: skip
        return self._splicers[key]

    def _form(self, asked: Wanted) -> Form:
        key = (asked.plan.service, asked.form)
        if key not in self._forms:
            if len(self._forms) >= _MOST_SPLICERS:
                self._forms.clear()
            self._forms[key] = _form(asked.plan, asked.form)
        return self._forms[key]

    async def _from_store(self, asked: Wanted) -> FromStore:
        """What is answered by the store alone: where features are computed on demand, or where it matters of what the answer was made."""
        entities = [dict(zip(asked.plan.asked, entity, strict=True)) for entity in asked.entities]
        generations = self._generations
        looking = lookup(asked.plan, entities, space=self.space, generations=generations, now=self.clock(), within=asked.within)
        looked = await self._read(looking)
        generations.update(looked.generations)
        computed(asked.plan, looked.results, by=self.timed.compute)
        return looked

    async def _read(self, asking: Generator[list[str], Stored, _Answer]) -> _Answer:
        try:
            keys = next(asking)
            while True:
                keys = asking.send(await self.store.mget(keys))
        except StopIteration as end:
            answer: _Answer = end.value
            return answer


def _form(plan: ServicePlan, name: FormName) -> Form:
    """A form for the results of a plan."""
    match name:
        case "rows":
            return RowsForm(plan)
        case "row":
            return RowForm(plan)
        case "columns":
            return ColumnsForm(plan)
        case "feast" | "feast in full":
            return FeastForm(plan, full=name == "feast in full")
        case "messages":
            return MessagesForm(plan)
        case "arrow":
            from serving.arrow_form import ArrowForm  # it loads pyarrow

            return ArrowForm(plan)
        case _:
            assert_never(name)
