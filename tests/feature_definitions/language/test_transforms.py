"""Transforms: what they read, how far back, and what cannot be one."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from feature_definitions import (
    DefinitionError,
    Entity,
    Feature,
    FeatureService,
    Join,
    Label,
    SnapshotGroup,
    Source,
    TrainingSet,
    TransformGroup,
    WindowedGroup,
)

if TYPE_CHECKING:
    from collections.abc import Callable


CUSTOMER = Entity("customer", keys={"customer_id": "int64"})
COLUMNS = {"customer_id": "int64", "amount": "double", "kind": "string", "paid_at": "timestamp"}


def source(**changes: Any) -> Source:
    return Source(**{"name": "payments", "columns": COLUMNS, "event_timestamp": "paid_at", **changes})


def people() -> Source:
    return Source("people", columns={"customer_id": "int64", "age": "int64"}, shape="static", id=("customer_id",))


def windowed(**changes: Any) -> WindowedGroup:
    features = (Feature("n", "count", windows=("1d",)),)
    return WindowedGroup(**{"name": "spend", "entity": CUSTOMER, "source": source(), "ttl": "2d", "features": features, **changes})


def transform(**changes: Any) -> TransformGroup:
    given = {"name": "risk", "entity": CUSTOMER, "inputs": (source(),), "sql": "SELECT 1", "lookback": "30d", "schema": {"score": "double"}}
    return TransformGroup(**{**given, "ttl": "2d", **changes})


def refuses(make: Callable[[], object], message: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        make()
    assert message in str(refused.value)


def test_a_transform_reads_sources_and_groups_as_far_back_as_it_says() -> None:
    group = transform(inputs=(source(), windowed(), transform(name="other")), lookback="90d", every="6h", schema={"score": "decimal(5, 2)"})
    assert (group.longest, group.cadence) == (timedelta(days=90), timedelta(hours=6))
    assert (group.outputs, dict(group.schema)) == (("score",), {"score": "decimal(5,2)"})
    assert transform(inputs=source()).inputs == (source(),)


def test_a_transform_may_be_a_function() -> None:
    assert transform(sql=None, function=lambda frame: frame).sql is None
    assert transform(sql=None, function=lambda *frames: frames, inputs=(source(), windowed())).sql is None
    assert transform(sql=None, function=max).function is max  # its signature is not known


def test_a_transform_reads_static_rows_through_a_group_that_says_what_is_assumed() -> None:
    person = SnapshotGroup("person", CUSTOMER, people(), columns=("age",), assume_always_known=True)
    assert transform(inputs=(source(), person)).inputs[1] is person


def test_a_service_may_join_a_transform() -> None:
    service = FeatureService("s", joins=(Join(transform()),))  # type: ignore[arg-type]
    assert service.outputs == ("risk__score",)
    training = TrainingSet("t", spine=source(name="spine"), service=service, label=Label("kind", "1d"))
    assert training.service is service


@pytest.mark.parametrize(
    ("make_changes", "message"),
    [
        (lambda: {"inputs": ()}, "group risk reads nothing; name its sources and groups, like inputs=(payments,)"),
        (lambda: {"inputs": ("payments",)}, "group risk reads 'payments'; inputs are sources and groups as values"),
        (lambda: {"inputs": (source(), source())}, "has the input 'payments' twice; each is a view of its name; remove or rename one"),
        (lambda: {"sql": None}, "is computed by SQL or by a function: write exactly one of sql='SELECT ...' and function=..."),
        (lambda: {"function": len}, "write exactly one of sql"),
        (lambda: {"sql": " "}, "sql is ' '"),
        (
            lambda: {"sql": None, "function": lambda: None},
            "its function cannot be called with its inputs; let it take one DataFrame for each: payments",
        ),
        (lambda: {"inputs": (people(),)}, "reads people, which is static, so nobody knows when its rows became true; read a SnapshotGroup"),
        (lambda: {"sql": None, "function": "score"}, "has function='score'; write a function from its inputs' DataFrames to one DataFrame"),
        (
            lambda: {"lookback": None},
            "has no lookback; say how far back from T it reads its inputs, like lookback='30d', so that a late event is known",
        ),
        (lambda: {"lookback": "36h"}, "has the lookback '36h'; write a multiple of its cadence '1d', at most 730d"),
        (lambda: {"lookback": "0d"}, "has the lookback '0d'"),
        (lambda: {"lookback": "731d"}, "has the lookback '731d'"),
        (lambda: {"schema": {}}, "has no schema; name its output columns with their types, like schema={'score': 'double'}"),
        (lambda: {"schema": {"score": "float"}}, "column 'score' has the type 'float'; the types are"),
        (lambda: {"schema": {"customer_id": "int64"}}, "the output column 'customer_id' is already a key"),
        (lambda: {"schema": {"date": "date"}}, "the output column 'date' is already a key or a column of every feature table"),
        (lambda: {"ttl": None}, "has no ttl; say how old a value may be"),
        (lambda: {"ttl": "23h"}, "shorter than its cadence"),
        (lambda: {"every": "7h"}, "a cadence is 5m to 1d long and divides a day"),
        (lambda: {"entity": "customer"}, "entity and source are values"),
        (
            lambda: {"inputs": (windowed(publish_delay="2h"),)},
            "but spend, which it reads, is there only 2h after an interval's end; write publish_delay='2h'",
        ),
        (lambda: {"inputs": (windowed(name="risk"),)}, "group risk goes round in a circle: risk reads risk; give it a name of its own"),
    ],
)
def test_a_wrong_transform_is_refused(make_changes: Callable[[], dict[str, Any]], message: str) -> None:
    refuses(lambda: transform(**make_changes()), message)


def test_a_circle_through_names_is_found_however_long_it_is() -> None:
    inner = transform(name="inner", inputs=(windowed(name="outer"),))
    middle = transform(name="middle", inputs=(source(), inner))
    refuses(lambda: transform(name="outer", inputs=(middle,)), "goes round in a circle: outer reads middle reads inner reads outer")


def test_a_transform_is_there_no_earlier_than_what_it_reads() -> None:
    late = windowed(publish_delay="2h")
    assert transform(inputs=(late,), publish_delay="2h").publish_delay == "2h"
