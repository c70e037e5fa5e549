"""`get_online_features` of Feast's SDK gives what our own reader gives, each feature with its own status and time."""

from __future__ import annotations

import asyncio
import threading
import warnings
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from tests.feast_bridge import shops

with warnings.catch_warnings(action="ignore"):
    from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

    from feast_bridge.online_store import HeadwaterOnlineStore, answered
    from feast_bridge.refused import FeastRefused
    from headwater_client.answers import FeatureVector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.feast_bridge.conftest import Told

pytestmark = pytest.mark.filterwarnings("ignore")

KEYS = [{"customer_id": 1, "shop": "north"}, {"customer_id": 2, "shop": "north"}, {"customer_id": 9, "shop": "south"}]


def asked(told: Told, features: Any, rows: Sequence[Any], **more: Any) -> dict[str, list[tuple[Any, str, float]]]:
    """Of each feature, by entity: the value, the status, and the seconds of the time."""
    found = told.store.get_online_features(features=features, entity_rows=rows, **more)
    values = found.to_dict()
    vectors = dict(zip(found.proto.metadata.feature_names.val, found.proto.results, strict=True))
    return {
        name: [
            (value, FieldStatus.Name(status), at.seconds)
            for value, status, at in zip(values[name], each.statuses, each.event_timestamps, strict=True)
        ]
        for name, each in vectors.items()
    }


def test_values_statuses_and_times_are_those_of_our_own_reader(told: Told) -> None:
    found = asked(told, ["spend:paid_3d", "last_payment:paid"], KEYS)
    midnight = datetime(2026, 1, 6, tzinfo=UTC).timestamp()
    assert found["paid_3d"] == [(16.0, "PRESENT", midnight), (20.0, "PRESENT", midnight), (0.0, "PRESENT", 0)]
    late, early = datetime(2026, 1, 5, 23, tzinfo=UTC).timestamp(), datetime(2026, 1, 4, 10, tzinfo=UTC).timestamp()
    assert found["paid"] == [(Decimal("1.00"), "PRESENT", late), (Decimal("20.00"), "PRESENT", early), (None, "NOT_FOUND", 0)]


def test_what_is_asked_without_waiting_is_read_in_another_thread_as_else() -> None:
    class Read(HeadwaterOnlineStore):
        def online_read(self, *asked: Any, **named: Any) -> Any:
            return asked, named, threading.current_thread()

        def _read_features_per_fv(self, *asked: Any, **named: Any) -> None:
            self.filled = asked, named, threading.current_thread()

    store = Read()
    *read, there = asyncio.run(store.online_read_async("config", "view", requested_features=["paid"]))
    asyncio.run(store._read_features_per_fv_async("config", "views", full_feature_names=True))
    *filled, here = store.filled
    assert (read, filled) == (
        [("config", "view"), {"requested_features": ["paid"]}],
        [("config", "views"), {"full_feature_names": True}],
    )
    assert threading.main_thread() not in (there, here)


def test_a_known_entity_without_a_value_is_null(told: Told) -> None:
    assert asked(told, ["town:city"], [{"shop": "south"}, {"shop": "north"}])["city"] == [(None, "NULL_VALUE", 0), ("Oslo", "PRESENT", 0)]


def test_values_older_than_the_ttl_are_outside_of_their_age(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told.project, "clock", lambda: shops.NOW + timedelta(days=30))
    store = HeadwaterOnlineStore()
    monkeypatch.setattr(told.store._get_provider(), "_online_store", store)  # a store whose clock is this one
    found = asked(told, ["spend:paid_3d", "last_payment:amount"], KEYS[:1])
    assert [found["paid_3d"][0][:2], found["amount"][0][:2]] == [(None, "OUTSIDE_MAX_AGE"), (None, "OUTSIDE_MAX_AGE")]
    keys = told.store._get_provider().online_store.online_read
    assert keys(told.store.config, told.store.get_feature_view("town"), [], ["city"]) == []


def test_a_null_key_is_nobody(told: Told) -> None:
    assert asked(told, ["spend:paid_3d"], [{"customer_id": None}])["paid_3d"] == [(None, "NOT_FOUND", 0)]


@pytest.mark.parametrize("full", [False, True])
def test_a_feature_on_demand_is_computed_by_its_own_function(told: Told, full: bool) -> None:
    rows = [{**key, "amount_now": amount} for key, amount in zip(KEYS, (4.0, 5.0, None), strict=True)]
    found = asked(told, told.store.get_feature_service("shop_v1"), rows, full_feature_names=full)
    ours = told.project.online("shop_v1", rows)["results"]
    assert [value for value, _, _ in found["new_share__new_share" if full else "new_share"]] == [
        each["values"]["new_share"] for each in ours
    ]


def test_one_group_is_read_twice_under_its_prefixes(told: Told) -> None:
    found = asked(told, told.store.get_feature_service("towns_v2"), [{"home_shop": "north", "shop": "south"}], full_feature_names=True)
    assert [found["home__city"][0][0], found["away__city"][0][0]] == ["Oslo", None]


def test_more_entities_than_one_request_may_have_are_read_in_several(told: Told) -> None:
    found = asked(told, ["spend:payments_1d"], [{"customer_id": number % 3} for number in range(2500)])
    assert sum(value for value, _, _ in found["payments_1d"]) == 833


def test_what_feasts_servers_read_of_a_store_has_no_values_where_nothing_is_known(told: Told) -> None:
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    keys = [EntityKey(join_keys=["customer_id", "shop"], entity_values=[Value(int64_val=n), Value(string_val="north")]) for n in (1, 9)]
    found = told.store._get_provider().online_store.online_read(  # as Feast asks
        told.store.config, told.store.get_feature_view("last_payment"), keys, ["amount"]
    )
    assert [(at, None if values is None else values["amount"].double_val) for at, values in found] == [
        (datetime(2026, 1, 5, 23, tzinfo=UTC), 1.0),
        (None, None),
    ]


def test_a_held_row_is_null(told: Told) -> None:
    held = FeatureVector({"shop": "x"}, {"town__city": None}, {"town": "HELD"}, {"town": "2026-01-05T00:00:00Z"})
    assert answered(held, told.project.catalog.tables["town"], {"city": "city"}).statuses == {"city": "NULL_VALUE"}


ROW = {"customer_id": [1], "paid_1d": [1.0], "paid_3d": [1.0], "payments_1d": [1], "quiet_3d": [1.0]}
WRITES: dict[str, tuple[Callable[[Told, pd.DataFrame], Any], str]] = {
    "materialize": (lambda told, _: told.store.materialize(shops.NOW, shops.NOW, ["spend"]), "headwater sync spend"),
    "incremental": (lambda told, _: told.store.materialize_incremental(shops.NOW, ["spend"]), "headwater sync spend"),
    "online": (lambda told, rows: told.store.write_to_online_store("spend", rows), "headwater sync spend"),
    "offline": (lambda told, rows: told.store.write_to_offline_store("spend", rows), "headwater materialize spend --ingest"),
}


@pytest.mark.parametrize("write", WRITES)
def test_what_feast_would_write_is_refused_with_what_to_run_instead(told: Told, write: str) -> None:
    do, instead = WRITES[write]
    with pytest.raises(FeastRefused, match=f"nothing was written.*{instead}"):
        do(told, pd.DataFrame({**ROW, "event_timestamp": [shops.NOW], "created_timestamp": [shops.NOW]}))
    assert asked(told, ["spend:paid_3d"], KEYS[:1])["paid_3d"][0][:2] == (16.0, "PRESENT")
