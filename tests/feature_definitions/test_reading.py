"""Ages and defaults, as answers online and training sets both show them."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from math import copysign
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions.language import Derived, Entity, Feature, ObservationGroup, Source, WindowedGroup
from feature_definitions.language.rules import DefinitionError
from feature_definitions.reading import (
    CASES,
    FOREVER,
    NEVER,
    Question,
    age,
    conditions,
    default,
    empty_text,
    empty_values,
    from_json,
    to_json,
)

CUSTOMER = Entity("customer", {"customer_id": "int64"})
PAYMENTS = Source(
    "payments", columns={"customer_id": "int64", "amount": "decimal(10,2)", "paid_at": "timestamp"}, event_timestamp="paid_at"
)
SPEND = WindowedGroup(
    "spend", CUSTOMER, PAYMENTS, ttl="2d",
    features=(Feature("paid", "sum", "amount", windows=("1d",)), Feature("last", "last", "amount", windows=("1d",)),
              Derived("twice", "paid_1d * 2")),
)  # fmt: skip
TYPES = {"paid_1d": "decimal(20,2)", "last_1d": "decimal(10,2)", "twice": "decimal(22,2)"}
INSTANTS = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)


def test_an_age_is_seconds_to_the_microsecond() -> None:
    assert [age(10_000_001, stored) for stored in (10_000_000, 0, 10_000_002)] == [0.000001, 10.000001, -0.000001]
    assert type(age(2_000_000, 1_000_000)) is float


@given(INSTANTS, INSTANTS)
def test_an_age_is_the_microseconds_as_a_double_divided_by_a_million(asked: int, stored: int) -> None:
    assert age(asked, stored) == float(asked - stored) / 1_000_000.0


@pytest.mark.parametrize(
    ("value", "kind", "typed"),
    [
        (0, "double", 0.0), (2.5, "double", 2.5), (Decimal("0.5"), "double", 0.5), (3.0, "int64", 3), (-(2**63), "int64", -(2**63)),
        (0, "decimal(10,2)", Decimal("0.00")), (0.1, "decimal(10,2)", Decimal("0.10")), (-0.0, "decimal(2,2)", Decimal("0.00")),
        (Decimal("1e3"), "decimal(38,0)", Decimal(1000)), (True, "boolean", True), ("none", "string", "none"),
        (date(2026, 1, 5), "date", date(2026, 1, 5)), ([1, 2.5], "array<double>", (1.0, 2.5)), ((), "array<string>", ()),
        (datetime(2026, 1, 5, 2, tzinfo=timezone(timedelta(hours=2))), "timestamp", datetime(2026, 1, 5, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_a_default_has_the_type_of_its_column(value: object, kind: str, typed: object) -> None:
    found = default(value, kind)
    assert (found, type(found), to_json(found)) == (typed, type(typed), to_json(typed))


def test_the_values_of_a_default_array_have_their_type_too() -> None:
    assert [type(each) for each in default([1, 2], "array<double>")] == [float, float]  # type: ignore[attr-defined]  # an array


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (0.005, "decimal(10,2)"), (10**8, "decimal(10,2)"), (float("nan"), "double"), (float("inf"), "decimal(10,2)"), (10**400, "double"),
        (2**63, "int64"), (0.5, "int64"), ([1, 2**63], "array<int64>"),
    ],
)  # fmt: skip
def test_a_default_that_its_column_can_not_hold_exactly_is_refused(value: object, kind: str) -> None:
    with pytest.raises(DefinitionError, match="write one that it can hold exactly"):
        default(value, kind)


def test_answers_spell_decimals_times_and_arrays_of_them() -> None:
    at = datetime(2026, 1, 5, 0, 0, 0, 1, tzinfo=UTC)
    assert to_json([Decimal("1E+2"), at, at.date(), None, 1.5, "a"]) == (
        "100", "2026-01-05T00:00:00.000001Z", "2026-01-05", None, 1.5, "a",
    )  # fmt: skip
    assert copysign(1, to_json(-0.0)) == -1


def decided(kind: Any, *, at: int = 100, coverage: int = 90, ttl: int = 10, **row: Any) -> tuple[str, str]:
    """The case of a row of 95 that never empties, and of what is said otherwise."""
    facts = {"nobody": False, "absent": False, "at": 95, "empties_at": FOREVER, "held": False} | row
    return CASES[conditions(Question(kind, at, coverage, ttl), **facts).index(True)]


def test_a_row_that_stands_is_present_in_every_kind_of_group() -> None:
    assert {decided(kind) for kind in ("windowed", "snapshot", "observation", "static")} == {("PRESENT", "row")}


@pytest.mark.parametrize("kind", ["windowed", "snapshot", "observation", "static"])
def test_a_null_key_is_nobody_before_anything_else_is_asked(kind: str) -> None:
    assert decided(kind, nobody=True, absent=True, held=True, coverage=NEVER) == ("NOT_FOUND", "nothing")


@pytest.mark.parametrize("kind", ["windowed", "snapshot"])
def test_a_ttl_counts_from_the_coverage_and_is_inclusive(kind: str) -> None:
    assert decided(kind, coverage=90, at=100)[0] == "PRESENT"
    for more in ({"at": 101}, {"coverage": NEVER}, {"at": 101, "absent": True}, {"at": 101, "held": True}, {"at": 101, "empties_at": 0}):
        assert decided(kind, **more) == ("EXPIRED", "nothing")


def test_a_ttl_counts_from_an_observations_own_time_and_comes_before_its_being_held() -> None:
    assert decided("observation", at=105)[0] == "PRESENT"
    assert decided("observation", at=106) == decided("observation", at=106, held=True) == ("EXPIRED", "nothing")
    assert decided("observation", at=106, absent=True) == ("NOT_FOUND", "empty")


def test_windows_are_empty_by_the_coverage_and_snapshots_by_the_time_that_is_asked_for() -> None:
    assert [decided("windowed", empties_at=time)[0] for time in (90, 91)] == ["EMPTY", "PRESENT"]
    assert [decided("snapshot", empties_at=time)[0] for time in (100, 101)] == ["EMPTY", "PRESENT"]
    assert decided("windowed", empties_at=90, held=True) == ("EMPTY", "empty")


def test_what_was_held_back_gives_nothing() -> None:
    assert decided("static", held=True) == decided("windowed", held=True) == ("HELD", "nothing")


def test_static_rows_do_not_grow_old() -> None:
    assert decided("static", at=10**15, coverage=NEVER)[0] == "PRESENT"
    assert decided("static", absent=True) == ("NOT_FOUND", "empty")


def test_empty_values_follow_from_aggregations_but_for_what_is_derived() -> None:
    assert empty_values(SPEND, TYPES, kept=None) == {"paid_1d": Decimal("0.00"), "last_1d": None}
    last = ObservationGroup("last", CUSTOMER, PAYMENTS, columns=("amount",), ttl="2d")
    assert empty_values(last, {"amount": "decimal(10,2)"}, kept=None) == {"amount": None}


def test_empty_values_that_a_publish_kept_have_the_types_of_their_columns() -> None:
    found = {"paid_1d": Decimal("0.00"), "last_1d": None, "twice": Decimal("0.00")}
    assert empty_values(SPEND, TYPES, kept=empty_text(found)) == found
    assert [str(value) for value in empty_values(SPEND, TYPES, kept=empty_text(found)).values()] == ["0.00", "None", "0.00"]


@pytest.mark.parametrize(
    ("value", "data_type"),
    [
        (0.1, "double"), (-7, "int64"), (True, "boolean"), ("a", "string"), (None, "timestamp"), (Decimal("1.50"), "decimal(10,2)"),
        (date(2026, 1, 5), "date"), (datetime(2026, 1, 5, 0, 0, 0, 1, tzinfo=UTC), "timestamp"),
        ((Decimal("1.50"), None), "array<decimal(10,2)>"), ((), "array<string>"),
    ],
)  # fmt: skip
def test_what_is_read_from_json_is_what_was_written(value: object, data_type: str) -> None:
    assert from_json(json.loads(json.dumps(to_json(value))), data_type) == value
