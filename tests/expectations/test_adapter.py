"""Every interval gets its own verdict, and what could not be evaluated is never a pass."""

import logging
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expectations import adapter
from expectations.adapter import NotJudged, judge
from expectations.suite import Check, Verdict

SPEND = Check("spend:at_least(0)", "spend", "critical", "spend < 0", "check_0")
ORIGIN = Check("origin:one_of('EWR')", "origin", "warning", "origin <> 'EWR'", "check_1")


def filled(share: float) -> Check:
    """The check that a share of the rows has a value."""
    return Check("spend:not_null", "spend", "critical", "spend IS NULL", "check_0", at_least_share=share)


def profile(*rows: tuple[int, ...]) -> pd.DataFrame:
    """A profile whose intervals are named a, b, c ...: each row is the number of rows and the count of each check."""
    names = ["rows", *(f"check_{number}" for number in range(len(rows[0]) - 1))]
    return pd.DataFrame([{"interval": "abcdefgh"[i], **dict(zip(names, row, strict=True))} for i, row in enumerate(rows)])


def test_every_interval_has_its_own_verdict() -> None:
    assert judge(profile((10, 0, 0), (10, 3, 0), (10, 0, 1), (10, 1, 1)), [SPEND, ORIGIN]) == {
        "a": Verdict(),
        "b": Verdict(failed=(SPEND.id,)),
        "c": Verdict(warned=(ORIGIN.id,)),
        "d": Verdict(failed=(SPEND.id,), warned=(ORIGIN.id,)),
    }


def test_failed_checks_are_named_in_the_order_of_the_checks() -> None:
    second = replace(SPEND, id="another", metric="check_1")
    assert judge(profile((10, 1, 1)), [SPEND, second])["a"].failed == (SPEND.id, "another")
    assert judge(profile((10, 1, 1)), [second, SPEND])["a"].failed == ("another", SPEND.id)


@pytest.mark.parametrize("severity", ["warning", "info"])
def test_an_interval_passes_with_warnings(severity: str) -> None:
    verdict = judge(profile((10, 1)), [replace(SPEND, severity=severity)])["a"]
    assert verdict.passed
    assert verdict.warned == (SPEND.id,)


def test_an_interval_without_rows_passes_everything() -> None:
    assert judge(profile((0, 0, 0)), [filled(1.0), ORIGIN])["a"].passed


def test_a_share_is_met_at_its_boundary_and_missed_one_row_beyond() -> None:
    verdicts = judge(profile((10, 1), (10, 2), (19, 1), (19, 2), (9, 0), (9, 1)), [filled(0.9)])
    assert [verdict.passed for verdict in verdicts.values()] == [True, False, True, False, True, False]


def test_a_share_is_the_decimal_that_was_written() -> None:
    # 1 - 0.7 and 0.1 * 3 are not 0.3 in binary.
    verdicts = judge(profile((10, 3), (10**16, 3 * 10**15), (10**16, 3 * 10**15 + 1)), [filled(0.7)])
    assert [verdict.passed for verdict in verdicts.values()] == [True, True, False]


@settings(max_examples=15)
@given(st.integers(0, 20), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=8))
def test_a_share_is_judged_as_whole_rows_count_it(twentieths: int, counted: list[tuple[int, int]]) -> None:
    verdicts = judge(profile(*counted), [filled(twentieths / 20)])
    assert [verdict.passed for verdict in verdicts.values()] == [20 * bad <= (20 - twentieths) * rows for rows, bad in counted]


def test_no_checks_pass_every_interval() -> None:
    assert judge(profile((10,), (0,)), []) == {"a": Verdict(), "b": Verdict()}


def test_no_intervals_have_no_verdicts() -> None:
    assert judge(profile((10, 0)).iloc[:0], [SPEND]) == {}


def test_a_check_whose_count_is_missing_is_an_error() -> None:
    with pytest.raises(NotJudged, match="the profile has no column 'check_1'; it has interval, rows, check_0"):
        judge(profile((10, 0)), [SPEND, ORIGIN])


def test_a_count_that_was_not_measured_is_an_error() -> None:
    with pytest.raises(NotJudged, match="the profile's column 'check_0' has no value for some interval"):
        judge(pd.DataFrame({"interval": ["a", "b"], "rows": [1, 1], "check_0": [0, None]}), [SPEND])


@pytest.mark.parametrize("counts", [["none", "many"], [b"0", b"1"]])
def test_a_check_that_great_expectations_can_not_evaluate_is_an_error(counts: list[object]) -> None:
    with pytest.raises(NotJudged, match=r"the check spend:at_least\(0\) could not be evaluated: "):
        judge(pd.DataFrame({"interval": ["a", "b"], "rows": [1, 1], "check_0": counts}), [SPEND])


def test_a_column_that_great_expectations_does_not_find_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "_with_excess", lambda profile, _: profile.drop(columns="check_0"))
    with pytest.raises(NotJudged, match=r"the check spend:at_least\(0\) could not be evaluated: .*check_0"):
        judge(profile((10, 0)), [SPEND])


def test_an_expectation_that_great_expectations_does_not_know_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    known = adapter.gx_expectations
    monkeypatch.setattr(adapter, "gx_expectations", lambda checks: [*known(checks[:1]), {"type": "expect_nothing", "kwargs": {}}])
    with pytest.raises(NotJudged):
        judge(profile((10, 0, 0)), [SPEND, ORIGIN])


def test_judging_says_nothing(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        judge(profile((10, 0, 3)), [SPEND, ORIGIN])
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_judging_does_not_change_the_profile() -> None:
    given = profile((10, 1))
    judge(given, [filled(0.9)])
    assert given.equals(profile((10, 1)))
