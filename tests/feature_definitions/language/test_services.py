"""The definition language: what is built is valid, and every refusal says what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

import feature_definitions
from feature_definitions import (
    DefinitionError,
    DeltaTable,
    Derived,
    Entity,
    Expectation,
    Feature,
    FeatureService,
    Files,
    Join,
    Label,
    ObservationGroup,
    Query,
    Rows,
    SnapshotGroup,
    Source,
    Table,
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

COLUMNS = {"customer_id": "int64", "amount": "double", "kind": "string", "paid_at": "timestamp", "id": "string"}
CUSTOMER = Entity("customer", keys={"customer_id": "int64"})
COUNT = Feature("n", "count", windows=("1d", "7d"))


def source(**changes: Any) -> Source:
    return Source(**{"name": "payments", "columns": COLUMNS, "event_timestamp": "paid_at", **changes})


def static_source(**changes: Any) -> Source:
    return Source(
        **{"name": "people", "columns": {"customer_id": "int64", "age": "int64"}, "shape": "static", "id": ("customer_id",), **changes}
    )


def windowed(**changes: Any) -> WindowedGroup:
    return WindowedGroup(**{"name": "spend", "entity": CUSTOMER, "source": source(), "ttl": "2d", "features": (COUNT,), **changes})


def observed(**changes: Any) -> ObservationGroup:
    return ObservationGroup(
        **{"name": "seen", "entity": CUSTOMER, "source": source(), "ttl": "2d", "columns": ("amount", "kind"), **changes}
    )


def static(**changes: Any) -> SnapshotGroup:
    given = {"name": "person", "entity": CUSTOMER, "source": static_source(), "columns": ("age",), "assume_always_known": True}
    return SnapshotGroup(**{**given, **changes})


def service(**changes: Any) -> FeatureService:
    return FeatureService(**{"name": "fraud", "joins": (Join(windowed()),), **changes})


def training(**changes: Any) -> TrainingSet:
    return TrainingSet(**{"name": "train", "spine": source(), "service": service(), **changes})


def refuses(make: Callable[[], object], message: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        make()
    assert message in str(refused.value)


# --------------------------------------------------------------------------------------------------------------- what is built


def test_every_word_of_the_language_can_be_imported_from_the_package() -> None:
    words = (
        "Entity Source Files DeltaTable Table Query Feature Derived WindowedGroup ObservationGroup SnapshotGroup TransformGroup "
        "OnDemandFeature Join FeatureService Label TrainingSet Rows at_least at_most between one_of not_null expression "
        "row_count mean_between quantile_between unique"
    )
    assert set(words.split()) <= set(feature_definitions.__all__)
    assert all(hasattr(feature_definitions, name) for name in feature_definitions.__all__)


def test_a_definition_can_not_be_changed() -> None:
    group = windowed()
    with pytest.raises(AttributeError):
        group.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        group.source.columns["new"] = "string"  # type: ignore[index]
    with pytest.raises(TypeError):
        group.entity.keys["new"] = "string"  # type: ignore[index]


def test_changing_the_mapping_that_was_given_changes_nothing() -> None:
    keys = {"customer_id": "int64"}
    entity = Entity("customer", keys)
    keys["other"] = "string"
    assert dict(entity.keys) == {"customer_id": "int64"}


def test_equal_definitions_are_equal() -> None:
    assert windowed() == windowed()
    assert windowed() != windowed(ttl="3d")


def test_types_may_be_written_with_spaces() -> None:
    assert source(columns={**COLUMNS, "price": "decimal(12, 2)"}).columns["price"] == "decimal(12,2)"


def test_one_value_may_stand_for_a_tuple_of_one() -> None:
    feature = Feature("n", "count", windows="1d", expect=at_least(0))  # type: ignore[arg-type]
    group = windowed(features=feature, tags="a", expect=[expression("n_1d > 0")])
    assert (feature.windows, feature.expect, group.features, group.tags) == (("1d",), (at_least(0),), (feature,), ("a",))
    assert source(id="id").id == ("id",)
    assert service(joins=windowed()).joins == (Join(windowed()),)


def test_each_window_of_a_feature_is_a_column() -> None:
    group = windowed(features=(Feature("n", "count", windows=("1d", " 7d ")), Derived("share", "n_1d / n_7d")))
    assert group.outputs == ("n_1d", "n_7d", "share")
    assert (group.longest, group.cadence) == (timedelta(days=7), timedelta(days=1))


def test_groups_without_windows_show_the_columns_they_name() -> None:
    assert observed().outputs == ("amount", "kind")
    assert static().outputs == ("age",)
    assert observed(every="1h").cadence == timedelta(hours=1)
    assert (observed().longest, static().longest) == (timedelta(0), timedelta(0))


@pytest.mark.parametrize("window", ["5m", "90d", "129600m", "12w"])
def test_windows_are_five_minutes_to_ninety_days(window: str) -> None:
    assert windowed(every="5m", features=(Feature("n", "count", windows=(window,)),)).outputs == (f"n_{window}",)


@pytest.mark.parametrize("every", ["5m", "10m", "15m", "90m", "1h", "6h", "8h", "1d", "24h"])
def test_a_cadence_divides_a_day(every: str) -> None:
    assert observed(every=every).every == every


def test_a_join_names_features_or_columns() -> None:
    group = windowed(features=(COUNT, Feature("spent", "sum", "amount", windows=("1d",)), Derived("share", "n_1d / n_7d")))
    assert Join(group).columns == ("n_1d", "n_7d", "spent_1d", "share")
    assert Join(group, "n").outputs == ("spend__n_1d", "spend__n_7d")  # type: ignore[arg-type]
    assert Join(group, ("share", "n_7d", "n")).columns == ("share", "n_7d", "n_1d")


def test_one_group_may_be_joined_twice_under_two_prefixes() -> None:
    joins = (Join(windowed(), prefix="payer"), Join(windowed(), "n_1d", prefix="payee", on={"customer_id": "payee_id"}))  # type: ignore[arg-type]
    both = service(joins=joins)
    assert both.outputs == ("payer__n_1d", "payer__n_7d", "payee__n_1d")
    assert dict(both.keys) == {"customer_id": "int64", "payee_id": "int64"}


def test_a_composite_entity_keeps_the_order_of_its_keys() -> None:
    pair = Entity("pair", keys={"b": "string", "a": "int64"})
    group = windowed(entity=pair, source=source(columns={**COLUMNS, "a": "int64", "b": "string"}))
    assert Join(group, on={"a": "item"}).keys == ("b", "item")


def test_an_expectation_is_named_by_the_call_that_made_it() -> None:
    made = [at_least(0), at_most(1.5), between(0, 1), one_of("a", "b"), not_null(0.9), expression("a < b")]
    assert [str(e) for e in made] == [
        "at_least(0)",
        "at_most(1.5)",
        "between(0, 1)",
        "one_of('a', 'b')",
        "not_null(0.9)",
        "expression('a < b')",
    ]
    assert [e.severity for e in (at_least(0), at_least(0, severity="warning"))] == ["critical", "warning"]
    assert one_of(["a", "b"]) == one_of("a", "b")
    assert not_null() == not_null(1.0)


# ------------------------------------------------------------------------------------------------------------------- the parts


def counted(**changes: Any) -> Feature:
    return Feature(**{"name": "f", "aggregation": "count", "windows": ("1d",), **changes})


USES: dict[str, Callable[[], object]] = {
    **{name: lambda name=name: counted(aggregation=name, of="amount") for name in ("variance", "approx_count_distinct", "mode")},
    **{name: lambda name=name: counted(aggregation=name, of="amount", k=3) for name in ("top_k", "last_n")},
    "quantile": lambda: counted(aggregation="quantile", of="amount", q=0.5),
    "time_since_last": lambda: counted(aggregation="time_since_last"),
    "windows over 90d": lambda: counted(windows=("91d",)),
    "lifetime windows": lambda: counted(windows=("lifetime",)),
    "Rows windows": lambda: counted(windows=("1d", Rows(20, within="90d"))),
    "by": lambda: counted(by={"kind": ("a", "b")}),
    "array types": lambda: source(columns={**COLUMNS, "tags": "array<string>"}),
    "derive": lambda: source(derive={"double_amount": "amount * 2"}),
    "lag": lambda: source(derive={"change": "amount - prev.amount"}, lag_over=("customer_id",), lag_within="10d"),
    "JSON lines": lambda: Files("data/*.json", format="json"),
    "DeltaTable": lambda: DeltaTable("data/payments"),
    "Table": lambda: Table("sales.payments"),
    "Query": lambda: Query("SELECT id FROM payments", sources=(source(),)),
    "dated snapshots": lambda: source(shape="snapshots", id=("id",)),
    "TransformGroup": lambda: TransformGroup(
        "g", CUSTOMER, (source(),), sql="SELECT 1", lookback="7d", schema={"score": "double"}, ttl="2d"
    ),
    "defaults": lambda: service(defaults={"spend__n_1d": 0}),
    "row_count": lambda: windowed(expect=(row_count(1),)),
    "mean_between": lambda: counted(expect=(mean_between(0, 1),)),
    "quantile_between": lambda: counted(expect=(quantile_between(0.5, 0, 1),)),
    "unique": lambda: counted(expect=(unique(),)),
    "hold_below": lambda: windowed(hold_below=0.01),
    "retain": lambda: observed(retain="30d"),
    "online": lambda: observed(online=False),
    "warnings": lambda: windowed(warnings="approve"),
}
"""A definition for each part of the language that is not in the simplest group."""


@pytest.mark.parametrize("name", USES)
def test_each_part_of_the_language_can_be_said(name: str) -> None:
    assert USES[name]() is not None


def test_a_group_that_stays_offline_is_joined_by_services_that_do_too() -> None:
    group = observed(online=False)
    assert FeatureService("s", joins=(Join(group),), online=False).joins[0].group == group
    with pytest.raises(DefinitionError, match=f"service s is online, but {group.name} has online=False; write online=False here too"):
        FeatureService("s", joins=(Join(group),))


def test_a_training_set_may_be_read_as_it_was_served() -> None:
    assert training(mode="as_served").mode == "as_served"


# --------------------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: at_least("x"), "at_least takes a number, not 'x'"),  # type: ignore[arg-type]
        (lambda: at_most(True), "at_most takes a number, not True"),
        (lambda: at_least(float("nan")), "at_least takes a number, not nan"),
        (lambda: between(2, 1), "between(2, 1) accepts nothing; write the smaller bound first"),
        (lambda: not_null(1.1), "not_null(1.1) is not a share; write a number from 0 to 1"),
        (one_of, "one_of takes one or more numbers or strings, like one_of('EWR', 'JFK')"),
        (lambda: one_of(None), "one_of takes one or more numbers or strings"),
        (lambda: expression(" "), "expression takes a Spark SQL condition"),
        (lambda: at_least(0, severity="fatal"), "has the severity 'fatal'; write critical, warning or info"),  # type: ignore[arg-type]
    ],
)
def test_an_expectation_that_means_nothing_is_refused(make: Callable[[], object], message: str) -> None:
    refuses(make, message)


@pytest.mark.parametrize(
    "name", ["", "Spend", "1st", "spend-1", "spend 1", "_x", "x" * 64, "spénd", None, 3], ids=lambda name: f"name {name!r:.12}"
)
def test_a_name_is_small_letters_digits_and_underscores(name: Any) -> None:
    makers: list[Callable[[], object]] = [
        lambda: Entity(name, keys={"k": "string"}),
        lambda: source(name=name),
        lambda: windowed(name=name),
        lambda: service(name=name),
        lambda: training(name=name),
        lambda: Feature(name, "count", windows=("1d",)),
        lambda: Derived(name, "a"),
    ]
    for make in makers:
        refuses(make, "write small letters, digits and _, starting with a letter")


def test_two_underscores_part_a_group_from_its_feature() -> None:
    refuses(lambda: windowed(name="a__b"), "two underscores part a group from its feature; write one")
    refuses(lambda: Join(windowed(), prefix="a__b"), "'a__b' cannot name a prefix")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Entity("e", keys={}), "entity e names no columns; write them with their types, like {'customer_id': 'int64'}"),
        (lambda: Entity("e", keys=["k"]), "entity e names no columns"),  # type: ignore[arg-type]
        (lambda: Entity("e", keys={"k": "double"}), "its key 'k' is a double; a key is a string, int64, date or boolean"),
        (lambda: Entity("e", keys={"k": "integer"}), "column 'k' has the type 'integer'; the types are string, int64, double"),
        (lambda: Entity("e", keys={"date": "date"}), "'date' is a column of every feature table; name the key differently"),
        (lambda: Entity("e", keys={"Date": "date"}), "'Date' is a column of every feature table; name the key differently"),
        (lambda: Entity("e", keys={"a b": "string"}), "'a b' cannot name a column"),
        (lambda: Entity("e", keys={"_hw_k": "string"}), "starts with _hw_, which is kept for Headwater's own columns"),
        (lambda: Entity("e", keys={"k": "string", "K": "string"}), "Spark does not tell capital from small letters; rename one"),
    ],
)
def test_a_wrong_entity_is_refused(make: Callable[[], object], message: str) -> None:
    refuses(make, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": {}}, "source payments names no columns"),
        (
            {"columns": {**COLUMNS, "x": "varchar"}},
            "column 'x' has the type 'varchar'; the types are string, int64, double, boolean, decimal(p,s)",
        ),
        ({"columns": {**COLUMNS, "x": "decimal(39,2)"}}, "a decimal has 1 to 38 digits"),
        ({"columns": {**COLUMNS, "x": "decimal(4,5)"}}, "cannot have more digits after the point than in all"),
        ({"columns": {**COLUMNS, "Amount": "double"}}, "has the column 'amount' twice"),
        ({"event_timestamp": None}, "has no event_timestamp; name the column that says when a row happened"),
        (
            {"event_timestamp": "payed_at"},
            "there is no time column 'payed_at'. source payments has: amount, customer_id, id, kind, paid_at",
        ),
        ({"event_timestamp": "kind"}, "'kind' says when, so its type is timestamp, not string"),
        ({"arrived_at": "amount"}, "'amount' says when, so its type is timestamp, not double"),
        ({"id": ("key",)}, "there is no id 'key'"),
        ({"ready_after": "soon"}, "ready_after: 'soon' is not a duration; write a whole number and a unit"),
        ({"timezone": "New York"}, "has the timezone 'New York'; write a name like 'UTC' or 'America/New_York'"),
        ({"timezone": "America"}, "has the timezone 'America'; write a name like"),
        (
            {"at": Files("d/*.csv")},
            "'paid_at' is a timestamp in a CSV file, which may be written without a zone; say where it was written down",
        ),
        ({"at": "d/*.csv"}, "lies at 'd/*.csv'; write at=Files('data/payments/*.csv', format='csv')"),
        ({"shape": "stream"}, "has the shape 'stream'; write 'events', 'snapshots' or 'static'"),
        ({"expect": ("amount > 0",)}, "source payments expects 'amount > 0'; write at_least(0), not_null(), expression('a <= b')"),
    ],
)
def test_a_wrong_source_is_refused(changes: dict[str, Any], message: str) -> None:
    refuses(lambda: source(**changes), message)


def test_a_csv_source_with_a_zone_or_without_times_is_taken() -> None:
    assert source(at=Files("d/*.csv"), timezone="Europe/Berlin").timezone == "Europe/Berlin"
    assert static_source(at=Files("d/*.csv")).timezone is None
    assert source(at=Files("d/*.parquet", format="parquet")).timezone is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": ()}, "is static: name the columns that make a row unique, like id=('tailnum',)"),
        ({"columns": COLUMNS, "event_timestamp": "paid_at"}, "is static, so it has no event_timestamp; remove it, or write shape='events'"),
    ],
)
def test_a_wrong_static_source_is_refused(changes: dict[str, Any], message: str) -> None:
    refuses(lambda: static_source(**changes), message)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Files(""), "Files needs a path"),
        (lambda: Files("x", format="orc"), "has the format 'orc'; write 'csv', 'parquet' or 'jsonl'"),
        (
            lambda: Feature("f", "summ", "amount", windows=("1d",)),
            "has the aggregation 'summ'; there are count, sum, mean, min, max, stddev, first",
        ),
        (lambda: Feature("f", "sum", windows=("1d",)), "sum of what? Name a column, like Feature('f', 'sum', 'amount')"),
        (lambda: Feature("f", "count"), "feature f has no windows; write windows=('1d', '7d')"),
        (lambda: Feature("f", "count", windows=("1day",)), "window: '1day' is not a duration"),
        (lambda: Feature("f", "count", windows=(7,)), "window: 7 is not a duration"),  # type: ignore[arg-type]
        (lambda: Feature("f", "count", windows=("4m",)), "has the window '4m'; windows are 5m to 730d long, or 'lifetime'"),
        (lambda: Feature("f", "count", windows=("731d",)), "has the window '731d'; windows are 5m to 730d long"),
        (lambda: Feature("f", "count", windows=("1d", "1d")), "has the window '1d' twice; remove one"),
        (lambda: Feature("f", "count", windows=("1d",), where=""), "feature f: where is ''; write a column or a Spark SQL expression"),
        (lambda: Feature("f", "sum", 3, windows=("1d",)), "feature f: of is 3; write a column or a Spark SQL expression"),  # type: ignore[arg-type]
        (lambda: Feature("f", "count", windows=("1d",), expect="x > 0"), "feature f expects 'x > 0'; write at_least(0)"),  # type: ignore[arg-type]
        (lambda: Derived("d", " "), "feature d is derived from nothing; write an expression, like 'spend_30d / payments_30d'"),
        (lambda: Derived("d", "a", expect=(0,)), "feature d expects 0; write at_least(0)"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_feature_is_refused(make: Callable[[], object], message: str) -> None:
    refuses(make, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"entity": "customer"}, "entity and source are values, like entity=customer, source=payments, not their names"),
        ({"source": "payments"}, "entity and source are values"),
        ({"entity": Entity("e", keys={"other": "string"})}, "there is no key of entity e 'other'"),
        ({"entity": Entity("e", keys={"id": "int64"})}, "the key 'id' has the type string in payments, int64 in e; write one type"),
        ({"every": "7h"}, "runs every '7h'; a cadence is 5m to 1d long and divides a day, like '5m', '1h', '6h' or '1d'"),
        ({"every": "2d"}, "a cadence is 5m to 1d long"),
        ({"every": "1m"}, "a cadence is 5m to 1d long"),
        ({"every": "daily"}, "every: 'daily' is not a duration"),
        ({"publish_delay": "1"}, "publish_delay: '1' is not a duration"),
        ({"restate_within": "x"}, "restate_within: 'x' is not a duration"),
        ({"where": " "}, "where is ' '; write a column or a Spark SQL expression"),
        ({"expect": ("a > 0",)}, "expects 'a > 0'; write at_least(0)"),
    ],
)
@pytest.mark.parametrize("make", [windowed, observed])
def test_a_wrong_group_is_refused(make: Callable[..., object], changes: dict[str, Any], message: str) -> None:
    refuses(lambda: make(**changes), message)


@pytest.mark.parametrize("make", [windowed, observed])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ttl": None}, "has no ttl; say how old a value may be when it is used, like ttl='2d'"),
        ({"ttl": "23h"}, "has the ttl '23h', shorter than its cadence '1d' and publish delay '0s': values would be out of date before"),
        ({"ttl": "1d", "publish_delay": "1s"}, "shorter than its cadence '1d' and publish delay '1s'"),
        ({"ttl": "long"}, "ttl: 'long' is not a duration"),
    ],
)
def test_a_value_lives_at_least_until_the_next_one(make: Callable[..., object], changes: dict[str, Any], message: str) -> None:
    refuses(lambda: make(**changes), message)
    assert make(ttl="1d")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": ()}, "group spend has no features; write features=(Feature('spend', 'sum', 'amount', windows=('7d',)),)"),
        ({"features": (Derived("d", "1"),)}, "group spend has no features"),
        ({"features": (COUNT, "spent")}, "group spend has the feature 'spent'; write Feature(...) or Derived(...)"),
        (
            {"features": (Feature("x", "sum", "amnt", windows=("1d",)),)},
            "spend.x: there is no column 'amnt'. payments has: amount, customer_id",
        ),
        ({"features": (Feature("x", "mean", "kind", windows=("1d",)),)}, "spend.x: mean of 'kind', which is a string; it needs a number"),
        ({"features": (Feature("x", "count", windows=("36h",)),)}, "spend.x: the window '36h' is not a multiple of the cadence '1d'"),
        ({"features": (COUNT, COUNT)}, "group spend has the output column 'n_1d' twice; rename one of the features"),
        ({"features": (COUNT, Derived("n_7d", "n_1d"))}, "has the output column 'n_7d' twice"),
        (
            {"features": (COUNT, Derived("held", "n_1d"))},
            "the output column 'held' is already a key or a column of every feature table; rename it",
        ),
        ({"features": (COUNT, Derived("customer_id", "n_1d"))}, "the output column 'customer_id' is already a key"),
        ({"source": static_source()}, "reads events, but people is static; write a SnapshotGroup"),
    ],
)
def test_a_wrong_windowed_group_is_refused(changes: dict[str, Any], message: str) -> None:
    refuses(lambda: windowed(**changes), message)


def test_a_column_collides_with_a_key_whatever_its_case() -> None:
    keyed = source(columns={**COLUMNS, "Kind_Id": "string"})
    entity = Entity("kind", keys={"Kind_Id": "string"})
    refuses(lambda: windowed(entity=entity, source=keyed, features=(COUNT, Derived("kind_id", "n_1d"))), "'kind_id' is already a key")
    dated = source(columns={**COLUMNS, "DATE": "date"})
    refuses(lambda: observed(source=dated, columns=("DATE",)), "'DATE' is already a key or a column of every feature table")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": ()}, "group seen has no columns; name those of payments that it shows, like columns=('temp',)"),
        ({"columns": ("temp",)}, "group seen: there is no column 'temp'. payments has: amount"),
        ({"columns": ("amount", "amount")}, "has the output column 'amount' twice"),
        ({"columns": ("customer_id",)}, "the output column 'customer_id' is already a key"),
        ({"source": static_source(), "columns": ("age",)}, "reads events, but people is static; write a SnapshotGroup"),
    ],
)
def test_a_wrong_observation_group_is_refused(changes: dict[str, Any], message: str) -> None:
    refuses(lambda: observed(**changes), message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"assume_always_known": False},
            "nobody knows when its rows became true; write assume_always_known=True if history may be read as",
        ),
        ({"ttl": "2d"}, "is static: its rows do not age, so it has no ttl; remove it"),
        (
            {"source": source(), "columns": ("amount",)},
            "needs a source of shape 'snapshots' or 'static', but payments has events; write an ObservationGroup",
        ),
        ({"source": "people"}, "entity and source are values"),
        ({"columns": ("name",)}, "there is no column 'name'. people has: age, customer_id"),
    ],
)
def test_a_wrong_static_group_is_refused(changes: dict[str, Any], message: str) -> None:
    refuses(lambda: static(**changes), message)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Join("spend"), "Join takes a feature group, not 'spend'"),  # type: ignore[arg-type]
        (lambda: Join(windowed(), ("m",)), "join of spend: there is no feature 'm'. join of spend has: n, n_1d, n_7d"),
        (lambda: Join(observed(), ("n",)), "there is no feature 'n'. join of seen has: amount, kind"),
        (lambda: Join(windowed(), on={"id": "x"}), "there is no entity key 'id'. join of spend has: customer_id"),
        (lambda: service(joins=()), "service fraud joins nothing; write joins=(Join(customer_spend),)"),
        (lambda: service(joins=("spend",)), "Join takes a feature group"),
        (lambda: service(version=0), "service fraud has the version 0; write a whole number from 1"),
        (lambda: service(version=True), "has the version True"),
        (lambda: service(version="1"), "has the version '1'"),
        (
            lambda: service(joins=(Join(windowed()), Join(windowed()))),
            "has the join 'spend' twice; give one of them a prefix, like Join(group, prefix=",
        ),
        (lambda: service(joins=(Join(windowed()), Join(observed(), prefix="spend"))), "has the join 'spend' twice"),
        (
            lambda: service(joins=Join(windowed(features=(COUNT, Derived("hw_status", "n_1d"))))),
            "service fraud: the output 'spend__hw_status' has a name that is kept for a training set's own columns; rename it",
        ),
    ],
)
def test_a_wrong_service_is_refused(make: Callable[[], object], message: str) -> None:
    refuses(make, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spine": "payments"}, "its spine is a Source, like spine=my_spine, not 'payments'"),
        ({"spine": Query("SELECT 1", (source(),))}, "like spine=my_spine, not a query; write Source('name', at=Query(...), ...)"),
        ({"service": "fraud"}, "its service is a FeatureService, like service=my_service, not 'fraud'"),
        ({"label": "kind"}, "write the label with its horizon, like label=Label('kind', '30d')"),
        ({"label": Label("late", "1d")}, "there is no label 'late'"),
        ({"name": "list"}, "'list' cannot name a training set: headwater training-set list does something; write list_set"),
        (
            {"expect": at_least(0)},
            "training set train expects at_least(0) of no column; write it by column, like expect={'label': at_least(0)}",
        ),
        ({"expect": row_count(change=0.5)}, "expects row_count(change=0.5), and has no interval before; write at_least and at_most"),
        ({"expect": {"amount": row_count(at_least=1)}}, "of the column 'amount'; it is about rows: write expect={'*': row_count"),
        ({"expect": {"amont": at_least(0)}}, "training set train, expect: there is no column 'amont'"),
        ({"expect": {"amount": 0}}, "training set train, amount, expects 0; write at_least(0)"),
        ({"mode": "now"}, "has the mode 'now'; write 'as_known', 'event_time' or 'as_served'"),
        ({"spine": static_source()}, "its spine people has no event timestamp; a spine is a source of shape 'events'"),
        ({"spine": source(columns={"paid_at": "timestamp"})}, "there is no entity key 'customer_id'"),
        (
            {"spine": source(columns={**COLUMNS, "customer_id": "string"})},
            "the key 'customer_id' has the type string in payments, int64 in the service",
        ),
    ],
)
def test_a_wrong_training_set_is_refused(changes: dict[str, Any], message: str) -> None:
    refuses(lambda: training(**changes), message)


def test_a_label_is_not_among_its_own_features() -> None:
    seen = service(joins=(Join(observed()),))
    refuses(
        lambda: training(service=seen, label=Label("kind", "1d")),
        "training set train: the label 'kind' is among its own features, as seen__kind; remove it",
    )
    assert training(service=service(joins=(Join(observed(), ("amount",)),)), label=Label("kind", "1d")).label == Label("kind", "1d")
    assert training(service=seen, spine=source(name="labels"), label=Label("kind", "1d")).spine.name == "labels"


def test_what_is_expected_of_a_training_set_is_said_of_rows_or_by_column() -> None:
    assert training(expect=row_count(at_least=1)).expected == ((None, row_count(at_least=1)),)
    assert training().expected == ()
    made = training(split="time", expect={"*": (row_count(at_least=1),), "amount": (at_least(0), not_null()), "hw_split": not_null()})
    assert made.expected == (
        (None, row_count(at_least=1)), ("amount", at_least(0)), ("amount", not_null()), ("hw_split", not_null()),
    )  # fmt: skip
    assert replace(made, name="other").expected == made.expected


def test_a_label_has_a_horizon() -> None:
    refuses(lambda: Label("late", "soon"), "label late, horizon: 'soon' is not a duration")
    refuses(lambda: Label("late", "1d", immature="drop"), "label late has immature='drop'; write 'refuse' or 'leave out'")  # type: ignore[arg-type]


def test_an_unknown_severity_is_refused_where_an_expectation_is_made_by_hand() -> None:
    refuses(lambda: Expectation("at_least", (0,), "urgent"), "has the severity 'urgent'")  # type: ignore[arg-type]


def test_defaults_are_of_output_columns_and_can_not_be_changed() -> None:
    given: dict[str, object] = {"spend__n_1d": 0}
    defaulting = service(defaults=given)
    given["spend__n_7d"] = 1
    assert dict(defaulting.defaults) == {"spend__n_1d": 0}
    refuses(lambda: service(defaults={"n_1d": 0}), "there is no output column 'n_1d'. service fraud has: spend__n_1d, spend__n_7d")
    refuses(lambda: service(defaults={"spend__n_1d": None}), "is None, which it is without a default; remove it or write a value")
    refuses(lambda: service(defaults=[("spend__n_1d", 0)]), "write them by column, like defaults={'spend__n_1d': 0}")
