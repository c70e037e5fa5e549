"""A little project for Feast: composite keys, types that Feast lacks, a group joined twice, features on demand, defaults, tags."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pandas as pd

from tests import projects

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 1, 6, 12, tzinfo=UTC)

CATALOG = '''
from feature_definitions import (
    Entity, Feature, FeatureService, Files, Join, ObservationGroup, OnDemandFeature, Ref, Request, SnapshotGroup, Source, TrainingSet,
    WindowedGroup,
)

customer = Entity("customer", keys={"customer_id": "int64"})
visit = Entity("visit", keys={"customer_id": "int64", "shop": "string"})
place = Entity("place", keys={"shop": "string"})
payments = Source(
    "payments",
    columns={"payment_id": "string", "customer_id": "int64", "shop": "string", "amount": "double", "paid": "decimal(10,2)", "on": "date",
             "at": "timestamp"},
    event_timestamp="at", id=("payment_id",),
)
shops = Source("shops", columns={"shop": "string", "city": "string"}, id=("shop",), shape="static")
spend = WindowedGroup("spend", customer, payments, ttl="2d", owner="fraud@example.com", tags=("money", "risk"), features=(
    Feature("paid", "sum", "amount", windows=("1d", "3d")),
    Feature("payments", "count", windows=("1d",)),
    Feature("quiet", "time_since_last", windows=("3d",)),
))
last_payment = ObservationGroup("last_payment", visit, payments, columns=("paid", "on", "amount"), ttl="7d")
town = SnapshotGroup("town", place, shops, columns=("city",), assume_always_known=True)
secret = ObservationGroup("secret", customer, payments, columns=("amount",), ttl="7d", online=False)


def share(paid, amount):
    """How much of it is new."""
    return amount / (paid + amount)


new_share = OnDemandFeature(
    "new_share", inputs=(Ref("spend__paid_3d"), Request("amount_now", "double")), type="double", function=share, tags=("ratio",)
)
at_home = OnDemandFeature("at_home", inputs=(Ref("home__city"), Ref("away__city")), type="boolean", function=lambda a, b: a == b)
shop_v1 = FeatureService("shop_v1", joins=(Join(spend, ("paid", "payments_1d", "quiet_3d")), Join(last_payment)), on_demand=(new_share,))
towns_v2 = FeatureService(
    "towns_v2", version=2, joins=(Join(town, prefix="home", on={"shop": "home_shop"}), Join(town, prefix="away")), on_demand=(at_home,),
    defaults={"home__city": "?"},
)
secret_v1 = FeatureService("secret_v1", joins=(Join(secret),), online=False)
churn = TrainingSet("churn", payments, secret_v1)
'''


def made(folder: Path) -> Path:
    """The project, without rows."""
    return projects.make(folder, catalog=CATALOG)


def payments() -> pd.DataFrame:
    """Three days of payments of two customers."""
    from decimal import Decimal

    rows = [
        ("p1", 1, "north", 10.5, "10.50", "2026-01-03T09:00Z"),
        ("p2", 1, "south", 4.5, "4.50", "2026-01-04T09:00Z"),
        ("p3", 2, "north", 20.0, "20.00", "2026-01-04T10:00Z"),
        ("p4", 1, "north", 1.0, "1.00", "2026-01-05T23:00Z"),
    ]
    frame = pd.DataFrame(rows, columns=["payment_id", "customer_id", "shop", "amount", "paid", "at"])
    at = pd.to_datetime(frame["at"], utc=True)
    return frame.assign(paid=frame["paid"].map(Decimal), at=at, on=at.dt.date)


def shops() -> pd.DataFrame:
    """Where two shops are."""
    return pd.DataFrame({"shop": ["north", "south"], "city": ["Oslo", None]})
