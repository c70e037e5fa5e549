"""What an answer says, without a store: keys, every status at its boundary, and values."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from feature_definitions import (
    Derived,
    Entity,
    Feature,
    FeatureService,
    Join,
    ObservationGroup,
    SnapshotGroup,
    Source,
    WindowedGroup,
    layout,
)
from feature_definitions.intervals import MICROSECOND, micros
from online_sync.codec import CodecError, EpochRecord, Row, RowSchema, encode, encode_epoch
from serving.answer import fetch, lookup, read_keys, row_epochs
from serving.request import compile_service

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DAY = timedelta(days=1)
NOW = datetime(2026, 1, 10, 6, tzinfo=UTC)
COVERAGE = datetime(2026, 1, 10, tzinfo=UTC)
TTL = 2 * DAY

customer = Entity("customer", {"customer_id": "int64"})
shop = Entity("shop", {"country": "string", "shop_id": "int64"})
place = Entity("place", {"airport": "string"})
payments = Source(
    "payments", columns={"customer_id": "int64", "amount": "decimal(10,2)", "paid_at": "timestamp"}, event_timestamp="paid_at"
)
visits = Source(
    "visits", columns={"country": "string", "shop_id": "int64", "at": "timestamp", "seen": "timestamp", "day": "date"}, event_timestamp="at"
)
contracts = Source(
    "contracts", columns={"customer_id": "int64", "plan": "string", "at": "timestamp"}, event_timestamp="at", shape="snapshots",
    id=("customer_id",),
)  # fmt: skip
airports = Source("airports", columns={"airport": "string", "name": "string"}, id=("airport",), shape="static")
spend = WindowedGroup(
    "spend",
    customer,
    payments,
    ttl="2d",
    features=(
        Feature("total", "sum", "amount", windows=("1d", "7d")),
        Feature("payments", "count", windows=("7d",)),
        Derived("mean", "total_7d / payments_7d"),
    ),
)
visit = ObservationGroup("visit", shop, visits, columns=("seen", "day"), ttl="2d")
contract = SnapshotGroup("contract", customer, contracts, columns=("plan",), ttl="2d")
airport = SnapshotGroup("airport", place, airports, columns=("name",), assume_always_known=True)

SPEND = RowSchema((("total_1d", "decimal(20,2)"), ("total_7d", "decimal(20,2)"), ("payments_7d", "int64"), ("mean", "double")))
VISIT = RowSchema((("seen", "timestamp"), ("day", "date")))
AIRPORT = RowSchema((("name", "string"),))
CONTRACT = RowSchema((("plan", "string"),))
RECORD = EpochRecord(
    project="shop", lake="lakelake", group="spend", generation=1, epoch=5, kind="windowed", columns=SPEND.columns, synced_at=0,
    coverage=micros(COVERAGE), ttl=TTL // MICROSECOND, empty=("0.00", "0.00", 0, None), begun=5,
)  # fmt: skip
VISIT_RECORD = replace(RECORD, group="visit", kind="observation", columns=VISIT.columns, coverage=None, empty=())
AIRPORT_RECORD = replace(RECORD, group="airport", kind="static", columns=AIRPORT.columns, coverage=None, ttl=None, empty=())
ROW = Row(
    event_timestamp=micros(COVERAGE), empties_at=micros(COVERAGE + 7 * DAY), held=False, tombstone=False, epoch=5,
    values=("1.50", "12.00", 4, 3.0),
)  # fmt: skip
VISITED = Row(
    event_timestamp=micros(COVERAGE), empties_at=None, held=False, tombstone=False, epoch=5, values=(micros(COVERAGE) - 1, -1)
)  # fmt: skip
NAMED = replace(VISITED, event_timestamp=0, values=("Newark",))

by_customer = FeatureService("by_customer", joins=(Join(spend),))
by_shop = FeatureService("by_shop", joins=(Join(visit),))
by_airport = FeatureService("by_airport", joins=(Join(airport),))


def records(*found: EpochRecord) -> dict[str, bytes]:
    return {layout.epoch_key(record.space, record.group): encode_epoch(record) for record in found}


def stored(record: EpochRecord, entity: Sequence[object], row: Row | None) -> dict[str, bytes]:
    """A store that holds one group's epoch record and one entity's row."""
    key = layout.row_key(record.space, record.group, record.generation, layout.entity_text(entity))
    return records(record) | ({} if row is None else {key: encode(RowSchema(record.columns), row)})


def ask(service: FeatureService, entities: Sequence[Mapping[str, object]], *, store: Mapping[str, bytes], now: datetime = NOW) -> list[Any]:
    plan = compile_service(service)
    return list(fetch(plan, entities, space=RECORD.space, mget=lambda keys: [store.get(key) for key in keys], now=now))


def spend_of_42(row: Row | None, *, now: datetime = NOW, **changes: Any) -> tuple[str, list[object], str | None]:
    """Status, values and event timestamp of the customer 42, from a store with one row and a changed epoch record."""
    [result] = ask(by_customer, [{"customer_id": 42}], store=stored(replace(RECORD, **changes), (42,), row), now=now)
    return result["status"]["spend"], list(result["values"].values()), result["event_timestamp"]["spend"]


def visit_of_7(row: Row | None, *, now: datetime = NOW) -> tuple[str, list[object], str | None]:
    [result] = ask(by_shop, [{"country": "DE", "shop_id": 7}], store=stored(VISIT_RECORD, ("DE", 7), row), now=now)
    return result["status"]["visit"], list(result["values"].values()), result["event_timestamp"]["visit"]


CONTRACT_RECORD = replace(RECORD, group="contract", kind="snapshot", columns=CONTRACT.columns, empty=())
BASIC = replace(VISITED, event_timestamp=micros(COVERAGE) - 7, values=("basic",))


def contract_of_42(row: Row | None, *, now: datetime = NOW, **changes: Any) -> tuple[str, list[object]]:
    [result] = ask(
        FeatureService("plans", joins=(Join(contract),)), [{"customer_id": 42}],
        store=stored(replace(CONTRACT_RECORD, **changes), (42,), row), now=now,
    )  # fmt: skip
    return result["status"]["contract"], list(result["values"].values())


NULLS, EMPTY = [None] * 4, ["0.00", "0.00", 0, None]
T = "2026-01-10T00:00:00Z"


def test_the_answer_is_the_whole_contract() -> None:
    assert ask(by_customer, [{"customer_id": 42}], store=stored(RECORD, (42,), ROW)) == [
        {
            "entity": {"customer_id": 42},
            "values": {"spend__total_1d": "1.50", "spend__total_7d": "12.00", "spend__payments_7d": 4, "spend__mean": 3.0},
            "status": {"spend": "PRESENT"},
            "event_timestamp": {"spend": "2026-01-10T00:00:00Z"},
        }
    ]


# ---------------------------------------------------------------------------------------------------------------------- windowed


def test_a_windowed_row_within_its_ttl_is_present() -> None:
    assert spend_of_42(ROW) == ("PRESENT", ["1.50", "12.00", 4, 3.0], T)


def test_the_ttl_of_a_windowed_group_counts_from_the_coverage_and_is_inclusive() -> None:
    assert spend_of_42(ROW, now=COVERAGE + TTL)[0] == "PRESENT"
    assert spend_of_42(ROW, now=COVERAGE + TTL + MICROSECOND) == ("EXPIRED", NULLS, T)


def test_a_windowed_row_older_than_its_ttl_is_present_while_the_group_is_covered() -> None:
    old = replace(ROW, event_timestamp=micros(COVERAGE - 5 * DAY))
    assert spend_of_42(old) == ("PRESENT", ["1.50", "12.00", 4, 3.0], "2026-01-05T00:00:00Z")


def test_a_windowed_group_without_coverage_is_expired() -> None:
    assert spend_of_42(ROW, coverage=None) == ("EXPIRED", NULLS, T)
    assert spend_of_42(None, coverage=None) == ("EXPIRED", NULLS, None)


def test_a_windowed_group_that_was_never_synced_is_expired() -> None:
    for store in ({}, records(replace(RECORD, epoch=0))):
        [result] = ask(by_customer, [{"customer_id": 42}], store=store)
        assert (result["status"], list(result["values"].values())) == ({"spend": "EXPIRED"}, NULLS)


def test_an_entity_without_windowed_row_has_the_empty_values() -> None:
    assert spend_of_42(None) == ("NOT_FOUND", EMPTY, None)
    assert spend_of_42(replace(ROW, tombstone=True)) == ("NOT_FOUND", EMPTY, None)


def test_an_entity_without_windowed_row_is_expired_past_the_ttl() -> None:
    assert spend_of_42(None, now=COVERAGE + TTL + MICROSECOND) == ("EXPIRED", NULLS, None)


def test_a_windowed_row_is_empty_from_the_coverage_at_which_its_windows_are() -> None:
    assert spend_of_42(replace(ROW, empties_at=micros(COVERAGE))) == ("EMPTY", EMPTY, T)
    assert spend_of_42(replace(ROW, empties_at=micros(COVERAGE) + 1))[0] == "PRESENT"
    assert spend_of_42(replace(ROW, empties_at=None))[0] == "PRESENT"


def test_a_snapshots_row_is_present_until_a_later_snapshot_does_not_have_it() -> None:
    assert contract_of_42(BASIC) == ("PRESENT", ["basic"])
    assert contract_of_42(replace(BASIC, empties_at=micros(COVERAGE) - 1)) == ("EMPTY", [None])
    assert contract_of_42(replace(BASIC, empties_at=micros(COVERAGE) - 1, held=True)) == ("EMPTY", [None])
    assert contract_of_42(None) == contract_of_42(replace(BASIC, tombstone=True)) == ("NOT_FOUND", [None])


def test_the_ttl_of_snapshots_counts_from_the_coverage() -> None:
    assert contract_of_42(BASIC, now=COVERAGE + TTL)[0] == "PRESENT"
    assert contract_of_42(BASIC, now=COVERAGE + TTL + MICROSECOND) == ("EXPIRED", [None])
    assert contract_of_42(None, coverage=None) == ("EXPIRED", [None])
    plan = FeatureService("plans", joins=(Join(contract),))
    assert ask(plan, [{"customer_id": 42}], store={})[0]["status"] == {"contract": "EXPIRED"}


def test_a_held_row_shows_no_values() -> None:
    assert spend_of_42(replace(ROW, held=True)) == ("HELD", NULLS, T)
    assert visit_of_7(replace(VISITED, held=True)) == ("HELD", [None, None], T)
    [result] = ask(by_airport, [{"airport": "EWR"}], store=stored(AIRPORT_RECORD, ("EWR",), replace(NAMED, held=True)))
    assert (result["status"], result["values"]) == ({"airport": "HELD"}, {"airport__name": None})


def test_a_held_row_is_empty_once_its_windows_are() -> None:
    held = replace(ROW, held=True, empties_at=micros(COVERAGE))
    assert spend_of_42(held) == ("EMPTY", EMPTY, T)
    assert spend_of_42(replace(held, empties_at=micros(COVERAGE) + 1)) == ("HELD", NULLS, T)


def test_a_null_in_a_row_is_a_value() -> None:
    assert spend_of_42(replace(ROW, values=(None, "1.00", 0, None))) == ("PRESENT", [None, "1.00", 0, None], T)


# ------------------------------------------------------------------------------------------------------- ages, arrays and defaults


HABIT = RowSchema(
    (("since_7d", "timestamp"), ("pages_7d", "array<string>"), ("paid_7d", "array<decimal(10,2)>"), ("seen_7d", "array<timestamp>"),
     ("visits_7d", "int64"), ("newest_7d", "timestamp"), ("paid_first_7d", "decimal(10,2)")),
)  # fmt: skip
HABIT_RECORD = replace(RECORD, group="habit", columns=HABIT.columns, empty=(None, None, None, None, 0, None, None))
HABITUAL = replace(
    ROW, values=(micros(NOW) - 1_500_001, ("home", None), ("1.50",), (micros(NOW), None), 2, micros(NOW), "1.50")
)  # fmt: skip


@pytest.fixture
def habit() -> WindowedGroup:
    """A group of what the language gained: the time since an event, arrays."""
    columns = {"customer_id": "int64", "page": "string", "amount": "decimal(10,2)", "seen": "timestamp", "at": "timestamp"}
    return WindowedGroup(
        "habit", customer, Source("events", columns=columns, event_timestamp="at"), ttl="2d",
        features=(
            Feature("since", "time_since_last", windows=("7d",)),
            Feature("pages", "top_k", "page", windows=("7d",), k=2),
            Feature("paid", "last_n", "amount", windows=("7d",), k=2),
            Feature("seen", "last_n", "seen", windows=("7d",), k=2),
            Feature("visits", "count", windows=("7d",)),
            Feature("newest", "last", "seen", windows=("7d",)),
            Feature("paid_first", "first", "amount", windows=("7d",)),
        ),
    )  # fmt: skip


def habit_of_42(habit: WindowedGroup, row: Row | None, *, now: datetime = NOW, **defaults: object) -> tuple[str, list[object]]:
    """Status and values of the customer 42."""
    service = FeatureService("habits", joins=(Join(habit),), defaults={f"habit__{name}": value for name, value in defaults.items()})
    [result] = ask(service, [{"customer_id": 42}], store=stored(HABIT_RECORD, (42,), row), now=now)
    return result["status"]["habit"], list(result["values"].values())


def test_an_age_is_seconds_up_to_the_request_and_an_array_is_a_list(habit: WindowedGroup) -> None:
    at = "2026-01-10T06:00:00Z"
    shown = ("PRESENT", [1.500001, ["home", None], ["1.50"], [at, None], 2, at, "1.50"])
    assert habit_of_42(habit, HABITUAL) == shown
    assert json.loads(json.dumps(habit_of_42(habit, HABITUAL)[1])) == shown[1]
    assert habit_of_42(habit, HABITUAL, now=NOW + MICROSECOND)[1][0] == 1.500002


def test_nulls_stay_nulls_and_an_array_of_nothing_is_not_null(habit: WindowedGroup) -> None:
    assert habit_of_42(habit, replace(HABITUAL, values=(None,) * 7)) == ("PRESENT", [None] * 7)
    assert habit_of_42(habit, replace(HABITUAL, values=(None, (), (), (), 0, None, None)))[1][1:4] == [[], [], []]
    assert habit_of_42(habit, None) == ("NOT_FOUND", [None, None, None, None, 0, None, None])


def test_a_default_stands_for_every_null_whatever_the_status(habit: WindowedGroup) -> None:
    defaults = {"since_7d": 604_800, "pages_7d": ["none"], "visits_7d": -1, "newest_7d": COVERAGE, "paid_first_7d": 0}
    shown = [604_800.0, ["none"], None, None, -1, T, "0.00"]
    empty = [604_800.0, ["none"], None, None, 0, T, "0.00"]
    late = NOW + 2 * TTL
    assert habit_of_42(habit, replace(HABITUAL, values=(None,) * 7), **defaults) == ("PRESENT", shown)
    assert habit_of_42(habit, replace(HABITUAL, held=True), **defaults) == ("HELD", shown)
    assert habit_of_42(habit, HABITUAL, now=late, **defaults) == ("EXPIRED", shown)
    assert habit_of_42(habit, replace(HABITUAL, empties_at=micros(COVERAGE)), **defaults) == ("EMPTY", empty)
    assert habit_of_42(habit, None, **defaults) == ("NOT_FOUND", empty)
    assert habit_of_42(habit, HABITUAL, **defaults) == habit_of_42(habit, HABITUAL)
    assert type(habit_of_42(habit, None, **defaults)[1][0]) is float


def test_a_default_stands_for_null_where_there_is_nothing_to_read(habit: WindowedGroup) -> None:
    service = FeatureService("habits", joins=(Join(habit, ("visits",), prefix="h"),), defaults={"h__visits_7d": 3})
    found = ask(service, [{"customer_id": 42}, {"customer_id": None}], store={})
    assert [(r["status"], r["values"]) for r in found] == [
        ({"h": "EXPIRED"}, {"h__visits_7d": 3}), ({"h": "NOT_FOUND"}, {"h__visits_7d": 3}),
    ]  # fmt: skip


def test_a_list_of_one_answer_is_not_that_of_another(habit: WindowedGroup) -> None:
    service = FeatureService("habits", joins=(Join(habit, ("pages",)),), defaults={"habit__pages_7d": ["none"]})
    first, second = ask(service, [{"customer_id": 1}, {"customer_id": 2}], store=records(HABIT_RECORD))
    first["values"]["habit__pages_7d"].append("changed")
    assert second["values"] == {"habit__pages_7d": ["none"]}


# ------------------------------------------------------------------------------------------------------------------- observation


def test_an_observed_row_shows_times_in_iso() -> None:
    assert visit_of_7(VISITED) == ("PRESENT", ["2026-01-09T23:59:59.999999Z", "1969-12-31"], T)


def test_the_ttl_of_an_observation_counts_from_its_own_time_and_is_inclusive() -> None:
    assert visit_of_7(VISITED, now=COVERAGE + TTL)[0] == "PRESENT"
    assert visit_of_7(VISITED, now=COVERAGE + TTL + MICROSECOND) == ("EXPIRED", [None, None], T)


def test_an_expired_observation_is_expired_even_if_held() -> None:
    assert visit_of_7(replace(VISITED, held=True), now=COVERAGE + TTL + MICROSECOND)[0] == "EXPIRED"


def test_an_entity_that_was_never_observed_or_was_retracted_is_not_found() -> None:
    assert visit_of_7(None) == ("NOT_FOUND", [None, None], None)
    assert visit_of_7(replace(VISITED, tombstone=True), now=NOW + 90 * DAY) == ("NOT_FOUND", [None, None], None)


def test_an_observation_group_that_was_never_synced_finds_nothing() -> None:
    [result] = ask(by_shop, [{"country": "DE", "shop_id": 7}], store={})
    assert result["status"] == {"visit": "NOT_FOUND"}


# ------------------------------------------------------------------------------------------------------------------------ static


def test_a_static_row_never_expires() -> None:
    store = stored(AIRPORT_RECORD, ("EWR",), NAMED)
    [known, unknown] = ask(by_airport, [{"airport": "EWR"}, {"airport": "XXX"}], store=store, now=NOW + 3650 * DAY)
    assert (known["status"], known["values"]) == ({"airport": "PRESENT"}, {"airport__name": "Newark"})
    assert (unknown["status"], unknown["values"]) == ({"airport": "NOT_FOUND"}, {"airport__name": None})


# ------------------------------------------------------------------------------------------------------------------- keys, joins


@pytest.mark.parametrize("service", [by_customer, by_shop, by_airport], ids=lambda s: s.name)
def test_a_null_key_is_not_found_and_null_whatever_the_group(service: FeatureService) -> None:
    everything = records(RECORD, VISIT_RECORD, AIRPORT_RECORD)
    for store in (everything, {}):
        [result] = ask(service, [dict.fromkeys(service.keys)], store=store)
        assert set(result["status"].values()) == {"NOT_FOUND"}
        assert set(result["values"].values()) == {None}
        assert set(result["event_timestamp"].values()) == {None}


def test_a_composite_key_with_one_null_is_not_found() -> None:
    store = stored(VISIT_RECORD, ("DE", None), VISITED)
    [result] = ask(by_shop, [{"country": "DE", "shop_id": None}], store=store)
    assert result["status"] == {"visit": "NOT_FOUND"}


def test_a_composite_key_is_read_in_the_entitys_order() -> None:
    [result] = ask(by_shop, [{"shop_id": 7, "country": "DE"}], store=stored(VISIT_RECORD, ("DE", 7), VISITED))
    assert result["status"] == {"visit": "PRESENT"}
    assert list(result["entity"]) == ["shop_id", "country"]


def test_one_group_joined_twice_is_read_by_two_of_the_callers_columns() -> None:
    service = FeatureService(
        "route",
        joins=(
            Join(airport, prefix="origin", on={"airport": "from_airport"}),
            Join(airport, prefix="destination", on={"airport": "to_airport"}),
        ),
    )
    store = stored(AIRPORT_RECORD, ("EWR",), NAMED) | stored(AIRPORT_RECORD, ("LAX",), replace(NAMED, values=("Los Angeles",)))
    results = ask(service, [{"from_airport": "EWR", "to_airport": "LAX"}, {"from_airport": "LAX", "to_airport": None}], store=store)
    assert [r["values"] for r in results] == [
        {"origin__name": "Newark", "destination__name": "Los Angeles"},
        {"origin__name": "Los Angeles", "destination__name": None},
    ]
    assert [r["status"] for r in results] == [
        {"origin": "PRESENT", "destination": "PRESENT"},
        {"origin": "PRESENT", "destination": "NOT_FOUND"},
    ]


def test_a_join_answers_the_features_it_names_in_their_order() -> None:
    service = FeatureService("some", joins=(Join(spend, features=("mean", "total_1d")),))
    [result] = ask(service, [{"customer_id": 42}], store=stored(RECORD, (42,), ROW))
    assert list(result["values"].items()) == [("spend__mean", 3.0), ("spend__total_1d", "1.50")]


def test_an_unknown_entity_does_not_touch_the_others_of_its_batch() -> None:
    results = ask(by_customer, [{"customer_id": 1}, {"customer_id": 42}, {"customer_id": 1}], store=stored(RECORD, (42,), ROW))
    assert [r["status"]["spend"] for r in results] == ["NOT_FOUND", "PRESENT", "NOT_FOUND"]
    assert [r["entity"]["customer_id"] for r in results] == [1, 42, 1]


# ------------------------------------------------------------------------------------------------------------------------- reads


def reads(plan_of: FeatureService, *, store: Mapping[str, bytes], generations: Mapping[str, int]) -> tuple[list[list[str]], Any]:
    """The keys of each read that a lookup makes, and what it returns."""
    plan = compile_service(plan_of)
    reading = lookup(plan, [{"customer_id": 42}], space=RECORD.space, generations=generations, now=NOW)
    asked = [next(reading)]
    while True:
        try:
            asked.append(reading.send([store.get(key) for key in asked[-1]]))
        except StopIteration as end:
            return asked, end.value


def test_one_read_fetches_epochs_and_rows_when_the_generation_is_known() -> None:
    asked, (results, generations, *_) = reads(by_customer, store=stored(RECORD, (42,), ROW), generations={"spend": 1, "other": 9})
    assert asked == [["hw:shop:lakelake:spend:epoch", "hw:shop:lakelake:spend@1:{42}"]]
    assert results[0]["status"] == {"spend": "PRESENT"}
    assert generations == {"spend": 1}


def test_the_read_is_repeated_once_when_another_generation_is_online() -> None:
    store = stored(replace(RECORD, generation=2), (42,), ROW)
    asked, (results, generations, *_) = reads(by_customer, store=store, generations={"spend": 1})
    assert asked[1] == ["hw:shop:lakelake:spend:epoch", "hw:shop:lakelake:spend@2:{42}"]
    assert len(asked) == 2
    assert results[0]["status"] == {"spend": "PRESENT"}
    assert generations == {"spend": 2}


def test_a_generation_replaced_between_two_reads_still_answers_from_one_of_them() -> None:
    plan = compile_service(by_customer)
    reading = lookup(plan, [{"customer_id": 42}], space=RECORD.space, generations={}, now=NOW)
    next(reading)
    keys = reading.send([encode_epoch(RECORD)])
    assert keys[1] == "hw:shop:lakelake:spend@1:{42}"
    newer = replace(RECORD, generation=2, columns=(("other", "int64"),), empty=(0,))
    with pytest.raises(StopIteration) as end:
        reading.send([encode_epoch(newer), encode(SPEND, ROW)])
    [result], generations, records, epochs = end.value.value
    assert result["values"]["spend__mean"] == 3.0
    assert generations == {"spend": 1}
    assert (records, epochs) == ({"spend": RECORD}, {"spend": [ROW.epoch]})


def test_it_is_told_which_sync_wrote_the_row_of_each_entity() -> None:
    record = replace(RECORD, floor=3)
    rows = [encode(SPEND, replace(ROW, epoch=epoch)) for epoch in (2, 3, 6)]
    entities = [{"customer_id": n} for n in (1, 2, 3, 4, None)]
    found = row_epochs(compile_service(by_customer), entities, stored=[encode_epoch(record), *rows, None], records={"spend": record})
    assert found == {"spend": [None, 3, 6, None, None]}


def test_a_group_of_two_joins_has_one_epoch_record() -> None:
    service = FeatureService("twice", joins=(Join(spend), Join(spend, prefix="again")))
    keys = read_keys(compile_service(service), [{"customer_id": 1}], space=RECORD.space, generations={"spend": 4})
    assert keys == ["hw:shop:lakelake:spend:epoch", "hw:shop:lakelake:spend@4:{1}", "hw:shop:lakelake:spend@4:{1}"]


# ----------------------------------------------------------------------------------------------------------------------- schemas


def test_rows_of_the_schema_to_come_are_read_while_a_sync_adds_a_column() -> None:
    before = replace(RECORD, columns=SPEND.columns[:3], empty=RECORD.empty[:3], also=(SPEND.columns,))
    key = layout.row_key(RECORD.space, "spend", 1, "42")
    [result] = ask(by_customer, [{"customer_id": 42}], store=records(before) | {key: encode(SPEND, ROW)})
    assert result["values"]["spend__mean"] == 3.0


def test_a_column_that_a_row_does_not_have_yet_is_null() -> None:
    older = RowSchema(SPEND.columns[:3])
    key = layout.row_key(RECORD.space, "spend", 1, "42")
    after = records(replace(RECORD, also=(older.columns,))) | {key: encode(older, replace(ROW, values=ROW.values[:3]))}
    [result] = ask(by_customer, [{"customer_id": 42}], store=after)
    assert list(result["values"].values()) == ["1.50", "12.00", 4, None]


def test_an_empty_value_that_was_not_synced_yet_is_null() -> None:
    older = replace(RECORD, columns=SPEND.columns[:3], empty=RECORD.empty[:3])
    assert list(ask(by_customer, [{"customer_id": 1}], store=records(older))[0]["values"].values()) == ["0.00", "0.00", 0, None]


def test_a_row_that_no_known_schema_reads_is_an_error_that_names_the_group() -> None:
    key = layout.row_key(RECORD.space, "spend", 1, "42")
    with pytest.raises(CodecError, match="spend"):
        ask(by_customer, [{"customer_id": 42}], store=records(RECORD) | {key: encode(AIRPORT, NAMED)})
