"""Checking a whole catalog: each mistake with its file, its line, and what to write instead."""

from __future__ import annotations

import time
from pathlib import Path

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
    SnapshotGroup,
    Source,
    TrainingSet,
    WindowedGroup,
    at_least,
    at_most,
    between,
    expression,
    not_null,
    one_of,
)
from feature_definitions.check import check, checked
from feature_definitions.loader import Catalog, CatalogError, Place

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


def catalog_of(*definitions: Source | FeatureGroup | FeatureService | TrainingSet) -> Catalog:
    """A catalog in memory, whose definitions are written on lines 1, 2, ... of one file."""
    kinds = {Source: "source", FeatureService: "service", TrainingSet: "training set"}
    groups = [d for d in definitions if isinstance(d, FeatureGroup)]
    return Catalog(
        entities={CUSTOMER.name: CUSTOMER},
        sources={d.name: d for d in definitions if isinstance(d, Source)},
        groups={g.name: g for g in groups},
        services={d.name: d for d in definitions if isinstance(d, FeatureService)},
        training_sets={d.name: d for d in definitions if isinstance(d, TrainingSet)},
        origins={(kinds.get(type(d), "group"), d.name): Place(Path("all.py"), line) for line, d in enumerate(definitions, start=1)},
    )


def messages(*definitions: Source | FeatureGroup | FeatureService | TrainingSet) -> list[str]:
    return [mistake.message for mistake in check(catalog_of(*definitions))]


def message(*definitions: Source | FeatureGroup | FeatureService | TrainingSet) -> str:
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
        "spend.d: 'amount / n_1d' reads 'amount', a column of payments; a Derived reads the group's own features: n_1d, n_30d, d"
    )
    assert "reads 'customer_id', a column of payments" in message(windowed(COUNT, Derived("d", "customer_id + 1")))


def test_an_unknown_name_in_a_derived_column_is_named_with_the_closest() -> None:
    assert message(windowed(COUNT, Derived("d", "n_1d / n_31d"))) == (
        "spend.d: 'n_1d / n_31d' reads 'n_31d', which spend does not have. Did you mean 'n_1d' or 'n_30d'? It has: n_1d, n_30d, d"
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


def test_a_spines_column_may_not_be_an_output() -> None:
    spine = Source("labels", columns={**COLUMNS, "Spend__n_1d": "int64"}, event_timestamp="paid_at")
    training = TrainingSet("t", spine=spine, service=FeatureService("s", joins=(Join(windowed(COUNT)),)), label=Label("Spend__n_1d", "1d"))
    assert message(training) == "training set t: the column 'Spend__n_1d' of its spine labels is also a feature of s; rename it"


def training_with(group: FeatureGroup, *features: str, spine: Source = PAYMENTS, horizon: str = "30d") -> TrainingSet:
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


def test_fifty_groups_are_checked_within_a_second(tmp_path: Path) -> None:
    groups = {f"g{i}": GROUP.format(name=f"g{i}", of="amount * 2", column="large_7d") for i in range(50)}
    folder = write(tmp_path / "catalog", **groups)

    def seconds() -> float:
        start = time.process_time()
        assert len(checked(folder).groups) == 50
        return time.process_time() - start

    assert min(seconds() for _ in range(3)) < 1


def test_the_catalog_of_the_demo_holds() -> None:
    catalog = checked(Path(__file__).parents[2] / "feature_definitions" / "catalog")
    assert set(catalog.groups) >= {"carrier_delays", "origin_congestion", "aircraft_history", "weather_at_origin", "plane_attributes"}
