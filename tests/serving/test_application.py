"""The application under strain and under guard: keys, deadlines, too much at once, a store that is away, another catalog."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest

from feature_definitions import FeatureService, Join
from online_sync.servers import StoreUnavailable
from serving import rest
from serving.desk import Limits
from serving.keys import Keys
from tests.serving.test_answer import RECORD, ROW, by_customer, spend, stored

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from online_sync.store import AsyncStore

SERVICES = {"by_customer": by_customer}
BODY = json.dumps({"service": "by_customer", "entities": [{"customer_id": 42}]}).encode()


class FakeStore:
    """A store that is a dict, and that may be away or slow."""

    def __init__(self) -> None:
        self.rows, self.away, self.pause = stored(RECORD, (42,), ROW), False, 0.0

    async def mget(self, keys: Sequence[str]) -> list[bytes | None]:
        await asyncio.sleep(self.pause)
        if self.away:
            raise StoreUnavailable("the online store is away")
        return [self.rows.get(key) for key in keys]

    async def close(self) -> None:
        """There is nothing to close."""


def made(store: FakeStore, *, services: Any = SERVICES, space: Any = RECORD.space, **options: Any) -> rest.Application:
    return rest.app(
        services, space=lambda: space, store=cast("AsyncStore", store), clock=lambda: datetime(2026, 1, 10, 6, tzinfo=UTC), **options
    )  # fmt: skip


async def ask(app: rest.Application, path: str = "/v1/features", *, body: bytes = BODY, headers: Any = ()) -> tuple[int, Any, Any]:
    """Status, body and headers of an answer."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    method = "POST" if path in ("/v1/features", "/get-online-features") else "GET"
    await app({"type": "http", "method": method, "path": path, "query_string": b"", "headers": list(headers)}, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"]), dict(sent[0]["headers"])


@pytest.fixture
def guarded(tmp_path: Path) -> tuple[rest.Application, list[Any]]:
    found = [("open-sesame", {}), ("other", {"services": ["by_shop"]}), ("counts", {"verbs": ["metrics"]})]
    keys = [{"name": text, "sha256": hashlib.sha256(text.encode()).hexdigest(), **more} for text, more in found]
    (tmp_path / "keys.json").write_text(json.dumps({"keys": keys}))
    events: list[Any] = []
    return made(FakeStore(), guard=rest.Guard(Keys(tmp_path / "keys.json"), events.append)), events


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/v1/features", "open-sesame", 200), ("/v1/features", "", 401), ("/v1/features", "wrong", 401), ("/v1/features", "other", 403),
        ("/v1/features", "counts", 403), ("/v1/groups", "open-sesame", 200), ("/v1/groups", "", 401), ("/v1/stats", "counts", 200),
        ("/v1/stats", "open-sesame", 403), ("/healthz", "", 200), ("/nothing", "", 401),
    ],
)  # fmt: skip
def test_a_key_is_asked_for_and_refusals_are_told(guarded: tuple[rest.Application, list[Any]], path: str, key: str, status: int) -> None:
    app, events = guarded
    found, _, _ = asyncio.run(ask(app, path, headers=[(b"authorization", f"Bearer {key}".encode())]))
    assert found == status
    assert [(event["event"], event["status"], event["path"]) for event in events] == ([] if status == 200 else [("refused", status, path)])
    assert "Bearer wrong" not in str(events)


def test_a_request_ends_at_the_time_that_it_states() -> None:
    store = FakeStore()
    store.pause = 5.0
    status, body, _ = asyncio.run(ask(made(store), headers=[(b"x-deadline-ms", b"20")]))
    assert (status, body["error"]["message"]) == (504, "not answered within 20 ms")
    assert asyncio.run(ask(made(FakeStore()), headers=[(b"x-deadline-ms", b"1000")]))[0] == 200
    assert asyncio.run(ask(made(FakeStore()), headers=[(b"x-deadline-ms", b"soon")]))[0] == 400


def test_what_is_too_much_at_once_is_refused_and_room_is_made_again() -> None:
    store = FakeStore()
    store.pause = 0.05
    app = made(store, limits=Limits(at_once=2))

    async def five() -> list[tuple[int, Any, Any]]:
        return [*await asyncio.gather(*(ask(app) for _ in range(5))), await ask(app)]

    answers = asyncio.run(five())
    assert [status for status, _, _ in answers] == [200, 200, 503, 503, 503, 200]
    assert answers[2][2][b"retry-after"] == b"1"


def test_while_the_store_is_away_what_is_near_is_answered_if_that_is_wished_and_flagged() -> None:
    store = FakeStore()
    strict, lenient = made(store), made(store, limits=Limits(stale=60.0))

    async def asked() -> list[tuple[int, Any, Any]]:
        before = [await ask(strict), await ask(lenient)]
        store.away = True
        other = json.dumps({"service": "by_customer", "entities": [{"customer_id": 42}, {"customer_id": 1}]}).encode()
        return [*before, await ask(strict), await ask(lenient), await ask(lenient, body=other)]

    before, _, refused, stale, unknown = asyncio.run(asked())
    assert (refused[0], unknown[0]) == (503, 503)
    assert (stale[0], stale[1]) == (200, {"results": before[1]["results"], "stale": True})


def test_another_catalog_is_taken_up_while_a_request_is_under_way() -> None:
    store = FakeStore()
    store.pause = 0.02
    app = made(store)
    new = json.dumps({"service": "renewed", "entities": [{"customer_id": 42}]}).encode()

    async def asked() -> tuple[int, int, int]:
        under_way = asyncio.create_task(ask(app))
        await asyncio.sleep(0.005)
        app.take_up({"renewed": FeatureService("renewed", joins=(Join(spend),))})
        return (await under_way)[0], (await ask(app, body=new))[0], (await ask(app))[0]

    assert asyncio.run(asked()) == (200, 200, 404)
