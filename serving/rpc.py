"""The gRPC service, with health and reflection: the only place that knows grpc."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from online_sync.servers import StoreUnavailable
from serving import messages
from serving.refusals import MOST_BYTES, REFUSED, refusal

_MOST_AT_ONCE = 10_000
_LOOK_EVERY = 1.0
"""Seconds between two looks at whether the service still works, for who watches it."""
_OPTIONS = [("grpc.so_reuseport", 1), ("grpc.max_receive_message_length", MOST_BYTES)]


class Callee(Protocol):
    """An application that is called by gRPC."""

    async def called(self, method: str, data: bytes, authorization: bytes, client: str) -> bytes:
        """Answer a call, or raise what refuses it."""

    async def reached(self) -> None:
        """Raise unless the store can be reached."""


async def started(app: Callee, *, host: str, port: int, tls: tuple[str, str] | None) -> Callable[[float], Awaitable[None]]:
    """Answer calls at an address that is held already; returns what ends it, within so many seconds."""
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_MOST_AT_ONCE)
    methods = {method: grpc.unary_unary_rpc_method_handler(partial(_answered, app, method)) for method in messages.METHODS}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(messages.SERVICE, methods),))
    ending = asyncio.Event()
    health_pb2_grpc.add_HealthServicer_to_server(_Health(app, ending), server)
    reflection.enable_server_reflection((messages.SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if tls is None:
        server.add_insecure_port(address)
    else:
        server.add_secure_port(address, _credentials(*tls))
    await server.start()

    async def stop(grace: float) -> None:
        ending.set()
        await server.stop(grace)

    return stop


def _credentials(certificate: str, key: str) -> Any:
    return grpc.ssl_server_credentials(((Path(key).read_bytes(), Path(certificate).read_bytes()),))


async def _answered(app: Callee, method: str, data: bytes, context: Any) -> bytes:
    authorization = next((value for name, value in context.invocation_metadata() or () if name == "authorization"), "")
    text = authorization if isinstance(authorization, bytes) else authorization.encode(errors="replace")
    try:
        return await app.called(method, data, text, context.peer())
    except REFUSED as error:
        await context.abort(grpc.StatusCode[refusal(error).code.upper()], str(error))
        raise  # never reached: abort raises


class _Health(health.aio.HealthServicer):  # type: ignore[misc]  # grpc ships no types
    """The process lives; the service works if the store answers."""

    def __init__(self, app: Callee, ending: asyncio.Event) -> None:
        super().__init__()
        self._app, self._ending = app, ending

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802  # gRPC's name
        """Whether what is asked for works."""
        if request.service not in ("", messages.SERVICE):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no {request.service!r}")
        return health_pb2.HealthCheckResponse(status=await self._status(request.service))

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802  # gRPC's name
        """The same, and again whenever it has changed, until the server ends; clients that balance load ask so."""
        said = None
        while not self._ending.is_set():
            found = await self._status(request.service)
            if found != said:
                await context.write(health_pb2.HealthCheckResponse(status=found))
                said = found
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY):
                    await self._ending.wait()

    async def _status(self, service: str) -> Any:
        if service not in ("", messages.SERVICE):
            return health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        try:
            if service:
                await self._app.reached()
        except StoreUnavailable:
            return health_pb2.HealthCheckResponse.NOT_SERVING
        return health_pb2.HealthCheckResponse.SERVING
