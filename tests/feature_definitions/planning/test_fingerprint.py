"""Fingerprints: they change exactly when a column's values may."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from feature_definitions import (
    Column,
    Derived,
    Entity,
    Feature,
    FeatureGroup,
    FeatureService,
    Files,
    Join,
    ObservationGroup,
    OnDemandFeature,
    Query,
    Ref,
    Request,
    Rows,
    SnapshotGroup,
    Source,
    TransformGroup,
    WindowedGroup,
    at_least,
    at_most,
    expression,
    row_count,
)
from feature_definitions.planning import fingerprint

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


def changed(before: FeatureGroup | TransformGroup, after: FeatureGroup | TransformGroup) -> set[str]:
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


# --------------------------------------------------------------------------------------------------------- what came afterwards


def of(*features: Feature | Derived, source: Source = PAYMENTS) -> WindowedGroup:
    return WindowedGroup("spend", entity=CUSTOMER, source=source, ttl="2d", features=features)


def test_what_is_asked_of_a_feature_is_part_of_its_meaning() -> None:
    quantile = Feature("x", "quantile", "amount", windows=("1d",), q=0.5)
    assert changed(of(quantile), of(replace(quantile, q=0.9))) == {"x_1d"}
    newest = Feature("x", "last_n", "amount", windows=("1d",), k=3)
    assert changed(of(newest), of(replace(newest, k=4))) == {"x_1d"}
    assert changed(of(newest), of(replace(newest, aggregation="top_k"))) == {"x_1d"}


def test_how_far_back_rows_may_lie_is_part_of_their_meaning() -> None:
    rows = Feature("x", "mean", "amount", windows=("lifetime", Rows(20, within="60d")))
    assert changed(of(rows), of(replace(rows, windows=("lifetime", Rows(20, within="90d"))))) == {"x_20rows"}
    assert changed(of(rows), of(replace(rows, windows=("lifetime", Rows(20, within="1440h"))))) == set()


def test_a_value_that_is_added_changes_no_other_values_columns() -> None:
    two = Feature("x", "sum", "amount", windows=("1d", "7d"), by={"kind": ("a", "b")})
    three = replace(two, by={"kind": ("c", "a", "b")})
    assert changed(of(two), of(three)) == {"x_c_1d", "x_c_7d"}
    assert changed(of(two), of(replace(two, where="amount > 0"))) == set(of(two).outputs)
    assert changed(of(two), of(*two.expanded)) == set()
    retyped = replace(PAYMENTS, columns={**COLUMNS, "kind": "string", "amount": "int64"})
    assert changed(of(two), of(two, source=retyped)) == set(of(two).outputs)


def derived(**changes: str) -> Source:
    derive = {"net": "amount - fee", "share": "net / amount", "jump": "net - prev.amount", "other": "fee * 2", **changes}
    return replace(PAYMENTS, derive=derive, lag_over=("customer_id",), lag_within="10d")


def test_an_expression_of_the_source_is_part_of_what_reads_it_and_of_nothing_else() -> None:
    features = (
        SPEND,
        Feature("net", "sum", "net", windows=("1d",)),
        Feature("shares", "count", where="share > 0.5", windows=("1d",)),
        Feature("others", "sum", "other", windows=("1d",)),
        Derived("twice", "shares_1d * 2"),
    )
    before = of(*features, source=derived())
    assert changed(of(SPEND), of(SPEND, source=derived())) == set()
    assert changed(before, of(*features, source=derived(other="fee * 3"))) == {"others_1d"}
    assert changed(before, of(*features, source=derived(net="amount - fee * 2"))) == {"net_1d", "shares_1d", "twice"}
    retyped = replace(derived(), columns={**COLUMNS, "fee": "int64"})
    assert changed(before, of(*features, source=retyped)) == {"net_1d", "shares_1d", "others_1d", "twice"}
    seen = ObservationGroup("seen", entity=CUSTOMER, source=derived(), columns=("net", "other", "kind"), ttl="2d")
    assert changed(seen, replace(seen, source=derived(net="amount"))) == {"net"}


def test_what_an_expression_depends_on_is_how_its_source_is_read_and_what_its_columns_are() -> None:
    plain = fingerprint.of_source(PAYMENTS, "amount * 2", None)
    assert fingerprint.of_source(derived(), "amount * 2", "true") == plain
    assert fingerprint.of_source(replace(PAYMENTS, timezone="Europe/Berlin"), "amount * 2") != plain
    assert fingerprint.of_source(replace(PAYMENTS, columns={**COLUMNS, "amount": "int64"}), "amount * 2") != plain
    assert fingerprint.of_source(derived(), "share") != fingerprint.of_source(derived(net="amount"), "share")
    assert fingerprint.of_source(derived(), "other") == fingerprint.of_source(derived(net="amount"), "other")


def test_which_row_is_the_one_before_is_part_of_what_reads_it() -> None:
    features = (Feature("jumps", "sum", "jump", windows=("1d",)), Feature("net", "sum", "net", windows=("1d",)))
    before = of(*features, source=derived())
    assert changed(before, of(*features, source=replace(derived(), lag_within="20d"))) == {"jumps_1d"}
    assert changed(before, of(*features, source=replace(derived(), lag_within="240h"))) == set()
    assert changed(before, of(*features, source=replace(derived(), lag_over=("kind",)))) == {"jumps_1d"}


def test_a_query_is_part_of_all_that_reads_it() -> None:
    query = Query("select customer_id, amount, paid_at from payments where fee > 0", sources=(PAYMENTS,))
    paying = Source(
        "paying", query, columns={name: COLUMNS[name] for name in ("customer_id", "amount", "paid_at")}, event_timestamp="paid_at"
    )
    group = of(SPEND, source=paying)
    assert changed(group, of(SPEND, source=replace(paying, at=replace(query, sql=query.sql.replace("> 0", "> 1"))))) == {
        "spend_1d",
        "spend_7d",
    }
    retyped = replace(query, sources=(replace(PAYMENTS, columns={**COLUMNS, "kind": "int64"}),))
    assert changed(group, of(SPEND, source=replace(paying, at=retyped))) == set()
    retyped = replace(query, sources=(replace(PAYMENTS, columns={**COLUMNS, "fee": "int64"}),))
    assert changed(group, of(SPEND, source=replace(paying, at=retyped))) == {"spend_1d", "spend_7d"}


def transform(*inputs: Source | FeatureGroup, **changes: Any) -> TransformGroup:
    sql = "select customer_id, sum(amount) x, 1 y from payments group by 1"
    given = {"name": "t", "entity": CUSTOMER, "inputs": inputs or (PAYMENTS,), "sql": sql, "schema": {"x": "double", "y": "int64"}}
    return TransformGroup(**{**given, "lookback": "7d", "ttl": "2d", **changes})


def test_a_transform_means_its_sql_its_lookback_and_what_it_names_of_its_inputs() -> None:
    before = transform()
    both = {"x", "y"}
    assert tuple(fingerprint.columns(before)) == before.outputs
    same: list[dict[str, Any]] = [{"owner": "me"}, {"ttl": "9d"}, {"retain": "30d"}, {"hold_below": 0.1}, {"expect": (row_count(1),)}]
    assert [changed(before, replace(before, **each)) for each in same] == [set()] * 5
    assert changed(before, replace(before, lookback="8d")) == both
    assert changed(before, replace(before, sql=f"{before.sql} having sum(amount) > 0")) == both
    assert changed(before, replace(before, schema={"x": "int64", "y": "int64", "z": "int64"})) == {"x", "z"}
    assert changed(before, transform(replace(PAYMENTS, columns={**COLUMNS, "amount": "int64"}))) == both
    assert changed(before, transform(replace(PAYMENTS, columns={**COLUMNS, "kind": "int64"}))) == set()


def test_a_transform_means_what_the_groups_that_it_reads_mean() -> None:
    sql = "select customer_id, spend_7d x, 1 y from spend"
    before = transform(of(SPEND, LARGE), sql=sql)
    assert changed(before, transform(of(SPEND, replace(LARGE, where="amount > 9")), sql=sql)) == set()
    assert changed(before, transform(of(replace(SPEND, of="fee"), LARGE), sql=sql)) == {"x", "y"}
    free = transform(of(SPEND, LARGE), sql=None, function=doubled)
    assert changed(free, transform(of(SPEND, replace(LARGE, where="amount > 9")), sql=None, function=doubled)) == {"x", "y"}


def doubled(frame: object) -> object:
    return (frame, frame)


def tripled(frame: object) -> object:
    return (frame, frame, frame)


def test_a_transform_means_the_text_of_its_function() -> None:
    def doubled_elsewhere() -> Any:
        def doubled(frame: object) -> object:
            return (frame, frame)

        return doubled

    before = transform(sql=None, function=doubled)
    assert changed(before, transform(sql=None, function=tripled)) == {"x", "y"}
    assert changed(before, transform(sql=None, function=doubled_elsewhere())) == set()
    assert changed(transform(sql=None, function=len), transform(sql=None, function=max)) == {"x", "y"}


def test_what_is_held_back_and_kept_changes_the_gate_at_most() -> None:
    held = replace(GROUP, hold_below=0.1, retain="30d")
    assert changed(GROUP, held) == set()
    assert fingerprint.gate(replace(GROUP, retain="30d")) == fingerprint.gate(GROUP)
    assert len({fingerprint.gate(GROUP), fingerprint.gate(held), fingerprint.gate(replace(GROUP, hold_below=0.2))}) == 3
    assert fingerprint.gate(replace(GROUP, warnings="approve")) != fingerprint.gate(GROUP)


def test_how_a_column_lies_in_the_data_changes_what_reads_it_alone() -> None:
    plain = replace(SEEN, source=replace(PAYMENTS, columns={**COLUMNS, "amount": Column("double")}))
    named = replace(SEEN, source=replace(PAYMENTS, columns={**COLUMNS, "amount": Column("double", "Amount")}))
    assert (changed(SEEN, plain), changed(SEEN, named)) == (set(), {"amount"})


# --------------------------------------------------------------------------------------------------------------------- services


def pair(**changes: Any) -> FeatureService:
    """One group joined twice under prefixes, by two columns of the caller, and what is computed of both."""
    joins = tuple(Join(SEEN, ("amount",), prefix=name, on={"customer_id": f"{name}_id"}) for name in ("payer", "payee"))
    more = OnDemandFeature("more", (Ref("payer__amount"), Request("fee", "double")), "double", larger)
    return replace(FeatureService("pair", joins=joins, on_demand=(more,), defaults={"payer__amount": 0.0}), **changes)


def larger(amount: float, fee: float) -> float:
    return amount + fee


@pytest.mark.parametrize(
    "changes",
    [
        {"joins": tuple(replace(join, prefix=other) for join, other in zip(pair().joins, ("payee", "payer"), strict=True))},
        {"joins": (replace(pair().joins[0], features=("amount", "kind")), pair().joins[1])},
        {"defaults": {"payer__amount": 1.0}},
        {"on_demand": (replace(pair().on_demand[0], function=max),)},
        {"version": 2},
    ],
)  # fmt: skip
def test_a_service_has_another_fingerprint_if_its_answers_may_be_others(changes: dict[str, Any]) -> None:
    assert fingerprint.service(pair(**changes)) != fingerprint.service(pair()) == fingerprint.service(pair())


def test_a_service_keeps_its_fingerprint_whether_it_is_online_or_not() -> None:
    assert fingerprint.service(pair(online=False)) == fingerprint.service(pair())
