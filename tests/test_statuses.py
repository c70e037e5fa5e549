"""The statuses of a training set are those of the online answer at the same time: of what was held back, emptied, expired, never there."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from tests import projects
from tests.projects import NOW

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from pyspark.sql import SparkSession

CATALOG = """
from feature_definitions import Feature, FeatureService, Join, OnDemandFeature, Ref, WindowedGroup, at_least
from shop import account, customer, last_page, payments, spend

held = WindowedGroup("held_spend", customer, payments, ttl="3d", hold_below=0.9, features=(
    Feature("paid", "sum", "amount", windows=("1d",), expect=(at_least(0),)),
))
never = WindowedGroup("never", customer, payments, ttl="2d", features=(Feature("n", "count", windows=("1d",)),))


def heard(value):
    return "nothing" if value is None else "something"


def halved(paid):
    return paid / 2


groups = (Join(held), Join(held, prefix="again"), Join(spend), Join(last_page), Join(account), Join(never))
told = FeatureService("told", joins=groups, on_demand=(
    OnDemandFeature("of_held", Ref("held_spend__paid_1d"), "string", heard, rows=True),
    OnDemandFeature("of_expired", Ref("never__n_1d"), "string", heard, rows=True),
    OnDemandFeature("half", Ref("held_spend__paid_1d"), "double", halved, rows=True),
))
"""
CUSTOMERS = (1, 2, 3, 999, None)
SAID = {
    NOW: {
        "held_spend": ["EMPTY", "HELD", "NOT_FOUND", "NOT_FOUND", "NOT_FOUND"],
        "spend": ["PRESENT", "PRESENT", "NOT_FOUND", "NOT_FOUND", "NOT_FOUND"],
        "last_page": ["PRESENT", "PRESENT", "NOT_FOUND", "NOT_FOUND", "NOT_FOUND"],
        "account": ["PRESENT", "PRESENT", "PRESENT", "NOT_FOUND", "NOT_FOUND"],
        "never": ["EXPIRED", "EXPIRED", "EXPIRED", "EXPIRED", "NOT_FOUND"],
    },
    NOW + timedelta(days=20): {
        "held_spend": ["EXPIRED", "EXPIRED", "EXPIRED", "EXPIRED", "NOT_FOUND"],
        "spend": ["EXPIRED", "EXPIRED", "EXPIRED", "EXPIRED", "NOT_FOUND"],
        "last_page": ["EXPIRED", "EXPIRED", "NOT_FOUND", "NOT_FOUND", "NOT_FOUND"],
        "account": ["PRESENT", "PRESENT", "PRESENT", "NOT_FOUND", "NOT_FOUND"],
        "never": ["EXPIRED", "EXPIRED", "EXPIRED", "EXPIRED", "NOT_FOUND"],
    },
}
"""Of each customer and group, today, and when everything is long past: rows that old give no value, but they say that one was there."""

COMPUTED = {
    NOW: {
        "of_held": ["something", "nothing", "something", "something", "nothing"],
        "of_expired": ["nothing"] * 5,
        "half__hw_status": ["PRESENT", "FAILED", "PRESENT", "PRESENT", "FAILED"],
    },
    NOW + timedelta(days=20): {"of_held": ["nothing"] * 5, "of_expired": ["nothing"] * 5, "half__hw_status": ["FAILED"] * 5},
}
"""What is computed on demand of what was held back, expired or nobody's, which arrives as None; of an empty sum it is not null."""


@pytest.fixture(scope="module")
def folder(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = projects.published(tmp_path_factory.getbasetemp()).copied(tmp_path_factory.mktemp("statuses"))
    projects.write(folder, "catalog/told.py", CATALOG)
    with projects.opened(folder) as p:
        (result,) = p.materialize("held_spend")
        assert not result.rejected
        p.sync()
        yield folder
        p.down()


@pytest.mark.parametrize("now", SAID)
def test_a_training_set_of_now_has_the_statuses_and_values_of_the_online_answer(folder: Path, now: datetime) -> None:
    spine = pd.DataFrame({"customer_id": pd.array(CUSTOMERS, "Int64"), "event_timestamp": now})
    with projects.opened(folder, now=now) as p:
        rows = p.training_set(spine=spine, service="told", statuses=True).to_pandas()
        answers = p.online("told", [{"customer_id": each} for each in CUSTOMERS])["results"]
    assert {name: list(rows[f"{name}__hw_status"]) for name in SAID[now]} == SAID[now]
    assert list(rows["again__hw_status"]) == SAID[now]["held_spend"]
    for row, answer in zip(rows.to_dict("records"), answers, strict=True):
        assert {name: row[f"{name}__hw_status"] for name in answer["status"]} == answer["status"]
        assert {name: None if pd.isna(row[name]) else row[name] for name in answer["values"]} == answer["values"]
    assert {name: list(rows[name]) for name in COMPUTED[now]} == COMPUTED[now]
