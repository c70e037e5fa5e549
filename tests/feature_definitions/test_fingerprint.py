"""Fingerprints: they change exactly when a column's values may."""

from __future__ import annotations

from dataclasses import replace

import pytest

from feature_definitions import (
    Derived,
    Entity,
    Feature,
    FeatureGroup,
    Files,
    ObservationGroup,
    SnapshotGroup,
    Source,
    WindowedGroup,
    at_least,
    at_most,
    expression,
    fingerprint,
)

COLUMNS = {"customer_id": "int64", "amount": "double", "fee": "double", "kind": "string", "paid_at": "timestamp", "id": "string"}
CUSTOMER = Entity("customer", keys={"customer_id": "int64"})
PAYMENTS = Source("payments", columns=COLUMNS, event_timestamp="paid_at", id=("id",), timezone="UTC")
SPEND = Feature("spend", "sum", "amount", windows=("1d", "7d"))
LARGE = Feature("large", "count", where="amount > 100", windows=("1d",))
MEAN = Derived("mean", "spend_7d / large_1d")
GROUP = WindowedGroup("spend", entity=CUSTOMER, source=PAYMENTS, ttl="2d", features=(SPEND, LARGE, MEAN), where="kind != 'x'")
SEEN = ObservationGroup("seen", entity=CUSTOMER, source=PAYMENTS, columns=("amount", "kind"), ttl="2d")
STATIC = SnapshotGroup(
    "person",
    entity=CUSTOMER,
    source=Source("people", columns={"customer_id": "int64", "name": "string"}, shape="static", id=("customer_id",)),
    columns=("name",),
    assume_always_known=True,
)


def changed(before: FeatureGroup, after: FeatureGroup) -> set[str]:
    """The columns whose fingerprints differ."""
    old, new = fingerprint.columns(before), fingerprint.columns(after)
    return {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}


def test_every_output_column_has_its_own_fingerprint() -> None:
    for group in (GROUP, SEEN, STATIC):
        found = fingerprint.columns(group)
        assert tuple(found) == group.outputs
        assert len(set(found.values())) == len(found)


def test_a_fingerprint_outlives_the_process_and_the_version_that_made_it() -> None:
    found = fingerprint.columns(replace(GROUP, features=(SPEND, LARGE)))
    assert {name: fingerprint.meaning(text) for name, text in found.items()} == {
        "spend_1d": "eb09a5c730e32b12",
        "spend_7d": "9bf480a297e15280",
        "large_1d": "440cca194a2e8208",
    }


@pytest.mark.parametrize(
    "after",
    [
        replace(GROUP, owner="team"),
        replace(GROUP, tags=("a",)),
        replace(GROUP, ttl="9d"),
        replace(GROUP, publish_delay="1h"),
        replace(GROUP, restate_within="30d"),
        replace(GROUP, expect=(expression("spend_1d > 0"),)),
        replace(GROUP, name="renamed"),
        replace(GROUP, features=(replace(SPEND, expect=(at_least(0),)), LARGE, MEAN)),
        replace(GROUP, source=replace(PAYMENTS, at=Files("data/*.csv"))),
        replace(GROUP, source=replace(PAYMENTS, ready_after="3h")),
        replace(GROUP, source=replace(PAYMENTS, expect=(expression("amount > 0"),))),
        replace(GROUP, source=replace(PAYMENTS, columns={**COLUMNS, "new": "string", "fee": "int64"})),
        replace(GROUP, entity=Entity("client", keys={"customer_id": "int64"})),
        replace(GROUP, features=(LARGE, SPEND, MEAN)),
    ],
)
def test_what_leaves_every_value_as_it_is_changes_no_fingerprint(after: FeatureGroup) -> None:
    assert changed(GROUP, after) == set()


@pytest.mark.parametrize(
    "after",
    [
        replace(GROUP, every="12h"),
        replace(GROUP, where="kind != 'y'"),
        replace(GROUP, where=None),
        replace(GROUP, source=replace(PAYMENTS, name="other")),
        replace(GROUP, source=replace(PAYMENTS, timezone="Europe/Berlin")),
        replace(GROUP, source=replace(PAYMENTS, id=("id", "kind"))),
        replace(GROUP, source=replace(PAYMENTS, id=())),
        replace(GROUP, source=replace(PAYMENTS, arrived_at="paid_at")),
        replace(GROUP, source=replace(PAYMENTS, columns={**COLUMNS, "kind": "int64"})),
        replace(GROUP, entity=Entity("customer", keys={"id": "string"})),
    ],
)
def test_what_may_change_every_value_changes_every_fingerprint(after: FeatureGroup) -> None:
    assert changed(GROUP, after) == set(GROUP.outputs)


@pytest.mark.parametrize(
    ("features", "columns"),
    [
        ((replace(SPEND, aggregation="max"), LARGE, MEAN), {"spend_1d", "spend_7d", "mean"}),
        ((replace(SPEND, of="fee"), LARGE, MEAN), {"spend_1d", "spend_7d", "mean"}),
        ((replace(SPEND, where="amount > 0"), LARGE, MEAN), {"spend_1d", "spend_7d", "mean"}),
        ((SPEND, replace(LARGE, where="amount > 101"), MEAN), {"large_1d", "mean"}),
        ((SPEND, LARGE, Derived("mean", "spend_1d / large_1d")), {"mean"}),
        ((replace(SPEND, windows=("1d", "7d", "30d")), LARGE, MEAN), {"spend_30d"}),
        ((SPEND, LARGE), {"mean"}),
        ((SPEND, LARGE, MEAN, Feature("fees", "sum", "fee", windows=("1d",))), {"fees_1d"}),
    ],
)
def test_a_changed_feature_changes_its_own_columns_and_those_derived_from_it(
    features: tuple[Feature | Derived, ...], columns: set[str]
) -> None:
    assert changed(GROUP, replace(GROUP, features=features)) == columns


def test_a_retyped_column_changes_those_who_read_it() -> None:
    group = replace(GROUP, features=(Feature("fees", "sum", "fee * 2", windows=("1d",)), LARGE))
    retyped = replace(PAYMENTS, columns={**COLUMNS, "fee": "decimal(10,2)"})
    assert changed(group, replace(group, source=retyped)) == {"fees_1d"}


def test_a_change_far_below_reaches_every_derived_column_above_it() -> None:
    group = replace(GROUP, features=(SPEND, LARGE, MEAN, Derived("twice", "mean * 2"), Derived("other", "large_1d + 1")))
    assert changed(group, replace(group, features=(replace(SPEND, of="fee"), *group.features[1:]))) == {
        "spend_1d",
        "spend_7d",
        "mean",
        "twice",
    }


def test_columns_as_observed_stand_for_themselves() -> None:
    assert changed(SEEN, replace(SEEN, columns=("kind", "amount", "fee"))) == {"fee"}
    assert changed(SEEN, replace(SEEN, source=replace(PAYMENTS, columns={**COLUMNS, "amount": "int64"}))) == {"amount"}
    assert changed(SEEN, replace(SEEN, where="amount > 0")) == {"amount", "kind"}


def test_the_same_column_means_something_else_in_another_kind_of_group() -> None:
    latest = WindowedGroup(
        "seen", entity=CUSTOMER, source=PAYMENTS, ttl="2d", features=(Feature("amount", "last", "amount", windows=("1d",)),)
    )
    assert fingerprint.columns(latest)["amount_1d"] != fingerprint.columns(SEEN)["amount"]


def test_another_engine_changes_fingerprints_but_not_their_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    group = replace(GROUP, features=(SPEND, LARGE))
    before = fingerprint.columns(group)
    monkeypatch.setattr(fingerprint, "ENGINE", fingerprint.ENGINE + 1)
    after = fingerprint.columns(group)
    assert all(before[name] != after[name] for name in before)
    assert {name: fingerprint.meaning(found) for name, found in before.items()} == {
        name: fingerprint.meaning(found) for name, found in after.items()
    }


def test_the_gate_changes_with_any_expectation_and_with_nothing_else() -> None:
    gate = fingerprint.gate(GROUP)
    expecting = [
        replace(GROUP, expect=(expression("spend_1d > 0"),)),
        replace(GROUP, expect=(expression("spend_1d > 0", severity="warning"),)),
        replace(GROUP, features=(replace(SPEND, expect=(at_least(0),)), LARGE, MEAN)),
        replace(GROUP, features=(replace(SPEND, expect=(at_most(0),)), LARGE, MEAN)),
        replace(GROUP, features=(replace(SPEND, expect=(at_least(1),)), LARGE, MEAN)),
        replace(GROUP, features=(SPEND, replace(LARGE, expect=(at_least(0),)), MEAN)),
        replace(GROUP, features=(SPEND, LARGE, replace(MEAN, expect=(at_least(0),)))),
    ]
    assert len({gate, *map(fingerprint.gate, expecting)}) == len(expecting) + 1
    assert fingerprint.gate(replace(GROUP, owner="x", ttl="9d", every="12h")) == gate
    assert fingerprint.gate(SEEN) == fingerprint.gate(replace(SEEN, where="amount > 0"))
