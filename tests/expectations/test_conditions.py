"""An expectation says in Spark SQL which rows are bad, and what tells at less cost whether there are any."""

import pytest

from expectations.conditions import name, names, not_finite, screen, text, violation
from feature_definitions import DefinitionError, Expectation, at_least, at_most, between, expression, one_of
from feature_definitions.sql.expressions import spark_sql


@pytest.mark.parametrize(
    ("expectation", "expected"),
    [
        (at_least(0), "`x` < 0 OR isnan(`x`)"),
        (at_most(-1.5), "`x` > -1.5"),
        (between(1e-7, 10**18), "`x` < 0.0000001 OR `x` > 1000000000000000000"),
        (at_most(1e300), "`x` > 1e+300D"),
        (at_most(10**60), "`x` > 1e+60D"),
        (at_most(float("inf")), "`x` > double('inf')"),
        (one_of(1, 2.5), "`x` NOT IN (1, 2.5)"),
        (one_of(True, False), "`x` NOT IN (true, false)"),
        (one_of("EWR"), "`x` NOT IN ('EWR')"),
        (one_of("it's", "a\\", "${env:HOME}"), r"`x` NOT IN ('it\'s', 'a\\', '\u0024{env:HOME}')"),
        (expression("x > 0 OR x < -9"), "NOT (`x` > 0 OR `x` < -9)"),
    ],
)
def test_an_expectation_gives_the_condition_of_a_bad_row(expectation: Expectation, expected: str) -> None:
    assert violation(expectation, "`x`") == expected


def test_an_expression_is_rewritten_for_spark() -> None:
    rewritten = spark_sql("1 / x > 0")
    assert rewritten != "1 / x > 0"
    assert violation(expression("1 / x > 0"), "") == f"NOT ({rewritten})"


@pytest.mark.parametrize(
    ("expectation", "expected"),
    [
        (at_least(0), "min(`x`) < 0 OR isnan(max(`x`))"),
        (at_most(9), "max(`x`) > 9"),
        (between(-1, 1), "min(`x`) < -1 OR max(`x`) > 1"),
        (one_of(1, 2), None),
        (expression("x > 0"), None),
    ],
)
def test_the_least_and_the_greatest_value_tell_whether_bounds_hold(expectation: Expectation, expected: str | None) -> None:
    assert screen(expectation, "`x`") == expected


def test_what_is_not_finite_is_said_of_rows() -> None:
    assert not_finite(["a", "b"]) == "isnan(`a`) OR abs(`a`) = double('inf') OR isnan(`b`) OR abs(`b`) = double('inf')"


def test_values_of_several_kinds_are_refused() -> None:
    with pytest.raises(DefinitionError, match=r"one_of\('a', 1\) mixes texts, numbers or truth values; a column holds one kind"):
        violation(one_of("a", 1), "`x`")


def test_an_expectation_of_an_unknown_kind_is_refused_and_never_passed_over() -> None:
    with pytest.raises(DefinitionError, match=r"sorted\(\) is no expectation that can be measured"):
        violation(Expectation("sorted"), "`x`")


def test_columns_and_texts_are_quoted() -> None:
    assert name("a b") == "`a b`"
    assert names(["a", "b"]) == "`a`, `b`"
    assert text("it's $5") == r"'it\'s \u00245'"
