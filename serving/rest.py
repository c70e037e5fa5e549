"""The HTTP service: `POST /v1/features`, `GET /healthz`, `GET /readyz`; only here HTTP statuses are chosen."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ExceptionHandler

from feature_definitions import FeatureService
from feature_definitions.layout import KeySpace
from online_sync.codec import CodecError
from online_sync.servers import StoreUnavailable, warnings
from online_sync.store import AsyncStore, Owner
from serving.answer import Result, lookup
from serving.request import RequestError, ServicePlan, UnknownService, check_entities, compile_service, parse_body

MOST_BYTES = 1024 * 1024

_AGAIN = {"retry-after": "1"}


class TooLong(RequestError):
    """A body that is longer than is allowed; it is not read to its end."""


def app(
    services: Mapping[str, FeatureService], *, space: Callable[[], KeySpace | None], store: AsyncStore, clock: Callable[[], datetime]
) -> Starlette:
    """The application that answers for the services that are online, from one store.

    `space` says whose keys to read (None: the lake has no identity yet, so nothing of it is online), `clock` what time it is.
    """
    plans = {name: compile_service(service) for name, service in services.items() if service.online}
    answers = _Answers(plans, space=space, store=store, clock=clock)
    routes = [
        _route("/v1/features", answers.features, method="POST"),
        _route("/healthz", _alive, method="GET"),
        _route("/readyz", answers.ready, method="GET"),
    ]

    @asynccontextmanager
    async def store_open(_: Starlette) -> AsyncIterator[None]:
        yield
        await store.close()

    made = Starlette(routes=routes, exception_handlers={**_ERRORS, 404: _no_path(routes)}, lifespan=store_open)
    made.router.redirect_slashes = False
    return made


class _Answers:
    """The endpoints that ask the store; whose keys they read; the generations of the last answer, by which the next one reads once."""

    def __init__(
        self, plans: Mapping[str, ServicePlan], *, space: Callable[[], KeySpace | None], store: AsyncStore, clock: Callable[[], datetime]
    ) -> None:
        self._plans, self._store, self._clock, self._find = plans, store, clock, space
        self._space = space()
        self._generations: dict[str, int] = {}

    async def features(self, request: Request) -> Response:
        return _json({"results": await self._results(await _body(request))})

    async def ready(self, _: Request) -> Response:
        if not self._plans:
            return _error("no service is loaded; define a FeatureService in the catalog", status=503, headers=_AGAIN)
        await self._store.ping()
        self._space = await asyncio.to_thread(self._find)
        owner = None if self._space is None else await self._store.owner(self._space.project)
        if self._space is not None and owner is not None and owner.lake != self._space.lake:
            return _error(_of_another_lake(self._space, owner), status=503, headers=_AGAIN)
        ready = {"status": "ready", "services": sorted(self._plans)}
        warned = warnings(await self._store.says())
        return _json(ready | ({"warnings": warned} if warned else {}))

    async def _results(self, body: bytes) -> list[Result]:
        service, entities = parse_body(body)
        plan = self._plan(service)
        asked = check_entities(plan, entities)
        if self._space is None:
            self._space = await asyncio.to_thread(self._find)
        if self._space is None:  # then the answer needs nothing of the store, which may be away all the same
            await self._store.ping()
        reading = lookup(plan, asked, space=self._space, generations=self._generations, now=self._clock())
        keys = next(reading)
        while True:
            try:
                keys = reading.send(await self._store.mget(keys))
            except StopIteration as end:
                results: list[Result]
                results, generations = end.value
                self._generations.update(generations)
                return results

    def _plan(self, name: object) -> ServicePlan:
        plan = self._plans.get(name) if isinstance(name, str) else None
        if plan is None:
            known = ", ".join(sorted(self._plans)) or "none"
            raise UnknownService(f"there is no service {name!r}; there are {known}", field="service")
        return plan


def _of_another_lake(space: KeySpace, owner: Owner) -> str:
    return (
        f"the online rows of {space.project} come from lake {owner.lake} ({owner.place}), not from {space.lake}, which is "
        "served here; serve that lake, or take the project over: headwater sync --take-over"
    )


async def _alive(_: Request) -> Response:
    return _json({"status": "ok"})


async def _body(request: Request) -> bytes:
    announced = request.headers.get("content-length", "")
    body, too_long = bytearray(), announced.isdigit() and int(announced) > MOST_BYTES
    if not too_long:
        async for part in request.stream():
            body += part
            if too_long := len(body) > MOST_BYTES:
                break
    if too_long:
        raise TooLong(f"the body is longer than {MOST_BYTES:,} bytes; ask for fewer entities at once", field=None)
    return bytes(body)


def _route(path: str, endpoint: Callable[[Request], object], *, method: str) -> Route:
    route = Route(path, endpoint, methods=[method])
    route.methods = {method}  # Starlette adds HEAD to GET
    return route


# ------------------------------------------------------------------------------------------------------------------------ answers


def _json(body: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body), status_code=status, headers=headers, media_type="application/json")


def _error(message: str, *, status: int, field: str | None = None, headers: Mapping[str, str] | None = None) -> Response:
    return _json({"error": {"field": field, "message": message}}, status=status, headers=headers)


def _refused(status: int, headers: Mapping[str, str] | None = None) -> ExceptionHandler:
    async def answered(_: Request, error: Exception) -> Response:
        return _error(str(error), status=status, field=getattr(error, "field", None), headers=headers)

    return answered


def _no_path(routes: list[Route]) -> ExceptionHandler:
    async def answered(request: Request, _: Exception) -> Response:
        return _error(f"there is no {request.scope['path']}; there are {', '.join(route.path for route in routes)}", status=404)

    return answered


async def _other_method(request: Request, error: Exception) -> Response:
    allowed = (error.headers or {})["Allow"] if isinstance(error, HTTPException) else ""
    return _error(f"{request.scope['path']} is asked by {allowed}, not {request.method}", status=405, headers={"allow": allowed})


_ERRORS: Mapping[int | type[Exception], ExceptionHandler] = {
    405: _other_method,
    RequestError: _refused(400),
    UnknownService: _refused(404),
    TooLong: _refused(413),
    ClientDisconnect: _refused(400),
    CodecError: _refused(500),
    StoreUnavailable: _refused(503, _AGAIN),
}
"""What each error is to who asked; the class that is nearest to an error's own counts."""
