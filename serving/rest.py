"""The HTTP service: `POST /v1/features`, `GET /healthz`, `GET /readyz`, as a plain ASGI application."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from feature_definitions import FeatureService
from online_sync.codec import CodecError
from online_sync.store import AsyncStore, StoreUnavailable
from serving.answer import Result, lookup
from serving.request import RequestError, ServicePlan, check_entities, compile_service

MOST_BYTES = 1024 * 1024

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_METHODS = {"/v1/features": "POST", "/healthz": "GET", "/readyz": "GET"}
_FIELDS = ("service", "entities")


class Failure(Exception):
    """An answer that is an error: an HTTP status, a sentence, and where in the request it lies."""

    def __init__(self, status: int, message: str, *, field: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        """Keep what the answer needs."""
        super().__init__(message)
        self.status, self.field, self.headers = status, field, dict(headers or {})


class App:
    """Answers for the services that are online, from one store; `clock` says what time it is."""

    def __init__(self, services: Mapping[str, FeatureService], *, project: str, store: AsyncStore, clock: Callable[[], datetime]) -> None:
        """Compile the services; the store is first asked when a request comes."""
        self._plans = {name: compile_service(service, project=project) for name, service in services.items() if service.online}
        self._store = store
        self._clock = clock
        self._generations: dict[str, int] = {}

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request, or the server's own start and stop."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            try:
                status, body, headers = 200, await self._body(scope, receive), {}
            except Failure as failure:
                status, headers = failure.status, failure.headers
                body = {"error": {"field": failure.field, "message": str(failure)}}
            await _respond(send, status=status, body=body, headers=headers)

    async def _body(self, scope: Mapping[str, Any], receive: Receive) -> object:
        path, method = scope["path"], _METHODS.get(scope["path"])
        if method is None:
            raise Failure(404, f"there is no {path}; there are {', '.join(_METHODS)}")
        if scope["method"] != method:
            raise Failure(405, f"{path} is asked by {method}, not {scope['method']}", headers={"allow": method})
        if path == "/healthz":
            return {"status": "ok"}
        try:
            return await self._ready() if path == "/readyz" else await self._features(scope, receive)
        except StoreUnavailable as error:
            raise Failure(503, str(error), headers={"retry-after": "1"}) from None

    async def _ready(self) -> object:
        if not self._plans:
            raise Failure(503, "no service is loaded; define a FeatureService in the catalog", headers={"retry-after": "1"})
        await self._store.ping()
        return {"status": "ready", "services": sorted(self._plans)}

    async def _features(self, scope: Mapping[str, Any], receive: Receive) -> dict[str, list[Result]]:
        request = _request(await _received(scope, receive))
        plan = self._plan(request["service"])
        try:
            entities = check_entities(plan, request["entities"])
        except RequestError as error:
            raise Failure(400, str(error), field=error.field) from None
        reading = lookup(plan, entities, generations=self._generations, now=self._clock())
        keys = next(reading)
        try:
            while True:
                keys = reading.send(await self._store.mget(keys))
        except StopIteration as end:
            results, generations = end.value
        except CodecError as error:
            raise Failure(500, str(error)) from None
        self._generations.update(generations)
        return {"results": results}

    def _plan(self, name: object) -> ServicePlan:
        plan = self._plans.get(name) if isinstance(name, str) else None
        if plan is None:
            raise Failure(404, f"there is no service {name!r}; there are {', '.join(sorted(self._plans)) or 'none'}", field="service")
        return plan

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            event = (await receive())["type"].removeprefix("lifespan.")
            if event == "shutdown":
                await self._store.close()
            await send({"type": f"lifespan.{event}.complete"})
            if event == "shutdown":
                return


def _request(data: bytes) -> dict[str, Any]:
    try:
        request = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Failure(400, f"the body is no JSON: {error}") from None
    if not isinstance(request, dict):
        raise Failure(400, 'the body is an object like {"service": "...", "entities": [...]}')
    for name in _FIELDS:
        if name not in request:
            raise Failure(400, f"{name} is missing; the body has {' and '.join(_FIELDS)}", field=name)
    for name in request:
        if name not in _FIELDS:
            raise Failure(400, f"{name} is not known; the body has {' and '.join(_FIELDS)}", field=name)
    return request


async def _received(scope: Mapping[str, Any], receive: Receive) -> bytes:
    """The request's body; a longer one than is allowed is not read to its end."""
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    announced = int(length) if length.isdigit() else 0
    body = bytearray()
    more = announced <= MOST_BYTES
    while more and len(body) <= MOST_BYTES:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if max(announced, len(body)) > MOST_BYTES:
        raise Failure(413, f"the body is longer than {MOST_BYTES:,} bytes; ask for fewer entities at once")
    return bytes(body)


async def _respond(send: Send, *, status: int, body: object, headers: Mapping[str, str]) -> None:
    data = msgspec.json.encode(body)
    lines = {"content-type": "application/json", "content-length": str(len(data)), **headers}
    await send({"type": "http.response.start", "status": status, "headers": [(k.encode(), v.encode()) for k, v in lines.items()]})
    await send({"type": "http.response.body", "body": data})
