"""Feast's own remote online store, pointed at our server: values, statuses and event times as Feast's users get them."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.serving.processes import Service

with warnings.catch_warnings(action="ignore"):
    from feast import Entity, FeatureView, Field, FileSource, RepoConfig, ValueType
    from feast.infra.online_stores.remote import RemoteOnlineStore
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value
    from feast.types import Float64


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_feasts_remote_online_store_reads_from_our_server(service: Service) -> None:
    remote = {"type": "remote", "path": f"http://127.0.0.1:{service.port}"}
    config = RepoConfig(project="shop", provider="local", registry="registry.db", online_store=remote, entity_key_serialization_version=3)
    customer = Entity(name="customer_id", join_keys=["customer_id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="spend", entities=[customer], ttl=timedelta(days=2), schema=[Field(name="paid_1d", dtype=Float64)],
        source=FileSource(path="nothing.parquet", timestamp_field="at"),
    )  # fmt: skip
    keys = [EntityKey(join_keys=["customer_id"], entity_values=[Value(int64_val=each)]) for each in (42, 7)]
    found = RemoteOnlineStore().online_read(config, view, keys, ["paid_1d"])
    assert [values["paid_1d"].double_val for _, values in found if values is not None] == [1.5, 0.0]
    assert found[0][0] in (datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 5))  # noqa: DTZ001  # Feast's times are naive


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_feasts_remote_online_store_is_told_of_a_mistake(service: Service) -> None:
    remote = {"type": "remote", "path": f"http://127.0.0.1:{service.port}"}
    config = RepoConfig(project="shop", provider="local", registry="registry.db", online_store=remote, entity_key_serialization_version=3)
    view = FeatureView(
        name="nothing", entities=[], schema=[Field(name="x", dtype=Float64)], source=FileSource(path="x.parquet", timestamp_field="at")
    )
    with pytest.raises(RuntimeError, match="is not like group:feature, with a group of spend"):
        RemoteOnlineStore().online_read(config, view, [EntityKey(join_keys=["customer_id"], entity_values=[Value(int64_val=1)])], ["x"])
