"""A group's definition gives its checks: which rows are bad, how they are counted, and the suite that judges the counts."""

import json
from collections.abc import Callable

import pytest

from expectations.suite import Check, bad_row_sql, checks, gx_expectations, measures, suite
from feature_definitions import (
    DefinitionError,
    Derived,
    Entity,
    Expectation,
    Feature,
    FeatureGroup,
    ObservationGroup,
    Source,
    WindowedGroup,
    at_least,
    at_most,
    between,
    expression,
    not_null,
    one_of,
)

customer = Entity("customer", keys={"customer_id": "int64", "country": "string"})
payments = Source(
    "payments",
    columns={"customer_id": "int64", "country": "string", "paid_at": "timestamp", "amount": "double", "kind": "string"},
    event_timestamp="paid_at",
)


def spend(*features: Feature | Derived, expect: tuple[Expectation, ...] = ()) -> WindowedGroup:
    """A windowed group of these features."""
    return WindowedGroup("spend", customer, payments, ttl="2d", features=features, expect=expect)


def amount(*expect: Expectation, windows: tuple[str, ...] = ("7d",)) -> Feature:
    return Feature("amount", "sum", "amount", windows=windows, expect=expect)


def as_written(sql: str) -> str:
    return sql


def made(group: FeatureGroup, rewrite: Callable[[str], str] = as_written) -> dict[str, Check]:
    """The group's own checks by id."""
    return {check.id: check for check in checks(group, rewrite=rewrite)[3:]}


def violation(expectation: Expectation) -> str:
    """The violation that an expectation of the column amount_7d gives."""
    (check,) = made(spend(amount(expectation))).values()
    return check.violation


def test_every_group_checks_that_keys_have_values_and_rows_are_unique() -> None:
    group = ObservationGroup("kinds", customer, payments, columns=("kind",), ttl="2d")
    assert [(check.id, check.column, check.severity, check.measure) for check in checks(group, rewrite=as_written)] == [
        ("customer_id:not_null", "customer_id", "critical", "count_if(`customer_id` IS NULL)"),
        ("country:not_null", "country", "critical", "count_if(`country` IS NULL)"),
        ("rows:unique", None, "critical", "count(*) - count(DISTINCT struct(`customer_id`, `country`, `event_timestamp`))"),
    ]


def test_a_features_expectation_is_checked_in_each_of_its_columns() -> None:
    found = made(spend(amount(at_least(0), windows=("1d", "7d"))))
    assert [(check.id, check.column) for check in found.values()] == [
        ("amount_1d:at_least(0)", "amount_1d"),
        ("amount_7d:at_least(0)", "amount_7d"),
    ]


def test_a_derived_columns_expectation_is_checked_in_it() -> None:
    assert list(made(spend(amount(), Derived("half", "amount_7d / 2", expect=(at_most(5, "warning"),))))) == ["half:at_most(5)"]


@pytest.mark.parametrize(
    ("expectation", "expected"),
    [
        (at_least(0), "`amount_7d` < 0 OR isnan(`amount_7d`)"),
        (at_most(-1.5), "`amount_7d` > -1.5"),
        (between(1e-7, 10**18), "`amount_7d` < 0.0000001 OR `amount_7d` > 1000000000000000000"),
        (at_most(1e300), "`amount_7d` > 1e+300D"),
        (at_most(10**60), "`amount_7d` > 1e+60D"),
        (at_most(float("inf")), "`amount_7d` > double('inf')"),
        (not_null(0.9), "`amount_7d` IS NULL"),
        (one_of(1, 2.5), "`amount_7d` NOT IN (1, 2.5)"),
        (one_of(True, False), "`amount_7d` NOT IN (true, false)"),
        (one_of("EWR"), "`amount_7d` NOT IN ('EWR')"),
        (one_of("it's", "a\\", "${env:HOME}"), r"`amount_7d` NOT IN ('it\'s', 'a\\', '\u0024{env:HOME}')"),
        (expression("amount_7d > 0 OR amount_7d < -9"), "NOT (amount_7d > 0 OR amount_7d < -9)"),
    ],
)
def test_an_expectation_gives_the_condition_of_a_bad_row(expectation: Expectation, expected: str) -> None:
    assert violation(expectation) == expected


def test_an_expression_is_rewritten_for_spark() -> None:
    found = made(spend(amount(), expect=(expression("1 / amount_7d > 0"),)), rewrite=lambda sql: f"safe[{sql}]")
    assert [(check.id, check.column, check.violation) for check in found.values()] == [
        ("rows:expression('1 / amount_7d > 0')", None, "NOT (safe[1 / amount_7d > 0])")
    ]


def test_a_features_expression_is_one_check_however_many_windows_it_has() -> None:
    found = made(spend(amount(expression("amount_1d <= amount_7d"), windows=("1d", "7d"))))
    assert list(found) == ["amount:expression('amount_1d <= amount_7d')"]


def test_a_share_of_one_needs_no_share() -> None:
    found = made(spend(amount(not_null(), not_null(0.5, "warning"))))
    assert [(check.id, check.at_least_share, check.judged) for check in found.values()] == [
        ("amount_7d:not_null(1.0)", None, "check_3"),
        ("amount_7d:not_null(0.5)", 0.5, "check_4_excess"),
    ]


def test_the_same_expectation_twice_is_one_check_of_the_graver_severity() -> None:
    found = made(spend(amount(at_least(0, "info"), at_least(0), at_least(0, "warning"))))
    assert [(check.id, check.severity, check.metric) for check in found.values()] == [("amount_7d:at_least(0)", "critical", "check_3")]


def test_each_check_has_its_own_metric() -> None:
    group = spend(amount(at_least(0), at_most(9)))
    names = [name for name, _ in measures(checks(group, rewrite=as_written))]
    assert names == ["check_0", "check_1", "check_2", "check_3", "check_4"]


def test_values_of_several_kinds_are_refused() -> None:
    with pytest.raises(DefinitionError, match=r"one_of\('a', 1\) mixes texts, numbers or truth values; a column holds one kind"):
        violation(one_of("a", 1))


def test_a_group_expects_nothing_of_an_unnamed_column() -> None:
    with pytest.raises(DefinitionError, match=r"group spend expects at_least\(0\), which needs a column; write it beside a feature"):
        made(spend(amount(), expect=(at_least(0),)))


def test_an_expectation_of_an_unknown_kind_is_refused_and_never_passed_over() -> None:
    with pytest.raises(DefinitionError, match=r"sorted\(\) is no expectation that can be measured"):
        violation(Expectation("sorted"))


def test_the_suite_is_json_for_great_expectations() -> None:
    group = spend(amount(not_null(0.9, "warning")))
    made = suite(group, checks(group, rewrite=as_written)[-1:])
    assert json.loads(json.dumps(made)) == {
        "name": "spend",
        "expectations": [
            {
                "type": "expect_column_values_to_be_between",
                "kwargs": {"column": "check_3_excess", "max_value": 0},
                "severity": "warning",
                "meta": {"id": "amount_7d:not_null(0.9)", "column": "amount_7d", "bad_row": "`amount_7d` IS NULL", "at_least_share": 0.9},
            }
        ],
        "meta": {"rows": "one per interval"},
    }


def test_the_suite_has_one_expectation_per_check() -> None:
    all_checks = checks(spend(amount(at_least(0))), rewrite=as_written)
    assert [e["meta"]["id"] for e in gx_expectations(all_checks)] == [check.id for check in all_checks]  # type: ignore[index]  # JSON


def test_the_bad_rows_of_failed_checks_are_selected_with_their_reasons() -> None:
    condition, reasons = bad_row_sql(
        checks(spend(amount(at_most(9), one_of("it's"))), rewrite=as_written), ["amount_7d:at_most(9)", 'amount_7d:one_of("it\'s")']
    )
    assert condition == r"(`amount_7d` > 9) OR (`amount_7d` NOT IN ('it\'s'))"
    assert reasons == (
        "array_compact(array(if(`amount_7d` > 9, 'amount_7d:at_most(9)', null), "
        r"""if(`amount_7d` NOT IN ('it\'s'), 'amount_7d:one_of("it\'s")', null)))"""
    )


def test_rows_that_are_not_unique_are_told_apart_by_their_reasons_only() -> None:
    condition, reasons = bad_row_sql(checks(spend(amount()), rewrite=as_written), ["rows:unique"])
    assert condition == "true"
    assert reasons == (
        "array_compact(array(if(count(*) OVER (PARTITION BY `customer_id`, `country`, `event_timestamp`) > 1, 'rows:unique', null)))"
    )
