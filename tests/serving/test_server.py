"""The running process: it tells its port, ends well when asked, and says why it cannot start."""

from __future__ import annotations

import signal
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from online_sync import embedded
from online_sync.store import AsyncStore
from serving import rest
from serving.server import CannotListen, is_loopback, run
from tests.serving.processes import serving

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(own_store: Path, number: signal.Signals) -> None:
    with serving(embedded.ensure(own_store)) as service:
        assert service.get("/healthz").status == 200
        service.process.send_signal(number)
        assert service.process.wait(timeout=10) == 0


def test_a_signal_that_comes_at_once_is_not_lost(own_store: Path) -> None:
    with serving(embedded.ensure(own_store)) as service:
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=10) == 0


def test_a_port_that_is_taken_is_named() -> None:
    app = rest.app({}, space=lambda: None, store=AsyncStore("redis://127.0.0.1:1/0"), clock=lambda: datetime(2026, 1, 5, tzinfo=UTC))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"127.0.0.1:{port} cannot be served from"):
            run(lambda: app, ready=lambda _: pytest.fail("it says that it serves"), port=port)


@pytest.mark.parametrize(
    ("host", "only_here"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("10.0.0.1", False)],
)
def test_which_addresses_others_reach(host: str, only_here: bool) -> None:
    assert is_loopback(host) == only_here
