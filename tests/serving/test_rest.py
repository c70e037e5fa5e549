"""The HTTP service over real sockets: answers, errors that name the field, and a store that goes away and comes back."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import redis

from feature_definitions import Entity, Feature, FeatureService, Join, Source, WindowedGroup
from feature_definitions.layout import KeySpace
from online_sync import embedded
from online_sync.store import AsyncStore, Store
from serving import rest
from tests.serving.processes import RECORD, Answer, Service, serving
from tests.waiting import quickest

if TYPE_CHECKING:
    from pathlib import Path

PAYMENTS = Source("payments", columns={"customer_id": "int64", "paid": "double", "at": "timestamp"}, event_timestamp="at")
SPEND = WindowedGroup(
    "spend", Entity("customer", {"customer_id": "int64"}), PAYMENTS, ttl="2d", features=(Feature("paid", "sum", "paid", windows=("1d",)),)
)
SERVICES = {"by_customer": FeatureService("by_customer", joins=(Join(SPEND),))}
ASKED = {"service": "by_customer", "entities": [{"customer_id": 42}, {"customer_id": 7}, {"customer_id": None}]}


def test_features_are_answered_in_the_order_asked(service: Service) -> None:
    answer = service.features(ASKED)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.body == {
        "results": [
            {
                "entity": {"customer_id": 42},
                "values": {"spend__paid_1d": 1.5},
                "status": {"spend": "PRESENT"},
                "event_timestamp": {"spend": "2026-01-05T00:00:00Z"},
            },
            {
                "entity": {"customer_id": 7},
                "values": {"spend__paid_1d": 0.0},
                "status": {"spend": "NOT_FOUND"},
                "event_timestamp": {"spend": None},
            },
            {
                "entity": {"customer_id": None},
                "values": {"spend__paid_1d": None},
                "status": {"spend": "NOT_FOUND"},
                "event_timestamp": {"spend": None},
            },
        ]
    }


def test_it_says_that_it_lives_and_is_ready(service: Service) -> None:
    assert service.get("/healthz").body == {"status": "ok"}
    assert service.get("/readyz").body == {"status": "ready", "services": ["by_customer"]}


def test_it_is_not_ready_while_the_store_has_another_lakes_rows_and_says_where_the_store_evicts(own_store: Path) -> None:
    url = embedded.ensure(own_store)
    other = KeySpace("shop", "otherlak")
    with serving(url) as service, closing(Store(url)) as store, closing(redis.Redis.from_url(url)) as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lfu")
        [warning] = service.get("/readyz").body["warnings"]
        assert "maxmemory-policy allkeys-lfu" in warning
        assert store.claim(other, place="/data/other", instead_of=None)
        assert_error(service.get("/readyz"), 503, field=None, message="come from lake otherlak (/data/other), not from lakelake")


def test_a_lake_that_gets_its_identity_while_it_is_served_is_answered_for_from_then_on(own_store: Path) -> None:
    url = embedded.ensure(own_store)
    spaces: list[KeySpace] = []

    async def asked() -> list[str]:
        store = AsyncStore(url)
        app = rest.app(
            SERVICES, space=lambda: spaces[0] if spaces else None, store=store, clock=lambda: datetime(2026, 1, 5, 6, tzinfo=UTC)
        )
        found = [await status(app)]
        spaces.append(RECORD.space)
        found.append(await status(app))
        await store.close()
        return found

    assert asyncio.run(asked()) == ["EXPIRED", "PRESENT"]


async def status(app: Any) -> str:
    """The status of customer 42, asked of the application itself."""
    sent: list[Any] = []
    body = json.dumps({"service": "by_customer", "entities": [{"customer_id": 42}]}).encode()

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "method": "POST", "path": "/v1/features", "query_string": b"", "headers": []}, receive, send)
    found: str = json.loads(sent[1]["body"])["results"][0]["status"]["spend"]
    return found


@pytest.mark.parametrize("name", ["nobody", "offline", 5, None])
def test_an_unknown_service_is_told_which_there_are(service: Service, name: object) -> None:
    assert_error(service.features({"service": name, "entities": [{"customer_id": 1}]}), 404, field="service", message="by_customer")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], None),
        ({"entities": []}, "service"),
        ({"service": "by_customer"}, "entities"),
        (ASKED | {"features": []}, "features"),
        (ASKED | {"entities": []}, "entities"),
        (ASKED | {"entities": [{"customer_id": "abc"}]}, "entities[0].customer_id"),
        (ASKED | {"entities": [{"customer_id": 2**64}]}, "entities[0].customer_id"),
        (ASKED | {"entities": [{"customer_id": 1}, {}]}, "entities[1].customer_id"),
    ],
)
def test_a_bad_request_names_the_field(service: Service, body: object, field: str | None) -> None:
    assert_error(service.features(body), 400, field=field, message=field or "object")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"service": NaN}', b"[" * 100_000, b'"\\ud800"'])
def test_a_body_that_is_no_json_is_refused(service: Service, body: bytes) -> None:
    assert_error(service.ask("POST", "/v1/features", body), 400, field=None, message="body")


def test_a_body_of_a_mebibyte_is_the_longest(service: Service) -> None:
    body = json.dumps(ASKED).encode()
    assert service.ask("POST", "/v1/features", body.ljust(1024 * 1024)).status == 200
    assert_error(service.ask("POST", "/v1/features", body.ljust(1024 * 1024 + 1)), 413, field=None, message="1,048,576")


def test_a_long_body_that_does_not_announce_its_length_is_refused_too(service: Service) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)) as connection:
        connection.request(
            "POST", "/v1/features", iter([b" " * 700_000] * 2), encode_chunked=True, headers={"transfer-encoding": "chunked"}
        )
        assert connection.getresponse().status == 413


@pytest.mark.parametrize("path", ["/v1/nothing", "/healthz/", "/"])
def test_there_is_nothing_else(service: Service, path: str) -> None:
    assert_error(service.get(path), 404, field=None, message=f"there is no {path}; there are /v1/features, /healthz, /readyz")


def test_a_caller_who_hangs_up_is_no_error_of_the_server() -> None:
    app = rest.app({}, space=lambda: None, store=AsyncStore("redis://127.0.0.1:1/0"), clock=lambda: datetime(2026, 1, 5, tzinfo=UTC))
    sent: list[Any] = []

    async def gone() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app({"type": "http", "method": "POST", "path": "/v1/features", "headers": []}, gone, send))
    assert sent[0]["status"] == 400


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("GET", "/v1/features", "POST"), ("POST", "/healthz", "GET"), ("PUT", "/readyz", "GET")]
)
def test_another_method_is_told_the_right_one(service: Service, method: str, path: str, allowed: str) -> None:
    answer = service.ask(method, path)
    assert_error(answer, 405, field=None, message=allowed)
    assert answer.headers["allow"] == allowed


def test_without_services_it_is_alive_but_not_ready(own_store: Path) -> None:
    with serving(embedded.ensure(own_store), "none") as service:
        assert service.get("/healthz").status == 200
        assert_error(service.get("/readyz"), 503, field=None, message="no service is loaded")
        assert_error(service.features(ASKED), 404, field="service", message="there are none")


def test_it_starts_without_a_store_and_works_once_there_is_one(own_store: Path) -> None:
    url = embedded.ensure(own_store)
    embedded.stop(own_store)
    with serving(url) as service:
        assert_away(service)
        assert embedded.ensure(own_store) == url
        assert_back(service)


def test_a_killed_store_is_a_503_within_a_second_and_forgotten_when_it_is_back(own_store: Path) -> None:
    url = embedded.ensure(own_store)
    with serving(url) as service:
        assert_back(service)
        os.kill(int((own_store / "valkey.pid").read_text()), signal.SIGKILL)
        assert_away(service)
        assert embedded.ensure(own_store) == url
        assert_back(service)


def test_a_store_that_hangs_is_a_503_within_a_second_and_forgotten_when_it_goes_on(own_store: Path) -> None:
    with serving(embedded.ensure(own_store)) as service:
        assert_back(service)
        number = int((own_store / "valkey.pid").read_text())
        os.kill(number, signal.SIGSTOP)
        try:
            assert_away(service)
        finally:
            os.kill(number, signal.SIGCONT)
        assert_back(service)


def assert_error(answer: Answer, status: int, *, field: str | None, message: str) -> None:
    assert answer.status == status
    assert set(answer.body) == {"error"}
    assert answer.body["error"]["field"] == field
    assert message in answer.body["error"]["message"]


def assert_away(service: Service) -> None:
    """Again and again, since the first request after a loss takes another way than those that follow."""

    def refused() -> None:
        for answer in (service.features(ASKED), service.get("/readyz")):
            assert_error(answer, 503, field=None, message="the online store at 127.0.0.1:")
            assert answer.headers["retry-after"] == "1"

    assert quickest(refused, below=0, tries=1) < 5
    assert quickest(refused, below=2) < 2
    assert service.get("/healthz").status == 200


def assert_back(service: Service) -> None:
    assert service.get("/readyz").status == 200
    assert service.features(ASKED).body["results"][0]["status"] == {"spend": "PRESENT"}
