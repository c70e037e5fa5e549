"""What may become of a run that waits for a person, decided without a lake."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from feature_definitions.planning import plan
from feature_definitions.planning.approval import Open, RunRefused, StandingRun, open_intervals
from tests.feature_definitions.planning.test_plan import all_done, changed, day, done, one_day, spend, statuses

if TYPE_CHECKING:
    from collections.abc import Mapping

    from feature_definitions.intervals import Interval
    from feature_definitions.planning.approval import Decision
    from feature_definitions.records import IntervalState, LedgerEntry
    from feature_definitions.records import Revision as _Revision

GROUP = spend()


def run(days: tuple[int, ...], state: IntervalState, name: str = "p9", failed: tuple[str, ...] = ()) -> dict[Interval, LedgerEntry]:
    """What a run left of these days."""
    made = {one_day(n): done(GROUP, one_day(n), state=state, failed=failed, warned=("few:rows",)) for n in days}
    return {interval: replace(entry, run_id=name) for interval, entry in made.items()}


LEDGER = all_done(GROUP, (5,)) | run((6, 7), "WAITING")


def decided(
    ledger: Mapping[Interval, LedgerEntry] = LEDGER, *revisions: _Revision, decision: Decision = "publish", older: tuple[int, ...] = ()
) -> list[int]:
    """The days that a decision about run p9 ends."""
    return [s.interval.start.day for s in opened(ledger, *revisions, decision=decision, older=older).due]


def opened(
    ledger: Mapping[Interval, LedgerEntry], *revisions: _Revision, decision: Decision = "publish", older: tuple[int, ...] = ()
) -> Open:
    """What a decision about run p9 ends and leaves."""
    seen = StandingRun("spend", "p9", ledger, () if ledger is NEVER else (one_day(6), one_day(7)), older)
    return open_intervals(seen, statuses(GROUP, ledger, *revisions).values(), decision)


NEVER = all_done(GROUP, (5, 6, 7))


def test_a_day_that_waits_for_a_person_says_so_names_the_run_and_holds_days_whose_windows_read_it() -> None:
    found = statuses(GROUP, LEDGER)
    assert {i.start.day: s.status for i, s in found.items()} == {5: "OK", 6: "WAITING", 7: "WAITING", 8: "WAITING"}
    assert found[one_day(6)].run == "p9"
    assert found[one_day(6)].reasons == ("waits for approval of run p9", "warning: few:rows")
    assert found[one_day(8)].run is None
    assert found[one_day(8)].reasons == (f"waits for {one_day(7)}, which waits for approval",)


def test_what_waits_is_not_computed_again_unless_all_is_asked_for() -> None:
    def due(choice: plan.Choice) -> list[int]:
        found = tuple(statuses(GROUP, LEDGER).values())
        work = plan.materialize(GROUP, generation=1, found=found, start=None, end=None, choice=choice)
        return [s.interval.start.day for s in work.due]

    assert due(plan.EVERYTHING_DUE) == []
    assert due(plan.Choice("all")) == [5, 6, 7, 8]


def test_a_decision_is_about_all_days_of_the_run_that_wait() -> None:
    assert decided() == decided(decision="refuse") == [6, 7]


def test_days_that_another_run_took_over_are_left_and_said() -> None:
    found = opened(LEDGER | run((6,), "PUBLISHED", "p10"))
    assert [s.interval for s in found.due] == [one_day(7)]
    assert found.left == ((one_day(6), "is PUBLISHED by run p10, which took its place"),)


def test_a_day_whose_events_changed_is_left_and_said_and_the_others_may_be_published() -> None:
    found = opened(LEDGER, changed(day(7, 5)))
    assert [s.interval for s in found.due] == [one_day(6)]
    ((interval, why),) = found.left
    assert interval == one_day(7)
    assert "payments changed from 2026-01-07T05:00:00Z to 2026-01-07T05:00:00Z (revision 2; this was computed from 1)" in why


def test_the_same_decision_may_be_said_again() -> None:
    assert decided(LEDGER | run((6, 7), "PUBLISHED")) == []
    assert decided(LEDGER | run((6, 7), "REJECTED", failed=("approval (refused: no)",)), decision="refuse") == []


@pytest.mark.parametrize(
    ("ledger", "decision", "sentence"),
    [
        (LEDGER | run((6, 7), "PUBLISHED"), "refuse", "run p9 of spend was published already"),
        (LEDGER | run((6, 7), "REJECTED", failed=("approval (refused: no)",)), "publish", "run p9 of spend was refused already"),
        (
            LEDGER | run((6, 7), "PUBLISHED", "p10"),
            "publish",
            f"{one_day(6)} is PUBLISHED by run p10, which took its place (and 1 interval more)",
        ),
        (NEVER, "publish", "spend has no run 'p9' that waits for approval; none does"),
        (all_done(GROUP, (5,)) | run((6,), "WAITING", "p8"), "publish", "is WAITING by run p8, which took its place (and 1 interval more)"),
    ],
)
def test_a_run_that_waits_no_longer_is_refused_with_what_became_of_it(
    ledger: Mapping[Interval, LedgerEntry], decision: Decision, sentence: str
) -> None:
    with pytest.raises(RunRefused) as refused:
        decided(ledger, decision=decision)
    assert sentence in str(refused.value)


def test_a_run_whose_inputs_changed_is_refused_with_what_changed() -> None:
    with pytest.raises(RunRefused) as refused:
        decided(LEDGER, changed(day(6, 5)))
    assert f"rests on what is no longer so: {one_day(6)} is STALE(data): payments changed from 2026-01-06T05:00:00Z" in str(refused.value)
    assert str(refused.value).endswith("compute it again: headwater materialize spend --stage")


def test_a_run_that_was_judged_by_other_expectations_is_refused() -> None:
    other = {interval: replace(entry, gate="older") if entry.state == "WAITING" else entry for interval, entry in LEDGER.items()}
    with pytest.raises(RunRefused, match="STALE\\(code\\): was judged by other expectations"):
        decided(other)


def test_a_run_of_another_meaning_is_refused() -> None:
    with pytest.raises(RunRefused, match="run p9 of spend computed generation 1, and the definition means another one since"):
        decided(NEVER, older=(1,))
