"""A group's definition gives its checks: what is measured of each interval, and the suite that judges it."""

from __future__ import annotations

import json

import pytest

from expectations.suite import Check, Verdict, as_json, bad_row_sql, checks, gx_expectations, held_row_sql
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
    mean_between,
    not_null,
    one_of,
    quantile_between,
    row_count,
    unique,
)

customer = Entity("customer", keys={"customer_id": "int64", "country": "string"})
payments = Source(
    "payments",
    columns={"customer_id": "int64", "country": "string", "paid_at": "timestamp", "amount": "double", "kind": "string"},
    event_timestamp="paid_at",
)
DERIVED = ("customer_id:not_null", "country:not_null", "rows:unique", "rows:types", "rows:finite", "rows:as_many_as_before", "rows:recent")


def spend(*features: Feature | Derived, expect: tuple[Expectation, ...] = (), every: str = "1d") -> WindowedGroup:
    """A windowed group of these features."""
    return WindowedGroup("spend", customer, payments, every=every, ttl="2d", features=features, expect=expect)


def amount(*expect: Expectation, windows: tuple[str, ...] = ("7d",)) -> Feature:
    return Feature("amount", "sum", "amount", windows=windows, expect=expect)


def checks_of(group: FeatureGroup) -> dict[str, Check]:
    """The checks of a group, by id, that do not follow from its definition alone."""
    return {check.id: check for check in checks(group) if check.id not in DERIVED}


def only(expectation: Expectation) -> Check:
    """The one check that an expectation of the column amount_7d gives."""
    (check,) = checks_of(spend(amount(expectation))).values()
    return check


# ------------------------------------------------------------------------------------------------- what follows from a definition


def test_every_group_checks_that_keys_have_values_and_rows_are_unique_of_the_right_types_and_finite() -> None:
    found = checks(spend(amount()))
    assert tuple(check.id for check in found) == DERIVED
    assert [(check.id, check.column, check.count) for check in found if check.severity == "critical"] == [
        ("customer_id:not_null", "customer_id", "count_if(`customer_id` IS NULL)"),
        ("country:not_null", "country", "count_if(`country` IS NULL)"),
        ("rows:unique", None, ""),
        ("rows:types", None, "count_if(typeof(`amount_7d`) <> 'double')"),
        ("rows:finite", None, "count_if(isnan(`amount_7d`) OR abs(`amount_7d`) = double('inf'))"),
    ]
    assert found[2].unique == ("customer_id", "country", "event_timestamp")


def test_amounts_that_nobody_chose_never_keep_an_interval_from_its_readers() -> None:
    assert {
        check.id: check.severity for check in checks(spend(Feature("mean", "mean", "amount", windows=("7d",)))) if not check.of_rows
    } == {
        "rows:as_many_as_before": "warning",
        "mean_7d:some_values": "warning",
        "rows:recent": "info",
    }


def test_rows_are_compared_with_the_day_before_in_daily_groups_that_do_not_compare_them_themselves() -> None:
    compared = next(check for check in checks(spend(amount())) if check.change)
    assert (compared.least, compared.most, compared.from_rows) == (-0.8, 4, 100)
    assert not [check for check in checks(spend(amount(windows=("1h",)), every="1h")) if check.change]
    own = checks(spend(amount(), expect=(row_count(change=0.5),)))
    assert [check.id for check in own if check.change] == ["rows:row_count(change=0.5)"]


def test_a_column_that_is_always_seen_has_some_values() -> None:
    group = spend(
        Feature("mean", "mean", "amount", windows=("1d", "7d")),
        Feature("last", "last", "amount", windows=("7d",), where="kind = 'card'"),
        Feature("paid", "sum", "amount", windows=("7d",)),
        Feature("top", "max", "amount", windows=("7d",), expect=(not_null(0.5),)),
        Derived("ratio", "paid_7d / mean_7d"),
    )
    assert [check.id for check in checks(group) if check.id.endswith(":some_values")] == ["mean_7d:some_values"]
    shown = ObservationGroup("kinds", customer, payments, columns=("kind", "amount"), ttl="2d")
    assert [check.id for check in checks(shown)][-2:] == ["kind:some_values", "amount:some_values"]


def test_events_are_recent_if_some_row_becomes_empty_a_longest_window_after_the_interval() -> None:
    recent = next(check for check in checks(spend(amount(windows=("1d", "7d")))) if check.id == "rows:recent")
    assert recent.measure == "(604800000000 - max(unix_micros(empties_at) - unix_micros(event_timestamp))) / 3.6e9D"
    assert recent.bounds == (None, 0)


def test_types_that_are_known_need_not_be_found_out() -> None:
    found = {check.id: check for check in checks(spend(amount()), types={"amount_7d": "int64"})}
    assert found["rows:types"].violation == "typeof(`amount_7d`) <> 'bigint'"
    assert "rows:finite" not in found


# ---------------------------------------------------------------------------------------------------------------- what is expected


def test_a_features_expectation_is_checked_in_each_of_its_columns() -> None:
    found = checks_of(spend(amount(at_least(0), windows=("1d", "7d"))))
    assert [(check.id, check.column) for check in found.values()] == [
        ("amount_1d:at_least(0)", "amount_1d"),
        ("amount_7d:at_least(0)", "amount_7d"),
    ]


def test_a_derived_columns_expectation_is_checked_in_it() -> None:
    assert list(checks_of(spend(amount(), Derived("half", "amount_7d / 2", expect=(at_most(5, "warning"),))))) == ["half:at_most(5)"]


@pytest.mark.parametrize(
    ("expectation", "count", "holdable"),
    [
        (at_least(0), "count_if(`amount_7d` < 0 OR isnan(`amount_7d`))", True),
        (one_of(1, 2), "count_if(`amount_7d` NOT IN (1, 2))", True),
        (not_null(), "count(*) - count(`amount_7d`)", True),
        (not_null(0.9), "count(*) - count(`amount_7d`)", False),
        (unique(), "", False),
        (mean_between(0, 5), "avg(CAST(`amount_7d` AS DOUBLE))", False),
        (quantile_between(0.95, 0, 5), "percentile_approx(CAST(`amount_7d` AS DOUBLE), 0.95D)", False),
    ],
)
def test_an_expectation_says_what_is_measured_and_whether_bad_rows_can_be_held(
    expectation: Expectation, count: str, holdable: bool
) -> None:
    check = only(expectation)
    assert (check.count, check.holdable) == (count, holdable)


def test_means_and_quantiles_have_bounds_and_no_bad_rows() -> None:
    for expectation in (mean_between(-1, 5.5), quantile_between(0.5, -1, 5.5)):
        check = only(expectation)
        assert (check.of_rows, check.bounds, check.judged) == (False, (-1, 5.5), check.id)


def test_values_that_are_unique_may_be_missing() -> None:
    assert only(unique()).violation == ("`amount_7d` IS NOT NULL AND count(*) OVER (PARTITION BY interval_start, `amount_7d`) > 1")


def test_bounds_of_the_number_of_rows_and_of_its_change_are_two_checks() -> None:
    found = checks_of(spend(amount(), expect=(row_count(10, at_most=20, change=0.5),)))
    assert [(check.id, check.measure, check.change, check.bounds) for check in found.values()] == [
        ("rows:row_count(at_least=10, at_most=20)", "count(*)", False, (10, 20)),
        ("rows:row_count(change=0.5)", "", True, (-0.5, 0.5)),
    ]


def test_extremes_tell_of_doubles_and_of_integers_that_doubles_hold() -> None:
    def statistic(expectation: Expectation, kind: str) -> tuple[object, object]:
        (check,) = (c for c in checks(spend(amount(expectation)), types={"amount_7d": kind}) if c.id not in DERIVED)
        return check.statistic, check.within

    assert statistic(at_least(0), "double") == ("extremes", (0, None))
    assert statistic(between(0, 2**53 - 1), "int64") == ("extremes", (0, 2**53 - 1))
    assert statistic(at_most(2**53), "int64") == (None, (None, None))
    assert statistic(at_most(5), "decimal(10,2)") == (None, (None, None))
    assert statistic(one_of(1), "double") == (None, (None, None))


def test_a_features_expression_is_one_check_however_many_windows_it_has() -> None:
    found = checks_of(spend(amount(expression("amount_1d <= amount_7d"), windows=("1d", "7d"))))
    assert list(found) == ["amount:expression('amount_1d <= amount_7d')"]


def test_a_groups_expression_divides_by_zero_without_failing() -> None:
    (check,) = checks_of(spend(amount(), expect=(expression("1 / amount_7d > 0"),))).values()
    assert check.column is None
    assert "NULLIF" in check.violation.upper()


def test_the_same_expectation_twice_is_one_check_of_the_graver_severity() -> None:
    found = checks_of(spend(amount(at_least(0, "info"), at_least(0), at_least(0, "warning"))))
    assert [(check.id, check.severity) for check in found.values()] == [("amount_7d:at_least(0)", "critical")]


def test_a_group_expects_nothing_of_an_unnamed_column() -> None:
    with pytest.raises(DefinitionError, match=r"group spend expects at_least\(0\), which needs a column; write it beside a feature"):
        checks_of(spend(amount(), expect=(at_least(0),)))


def test_what_broke_is_told_with_the_gravest_first() -> None:
    verdict = Verdict(failed=("a",), warned=("b",), held=("c",), noted=("d",))
    assert verdict.broken == ("a", "c", "b", "d")


# --------------------------------------------------------------------------------------------------------- for Great Expectations


def test_the_suite_is_json_that_does_not_change_by_itself() -> None:
    group = spend(amount(not_null(0.9, "warning"), mean_between(0, 5)))
    text = as_json(group)
    assert text == as_json(spend(amount(not_null(0.9, "warning"), mean_between(0, 5))))
    read = json.loads(text)
    assert read["name"] == "spend"
    assert read["expectations"][-2:] == [
        {
            "type": "expect_column_max_to_be_between",
            "kwargs": {"column": "amount_7d:not_null(0.9) in excess", "max_value": 0},
            "severity": "warning",
            "meta": {"id": "amount_7d:not_null(0.9)", "column": "amount_7d", "bad_row": "`amount_7d` IS NULL", "at_least_share": 0.9},
        },
        {
            "type": "expect_column_values_to_be_between",
            "kwargs": {"column": "amount_7d:mean_between(0, 5)", "min_value": 0, "max_value": 5},
            "severity": "critical",
            "meta": {"id": "amount_7d:mean_between(0, 5)", "column": "amount_7d", "measure": "avg(CAST(`amount_7d` AS DOUBLE))"},
        },
    ]


def test_the_suite_has_one_expectation_per_check() -> None:
    all_checks = checks(spend(amount(at_least(0))))
    assert [e["meta"]["id"] for e in gx_expectations(all_checks)] == [check.id for check in all_checks]  # type: ignore[index]  # JSON


# ------------------------------------------------------------------------------------------------------------------- the bad rows


def test_the_bad_rows_of_checks_are_selected_with_their_reasons() -> None:
    found = checks_of(spend(amount(at_most(9), one_of("it's"), between(0, 1, "warning"))))
    condition, reasons = bad_row_sql([found["amount_7d:at_most(9)"], found['amount_7d:one_of("it\'s")']])
    assert condition == r"(`amount_7d` > 9) OR (`amount_7d` NOT IN ('it\'s'))"
    assert reasons == (
        "array_compact(array(if((`amount_7d` > 9), 'amount_7d:at_most(9)', null), "
        r"""if((`amount_7d` NOT IN ('it\'s')), 'amount_7d:one_of("it\'s")', null)))"""
    )


def test_a_check_may_count_in_some_places_only() -> None:
    check = only(not_null(0.9))
    assert bad_row_sql([check], only={check.id: "monday"})[0] == "(monday) AND (`amount_7d` IS NULL)"


def test_rows_that_are_not_unique_are_told_apart_by_their_reasons_only() -> None:
    check = next(check for check in checks(spend(amount())) if check.id == "rows:unique")
    condition, reasons = bad_row_sql([check])
    assert condition == "true"
    assert reasons == (
        "array_compact(array(if((count(*) OVER (PARTITION BY interval_start, `customer_id`, `country`, `event_timestamp`) > 1), "
        "'rows:unique', null)))"
    )


def test_rows_are_held_for_critical_checks_that_tell_bad_rows_from_good_ones() -> None:
    group = spend(Feature("n", "count", windows=("7d",), expect=(at_most(9), at_least(1, "warning"), not_null(0.5), unique())))
    assert held_row_sql(checks(group)) == "coalesce(`n_7d` > 9, false)"
    assert held_row_sql(()) == "false"
