"""Runs the HTTP service: it and the protocol are the only places that know uvicorn."""

import contextlib
import gc
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from time import monotonic
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from feature_definitions.errors import UserError
from serving import forked, protocol


class CannotListen(UserError):
    """The address cannot be served from."""


@dataclass(frozen=True, slots=True)
class Processes:
    """In how many processes it is served, by which certificate and key if any, and what brings an
    application up to date at a SIGHUP."""

    count: int = 1
    tls: tuple[str, str] | None = None
    renew: Callable[[Any], None] | None = None


_ONE = Processes()
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

    `ready` is told the port when connections are taken, just before they are answered. Each process makes its own application: threads
    that a parent started, of a lake or a registry, are not there in what it forks.
    """
    if processes.count > 1:
        _run_many(make, ready, (host, port), processes)
        return
    app = make()
    server = _server(app, processes, None)
    with _listening(host, port) as listener, _stopped_by_signals(server, _renewing(app, processes)):
        ready(int(listener.getsockname()[1]))
        server.run(sockets=[listener])


def _run_many(make: Callable[[], ASGIApp], ready: Callable[[int], None], address: tuple[str, int], processes: Processes) -> None:
    """Serve in several processes, each with a socket of its own; the parent holds the port and takes no connections."""
    host, port = address
    with _refused_addresses(host, port):
        held = forked.shared(host, port, family=_family(host))
    with held:
        taken = int(held.getsockname()[1])

        def work(pipe: int) -> None:
            app = make()
            with forked.shared(host, taken, family=_family(host)) as listener:
                listener.listen(2048)
                server = _server(app, processes, pipe)
                with _stopped_by_signals(server, _renewing(app, processes)):
                    server.run(sockets=[listener])

        forked.run(work, count=processes.count, ready=partial(ready, taken))


def _renewing(app: ASGIApp, processes: Processes) -> Callable[[], None] | None:
    return None if processes.renew is None else partial(processes.renew, app)


def _server(app: ASGIApp, processes: Processes, pipe: int | None) -> uvicorn.Server:
    certificate, key = processes.tls or (None, None)
    config = uvicorn.Config(
        app, log_level="error", access_log=False, loop="uvloop", http=protocol.for_application(app), timeout_graceful_shutdown=5,
        ssl_certfile=certificate, ssl_keyfile=key, timeout_notify=0, timeout_keep_alive=int(protocol.IDLE), server_header=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    gc.freeze()  # what is there now stays; looking through it again and again would keep requests waiting
    gc.set_threshold(_GARBAGE)

    async def each_second() -> None:
        protocol.end_late_ones(server.server_state.connections, monotonic())
        if pipe is not None:
            os.write(pipe, b".")

    config.callback_notify = each_second
    return server


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
