"""Expectations: each is named by the call that made it, and one that means nothing is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from feature_definitions import DefinitionError, Expectation, mean_between, quantile_between, row_count, unique
from feature_definitions.language.expect import expectations

if TYPE_CHECKING:
    from collections.abc import Callable


def test_what_is_expected_of_an_interval_is_named_by_the_call_that_made_it() -> None:
    made = [
        unique(),
        mean_between(0, 1.5),
        quantile_between(0.95, 0, 10),
        row_count(1),
        row_count(at_least=1, at_most=9, change=0.5),
        row_count(change=2),
    ]
    assert [str(e) for e in made] == [
        "unique()",
        "mean_between(0, 1.5)",
        "quantile_between(0.95, 0, 10)",
        "row_count(at_least=1)",
        "row_count(at_least=1, at_most=9, change=0.5)",
        "row_count(change=2)",
    ]


def test_arguments_stand_in_the_order_of_the_signature() -> None:
    assert row_count(change=0.5) == Expectation("row_count", (None, None, 0.5))
    assert quantile_between(0.5, 1, 2, severity="info") == Expectation("quantile_between", (0.5, 1, 2), "info")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (row_count, "row_count says nothing; write row_count(at_least=1), or row_count(change=0.5)"),
        (lambda: row_count(-1), "row_count(at_least=-1) counts rows, not -1; write a whole number from 0"),
        (lambda: row_count(at_most=True), "counts rows, not True"),
        (lambda: row_count(at_least=1.5), "counts rows, not 1.5"),  # type: ignore[arg-type]
        (lambda: row_count(2, at_most=1), "row_count(at_least=2, at_most=1) accepts nothing; at_least is the smaller bound"),
        (lambda: row_count(change=0), "row_count(change=0) lets nothing change; write a share above 0, like change=0.5"),
        (lambda: row_count(change="half"), "row_count takes a number, not 'half'"),  # type: ignore[arg-type]
        (lambda: mean_between(2, 1), "mean_between(2, 1) accepts nothing; write the smaller bound first"),
        (lambda: mean_between(0, "x"), "mean_between takes a number, not 'x'"),  # type: ignore[arg-type]
        (lambda: quantile_between(0, 1, 2), "quantile_between(0, 1, 2) asks for no quantile; write 0 < q < 1, like 0.95"),
        (lambda: quantile_between(1, 1, 2), "asks for no quantile"),
        (lambda: quantile_between(0.5, 2, 1), "quantile_between(2, 1) accepts nothing"),
    ],
)
def test_an_expectation_that_means_nothing_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        make()
    assert message in str(refused.value)


def test_one_expectation_may_stand_for_a_tuple_of_one() -> None:
    assert expectations("here", unique()) == expectations("here", [unique()]) == (unique(),)
