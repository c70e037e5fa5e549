"""Features computed on demand: n rows at once give the bits of n single rows, and one bad row is alone in its failure."""

import math
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions import OnDemandFeature, Request, on_demand
from feature_definitions.on_demand import Values

NOON = datetime(2026, 1, 5, 12, 30, 0, 7, tzinfo=UTC)
KINDS: dict[str, list[Any]] = {
    "int64": [0, -1, 2**63 - 1, -(2**63), None],
    "double": [0.1, -0.0, 1e308, 5e-324, None],
    "boolean": [True, False, None],
    "string": ["", "ä", "a\x00b", None],
    "date": [date(1, 1, 1), date(2026, 1, 5), date(9999, 12, 31), None],
    "timestamp": [NOON, datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), None],
    "decimal(10,2)": [Decimal("12.50"), Decimal("-0.01"), None],
    "array<double>": [[1.0, 2.5], [], None],
    "array<timestamp>": [[NOON, None], None],
}


def feature(function: Callable[..., object], kind: str = "double", *, rows: bool = False, **inputs: str) -> OnDemandFeature:
    """A feature of fields of a request."""
    return OnDemandFeature("f", tuple(Request(name, of) for name, of in (inputs or {"x": "double"}).items()), kind, function, rows=rows)


def values(of: OnDemandFeature, *columns: Sequence[Any]) -> list[Any]:
    """What it gives, FAILED where its function failed."""
    found = computed(of, *columns)
    shown = on_demand.to_python(found, of.type)
    return ["FAILED" if failed else value for value, failed in zip(shown, found.failures, strict=True)]


def computed(of: OnDemandFeature, *columns: Sequence[Any]) -> Values:
    given = [on_demand.of_python(column, kind) for column, kind in zip(columns, of.requests.values(), strict=True)]
    return on_demand.compute(of, given, count=len(columns[0]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [True, False])
def test_every_type_goes_in_and_comes_out_as_it_was(kind: str, rows: bool) -> None:
    same = feature(lambda x: x, kind, rows=rows, x=kind)
    assert [repr(value) for value in values(same, KINDS[kind])] == [repr(value) for value in KINDS[kind]]


def test_a_function_of_columns_gets_arrays_of_their_types_and_one_of_rows_python_values() -> None:
    seen: list[Any] = []

    def note(*given: Any) -> Any:
        seen.append(given)
        return np.zeros(1) if isinstance(given[0], np.ndarray) else 0.0

    kinds = {"a": "int64", "b": "double", "c": "boolean", "d": "date", "e": "timestamp", "f": "string"}
    row = [[1], [2.0], [True], [NOON.date()], [NOON], ["x"]]
    values(feature(note, **kinds), *row)
    values(feature(note, rows=True, **kinds), *row)
    assert [str(each.dtype) for each in seen[0]] == ["int64", "float64", "bool", "datetime64[D]", "datetime64[us]", "object"]
    assert seen[1] == (1, 2.0, True, NOON.date(), NOON, "x")


def test_a_null_arrives_as_none_and_costs_only_the_rows_that_have_it() -> None:
    def share(x: Any, y: Any) -> Any:
        return x / y

    def either(x: Any, y: Any) -> Any:
        return y if x[0] is None else x

    columns = [1.0, None, 3.0, None], [2.0, 2.0, None, None]
    assert values(feature(share, x="double", y="double"), *columns) == [0.5, "FAILED", "FAILED", "FAILED"]
    assert values(feature(either, x="double", y="double"), *columns) == [1.0, 2.0, 3.0, None]
    assert values(feature(lambda x, y: (x or 0) + (y or 0), rows=True, x="double", y="double"), *columns) == [3.0, 2.0, 3.0, 0.0]


@pytest.mark.parametrize("rows", [False, True])
def test_a_function_that_would_end_the_process_fails_its_rows(rows: bool) -> None:
    assert values(feature(lambda _: sys.exit(3), rows=rows), [1.0, 2.0]) == ["FAILED", "FAILED"]


def test_the_row_for_which_it_raises_is_failed_and_the_others_are_computed() -> None:
    def strict(x: Any) -> Any:
        if (x == 7).any():
            raise ValueError("seven")
        return x * 2

    given = [float(n) for n in range(20)]
    assert values(feature(strict), given) == ["FAILED" if n == 7 else n * 2.0 for n in range(20)]


def test_an_exit_is_an_error_like_any_other_and_an_interrupt_is_not_caught() -> None:
    def end(how: type[BaseException]) -> Any:
        raise how

    assert values(feature(lambda _: end(SystemExit)), [1.0]) == ["FAILED"]
    with pytest.raises(KeyboardInterrupt):
        values(feature(lambda _: end(KeyboardInterrupt)), [1.0])


def test_a_number_that_is_not_finite_is_null_without_a_warning() -> None:
    assert values(feature(np.log), [0.0, 1.0]) == [None, 0.0]
    assert values(feature(lambda x: math.inf * x, rows=True), [1.0]) == [None]
    assert values(feature(lambda x: x / 0, "int64"), [1.0]) == [None]


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("double", "1"),
        ("double", True),
        ("int64", 1.5),
        ("int64", 2**63),
        ("int64", True),
        ("boolean", 1),
        ("string", 1),
        ("string", "\ud800"),
        ("date", NOON),
        ("timestamp", NOON.date()),
        ("decimal(4,2)", Decimal("0.001")),
        ("decimal(4,2)", Decimal(100)),
        ("decimal(4,2)", 0.5),
        ("array<int64>", 1),
        ("array<int64>", [1.5]),
    ],
)
@pytest.mark.parametrize("rows", [True, False])
def test_what_the_type_cannot_hold_exactly_is_failed(kind: str, given: object, rows: bool) -> None:
    assert values(feature(lambda _: given if rows else [given], kind, rows=rows), [1.0]) == ["FAILED"]


@pytest.mark.parametrize("given", [1.0, "ab", np.zeros((2, 2)), np.zeros(3), None, {1: 2, 2: 3}])
def test_what_is_not_one_value_for_each_row_is_failed(given: object) -> None:
    assert values(feature(lambda _: given), [1.0, 2.0]) == ["FAILED", "FAILED"]


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("double", np.array([1, 2]), [1.0, 2.0]),
        ("double", np.array([1.5, 2], "float32"), [1.5, 2.0]),
        ("int64", np.array([1.0, np.nan]), [1, None]),
        ("int64", np.array([1, 2], "uint8"), [1, 2]),
        ("string", np.array(["a", "bc"]), ["a", "bc"]),
        ("date", np.array(["2026-01-05T00", "NaT"], "datetime64[h]"), [date(2026, 1, 5), None]),
        ("date", np.array(["2026-01-05T01", "NaT"], "datetime64[h]"), ["FAILED", "FAILED"]),
        ("timestamp", np.array(["2026-01-05", "NaT"], "datetime64[ns]"), [datetime(2026, 1, 5, tzinfo=UTC), None]),
        ("array<int64>", np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        ("double", [np.float64(1.5), None], [1.5, None]),
        ("double", np.ma.array([1.5, 2], mask=[False, True]), [1.5, None]),
        ("int64", np.ma.array([2**63 - 1, 2.5], mask=[False, True], dtype=object), [2**63 - 1, None]),
        ("date", np.ma.array(["2026-01-05", "2026-01-06"], mask=[False, True], dtype="datetime64[D]"), [date(2026, 1, 5), None]),
        ("int64", pd.array([2**63 - 1, None], "Int64"), [2**63 - 1, None]),
        ("string", pd.Series(["a", None], dtype="string"), ["a", None]),
        ("decimal(4,1)", [Decimal(1), 2], [Decimal("1.0"), Decimal("2.0")]),
    ],
)
def test_what_numpy_and_lists_hold_is_taken_as_the_type(kind: str, given: Any, expected: list[Any]) -> None:
    assert values(feature(lambda x: given[: len(x)], kind), [1.0, 2.0]) == expected


def test_a_function_that_writes_into_its_inputs_changes_nothing() -> None:
    def spoil(x: Any) -> Any:
        x *= 0
        return x

    given = on_demand.of_python([1.0, 2.0], "double")
    assert on_demand.to_python(on_demand.compute(feature(spoil), [given], count=2), "double") == [0.0, 0.0]
    assert on_demand.to_python(given, "double") == [1.0, 2.0]


def test_no_rows_are_no_call() -> None:
    assert values(feature(lambda _: 1 / 0), []) == []


def test_a_function_that_looks_at_other_rows_is_found_out() -> None:
    given = [on_demand.of_python([1.0, 2.0, 3.0], "double")]
    by_all, by_itself = feature(lambda x: x - x.mean()), feature(lambda x: x - 1)
    found = [on_demand.compute(each, given, count=3) for each in (by_all, by_itself)]
    assert on_demand.differs_alone(by_all, given, found[0], rows=range(3)) == 0
    assert on_demand.differs_alone(by_all, given, found[0], rows=[1]) is None
    assert on_demand.differs_alone(by_itself, given, found[1], rows=range(3)) is None


DOUBLES = st.floats(allow_nan=False, allow_infinity=False) | st.none() | st.sampled_from([0.0, -0.0, 1.0])
ROWS = st.lists(st.tuples(DOUBLES, st.integers(-(2**63), 2**63 - 1) | st.none(), st.text(max_size=3) | st.none()), max_size=30)


def _logarithm(x: Any, n: Any, _: Any) -> Any:
    return np.log1p(np.abs(x)) * np.sin(n)


def _score(x: Any, n: Any, t: Any) -> Any:
    return [1.0 / (1.0 + math.exp(-(a * 1e-3 + len(c)))) if b else None for a, b, c in zip(x, n, t, strict=True)]


def _ratio(x: float, n: int, t: str) -> float:
    return x / n + len(t)


@given(rows=ROWS)
@pytest.mark.parametrize("of", [(_logarithm, False), (_score, False), (_ratio, True)], ids=["numpy", "list", "rows"])
def test_n_rows_at_once_give_the_bits_of_n_single_rows(of: tuple[Callable[..., object], bool], rows: list[tuple[Any, ...]]) -> None:
    one = feature(of[0], rows=of[1], x="double", n="int64", t="string")
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[], [], []]
    alone = [values(one, *[[value] for value in row])[0] for row in rows]
    assert [repr(value) for value in values(one, *columns)] == [repr(value) for value in alone]


@given(micro=st.integers(-62135596800 * 10**6, 253402300799 * 10**6))
def test_any_instant_keeps_its_microseconds(micro: int) -> None:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micro)
    assert values(feature(lambda x: x, "timestamp", x="timestamp"), [at]) == [at]
