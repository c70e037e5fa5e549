"""Checking a whole catalog: each mistake with its file, its line, and what to write instead."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from feature_definitions import (
    Derived,
    Entity,
    Expectation,
    Feature,
    FeatureGroup,
    FeatureService,
    Join,
    Label,
    ObservationGroup,
    Query,
    SnapshotGroup,
    Source,
    TrainingSet,
    TransformGroup,
    WindowedGroup,
    at_least,
    at_most,
    between,
    expression,
    mean_between,
    not_null,
    one_of,
    quantile_between,
    row_count,
    unique,
)
from feature_definitions.check import check, checked, checked_sound
from feature_definitions.loader import Catalog, CatalogError, Place
from tests import counted

COLUMNS = {"customer_id": "int64", "amount": "double", "kind": "string", "fraud": "boolean", "paid_at": "timestamp", "id": "string"}
CUSTOMER = Entity("customer", keys={"customer_id": "int64"})
PAYMENTS = Source("payments", columns=COLUMNS, event_timestamp="paid_at", id=("id",))
PEOPLE = Source("people", columns={"customer_id": "int64", "name": "string", "age": "int64"}, shape="static", id=("customer_id",))


def windowed(
    *features: Feature | Derived, expect: tuple[Expectation, ...] = (), where: str | None = None, delay: str = "0s"
) -> WindowedGroup:
    return WindowedGroup(
        "spend", entity=CUSTOMER, source=PAYMENTS, ttl="40d", features=features, expect=expect, where=where, publish_delay=delay
    )


def observed(*, columns: tuple[str, ...] = ("amount",), expect: tuple[Expectation, ...] = (), where: str | None = None) -> ObservationGroup:
    return ObservationGroup("seen", entity=CUSTOMER, source=PAYMENTS, columns=columns, ttl="2d", expect=expect, where=where)


def static(*, expect: tuple[Expectation, ...] = (), where: str | None = None) -> SnapshotGroup:
    return SnapshotGroup(
        "person", entity=CUSTOMER, source=PEOPLE, columns=("name", "age"), assume_always_known=True, expect=expect, where=where
    )


Definition = Source | FeatureGroup | TransformGroup | FeatureService | TrainingSet


def catalog_of(*definitions: Definition) -> Catalog:
    """A catalog in memory, whose definitions are written on lines 1, 2, ... of one file."""
    kinds = {Source: "source", FeatureService: "service", TrainingSet: "training set"}
    groups = [d for d in definitions if isinstance(d, FeatureGroup) and not isinstance(d, TransformGroup)]
    return Catalog(
        entities={CUSTOMER.name: CUSTOMER},
        sources={d.name: d for d in definitions if isinstance(d, Source)},
        groups={g.name: g for g in groups},
        transforms={d.name: d for d in definitions if isinstance(d, TransformGroup)},
        services={d.name: d for d in definitions if isinstance(d, FeatureService)},
        training_sets={d.name: d for d in definitions if isinstance(d, TrainingSet)},
        origins={(kinds.get(type(d), "group"), d.name): Place(Path("all.py"), line) for line, d in enumerate(definitions, start=1)},
    )


def messages(*definitions: Definition) -> list[str]:
    return [mistake.message for mistake in check(catalog_of(*definitions))]


def message(*definitions: Definition) -> str:
    (only,) = messages(*definitions)
    return only


COUNT = Feature("n", "count", windows=("1d", "30d"))
SPEND = Feature("spent", "sum", "amount", windows=("1d", "30d"))


def test_nothing_is_wrong_with_a_catalog_that_holds() -> None:
    group = windowed(
        Feature("n", "count", windows=("1d", "30d"), where="amount > 10 and kind in ('a', 'b')", expect=(at_least(0), at_most(1e9))),
        Feature("spent", "sum", "amount * 2", windows=("30d",), expect=(between(0, 10), not_null(0.5))),
        Feature("kind", "last", "kind", windows=("30d",), expect=(one_of("a", "b"),)),
        Feature("was_fraud", "max", "fraud", windows=("30d",), expect=(one_of(True, False),)),
        Derived("mean", "spent_30d / n_30d", expect=(expression("mean >= 0 or mean is null"),)),
        Derived("twice", "mean * 2"),
        expect=(expression("n_1d <= n_30d and customer_id > 0"),),
        where="amount is not null",
    )
    service = FeatureService("s", joins=(Join(group), Join(static())))
    source = Source("payments", columns=COLUMNS, event_timestamp="paid_at", expect=(expression("amount >= 0"),))
    training = TrainingSet(
        "t", spine=Source("labels", columns=COLUMNS, event_timestamp="paid_at"), service=service, label=Label("fraud", "30d")
    )
    everything = catalog_of(source, group, observed(expect=(expression("amount > 0"),)), static(where="age > 18"), service, training)
    assert check(everything) == ()


def test_a_misspelt_column_is_named_with_the_closest() -> None:
    assert message(windowed(Feature("x", "sum", "amuont * 2", windows=("1d",)))) == (
        "spend.x: 'amuont * 2' reads 'amuont', which payments does not have. Did you mean 'amount'? "
        "It has: amount, customer_id, fraud, id, kind, paid_at"
    )


def test_the_case_of_a_column_matters() -> None:
    assert "reads 'Amount', which payments does not have. Did you mean 'amount'?" in message(
        windowed(Feature("x", "sum", "Amount + 1", windows=("1d",)))
    )


@pytest.mark.parametrize(
    ("group", "start"),
    [
        (windowed(Feature("x", "count", where="amnt > 3", windows=("1d",))), "spend.x: where: 'amnt > 3' reads 'amnt', which payments"),
        (windowed(COUNT, where="amnt > 3"), "group spend: where: 'amnt > 3' reads 'amnt', which payments does not have"),
        (observed(where="amnt > 3"), "group seen: where: 'amnt > 3' reads 'amnt', which payments does not have"),
        (static(where="ag > 3"), "group person: where: 'ag > 3' reads 'ag', which people does not have. Did you mean 'age'?"),
        (
            windowed(COUNT, expect=(expression("n_2d > 0"),)),
            "group spend: expects expression('n_2d > 0'): 'n_2d > 0' reads 'n_2d', which spend",
        ),
        (
            observed(expect=(expression("kind > ''"),)),
            "group seen: expects expression(\"kind > ''\"): \"kind > ''\" reads 'kind', which seen",
        ),
        (
            windowed(Feature("x", "count", windows=("1d",), expect=(expression("n > 0"),))),
            "spend.x: expects expression('n > 0'): 'n > 0' reads",
        ),
    ],
)
def test_every_expression_of_a_group_is_read(group: FeatureGroup, start: str) -> None:
    assert message(group).startswith(start)


def test_the_expectations_of_a_source_are_read() -> None:
    source = Source("payments", columns=COLUMNS, event_timestamp="paid_at", expect=(expression("amnt >= 0"),))
    assert message(source).startswith(
        "source payments: expects expression('amnt >= 0'): 'amnt >= 0' reads 'amnt', which payments does not have"
    )


@pytest.mark.parametrize(
    ("group", "start"),
    [
        (
            windowed(Feature("x", "count", where="amount", windows=("1d",))),
            "spend.x: where: 'amount' is a double, not a condition; write a comp",
        ),
        (windowed(COUNT, where="upper(kind)"), "group spend: where: 'upper(kind)' is a string, not a condition"),
        (
            windowed(COUNT, expect=(expression("n_1d + 1"),)),
            "group spend: expects expression('n_1d + 1'): 'n_1d + 1' is an int64, not a cond",
        ),
        (
            windowed(Feature("x", "count", where="amount = 'x'", windows=("1d",))),
            "spend.x: where: \"amount = 'x'\": a double and a string are",
        ),
    ],
)
def test_a_condition_is_true_or_false(group: FeatureGroup, start: str) -> None:
    assert message(group).startswith(start)


@pytest.mark.parametrize("aggregation", ["sum", "mean", "stddev"])
def test_only_numbers_are_summed(aggregation: str) -> None:
    text = message(windowed(Feature("x", aggregation, "upper(kind)", windows=("1d",))))
    assert text == f"spend.x: {aggregation} of 'upper(kind)', which is a string; it needs a number: cast it, like cast(x as double)"
    text = message(windowed(Feature("x", aggregation, "amount > 3", windows=("1d",))))
    assert text.endswith("which is a boolean; it needs a number: count the rows, like Feature('x', 'count', where=...)")


@pytest.mark.parametrize("aggregation", ["count", "count_distinct", "first", "last", "min", "max"])
def test_other_aggregations_take_any_type(aggregation: str) -> None:
    assert messages(windowed(Feature("x", aggregation, "upper(kind)", windows=("1d",)))) == []


@pytest.mark.parametrize(
    "sql", ["now()", "rand()", "cast('now' as timestamp) > paid_at", "paid_at > 'today'", "amount in (select 1)", "a; b"]
)
def test_what_is_not_deterministic_is_refused_wherever_it_stands(sql: str) -> None:
    groups: list[FeatureGroup] = [windowed(Feature("x", "count", sql, windows=("1d",))), windowed(COUNT, where=sql), observed(where=sql)]
    assert [len(messages(group)) for group in groups] == [1, 1, 1]
    assert repr(sql) in message(windowed(COUNT, Derived("d", sql)))


# ---------------------------------------------------------------------------------------------------------------------- derived


def test_a_derived_column_reads_only_the_groups_own_features() -> None:
    assert message(windowed(COUNT, Derived("d", "amount / n_1d"))) == (
        "spend.d: 'amount / n_1d' reads 'amount', a column of payments; a Derived reads the group's own features: n_1d, n_30d"
    )
    assert "reads 'customer_id', a column of payments" in message(windowed(COUNT, Derived("d", "customer_id + 1")))


def test_an_unknown_name_in_a_derived_column_is_named_with_the_closest() -> None:
    assert message(windowed(COUNT, Derived("d", "n_1d / n_31d"))) == (
        "spend.d: 'n_1d / n_31d' reads 'n_31d', which spend does not have. Did you mean 'n_1d' or 'n_30d'? It has: n_1d, n_30d"
    )


def test_a_derived_column_that_reads_a_later_one_is_told_to_follow_it() -> None:
    assert message(windowed(COUNT, Derived("a", "b + 1"), Derived("b", "n_1d + 1"))) == (
        "spend.a: 'b + 1' reads 'b', which is defined below it; move that up"
    )


@pytest.mark.parametrize(
    ("derived", "circle"),
    [
        ((Derived("a", "a + 1"),), "a reads a"),
        ((Derived("a", "b + n_1d"), Derived("b", "a + n_1d")), "a reads b reads a"),
        ((Derived("a", "c"), Derived("b", "a"), Derived("c", "b")), "a reads c reads b reads a"),
    ],
)
def test_a_circle_of_derived_columns_is_spelled_out(derived: tuple[Derived, ...], circle: str) -> None:
    assert message(windowed(COUNT, *derived)).endswith(f"which goes round in a circle: {circle}")


def test_a_column_below_a_circle_is_not_blamed_for_it() -> None:
    first, second = messages(windowed(COUNT, Derived("z", "a"), Derived("a", "b"), Derived("b", "a")))
    assert "spend.a: 'b' reads 'b', which goes round in a circle" in first + second
    assert "spend.z: 'a' reads 'a', which is defined below it" in first + second


def test_what_reads_a_wrong_column_is_not_told_again() -> None:
    group = windowed(
        Feature("x", "max", "knd || 'a'", windows=("1d",), expect=(at_least(0),)),
        Derived("y", "x_1d = 'a'"),
        Derived("z", "not y"),
        expect=(expression("x_1d > 'a'"), expression("z")),
    )
    assert message(group).startswith("spend.x: \"knd || 'a'\" reads 'knd'")


def test_operands_of_a_derived_column_must_go_together() -> None:
    group = windowed(Feature("kind", "last", "kind", windows=("1d",)), Derived("d", "kind_1d + 1"))
    assert message(group).startswith("spend.d: 'kind_1d + 1': + needs numbers, not a string")


# ----------------------------------------------------------------------------------------------------------------- expectations


@pytest.mark.parametrize(
    ("expectation", "instead"),
    [
        (at_least(0), "expects at_least(0) of no column; write expression('x >= 0') here, or at_least(0) at the feature"),
        (at_most(1.5), "write expression('x <= 1.5') here"),
        (between(0, 1), "write expression('x between 0 and 1') here"),
        (one_of("a"), "write expression(\"x in ('a')\") here"),
        (not_null(), "write expression('x is not null') here"),
    ],
)
def test_an_expectation_of_a_whole_source_or_group_is_an_expression(expectation: Expectation, instead: str) -> None:
    source = Source("payments", columns=COLUMNS, event_timestamp="paid_at", expect=(expectation,))
    for definition in (source, windowed(COUNT, expect=(expectation,)), observed(expect=(expectation,)), static(expect=(expectation,))):
        assert instead in message(definition)


@pytest.mark.parametrize(
    ("of", "expectation", "wrong"),
    [
        ("kind", at_least(0), "expects at_least(0) of x_1d, which is a string; it needs a number"),
        ("paid_at", between(0, 1), "of x_1d, which is a timestamp; it needs a number"),
        ("fraud", at_most(1), "of x_1d, which is a boolean; it needs a number"),
        ("kind", one_of("a", 1), "which is a string; 1 can never be its value"),
        ("amount", one_of(1, "a"), "which is a double; 'a' can never be its value"),
        ("customer_id", one_of(1, 1.5), "which is an int64; 1.5 can never be its value"),
        ("amount", one_of(True), "which is a double; True can never be its value"),
        ("fraud", one_of(1), "which is a boolean; 1 can never be its value"),
    ],
)
def test_an_expectation_must_fit_the_type_of_its_column(of: str, expectation: Expectation, wrong: str) -> None:
    assert wrong in message(windowed(Feature("x", "last", of, windows=("1d",), expect=(expectation,))))


def test_an_expectation_of_a_derived_column_must_fit_too() -> None:
    assert "of d, which is a boolean; it needs a number" in message(windowed(COUNT, Derived("d", "n_1d > 3", expect=(at_least(0),))))


# ---------------------------------------------------------------------------------------------------- services and training sets


def test_a_key_of_a_service_has_one_type() -> None:
    other = Entity("account", keys={"account_id": "string"})
    accounts = Source("accounts", columns={"account_id": "string", "at": "timestamp"}, event_timestamp="at")
    group = WindowedGroup("logins", entity=other, source=accounts, ttl="2d", features=(Feature("n", "count", windows=("1d",)),))
    service = FeatureService("s", joins=(Join(windowed(COUNT)), Join(group, on={"account_id": "customer_id"})))
    assert message(service) == (
        "service s: the key 'customer_id' is an int64 for spend and a string for logins; map one of them to another column, "
        "like Join(logins, on={'account_id': 'other_customer_id'})"
    )


@pytest.mark.parametrize("column", ["hw_row", "HW_Date", "spend__hw_status"])
def test_a_spines_column_may_not_be_a_training_sets_own(column: str) -> None:
    spine = Source("labels", columns={**COLUMNS, column: "int64"}, event_timestamp="paid_at")
    training = TrainingSet("t", spine=spine, service=FeatureService("s", joins=(Join(windowed(COUNT)),)))
    assert message(training) == f"training set t: the column {column!r} of its spine labels is one of a training set's own; rename it"


@pytest.mark.parametrize(
    ("expect", "wrong"),
    [
        ({"place": at_least(0)}, "expects at_least(0) of place, which is a string; it needs a number; write an expression(...)"),
        ({"spend__n_1d": one_of("a")}, "'a' can never be its value"),
        (expression("spend__n_1d + 1"), "is an int64, not a condition"),
        (expression("spend__m > 1"), "'spend__m > 1' reads 'spend__m', which t does not have"),
    ],
)
def test_what_is_expected_of_a_training_set_fits_its_columns(expect: Any, wrong: str) -> None:
    spine = Source("labels", columns={**COLUMNS, "place": "string"}, event_timestamp="paid_at")
    service = FeatureService("s", joins=(Join(windowed(COUNT)),))
    assert wrong in message(TrainingSet("t", spine=spine, service=service, expect=expect))


def test_a_spines_column_may_not_be_an_output() -> None:
    spine = Source("labels", columns={**COLUMNS, "Spend__n_1d": "int64"}, event_timestamp="paid_at")
    training = TrainingSet("t", spine=spine, service=FeatureService("s", joins=(Join(windowed(COUNT)),)), label=Label("Spend__n_1d", "1d"))
    assert message(training) == "training set t: the column 'Spend__n_1d' of its spine labels is also a feature of s; rename it"


def training_with(group: FeatureGroup | TransformGroup, *features: str, spine: Source = PAYMENTS, horizon: str = "30d") -> TrainingSet:
    return TrainingSet("t", spine=spine, service=FeatureService("s", joins=(Join(group, features),)), label=Label("fraud", horizon))


@pytest.mark.parametrize(
    ("group", "reader"),
    [
        (windowed(Feature("x", "count", where="fraud", windows=("1d",))), "spend.x"),
        (windowed(Feature("x", "max", "fraud and amount > 1", windows=("1d",))), "spend.x"),
        (windowed(COUNT, where="not fraud"), "where of spend"),
        (windowed(Feature("x", "count", where="fraud", windows=("1d",)), Derived("d", "x_1d + 1")), "spend.x"),
    ],
)
def test_a_label_is_not_read_by_its_own_features_before_its_horizon(group: WindowedGroup, reader: str) -> None:
    assert message(training_with(group)) == (
        f"training set t: the label 'fraud' is among its own features: {reader} reads it, and it is known only 30d after its event; "
        "remove it, or give spend publish_delay='30d'"
    )


def test_a_label_may_be_read_by_features_that_are_published_after_its_horizon() -> None:
    group = windowed(Feature("x", "count", where="fraud", windows=("1d",)), delay="30d")
    assert messages(training_with(group)) == []
    assert messages(training_with(group, horizon="31d")) != []


def test_a_label_read_by_a_derived_column_that_is_joined_alone_is_found() -> None:
    group = windowed(
        COUNT, Feature("x", "count", where="fraud", windows=("1d",)), Derived("share", "x_1d / n_1d"), Derived("two", "share * 2")
    )
    assert "spend.x reads it" in message(training_with(group, "two"))
    assert messages(training_with(group, "n")) == []


def test_a_label_of_another_source_may_be_read() -> None:
    group = windowed(Feature("x", "count", where="fraud", windows=("1d",)))
    assert messages(training_with(group, spine=Source("labels", columns=COLUMNS, event_timestamp="paid_at"))) == []


def test_a_label_is_not_read_by_an_observation_group_of_its_own_source() -> None:
    assert message(training_with(observed(where="fraud"))) == (
        "training set t: the label 'fraud' is among its own features: where of seen reads it; remove it"
    )


# ----------------------------------------------------------------------------------------------------- what is said of intervals


def test_an_interval_may_be_expected_to_be_like_others() -> None:
    group = windowed(
        Feature("spent", "sum", "amount", windows=("1d",), expect=(mean_between(0, 9), quantile_between(0.5, 0, 9), unique())),
        expect=(row_count(1, change=0.5), expression("spent_1d > 0")),
    )
    assert messages(group, observed(expect=(row_count(1),))) == []


@pytest.mark.parametrize(
    ("expect", "end"),
    [
        (row_count(1), "expects row_count(at_least=1), which is about an interval and no column; write it at the group"),
        (
            mean_between(0, 1),
            "expects mean_between(0, 1) of x_1d, which is a string; it needs a number; write an expression(...) that says",
        ),
        (quantile_between(0.5, 0, 1), "expects quantile_between(0.5, 0, 1) of x_1d, which is a string; it needs a number"),
    ],
)
def test_what_is_said_of_an_interval_must_fit_the_column(expect: Expectation, end: str) -> None:
    assert message(windowed(Feature("x", "last", "kind", windows=("1d",), expect=(expect,)))).startswith(f"spend.x: {end}")


@pytest.mark.parametrize(
    ("expect", "start"),
    [
        (
            mean_between(0, 1),
            "expects mean_between(0, 1) of no column; write expression('x between 0 and 1') here, or mean_between(0, 1) at",
        ),
        (quantile_between(0.5, 0, 1), "expects quantile_between(0.5, 0, 1) of no column; write expression('x between 0 and 1') here"),
        (unique(), "expects unique() of no column; write the columns that make a row unique as the source's id here, or unique() at the"),
    ],
)
def test_what_is_said_of_a_column_is_not_said_of_a_whole_group(expect: Expectation, start: str) -> None:
    assert message(windowed(COUNT, expect=(expect,))).startswith(f"group spend: {start}")


def test_a_source_has_no_intervals_to_count_rows_in() -> None:
    source = Source("payments", columns=COLUMNS, event_timestamp="paid_at", expect=(row_count(1),))
    assert message(source) == (
        "source payments: expects row_count(at_least=1), but a source has no intervals; write it at a group that reads payments"
    )


# -------------------------------------------------------------------------------------------------------------------- features


def arrayed() -> Source:
    return Source("events", columns={**COLUMNS, "tags": "array<string>"}, event_timestamp="paid_at")


@pytest.mark.parametrize(("aggregation", "asked"), [("variance", {}), ("quantile", {"q": 0.5})])
def test_only_numbers_have_a_variance_and_quantiles(aggregation: str, asked: dict[str, float]) -> None:
    text = message(windowed(Feature("x", aggregation, "upper(kind)", windows=("1d",), q=asked.get("q"))))
    assert text == f"spend.x: {aggregation} of 'upper(kind)', which is a string; it needs a number: cast it, like cast(x as double)"


@pytest.mark.parametrize("aggregation", ["min", "max", "count_distinct", "approx_count_distinct", "mode", "top_k", "last_n"])
def test_an_array_is_neither_compared_nor_put_into_another(aggregation: str) -> None:
    k = 3 if aggregation in ("top_k", "last_n") else None
    group = WindowedGroup(
        "g", entity=CUSTOMER, source=arrayed(), ttl="2d", features=(Feature("x", aggregation, "tags", windows=("1d",), k=k),)
    )
    assert message(group) == f"g.x: {aggregation} of 'tags', which is an array<string>; read an element, like tags[0], or size(tags)"


def test_arrays_are_counted_and_handed_on_whole() -> None:
    features = tuple(Feature(name, name, "tags", windows=("1d",)) for name in ("count", "first", "last", "time_since_last"))
    group = WindowedGroup("g", entity=CUSTOMER, source=arrayed(), ttl="2d", features=features)
    assert messages(group, windowed(Feature("x", "top_k", "kind", windows=("1d",), k=3), Derived("best", "x_1d[0]"))) == []


def test_a_derived_column_does_not_read_an_age() -> None:
    group = windowed(Feature("since", "time_since_last", windows=("1d",)), Derived("hours", "since_1d / 3600"))
    assert (
        "spend.hours: 'since_1d / 3600' reads 'since_1d', which is known only when somebody asks; a Derived is computed with the row"
        in (messages(group))
    )


def test_a_condition_beside_by_is_told_as_it_was_written() -> None:
    group = windowed(Feature("x", "count", where="amnt > 3", by={"kind": ("a", "b")}, windows=("1d",)))
    assert message(group).startswith("spend.x: where: 'amnt > 3' reads 'amnt', which payments does not have")


# ------------------------------------------------------------------------------------------------------------- derived columns


def deriving(expect: tuple[Expectation, ...] = (), **derive: str) -> Source:
    lagging = any("prev." in sql for sql in derive.values())
    lag: dict[str, Any] = {"lag_over": "customer_id", "lag_within": "10d"} if lagging else {}
    return Source("payments", columns=COLUMNS, event_timestamp="paid_at", derive=derive, expect=expect, **lag)


def test_derived_columns_are_read_wherever_the_sources_own_are() -> None:
    source = deriving(net="amount * 0.8", change="net - prev.amount", expect=(expression("net < 100"),))
    group = WindowedGroup(
        "spend", entity=CUSTOMER, source=source, ttl="2d", where="net > 0",
        features=(Feature("x", "sum", "change", where="change > 0", windows=("1d",)),),
    )  # fmt: skip
    seen = ObservationGroup(
        "seen", entity=CUSTOMER, source=source, columns=("net", "change"), ttl="2d", expect=(expression("change < net"),)
    )
    assert messages(source, group, seen) == []


@pytest.mark.parametrize(
    ("derive", "start"),
    [
        ({"x": "amnt * 2"}, "derive x: 'amnt * 2' reads 'amnt', which is not there. Did you mean 'amount'? There are: amount, customer_id"),
        ({"x": "kind * 2"}, "derive x: 'kind * 2': * needs numbers, not a string"),
        ({"x": "x + 1"}, "derive x: 'x + 1' reads itself; name the columns that it is derived from"),
        ({"x": "y + 1", "y": "amount"}, "derive x: 'y + 1' reads 'y', which is derived below it; move that up"),
        ({"x": "amount", "y": "prev.x"}, "derive y: 'prev.x' reads 'prev.x', which is derived; prev reads the columns that the source has"),
        ({"x": "prev.amnt"}, "derive x: 'prev.amnt' reads 'prev.amnt', which is not there."),
        ({"x": "rand()"}, "derive x: 'rand()': rand() is not among the functions"),
        ({"x": "sum(amount)"}, "derive x: 'sum(amount)': sum() is of many rows"),
        ({"x": "null"}, "derive x: 'null' is always null; name a column"),
    ],
)
def test_a_wrong_derived_column_is_told_once_at_its_source(derive: dict[str, str], start: str) -> None:
    source = deriving(**derive)
    group = WindowedGroup(
        "spend", entity=CUSTOMER, source=source, ttl="2d", features=(Feature("s", "sum", "x", where="x > 1", windows=("1d",)),)
    )
    assert message(source, group).startswith(f"source payments: {start}")


def test_rows_are_judged_as_they_arrive_without_the_row_before() -> None:
    source = deriving(change="amount - prev.amount", large="change > 9", expect=(expression("amount > 0 or large"),))
    assert message(source) == (
        "source payments: expects expression('amount > 0 or large'): 'large' rests on the row before, and rows are judged one by one as "
        "they arrive; write it at a group"
    )


# ------------------------------------------------------------------------------------------------------- queries and transforms


def queried(sql: str) -> Source:
    return Source(
        "large", Query(sql, sources=(PAYMENTS,)), columns={"customer_id": "int64", "paid_at": "timestamp"}, event_timestamp="paid_at"
    )


@pytest.mark.parametrize(
    ("sql", "start"),
    [
        ("select customer_id, paid_at from payments where amount > 9", None),
        ("select customer_id from payments", "the query gives no column 'paid_at', which is declared. It gives: customer_id"),
        (
            "select customer_id, paid_at at from payments",
            "the query gives no column 'paid_at', which is declared. It gives: customer_id, at",
        ),
        ("select customer_id, paid_at from payment", "the query 'select customer_id, paid_at from payment' reads 'payment', which is not"),
        ("select customer_id, paid_at from payments limit 3", "the query 'select customer_id, paid_at from payments limit 3' has a LIMIT"),
    ],
)
def test_a_query_gives_the_columns_that_are_declared(sql: str, start: str | None) -> None:
    found = messages(PAYMENTS, queried(sql))
    assert found == [] if start is None else [text.startswith(f"source large: {start}") for text in found] == [True]


def transforming(sql: str | None, *inputs: Source | FeatureGroup | TransformGroup, **changes: Any) -> TransformGroup:
    how: dict[str, Any] = {"sql": sql} if sql else {"function": lambda frame: frame}
    return TransformGroup("risk", CUSTOMER, inputs or (PAYMENTS,), lookback="7d", schema={"score": "double"}, ttl="40d", **how, **changes)


def test_a_transform_reads_sources_and_the_published_rows_of_groups() -> None:
    spend = windowed(SPEND)
    sql = (
        "select s.customer_id, sum(s.spent_1d) + count(p.id) score from spend s join payments p using (customer_id) group by s.customer_id"
    )
    first = transforming(sql, spend, PAYMENTS, expect=(expression("score >= 0 and customer_id > 0"),))
    over = TransformGroup(
        "over", CUSTOMER, (first,), sql="select customer_id, max(score) x from risk where event_timestamp > '2020-01-01' group by 1",
        lookback="7d", schema={"x": "double"}, ttl="40d",
    )  # fmt: skip
    assert messages(PAYMENTS, spend, first, over, transforming(None)) == []


@pytest.mark.parametrize(
    ("sql", "start"),
    [
        (
            "select customer_id, 1.0 points from payments",
            "the query gives no column 'score', which is declared. It gives: customer_id, points",
        ),
        ("select amount score from payments", "the query gives no column 'customer_id', which is declared"),
        ("select customer_id, now() score from payments", "'select customer_id, now() score from payments': now() reads the clock"),
        (
            "select customer_id, amnt score from payments",
            "the query 'select customer_id, amnt score from payments': Column 'amnt' could not",
        ),
    ],
)
def test_a_wrong_transform_is_told(sql: str, start: str) -> None:
    assert message(transforming(sql)).startswith(f"group risk: {start}")


def test_what_is_wrong_with_an_input_is_told_there_alone() -> None:
    source = deriving(x="amnt * 2")
    large = Source("large", Query("select paid_at, x from payments", sources=(source,)), {"paid_at": "timestamp"}, "paid_at")
    group = windowed(Feature("x", "sum", "amnt * 2", windows=("1d",)))
    wrong = messages(
        source, large, group, transforming("select customer_id, x score from payments join spend using (customer_id)", source, group)
    )
    assert [text.partition(":")[0] for text in wrong] == ["source payments", "spend.x"]


def test_the_expectations_of_a_transform_are_read() -> None:
    group = transforming(None, expect=(expression("points > 0"), row_count(1)))
    assert message(group).startswith("group risk: expects expression('points > 0'): 'points > 0' reads 'points', which risk does not have")


# ---------------------------------------------------------------------------------------------------------- defaults and labels


def test_defaults_are_values_of_their_columns_as_readers_see_them() -> None:
    group = windowed(
        COUNT,
        Feature("kind", "last", "kind", windows=("1d",)),
        Feature("since", "time_since_last", windows=("1d",)),
        Feature("cents", "sum", "cast(amount as decimal(12,2))", windows=("1d",)),
        Feature("at", "max", "paid_at", windows=("1d",)),
        Feature("day", "max", "date(paid_at)", windows=("1d",)),
        Feature("best", "top_k", "kind", windows=("1d",), k=2),
    )
    fits: dict[str, object] = {
        "n_1d": 0,
        "kind_1d": "",
        "since_1d": 1e9,
        "cents_1d": Decimal("0.00"),
        "at_1d": datetime(2020, 1, 1, tzinfo=UTC),
        "day_1d": date(2020, 1, 1),
        "best_1d": ("a",),
    }
    assert messages(group, FeatureService("s", joins=(Join(group),), defaults={f"spend__{name}": v for name, v in fits.items()})) == []
    misfits: dict[str, object] = {
        "n_1d": "0",
        "kind_1d": 0,
        "since_1d": datetime(2020, 1, 1, tzinfo=UTC),
        "cents_1d": "0.00",
        "at_1d": datetime(2020, 1, 1),  # noqa: DTZ001
        "day_1d": datetime(2020, 1, 1, tzinfo=UTC),
        "best_1d": (1,),
    }
    for name, value in misfits.items():
        wrong = FeatureService("s", joins=(Join(group),), defaults={f"spend__{name}": value})
        assert message(group, wrong).startswith(f"service s: the default {value!r} of spend__{name} can never be its value, which is a")
    inexact = FeatureService("s", joins=(Join(group),), defaults={"spend__cents_1d": 0.001})
    assert message(group, inexact).startswith("service s: spend__cents_1d: the default 0.001 does not fit a decimal(")


def test_what_is_wrong_with_a_group_is_not_told_again_of_its_defaults_and_labels() -> None:
    group = windowed(Feature("x", "sum", "amnt * 2", where="rand() > 0.5", windows=("1d",)))
    service = FeatureService("s", joins=(Join(group),), defaults={"spend__x_1d": "none"})
    training = TrainingSet("t", spine=PAYMENTS, service=service, label=Label("fraud", "30d"))
    assert [text.partition(":")[0] for text in messages(group, service, training)] == ["spend.x", "spend.x"]


def test_a_label_is_found_below_derived_columns() -> None:
    source = deriving(risky="fraud and amount > 9", riskier="risky or prev.fraud")
    group = WindowedGroup(
        "spend", entity=CUSTOMER, source=source, ttl="40d", features=(Feature("x", "count", where="riskier", windows=("1d",)),)
    )
    assert "spend.x reads it" in message(training_with(group, spine=source))
    seen = ObservationGroup("seen", entity=CUSTOMER, source=source, columns=("riskier", "amount"), ttl="2d")
    assert "seen.riskier reads it; remove it" in message(training_with(seen, spine=source))
    assert messages(training_with(seen, "amount", spine=source)) == []


def test_a_label_is_found_among_the_values_of_a_feature() -> None:
    source = Source("payments", columns={**COLUMNS, "fraud": "string"}, event_timestamp="paid_at")
    group = WindowedGroup(
        "spend", entity=CUSTOMER, source=source, ttl="40d", features=(Feature("x", "count", by={"fraud": ("yes",)}, windows=("1d",)),)
    )
    assert "spend.x reads it" in message(training_with(group, spine=source))


def test_a_label_is_found_behind_queries_and_transforms() -> None:
    source = queried("select customer_id, paid_at from payments where fraud")
    seen = WindowedGroup("seen", entity=CUSTOMER, source=source, ttl="40d", features=(COUNT,))
    assert "the query large reads it" in message(training_with(seen))
    twice = Source("larger", Query("select customer_id, paid_at from large", sources=(source,)), source.columns, "paid_at")
    assert "the query large reads it" in message(training_with(transforming("select customer_id, 1.0 score from larger", twice)))
    reading = transforming("select customer_id, count(*) score from payments where fraud group by 1")
    assert "risk reads it, and it is known only 30d after its event; remove it, or give risk publish_delay='30d'" in (
        message(training_with(reading))
    )
    assert "risk reads it" in message(training_with(transforming(None)))
    assert messages(training_with(transforming("select customer_id, count(*) score from payments group by 1"))) == []
    late = transforming(None, publish_delay="30d")
    assert messages(training_with(late)) == []
    below = TransformGroup("top", CUSTOMER, (reading,), function=len, lookback="7d", schema={"y": "double"}, ttl="40d")
    assert "risk reads it" in message(training_with(below))


# ------------------------------------------------------------------------------------------------------------------------ files


SOURCES = """\
from feature_definitions import *
customer = Entity("customer", keys={"customer_id": "int64"})
payments = Source(
    "payments",
    columns={"customer_id": "int64", "amount": "double", "kind": "string", "paid_at": "timestamp"},
    event_timestamp="paid_at",
)
"""
GROUP = """
from feature_definitions import *
from .sources import customer, payments
{name} = WindowedGroup(
    "{name}",
    entity=customer,
    source=payments,
    ttl="2d",
    where="amount is not null",
    features=(
        Feature("spend", "sum", "{of}", windows=("1d", "7d", "30d"), expect=(at_least(0),)),
        Feature("large", "count", where="amount > 100 and kind in ('a', 'b')", windows=("1d", "7d", "30d")),
        Feature("logs", "mean", "ln(abs(amount) + 1)", windows=("1d", "7d", "30d")),
        Derived("ratio", "spend_7d / nullif({column}, 0)"),
    ),
    expect=(expression("spend_1d <= spend_7d + 1 or ratio > 0"),),
)
s_{name} = FeatureService("s_{name}", joins=(Join({name}),))
"""


def write(folder: Path, **groups: str) -> Path:
    folder.mkdir()
    (folder / "sources.py").write_text(SOURCES)
    for name, text in groups.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def test_each_mistake_has_the_line_of_its_feature(tmp_path: Path) -> None:
    wrong = GROUP.format(name="spend", of="amnt * 1", column="large_8d")
    folder = write(tmp_path / "catalog", spend=wrong)
    with pytest.raises(CatalogError) as refused:
        checked(folder)
    assert [(m.file, m.line) for m in refused.value.mistakes] == [(folder / "spend.py", 11), (folder / "spend.py", 14)]
    first, second = str(refused.value).splitlines()
    assert first.startswith(
        f"{folder / 'spend.py'}:11: spend.spend: 'amnt * 1' reads 'amnt', which payments does not have. Did you mean 'amount'?"
    )
    assert second.startswith(
        f"{folder / 'spend.py'}:14: spend.ratio: 'spend_7d / nullif(large_8d, 0)' reads 'large_8d', which spend does not"
    )


def test_a_file_that_can_not_be_loaded_is_told_before_anything_is_checked(tmp_path: Path) -> None:
    folder = write(tmp_path / "catalog", spend=GROUP.format(name="spend", of="amnt * 1", column="large_7d"), broken="1 / 0")
    with pytest.raises(CatalogError, match=r"broken\.py:1: ZeroDivisionError") as refused:
        checked(folder)
    assert len(refused.value.mistakes) == 1


def test_the_check_of_fifty_groups_makes_ten_times_the_calls_of_five(tmp_path: Path) -> None:
    def made(count: int) -> int:
        groups = {f"g{i}": GROUP.format(name=f"g{i}", of="amount * 2", column="large_7d") for i in range(count)}
        folder = write(tmp_path / f"catalog_{count}", **groups)
        assert len(checked(folder).groups) == count
        return counted.calls(lambda: checked(folder))

    assert made(50) < 11 * made(5)


def test_the_catalog_of_the_demo_holds() -> None:
    catalog = checked(Path(__file__).parents[2] / "feature_definitions" / "catalog")
    assert set(catalog.groups) >= {"carrier_delays", "origin_congestion", "aircraft_history", "weather_at_origin", "plane_attributes"}


def test_every_feature_that_does_not_fit_its_group_is_told_at_its_line(tmp_path: Path) -> None:
    wrong = GROUP.format(name="spend", of="amnt", column="large_7d").replace('("1d", "7d", "30d")', '("36h",)', 1)
    folder = write(tmp_path / "catalog", spend=wrong.replace('"mean", "ln(abs(amount) + 1)"', '"mean", "kind"'))
    with pytest.raises(CatalogError) as refused:
        checked(folder)
    assert [(m.line, m.message) for m in refused.value.mistakes] == [
        (11, "spend.spend: the window '36h' is not a multiple of the cadence '1d'"),
        (11, "spend.spend: there is no column 'amnt'. payments has: amount, customer_id, kind, paid_at. Did you mean 'amount'?"),
        (13, "spend.logs: mean of 'kind', which is a string; it needs a number"),
    ]


def test_what_is_wrong_when_definitions_meet_is_left_out_with_what_rests_on_it(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        """from feature_definitions import Entity, Feature, FeatureService, Join, Source, WindowedGroup
customer = Entity("customer", keys={"customer_id": "int64"})
columns = {"customer_id": "int64", "amount": "double", "at": "timestamp"}
payments = Source("payments", columns=columns, event_timestamp="at")
broken = Source("broken", columns=columns, event_timestamp="at", derive={"x": "amount + nothing"})
spend = WindowedGroup("spend", customer, payments, ttl="2d", features=(Feature("n", "count", windows=("1d",)),))
wrong = WindowedGroup("wrong", customer, broken, ttl="2d", features=(Feature("n", "count", windows=("1d",)),))
good_v1 = FeatureService("good_v1", joins=(Join(spend),))
bad_v1 = FeatureService("bad_v1", joins=(Join(spend), Join(wrong)))
""",
        encoding="utf-8",
    )
    found = checked_sound(tmp_path)
    assert (set(found.sources), set(found.tables), set(found.services)) == ({"payments"}, {"spend"}, {"good_v1"})
    assert [(mistake.line, "nothing" in mistake.message) for mistake in found.left_out] == [(5, True)]
