"""`get_historical_features` of Feast's SDK gives the rows of our join."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pytest

from feature_definitions import Entity, FeatureService, Join, ObservationGroup, Source

with warnings.catch_warnings(action="ignore"):
    from feast import Field as FeastField
    from feast import OnDemandFeatureView, RequestSource
    from feast.types import Float64

    from feast_bridge import offline_store
    from feast_bridge.offline_store import HeadwaterOfflineStore
    from feast_bridge.refused import FeastRefused

if TYPE_CHECKING:
    from tests.feast_bridge.conftest import Told

pytestmark = pytest.mark.filterwarnings("ignore")

ASKED = ["2026-01-05T00:00Z", "2026-01-05T12:00Z", "2026-01-04T23:00Z", "2026-01-05T00:00Z", "2026-01-20T00:00Z"]


def spine(**columns: Any) -> pd.DataFrame:
    """Rows of known and unknown customers, one of nobody, at times at which nothing happened."""
    found = {"customer_id": pd.array([1, 2, 1, 9, None], "Int64"), "shop": ["north", "north", "south", "x", "north"]}
    return pd.DataFrame({**found, "amount_now": [1.0, 2.0, None, 4.0, 5.0], "event_timestamp": pd.to_datetime(ASKED, utc=True), **columns})


def test_the_rows_are_those_of_a_training_set(told: Told) -> None:
    found = told.store.get_historical_features(spine(), told.store.get_feature_service("shop_v1"), full_feature_names=True).to_arrow()
    built = told.project.training_set("as_feast", spine=spine(), service="shop_v1").to_arrow()
    named = {name: name for name in found.column_names} | {"new_share": "new_share__new_share"}
    outputs = told.project.catalog.services["shop_v1"].outputs
    assert found.num_rows == 5
    assert {name: found.column(named.get(name, name)).to_pylist() for name in outputs} == {
        name: built.column(name).to_pylist() for name in outputs
    }


def test_the_entity_df_comes_back_as_it_was_with_columns_of_any_kind(told: Told) -> None:
    frame = spine(**{"note about": [["a"], [], None, ["b"], ["c"]], "label": [1, 0, 1, 0, 1]})
    found = told.store.get_historical_features(frame, ["spend:payments_1d"]).to_df()
    assert [*found.columns] == [*frame.columns, "payments_1d"]
    assert [*found["label"]] == [1, 0, 1, 0, 1]


def test_an_observation_at_the_very_time_of_a_row_counts(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told.store.config.offline_store, "mode", "event_time")
    at = pd.to_datetime(["2026-01-04T10:00:00Z", "2026-01-04T09:59:59Z"])
    frame = pd.DataFrame({"customer_id": [2, 2], "shop": ["north", "north"], "event_timestamp": at})
    assert told.store.get_historical_features(frame, ["last_payment:amount"]).to_arrow().column("amount").to_pylist() == [20.0, None]


def test_rows_of_our_own_source_do_not_explain_themselves(told: Told) -> None:
    query = "SELECT customer_id, shop, at AS event_timestamp FROM payments"
    found = told.store.get_historical_features(query, ["last_payment:amount"]).to_df().sort_values("event_timestamp")
    assert [*found["amount"].fillna(-1)] == [-1, -1, -1, 10.5]


def test_a_query_is_given_the_key_of_views_without_entities() -> None:
    nobody = Entity("nobody", keys={"__dummy_id": "string"})
    rows = Source("rows", columns={"__dummy_id": "string", "n": "int64", "at": "timestamp"}, event_timestamp="at")
    service = FeatureService("s", joins=(Join(ObservationGroup("g", nobody, rows, columns=("n",), ttl="7d")),))
    query = "SELECT customer_id, at AS event_timestamp FROM payments"
    found = offline_store._with_dummy(query, service)
    assert found == f"SELECT `customer_id`, `event_timestamp`, '' AS __dummy_id FROM ({query}) AS entity_df"


def test_one_group_is_joined_twice_by_its_prefixes(told: Told) -> None:
    frame = spine(home_shop=["south", "north", "north", "north", "x"])
    found = told.store.get_historical_features(frame, told.store.get_feature_service("towns_v2"), full_feature_names=True).to_df()
    assert [*found["home__city"].fillna("-")] == ["-", "Oslo", "Oslo", "Oslo", "-"]
    assert [*found["away__city"].fillna("-")] == ["Oslo", "Oslo", "-", "-", "Oslo"]


def test_times_without_a_zone_are_utc_and_the_time_may_have_any_name(told: Told) -> None:
    frame = pd.DataFrame({"customer_id": [1], "seen": [pd.Timestamp("2026-01-05")]})
    assert [*told.store.get_historical_features(frame, ["spend:paid_3d"]).to_df()["paid_3d"]] == [15.0]


def test_a_feature_on_demand_comes_alone_with_what_it_reads(told: Told) -> None:
    found = told.store.get_historical_features(spine(), ["new_share:new_share"]).to_arrow()
    assert found.column("new_share").to_pylist()[:3] == [0.0625, 2 / 22, None]
    assert found.schema.field("new_share").type == pa.float64()


def test_an_on_demand_view_of_feasts_own_is_computed_by_feast(told: Told) -> None:
    def doubled(inputs: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame({"double_paid": inputs["paid_3d"] * inputs["factor"]})

    request = RequestSource(name="factors", schema=[FeastField(name="factor", dtype=Float64)])
    view = OnDemandFeatureView(
        name="doubled", schema=[FeastField(name="double_paid", dtype=Float64)], sources=[told.store.get_feature_view("spend"), request],
        udf=doubled, udf_string="def doubled(inputs):\n    return pd.DataFrame({'double_paid': inputs['paid_3d'] * inputs['factor']})\n",
    )  # fmt: skip
    told.store.apply([view])
    try:
        found = told.store.get_historical_features(spine(factor=[2.0] * 5), ["doubled:double_paid"]).to_df()
    finally:
        told.store.delete_feature_view("doubled")
    assert [*found["double_paid"]][:2] == [30.0, 40.0]


def test_a_missing_key_and_no_entity_df_are_refused(told: Told) -> None:
    with pytest.raises(FeastRefused, match="the entity_df has no column 'customer_id', a join key"):
        told.store.get_historical_features(spine()[["event_timestamp"]], ["spend:paid_1d"]).to_df()
    with pytest.raises(FeastRefused, match="give an entity_df"):
        told.store.get_historical_features(features=["spend:paid_1d"], start_date=pd.Timestamp("2026-01-01"))


def test_a_column_of_creation_times_is_no_clock_of_ours() -> None:
    with pytest.raises(NotImplementedError, match="filter_by_created_timestamp is not supported"):
        HeadwaterOfflineStore().ensure_filter_by_created_timestamp_supported()


def test_what_was_published_is_pulled_between_two_times(told: Told) -> None:
    view = told.store.get_feature_view("spend")
    first, last = pd.Timestamp("2026-01-05", tz="UTC"), pd.Timestamp("2026-01-05T23:00", tz="UTC")
    pulled = told.store._get_provider().offline_store.pull_all_from_table_or_query(  # as Feast asks
        config=told.store.config, data_source=view.batch_source, join_key_columns=["customer_id"], feature_name_columns=["paid_1d"],
        timestamp_field="event_timestamp", start_date=first, end_date=last,
    )  # fmt: skip
    assert pulled.to_df().drop(columns="event_timestamp").to_dict("records") == [
        {"customer_id": 1, "paid_1d": 4.5},
        {"customer_id": 2, "paid_1d": 20.0},
    ]
