"""A source that shows rows what came after them, on purpose: what training sets give of it, and what their leak reports say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from tests import projects

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

FIRST = "p1,1,10.5,no,2026-01-03T09:00:00Z,2026-01-03T09:01:00Z"
TOMORROW = "p2,1,4.5,no,2026-01-04T09:00:00Z,2026-01-04T09:01:00Z"
CATALOG = """
from feature_definitions import (
    Entity, FeatureService, Files, Join, ObservationGroup, OnDemandFeature, Query, Ref, Source,
)

customer = Entity("customer", keys={"customer_id": "int64"})
payments = Source(
    "payments", Files("data/payments/*.csv", format="csv"),
    columns={"payment_id": "string", "customer_id": "int64", "amount": "double", "refunded": "boolean", "paid_at": "timestamp",
             "arrived": "timestamp"},
    event_timestamp="paid_at", timezone="UTC", id=("payment_id",), arrived_at="arrived",
)
following = Source(
    "following", Query(
        "SELECT payment_id, customer_id, paid_at, max(amount) OVER (PARTITION BY customer_id ORDER BY paid_at "
        "ROWS BETWEEN 1 FOLLOWING AND 1 FOLLOWING) AS next_amount FROM payments", payments,
    ), columns={"payment_id": "string", "customer_id": "int64", "next_amount": "double", "paid_at": "timestamp"},
    event_timestamp="paid_at", id=("payment_id",),
)
foreseen = ObservationGroup("foreseen", customer, following, columns=("next_amount",), ttl="7d")
ahead = FeatureService("ahead", joins=Join(foreseen), on_demand=OnDemandFeature(
    "twice", Ref("foreseen__next_amount"), "double", lambda amount: amount * 2
))
"""


def day(number: int, hour: int = 12) -> datetime:
    return datetime(2026, 1, number, hour, tzinfo=UTC)


@pytest.fixture(scope="module")
def told(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Training sets of the hour before the second payment, in both modes, built after it came."""
    folder: Path = projects.make(tmp_path_factory.mktemp("future"), catalog=CATALOG)
    for number, row in enumerate((FIRST, TOMORROW)):
        projects.write(folder, f"data/payments/{number}.csv", projects.rows(row))
        with projects.opened(folder, now=day(4 + number)) as p:
            p.ingest("payments")
            p.ingest("following")
            p.materialize("foreseen")
    morning = pd.DataFrame({"customer_id": [1], "event_timestamp": pd.to_datetime([day(4, 8)], utc=True)})
    with projects.opened(folder, now=day(6)) as p:
        return {mode: p.training_set(f"in_{mode}", spine=morning, service="ahead", mode=mode) for mode in ("as_known", "event_time")}  # type: ignore[arg-type]  # both are modes


def leaks(built: Any) -> Any:
    return built.manifest["leaks"]


def test_what_tomorrow_wrote_into_a_row_is_not_seen_as_it_was_known(told: dict[str, Any]) -> None:
    row = told["as_known"].to_pandas().iloc[0]
    assert (pd.isna(row["foreseen__next_amount"]), pd.isna(row["twice"])) == (True, True)
    assert {name: each["after"] for name, each in leaks(told["as_known"])["known_later"].items()} == {"foreseen": 0.0, "twice": 0.0}


def test_by_event_time_it_is_seen_and_told_as_known_later_also_of_what_is_computed_of_it(told: dict[str, Any]) -> None:
    row, found = told["event_time"].to_pandas().iloc[0], leaks(told["event_time"])
    assert (row["foreseen__next_amount"], row["twice"]) == (4.5, 9.0)
    assert {name: each["after"] for name, each in found["known_later"].items()} == {"foreseen": 1.0, "twice": 1.0}
    assert found["sentences"][0].startswith("100 % of the values of foreseen were known only after their row's time; mode as_known")


def test_the_query_that_looks_ahead_is_named_in_every_mode_with_all_that_rests_on_it(told: dict[str, Any]) -> None:
    for built in told.values():
        assert leaks(built)["looks_ahead"] == {
            "following": {"because": ["has a window of rows that may come after (max)"], "features": ["foreseen", "twice"]}
        }


def test_the_second_computation_agrees_with_the_join_on_what_each_mode_means(told: dict[str, Any]) -> None:
    assert [leaks(built)["shift"]["moved"] for built in told.values()] == [0, 0]
