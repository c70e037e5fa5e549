"""What each endpoint answers, as bytes or as plain data: it knows neither HTTP's statuses nor who carries the answer."""

import asyncio
import re
from collections.abc import Mapping
from time import monotonic
from typing import Any

import msgspec

from feature_definitions import FeatureGroup, FeatureService
from serving import described
from serving.desk import Desk
from serving.feast_api import FeastReading
from serving.keys import Key
from serving.metrics import exposition
from serving.models import Model
from serving.refusals import UnknownGroup, UnknownModel
from serving.request import RequestError, Wanted, parse_query

_PLAIN = rb"[\w.~-]"
_PLAIN_URL = re.compile(rb"/v1/features/(%b+)\?(%b+=%b*(?:&%b+=%b*)*)" % ((_PLAIN,) * 5))
"""A service and a query of which no sign stands for another."""


class Endpoints:
    """The endpoints of the services that are online, and of their groups."""

    def __init__(self, desk: Desk, services: Mapping[str, FeatureService], models: Mapping[str, Model]) -> None:
        """Know what may be asked."""
        self._models = models
        self._desk, self._services = desk, {name: service for name, service in services.items() if service.online}
        self._groups: dict[str, FeatureGroup] = {join.group.name: join.group for each in self._services.values() for join in each.joins}
        self._feast = FeastReading(desk.reading, self._groups)

    async def feast(self, body: bytes, key: Key | None = None) -> bytes:
        """Features, asked for and answered as Feast does."""
        return await self._desk.answer(self._feast.asked(body), key)

    def feast_at_once(self, body: bytes, key: Key | None = None) -> bytes | None:
        """The same, if it is a plain request and its answer is near."""
        asked = self._feast.quickly(body)
        return None if asked is None else self._desk.at_once(asked, key)

    async def entity(self, service: str, texts: Mapping[str, str], key: Key | None = None) -> bytes:
        """Features of one entity, by the texts of a URL."""
        plan = self._desk.reading.plan(service)
        entity = parse_query(plan, texts)
        return await self._desk.answer(Wanted(plan, [tuple(entity[name] for name in plan.asked)], "row"), key)

    def entity_at_once(self, url: bytes, key: Key | None = None) -> bytes | None:
        """The same, if the URL has nothing to decode and the answer is near."""
        found = _PLAIN_URL.fullmatch(url)
        plan = None if found is None else self._desk.reading.plans.get(found[1].decode())
        if found is None or plan is None:
            return None
        try:
            pairs = [pair.split("=") for pair in found[2].decode().split("&")]
            entity = parse_query(plan, dict(pairs))
        except RequestError:
            return None
        if len(pairs) > len(entity):  # a key is given twice
            return None
        return self._desk.at_once(Wanted(plan, [tuple(entity[name] for name in plan.asked)], "row"), key)

    async def predict(self, name: str, body: bytes, key: Key | None = None) -> bytes:
        """What a model says of entities, by the features of its service; latency of both apart."""
        if name not in self._models:
            raise UnknownModel(f"there is no model {name!r}; there are {', '.join(self._models) or 'none'}", field="model")
        model, began = self._models[name], monotonic()
        if key is not None:
            key.allow(model.service)
        results = msgspec.json.decode(await self._desk.answer(self._desk.reading.asked_of(model.service, body), key))["results"]
        fetched = monotonic()
        found = await asyncio.to_thread(model.predict, results)
        told = [
            {"entity": result["entity"], "prediction": prediction, "status": result["status"]}
            for result, prediction in zip(results, found, strict=True)
        ]
        seconds = {"features": fetched - began, "model": monotonic() - fetched}
        self._desk.counts.predicted(name, seconds)
        return msgspec.json.encode({"model": name, "version": model.version, "predictions": told, "seconds": seconds})

    def models(self) -> list[dict[str, Any]]:
        """All models."""
        found = self._models.values()
        return [{"name": each.name, "version": each.version, "service": each.service, "features": each.features} for each in found]

    def services(self) -> list[dict[str, Any]]:
        """All services."""
        return [described.service(each) for each in self._services.values()]

    def groups(self) -> list[dict[str, Any]]:
        """All groups."""
        return [described.group(each) for each in self._groups.values()]

    def group(self, name: str) -> dict[str, Any]:
        """One group."""
        return described.group(self._group(name))

    async def versions(self, name: str) -> list[dict[str, Any]]:
        """What is online of a group."""
        records = await self._desk.records([self._group(name).name])
        return [described.version(record) for record in records.values()]

    def search(self, *, q: str = "", tag: str = "", owner: str = "") -> list[dict[str, Any]]:
        """The groups that fit."""
        return described.matching(self._groups.values(), q=q, tag=tag, owner=owner)

    def stats(self) -> dict[str, object]:
        """What was answered since the process began."""
        return self._desk.counts.stats()

    async def metrics(self) -> str:
        """What was answered, and what is online, for Prometheus."""
        return exposition(self._desk.counts, await self._desk.records(list(self._groups)))

    def _group(self, name: str) -> FeatureGroup:
        if name not in self._groups:
            raise UnknownGroup(f"there is no group {name!r}; there are {', '.join(self._groups) or 'none'}", field="name")
        return self._groups[name]
