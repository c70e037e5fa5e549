"""The client of a server, in two kinds that ask alike: `Client` waits, `AsyncClient` is awaited."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self, TypeAlias

import httpx
import msgspec

from headwater_client import answers
from headwater_client.answers import Features, FeatureView, ServiceView
from headwater_client.mishaps import ServerAway

Entities: TypeAlias = Sequence[Mapping[str, Any]]
_AGAIN = (429, 503)
_FIRST_PAUSE = 0.05
_ARROW = "application/vnd.apache.arrow.stream"


class _Ask(NamedTuple):
    """A request."""

    method: str
    path: str
    body: bytes | None = None
    accept: str = "*/*"


class _Options(NamedTuple):
    """How to reach the server: for how long in all, and how often after a failure."""

    timeout: float
    retries: int


class Client:
    """A connection to a server, kept open between requests; usable by several threads."""

    def __init__(
        self, url: str, *, key: str | None = None, timeout: float = 2.0, retries: int = 2, transport: httpx.BaseTransport | None = None
    ) -> None:
        """`key` is an API key, `timeout` the seconds of a request with its repetitions; `retries` after 429, 503 and lost connections."""
        self._options = _Options(timeout, retries)
        self._http = httpx.Client(base_url=url, headers=_headers(key), timeout=timeout, transport=transport)

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get_features(self, service: str, entities: Entities, *, max_staleness: str | None = None, freshness: bool = False) -> Features:
        """Features of entities, in their order."""
        return answers.features(self._answer(_features(service, entities, max_staleness, freshness)))

    def get_table(self, service: str, entities: Entities, *, max_staleness: str | None = None, freshness: bool = False) -> Any:
        """The same as a pyarrow.Table, typed: keys, values, and of each join `<join>__hw_status` and `<join>__hw_event_timestamp`.

        What is said beside the rows is in the schema's metadata, under `stale` and `freshness`. ClientError where pyarrow is not installed.
        """
        answers.check_arrow()
        return answers.table(self._answer(_features(service, entities, max_staleness, freshness)._replace(accept=_ARROW)))

    def get_features_for_prediction(
        self, service: str, entities: Entities, features: Sequence[str], *, missing: Literal["refuse", "null"] = "refuse"
    ) -> list[list[Any]]:
        """The values that a model takes, a list for each entity, in the order of `features`; unknown ones are refused, or None."""
        found = self.get_features(service, entities)
        return answers.matrix(found, features) if missing == "refuse" else _rows(found, features)

    def list_services(self) -> list[ServiceView]:
        """The services that are online."""
        return answers.services(self._answer(_Ask("GET", "/v1/services")))

    def list_views(self) -> list[FeatureView]:
        """The groups that are online."""
        return answers.views(self._answer(_Ask("GET", "/v1/groups")))

    def validate(self, service: str, *, features: Mapping[str, str], asks: Mapping[str, str] | None = None) -> None:
        """Raise ContractBroken unless the service answers these features with these types, and asks for these keys if they are given."""
        answers.check(service, self.list_services(), features=features, asks=asks)

    def _answer(self, ask: _Ask) -> bytes:
        end, attempt = time.monotonic() + self._options.timeout, 0
        while True:
            try:
                response = self._http.request(**_asked(ask), timeout=_left(end))
                outcome = _outcome(response)
            except httpx.TransportError as error:
                outcome = _Outcome(None, _away(self._http.base_url, error), 0.0)
            pause = _pause(outcome, self._options, attempt, end - time.monotonic())
            if pause is None:
                return _taken(outcome)
            time.sleep(pause)
            attempt += 1


class AsyncClient:
    """The same for asyncio."""

    def __init__(
        self, url: str, *, key: str | None = None, timeout: float = 2.0, retries: int = 2, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """See `Client`."""
        self._options = _Options(timeout, retries)
        self._http = httpx.AsyncClient(base_url=url, headers=_headers(key), timeout=timeout, transport=transport)

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def get_features(
        self, service: str, entities: Entities, *, max_staleness: str | None = None, freshness: bool = False
    ) -> Features:
        """Features of entities, in their order."""
        return answers.features(await self._answer(_features(service, entities, max_staleness, freshness)))

    async def get_table(self, service: str, entities: Entities, *, max_staleness: str | None = None, freshness: bool = False) -> Any:
        """The same as a pyarrow.Table; see `Client.get_table`."""
        answers.check_arrow()
        return answers.table(await self._answer(_features(service, entities, max_staleness, freshness)._replace(accept=_ARROW)))

    async def get_features_for_prediction(
        self, service: str, entities: Entities, features: Sequence[str], *, missing: Literal["refuse", "null"] = "refuse"
    ) -> list[list[Any]]:
        """The values that a model takes, a list for each entity, in the order of `features`; unknown ones are refused, or None."""
        found = await self.get_features(service, entities)
        return answers.matrix(found, features) if missing == "refuse" else _rows(found, features)

    async def list_services(self) -> list[ServiceView]:
        """The services that are online."""
        return answers.services(await self._answer(_Ask("GET", "/v1/services")))

    async def list_views(self) -> list[FeatureView]:
        """The groups that are online."""
        return answers.views(await self._answer(_Ask("GET", "/v1/groups")))

    async def validate(self, service: str, *, features: Mapping[str, str], asks: Mapping[str, str] | None = None) -> None:
        """Raise ContractBroken unless the service answers these features with these types, and asks for these keys if they are given."""
        answers.check(service, await self.list_services(), features=features, asks=asks)

    async def _answer(self, ask: _Ask) -> bytes:
        end, attempt = time.monotonic() + self._options.timeout, 0
        while True:
            try:
                response = await self._http.request(**_asked(ask), timeout=_left(end))
                outcome = _outcome(response)
            except httpx.TransportError as error:
                outcome = _Outcome(None, _away(self._http.base_url, error), 0.0)
            pause = _pause(outcome, self._options, attempt, end - time.monotonic())
            if pause is None:
                return _taken(outcome)
            await asyncio.sleep(pause)
            attempt += 1


class _Outcome(NamedTuple):
    """What one attempt gave: an answer, or what went wrong and after how many seconds it may be tried again (None: never)."""

    data: bytes | None
    error: Exception | None
    again: float | None


def _asked(ask: _Ask) -> dict[str, Any]:
    return {"method": ask.method, "url": ask.path, "content": ask.body, "headers": {"accept": ask.accept}}


def _left(end: float) -> float:
    """The seconds until then; never none, as that would mean for ever."""
    return max(0.001, end - time.monotonic())


def _outcome(response: httpx.Response) -> _Outcome:
    if response.status_code == 200:
        return _Outcome(response.content, None, None)
    error = answers.refused(response.status_code, response.content)
    said = response.headers.get("retry-after", "0")
    return _Outcome(None, error, (float(said) if said.isdigit() else 0.0) if response.status_code in _AGAIN else None)


def _pause(outcome: _Outcome, options: _Options, attempt: int, left: float) -> float | None:
    """After how many seconds to try again; None if that is of no use."""
    if outcome.again is None or attempt >= options.retries:
        return None
    pause = max(outcome.again, _FIRST_PAUSE * 2.0**attempt)
    return pause if pause < left else None


def _taken(outcome: _Outcome) -> bytes:
    if outcome.data is None:
        raise outcome.error or ServerAway("the server does not answer")
    return outcome.data


def _away(url: httpx.URL, error: Exception) -> ServerAway:
    return ServerAway(f"the server at {url.host}:{url.port} does not answer: {str(error) or type(error).__name__}")


def _headers(key: str | None) -> dict[str, str]:
    return {} if key is None else {"authorization": f"Bearer {key}"}


def _features(service: str, entities: Entities, max_staleness: str | None, freshness: bool) -> _Ask:  # noqa: FBT001  # the body has it so
    body: dict[str, Any] = {"service": service, "entities": list(entities)}
    if max_staleness is not None:
        body["max_staleness"] = max_staleness
    if freshness:
        body["include"] = ["freshness"]
    return _Ask("POST", "/v1/features", msgspec.json.encode(body))


def _rows(found: Features, features: Sequence[str]) -> list[list[Any]]:
    return [[row.values.get(name) for name in features] for row in found.results]
