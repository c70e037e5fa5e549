"""Groups: how far back they read, what they put out, and what cannot be a group."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from feature_definitions import (
    DefinitionError,
    Derived,
    Entity,
    Feature,
    Join,
    ObservationGroup,
    Rows,
    SnapshotGroup,
    Source,
    TransformGroup,
    WindowedGroup,
    row_count,
)
from feature_definitions.language import DefinitionErrors

if TYPE_CHECKING:
    from collections.abc import Callable


CUSTOMER = Entity("customer", keys={"customer_id": "int64"})
COLUMNS = {"customer_id": "int64", "amount": "double", "kind": "string", "paid_at": "timestamp", "tags": "array<string>"}
COUNT = Feature("n", "count", windows=("1d",))


def lifetime() -> Feature:
    return Feature("ever", "count", windows=("lifetime",))


def source(**changes: Any) -> Source:
    return Source(**{"name": "payments", "columns": COLUMNS, "event_timestamp": "paid_at", "derive": {"net": "amount * 0.8"}, **changes})


def windowed(*features: Any, **changes: Any) -> WindowedGroup:
    return WindowedGroup(
        **{"name": "spend", "entity": CUSTOMER, "source": source(), "ttl": "2d", "features": features or (COUNT,), **changes}
    )


def observed(**changes: Any) -> ObservationGroup:
    return ObservationGroup(**{"name": "seen", "entity": CUSTOMER, "source": source(), "ttl": "2d", "columns": ("amount",), **changes})


def snapshots(**changes: Any) -> SnapshotGroup:
    taken = source(name="contracts", shape="snapshots", id=("customer_id",))
    return SnapshotGroup(**{"name": "contract", "entity": CUSTOMER, "source": taken, "columns": ("kind",), "ttl": "2d", **changes})


def static(**changes: Any) -> SnapshotGroup:
    people = Source("people", columns={"customer_id": "int64", "age": "int64"}, shape="static", id=("customer_id",))
    given = {"name": "person", "entity": CUSTOMER, "source": people, "columns": ("age",), "assume_always_known": True}
    return SnapshotGroup(**{**given, **changes})


def transform(**changes: Any) -> TransformGroup:
    given = {"name": "risk", "entity": CUSTOMER, "inputs": (source(),), "sql": "SELECT 1", "lookback": "30d", "schema": {"score": "double"}}
    return TransformGroup(**{**given, "ttl": "2d", **changes})


def refuses(make: Callable[[], object], message: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        make()
    assert message in str(refused.value)


# -------------------------------------------------------------------------------------------------------------------- windowed


def test_the_longest_window_is_the_longest_bounded_one() -> None:
    rows = Feature("recent", "mean", "amount", windows=(Rows(20, within="60d"),))
    assert windowed(COUNT, rows).longest == timedelta(days=60)
    assert windowed(COUNT, lifetime()).longest == timedelta(days=1)
    assert windowed(lifetime(), every="6h").longest == timedelta(hours=6)


def test_a_group_with_a_lifetime_window_says_so() -> None:
    assert windowed(COUNT, lifetime()).lifetime
    assert not any(group.lifetime for group in (windowed(), observed(), static(), transform()))


def test_the_columns_of_the_time_since_the_last_event_are_ages() -> None:
    assert windowed(Feature("since", "time_since_last", windows=("30d", "lifetime"))).ages == {"since_30d", "since_lifetime"}
    assert windowed(Feature("since", "time_since_last", windows=("1d",), by={"kind": ("a", "b")})).ages == {"since_a_1d", "since_b_1d"}
    assert not any(group.ages for group in (windowed(), observed(), static(), transform()))


def test_a_group_computes_a_feature_of_each_value() -> None:
    group = windowed(
        Feature("n", "count", windows=("1d",), by={"kind": ("a", "b")}), lifetime(), Derived("share", "n_a_1d / ever_lifetime")
    )
    assert [feature.name for feature in group.aggregated] == ["n_a", "n_b", "ever"]
    assert group.outputs == ("n_a_1d", "n_b_1d", "ever_lifetime", "share")


def test_a_join_may_name_a_feature_by_one_of_its_values() -> None:
    group = windowed(Feature("n", "count", windows=("1d", "7d"), by={"kind": ("a", "b")}))
    assert Join(group, ("n_b",)).columns == ("n_b_1d", "n_b_7d")
    assert Join(group, ("n",)).columns == group.outputs


def test_derived_columns_of_the_source_may_be_read_like_its_own() -> None:
    assert windowed(Feature("net", "sum", "net", windows=("1d",))).outputs == ("net_1d",)
    assert windowed(Feature("n", "count", windows=("1d",), by={"net": (1,)})).outputs == ("n_1_1d",)
    assert observed(columns=("net",)).outputs == ("net",)


def test_every_feature_that_does_not_fit_is_told_at_once() -> None:
    wrong = (
        Feature("x", "sum", "amnt", windows=("36h",)),
        COUNT,
        Feature("y", "quantile", "kind", windows=("1d",), q=0.5),
    )
    with pytest.raises(DefinitionErrors) as refused:
        windowed(*wrong)
    assert [error.feature for error in refused.value.errors] == ["x", "x", "y"]
    assert str(refused.value).splitlines() == [
        "spend.x: the window '36h' is not a multiple of the cadence '1d'",
        "spend.x: there is no column 'amnt'. payments has: amount, customer_id, kind, net, paid_at, tags. Did you mean 'amount'?",
        "spend.y: quantile of 'kind', which is a string; it needs a number",
    ]


def by(**values: Any) -> Feature:
    return Feature("n", "count", windows=("1d",), by=values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: windowed(Feature("x", "count", windows=(Rows(3, within="36h"),))),
            "spend.x: Rows(count=3, within='36h') reaches '36h' back, which is not a multiple of the cadence '1d'",
        ),
        (lambda: windowed(by(colour=("red",))), "spend.n: there is no column 'colour'"),
        (lambda: windowed(by(amount=("red",))), "spend.n: by 'amount', which is a double, with the value 'red'; write values of that type"),
        (lambda: windowed(by(kind=(1,))), "by 'kind', which is a string, with the value 1"),
        (lambda: windowed(Feature("v", "variance", "kind", windows=("1d",))), "variance of 'kind', which is a string; it needs a number"),
        (lambda: windowed(by(kind=("a",)), Derived("n_a_1d", "1")), "has the output column 'n_a_1d' twice"),
        (
            lambda: windowed(source=source(shape="snapshots", id=("kind",))),
            "reads events, but payments is snapshots; write a SnapshotGroup",
        ),
    ],
)
def test_a_feature_that_does_not_fit_its_group_is_refused(make: Callable[[], object], message: str) -> None:
    refuses(make, message)


# ------------------------------------------------------------------------------------------------------------- held and retained


@pytest.mark.parametrize("make", [windowed, observed, snapshots, transform])
def test_a_group_may_hold_bad_rows_back_and_let_old_ones_go(make: Callable[..., Any]) -> None:
    group = make(hold_below=0.05, retain="2d", expect=(row_count(1),))
    assert (group.hold_below, group.retain) == (0.05, "2d")


@pytest.mark.parametrize("make", [windowed, observed, snapshots, static, transform])
@pytest.mark.parametrize("share", [1, 1.0, -0.1, True, "0.1", None, float("nan")])
def test_the_share_that_is_held_back_is_below_one(make: Callable[..., Any], share: Any) -> None:
    refuses(lambda: make(hold_below=share), f"has hold_below={share!r}; write the share of rows that may be held back, from 0 to below 1")


@pytest.mark.parametrize("make", [windowed, observed, snapshots, static, transform])
def test_warnings_are_published_or_wait_for_a_person(make: Callable[..., Any]) -> None:
    assert (make().warnings, make(warnings="approve").warnings) == ("publish", "approve")
    refuses(lambda: make(warnings="ask"), "has warnings='ask'; write 'publish', or 'approve' if a person is to look at them")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: windowed(retain="1d"),
            "group spend keeps rows for '1d' and uses them for its ttl '2d'; write a retain that is at least the",
        ),
        (lambda: transform(retain="47h"), "write a retain that is at least the ttl"),
        (lambda: observed(retain="long"), "retain: 'long' is not a duration"),
        (lambda: static(retain="30d"), "is static: its rows do not age, so it has no retain; remove it"),
    ],
)
def test_rows_are_kept_as_long_as_they_are_used(make: Callable[[], object], message: str) -> None:
    refuses(make, message)


# ------------------------------------------------------------------------------------------------------------------- snapshots


def test_snapshots_age_and_assume_nothing() -> None:
    assert snapshots(ttl="1d").outputs == ("kind",)
    refuses(lambda: snapshots(ttl=None), "group contract has no ttl; say how old a value may be when it is used, like ttl='2d'")
    refuses(lambda: snapshots(ttl="23h"), "shorter than its cadence '1d' and publish delay '0s'")
    refuses(lambda: snapshots(assume_always_known=True), "the snapshots of contracts say when they were extracted, so nothing is assumed;")
