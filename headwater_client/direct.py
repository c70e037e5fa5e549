"""Reads the online store itself, by the plan by which a server reads it: no server, one round trip less."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self

import msgspec

from feature_definitions import FeatureService, layout
from feature_definitions.layout import KeySpace
from headwater_client import answers
from headwater_client.answers import Features
from headwater_client.mishaps import ServerAway, ServerRefused
from online_sync.servers import StoreUnavailable
from online_sync.store import Store
from serving.answer import fetch
from serving.refusals import refusal
from serving.request import Entity, RequestError, ServicePlan, check_entities, reading


class DirectClient:
    """The services of a project, read from its store at a URL; the store says from which lake its rows come."""

    def __init__(
        self, services: Iterable[FeatureService], *, url: str, project: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Compile the services; the first call connects."""
        self._reading, self._store, self._project, self._clock = reading(s for s in services if s.online), Store(url), project, clock
        self._space: KeySpace | None = None
        self._owner: bytes | None = None

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._store.close()

    def get_features(self, service: str, entities: Sequence[Mapping[str, Any]]) -> Features:
        """Features of entities, in their order."""
        try:
            plan = self._reading.plan(service)
            checked = check_entities(plan, list(map(dict, entities)))
            return self._read(plan, checked)
        except RequestError as error:
            raise ServerRefused(str(error), status=refusal(error).status, field=error.field) from None
        except StoreUnavailable as error:
            raise ServerAway(str(error)) from None

    def get_features_for_prediction(self, service: str, entities: Sequence[Mapping[str, Any]], features: Sequence[str]) -> list[list[Any]]:
        """The values that a model takes, a list for each entity, in the order of `features`; unknown ones are refused."""
        return answers.matrix(self.get_features(service, entities), features)

    def _read(self, plan: ServicePlan, entities: Sequence[Entity]) -> Features:
        """Read until the rows and the word whose they are come together."""
        while True:
            space, owner = self._space, self._owner
            try:
                results = fetch(plan, entities, space=space, mget=partial(self._mget, owner), now=self._clock())
            except _Moved:
                found = self._store.owner(self._project)
                self._owner = self._store.mget([layout.owner_key(self._project)])[0]
                self._space = None if found is None else KeySpace(self._project, found.lake)
                continue
            return msgspec.convert({"results": results}, Features)

    def _mget(self, owner: bytes | None, keys: Sequence[str]) -> list[bytes | None]:
        """The values of keys, and with them whose the project's rows are."""
        said, *values = self._store.mget([layout.owner_key(self._project), *keys])
        if said != owner:
            raise _Moved
        return values


class _Moved(Exception):  # it is no error
    """The project's rows are another lake's now."""
