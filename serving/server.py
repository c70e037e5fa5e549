"""Runs the HTTP service: the only place that knows uvicorn."""

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from feature_definitions.errors import UserError


class CannotListen(UserError):
    """The address cannot be served from."""


def run(app: ASGIApp, *, ready: Callable[[int], None], host: str = "127.0.0.1", port: int) -> None:
    """Serve until SIGTERM or Ctrl-C, finishing the requests under way; port 0 takes a free one.

    `ready` is told the port when connections are taken, just before they are answered.
    """
    config = uvicorn.Config(app, log_level="warning", access_log=False, loop="uvloop", http="httptools", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    with _listening(host, port) as listener, _stopped_by_signals(server):
        ready(int(listener.getsockname()[1]))
        server.run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise CannotListen(f"{host}:{port} cannot be served from ({error}); choose another port by --port, or 0 for a free one") from None


@contextlib.contextmanager
def _stopped_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Signals stop the server from the first moment; the process ends well though uvicorn raises them again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
