"""The endpoints beside `POST /v1/features` with rows: other forms, Feast's words, what is served, counts, and that nothing is a 500."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.serving.processes import Answer

if TYPE_CHECKING:
    from tests.serving.processes import Service

ASKED = {"service": "by_customer", "entities": [{"customer_id": 42}, {"customer_id": 7}]}
T, NEVER = "2026-01-05T00:00:00Z", "1970-01-01T00:00:00Z"


def test_columns_are_answered_with_columns(service: Service) -> None:
    answer = service.features(ASKED | {"entities": {"customer_id": [42, 7, None]}})
    assert (answer.status, answer.body["results"]) == (
        200,
        {
            "entity": {"customer_id": [42, 7, None]},
            "values": {"spend__paid_1d": [1.5, 0.0, None]},
            "status": {"spend": ["PRESENT", "NOT_FOUND", "NOT_FOUND"]},
            "event_timestamp": {"spend": [T, None, None]},
        },
    )


@pytest.mark.parametrize(
    ("entities", "field"),
    [
        ({"customer_id": 42}, "entities.customer_id"), ({"customer": [1]}, "entities.customer"), ({}, "entities"),
        ({"customer_id": []}, "entities"), ({"customer_id": ["a"]}, "entities[0].customer_id"),
    ],
)  # fmt: skip
def test_wrong_columns_name_the_field(service: Service, entities: object, field: str) -> None:
    answer = service.features(ASKED | {"entities": entities})
    assert (answer.status, answer.body["error"]["field"]) == (400, field)


def test_message_pack_is_answered_to_who_accepts_it(service: Service) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)) as connection:
        connection.request("POST", "/v1/features", json.dumps(ASKED), {"accept": "application/msgpack"})
        response = connection.getresponse()
        assert response.getheader("content-type") == "application/msgpack"
        assert msgspec.msgpack.decode(response.read()) == service.features(ASKED).body


def test_freshness_is_told_to_who_asks_for_it(service: Service) -> None:
    fresh = service.features(ASKED | {"include": ["freshness"]}).body["freshness"]
    assert fresh == {"spend": {"epoch": 1, "generation": 1, "synced_at": NEVER, "coverage": T, "age": 6 * 3600.0, "rows": [1, None]}}
    assert service.features(ASKED | {"include": ["colour"]}).body["error"]["field"] == "include"


@pytest.mark.parametrize(("staleness", "status"), [("6h", "PRESENT"), ("5h", "EXPIRED"), ("90d", "PRESENT")])
def test_values_older_than_the_request_allows_are_expired(service: Service, staleness: str, status: str) -> None:
    assert service.features(ASKED | {"max_staleness": staleness}).body["results"][0]["status"] == {"spend": status}


@pytest.mark.parametrize("staleness", ["soon", 5, "-1d", [], ""])
def test_a_staleness_that_is_no_span_is_refused(service: Service, staleness: object) -> None:
    assert service.features(ASKED | {"max_staleness": staleness}).body["error"]["field"] == "max_staleness"


@pytest.mark.parametrize("query", ["customer_id=42", "key=42"])
def test_one_entity_is_asked_by_get(service: Service, query: str) -> None:
    assert service.get(f"/v1/features/by_customer?{query}").body == service.features(ASKED).body["results"][0]


@pytest.mark.parametrize(("path", "status"), [("by_customer", 400), ("by_customer?key=abc", 400), ("nobody?key=1", 404)])
def test_a_wrong_get_is_refused(service: Service, path: str, status: int) -> None:
    assert service.get(f"/v1/features/{path}").status == status


# ------------------------------------------------------------------------------------------------------------------------- Feast


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"feature_service": "by_customer"}, "paid_1d"),
        ({"feature_service": "by_customer", "full_feature_names": True}, "spend__paid_1d"),
        ({"features": ["spend:paid_1d"]}, "paid_1d"),
    ],
)
def test_feasts_request_is_answered_as_feast_does(service: Service, asked: dict[str, object], name: str) -> None:
    answer = service.ask("POST", "/get-online-features", json.dumps(asked | {"entities": {"customer_id": [42, 7, None]}}).encode())
    assert answer.body == {
        "metadata": {"feature_names": ["customer_id", name]},
        "results": [
            {"values": [42, 7, None], "statuses": ["PRESENT"] * 3, "event_timestamps": [NEVER] * 3},
            {"values": [1.5, 0.0, None], "statuses": ["PRESENT", "PRESENT", "NOT_FOUND"], "event_timestamps": [T, NEVER, NEVER]},
        ],
    }


@pytest.mark.parametrize(
    "asked",
    [
        {}, {"features": []}, {"features": ["paid_1d"]}, {"features": ["spend:nothing"]}, {"features": ["nobody:paid_1d"]},
        {"feature_service": "by_customer", "entities": {}}, {"feature_service": "by_customer", "entities": {"customer": [1]}},
        {"feature_service": 5}, {"features": ["spend:paid_1d"], "entities": {"customer_id": "42"}},
    ],
)  # fmt: skip
def test_feasts_request_is_refused_where_it_is_wrong(service: Service, asked: dict[str, object]) -> None:
    assert service.ask("POST", "/get-online-features", json.dumps({"entities": {"customer_id": [42]}} | asked).encode()).status == 400


# --------------------------------------------------------------------------------------------------------------- what is served


def test_services_and_groups_are_described(service: Service) -> None:
    asks, values = {"customer_id": "int64"}, {"spend__paid_1d": "double"}
    assert service.get("/v1/services").body["services"] == [
        {"name": "by_customer", "version": 1, "asks": asks, "features": values, "groups": ["spend"]}
    ]
    group = {
        "name": "spend", "entity": "customer", "keys": asks, "features": ["paid_1d"], "every": "1d", "ttl": "2d", "owner": "", "tags": []
    }  # fmt: skip
    assert service.get("/v1/groups").body == {"groups": [group]}
    assert service.get("/v1/groups/spend").body == group
    assert service.get("/v1/groups/nobody").status == 404


def test_a_groups_versions_are_what_is_online(service: Service) -> None:
    assert service.get("/v1/groups/spend/versions").body == [
        {"generation": 1, "epoch": 1, "synced_at": NEVER, "coverage": T, "columns": {"paid_1d": "double"}}
    ]
    assert service.get("/v1/groups/nobody/versions").status == 404


@pytest.mark.parametrize(("query", "found"), [("q=PAID", 1), ("q=customer", 1), ("q=x", 0), ("tag=x", 0), ("owner=x", 0), ("", 1)])
def test_groups_are_found_by_words_tags_and_owners(service: Service, query: str, found: int) -> None:
    assert len(service.get(f"/v1/search?{query}").body["groups"]) == found


def test_requests_are_counted(service: Service) -> None:
    before = service.get("/v1/stats").body["services"].get("by_customer", {"requests": 0, "entities": 0})
    service.features(ASKED)
    service.features(ASKED | {"service": "nobody"})
    stats = service.get("/v1/stats").body
    counted = stats["services"]["by_customer"]
    assert (counted["requests"] - before["requests"], counted["entities"] - before["entities"]) == (1, 2)
    assert 0 < counted["near_ratio"] <= 1
    assert 0 < counted["found_ratio"] < 1
    assert stats["refused"]["404"] >= 1


def test_prometheus_reads_the_metrics(service: Service) -> None:
    service.features(ASKED)
    lines = text(service, "/metrics").splitlines()
    samples = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}
    assert samples['headwater_request_seconds_bucket{service="by_customer",le="+Inf"}'] >= 1
    assert samples['headwater_group_epoch{group="spend"}'] == 1
    assert len(samples) == len([line for line in lines if not line.startswith("#")])


def test_the_document_names_every_path_that_is_answered(service: Service) -> None:
    document = service.get("/openapi.json").body
    said = service.get("/nothing").body["error"]["message"].partition("there are ")[2].split(", ")
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]) == set(said) - {"/openapi.json", "/docs", "/metrics"}


def test_the_page_needs_nothing_of_the_internet(service: Service) -> None:
    page = text(service, "/docs")
    assert "/openapi.json" in page
    assert "http://" not in page
    assert "https://" not in page


def text(service: Service, path: str) -> str:
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)) as connection:
        connection.request("GET", path)
        return connection.getresponse().read().decode()


# -------------------------------------------------------------------------------------------------------------------------- fuzz

ANYTHING = st.recursive(
    st.sampled_from([None, True, 42, "by_customer", "spend:paid_1d", "1h"]) | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["customer_id", "key", "x"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
NAMES = ["service", "entities", "include", "max_staleness", "feature_service", "features", "full_feature_names", "x"]
BODIES = st.dictionaries(st.sampled_from(NAMES), ANYTHING) | st.dictionaries(st.sampled_from(NAMES), ANYTHING).map(
    lambda body: ASKED | {"feature_service": "by_customer"} | body
)
ANSWERS = {200, 400, 404}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["/v1/features", "/get-online-features"]), BODIES | ANYTHING)
@example("/v1/features", ASKED | {"max_staleness": "9999999w"})
def test_no_body_is_an_error_of_the_server(service: Service, path: str, body: Any) -> None:
    assert service.ask("POST", path, json.dumps(body).encode()).status in ANSWERS


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.binary(max_size=200))
def test_no_bytes_are_an_error_of_the_server(service: Service, data: bytes) -> None:
    assert service.ask("POST", "/v1/features", data).status == 400


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.sampled_from(["/v1/features/", "/v1/groups/", "/v1/search?q=", "/v1/features/by_customer?key="]), st.text(max_size=10))
def test_no_url_is_an_error_of_the_server(service: Service, path: str, more: str) -> None:
    answer = service.get(path + quote(more, errors="replace"))
    assert isinstance(answer, Answer)
    assert answer.status in ANSWERS
