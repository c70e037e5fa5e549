"""Which values of one type are values of another, and which columns a source may say are of another type."""

from __future__ import annotations

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions.sql.data_types import fits, may_hold

PLAIN = ("string", "int64", "double", "boolean", "date", "timestamp")


@st.composite
def decimals(draw: st.DrawFn) -> tuple[int, int]:
    digits = draw(st.integers(1, 38))
    return digits, draw(st.integers(0, digits))


@given(decimals(), decimals())
def test_a_decimal_fits_another_if_its_greatest_and_its_finest_value_do(one: tuple[int, int], other: tuple[int, int]) -> None:
    (digits, scale), (most, after) = one, other
    with localcontext(prec=100):
        greatest, finest = Decimal(10**digits - 1).scaleb(-scale), Decimal(1).scaleb(-scale)
        held = greatest <= Decimal(10**most - 1).scaleb(-after) and finest % Decimal(1).scaleb(-after) == 0
        whole = int(greatest) < 10 ** (most - after)
    assert fits(f"decimal({digits},{scale})", f"decimal({most},{after})") == (held and whole)


@pytest.mark.parametrize("one", PLAIN)
def test_of_other_types_each_fits_itself_alone_and_nothing_but_null_fits_all(one: str) -> None:
    assert [other for other in PLAIN if fits(one, other)] == [one]
    assert fits("null", one)
    assert fits(f"array<{one}>", f"array<{one}>")
    assert not fits(one, f"array<{one}>")


def test_whole_numbers_may_be_said_to_be_other_numbers_alone_and_in_arrays() -> None:
    wanted = ("double", "decimal(4,2)")
    assert not any(fits("int64", number) for number in wanted)
    assert all(may_hold("int64", number) and may_hold("array<int64>", f"array<{number}>") for number in wanted)
    assert not any(may_hold("int64", other) for other in ("string", "boolean", "date", "timestamp"))
    assert not may_hold("double", "int64")
