"""Answers in Arrow: the rows of JSON as typed columns, nulls as nulls, statuses and times beside them."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from feature_definitions import FeatureService, Join, OnDemandFeature, Ref, Request
from online_sync.codec import CodecError
from serving import desk, rest
from serving.arrow_form import ArrowForm
from serving.desk import Limits
from serving.forms import Beside, Said
from serving.request import compile_service
from tests.serving.test_answer import AIRPORT_RECORD, NAMED, RECORD, ROW, VISIT_RECORD, VISITED, airport, spend, stored, visit
from tests.serving.test_application import FakeStore, made

EVERYTHING = FeatureService(
    "everything",
    joins=(Join(spend), Join(visit), Join(airport)),
    on_demand=(OnDemandFeature("more", (Ref("spend__mean"), Request("amount", "double")), "double", lambda mean, amount: amount / mean),),
)
PLAIN = FeatureService("plain", joins=(Join(spend),))
ENTITIES = [
    {"customer_id": 42, "country": "DE", "shop_id": 7, "airport": "EWR", "amount": 1.5},
    {"customer_id": None, "country": "DE", "shop_id": 8, "airport": None, "amount": None},
]
STREAM = (b"accept", b"application/vnd.apache.arrow.stream")


def application(**options: Any) -> tuple[rest.Application, FakeStore]:
    store = FakeStore()
    store.rows = (
        stored(RECORD, (42,), ROW)
        | stored(VISIT_RECORD, ("DE", 7), replace(VISITED, values=(VISITED.values[0], VISITED.values[1])))
        | stored(AIRPORT_RECORD, ("EWR",), NAMED)
    )
    return made(store, services={each.name: each for each in (EVERYTHING, PLAIN)}, **options), store


async def ask(app: rest.Application, service: str, entities: Any, *, headers: Any = (STREAM,), **more: Any) -> tuple[int, bytes, Any]:
    """Status, type and content of an answer: a table, or JSON."""
    sent: list[Any] = []
    body = json.dumps({"service": service, "entities": entities, **more}).encode()

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "method": "POST", "path": "/v1/features", "query_string": b"", "headers": list(headers)}, receive, send)
    kind, data = dict(sent[0]["headers"])[b"content-type"], sent[1]["body"]
    return sent[0]["status"], kind, pa.ipc.open_stream(data).read_all() if kind == STREAM[1] else json.loads(data)


def test_columns_have_their_types_and_nulls_are_nulls() -> None:
    app, _ = application()
    status, kind, table = asyncio.run(ask(app, "everything", ENTITIES))
    assert (status, kind) == (200, STREAM[1])
    types = {field.name: str(field.type) for field in table.schema}
    assert types == {
        "customer_id": "int64", "country": "string", "shop_id": "int64", "airport": "string", "amount": "double",
        "spend__total_1d": "decimal128(20, 2)", "spend__total_7d": "decimal128(20, 2)", "spend__payments_7d": "int64",
        "spend__mean": "double", "visit__seen": "timestamp[us, tz=UTC]", "visit__day": "date32[day]", "airport__name": "string",
        "more": "double", "spend__hw_status": "string", "visit__hw_status": "string", "airport__hw_status": "string",
        "more__hw_status": "string", "spend__hw_event_timestamp": "timestamp[us, tz=UTC]",
        "visit__hw_event_timestamp": "timestamp[us, tz=UTC]", "airport__hw_event_timestamp": "timestamp[us, tz=UTC]",
    }  # fmt: skip
    first, second = table.to_pylist()
    assert (first["spend__total_1d"], first["visit__day"], first["more"]) == (Decimal("1.50"), date(1969, 12, 31), 0.5)
    assert first["visit__seen"] == datetime(2026, 1, 9, 23, 59, 59, 999999, tzinfo=UTC)
    assert {second[name] for name in types if "__hw" not in name} == {None, "DE", 8}
    assert second["spend__hw_status"] == second["visit__hw_status"] == "NOT_FOUND"


@pytest.mark.parametrize("service", ["everything", "plain"])
def test_the_rows_are_those_of_json(service: str) -> None:
    app, _ = application()
    entities = ENTITIES if service == "everything" else [{"customer_id": each} for each in (42, 7, None)]

    async def both() -> list[Any]:
        return [await ask(app, service, entities), await ask(app, service, entities, headers=()), await ask(app, service, entities)]

    (_, _, table), (_, _, said), (_, _, near) = asyncio.run(both())
    assert near.equals(table)
    for row, result in zip(table.to_pylist(), said["results"], strict=True):
        assert {name: row[name] for name in result["entity"]} == result["entity"]
        assert {name: row[f"{name}__hw_status"] for name in result["status"]} == result["status"]
        assert {name: None if row[name] is None else text(row[name]) for name in result["values"]} == {
            name: None if value is None else text(value) for name, value in result["values"].items()
        }


def text(value: Any) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, date) else str(value)


def test_what_is_said_beside_results_is_in_the_schema() -> None:
    app, store = application(limits=Limits(stale=60.0))

    async def asked() -> list[Any]:
        found = [await ask(app, "plain", [{"customer_id": 42}], include=["freshness"]), await ask(app, "plain", [{"customer_id": 42}])]
        store.away = True
        return [*found, await ask(app, "plain", [{"customer_id": 42}])]

    fresh, plain, stale = (table.schema.metadata for _, _, table in asyncio.run(asked()))
    assert (plain, stale) == (None, {b"stale": b"true"})
    assert json.loads(fresh[b"freshness"])["spend"]["epoch"] == 5


def test_a_mistake_is_told_in_json() -> None:
    app, _ = application()
    status, kind, said = asyncio.run(ask(app, "plain", [{"customer_id": "x"}]))
    assert (status, kind, said["error"]["field"]) == (400, b"application/json", "entities[0].customer_id")


def test_values_that_are_not_of_their_types_are_no_answer() -> None:
    form = ArrowForm(compile_service(PLAIN))
    with pytest.raises(CodecError, match="values of spend that are not of the types of plain"):
        form.whole([form.piece((42,), [Said("PRESENT", ["1.50", "x", 4, 3.0])])], Beside())


def test_while_pyarrow_is_loaded_others_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = threading.Event()
    monkeypatch.setattr(desk, "import_module", lambda _: loaded.wait(30))
    app, _ = application()

    async def asked() -> list[Any]:
        first = asyncio.create_task(ask(app, "plain", [{"customer_id": 42}]))
        other = await ask(app, "plain", [{"customer_id": 42}], headers=())
        waited = first.done()
        loaded.set()
        return [waited, other[0], (await first)[0], (await ask(app, "plain", [{"customer_id": 42}]))[0]]

    assert asyncio.run(asked()) == [False, 200, 200, 200]
