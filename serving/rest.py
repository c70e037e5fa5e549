"""The HTTP service: which path asks what."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, TypeAlias

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, ExceptionHandler, Receive, Scope, Send

from feature_definitions import FeatureService
from feature_definitions.layout import KeySpace
from online_sync.servers import warnings
from online_sync.store import AsyncStore, Owner
from serving import connect, messages, openapi, warming
from serving.desk import Desk, Limits
from serving.endpoints import Endpoints
from serving.keys import Key, Keys, Verb
from serving.models import load
from serving.protocol import NOT_AT_ONCE, AtOnce, PlainRequest
from serving.refusals import MOST_BYTES, REFUSED, HungUp, NoKey, NotAllowed, TooLong, TooOften, TooSlow, UnknownCoding, refusal
from serving.request import RequestError
from serving.timed import AtWork

_AGAIN = {"retry-after": "1"}
_ARROW = b"application/vnd.apache.arrow.stream"
_JSON, _MESSAGES = b"application/json", (b"application/protobuf", b"application/x-protobuf", b"application/proto")
_MSGPACK = (b"application/msgpack", b"application/x-msgpack", b"application/vnd.msgpack")

_LOOK_EVERY, _WRITE_EVERY = 1.0, 300.0
"""Seconds between two looks at whether definitions were taken up anew, and between two writes of what is near."""
_LIMITS = Limits()
_NO_DEADLINE = nullcontext()


class Guard(NamedTuple):
    """Asks requests for API keys, and tells of those that are refused."""

    keys: Keys
    audit: Callable[[Mapping[str, object]], None]


def app(  # noqa: PLR0913  # one for each thing that it answers by
    services: Mapping[str, FeatureService],
    *,
    space: Callable[[], KeySpace | None],
    store: AsyncStore,
    clock: Callable[[], datetime],
    limits: Limits = _LIMITS,
    guard: Guard | None = None,
    models: Path | None = None,
    hot: Path | None = None,
) -> "Application":
    """The application that answers for the services that are online, from one store.

    `space` says whose keys to read (None: the lake has no identity yet, so nothing of it is online), `clock` what time it is. `guard` asks
    for API keys, `models` is a folder of models, `hot` the file by which the next process knows which entities were near.
    """

    def opened(some: Mapping[str, FeatureService]) -> _Open:
        desk = Desk(some.values(), find=space, store=store, clock=clock, limits=limits)
        return _open(Endpoints(desk, some, {} if models is None else load(models, some)), desk, guard)

    return Application(services, opened, guard, hot)


_Quick: TypeAlias = Callable[[PlainRequest, Key | None], AtOnce]


class _Open(NamedTuple):
    """What is answered now: at once if it is near, of a POST by its path and of a GET, by POST without Starlette, and all else."""

    quick: Mapping[bytes, _Quick]
    got: _Quick
    posted: Mapping[str, ASGIApp]
    others: ASGIApp
    desk: Desk


_Opens: TypeAlias = Callable[[Mapping[str, FeatureService]], _Open]


class Application:
    """The service as an ASGI application; another version of the catalog can be taken up while it answers."""

    def __init__(self, services: Mapping[str, FeatureService], opened: _Opens, guard: Guard | None, hot: Path | None):
        """Open with these services."""
        self._opened, self._guard, self._hot, self._is_warm = opened, guard, hot, False
        self.services, self._open = services, opened(services)
        self._watching: AtWork | None = None

    def take_up(self, services: Mapping[str, FeatureService]) -> None:
        """Answer by these services from now on; requests under way are answered by the old ones."""
        renewed = self._opened(services)
        if self._watching is not None:
            renewed.desk.timed.tell(self._watching)
        self.services, self._open = services, renewed

    def watched(self, by: AtWork, *, hung: AbstractSet[str]) -> None:
        """Tell a parent at which function it is; those at which another worker hung count as late from the start."""
        self._watching = by
        self._open.desk.timed.tell(by)
        self._open.desk.timed.late.update(hung)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        now_open = self._open
        if scope["type"] == "http":
            try:
                if self._guard is not None and scope["path"] not in _WITHOUT_KEY and "key" not in scope:
                    scope["key"] = _key(self._guard.keys, scope, now_open.desk)
            except REFUSED as error:
                await self._refuse(error, scope, receive, send)
                return
            if scope["method"] == "POST" and scope["path"] in now_open.posted:
                await now_open.posted[scope["path"]](scope, receive, send)
                return
        if scope["type"] == "lifespan" and self._hot is not None:
            async with self._remembering(self._hot):
                await now_open.others(scope, receive, send)
            return
        await now_open.others(scope, receive, send)

    @asynccontextmanager
    async def _remembering(self, path: Path) -> AsyncIterator[None]:
        """Begin with what was near when the last process ended, and write down what is near at the end."""
        running = asyncio.create_task(self._remember(path))
        try:
            yield
        finally:
            running.cancel()
            await asyncio.wait([running])
            if self._is_warm:  # else the file knows more than this process
                warming.write(path, self._open.desk.hot())

    async def _remember(self, path: Path) -> None:
        desk, written = self._open.desk, monotonic()
        await desk.warm(await asyncio.to_thread(warming.read, path))
        self._is_warm = True
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            if self._open.desk is not desk:
                before, desk = desk, self._open.desk
                await desk.warm(before.hot())
            if monotonic() - written > _WRITE_EVERY:
                await asyncio.to_thread(warming.write, path, desk.hot())
                written = monotonic()

    def is_quick(self, method: bytes, path: bytes) -> bool:
        """Whether requests by a method for a path, which may have a query, may be answered at once."""
        return path in self._open.quick if method == b"POST" else method == b"GET" and path.startswith(_ONE_ENTITY)

    def at_once(self, asked: PlainRequest) -> AtOnce:
        """The answer to a plain request, if it is near and allowed, and the request's key."""
        now_open, key = self._open, None
        if self._guard is not None:
            try:
                key = self._guard.keys.allowed(asked.authorization, "features", now=now_open.desk.clock(), at=monotonic())
            except RequestError:
                return NOT_AT_ONCE
        return now_open.quick.get(asked.path, now_open.got)(asked, key)

    async def called(self, method: str, data: bytes, authorization: bytes, client: str) -> bytes:
        """Answer a call by gRPC, or raise what refuses it."""
        desk, key = self._open.desk, None
        try:
            if self._guard is not None:
                key = self._guard.keys.allowed(authorization, "features", now=desk.clock(), at=monotonic())
            asked = messages.asked(desk.reading, method, data)
            return desk.at_once(asked, key) or await desk.answer(asked, key)
        except REFUSED as error:
            status = refusal(error).status
            desk.counts.refused[status] += 1
            if self._guard is not None and isinstance(error, NoKey | NotAllowed | TooOften):
                self._guard.audit(_refused_event(error, status, {"path": f"/{messages.SERVICE}/{method}", "client": (client, 0)}))
            raise

    async def reached(self) -> None:
        """Raise unless the store can be reached."""
        await self._open.desk.store.ping()

    def refused(self, status: int) -> None:
        """Count a request that was refused before it reached the application."""
        self._open.desk.counts.refused[status] += 1

    async def _refuse(self, error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
        refused = _refused_call(error) if scope["path"] in connect.PATHS else _refusal(error)
        self._open.desk.counts.refused[refused.status_code] += 1
        if self._guard is not None:
            self._guard.audit(_refused_event(error, refused.status_code, scope))
        await refused(scope, receive, send)


_ONE_ENTITY = b"/v1/features/"
_WITHOUT_KEY = ("/healthz", "/readyz", "/docs", "/openapi.json")


def _key(keys: Keys, scope: Scope, desk: Desk) -> Key:
    """The key of a request; what it asks for decides which verb the key must allow."""
    path: str = scope["path"]
    verb: Verb = "metrics" if path in ("/metrics", "/v1/stats") else "describe"
    if path.startswith(("/v1/features", "/v1/predict/")) or path == "/get-online-features" or path in connect.PATHS:
        verb = "features"
    authorization = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
    return keys.allowed(authorization, verb, now=desk.clock(), at=monotonic())


def _refused_event(error: Exception, status: int, scope: Scope) -> dict[str, object]:
    client = scope.get("client") or ("", 0)
    return {"event": "refused", "status": status, "path": scope["path"], "client": client[0], "reason": str(error)}


def _open(endpoints: Endpoints, desk: Desk, guard: Guard | None) -> _Open:
    document = msgspec.json.encode(openapi.document(desk.reading.plans))

    async def features(asked: _Body) -> _Sent:
        kind = _accepted(asked.headers.get(b"accept", b""), (*_MESSAGES, _ARROW, *_MSGPACK))
        if kind in _MESSAGES:
            return _Sent(await desk.features(asked.plain, asked.key, form="messages"), kind)
        if kind == _ARROW:
            return _Sent(await desk.features(asked.plain, asked.key, form="arrow"), _ARROW)
        return _packed(asked, await desk.features(asked.plain, asked.key))

    async def feast(asked: _Body) -> _Sent:
        return _packed(asked, await endpoints.feast(asked.plain, asked.key))

    async def predict(asked: _Body) -> _Sent:
        return _packed(asked, await endpoints.predict(asked.named["model"], asked.plain, asked.key))

    async def called(method: str, asked: _Body) -> _Sent:
        found = connect.call(method, asked.headers, asked.data)
        data = await desk.answer(messages.asked(desk.reading, method, found.data), asked.key)
        return _Sent(connect.answer(found, data), found.kind)

    posted: dict[str, ASGIApp] = {"/v1/features": _Posted(desk, features, guard), "/get-online-features": _Posted(desk, feast, guard)}
    posted |= {path: _Posted(desk, partial(called, method), guard) for path, method in connect.PATHS.items()}
    routes = [
        _route("/v1/features", posted["/v1/features"], method="POST"),
        _route("/healthz", _alive, method="GET"),
        _route("/readyz", partial(_ready, desk), method="GET"),
        _route("/get-online-features", posted["/get-online-features"], method="POST"),
        *(_route(path, posted[path], method="POST") for path in connect.PATHS),
        _route("/v1/predict/{model}", _Posted(desk, predict, guard), method="POST"),
        *_asked_by_get(endpoints),
        _route("/openapi.json", _fixed(document, media_type="application/json"), method="GET"),
        _route("/docs", _fixed(openapi.page(), media_type="text/html"), method="GET"),
    ]

    @asynccontextmanager
    async def store_open(_: Starlette) -> AsyncIterator[None]:
        yield
        await desk.store.close()

    made = Starlette(routes=routes, exception_handlers={**_HANDLERS, 404: _no_path(routes), 405: _other_method}, lifespan=store_open)
    made.router.redirect_slashes = False
    return _Open(_quick(desk, endpoints), partial(_got, endpoints), posted, made, desk)


def _got(endpoints: Endpoints, asked: PlainRequest, key: Key | None) -> AtOnce:
    """One entity, asked by GET and without a body, if it is near."""
    return AtOnce(None if asked.body else endpoints.entity_at_once(asked.path, key), _JSON, key)


def _quick(desk: Desk, endpoints: Endpoints) -> Mapping[bytes, _Quick]:
    """What is answered at once where it is near, by path."""

    def called(method: str, asked: PlainRequest, key: Key | None) -> AtOnce:
        if asked.content_type != connect.PROTO:
            return AtOnce(None, _JSON, key)
        try:
            return AtOnce(desk.at_once(messages.asked(desk.reading, method, asked.body), key), connect.PROTO, key)
        except RequestError:
            return AtOnce(None, connect.PROTO, key)

    return {
        b"/v1/features": lambda asked, key: AtOnce(desk.features_at_once(asked.body, key), _JSON, key),
        b"/get-online-features": lambda asked, key: AtOnce(endpoints.feast_at_once(asked.body, key), _JSON, key),
        **{path.encode(): partial(called, method) for path, method in connect.PATHS.items()},
    }


def _asked_by_get(endpoints: Endpoints) -> list[Route]:
    """What is asked by GET and answered in JSON; Prometheus' text aside."""

    async def entity(request: Request) -> Response:
        texts = request.query_params
        twice = sorted({name for name, _ in texts.multi_items() if len(set(texts.getlist(name))) > 1})
        if twice:
            raise RequestError(f"{twice[0]} is given twice; one entity is asked for, more by POST /v1/features", field=twice[0])
        data = await endpoints.entity(request.path_params["service"], texts, request.scope.get("key"))
        return Response(data, media_type="application/json")

    async def versions(request: Request) -> Response:
        return _json(await endpoints.versions(request.path_params["name"]))

    async def search(request: Request) -> Response:
        texts = {name: request.query_params.get(name, "") for name in ("q", "tag", "owner")}
        return _json({"groups": endpoints.search(**texts)})

    async def metrics(_: Request) -> Response:
        return Response(await endpoints.metrics(), media_type="text/plain; version=0.0.4")

    def plain(answer: Callable[[Request], object]) -> Callable[[Request], object]:
        async def answered(request: Request) -> Response:
            return _json(answer(request))

        return answered

    found = {
        "/v1/features/{service}": entity,
        "/v1/services": plain(lambda _: {"services": endpoints.services()}),
        "/v1/models": plain(lambda _: {"models": endpoints.models()}),
        "/v1/groups": plain(lambda _: {"groups": endpoints.groups()}),
        "/v1/groups/{name}": plain(lambda request: endpoints.group(request.path_params["name"])),
        "/v1/groups/{name}/versions": versions,
        "/v1/search": search,
        "/v1/stats": plain(lambda _: endpoints.stats()),
        "/metrics": metrics,
    }
    return [_route(path, endpoint, method="GET") for path, endpoint in found.items()]


def _fixed(data: bytes, *, media_type: str) -> Callable[[Request], object]:
    async def answered(_: Request) -> Response:
        return Response(data, media_type=media_type)

    return answered


class _Body(NamedTuple):
    """A request by POST."""

    headers: Mapping[bytes, bytes]
    data: bytes
    key: Key | None
    named: Mapping[str, str]

    @property
    def plain(self) -> bytes:
        """The data as they were before they were packed."""
        return connect.unpacked(self.headers, self.data, otherwise=UnknownCoding)


class _Sent(NamedTuple):
    """An answer, and its type."""

    data: bytes
    kind: bytes


class _Posted:
    """An endpoint that answers a body."""

    def __init__(self, desk: Desk, answer: Callable[[_Body], Awaitable[_Sent]], guard: Guard | None) -> None:
        self._counts, self._answer, self._guard = desk.counts, answer, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _joined(scope["headers"])
        try:
            async with _deadline(headers):
                sent = await self._answer(_Body(headers, await _body(headers, receive), scope.get("key"), scope.get("path_params", {})))
        except REFUSED as error:
            refused = _refused_call(error) if scope["path"] in connect.PATHS else _refusal(error)
            self._counts.refused[refused.status_code] += 1
            if self._guard is not None and refused.status_code == 403:
                self._guard.audit(_refused_event(error, refused.status_code, scope))
            await refused(scope, receive, send)
            return
        named = [(b"content-type", sent.kind), (b"content-length", b"%d" % len(sent.data))]
        await send({"type": "http.response.start", "status": 200, "headers": named})
        await send({"type": "http.response.body", "body": sent.data})


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> Mapping[bytes, bytes]:
    """Headers by their names; of one that is there several times the values stand behind one another."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        found[name] = value if name not in found else found[name] + b", " + value
    return found


def _accepted(accept: bytes, offered: Sequence[bytes]) -> bytes:
    """The type of an answer: of those that are offered beside JSON the one that is liked best, unless JSON is liked better."""
    best, most = _JSON, 0.0
    for each in accept.lower().split(b","):
        kind, *more = [part.strip() for part in each.split(b";")]
        liked = next((_number(part[2:]) for part in more if part.startswith(b"q=")), 1.0)
        if kind in (*offered, _JSON) and (liked > most or (liked == most > 0 and best == _JSON)):
            best, most = kind, liked
    return best


def _number(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0


def _packed(asked: _Body, data: bytes) -> _Sent:
    """JSON, or MessagePack if that is what is accepted."""
    if _accepted(asked.headers.get(b"accept", b""), _MSGPACK) != _JSON:
        return _Sent(msgspec.msgpack.encode(msgspec.json.decode(data)), b"application/msgpack")
    return _Sent(data, _JSON)


def _deadline(headers: Mapping[bytes, bytes]) -> AbstractAsyncContextManager[object]:
    """What ends a request after as many milliseconds as it says."""
    said = headers.get(b"x-deadline-ms")
    if said is None:
        called = connect.timeout(headers)
        return _NO_DEADLINE if called is None else _ends_after(called)
    if not said.isdigit() or len(said) > 6:
        raise RequestError("x-deadline-ms is a whole number of milliseconds", field="x-deadline-ms")
    return _ends_after(int(said))


@asynccontextmanager
async def _ends_after(milliseconds: int) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(milliseconds / 1000):
            yield
    except TimeoutError:
        raise TooSlow(f"not answered within {milliseconds} ms", field="x-deadline-ms") from None


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


async def _body(headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
    announced = headers.get(b"content-length", b"")
    too_long, parts, length, more = announced.isdigit() and int(announced) > MOST_BYTES, [], 0, True
    while more and not too_long:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise HungUp("who asked is gone", field=None)
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
    """What an error is to who asked."""
    found = refusal(error)
    return _error(str(error), status=found.status, field=getattr(error, "field", None), headers=found.headers)


def _refused_call(error: Exception) -> Response:
    """The same to who asked by Connect."""
    found = refusal(error)
    return Response(connect.error(error), status_code=found.status, headers=found.headers, media_type="application/json")


async def _refused(_: Request, error: Exception) -> Response:
    return _refusal(error)


def _no_path(routes: list[Route]) -> ExceptionHandler:
    async def answered(request: Request, _: Exception) -> Response:
        return _error(f"there is no {request.scope['path']}; there are {', '.join(route.path for route in routes)}", status=404)

    return answered


async def _other_method(request: Request, error: Exception) -> Response:
    allowed = (error.headers or {})["Allow"] if isinstance(error, HTTPException) else ""
    return _error(f"{request.scope['path']} is asked by {allowed}, not {request.method}", status=405, headers={"allow": allowed})


_HANDLERS: dict[Any, ExceptionHandler] = dict.fromkeys(REFUSED, _refused)
