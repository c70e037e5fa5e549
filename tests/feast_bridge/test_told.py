"""What of a catalog is told to Feast, and what is named because Feast cannot be told; without Feast."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from feast_bridge import told
from feast_bridge.told import JoinSaid
from feature_definitions.check import checked
from tests.feast_bridge import shops
from tests.projects import make

if TYPE_CHECKING:
    from pathlib import Path

    from feature_definitions.loader import Catalog


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """The definitions of the little project."""
    return checked(shops.made(tmp_path_factory.mktemp("described")) / "catalog")


def test_a_group_is_a_view_with_its_ttl_types_owner_and_tags(catalog: Catalog) -> None:
    spend = told.of_catalog(catalog).views["spend"]
    assert spend.columns == (("paid_1d", "double"), ("paid_3d", "double"), ("payments_1d", "int64"), ("quiet_3d", "double"))
    assert (spend.ttl, spend.owner, spend.tags) == (timedelta(days=2), "fraud@example.com", ("money", "risk"))


def test_a_join_keeps_its_columns_in_order_its_prefix_and_its_keys(catalog: Catalog) -> None:
    services = told.of_catalog(catalog).services
    assert services["shop_v1"].joins[0] == JoinSaid("spend", "spend", ("paid_1d", "paid_3d", "payments_1d", "quiet_3d"), ())
    assert services["towns_v2"].joins[0] == JoinSaid("town", "home", ("city",), (("shop", "home_shop"),))


def test_what_feast_cannot_express_is_named(catalog: Catalog) -> None:
    said = told.not_said(catalog)
    assert [sentence.partition(":")[0] for sentence in said] == [
        "service towns_v2", "feature at_home of service towns_v2", "service secret_v1", "training set churn",
    ]  # fmt: skip


def test_a_feature_that_two_services_have_is_named_by_its_service(tmp_path: Path) -> None:
    more = 'other = FeatureService("other_v1", joins=(Join(spend, "paid"),), on_demand=(new_share,), defaults={"spend__paid_3d": 0.0})\n'
    found = told.of_catalog(checked(make(tmp_path, catalog=shops.CATALOG + more) / "catalog"))
    assert sorted(found.on_demand) == ["other_v1_new_share", "shop_v1_new_share"]
    assert found.services["shop_v1"].on_demand == ("shop_v1_new_share",)
