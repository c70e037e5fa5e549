"""The semantics of time in two events and a clock: hand-written cases for the oracle, and what must hold in any history."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from feature_definitions.intervals import ALWAYS, DAY, MICROSECOND, Interval, split
from feature_definitions.language import (
    Derived,
    Entity,
    Feature,
    FeatureGroup,
    FeatureService,
    Join,
    ObservationGroup,
    SnapshotGroup,
    Source,
    WindowedGroup,
)
from tests import histories as h
from tests.oracle import (
    Answer,
    Arrival,
    Event,
    FeatureRow,
    Mode,
    Publish,
    differences,
    empty_values,
    live_rows,
    observation_rows,
    online,
    publish,
    read,
    rows,
    static_rows,
    training_rows,
    value_differences,
    windowed_rows,
)

CUSTOMER = Entity("customer", {"customer_id": "string"})
COLUMNS = {"customer_id": "string", "paid_at": "timestamp", "amount": "double", "kind": "string"}
PAYMENTS = Source("payments", columns=COLUMNS, event_timestamp="paid_at")
IDENTIFIED = Source(
    "payments",
    columns=COLUMNS | {"payment_id": "int64", "arrived_at": "timestamp"},
    event_timestamp="paid_at",
    id=("payment_id",),
    arrived_at="arrived_at",
)
PLANES = Source("planes", columns={"tailnum": "string", "seats": "int64"}, id=("tailnum",), shape="static")
FUNCTIONS = {
    "amount > 0": lambda e: None if e["amount"] is None else e["amount"] > 0,
    "kind = 'a'": lambda e: None if e["kind"] is None else e["kind"] == "a",
    "amount * 2": lambda e: None if e["amount"] is None else e["amount"] * 2,
    "s_1d / n_1d": lambda v: v["s_1d"] / v["n_1d"] if v["n_1d"] else None,
}


def day(n: int, hour: int = 0) -> datetime:
    """An hour of day `n` of January 2026."""
    return datetime(2026, 1, n, hour, tzinfo=UTC)


def one_day(n: int) -> Interval:
    """Day `n` of January 2026, whose rows are stamped with its end."""
    return Interval(day(n), day(n + 1))


def paid(at: datetime, amount: float | None = 1.0, *, customer: str | None = "ann", **more: object) -> Event:
    """A payment."""
    return {"customer_id": customer, "paid_at": at, "amount": amount, "kind": "a"} | more


def spend(
    *features: Feature | Derived, source: Source = PAYMENTS, every: str = "1d", ttl: str = "2d", where: str | None = None
) -> WindowedGroup:
    """A windowed group of payments."""
    counts = (Feature("n", "count", windows=("1d", "2d")),)
    return WindowedGroup("spend", CUSTOMER, source, every=every, ttl=ttl, features=features or counts, where=where)


def last_payment(*columns: str, source: Source = PAYMENTS, ttl: str = "2d", where: str | None = None) -> ObservationGroup:
    """An observation group of payments."""
    return ObservationGroup("last_payment", CUSTOMER, source, columns=columns or ("amount",), ttl=ttl, where=where)


def planes() -> SnapshotGroup:
    """A static group."""
    return SnapshotGroup("planes", Entity("plane", {"tailnum": "string"}), PLANES, columns=("seats",), assume_always_known=True)


def windowed(group: WindowedGroup, events: Sequence[Event], *ends: datetime) -> list[FeatureRow]:
    """The rows of a group, with this file's functions."""
    return windowed_rows(group, events, ends, functions=FUNCTIONS)


def value(aggregation: str, *amounts: Any, of: str = "amount", where: str | None = None) -> Any:
    """An aggregation of a day's amounts, an hour apart, all of it in one window."""
    group = spend(Feature("x", aggregation, of, windows=("1d",), where=where))
    row = windowed(group, [paid(day(5, hour), amount) for hour, amount in enumerate(amounts)], day(6))[0]
    return row.values["x_1d"]


def lived(group: FeatureGroup, events: Sequence[Event], *days: int, known_after: timedelta = timedelta(0)) -> tuple[Publish, ...]:
    """What stands after each of `days` was published once, `known_after` its end."""
    published: tuple[Publish, ...] = ()
    for n in days:
        found = rows(group, events, one_day(n), functions=FUNCTIONS)
        published = publish(group, published, one_day(n), known_from=day(n + 1) + known_after, rows=found)
    return published


def ask(
    group: FeatureGroup,
    published: Sequence[Publish],
    t: datetime,
    *,
    customer: str | None = "ann",
    mode: Mode = "as_known",
    same_source: bool = False,
) -> Answer:
    """The read of one customer, by default as known at `t`."""
    return read(group, published, key=(customer,), t=t, mode=mode, same_source=same_source)


# --------------------------------------------------------------------------------------------------------------- corrections


def test_without_an_id_exact_duplicates_all_count() -> None:
    event = paid(day(5))
    assert live_rows(PAYMENTS, [Arrival(1, event), Arrival(1, event), Arrival(2, event)]) == [event, event, event]


def test_of_rows_with_one_id_the_newest_arrived_at_wins_even_if_it_was_ingested_earlier() -> None:
    new = paid(day(5), 2.0, payment_id=1, arrived_at=day(7))
    old = paid(day(5), 1.0, payment_id=1, arrived_at=day(6))
    assert live_rows(IDENTIFIED, [Arrival(1, new), Arrival(2, old)]) == [new]


def test_without_arrived_at_the_newest_ingest_wins() -> None:
    source = Source("payments", columns=COLUMNS | {"payment_id": "int64"}, event_timestamp="paid_at", id=("payment_id",))
    old, new = paid(day(5), 2.0, payment_id=1), paid(day(5), 1.0, payment_id=1)
    assert live_rows(source, [Arrival(2, new), Arrival(1, old)]) == [new]


def test_at_equal_arrived_at_the_newest_ingest_wins() -> None:
    old, new = paid(day(5), 2.0, payment_id=1, arrived_at=day(6)), paid(day(5), 1.0, payment_id=1, arrived_at=day(6))
    assert live_rows(IDENTIFIED, [Arrival(2, new), Arrival(1, old)]) == [new]


def test_at_last_what_one_ingest_brought_last_wins() -> None:
    old, new = paid(day(5), 2.0, payment_id=1, arrived_at=day(6)), paid(day(5), 1.0, payment_id=1, arrived_at=day(6))
    assert live_rows(IDENTIFIED, [Arrival(1, old), Arrival(1, new)]) == [new]


def test_a_correction_may_move_an_event_to_another_date_and_another_entity() -> None:
    old = paid(day(5), payment_id=1, arrived_at=day(6))
    new = paid(day(3), payment_id=1, arrived_at=day(7), customer="bob")
    assert live_rows(IDENTIFIED, [Arrival(1, old), Arrival(2, new)]) == [new]


def test_several_columns_make_one_id() -> None:
    source = Source("payments", columns=COLUMNS, event_timestamp="paid_at", id=("customer_id", "kind"))
    old, other, new = paid(day(5), kind="a"), paid(day(5), kind="b"), paid(day(6), kind="a")
    assert live_rows(source, [Arrival(1, old), Arrival(1, other), Arrival(2, new)]) == [new, other]


# ------------------------------------------------------------------------------------------------------------------- windows


@pytest.mark.parametrize(
    ("at", "counts"),
    [
        (day(6), (0, 0)),  # the end is outside
        (day(6) - MICROSECOND, (1, 1)),
        (day(5), (1, 1)),  # the start is inside
        (day(5) - MICROSECOND, (0, 1)),
        (day(4), (0, 1)),
    ],
)
def test_a_window_holds_its_start_and_not_its_end(at: datetime, counts: tuple[int, int]) -> None:
    early = paid(day(4, 12))
    assert windowed(spend(), [early, paid(at)], day(6))[0].values == {"n_1d": counts[0], "n_2d": counts[1] + 1}


def test_an_event_in_the_longest_window_makes_a_row_and_one_before_it_does_not() -> None:
    assert windowed(spend(), [paid(day(4))], day(6))[0].values == {"n_1d": 0, "n_2d": 1}
    assert windowed(spend(), [paid(day(4) - 2 * DAY)], day(6)) == []


def test_an_event_at_the_end_of_an_interval_makes_no_row_there() -> None:
    assert windowed(spend(), [paid(day(6))], day(6)) == []


def test_events_that_no_feature_counts_still_make_a_row() -> None:
    group = spend(Feature("s", "sum", "amount", windows=("1d",), where="amount > 0"))
    assert windowed(group, [paid(day(5), None)], day(6)) == [FeatureRow(("ann",), day(6), {"s_1d": 0.0}, day(7))]


def test_the_where_of_the_group_decides_whether_there_is_a_row() -> None:
    assert windowed(spend(where="amount > 0"), [paid(day(5), -1.0), paid(day(5), None)], day(6)) == []


def test_an_event_without_its_entity_key_gives_no_row() -> None:
    assert windowed(spend(), [paid(day(5), customer=None)], day(6)) == []


def test_a_composite_key_with_one_null_gives_no_row() -> None:
    source = Source("payments", columns=COLUMNS | {"shop": "int64"}, event_timestamp="paid_at")
    entity = Entity("customer_shop", {"customer_id": "string", "shop": "int64"})
    group = WindowedGroup("spend", entity, source, ttl="2d", features=(Feature("n", "count", windows=("1d",)),))
    found = windowed(group, [paid(day(5), shop=None), paid(day(5), shop=3)], day(6))
    assert [(row.key, row.values) for row in found] == [(("ann", 3), {"n_1d": 1})]


def test_entities_do_not_share_events() -> None:
    found = windowed(spend(), [paid(day(5)), paid(day(5), customer="bob"), paid(day(5), customer="bob")], day(6))
    assert {row.key: row.values["n_1d"] for row in found} == {("ann",): 1, ("bob",): 2}


def test_an_hourly_row_is_stamped_with_the_end_of_its_hour() -> None:
    group = spend(Feature("n", "count", windows=("1h",)), every="1h")
    found = windowed(group, [paid(day(5, 7))], day(5, 7), day(5, 8))
    assert found == [FeatureRow(("ann",), day(5, 8), {"n_1h": 1}, day(5, 9))]


@pytest.mark.parametrize(("at", "empties_at"), [(day(5), day(8)), (day(6) - MICROSECOND, day(8)), (day(5) - MICROSECOND, day(7))])
def test_a_row_empties_when_its_newest_event_leaves_the_longest_window(at: datetime, empties_at: datetime) -> None:
    assert windowed(spend(), [paid(day(4)), paid(at)], day(6))[0].empties_at == empties_at


def test_a_closing_row_with_the_empty_values_is_written_when_the_last_event_leaves() -> None:
    group = spend(Feature("n", "count", windows=("2d",)), Feature("s", "sum", "amount", ("2d",)), Feature("m", "max", "amount", ("1d",)))
    found = windowed(group, [paid(day(5))], day(6), day(7), day(8), day(9))
    assert [(row.at, dict(row.values), row.empties_at) for row in found] == [
        (day(6), {"n_2d": 1, "s_2d": 1.0, "m_1d": 1.0}, day(8)),
        (day(7), {"n_2d": 1, "s_2d": 1.0, "m_1d": None}, day(8)),
        (day(8), {"n_2d": 0, "s_2d": 0.0, "m_1d": None}, day(8)),
    ]


def test_there_is_no_closing_row_if_another_event_came_in_time() -> None:
    found = windowed(spend(), [paid(day(5)), paid(day(7))], day(8))
    assert [(row.values, row.empties_at) for row in found] == [({"n_1d": 1, "n_2d": 1}, day(10))]


def test_under_a_lifetime_window_every_later_time_has_a_row_and_none_closes() -> None:
    group = spend(Feature("n", "count", windows=("1d", "lifetime")), Feature("last", "time_since_last", windows=("lifetime",)))
    found = windowed(group, [paid(day(5)), paid(day(7))], day(5), day(6), day(7), day(8), day(20))
    assert [(row.at, row.values, row.empties_at) for row in found] == [
        (day(6), {"n_1d": 1, "n_lifetime": 1, "last_lifetime": day(5)}, day(7)),
        (day(7), {"n_1d": 0, "n_lifetime": 1, "last_lifetime": day(5)}, day(8)),
        (day(8), {"n_1d": 1, "n_lifetime": 2, "last_lifetime": day(7)}, day(9)),
        (day(20), {"n_1d": 0, "n_lifetime": 2, "last_lifetime": day(7)}, day(21)),
    ]


def test_under_a_lifetime_window_nobody_with_events_is_empty_and_who_has_none_any_more_is() -> None:
    group = spend(Feature("n", "count", windows=("lifetime",)))
    published = lived(group, [paid(day(5)), paid(day(5), customer="bob")], 5, 6)
    assert read(group, published, key=("ann",), t=day(8), mode="as_known") == ("PRESENT", {"n_lifetime": 1}, day(7))
    third = rows(group, [paid(day(5), customer="bob")], one_day(7), functions=FUNCTIONS)
    published = publish(group, published, one_day(7), known_from=day(8), rows=third)
    assert read(group, published, key=("ann",), t=day(8), mode="as_known") == ("EMPTY", {"n_lifetime": 0}, day(7))
    assert read(group, published, key=("bob",), t=day(8), mode="as_known") == ("PRESENT", {"n_lifetime": 1}, day(8))


def test_an_event_beside_the_closing_rows_extent_gives_no_closing_row() -> None:
    assert windowed(spend(), [paid(day(5) - MICROSECOND)], day(8)) == []
    assert windowed(spend(), [paid(day(5))], day(8))[0].values == {"n_1d": 0, "n_2d": 0}


# -------------------------------------------------------------------------------------------------------------- aggregations


def test_count_without_a_column_counts_rows_and_with_one_its_values() -> None:
    group = spend(Feature("rows", "count", windows=("1d",)), Feature("amounts", "count", "amount", ("1d",)))
    assert windowed(group, [paid(day(5)), paid(day(5), None)], day(6))[0].values == {"rows_1d": 2, "amounts_1d": 1}


def test_doubles_are_added_exactly_in_any_order() -> None:
    assert value("sum", 0.1, 0.2, 0.3) == 0.6
    assert value("sum", 0.3, 0.2, 0.1) == 0.6
    assert value("sum", 1e15, 0.1, -1e15) == 0.1


def test_doubles_are_rounded_half_up_to_eighteen_digits_after_the_point_before_they_are_added() -> None:
    assert value("sum", 5e-19, 5e-19) == 2e-18
    assert value("sum", 4.9e-19, 4.9e-19) == 0.0


def test_whole_numbers_and_decimals_keep_their_type_in_a_sum() -> None:
    source = Source("p", columns=COLUMNS | {"q": "int64", "d": "decimal(10,2)"}, event_timestamp="paid_at")
    group = spend(Feature("q", "sum", "q", ("1d",)), Feature("d", "sum", "d", ("1d",)), source=source)
    found = windowed(group, [paid(day(5), q=2**53, d=Decimal("0.10")), paid(day(5), q=1, d=Decimal("0.20"))], day(6))[0].values
    assert (found["q_1d"], found["d_1d"]) == (9007199254740993, Decimal("0.30"))
    assert (type(found["q_1d"]), type(found["d_1d"])) == (int, Decimal)


@pytest.mark.parametrize(
    ("aggregation", "nothing"),
    [
        ("count", 0),
        ("count_distinct", 0),
        ("sum", 0.0),
        ("mean", None),
        ("min", None),
        ("max", None),
        ("stddev", None),
        ("first", None),
        ("last", None),
    ],
)
def test_only_nulls_give_the_same_as_nothing(aggregation: str, nothing: object) -> None:
    assert value(aggregation, None, None) == nothing
    assert empty_values(spend(Feature("x", aggregation, "amount", windows=("1d",)))) == {"x_1d": nothing}


def test_the_empty_sum_has_the_type_of_its_column() -> None:
    source = Source("p", columns=COLUMNS | {"q": "int64", "d": "decimal(10,2)"}, event_timestamp="paid_at")
    features = [Feature(name, "sum", name, ("1d",)) for name in ("q", "d", "amount")]
    assert [type(v) for v in empty_values(spend(*features, source=source)).values()] == [int, Decimal, float]


@pytest.mark.parametrize(
    ("aggregation", "expected"), [("count", 3), ("mean", 2.0), ("min", 1.0), ("max", 4.0), ("first", 4.0), ("last", 1.0)]
)
def test_nulls_are_passed_over(aggregation: str, expected: object) -> None:
    assert value(aggregation, None, 4.0, None, 1.0, 1.0, None) == expected


def test_count_distinct_counts_each_value_once() -> None:
    assert value("count_distinct", 4.0, 1.0, 1.0, None) == 2


def test_stddev_is_of_the_sample_and_null_below_two_values() -> None:
    assert value("stddev", 1.0, 3.0) == pytest.approx(1.4142135623730951)
    assert value("stddev", 1.0, None) is None


def test_where_keeps_only_what_is_true_and_a_null_is_not() -> None:
    assert value("count", 1.0, -1.0, None, of="kind", where="amount > 0") == 1


def test_an_expression_is_aggregated_like_a_column() -> None:
    assert value("sum", 1.0, None, 2.0, of="amount * 2") == 6.0


def test_what_is_derived_is_computed_from_the_values_of_the_row() -> None:
    group = spend(Feature("s", "sum", "amount", ("1d",)), Feature("n", "count", windows=("1d", "2d")), Derived("mean", "s_1d / n_1d"))
    found = windowed(group, [paid(day(5), 3.0), paid(day(5), None)], day(6), day(7), day(8))
    assert [row.values["mean"] for row in found] == [1.5, None, None]


def test_what_is_derived_from_the_empty_values_is_computed_from_them() -> None:
    group = spend(Feature("n", "count", windows=("1d",)), Derived("more", "n_1d + 1"))
    functions = {"n_1d + 1": lambda values: values["n_1d"] + 1}
    assert empty_values(group, functions) == {"n_1d": 0, "more": 1}
    published = publish(group, (), one_day(5), known_from=day(6), rows=[])
    assert read(group, published, key=("ann",), t=day(6), mode="as_known", functions=functions).values == {"n_1d": 0, "more": 1}


def test_first_and_last_at_one_time_are_decided_by_arrived_at() -> None:
    events = [paid(day(5), 1.0, payment_id=1, arrived_at=day(7)), paid(day(5), 2.0, payment_id=2, arrived_at=day(6))]
    group = spend(Feature("a", "first", "amount", ("1d",)), Feature("z", "last", "amount", ("1d",)), source=IDENTIFIED)
    assert windowed(group, events, day(6))[0].values == {"a_1d": 2.0, "z_1d": 1.0}


def test_first_and_last_at_one_time_of_arrival_are_decided_by_the_id() -> None:
    events = [paid(day(5), 1.0, payment_id=10, arrived_at=day(6)), paid(day(5), 2.0, payment_id=9, arrived_at=day(6))]
    group = spend(Feature("a", "first", "amount", ("1d",)), Feature("z", "last", "amount", ("1d",)), source=IDENTIFIED)
    assert windowed(group, events, day(6))[0].values == {"a_1d": 2.0, "z_1d": 1.0}


def test_first_and_last_without_anything_else_are_decided_by_the_value() -> None:
    group = spend(Feature("a", "first", "amount", ("1d",)), Feature("z", "last", "amount", ("1d",)))
    events = [paid(day(5), 2.0), paid(day(5), None), paid(day(5), 3.0), paid(day(5), 1.0)]
    assert windowed(group, events, day(6))[0].values == {"a_1d": 1.0, "z_1d": 3.0}


# -------------------------------------------------------------------------------------------------- observations and statics


def test_an_observation_stands_at_its_own_time() -> None:
    found = observation_rows(last_payment(), [paid(day(5, 7), 2.0)], [one_day(5)], functions=FUNCTIONS)
    assert found == [FeatureRow(("ann",), day(5, 7), {"amount": 2.0})]


def test_an_interval_observes_its_start_and_not_its_end() -> None:
    events = [paid(day(5) - MICROSECOND), paid(day(5)), paid(day(6) - MICROSECOND), paid(day(6))]
    found = observation_rows(last_payment(), events, [one_day(5)], functions=FUNCTIONS)
    assert [row.at for row in found] == [day(5), day(6) - MICROSECOND]


def test_of_observations_at_one_time_the_newest_stays() -> None:
    events = [paid(day(5), 1.0, payment_id=1, arrived_at=day(7)), paid(day(5), 2.0, payment_id=2, arrived_at=day(6))]
    found = observation_rows(last_payment(source=IDENTIFIED), events, [one_day(5)], functions=FUNCTIONS)
    assert [row.values for row in found] == [{"amount": 1.0}]


def test_an_observation_keeps_its_nulls() -> None:
    events = [paid(day(5), 1.0), paid(day(5, 1), None)]
    found = observation_rows(last_payment(), events, [one_day(5)], functions=FUNCTIONS)
    assert [row.values for row in found] == [{"amount": 1.0}, {"amount": None}]


def test_observations_of_nobody_and_those_that_where_leaves_out_give_no_row() -> None:
    events = [paid(day(5), customer=None), paid(day(5), -1.0), paid(day(5), None)]
    assert observation_rows(last_payment(where="amount > 0"), events, [one_day(5)], functions=FUNCTIONS) == []


def test_a_static_row_has_the_first_instant_as_its_time() -> None:
    events: list[Event] = [{"tailnum": "N1", "seats": 2}, {"tailnum": None, "seats": 3}]
    assert static_rows(planes(), events, functions={}) == [FeatureRow(("N1",), datetime(1970, 1, 1, tzinfo=UTC), {"seats": 2})]


# ----------------------------------------------------------------------------------------------------- reads: coverage and TTL


def test_a_windowed_row_is_usable_from_its_interval_end_on() -> None:
    published = lived(spend(), [paid(day(5))], 5)
    assert ask(spend(), published, day(6)) == ("PRESENT", {"n_1d": 1, "n_2d": 1}, day(6))
    assert ask(spend(), published, day(6) - MICROSECOND) == ("EXPIRED", {"n_1d": None, "n_2d": None}, None)


def test_the_ttl_counts_from_the_coverage_to_the_microsecond() -> None:
    published = lived(spend(), [paid(day(5))], 5)
    assert ask(spend(), published, day(8)).status == "PRESENT"
    assert ask(spend(), published, day(8) + MICROSECOND) == ("EXPIRED", {"n_1d": None, "n_2d": None}, day(6))


def test_before_any_coverage_everybody_is_expired() -> None:
    assert ask(spend(), (), day(6)) == ("EXPIRED", {"n_1d": None, "n_2d": None}, None)


def test_an_entity_never_seen_has_the_empty_values_while_the_group_is_covered() -> None:
    published = lived(spend(), [paid(day(5))], 5)
    assert ask(spend(), published, day(6), customer="bob") == ("NOT_FOUND", {"n_1d": 0, "n_2d": 0}, None)
    assert ask(spend(), published, day(9), customer="bob") == ("EXPIRED", {"n_1d": None, "n_2d": None}, None)


def test_an_empty_interval_counts_as_coverage() -> None:
    published = lived(spend(), [], 5)
    assert published[0].rows == ()
    assert ask(spend(), published, day(6)) == ("NOT_FOUND", {"n_1d": 0, "n_2d": 0}, None)


def test_an_entity_whose_windows_are_empty_is_empty() -> None:
    published = lived(spend(), [paid(day(5))], 5, 6, 7, 8)
    assert ask(spend(), published, day(7)) == ("PRESENT", {"n_1d": 0, "n_2d": 1}, day(7))
    assert ask(spend(), published, day(8)) == ("EMPTY", {"n_1d": 0, "n_2d": 0}, day(8))
    assert ask(spend(), published, day(9)) == ("EMPTY", {"n_1d": 0, "n_2d": 0}, day(8))


def test_a_missed_run_keeps_no_dead_count_alive() -> None:
    published = lived(spend(), [paid(day(5))], 5, 6, 8)  # the closing row of day 7 was never written
    assert ask(spend(), published, day(8)) == ("PRESENT", {"n_1d": 0, "n_2d": 1}, day(7))  # nobody knows better yet
    assert ask(spend(), published, day(9)) == ("EMPTY", {"n_1d": 0, "n_2d": 0}, day(7))


def test_a_null_key_is_not_found_and_null_in_every_kind_of_group() -> None:
    published = lived(spend(), [paid(day(5))], 5)
    assert ask(spend(), published, day(6), customer=None) == ("NOT_FOUND", {"n_1d": None, "n_2d": None}, None)
    assert ask(last_payment(), (), day(6), customer=None) == ("NOT_FOUND", {"amount": None}, None)


def test_a_held_row_is_null_until_its_windows_are_empty() -> None:
    row = FeatureRow(("ann",), day(6), {"n_1d": 1, "n_2d": 1}, day(8), held=True)
    published = publish(spend(), (), one_day(5), known_from=day(6), rows=[row])
    assert ask(spend(), published, day(6)) == ("HELD", {"n_1d": None, "n_2d": None}, day(6))
    later = publish(spend(), published, one_day(7), known_from=day(8), rows=[])
    assert ask(spend(), later, day(8)) == ("EMPTY", {"n_1d": 0, "n_2d": 0}, day(6))


def test_an_observation_ages_from_its_own_time_to_the_microsecond() -> None:
    group = last_payment()
    published = lived(group, [paid(day(5, 7), 2.0)], 5)
    assert ask(group, published, day(7, 7)) == ("PRESENT", {"amount": 2.0}, day(5, 7))
    assert ask(group, published, day(7, 7) + MICROSECOND) == ("EXPIRED", {"amount": None}, day(5, 7))


def test_an_entity_never_observed_is_not_found_whatever_was_published() -> None:
    published = lived(last_payment(), [paid(day(5))], 5)
    assert ask(last_payment(), published, day(6), customer="bob") == ("NOT_FOUND", {"amount": None}, None)
    assert ask(last_payment(), published, day(30), customer="bob") == ("NOT_FOUND", {"amount": None}, None)


def test_an_observed_null_is_present_and_hides_the_value_before_it() -> None:
    published = lived(last_payment(), [paid(day(5), 1.0), paid(day(5, 1), None)], 5)
    assert ask(last_payment(), published, day(6)) == ("PRESENT", {"amount": None}, day(5, 1))


def test_an_observation_at_the_time_asked_counts_only_for_a_spine_of_another_source() -> None:
    group = last_payment()
    published = lived(group, [paid(day(5), 1.0), paid(day(5, 7), 2.0)], 5)
    assert ask(group, published, day(5, 7), mode="event_time") == ("PRESENT", {"amount": 2.0}, day(5, 7))
    assert ask(group, published, day(5, 7), mode="event_time", same_source=True) == ("PRESENT", {"amount": 1.0}, day(5))
    assert ask(group, published, day(5, 7) + MICROSECOND, mode="event_time", same_source=True).values == {"amount": 2.0}


def test_a_windowed_row_at_the_time_asked_counts_for_every_spine() -> None:
    published = lived(spend(), [paid(day(5))], 5)
    assert ask(spend(), published, day(6), same_source=True).status == "PRESENT"


def test_a_static_row_was_always_known_and_never_ages() -> None:
    published = publish(planes(), (), ALWAYS, known_from=ALWAYS.start, rows=[FeatureRow(("N1",), ALWAYS.start, {"seats": 2})])
    for t in (datetime(1980, 1, 1, tzinfo=UTC), datetime(2080, 1, 1, tzinfo=UTC)):
        assert read(planes(), published, key=("N1",), t=t, mode="as_known") == ("PRESENT", {"seats": 2}, ALWAYS.start)
    assert read(planes(), published, key=("N2",), t=day(6), mode="as_known") == ("NOT_FOUND", {"seats": None}, None)


CONTRACTS = Source("contracts", columns=COLUMNS, event_timestamp="paid_at", shape="snapshots", id=("customer_id",))
CONTRACT = SnapshotGroup("contract", CUSTOMER, CONTRACTS, columns=("amount",), ttl="2d")


def test_two_snapshots_and_a_clock() -> None:
    first, second = [paid(day(5, 7), 1.0), paid(day(5, 7), 2.0, customer="bob")], [paid(day(7, 7), 3.0)]
    published = lived(CONTRACT, first + second, 5, 6, 7)
    assert ask(CONTRACT, published, day(6) - MICROSECOND).status == "EXPIRED"  # nothing was published yet
    for t in (day(6), day(8) - MICROSECOND):  # the sixth had no snapshot, the seventh is not known yet
        assert ask(CONTRACT, published, t) == ("PRESENT", {"amount": 1.0}, day(5, 7))
        assert ask(CONTRACT, published, t, customer="bob") == ("PRESENT", {"amount": 2.0}, day(5, 7))
    assert ask(CONTRACT, published, day(8)) == ("PRESENT", {"amount": 3.0}, day(7, 7))
    assert ask(CONTRACT, published, day(8), customer="bob") == ("EMPTY", {"amount": None}, day(5, 7))
    assert ask(CONTRACT, published, day(8), customer="eve") == ("NOT_FOUND", {"amount": None}, None)
    assert ask(CONTRACT, published, day(10) + MICROSECOND) == ("EXPIRED", {"amount": None}, day(7, 7))


def test_by_event_time_a_snapshot_holds_from_when_it_was_extracted() -> None:
    published = lived(CONTRACT, [paid(day(5), 1.0), paid(day(6, 7), 3.0, customer="bob")], 5, 6)
    assert ask(CONTRACT, published, day(6, 7) - MICROSECOND, mode="event_time").status == "PRESENT"
    assert ask(CONTRACT, published, day(6, 7), mode="event_time").status == "EMPTY"
    assert ask(CONTRACT, published, day(6, 7), mode="event_time", customer="bob").status == "PRESENT"


def test_of_two_snapshots_in_one_interval_each_stands_at_its_own_time() -> None:
    events = [paid(day(5, 1), 1.0), paid(day(5, 1), 1.0, customer="bob"), paid(day(5, 2), 2.0)]
    assert [(row.key, row.at) for row in rows(CONTRACT, events, one_day(5), functions={})] == [
        (("ann",), day(5, 1)), (("bob",), day(5, 1)), (("ann",), day(5, 2)),
    ]  # fmt: skip


def test_a_corrected_snapshot_is_read_as_it_was_known() -> None:
    published = lived(CONTRACT, [paid(day(5), 1.0), paid(day(5), 2.0, customer="bob"), paid(day(6, 7), 3.0)], 5, 6)
    late = rows(CONTRACT, [paid(day(6, 7), 3.0), paid(day(6, 7), 4.0, customer="bob")], one_day(6), functions={})
    published = publish(CONTRACT, published, one_day(6), known_from=day(7, 5), rows=late)
    assert ask(CONTRACT, published, day(7), customer="bob").status == "EMPTY"
    assert ask(CONTRACT, published, day(7, 5), customer="bob") == ("PRESENT", {"amount": 4.0}, day(6, 7))


def test_a_static_row_that_is_gone_from_the_newest_state_is_not_found() -> None:
    first = publish(planes(), (), ALWAYS, known_from=ALWAYS.start, rows=[FeatureRow(("N1",), ALWAYS.start, {"seats": 2})])
    both = publish(planes(), first, ALWAYS, known_from=day(6), rows=[])
    assert read(planes(), both, key=("N1",), t=day(6) - MICROSECOND, mode="as_known").status == "PRESENT"
    assert read(planes(), both, key=("N1",), t=day(6), mode="as_known").status == "NOT_FOUND"


# ------------------------------------------------------------------------------------------------- reads: what was known when


def test_a_publish_is_not_visible_before_it_was_known() -> None:
    published = lived(spend(), [paid(day(5))], 5, known_after=timedelta(hours=3))
    assert ask(spend(), published, day(6, 3) - MICROSECOND).status == "EXPIRED"
    assert ask(spend(), published, day(6, 3)).status == "PRESENT"
    assert ask(spend(), published, day(6), mode="event_time").status == "PRESENT"


def test_an_outage_caught_up_later_was_not_known_during_the_outage() -> None:
    group, events = spend(ttl="5d"), [paid(day(5)), paid(day(6))]
    first = lived(group, events, 5)
    late = publish(group, first, one_day(6), known_from=day(9), rows=windowed(group, events, day(7)))
    assert ask(group, late, day(8)) == ("PRESENT", {"n_1d": 1, "n_2d": 1}, day(6))
    assert ask(group, late, day(9)) == ("PRESENT", {"n_1d": 1, "n_2d": 2}, day(7))
    assert ask(group, late, day(8), mode="event_time") == ("PRESENT", {"n_1d": 1, "n_2d": 2}, day(7))


def test_a_late_event_is_known_as_from_its_correction_and_true_as_from_its_own_time() -> None:
    group, early = spend(), [paid(day(5))]
    first = lived(group, early, 5)
    both = publish(group, first, one_day(5), known_from=day(6, 12), rows=windowed(group, [*early, paid(day(5, 1))], day(6)))
    assert ask(group, both, day(6, 12) - MICROSECOND).values["n_1d"] == 1
    assert ask(group, both, day(6, 12)).values["n_1d"] == 2
    assert ask(group, both, day(6), mode="event_time").values["n_1d"] == 2


def test_a_newer_interval_wins_over_a_later_correction_of_an_older_one() -> None:
    group, events = spend(), [paid(day(5)), paid(day(6))]
    both = lived(group, events, 5, 6)
    corrected = publish(group, both, one_day(5), known_from=day(7), rows=windowed(group, [*events, paid(day(5))], day(6)))
    assert ask(group, corrected, day(7)) == ("PRESENT", {"n_1d": 1, "n_2d": 2}, day(7))


def test_a_windowed_row_never_vanishes_but_takes_the_empty_values() -> None:
    group = spend()
    first = lived(group, [paid(day(5)), paid(day(5), customer="bob")], 4, 5)
    moved = publish(group, first, one_day(5), known_from=day(6, 12), rows=windowed(group, [paid(day(5), customer="bob")], day(6)))
    assert ask(group, moved, day(6, 11)) == ("PRESENT", {"n_1d": 1, "n_2d": 1}, day(6))
    assert ask(group, moved, day(6, 12)) == ("EMPTY", {"n_1d": 0, "n_2d": 0}, day(6))
    assert ask(group, moved, day(6, 12), customer="bob").status == "PRESENT"


def test_an_observation_that_is_taken_back_gives_way_to_the_one_before() -> None:
    group, kept = last_payment(), paid(day(5), 1.0)
    first = lived(group, [kept, paid(day(5, 7), 2.0)], 5)
    both = publish(group, first, one_day(5), known_from=day(6, 12), rows=rows(group, [kept], one_day(5), functions=FUNCTIONS))
    assert ask(group, both, day(6, 11)) == ("PRESENT", {"amount": 2.0}, day(5, 7))
    assert ask(group, both, day(6, 12)) == ("PRESENT", {"amount": 1.0}, day(5))
    assert ask(group, both, day(5, 8), mode="event_time") == ("PRESENT", {"amount": 1.0}, day(5))


def test_an_only_observation_that_is_taken_back_leaves_nothing() -> None:
    group = last_payment()
    both = publish(group, lived(group, [paid(day(5))], 5), one_day(5), known_from=day(6, 12), rows=[])
    assert ask(group, both, day(6, 12)) == ("NOT_FOUND", {"amount": None}, None)


def test_an_interval_that_was_never_published_is_neither_seen_nor_covered() -> None:
    group, events = spend(ttl="1d"), [paid(day(5)), paid(day(6))]
    published = lived(group, events, 5)  # day 6 was rejected
    assert ask(group, published, day(7)).values == {"n_1d": 1, "n_2d": 1}
    assert ask(group, published, day(7) + MICROSECOND).status == "EXPIRED"


# ------------------------------------------------------------------------------------------------------ training and serving


def test_each_spine_row_gives_one_row_even_if_it_comes_twice_or_knows_nobody() -> None:
    service = FeatureService("scores", joins=(Join(spend()), Join(last_payment())))
    events = [paid(day(5), 2.0)]
    published = {"spend": lived(spend(), events, 5), "last_payment": lived(last_payment(), events, 5)}
    asked: list[dict[str, Any]] = [{"customer_id": who, "event_timestamp": day(6), "label": 1} for who in ("ann", "ann", "bob", None)]
    assert [list(row.values())[3:] for row in training_rows(service, published, asked, mode="as_known")] == [
        [1, 1, 2.0],
        [1, 1, 2.0],
        [0, 0, None],
        [None, None, None],
    ]


def test_the_columns_of_a_training_set_are_those_of_the_spine_and_of_the_joins() -> None:
    service = FeatureService("scores", joins=(Join(spend(), features=("n_2d",), prefix="payer", on={"customer_id": "payer_id"}),))
    published = {"spend": lived(spend(), [paid(day(5))], 5)}
    made = training_rows(service, published, [{"payer_id": "ann", "at": day(6)}], mode="as_known", event_timestamp="at")
    assert made == [{"payer_id": "ann", "at": day(6), "payer__n_2d": 1}]


@pytest.mark.parametrize(("spine_source", "amount"), [(None, 1.0), ("payments", 1.0), ("orders", 2.0)])
def test_a_frame_and_a_spine_of_the_same_source_do_not_see_the_event_of_the_label(spine_source: str | None, amount: float) -> None:
    group = last_payment()
    published = {"last_payment": lived(group, [paid(day(5), 1.0), paid(day(5, 7), 2.0)], 5)}
    asked = [{"customer_id": "ann", "event_timestamp": day(5, 7)}]
    made = training_rows(FeatureService("scores", joins=(Join(group),)), published, asked, mode="event_time", spine_source=spine_source)
    assert made[0]["last_payment__amount"] == amount


def test_serving_answers_what_is_known_now() -> None:
    service = FeatureService("scores", joins=(Join(spend()), Join(last_payment(), prefix="newest")))
    events = [paid(day(5), 2.0)]
    published = {"spend": lived(spend(), events, 5), "last_payment": lived(last_payment(), events, 5, known_after=DAY)}
    assert online(service, published, [{"customer_id": "ann"}], now=day(6)) == [
        {
            "entity": {"customer_id": "ann"},
            "values": {"spend__n_1d": 1, "spend__n_2d": 1, "newest__amount": None},
            "status": {"spend": "PRESENT", "newest": "NOT_FOUND"},
            "event_timestamp": {"spend": day(6), "newest": None},
        }
    ]


# ----------------------------------------------------------------------------------------------------------------- comparing


def test_rows_that_are_missing_extra_doubled_or_different_are_each_named() -> None:
    group = spend(Feature("n", "count", windows=("1d",)))
    ann, bob = (FeatureRow((who,), day(6), {"n_1d": 1}, day(7)) for who in ("ann", "bob"))
    assert differences(group, [ann, bob], [bob, ann]) == []
    assert differences(group, [ann], []) == ["('ann',) at 2026-01-06 00:00:00+00:00 is missing"]
    assert differences(group, [], [ann]) == ["('ann',) at 2026-01-06 00:00:00+00:00 should not be there"]
    assert differences(group, [ann], [ann, ann]) == ["('ann',) at 2026-01-06 00:00:00+00:00 is there twice"]
    assert len(differences(group, [ann], [FeatureRow(("ann",), day(6), {"n_1d": 2}, day(8))])) == 2


def test_only_stddev_and_what_is_derived_may_differ_by_a_little() -> None:
    group = spend(Feature("d", "stddev", "amount", ("1d",)), Feature("m", "mean", "amount", ("1d",)))
    assert value_differences(group, {"d_1d": 1.0, "m_1d": 1.0}, {"d_1d": 1.0 + 1e-12, "m_1d": 1.0}) == []
    assert len(value_differences(group, {"d_1d": 1.0, "m_1d": 1.0}, {"d_1d": 1.1, "m_1d": 1.0 + 1e-12})) == 2
    assert len(value_differences(group, {"d_1d": None, "m_1d": 1.0}, {"d_1d": 0.0, "m_1d": 1})) == 2


# ------------------------------------------------------------------------------------------------ what holds in any history


def windowed_group(history: h.History) -> WindowedGroup:
    """The history's group, which is a windowed one."""
    assert isinstance(history.group, WindowedGroup)
    return history.group


def whole(history: h.History) -> tuple[Publish, ...]:
    """Every interval of a history, published in time and with all its events."""
    published: tuple[Publish, ...] = ()
    for interval in split(h.span(history.group), history.group.cadence):
        found = rows(history.group, history.events(), interval, functions=history.functions)
        published = publish(history.group, published, interval, known_from=interval.end, rows=found, functions=history.functions)
    return published


@given(h.histories(h.windowed_groups()))
@settings(max_examples=30)
def test_a_plain_as_of_read_of_everything_published_in_time_is_right_too(history: h.History) -> None:
    group, published = windowed_group(history), whole(history)
    everything = [row for p in published for row in p.rows]
    for key in {row.key for row in everything}:
        for p in published:
            answer = read(group, published, key=key, t=p.interval.end, mode="as_known", functions=history.functions)
            plain = max((r for r in everything if r.key == key and r.at <= p.interval.end), key=lambda r: r.at, default=None)
            assert answer.values == (empty_values(group, history.functions) if plain is None else plain.values)


@given(h.histories(h.windowed_groups()))
@settings(max_examples=30)
def test_a_live_row_empties_after_its_time_and_a_closing_row_at_its_time(history: h.History) -> None:
    group = windowed_group(history)
    for row in (row for p in whole(history) for row in p.rows):
        assert row.empties_at is not None
        assert row.at <= row.empties_at <= row.at + group.longest
        if row.empties_at == row.at:
            assert row.values == empty_values(group, history.functions)


@given(st.data())
@settings(max_examples=40)
def test_long_after_the_last_run_both_modes_give_the_same_answer(data: st.DataObject) -> None:
    history = data.draw(h.histories())
    published = history.published()
    last = max(run.now for run in history.runs)
    for row in data.draw(h.spines(history)):
        key = tuple(row[name] for name in history.group.entity.keys)
        t = max(row["event_timestamp"], last)
        known = read(history.group, published, key=key, t=t, mode="as_known", functions=history.functions)
        assert known == read(history.group, published, key=key, t=t, mode="event_time", functions=history.functions)


@given(st.data())
@settings(max_examples=40)
def test_what_is_published_later_never_changes_what_was_known_before(data: st.DataObject) -> None:
    history = data.draw(h.histories())
    before = h.History(history.group, history.functions, history.batches, history.runs[:1]).published()
    after = history.published()
    for row in data.draw(h.spines(history)):
        key, t = tuple(row[name] for name in history.group.entity.keys), row["event_timestamp"]
        if before and all(p.known_from > t for p in after[len(before) :]):
            old, new = (read(history.group, p, key=key, t=t, mode="as_known", functions=history.functions) for p in (before, after))
            assert old == new


@given(st.data())
@settings(max_examples=30)
def test_any_spine_comes_out_as_it_went_in_with_every_column_of_the_service(data: st.DataObject) -> None:
    history = data.draw(h.histories())
    service = FeatureService("scores", joins=(Join(history.group),))
    spine = data.draw(h.spines(history))
    made = training_rows(service, {history.group.name: history.published()}, spine, mode="as_known", functions=history.functions)
    assert [{name: row[name] for name in asked} for row, asked in zip(made, spine, strict=True)] == list(spine)
    assert all(set(row) == {*asked, *service.joins[0].outputs} for row, asked in zip(made, spine, strict=True))


@pytest.mark.parametrize("status", ["PRESENT", "EMPTY", "EXPIRED", "NOT_FOUND"])
def test_random_histories_and_spines_meet_every_status(status: str) -> None:
    def met(drawn: tuple[h.History, tuple[dict[str, Any], ...]]) -> bool:
        history, spine = drawn
        keys = [tuple(row[name] for name in history.group.entity.keys) for row in spine]
        times = [row["event_timestamp"] for row in spine]
        published = history.published()
        for key, t in zip(keys, times, strict=True):
            answer = read(history.group, published, key=key, t=t, mode="as_known", functions=history.functions)
            if answer.status == status:
                return True
        return False

    asked = h.histories(h.windowed_groups()).flatmap(lambda history: st.tuples(st.just(history), h.spines(history)))
    find(asked, met, settings=settings(max_examples=500, phases=[Phase.generate], derandomize=True, database=None))
