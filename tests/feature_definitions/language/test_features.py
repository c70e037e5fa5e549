"""Features: their windows, their values, the columns they make, and what cannot be asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions import DefinitionError, Feature, Rows, at_least
from feature_definitions.aggregations import AGGREGATIONS
from feature_definitions.language.features import reach
from feature_definitions.sql.expressions import columns_in, type_of

if TYPE_CHECKING:
    from collections.abc import Callable


def feature(**changes: Any) -> Feature:
    return Feature(**{"name": "spend", "aggregation": "sum", "of": "amount", "windows": ("1d",), **changes})


def refuses(make: Callable[[], object], message: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        make()
    assert message in str(refused.value)


# --------------------------------------------------------------------------------------------------------------------- windows


def test_each_kind_of_window_ends_its_column_in_its_own_way() -> None:
    windows = ("5m", "730d", " lifetime ", Rows(20, within="60d"))
    assert feature(windows=windows).columns == ("spend_5m", "spend_730d", "spend_lifetime", "spend_20rows")


def test_a_window_reaches_so_far_back() -> None:
    assert [reach(window) for window in ("36h", Rows(3, within="60d"), "lifetime")] == [timedelta(hours=36), timedelta(days=60), None]


def test_one_window_of_rows_may_stand_for_a_tuple_of_one() -> None:
    assert feature(windows=Rows(5, within=" 30d ")).windows == (Rows(5, within="30d"),)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rows(0, within="60d"), "Rows(0) is no number of rows; write 1 to 10,000, like Rows(20, within='60d')"),
        (lambda: Rows(10_001, within="60d"), "Rows(10001) is no number of rows"),
        (lambda: Rows(True, within="60d"), "Rows(True) is no number of rows"),
        (lambda: Rows("20", within="60d"), "Rows('20') is no number of rows"),  # type: ignore[arg-type]
        (lambda: Rows(20, within="731d"), "reaches '731d' back; write within='5m' to '730d'"),
        (lambda: Rows(20, within="1m"), "reaches '1m' back"),
        (lambda: Rows(20, within="far"), "20rows, within: 'far' is not a duration"),
        (lambda: feature(windows=(Rows(5, within="30d"), Rows(5, within="60d"))), "has the window '5rows' twice; remove one"),
        (lambda: feature(windows=("lifetime", "lifetime")), "has the window 'lifetime' twice"),
        (lambda: feature(windows=("always",)), "is not a duration; write a whole number and a unit of s, m, h, d or w, like '5m' or '7d'"),
        (lambda: feature(windows=("always",)), "; or write 'lifetime', or Rows(20, within='60d')"),
    ],
)
def test_a_window_that_means_nothing_is_refused(make: Callable[[], object], message: str) -> None:
    refuses(make, message)


def test_windows_of_one_row_and_of_ten_thousand_are_taken() -> None:
    assert feature(windows=(Rows(1, within="5m"), Rows(10_000, within="730d"))).columns == ("spend_1rows", "spend_10000rows")


# ---------------------------------------------------------------------------------------------------------------- aggregations


NEEDS: dict[str, dict[str, Any]] = {"quantile": {"q": 0.95}, "top_k": {"k": 3}, "last_n": {"k": 3}}


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_every_aggregation_is_taken_with_what_it_needs(aggregation: str) -> None:
    assert feature(aggregation=aggregation, **NEEDS.get(aggregation, {})).columns == ("spend_1d",)


@pytest.mark.parametrize("aggregation", [name for name in AGGREGATIONS if name not in NEEDS])
def test_q_and_k_are_refused_where_they_mean_nothing(aggregation: str) -> None:
    refuses(lambda: feature(aggregation=aggregation, q=0.5), f"q=0.5 is for the aggregation quantile, not {aggregation}; remove it")
    refuses(lambda: feature(aggregation=aggregation, k=3), f"k=3 is for top_k and last_n, not {aggregation}; remove it")


@pytest.mark.parametrize("aggregation", [name for name in AGGREGATIONS if name not in ("count", "time_since_last")])
def test_an_aggregation_is_of_something(aggregation: str) -> None:
    refuses(lambda: feature(aggregation=aggregation, of=None, **NEEDS.get(aggregation, {})), f"{aggregation} of what? Name a column, like")


def test_events_are_counted_and_timed_without_a_column() -> None:
    assert feature(aggregation="count", of=None).of is None
    assert feature(aggregation="time_since_last", of=None).of is None


@pytest.mark.parametrize("q", [None, 0, 1, 1.0, -0.5, 95, True, "0.5", float("nan")])
def test_a_quantile_lies_between_0_and_1(q: Any) -> None:
    refuses(lambda: feature(aggregation="quantile", q=q), f"asks for the quantile q={q!r}; write 0 < q < 1, like q=0.95")


@pytest.mark.parametrize("aggregation", ["top_k", "last_n"])
@pytest.mark.parametrize("k", [None, 0, 101, True, 2.0])
def test_one_to_a_hundred_values_are_kept(aggregation: str, k: Any) -> None:
    refuses(lambda: feature(aggregation=aggregation, k=k), f"keeps k={k!r} values; write a whole number from 1 to 100, like k=3")
    assert feature(aggregation=aggregation, k=100).k == 100


def test_a_lag_is_sent_to_the_source() -> None:
    refuses(lambda: feature(aggregation="lag"), "a lag is of events, not of windows; derive it at the source, like derive={'change': ")


# -------------------------------------------------------------------------------------------------------------------------- by


def test_by_makes_a_feature_of_each_value() -> None:
    split = feature(by={"category": ("food", "Travel & Fun")}, windows=("1d", "7d"), expect=(at_least(0),))
    food, travel = split.expanded
    assert food == replace(split, name="spend_food", where="`category` = 'food'", by=None)
    assert (travel.name, travel.where) == ("spend_travel_fun", "`category` = 'Travel & Fun'")
    assert split.columns == ("spend_food_1d", "spend_food_7d", "spend_travel_fun_1d", "spend_travel_fun_7d")
    assert travel.expect == (at_least(0),)


def test_without_by_a_feature_is_all_that_it_expands_to() -> None:
    plain = feature(where="amount > 0")
    assert plain.expanded == (plain,)


def test_a_features_own_condition_stays_whole_beside_that_of_its_value() -> None:
    (food,) = feature(by={"category": ("food",)}, where="a > 0 or b > 0").expanded
    assert food.where == "`category` = 'food' AND (a > 0 or b > 0)"
    (commented,) = feature(by={"category": ("food",)}, where="a > 0 -- only large").expanded
    assert columns_in(str(commented.where)) == {"category", "a"}


def test_whole_numbers_are_values_too() -> None:
    assert [each.where for each in feature(by={"store": (1, 20)}).expanded] == ["`store` = 1", "`store` = 20"]
    assert feature(by={"store": (1, 20)}).columns == ("spend_1_1d", "spend_20_1d")


@given(st.text(min_size=1))
def test_whatever_a_value_holds_it_is_one_condition_on_its_column(value: str) -> None:
    try:
        (only,) = feature(by={"category": ("x", value)}).expanded[1:]
    except DefinitionError:
        return
    assert columns_in(str(only.where)) == {"category"}
    assert type_of(str(only.where), {"category": "string"}) == "boolean"


@pytest.mark.parametrize(
    ("by", "message"),
    [
        (
            "category",
            "is by 'category' without a closed list of values, so its columns would follow the data; write by={'category': ('food',",
        ),
        ({"category": ()}, "is by 'category' without a closed list of values"),
        ({"category": "food"}, "is by 'category' without a closed list of values, but 'food'"),
        ({"category": None}, "is by 'category' without a closed list of values"),
        ({}, "has by={}; write one column with the closed list of its values"),
        ({"a": ("x",), "b": ("y",)}, "write one column with the closed list of its values"),
        ({"a b": ("x",)}, "is by 'a b', which is no column"),
        ({3: ("x",)}, "is by 3, which is no column"),
        ({"category": ("food", 1)}, "with the values ('food', 1); write texts, or whole numbers"),
        ({"category": (True,)}, "write texts, or whole numbers"),
        ({"category": (1.5,)}, "write texts, or whole numbers"),
        ({"category": ("&",)}, "'&' makes no column name; write values with letters a-z or digits"),
        ({"category": ("Food", "food")}, "has the column for its values 'spend_food' twice; give each value a name of its own"),
        ({"store": (1, -1)}, "has the column for its values 'spend_1' twice"),
    ],
)
def test_by_without_a_closed_list_of_values_that_name_columns_is_refused(by: Any, message: str) -> None:
    refuses(lambda: feature(by=by), message)
