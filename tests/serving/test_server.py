"""The running process: it tells its port, ends well when asked, and says why it cannot start."""

from __future__ import annotations

import signal
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

import headwater as hw
from online_sync import embedded
from online_sync.store import AsyncStore
from serving import rest
from serving.server import CannotListen, Processes, is_loopback, run
from tests import projects
from tests.serving.processes import serving

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(own_store: Path, number: signal.Signals) -> None:
    with serving(embedded.ensure(own_store)) as service:
        assert service.get("/healthz").status == 200
        service.process.send_signal(number)
        assert service.process.wait(timeout=60) == 0


def test_a_signal_that_comes_at_once_is_not_lost(own_store: Path) -> None:
    with serving(embedded.ensure(own_store)) as service:
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=60) == 0


CATALOG = """
from feature_definitions import Entity, Feature, FeatureService, Join, OnDemandFeature, Request, Source, WindowedGroup

customer = Entity("customer", {"customer_id": "int64"})
payments = Source("payments", columns={"customer_id": "int64", "paid": "double", "at": "timestamp"}, event_timestamp="at")
spend = WindowedGroup("spend", customer, payments, ttl="2d", features=(Feature("paid", "sum", "paid", windows=("1d",)),))
twice = OnDemandFeature("twice", (Request("amount", "double"),), "double", lambda amount: amount * 2)
"""
PLAIN, COMPUTED = (f"only = FeatureService('only', joins=(Join(spend),){more})\n" for more in ("", ", on_demand=(twice,)"))


@pytest.mark.parametrize(("service", "parent"), [(PLAIN, "of many"), (COMPUTED, "always")])
def test_where_features_are_computed_on_demand_even_one_worker_has_a_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: str, parent: str
) -> None:
    asked: list[Processes] = []
    monkeypatch.setenv("HEADWATER_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setattr("serving.server.run", lambda *_, processes, **__: asked.append(processes))
    with hw.open(projects.make(tmp_path / "project", catalog=CATALOG + service)) as p:
        p.serve(host="127.0.0.1", port=0, ready=lambda _: None)
    assert [(each.count, each.parent) for each in asked] == [(1, parent)]


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
