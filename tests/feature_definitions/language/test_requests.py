"""What can be said of features computed on demand, and what is refused with a sentence that teaches."""

from collections.abc import Callable
from typing import Any

import pytest

from feature_definitions import (
    DefinitionError,
    Entity,
    Feature,
    FeatureService,
    Join,
    Label,
    OnDemandFeature,
    Ref,
    Request,
    Source,
    TrainingSet,
    WindowedGroup,
)

customer = Entity("customer", keys={"customer_id": "int64"})
payments = Source(
    "payments",
    columns={"customer_id": "int64", "amount": "double", "fraud": "boolean", "paid_at": "timestamp"},
    event_timestamp="paid_at",
)
spend = WindowedGroup("spend", customer, payments, ttl="8d", features=(Feature("paid", "sum", "amount", windows=("1d", "7d")),))


def same(x: Any) -> Any:
    return x


def feature(**changes: Any) -> OnDemandFeature:
    return OnDemandFeature(**{"name": "f", "inputs": Request("amount", "double"), "type": "double", "function": same, **changes})


def service(*features: Any, **changes: Any) -> FeatureService:
    return FeatureService("fraud", joins=Join(spend), on_demand=features, **changes)


def trained(given: FeatureService, **changes: Any) -> TrainingSet:
    return TrainingSet("train", spine=payments, service=given, **changes)


def test_a_service_asks_for_keys_and_fields_and_gives_joined_and_computed_columns() -> None:
    asked = service(feature(), feature(name="g", inputs=(Ref("spend__paid_1d"), Request("customer_id", "int64")), function=max))
    assert asked.asked == {"customer_id": "int64", "amount": "double"}
    assert asked.requests == {"amount": "double"}
    assert asked.outputs == ("spend__paid_1d", "spend__paid_7d", "f", "g")
    assert asked.joined == ("spend__paid_1d", "spend__paid_7d")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ref("paid"), "Ref('paid') is no output column; write it as the service gives it, like Ref('spend__total_7d')"),
        (lambda: Request("a b", "double"), "'a b' cannot name a field of a request; write letters, digits and _"),
        (lambda: Request("_hw_x", "double"), "'_hw_x' cannot name a field of a request"),
        (lambda: Request("x", "float"), "a request: column 'x' has the type 'float'"),
        (lambda: feature(name="a__b"), "two underscores part a group from its feature"),
        (lambda: feature(type="float"), "feature f: column 'f' has the type 'float'"),
        (lambda: feature(inputs=()), "feature f reads nothing; name its inputs"),
        (lambda: feature(inputs=("amount",)), "feature f reads 'amount'; write what it reads as Ref('spend__total_7d') or Request("),
        (lambda: feature(inputs=(Request("a", "int64"),) * 2), "feature f has the input 'a' twice; name it once"),
        (lambda: feature(function="f"), "feature f has function='f'; write a function of its inputs that gives its value"),
        (lambda: feature(function=lambda: 1), "its function cannot be called with its inputs; let it take one argument for each: amount"),
        *[
            (
                lambda seconds=seconds: feature(limit_seconds=seconds),
                f"feature f has limit_seconds={seconds!r}; write from 0.001 to 5 seconds",
            )
            for seconds in (0, 5.1, float("nan"), "1s", True)
        ],
        (lambda: service("x"), "service fraud: on_demand takes features, like on_demand=(OnDemandFeature(...),), not 'x'"),
        (lambda: service(feature(inputs=Ref("spend__n_1d"))), "service fraud, feature f: there is no output column 'spend__n_1d'"),
        (lambda: service(feature(inputs=Request("customer_id", "string"))), "elsewhere it is int64; write one type"),
        (lambda: service(feature(name="amount")), "service fraud has the name 'amount' twice"),
        (lambda: service(feature(name="customer_id")), "service fraud has the name 'customer_id' twice"),
        (lambda: service(feature(name="spend")), "service fraud has the status 'spend' twice"),
        (lambda: service(feature(), defaults={"f": 0.0}), "service fraud: there is no output column 'f'"),
        (lambda: trained(service(feature(inputs=Request("place", "string")))), "training set train: there is no column 'place'"),
        (lambda: trained(service(feature(inputs=Request("amount", "int64")))), "the field 'amount' has the type double in payments, int64"),
        (
            lambda: trained(service(feature(inputs=Request("fraud", "boolean"))), label=Label("fraud", "30d")),
            "the label 'fraud' is what a request brings, so it is among its own features; remove it",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        make()
    assert message in str(refused.value)
