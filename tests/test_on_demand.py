"""Features computed on demand: what a training set has, the online answer has too, by one and the same function of the catalog."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import headwater as hw
from spark_jobs.training.computed import FunctionRefused
from tests import projects

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession

SCORED = """
import math
from zlib import crc32

import numpy as np

from feature_definitions import FeatureService, Join, OnDemandFeature, Ref, Request
from shop import account, spend

RISKS = (10.0, 100.0)


def logarithm(amount):
    return np.log1p(amount)


def to_the_mean(amount, mean):
    return amount / mean


def code(country):
    return None if country is None else crc32(country.encode()) % 8


def cross(country, when):
    return f"{country}_{when.hour}"


def score(amount, payments):
    return 1 / (1 + math.exp(payments - amount / 10))


def risk(amount):
    if amount == 13:
        raise ValueError("unlucky")
    return ("low", "medium", "high")[sum(amount >= limit for limit in RISKS)]


amount, country = Request("amount", "double"), Ref("home__country")
logarithm_of_amount = OnDemandFeature("logarithm_of_amount", amount, "double", logarithm)
scored = FeatureService("scored", joins=(Join(spend, ("paid_3d", "payments", "mean_paid")), Join(account, prefix="home")), on_demand=(
    logarithm_of_amount,
    OnDemandFeature("amount_to_the_mean", (amount, Ref("spend__mean_paid_1d")), "double", to_the_mean),
    OnDemandFeature("country_code", country, "int64", code, rows=True),
    OnDemandFeature("country_by_hour", (country, Request("requested", "timestamp")), "string", cross, rows=True),
    OnDemandFeature("score", (amount, Ref("spend__payments_1d")), "double", score, rows=True),
    OnDemandFeature("risk", amount, "string", risk, rows=True),
    OnDemandFeature("twice", Request("price", "decimal(8,2)"), "decimal(8,2)", lambda price: price * 2, rows=True),
), defaults={"spend__payments_1d": 0})
ranked = FeatureService("ranked", joins=Join(spend), on_demand=OnDemandFeature(
    "rank", amount, "double", lambda x: x.argsort().argsort() * 1.0
))
""".replace('("paid_3d", "payments", "mean_paid")', '("paid_3d", "payments", "mean_paid_1d")')
ASKED: list[dict[str, Any]] = [
    {"customer_id": 1, "amount": 12.5, "requested": "2026-01-06T09:00:00Z", "price": "1.10"},
    {"customer_id": 2, "amount": 13, "requested": "2026-01-06T10:00:00+01:00", "price": 2},
    {"customer_id": 3, "amount": 1000.0, "requested": "2026-01-06T09:00:00.000001Z", "price": None},
    {"customer_id": 99, "amount": None, "requested": None, "price": 0.1},
    {"customer_id": None, "amount": -1.0, "requested": "2026-01-06T23:59:59Z", "price": "3.00"},
]


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[hw.Project]:
    """The published little shop with services that compute features on demand, synced."""
    folder = projects.published(tmp_path_factory.getbasetemp()).copied(tmp_path_factory.mktemp("scored"))
    projects.write(folder, "catalog/scores.py", SCORED)
    with projects.opened(folder) as p:
        p.sync()
        yield p
        p.down()


@pytest.fixture(scope="module")
def trained(shop: hw.Project) -> pd.DataFrame:
    """The training set of the rows that are asked for online, in their order."""
    spine = pd.DataFrame(ASKED).astype({"customer_id": "Int64", "amount": "Float64"})
    spine["requested"] = pd.to_datetime(spine["requested"], utc=True, format="ISO8601")
    spine["price"] = [None if price is None else Decimal(str(price)).quantize(Decimal("0.01")) for price in spine["price"]]
    built = shop.training_set(spine=spine.assign(event_timestamp=projects.NOW, row=range(len(spine))), service="scored", statuses=True)
    failed = built.manifest["failed"]
    assert isinstance(failed, dict) and failed["risk"] == 2
    return built.to_pandas().sort_values("row", ignore_index=True)


def test_a_training_set_has_what_the_online_answer_has(shop: hw.Project, trained: pd.DataFrame) -> None:
    answers = shop.online("scored", ASKED)["results"]
    for row, answer in zip(trained.to_dict("records"), answers, strict=True):
        for name, value in answer["values"].items():
            there = None if pd.isna(row[name]) else row[name]
            assert (str(there) if isinstance(there, Decimal) else there) == value, (name, answer["entity"])
        assert {name: row[f"{name}__hw_status"] for name in answer["status"]} == answer["status"]


def test_what_an_input_lacks_arrives_as_none_and_an_exception_is_failed(shop: hw.Project) -> None:
    answers = shop.online("scored", ASKED)["results"]
    assert [answer["values"]["risk"] for answer in answers] == ["medium", None, "high", None, "low"]
    assert [answer["status"]["risk"] for answer in answers] == ["PRESENT", "FAILED", "PRESENT", "FAILED", "PRESENT"]
    assert [answer["values"]["country_by_hour"] for answer in answers] == ["SE_9", "NO_9", "None_9", None, "None_23"]
    assert {answer["status"]["home"] for answer in answers} == {"PRESENT", "NOT_FOUND"}


def test_a_function_that_looks_at_other_rows_is_refused(shop: hw.Project) -> None:
    spine = pd.DataFrame({"customer_id": [1, 2, 3], "amount": [3.0, 2.0, 1.0], "event_timestamp": [projects.NOW] * 3})
    with pytest.raises(FunctionRefused, match="feature rank: its function gives a row another value when the row comes alone"):
        shop.training_set(spine=spine, service="ranked")


def test_the_command_takes_the_fields_of_a_request_as_it_takes_keys(shop: hw.Project) -> None:
    entity = ("customer_id=1", "amount=12.5", "requested=2026-01-06T09:00:00Z", "price=1.1")
    done = projects.within("get", "scored", *entity, "--json", project=shop.settings.root)
    (result,) = done.json["results"]
    assert (result["values"]["risk"], result["values"]["twice"]) == ("medium", "2.20")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("amount", "12.5", "entities[0].amount: '12.5' is not a number"),
        ("amount", True, "entities[0].amount: True is not a number"),
        ("amount", 2**60, "is not a number"),
        ("requested", "2026-01-06T09:00:00", "is not a time with its zone, like 2026-01-05T12:00:00Z"),
        ("price", 1.001, 'is not a decimal(8,2), like 12.5 or "12.50"'),
        ("price", "1e2", "is not a decimal(8,2)"),
    ],
)
def test_a_field_that_is_of_another_type_is_refused(shop: hw.Project, field: str, value: object, message: str) -> None:
    with pytest.raises(hw.UserError) as refused:
        shop.online("scored", [ASKED[0] | {field: value}])
    assert message in str(refused.value)


def test_a_field_that_is_missing_is_named(shop: hw.Project, tmp_path: Path) -> None:
    with pytest.raises(hw.UserError, match=r"entities\[0\].amount is missing"):
        shop.online("scored", [{"customer_id": 1}])
    with pytest.raises(hw.UserError, match="the spine has no column 'amount', a field of requests of service scored"):
        shop.training_set(spine=pd.DataFrame({"customer_id": [1], "event_timestamp": [projects.NOW]}), service="scored")
