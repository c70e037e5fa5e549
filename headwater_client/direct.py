"""Reads the online store itself, by the plan by which a server reads it: no server, one round trip less."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self

import msgspec

from feature_definitions import FeatureService, layout
from feature_definitions.layout import KeySpace
from headwater_client import answers
from headwater_client.answers import Features
from headwater_client.mishaps import ServerAway, ServerRefused
from online_sync.servers import READERS_PATIENCE, StoreUnavailable
from online_sync.store import Store
from serving.answer import Result, fetch
from serving.forms import PLAIN
from serving.refusals import refusal
from serving.request import Entity, RequestError, ServicePlan, check_entities, reading


class DirectClient:
    """The services of a project, read from its store at a URL; the store says from which lake its rows come."""

    def __init__(
        self, services: Iterable[FeatureService], *, url: str, project: str, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Compile the services; the first call connects."""
        self._reading, self._project, self._clock = reading(s for s in services if s.online), project, clock
        self._store = Store(url, patience=READERS_PATIENCE)
        self._known: tuple[bytes | None, KeySpace | None] = (None, None)  # what the store says of the rows' lake, and their keys by that

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
        with _told():
            return msgspec.convert({"results": self._results(service, entities)[1]}, Features)

    def get_table(self, service: str, entities: Sequence[Mapping[str, Any]]) -> Any:
        """The same as a pyarrow.Table; see `Client.get_table`."""
        answers.check_arrow()
        from serving.arrow_form import ArrowForm  # it loads pyarrow

        with _told():
            plan, results = self._results(service, entities)
            return answers.table(ArrowForm(plan).computed(results, PLAIN))

    def get_features_for_prediction(self, service: str, entities: Sequence[Mapping[str, Any]], features: Sequence[str]) -> list[list[Any]]:
        """The values that a model takes, a list for each entity, in the order of `features`; unknown ones are refused."""
        return answers.matrix(self.get_features(service, entities), features)

    def _results(self, service: str, entities: Sequence[Mapping[str, Any]]) -> tuple[ServicePlan, list[Result]]:
        plan = self._reading.plan(service)
        return plan, self._read(plan, check_entities(plan, list(map(dict, entities))))

    def _read(self, plan: ServicePlan, entities: Sequence[Entity]) -> list[Result]:
        """Read until the rows and the word whose they are come together."""
        while True:
            owner, space = self._known
            try:
                return fetch(plan, entities, space=space, mget=partial(self._mget, owner), now=self._clock())
            except _Moved:
                (said,) = self._store.mget([layout.owner_key(self._project)])
                found = self._store.owner(self._project)
                self._known = said, None if found is None else KeySpace(self._project, found.lake)

    def _mget(self, owner: bytes | None, keys: Sequence[str]) -> list[bytes | None]:
        """The values of keys, and with them whose the project's rows are."""
        said, *values = self._store.mget([layout.owner_key(self._project), *keys])
        if said != owner:
            raise _Moved
        return values


@contextmanager
def _told() -> Iterator[None]:
    """Errors are those of a server's client."""
    try:
        yield
    except RequestError as error:
        raise ServerRefused(str(error), status=refusal(error).status, field=error.field) from None
    except StoreUnavailable as error:
        raise ServerAway(str(error)) from None


class _Moved(Exception):  # it is no error
    """The project's rows are another lake's now."""
