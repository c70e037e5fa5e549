"""Every interval gets its own verdict, and what could not be evaluated is never a pass."""

import json
import logging
import math
from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expectations import adapter
from expectations.adapter import NotJudged, judge
from expectations.suite import Check, Severity, Verdict

SPEND = Check("spend:at_least(0)", "spend", "critical", "spend < 0")
ORIGIN = Check("origin:one_of('EWR')", "origin", "warning", "origin <> 'EWR'")
MEAN = Check("spend:mean_between(0, 5)", "spend", "critical", measure="avg(spend)", least=0, most=5)


def filled(share: float) -> Check:
    """The check that a share of the rows has a value."""
    return Check("spend:not_null", "spend", "critical", "spend IS NULL", at_least_share=share)


def profile(checks: list[Check], *rows: tuple[float | None, ...]) -> pd.DataFrame:
    """A profile whose intervals are named a, b, c ...: each row is the number of rows and what each check measured."""
    names = ["rows", *(check.id for check in checks)]
    return pd.DataFrame([{"interval": "abcdefgh"[i], **dict(zip(names, row, strict=True))} for i, row in enumerate(rows)])


def test_every_interval_has_its_own_verdict() -> None:
    both = [SPEND, ORIGIN]
    assert judge(profile(both, (10, 0, 0), (10, 3, 0), (10, 0, 1), (10, 1, 1)), both) == {
        "a": Verdict(),
        "b": Verdict(failed=(SPEND.id,)),
        "c": Verdict(warned=(ORIGIN.id,)),
        "d": Verdict(failed=(SPEND.id,), warned=(ORIGIN.id,)),
    }


def test_failed_checks_are_named_in_the_order_of_the_checks() -> None:
    both = [SPEND, replace(SPEND, id="another")]
    assert judge(profile(both, (10, 1, 1)), both)["a"].failed == (SPEND.id, "another")
    assert judge(profile(both, (10, 1, 1)), both[::-1])["a"].failed == ("another", SPEND.id)


@pytest.mark.parametrize(("severity", "verdict"), [("warning", Verdict(warned=(SPEND.id,))), ("info", Verdict(noted=(SPEND.id,)))])
def test_an_interval_passes_with_warnings_and_notes(severity: Severity, verdict: Verdict) -> None:
    assert judge(profile([SPEND], (10, 1)), [replace(SPEND, severity=severity)]) == {"a": verdict}
    assert not verdict.failed


def test_an_interval_without_rows_passes_everything_that_is_about_rows() -> None:
    assert not judge(profile([filled(1.0), ORIGIN], (0, 0, 0)), [filled(1.0), ORIGIN])["a"].failed


def test_a_value_within_its_bounds_holds_and_one_beyond_does_not() -> None:
    verdicts = judge(profile([MEAN], (1, 0.0), (1, 5.0), (1, -1e-9), (1, 5.000000001), (1, math.inf)), [MEAN])
    assert [not verdict.failed for verdict in verdicts.values()] == [True, True, False, False, False]


def test_a_value_that_is_not_there_is_not_judged() -> None:
    assert judge(profile([MEAN], (1, None), (1, 9.0)), [MEAN]) == {"a": Verdict(), "b": Verdict(failed=(MEAN.id,))}
    assert judge(profile([MEAN], (1, math.nan)), [MEAN]) == {"a": Verdict()}


def test_a_bound_may_be_on_one_side_only() -> None:
    least = replace(MEAN, most=None)
    assert [not v.failed for v in judge(profile([least], (1, 1e9), (1, -1.0)), [least]).values()] == [True, False]


def test_a_share_is_met_at_its_boundary_and_missed_one_row_beyond() -> None:
    verdicts = judge(profile([filled(0.9)], (10, 1), (10, 2), (19, 1), (19, 2), (9, 0), (9, 1)), [filled(0.9)])
    assert [not verdict.failed for verdict in verdicts.values()] == [True, False, True, False, True, False]


@settings(max_examples=20)
@given(st.lists(st.integers(0, 40).flatmap(lambda rows: st.tuples(st.just(rows), st.integers(0, rows))), min_size=8, max_size=8),
       st.integers(0, 20))  # fmt: skip
def test_a_share_is_counted_in_whole_rows(counted: list[tuple[int, int]], twentieths: int) -> None:
    check = filled(twentieths / 20)
    verdicts = judge(profile([check], *counted), [check])
    assert [not verdict.failed for verdict in verdicts.values()] == [20 * bad <= (20 - twentieths) * rows for rows, bad in counted]


def test_no_checks_pass_every_interval() -> None:
    assert judge(profile([SPEND], (10, 0), (10, 0)), []) == {"a": Verdict(), "b": Verdict()}


def test_no_intervals_have_no_verdicts() -> None:
    assert judge(profile([SPEND], (10, 0)).iloc[:0], [SPEND]) == {}


def test_great_expectations_own_account_names_the_intervals_of_what_failed() -> None:
    both = [SPEND, ORIGIN]
    account = json.loads(json.dumps(judge(profile(both, (10, 0, 0), (10, 3, 0)), both).account))
    assert [result["success"] for result in account["all"]["results"]] == [False, True]
    (failed,) = account["failed"]["results"]
    assert failed["expectation_config"]["meta"]["id"] == SPEND.id
    assert failed["result"]["unexpected_index_list"] == [{SPEND.id: 3, "interval": "b"}]
    assert "failed" not in judge(profile(both, (10, 0, 0)), both).account


def test_a_check_whose_count_is_missing_is_an_error() -> None:
    with pytest.raises(NotJudged, match=r"the profile has no column .*one_of.*; it has interval, rows, spend:at_least\(0\)"):
        judge(profile([SPEND], (10, 0)), [SPEND, ORIGIN])


def test_a_count_that_was_not_measured_is_an_error() -> None:
    with pytest.raises(NotJudged, match=r"the profile's column 'spend:at_least\(0\)' has no value for some interval"):
        judge(profile([SPEND], (1, 0), (1, None)), [SPEND])


@pytest.mark.parametrize("counts", [["none", "many"], [b"0", b"1"]])
def test_a_check_that_great_expectations_can_not_evaluate_is_an_error(counts: list[object]) -> None:
    with pytest.raises(NotJudged, match=r"the check spend:at_least\(0\) could not be evaluated: "):
        judge(pd.DataFrame({"interval": ["a", "b"], "rows": [1, 1], SPEND.id: counts}), [SPEND])


def test_a_column_that_great_expectations_does_not_find_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "_with_excess", lambda profile, _: profile.drop(columns=SPEND.id))
    with pytest.raises(NotJudged, match=r"the check spend:at_least\(0\) could not be evaluated: .*spend:at_least"):
        judge(profile([SPEND], (10, 0)), [SPEND])


def test_an_expectation_that_great_expectations_does_not_know_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    known = adapter.gx_expectations
    monkeypatch.setattr(adapter, "gx_expectations", lambda checks: [*known(checks[:1]), {"type": "expect_nothing", "kwargs": {}}])
    with pytest.raises(NotJudged):
        judge(profile([SPEND, ORIGIN], (10, 0, 0)), [SPEND, ORIGIN])


def test_judging_says_nothing(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        judge(profile([SPEND, ORIGIN], (10, 0, 3)), [SPEND, ORIGIN])
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_judging_does_not_change_the_profile() -> None:
    given = profile([filled(0.9)], (10, 1))
    judge(given, [filled(0.9)])
    assert given.equals(profile([filled(0.9)], (10, 1)))
