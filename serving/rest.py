"""The HTTP service: `POST /v1/features`, `GET /healthz`, `GET /readyz`; only here HTTP statuses are chosen."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, ExceptionHandler, Receive, Scope, Send

from feature_definitions import FeatureService
from feature_definitions.layout import KeySpace
from online_sync.codec import CodecError
from online_sync.servers import StoreUnavailable, warnings
from online_sync.store import AsyncStore, Owner
from serving.desk import Desk
from serving.request import RequestError, UnknownService

MOST_BYTES = 1024 * 1024

_AGAIN = {"retry-after": "1"}
_TYPE = (b"content-type", b"application/json")


class TooLong(RequestError):
    """A body that is longer than is allowed; it is not read to its end."""


def app(
    services: Mapping[str, FeatureService],
    *,
    space: Callable[[], KeySpace | None],
    store: AsyncStore,
    clock: Callable[[], datetime],
    trust: float = 0.0,
) -> ASGIApp:
    """The application that answers for the services that are online, from one store.

    `space` says whose keys to read (None: the lake has no identity yet, so nothing of it is online), `clock` what time it is. For `trust`
    seconds it is taken for granted that no sync has finished.
    """
    desk = Desk(services.values(), find=space, store=store, clock=clock, trust=trust)
    features = _Features(desk)
    routes = [
        _route("/v1/features", features, method="POST"),
        _route("/healthz", _alive, method="GET"),
        _route("/readyz", partial(_ready, desk), method="GET"),
    ]

    @asynccontextmanager
    async def store_open(_: Starlette) -> AsyncIterator[None]:
        yield
        await store.close()

    made = Starlette(routes=routes, exception_handlers={**_HANDLERS, 404: _no_path(routes), 405: _other_method}, lifespan=store_open)
    made.router.redirect_slashes = False
    return _Front(features, made)


class _Front:
    """Hands requests for features over at once, and all others to Starlette, which takes its time to find who answers."""

    def __init__(self, features: "_Features", others: ASGIApp) -> None:
        self._features, self._others = features, others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_for_features = scope["type"] == "http" and scope["path"] == "/v1/features" and scope["method"] == "POST"
        await (self._features if is_for_features else self._others)(scope, receive, send)


class _Features:
    """`POST /v1/features`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            data = b'{"results":%b}' % await self._desk.features(await _body(scope, receive))
        except _REFUSED as error:
            await _refusal(error)(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [_TYPE, (b"content-length", b"%d" % len(data))]})
        await send({"type": "http.response.body", "body": data})


async def _ready(desk: Desk, _: Request) -> Response:
    if not desk.reading.plans:
        return _error("no service is loaded; define a FeatureService in the catalog", status=503, headers=_AGAIN)
    await desk.store.ping()
    space = await desk.look()
    owner = await desk.owner()
    if space is not None and owner is not None and owner.lake != space.lake:
        return _error(_of_another_lake(space, owner), status=503, headers=_AGAIN)
    ready = {"status": "ready", "services": sorted(desk.reading.plans)}
    warned = warnings(await desk.store.says())
    return _json(ready | ({"warnings": warned} if warned else {}))


def _of_another_lake(space: KeySpace, owner: Owner) -> str:
    return (
        f"the online rows of {space.project} come from lake {owner.lake} ({owner.place}), not from {space.lake}, which is "
        "served here; serve that lake, or take the project over: headwater sync --take-over"
    )


async def _alive(_: Request) -> Response:
    return _json({"status": "ok"})


async def _body(scope: Scope, receive: Receive) -> bytes:
    announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    too_long, parts, length, more = announced.isdigit() and int(announced) > MOST_BYTES, [], 0, True
    while more and not too_long:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part, more = message.get("body", b""), message.get("more_body", False)
        length += len(part)
        parts.append(part)
        too_long = length > MOST_BYTES
    if too_long:
        raise TooLong(f"the body is longer than {MOST_BYTES:,} bytes; ask for fewer entities at once", field=None)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _route(path: str, endpoint: Callable[..., object], *, method: str) -> Route:
    route = Route(path, endpoint, methods=[method])
    route.methods = {method}  # Starlette adds HEAD to GET
    return route


# ------------------------------------------------------------------------------------------------------------------------ answers


def _json(body: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body), status_code=status, headers=headers, media_type="application/json")


def _error(message: str, *, status: int, field: str | None = None, headers: Mapping[str, str] | None = None) -> Response:
    return _json({"error": {"field": field, "message": message}}, status=status, headers=headers)


def _refusal(error: Exception) -> Response:
    """What an error is to who asked; the class that is nearest to its own counts."""
    status, headers = next(_STATUS[each] for each in type(error).__mro__ if issubclass(each, Exception) and each in _STATUS)
    return _error(str(error), status=status, field=getattr(error, "field", None), headers=headers)


async def _refused(_: Request, error: Exception) -> Response:
    return _refusal(error)


def _no_path(routes: list[Route]) -> ExceptionHandler:
    async def answered(request: Request, _: Exception) -> Response:
        return _error(f"there is no {request.scope['path']}; there are {', '.join(route.path for route in routes)}", status=404)

    return answered


async def _other_method(request: Request, error: Exception) -> Response:
    allowed = (error.headers or {})["Allow"] if isinstance(error, HTTPException) else ""
    return _error(f"{request.scope['path']} is asked by {allowed}, not {request.method}", status=405, headers={"allow": allowed})


_STATUS: Mapping[type[Exception], tuple[int, Mapping[str, str] | None]] = {
    RequestError: (400, None),
    UnknownService: (404, None),
    TooLong: (413, None),
    ClientDisconnect: (400, None),
    CodecError: (500, None),
    StoreUnavailable: (503, _AGAIN),
}
_REFUSED = tuple(_STATUS)
_HANDLERS: dict[Any, ExceptionHandler] = dict.fromkeys(_STATUS, _refused)
