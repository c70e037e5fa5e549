"""What Spark measured becomes a profile, with changes against earlier intervals; verdicts may hold rows; and both are kept as records."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expectations.profile import (
    Measured,
    Origin,
    checks_table,
    counted,
    framed,
    from_statistics,
    profiles_table,
    statistics,
    values,
    with_changes,
    with_held,
)
from expectations.suite import Check, Verdict, checks
from feature_definitions import Entity, Feature, Source, WindowedGroup, at_least, not_null
from feature_definitions.intervals import DAY, Interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
BAD = Check("x:at_least(0)", "x", "critical", "x < 0", holdable=True)
MEAN = Check("x:mean_between(0, 5)", "x", "critical", measure="avg(x)", least=0, most=5)
MANY = Check("rows:some", None, "warning", measure="count(x)", least=1, from_rows=100)
CHANGE = Check("rows:change", None, "critical", least=-0.5, most=0.5, change=True)
TYPES = {"x": "double"}
customer = Entity("customer", keys={"customer_id": "int64"})
payments = Source("payments", columns={"customer_id": "int64", "at": "timestamp", "x": "double", "kind": "string"}, event_timestamp="at")
group = WindowedGroup("g", customer, payments, ttl="2d", features=(
    Feature("x", "last", "x", windows=("1d",), expect=(at_least(0), not_null())), Feature("kind", "last", "kind", windows=("1d",)),
))  # fmt: skip


def days(count: int) -> tuple[Interval, ...]:
    return tuple(Interval(FIRST + n * DAY, FIRST + (n + 1) * DAY) for n in range(count))


def profile(*rows: Mapping[str, object], checks: Sequence[Check] = ()) -> pd.DataFrame:
    """The profile of as many days, of what was found in each."""
    return framed(days(len(rows)), dict(zip(days(len(rows)), rows, strict=True)), checks, TYPES)


def changes(*rows: int, check: Check = CHANGE, before: Mapping[int, int] | None = None) -> list[float | None]:
    """The changes of so many rows on the days from the first on; `before` has the rows of earlier days, by how many days earlier."""
    frame = profile(*({"rows": count} for count in rows))
    earlier = {check.id: {FIRST - n * DAY: count for n, count in (before or {}).items()}}
    found = with_changes(frame, [check], days(len(rows)), every=DAY, before=earlier)[check.id]
    return [None if math.isnan(value) else value for value in found]


# ----------------------------------------------------------------------------------------------------------------- what is measured


def test_numbers_are_described_as_doubles_and_all_else_by_a_hash() -> None:
    types = {"x_1d": "decimal(10,2)", "kind_1d": "string"}
    assert list(values(group, types)) == ["CAST(`x_1d` AS DOUBLE)", "if(`kind_1d` IS NULL, NULL, xxhash64(`kind_1d`))"]
    assert next(iter(values(group, types | {"x_1d": "boolean"}))) == "CAST(`x_1d` AS DOUBLE)"


def test_what_was_found_of_a_column_has_its_name() -> None:
    assert statistics(group, {"interval": 5, "column": 1, "values": 3, "quantiles": None}) == {
        "kind_1d.values": 3, "kind_1d.quantiles": None,
    }  # fmt: skip


def test_what_statistics_tell_and_what_is_unique_or_changes_is_not_counted_by_spark() -> None:
    assert set(dict(counted(checks(group, types={"x_1d": "double", "kind_1d": "string"})))) == {
        "customer_id:not_null", "rows:types", "rows:recent",
    }  # fmt: skip


def test_bounds_of_decimals_are_screened_by_spark() -> None:
    found = dict(counted(checks(group, types={"x_1d": "decimal(38,18)", "kind_1d": "string"})))
    assert found["x_1d:at_least(0)"] == "if(min(`x_1d`) < 0 OR isnan(max(`x_1d`)), 1L, 0L)"


@pytest.mark.parametrize(
    ("check", "found", "expected"),
    [
        (replace(BAD, statistic="extremes", within=(0, None)), {"x.min": 0.0, "x.max": 9.0}, 0),
        (replace(BAD, statistic="extremes", within=(0, None)), {"x.min": -1e-300, "x.max": 9.0}, 1),
        (replace(BAD, statistic="extremes", within=(None, 9)), {"x.min": 0.0, "x.max": 9.0}, 0),
        (replace(BAD, statistic="extremes", within=(-1, 8.5)), {"x.min": 0.0, "x.max": 9.0}, 1),
        (replace(BAD, statistic="extremes", within=(0, 9)), {"x.min": 1.0, "x.max": 2.0, "x.infinite": 1}, 1),
        (replace(BAD, statistic="extremes", within=(0, 9)), {"rows": 4}, 0),
        (replace(BAD, statistic="finite", column=None), {"x.infinite": 2}, 1),
        (replace(BAD, statistic="finite", column=None), {"x.infinite": 0}, 0),
        (replace(BAD, statistic="nulls"), {"rows": 7, "x.values": 4}, 3),
        (replace(MANY, statistic="values", column="x"), {"rows": 7, "x.values": 4}, 4),
    ],
)
def test_statistics_tell_whether_values_are_there_finite_and_within_bounds(check: Check, found: Measured, expected: int) -> None:
    assert from_statistics([check, MEAN], found, TYPES) == {check.id: expected}


# ------------------------------------------------------------------------------------------------------------------- the profile


def test_an_interval_without_rows_has_no_bad_ones_and_nothing_to_judge() -> None:
    frame = profile({}, checks=[BAD, MEAN])
    assert frame.loc[0, ["interval", "rows", "bad_rows", BAD.id, "x.values"]].tolist() == ["2026-01-01T00:00:00Z", 0, 0, 0, 0]
    assert frame[[MEAN.id, "x.mean", "x.q50"]].isna().all(axis=None)


def test_statistics_are_kept_and_quantiles_have_a_column_each() -> None:
    found = {"rows": 3, "x.values": 2, "x.distinct": 2, "x.mean": 1.5, "x.quantiles": [1.0, 1.0, 1.0, 2.0, 2.0]}
    row = profile(found).iloc[0]
    assert [row[f"x.{name}"] for name in ("values", "distinct", "mean", "q05", "q75", "q95")] == [2, 2, 1.5, 1.0, 2.0, 2.0]
    assert math.isnan(row["x.stddev"])


def test_a_value_that_is_not_a_number_lies_within_no_bounds() -> None:
    assert profile({"rows": 1, MEAN.id: math.nan}, checks=[MEAN])[MEAN.id].tolist() == [math.inf]


def test_a_statistic_that_is_not_finite_is_none() -> None:
    assert math.isnan(profile({"rows": 1, "x.mean": math.nan})["x.mean"][0])
    assert math.isnan(profile({"rows": 1, "x.max": math.inf})["x.max"][0])


def test_too_few_rows_say_nothing() -> None:
    found = profile({"rows": 99, MANY.id: 0}, {"rows": 100, MANY.id: 0}, checks=[MANY])[MANY.id]
    assert math.isnan(found[0])
    assert found[1] == 0


# ----------------------------------------------------------------------------------------------------------------------- changes


def test_rows_are_compared_with_those_of_the_interval_before() -> None:
    assert changes(100, 150, 75, 110) == [None, 0.5, -0.5, pytest.approx(0.466666666667)]


def test_a_change_is_exact_at_its_bound() -> None:
    assert changes(100, 110, check=Check("c", None, "critical", least=-0.1, most=0.1, change=True)) == [None, 0.1]
    assert changes(10, 11, 100) == [None, 0.1, pytest.approx(8.090909090909)]


def test_an_interval_that_lost_its_rows_is_not_what_the_next_is_compared_with() -> None:
    assert changes(100, 10, 100, 0, 90) == [None, -0.9, 0.0, -1.0, -0.1]


def test_the_first_interval_of_a_run_is_compared_with_what_was_computed_before_it() -> None:
    assert changes(100, before={1: 80}) == [0.25]
    assert changes(100, before={3: 80}) == [0.25]
    assert changes(100, before={8: 80}) == [None]


def test_after_seven_intervals_out_of_bounds_there_is_nothing_to_compare_with() -> None:
    assert changes(10, *[100] * 9) == [None, *[9.0] * 7, None, 0.0]


def test_no_rows_before_say_nothing_and_few_rows_need_not_be_compared() -> None:
    assert changes(0, 100) == [None, None]
    assert changes(5, 99, 100, check=Check("c", None, "warning", least=-0.8, most=4, change=True, from_rows=100)) == [
        None, None, pytest.approx(1 / 99),
    ]  # fmt: skip


@given(st.lists(st.integers(0, 300), min_size=1, max_size=12), st.integers(0, 11))
def test_a_range_in_one_run_changes_as_in_a_run_per_interval(rows: list[int], cut: int) -> None:
    whole = changes(*rows)
    later = rows[cut:]
    if later and cut:
        held = {cut - at: rows[at] for at in range(cut) if whole[at] is None or -0.5 <= (whole[at] or 0.0) <= 0.5}
        assert changes(*later, before=held) == whole[cut:]


# ------------------------------------------------------------------------------------------------------------------------- held


def test_an_interval_is_held_while_its_bad_rows_are_few_enough() -> None:
    frame = profile(*({"rows": 200, "bad_rows": bad} for bad in (2, 3)))
    failed = {interval: Verdict(failed=(BAD.id,), warned=("w",)) for interval in frame["interval"]}
    assert list(with_held(failed, frame, [BAD], hold_below=0.01).values()) == [
        Verdict(held=(BAD.id,), warned=("w",)),
        Verdict(failed=(BAD.id,), warned=("w",)),
    ]


def test_an_interval_that_failed_as_a_whole_is_never_held() -> None:
    frame = profile({"rows": 200, "bad_rows": 1})
    failed = {frame["interval"][0]: Verdict(failed=(BAD.id, MEAN.id))}
    assert with_held(failed, frame, [BAD, MEAN], hold_below=0.5) == failed


def test_nothing_is_held_where_no_row_may_be() -> None:
    frame = profile({"rows": 200, "bad_rows": 1}, {"rows": 200})
    verdicts = dict(zip(frame["interval"], (Verdict(failed=(BAD.id,)), Verdict()), strict=True))
    assert with_held(verdicts, frame, [BAD], hold_below=0.0) == verdicts


# ----------------------------------------------------------------------------------------------------------------------- records


NOW = FIRST + 3 * DAY + timedelta(hours=1)
ORIGIN = Origin("g", 2, "p1", days(2), NOW)
FIXED = {"group": "g", "generation": 2, "publish_id": "p1", "recorded_at": NOW}


def test_a_profile_is_kept_as_a_row_per_column_and_interval() -> None:
    frame = profile({"rows": 3, "x.values": 2, "x.distinct": 1, "x.mean": 1.5, "x.quantiles": [1.0, 1.0, 1.0, 2.0, 2.0]}, {})
    first, second = profiles_table(frame, ["x"], ORIGIN).to_pylist()
    assert first == FIXED | {
        "interval_start": FIRST, "interval_end": FIRST + DAY, "column": "x", "rows": 3, "nulls": 1, "min": None, "max": None, "mean": 1.5,
        "stddev": None, "q05": 1.0, "q25": 1.0, "q50": 1.0, "q75": 2.0, "q95": 2.0, "distinct": 1,
    }  # fmt: skip
    assert (second["interval_start"], second["rows"], second["nulls"], second["mean"]) == (FIRST + DAY, 0, 0, None)


def test_what_came_of_a_check_is_kept_as_a_row_per_interval() -> None:
    frame = profile({"rows": 3, BAD.id: 2, MEAN.id: 1.5}, {}, checks=[BAD, MEAN])
    verdicts = dict(zip(frame["interval"], (Verdict(held=(BAD.id,)), Verdict()), strict=True))
    rows = checks_table(frame, [BAD, MEAN], verdicts, ORIGIN).to_pylist()
    assert rows[0] == FIXED | {
        "interval_start": FIRST, "interval_end": FIRST + DAY, "check": BAD.id, "severity": "critical", "column": "x", "passed": False,
        "bad_rows": 2, "value": None, "rows": 3,
    }  # fmt: skip
    assert [(row["check"], row["passed"], row["bad_rows"], row["value"]) for row in rows[1:]] == [
        (BAD.id, True, 0, None),
        (MEAN.id, True, None, 1.5),
        (MEAN.id, True, None, None),
    ]


def test_without_columns_or_checks_there_are_no_records() -> None:
    assert profiles_table(profile({}), [], ORIGIN).num_rows == checks_table(profile({}), [], {}, ORIGIN).num_rows == 0
