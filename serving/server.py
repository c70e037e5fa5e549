"""Runs the HTTP service: it and the protocol are the only places that know uvicorn."""

import contextlib
import gc
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from time import monotonic
from typing import Any, Literal

import uvicorn
from starlette.types import ASGIApp

from feature_definitions.errors import UserError
from serving import forked, protocol


class CannotListen(UserError):
    """The address cannot be served from."""


@dataclass(frozen=True, slots=True)
class Processes:
    """In how many processes it is served, by which certificate and key if any, what renews an application, and whether by gRPC, too.

    `renew` brings an application up to date at a SIGHUP. `parent` may replace even a single process
    where it hangs.
    """

    count: int = 1
    tls: tuple[str, str] | None = None
    renew: Callable[[Any], None] | None = None
    calls: "Calls | None" = None
    parent: Literal["of many", "always"] = "of many"


@dataclass(frozen=True, slots=True)
class Calls:
    """The port at which gRPC is answered, 0 for a free one, and who is told which it is, before requests are answered."""

    port: int
    told: Callable[[int], None]


_ONE = Processes()
_GRACE = 5
"""Seconds for requests under way at the end."""
_GARBAGE = 50_000
"""So many more objects than before are made before those are looked through that nothing names any more."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def run(
    make: Callable[[], ASGIApp], *, ready: Callable[[int], None], host: str = "127.0.0.1", port: int, processes: Processes = _ONE
) -> None:
    """Serve until SIGTERM or Ctrl-C, finishing the requests under way; port 0 takes a free one.

    `ready` is told the port when requests are answered, by gRPC too. Each process makes its own application: threads
    that a parent started, of a lake or a registry, are not there in what it forks.
    """
    with _held(host, processes.calls) as calls:
        if processes.count > 1 or processes.parent == "always":
            _run_many(make, ready, (host, port), _Ways(processes, calls))
            return
        app = make()
        with _listening(host, port) as listener:
            told = partial(ready, int(listener.getsockname()[1]))
            server = _server(app, _Ways(processes, calls), None, told)
            with _stopped_by_signals(server, _renewing(app, processes)):
                server.run(sockets=[listener])


@dataclass(frozen=True, slots=True)
class _Ways:
    """The processes, and the address of gRPC, which is held."""

    processes: Processes
    calls: tuple[str, int] | None


@contextlib.contextmanager
def _held(host: str, calls: Calls | None) -> Iterator[tuple[str, int] | None]:
    """Hold a port for gRPC, at which each process listens by itself."""
    if calls is None:
        yield None
        return
    with _refused_addresses(host, calls.port):
        held = forked.shared(host, calls.port, family=_family(host))
    with held:
        taken = int(held.getsockname()[1])
        calls.told(taken)
        yield host, taken


def _run_many(make: Callable[[], ASGIApp], ready: Callable[[int], None], address: tuple[str, int], ways: _Ways) -> None:
    """Serve in several processes, each with a socket of its own; the parent holds the port and takes no connections."""
    host, port = address
    with _refused_addresses(host, port):
        held = forked.shared(host, port, family=_family(host))
    with held:
        taken = int(held.getsockname()[1])

        def work(life: forked.Life) -> None:
            app = make()
            if hasattr(app, "watched"):
                app.watched(life, hung=life.hung)
            with forked.shared(host, taken, family=_family(host)) as listener:
                listener.listen(2048)
                server = _server(app, ways, life, lambda: None)
                with _stopped_by_signals(server, _renewing(app, ways.processes)):
                    server.run(sockets=[listener])

        forked.run(work, count=ways.processes.count, ready=partial(ready, taken))


class _Server(uvicorn.Server):
    """uvicorn's server, with one for gRPC beside it if it is wished; both answer when `ready` is called."""

    def __init__(
        self, config: uvicorn.Config, beside: Callable[[], Awaitable[Callable[[float], Awaitable[None]]]] | None, ready: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._beside, self._ready = beside, ready
        self._end: Callable[[float], Awaitable[None]] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._beside is not None:
            self._end = await self._beside()
        await super().startup(sockets)
        if not self.should_exit:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._end is not None:
            await self._end(_GRACE)
        await super().shutdown(sockets)


def _renewing(app: ASGIApp, processes: Processes) -> Callable[[], None] | None:
    return None if processes.renew is None else partial(processes.renew, app)


def _server(app: Any, ways: _Ways, life: forked.Life | None, ready: Callable[[], None]) -> uvicorn.Server:
    certificate, key = ways.processes.tls or (None, None)
    config = uvicorn.Config(
        app, log_level="error", access_log=False, loop="uvloop", http=protocol.for_application(app), timeout_graceful_shutdown=_GRACE,
        ssl_certfile=certificate, ssl_keyfile=key, timeout_notify=0, timeout_keep_alive=int(protocol.IDLE), server_header=False,
    )  # fmt: skip
    server = _Server(config, None if ways.calls is None else partial(_calls, app, ways.calls, ways.processes.tls), ready)
    gc.collect()  # else the garbage of the start stays, too
    gc.freeze()  # what is there now stays; looking through it again and again would keep requests waiting
    gc.set_threshold(_GARBAGE)

    async def each_second() -> None:
        protocol.end_late_ones(server.server_state.connections, monotonic())
        if life is not None:
            life.beat()

    config.callback_notify = each_second
    return server


async def _calls(app: Any, address: tuple[str, int], tls: tuple[str, str] | None) -> Callable[[float], Awaitable[None]]:
    from serving import rpc  # only in the process that answers, and only there: gRPC does not live through a fork

    return await rpc.started(app, host=address[0], port=address[1], tls=tls)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _listening(host: str, port: int) -> socket.socket:
    with _refused_addresses(host, port):
        return socket.create_server((host, port), family=_family(host), backlog=2048)


@contextlib.contextmanager
def _refused_addresses(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except (OSError, OverflowError) as error:
        raise CannotListen(f"{host}:{port} cannot be served from ({error}); choose another port by --port, or 0 for a free one") from None


@contextlib.contextmanager
def _stopped_by_signals(server: uvicorn.Server, renew: Callable[[], None] | None) -> Iterator[None]:
    """Signals stop the server from the first moment, or renew it; the process ends well though uvicorn raises them again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = dict.fromkeys((signal.SIGINT, signal.SIGTERM), server.handle_exit)
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    if renew is not None:
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=renew, daemon=True).start())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
