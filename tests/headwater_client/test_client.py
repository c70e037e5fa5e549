"""The client: typed answers of a real server and of its store, alike; what is tried again, and what is refused."""

from __future__ import annotations

import asyncio
import importlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from feature_definitions.layout import KeySpace
from headwater_client import AsyncClient, Client, ClientError, ContractBroken, Features, FeaturesMissing, ServerAway, ServerRefused
from headwater_client import answers as client_answers
from headwater_client.direct import DirectClient
from online_sync import embedded
from online_sync.store import Store
from tests.serving.processes import RECORD, fill, serving
from tests.serving.test_rest import SERVICES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from online_sync.store import Owner

ENTITIES = [{"customer_id": 42}, {"customer_id": 7}]
ROW = {"entity": {"customer_id": 42}, "values": {"spend__paid_1d": 1.5}, "status": {"spend": "PRESENT"}, "event_timestamp": {"spend": None}}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("store")
    url = embedded.ensure(folder)
    fill(url)
    with closing(Store(url)) as found:
        assert found.claim(RECORD.space, place="/lake", instead_of=None)
    yield url
    embedded.stop(folder)


@pytest.fixture(scope="module")
def url(store: str) -> Iterator[str]:
    with serving(store) as running:
        yield f"http://127.0.0.1:{running.port}"


def direct(store: str) -> DirectClient:
    return DirectClient(SERVICES.values(), url=store, project="shop", clock=lambda: datetime(2026, 1, 5, 6, tzinfo=UTC))


def test_both_kinds_and_the_store_itself_answer_alike(store: str, url: str) -> None:
    async def asked() -> tuple[Features, list[list[Any]], list[str]]:
        async with AsyncClient(url) as client:
            await client.validate("by_customer", features={"spend__paid_1d": "double"})
            matrix = await client.get_features_for_prediction("by_customer", ENTITIES, ["spend__paid_1d"])
            names = [each.name for each in [*await client.list_services(), *await client.list_views()]]
            return await client.get_features("by_customer", ENTITIES), matrix, names

    with Client(url) as client, direct(store) as reads:
        found = client.get_features("by_customer", ENTITIES)
        assert found.rows[0].values == {"spend__paid_1d": 1.5}
        assert [row.is_whole for row in found.rows] == [True, False]
        assert found.columns() == {"spend__paid_1d": [1.5, 0.0]}
        matrix = client.get_features_for_prediction("by_customer", ENTITIES, ["spend__paid_1d"])
        names = [each.name for each in [*client.list_services(), *client.list_views()]]
        assert (found, matrix, names) == asyncio.run(asked())
        assert reads.get_features("by_customer", ENTITIES) == found
        assert reads.get_features_for_prediction("by_customer", ENTITIES, ["spend__paid_1d"]) == matrix == [[1.5], [0.0]]


def test_a_table_has_the_rows_of_an_answer_with_their_types_whoever_is_asked(store: str, url: str) -> None:
    async def asked() -> Any:
        async with AsyncClient(url, timeout=60) as client:
            return await client.get_table("by_customer", ENTITIES)

    with Client(url, timeout=60) as client, direct(store) as reads:  # it loads pyarrow
        found = client.get_table("by_customer", ENTITIES)
        assert found.to_pydict() == {
            "customer_id": [42, 7], "spend__paid_1d": [1.5, 0.0], "spend__hw_status": ["PRESENT", "NOT_FOUND"],
            "spend__hw_event_timestamp": [datetime(2026, 1, 5, tzinfo=UTC), None],
        }  # fmt: skip
        assert str(found.schema.field("spend__hw_event_timestamp").type) == "timestamp[us, tz=UTC]"
        assert found.equals(asyncio.run(asked()))
        assert found.equals(reads.get_table("by_customer", ENTITIES))
        fresh = client.get_table("by_customer", ENTITIES, max_staleness="5h", freshness=True)
        assert fresh.column("spend__hw_status").to_pylist() == ["EXPIRED", "EXPIRED"]
        assert json.loads(fresh.schema.metadata[b"freshness"])["spend"]["epoch"] == 1


def test_a_table_is_refused_in_words_too(store: str, url: str) -> None:
    with Client(url) as client, direct(store) as reads:
        for each in (client, reads):
            with pytest.raises(ServerRefused, match="there is no service 'nobody'"):
                each.get_table("nobody", ENTITIES)


def test_without_pyarrow_or_an_arrow_stream_a_table_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    handler, requests = answering(200, 200)
    with Client("http://x", transport=httpx.MockTransport(handler)) as client:
        with pytest.raises(ClientError, match="no Arrow stream"):
            client.get_table("by_customer", ENTITIES)
        assert requests[0].headers["accept"] == "application/vnd.apache.arrow.stream"
        monkeypatch.setattr(client_answers, "find_spec", lambda _: None)
        with pytest.raises(ClientError, match="pip install pyarrow; or ask by get_features"):
            client.get_table("by_customer", ENTITIES)
    assert len(requests) == 1


def test_staleness_and_freshness_are_passed_on(url: str) -> None:
    with Client(url) as client:
        found = client.get_features("by_customer", ENTITIES, max_staleness="5h", freshness=True)
    assert found.rows[0].status == {"spend": "EXPIRED"}
    assert found.freshness is not None
    assert found.freshness["spend"]["epoch"] == 1


@pytest.mark.parametrize(
    ("service", "entities", "status"),
    [("nobody", ENTITIES, 404), ("by_customer", [{}], 400), ("by_customer", [], 400), ("offline", ENTITIES, 404)],
)  # fmt: skip
def test_a_mistake_is_refused_in_the_servers_words_by_the_store_too(
    store: str, url: str, service: str, entities: list[dict[str, int]], status: int
) -> None:
    with Client(url) as client, direct(store) as reads:
        for each in (client, reads):
            with pytest.raises(ServerRefused) as refused:
                each.get_features(service, entities)
            assert refused.value.status == status


def test_another_lake_that_takes_the_project_over_is_noticed(store: str) -> None:
    with direct(store) as reads, closing(Store(store)) as found:
        assert reads.get_features("by_customer", ENTITIES).rows[0].status == {"spend": "PRESENT"}
        assert found.claim(KeySpace("shop", "otherlak"), place="/other", instead_of=found.owner("shop"))
        assert reads.get_features("by_customer", ENTITIES).rows[0].status == {"spend": "EXPIRED"}
        assert found.claim(RECORD.space, place="/lake", instead_of=found.owner("shop"))


def test_threads_that_ask_first_at_once_are_answered_alike(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    learning = threading.Event()

    def slow(project: str, lake: str) -> KeySpace:
        learning.set()
        time.sleep(0.05)
        return KeySpace(project, lake)

    monkeypatch.setattr("headwater_client.direct.KeySpace", slow)
    with direct(store) as reads, ThreadPoolExecutor(2) as threads:
        first = threads.submit(reads.get_features, "by_customer", ENTITIES)
        assert learning.wait(10)
        second = threads.submit(reads.get_features, "by_customer", ENTITIES)
        assert [each.result().rows[0].status for each in (first, second)] == [{"spend": "PRESENT"}] * 2


def test_a_lake_that_takes_over_while_it_is_looked_up_is_noticed(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, other = Store.owner, KeySpace("shop", "otherlak")

    def taken_over(self: Store, project: str) -> Owner | None:
        monkeypatch.setattr(Store, "owner", owner)
        held = owner(self, project)
        assert self.claim(other, place="/other", instead_of=held)
        return held

    with direct(store) as reads, closing(Store(store)) as found:
        monkeypatch.setattr(Store, "owner", taken_over)
        assert reads.get_features("by_customer", ENTITIES).rows[0].status == {"spend": "EXPIRED"}
        assert found.claim(RECORD.space, place="/lake", instead_of=found.owner("shop"))


@pytest.mark.parametrize(
    ("features", "asks", "said"),
    [
        ({"spend__paid_1d": "int64"}, None, "as double, not as int64"), ({"spend__paid_2d": "double"}, None, "as nothing"),
        ({}, {"shop_id": "int64"}, "asks for"),
    ],
)  # fmt: skip
def test_a_service_that_is_not_what_is_expected_is_told(url: str, features: dict[str, str], asks: dict[str, str] | None, said: str) -> None:
    with Client(url) as client, pytest.raises(ContractBroken, match=said):
        client.validate("by_customer", features=features, asks=asks)
    with Client(url) as client, pytest.raises(ContractBroken, match="there is no service 'nobody'; there are by_customer"):
        client.validate("nobody", features={})


# ------------------------------------------------------------------------------------------------------------- without a server


def answering(*statuses: int | Exception) -> tuple[Callable[[httpx.Request], httpx.Response], list[httpx.Request]]:
    """A server that answers so, one after the other, and the requests that it gets."""
    coming, requests = list(statuses), list[httpx.Request]()

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        status = coming.pop(0)
        if isinstance(status, Exception):
            raise status
        error = {"error": {"field": None, "message": f"status {status}"}}
        return httpx.Response(status, json={"results": [ROW]} if status == 200 else error, headers={"retry-after": "0"})

    return answer, requests


@pytest.mark.parametrize(
    ("statuses", "error", "asked"),
    [
        ([503, 429, 200], None, 3), ([httpx.ConnectError("gone"), 200], None, 2), ([503, 503, 503, 200], ServerRefused, 3),
        ([httpx.ReadTimeout("late")] * 3, ServerAway, 3), ([400], ServerRefused, 1), ([500], ServerRefused, 1), ([504], ServerRefused, 1),
    ],
)  # fmt: skip
def test_what_may_pass_is_tried_again_and_no_more(statuses: list[Any], error: type[Exception] | None, asked: int) -> None:
    async def awaited() -> Features:
        async with AsyncClient("http://x", transport=httpx.MockTransport(handler)) as client:
            return await client.get_features("by_customer", ENTITIES)

    def waited() -> Features:
        with Client("http://x", transport=httpx.MockTransport(handler)) as client:
            return client.get_features("by_customer", ENTITIES)

    for ask in (waited, lambda: asyncio.run(awaited())):
        handler, requests = answering(*statuses)
        if error is None:
            assert ask().rows[0].values == ROW["values"]
        else:
            with pytest.raises(error):
                ask()
        assert len(requests) == asked


def test_the_key_is_sent_and_never_said() -> None:
    handler, requests = answering(401)
    with Client("http://x", key="sesame", transport=httpx.MockTransport(handler)) as client, pytest.raises(ServerRefused) as refused:
        client.list_services()
    assert requests[0].headers["authorization"] == "Bearer sesame"
    assert "sesame" not in f"{refused.value!r}{client!r}{vars(client)}"


@pytest.mark.parametrize(
    ("value", "status", "features", "error"),
    [
        (None, "NOT_FOUND", ["x"], FeaturesMissing), (None, "PRESENT", ["x"], None), (0.0, "NOT_FOUND", ["x"], None),
        (1.0, "PRESENT", ["y"], ContractBroken),
    ],
)  # fmt: skip
def test_a_prediction_is_not_made_of_what_is_not_known(
    value: float | None, status: str, features: list[str], error: type[Exception] | None
) -> None:
    row = {"entity": {}, "values": {"x": value}, "status": {"j": status}, "event_timestamp": {"j": None}}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=json.dumps({"results": [row]})))
    with Client("http://x", transport=transport) as client:
        if error is None:
            assert client.get_features_for_prediction("s", [{}], features) == [[value]]
        else:
            with pytest.raises(error):
                client.get_features_for_prediction("s", [{}], features)
        assert client.get_features_for_prediction("s", [{}], ["x"], missing="null") == [[value]]


def test_it_loads_nothing_of_the_platform_unless_the_store_is_read() -> None:
    loaded = importlib.import_module("tests.test_architecture").loaded_by("import headwater_client")
    assert loaded & {"serving", "online_sync", "feature_definitions", "redis", "pandas", "pyspark", "pyarrow", "numpy"} == set()
