"""Ages and defaults, as answers online and training sets both show them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from math import copysign

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions.language.rules import DefinitionError
from feature_definitions.reading import age, default, to_json

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
