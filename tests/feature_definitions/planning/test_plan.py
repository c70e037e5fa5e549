"""What the state of an interval is, and what a run does about it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_definitions.intervals import ALWAYS, EPOCH, MICROSECOND, Interval, duration, split
from feature_definitions.language import (
    Derived,
    Entity,
    Expectation,
    Feature,
    FeatureGroup,
    ObservationGroup,
    SnapshotGroup,
    Source,
    WindowedGroup,
    at_least,
)
from feature_definitions.planning import fingerprint, plan
from feature_definitions.planning.upstream import Awaited
from feature_definitions.records import Generation, IntervalState, LedgerEntry, PromotedBy, Promotion, Release, Revision
from tests import counted, oracle

CUSTOMER = Entity("customer", {"customer_id": "string"})
PAYMENTS = Source(
    "payments",
    columns={"customer_id": "string", "paid_at": "timestamp", "amount": "double", "kind": "string"},
    event_timestamp="paid_at",
    ready_after="1h",
)
PLANES = Source("planes", columns={"tailnum": "string", "seats": "int64"}, id=("tailnum",), shape="static")
TOTAL = Feature("s", "sum", "amount", windows=("1d", "2d"))
COUNT = Feature("n", "count", windows=("1d",))
LAST_PAYMENT = ObservationGroup("last_payment", CUSTOMER, PAYMENTS, columns=("amount",), ttl="2d")
STATIC = SnapshotGroup("planes", Entity("plane", {"tailnum": "string"}), PLANES, columns=("seats",), assume_always_known=True)


def spend(*features: Feature | Derived, **more: Any) -> WindowedGroup:
    """A daily group of payments."""
    usual: dict[str, Any] = {"entity": CUSTOMER, "source": PAYMENTS, "ttl": "2d", "features": features or (TOTAL,)}
    return WindowedGroup("spend", **(usual | more))


def day(n: int, hour: int = 0) -> datetime:
    """An hour of day `n` of January 2026."""
    return datetime(2026, 1, n, hour, tzinfo=UTC)


def one_day(n: int) -> Interval:
    """Day `n` of January 2026."""
    return Interval(day(n), day(n + 1))


def changed(first: datetime, end: datetime | None = None, *, revision: int = 2) -> Revision:
    """A revision of a source: one event at `first`, or all of `[first, end)`."""
    return Revision("payments", revision, first.date(), first, end or first + MICROSECOND, "hash", 1, day(20))


def done(
    group: FeatureGroup,
    interval: Interval,
    *,
    revision: int = 1,
    state: IntervalState = "PUBLISHED",
    failed: tuple[str, ...] = (),
    warned: tuple[str, ...] = (),
) -> LedgerEntry:
    """What the ledger holds after a run of a group, as it is defined here, did one interval."""
    return LedgerEntry(
        group=group.name,
        generation=1,
        interval=interval,
        state=state,
        publish_id="p1",
        features=fingerprint.columns(group),
        gate=fingerprint.gate(group),
        revision=revision,
        rows=7,
        delta_version=3,
        failed=failed,
        warned=warned,
        run_id="run",
        seconds=1.0,
        recorded_at=day(20),
    )


def all_done(group: FeatureGroup, days: Iterable[int], **more: Any) -> dict[Interval, LedgerEntry]:
    """The ledger after all these days were done."""
    return {one_day(n): done(group, one_day(n), **more) for n in days}


def statuses(group: FeatureGroup, entries: Mapping[Interval, LedgerEntry], *revisions: Revision) -> dict[Interval, plan.IntervalStatus]:
    """The statuses at 01:00 of day 9, of a source whose first event lies on day 5."""
    mine = [replace(revision, source=group.source.name) for revision in (changed(day(5), revision=1), *revisions)]
    found = plan.statuses(group, generation=1, entries=entries, revisions=mine, now=day(9, 1))
    return {s.interval: s for s in found}


def by_day(found: Mapping[Interval, plan.IntervalStatus]) -> dict[int, str]:
    """The status of each day."""
    return {interval.start.day: s.status for interval, s in found.items()}


# -------------------------------------------------------------------------------------------------------- which intervals there are


def test_nothing_is_expected_of_a_source_without_events() -> None:
    assert plan.statuses(spend(), generation=1, entries={}, revisions=[], now=day(9)) == ()
    assert plan.statuses(STATIC, generation=1, entries={}, revisions=[], now=day(9)) == ()


def test_every_interval_from_the_first_event_to_the_newest_sealed_one_is_expected_also_without_events() -> None:
    found = plan.expected(spend(), [changed(day(5, 7), revision=1), changed(day(7), revision=2)], day(9, 2))
    assert found == (one_day(5), one_day(6), one_day(7), one_day(8))


@pytest.mark.parametrize(("now", "last"), [(day(9, 1) - MICROSECOND, 7), (day(9, 1), 8)])
def test_an_interval_is_due_when_ready_after_has_passed_since_its_end(now: datetime, last: int) -> None:
    assert plan.expected(spend(), [changed(day(5))], now)[-1] == one_day(last)


def test_nothing_is_expected_before_the_first_interval_is_sealed() -> None:
    assert plan.expected(spend(), [changed(day(5))], day(6)) == ()
    assert plan.expected(spend(), [changed(day(5))], day(4)) == ()


def test_an_hourly_group_expects_hours() -> None:
    group = spend(Feature("n", "count", windows=("1h",)), every="1h")
    found = plan.expected(group, [changed(day(5, 7))], day(5, 10))
    assert found == (Interval(day(5, 7), day(5, 8)), Interval(day(5, 8), day(5, 9)))


def test_a_static_group_has_one_interval_whatever_the_time() -> None:
    assert plan.expected(STATIC, [replace(changed(EPOCH), source="planes")], day(9)) == (ALWAYS,)


def test_a_group_that_retains_its_rows_for_a_while_expects_no_older_date() -> None:
    group = spend()
    object.__setattr__(group, "retain", "2d")  # the language may refuse it still; what it means for a plan stands
    found = plan.expected(group, [changed(day(3, 7), revision=1)], day(9, 2))
    assert found == (one_day(7), one_day(8))
    assert plan.expected(group, [changed(day(8, 3))], day(9, 2)) == (one_day(8),)


def test_an_absurd_first_event_is_refused_before_millions_of_intervals_are_planned() -> None:
    group = spend(Feature("n", "count", windows=("5m",)), every="5m")
    with pytest.raises(plan.RangeError, match=r"from 1971-01-01T00:00:00Z .*is the first event of payments dated wrongly\?"):
        plan.expected(group, [changed(datetime(1971, 1, 1, tzinfo=UTC))], day(9))


def gone(n: int, revision: int) -> Revision:
    """A revision that takes away all that happened on a day."""
    return replace(changed(day(n, 7), revision=revision), rows=0)


def test_what_was_taken_back_is_as_if_it_had_never_been_there() -> None:
    revisions = [changed(day(2, 7), revision=1), changed(day(5), revision=1), gone(2, 2)]
    assert plan.expected(spend(), revisions, day(9, 2)) == plan.expected(spend(), revisions[1:2], day(9, 2))
    assert plan.expected(spend(), [changed(day(5), revision=1), gone(5, 2)], day(9, 2)) == ()
    assert plan.expected(spend(), [*revisions, changed(day(2, 9), revision=3)], day(9, 2))[0] == one_day(2)


def test_the_first_interval_goes_by_the_earliest_row_of_the_first_date_as_it_is_now() -> None:
    group = spend(Feature("n", "count", windows=("1h",)), every="1h")
    revisions = [changed(day(5, 1), revision=1), replace(changed(day(5, 1), revision=2), earliest=day(5, 7))]
    assert plan.expected(group, revisions, day(5, 10))[0].start == day(5, 7)


def test_intervals_that_show_what_was_taken_back_are_stale_until_they_are_published_again() -> None:
    revisions = [changed(day(2, 7), revision=1), changed(day(5), revision=1), gone(2, 2)]
    entries = all_done(spend(), range(2, 9))
    found = plan.statuses(spend(), generation=1, entries=entries, revisions=revisions, now=day(9, 2))
    assert {s.interval.start.day: s.status for s in found} == {
        2: plan.STALE_DATA, 3: plan.STALE_DATA, 4: plan.STALE_DATA, 5: plan.OK, 6: plan.OK, 7: plan.OK, 8: plan.OK
    }  # fmt: skip
    again = entries | all_done(spend(), range(2, 5), revision=2)
    assert plan.statuses(spend(), generation=1, entries=again, revisions=revisions, now=day(9, 2))[0].interval == one_day(5)


# ------------------------------------------------------------------------------------------------------------------- statuses


def test_what_was_never_computed_is_missing() -> None:
    found = statuses(spend(), {})[one_day(5)]
    assert found == plan.IntervalStatus("spend", 1, one_day(5), "MISSING", ("never computed",))


def test_what_was_published_and_has_not_changed_since_is_ok() -> None:
    found = statuses(spend(), all_done(spend(), range(5, 9)))
    assert by_day(found) == {5: "OK", 6: "OK", 7: "OK", 8: "OK"}
    assert found[one_day(5)] == plan.IntervalStatus("spend", 1, one_day(5), "OK", (), 7, "p1", 3)


def test_warnings_are_the_reasons_of_what_is_ok() -> None:
    found = statuses(spend(), all_done(spend(), [5], warned=("s_1d at_least(0)",)))[one_day(5)]
    assert (found.status, found.reasons) == ("OK", ("warning: s_1d at_least(0)",))


@pytest.mark.parametrize(
    ("at", "stale"),
    [
        (day(6), {6, 7, 8}),
        (day(6, 12), {6, 7, 8}),
        (day(7) - MICROSECOND, {6, 7, 8}),
        (day(6) - MICROSECOND, {5, 6, 7}),
        (day(8), {8}),
        (day(3), {5}),  # only the closing row of day 5 depends on it
        (day(3) - MICROSECOND, set()),
        (day(9), set()),
    ],
)
def test_a_changed_event_makes_stale_the_intervals_whose_windows_or_closing_rows_read_it(at: datetime, stale: set[int]) -> None:
    found = by_day(statuses(spend(), all_done(spend(), range(5, 9)), changed(at)))
    assert {n: found[n] for n in range(5, 9)} == {n: "STALE(data)" if n in stale else "OK" for n in range(5, 9)}


@pytest.mark.parametrize(("at", "stale"), [(day(6), {6, 7, 8}), (day(8), {8}), (day(9), set()), (EPOCH, {5, 6, 7, 8})])
def test_with_a_lifetime_window_a_changed_event_makes_every_later_interval_stale(at: datetime, stale: set[int]) -> None:
    group = spend(TOTAL, Feature("n", "count", windows=("lifetime",)))
    found = by_day(statuses(group, all_done(group, range(5, 9)), changed(at)))
    assert {n: found[n] for n in range(5, 9)} == {n: "STALE(data)" if n in stale else "OK" for n in range(5, 9)}


def test_the_end_of_a_revision_is_outside_of_it() -> None:
    entries = all_done(spend(), range(5, 9))
    touching = statuses(spend(), entries, changed(day(2), day(3)))
    reaching = statuses(spend(), entries, changed(day(2), day(3) + MICROSECOND))
    assert (touching[one_day(5)].status, reaching[one_day(5)].status) == ("OK", "STALE(data)")


@pytest.mark.parametrize(("computed_from", "status"), [(1, "STALE(data)"), (2, "OK"), (3, "OK")])
def test_only_revisions_later_than_the_one_computed_from_make_stale(computed_from: int, status: str) -> None:
    entries = all_done(spend(), range(5, 8), revision=1) | all_done(spend(), [8], revision=computed_from)
    assert statuses(spend(), entries, changed(day(8), revision=2))[one_day(8)].status == status


def test_stale_data_says_what_changed_when_and_since_which_revision() -> None:
    late = (changed(day(7, 3), revision=3), changed(day(7, 1), day(7, 2), revision=2))
    found = statuses(spend(), all_done(spend(), range(5, 9)), *late)[one_day(7)]
    assert found.reasons == ("payments changed from 2026-01-07T01:00:00Z to 2026-01-07T03:00:00Z (revision 3; this was computed from 1)",)


def test_a_changed_observation_makes_only_its_own_interval_stale() -> None:
    found = statuses(LAST_PAYMENT, all_done(LAST_PAYMENT, range(5, 9)), changed(day(6)))
    assert by_day(found) == {5: "OK", 6: "STALE(data)", 7: "OK", 8: "OK"}


def test_a_changed_static_source_makes_its_group_stale() -> None:
    found = statuses(STATIC, {ALWAYS: done(STATIC, ALWAYS)}, changed(EPOCH))
    assert found[ALWAYS].status == "STALE(data)"


@given(
    second=st.integers(-5 * 24 * 3600, 5 * 24 * 3600),
    beside=st.sampled_from((timedelta(0), MICROSECOND, -MICROSECOND)),
    every=st.sampled_from(("1d", "6h")),
    windows=st.integers(1, 3),
)
def test_exactly_the_intervals_in_which_a_new_entitys_event_gives_a_row_are_stale(
    second: int, beside: timedelta, every: str, windows: int
) -> None:
    window = f"{windows * int(duration(every).total_seconds())}s"
    group = spend(Feature("n", "count", windows=(window,)), every=every)
    at = day(10) + timedelta(seconds=second) + beside
    grid = list(split(Interval(day(1), day(20)), group.cadence))
    event = {"customer_id": "new", "paid_at": at, "amount": None, "kind": None}
    rows = oracle.windowed_rows(group, [event], [i.end for i in grid], functions={})
    revisions = [changed(day(1), revision=1), changed(at)]
    found = plan.statuses(group, generation=1, entries={i: done(group, i) for i in grid}, revisions=revisions, now=day(20, 1))
    assert {s.interval.end for s in found if s.status == "STALE(data)"} == {row.at for row in rows}


@pytest.mark.parametrize("window", ["720h", "lifetime"])
def test_a_year_of_hours_and_of_hourly_changes_has_its_statuses_with_few_calls_for_each(window: str) -> None:
    group = spend(Feature("n", "count", windows=(window,)), every="1h", ttl="3h")
    grid = list(split(Interval(day(1), day(1) + timedelta(days=365)), group.cadence))
    entry = done(group, grid[0])
    entries = {i: replace(entry, interval=i, revision=n + 1) for n, i in enumerate(grid)}
    revisions = [changed(i.start, i.end, revision=n + 1) for n, i in enumerate(grid)]
    late = changed(grid[-1].start, revision=len(grid) + 1)
    now = grid[-1].end + timedelta(hours=1)
    found = []
    made = counted.calls(lambda: found.extend(plan.statuses(group, generation=1, entries=entries, revisions=[*revisions, late], now=now)))
    assert [s.interval for s in found if s.status != "OK"] == [grid[-1]]
    assert made < 100 * len(grid)  # looking at each revision for each interval makes thousands


def test_a_rejected_interval_says_what_failed_and_has_no_publish() -> None:
    found = statuses(spend(), all_done(spend(), [5], state="REJECTED", failed=("s_1d at_least(0)", "not_null(1.0)")))[one_day(5)]
    assert (found.status, found.reasons) == ("REJECTED", ("failed s_1d at_least(0)", "failed not_null(1.0)"))
    assert (found.rows, found.publish_id) == (7, None)


def test_changed_data_outranks_a_rejection() -> None:
    found = statuses(spend(), all_done(spend(), [5], state="REJECTED", failed=("x",)), changed(day(5)))
    assert found[one_day(5)].status == "STALE(data)"


def with_expectations(*expectations: Expectation) -> WindowedGroup:
    """The group, its sums held to some expectations."""
    return spend(replace(TOTAL, expect=expectations))


def test_a_rejected_interval_is_tried_again_when_the_expectations_changed() -> None:
    entries = all_done(with_expectations(at_least(0)), [5], state="REJECTED", failed=("s_1d at_least(0)",))
    found = statuses(with_expectations(at_least(-10)), entries)[one_day(5)]
    assert (found.status, found.reasons) == ("STALE(code)", ("was rejected by other expectations",))


def test_a_rejected_interval_is_not_tried_again_for_nothing() -> None:
    entries = all_done(with_expectations(at_least(0)), [5], state="REJECTED", failed=("s_1d at_least(0)",))
    renamed = replace(with_expectations(at_least(0)), owner="risk", tags=("daily",), ttl="3d")
    assert statuses(renamed, entries)[one_day(5)].status == "REJECTED"


def test_changed_expectations_leave_what_is_published_as_it_is() -> None:
    entries = all_done(with_expectations(at_least(0)), [5])
    assert statuses(with_expectations(at_least(1)), entries)[one_day(5)].status == "OK"


def test_an_added_column_makes_stale_what_lacks_it() -> None:
    added = spend(TOTAL, COUNT, Derived("mean", "s_1d / n_1d"))
    found = statuses(added, all_done(spend(), [5]) | all_done(added, [6]))
    assert (found[one_day(5)].status, found[one_day(5)].reasons) == ("STALE(code)", ("lacks n_1d", "lacks mean"))
    assert found[one_day(6)].status == "OK"


def test_changed_data_outranks_changed_code_and_both_are_said() -> None:
    found = statuses(spend(TOTAL, COUNT), all_done(spend(), [5]), changed(day(5)))[one_day(5)]
    assert found.status == "STALE(data)"
    assert [reason.split()[0] for reason in found.reasons] == ["payments", "lacks"]


# ---------------------------------------------------------------------------------------------------------------- generations


def generation(group: FeatureGroup, number: int = 1, *, current: bool = True, first_published_at: datetime | None = None) -> Generation:
    """A generation that holds a group as it is defined here."""
    return Generation(group.name, number, fingerprint.columns(group), current, first_published_at)


def test_the_first_generation_is_number_one() -> None:
    assert plan.target_generation(spend(), []) == (1, fingerprint.columns(spend()))


def test_an_added_column_keeps_the_generation() -> None:
    wider = spend(TOTAL, COUNT)
    assert plan.target_generation(wider, [generation(spend())]) == (1, fingerprint.columns(wider))


def test_an_added_window_keeps_the_generation() -> None:
    assert plan.target_generation(spend(replace(TOTAL, windows=("1d", "2d", "7d"))), [generation(spend())])[0] == 1


@pytest.mark.parametrize(
    "same",
    [
        spend(owner="risk"),
        spend(tags=("daily",)),
        spend(ttl="5d"),
        spend(publish_delay="2h"),
        spend(restate_within="9d"),
        spend(replace(TOTAL, expect=(at_least(0),))),
        spend(source=replace(PAYMENTS, ready_after="3h")),
        spend(source=replace(PAYMENTS, columns=dict(PAYMENTS.columns) | {"shop": "int64"})),
    ],
)
def test_what_changes_no_value_keeps_the_generation(same: WindowedGroup) -> None:
    assert plan.target_generation(same, [generation(spend())])[0] == 1


@pytest.mark.parametrize(
    "other",
    [
        spend(replace(TOTAL, aggregation="mean")),
        spend(replace(TOTAL, of="amount * 2")),
        spend(replace(TOTAL, where="kind = 'a'")),
        spend(where="kind = 'a'"),
        spend(every="12h"),
        spend(source=replace(PAYMENTS, id=("kind",))),
        spend(source=replace(PAYMENTS, timezone="America/New_York")),
        spend(source=replace(PAYMENTS, columns=dict(PAYMENTS.columns) | {"amount": "int64"})),
        spend(entity=Entity("customer", {"customer_id": "string", "kind": "string"})),
        spend(COUNT),
    ],
)
def test_a_changed_or_removed_column_makes_a_new_generation(other: WindowedGroup) -> None:
    assert plan.target_generation(other, [generation(spend())])[0] == 2


def test_a_derived_column_changes_with_its_expression_and_with_what_it_reads() -> None:
    mean = spend(TOTAL, COUNT, Derived("mean", "s_1d / n_1d"))
    other_expression = spend(TOTAL, COUNT, Derived("mean", "n_1d / s_1d"))
    other_input = spend(TOTAL, replace(COUNT, where="kind = 'a'"), Derived("mean", "s_1d / n_1d"))
    hashes = [fingerprint.columns(group)["mean"] for group in (mean, other_expression, other_input)]
    assert len(set(hashes)) == 3


def test_a_definition_that_is_taken_back_finds_its_old_generation_again() -> None:
    doubled = spend(replace(TOTAL, of="amount * 2"))
    assert plan.target_generation(spend(), [generation(spend()), generation(doubled, 2)])[0] == 1


def test_of_two_generations_that_fit_the_newest_is_taken() -> None:
    assert plan.target_generation(spend(TOTAL, COUNT), [generation(spend(TOTAL, COUNT), 3), generation(spend(), 2)])[0] == 3


def test_a_new_generation_follows_the_greatest_number() -> None:
    assert plan.target_generation(spend(COUNT), [generation(spend(), 4), generation(spend(), 2)])[0] == 5


def test_readers_see_the_current_generation_and_none_before_anything_was_published() -> None:
    old, new = generation(spend(), 1), generation(spend(), 2, current=False)
    assert plan.current_generation([new, old]) == old
    assert plan.current_generation([new]) is None


def test_a_new_generation_takes_over_when_all_that_the_old_one_published_is_ok_in_it() -> None:
    ready = list(statuses(spend(), all_done(spend(), [5, 6])).values())
    assert plan.covers(ready, [one_day(5), one_day(6)])
    assert not plan.covers(ready, [one_day(5), one_day(7)])
    assert plan.covers(ready, [])


def test_a_new_generation_of_another_cadence_takes_over_when_it_covers_the_same_time() -> None:
    daily = list(statuses(spend(), all_done(spend(), [5, 6])).values())
    quarters = [quarter for each in (5, 6) for quarter in split(one_day(each), timedelta(hours=6))]
    assert plan.covers(daily, quarters)
    assert not plan.covers(daily, [*quarters, Interval(day(7), day(7, 6))])
    ready = [daily[0]._replace(interval=interval) for interval in quarters]
    assert plan.covers(ready, [one_day(5), one_day(6)])
    assert not plan.covers(ready[1:], [one_day(5), one_day(6)])


def test_what_is_stale_or_rejected_in_the_new_generation_is_not_covered() -> None:
    stale = list(statuses(spend(), all_done(spend(), [5]), changed(day(5))).values())
    rejected = list(statuses(spend(), all_done(spend(), [5], state="REJECTED")).values())
    assert not plan.covers(stale, [one_day(5)])
    assert not plan.covers(rejected, [one_day(5)])


# ------------------------------------------------------------------------------------------------------------- plans and ranges


def planned(found: Sequence[plan.IntervalStatus], start: datetime | None = None, end: datetime | None = None) -> list[int]:
    """The days that a plan over a range does."""
    return [s.interval.start.day for s in plan.materialize(spend(), generation=1, found=found, start=start, end=end).due]


def test_what_is_missing_or_stale_is_due_and_what_is_ok_or_rejected_is_not() -> None:
    entries = all_done(spend(TOTAL, COUNT), [5]) | all_done(spend(TOTAL, COUNT), [8], state="REJECTED") | all_done(spend(), [6])
    found = statuses(spend(TOTAL, COUNT), entries)
    assert by_day(found) == {5: "OK", 6: "STALE(code)", 7: "MISSING", 8: "REJECTED"}
    assert planned(list(found.values())) == [6, 7]


def test_a_range_holds_the_intervals_that_start_in_it() -> None:
    found = list(statuses(spend(), {}).values())
    assert planned(found) == [5, 6, 7, 8]
    assert planned(found, day(6), day(8)) == [6, 7]
    assert planned(found, start=day(7)) == [7, 8]
    assert planned(found, end=day(7)) == [5, 6]
    assert planned(found, day(1), day(5)) == []


def test_any_range_takes_in_a_static_group() -> None:
    found = list(statuses(STATIC, {}).values())
    work = plan.materialize(STATIC, generation=1, found=found, start=day(6), end=day(8))
    assert [s.interval for s in work.due] == [ALWAYS]


def test_the_first_day_of_1970_is_an_interval_like_any_other_in_a_daily_group() -> None:
    found = plan.statuses(spend(), generation=1, entries={}, revisions=[changed(EPOCH)], now=EPOCH + timedelta(days=2, hours=1))
    assert [s.interval.start for s in found] == [EPOCH, EPOCH + timedelta(days=1)]
    work = plan.materialize(spend(), generation=1, found=found, start=EPOCH + timedelta(days=1), end=None)
    assert [s.interval.start for s in work.due] == [EPOCH + timedelta(days=1)]


@pytest.mark.parametrize(("start", "end"), [(day(7), day(6)), (day(6), day(6))])
def test_a_reversed_or_empty_range_is_refused(start: datetime, end: datetime) -> None:
    with pytest.raises(plan.RangeError, match=r"--from .* --to 2026-01-06T00:00:00Z is reversed or empty: --to is exclusive"):
        plan.check_range([spend()], start=start, end=end, now=day(9))


@pytest.mark.parametrize(("start", "end", "name"), [(day(10), None, "--from"), (None, day(10), "--to"), (day(5), day(10), "--to")])
def test_a_range_in_the_future_is_refused(start: datetime | None, end: datetime | None, name: str) -> None:
    with pytest.raises(plan.RangeError, match=rf"{name} 2026-01-10T00:00:00Z lies in the future \(it is 2026-01-09T00:00:00Z\)"):
        plan.check_range([spend()], start=start, end=end, now=day(9))


def test_a_range_that_ends_now_is_allowed() -> None:
    plan.check_range([spend()], start=day(5), end=day(9), now=day(9))
    plan.check_range([spend()], start=None, end=None, now=day(9))


def test_a_range_off_a_groups_grid_is_refused_with_the_times_to_write_instead() -> None:
    with pytest.raises(plan.RangeError) as refused:
        plan.check_range([spend()], start=day(5, 6), end=day(8), now=day(9))
    assert str(refused.value) == (
        "--from 2026-01-05T06:00:00Z is not on the grid of spend, which runs every 1d: write 2026-01-05T00:00:00Z or 2026-01-06T00:00:00Z"
    )


def test_a_range_is_held_against_the_grid_of_each_group_but_static_ones() -> None:
    hourly = spend(Feature("n", "count", windows=("1h",)), every="1h")
    plan.check_range([hourly, STATIC], start=day(5, 6), end=day(5, 8), now=day(9))
    with pytest.raises(plan.RangeError, match="grid of last_payment"):
        plan.check_range([hourly, LAST_PAYMENT], start=day(5, 6), end=None, now=day(9))


# --------------------------------------------------------------------------------------------------------- choosing some of a range


def one_of_each() -> tuple[plan.IntervalStatus, ...]:
    """Days 5 to 9 of an observation group, which holds nothing: OK, REJECTED, STALE(code), STALE(data), MISSING."""
    group = replace(LAST_PAYMENT, columns=("amount", "kind"))
    entries = all_done(group, [5, 8]) | all_done(group, [6], state="REJECTED") | all_done(LAST_PAYMENT, [7])
    revisions = [changed(day(5), revision=1), changed(day(8, 3))]
    found = plan.statuses(group, generation=1, entries=entries, revisions=revisions, now=day(10, 1))
    assert [s.status for s in found] == ["OK", "REJECTED", "STALE(code)", "STALE(data)", "MISSING"]
    return found


@pytest.mark.parametrize(("only", "days"), [("due", [7, 8, 9]), ("missing", [9]), ("stale", [7, 8]), ("all", [5, 6, 7, 8, 9])])
def test_a_run_may_take_what_is_missing_or_stale_or_all_whatever_its_status(only: plan.Only, days: list[int]) -> None:
    work = plan.materialize(LAST_PAYMENT, generation=1, found=one_of_each(), start=None, end=None, choice=plan.Choice(only))
    assert [s.interval.start.day for s in work.due] == days


def test_all_of_a_range_is_of_that_range_only() -> None:
    work = plan.materialize(LAST_PAYMENT, generation=1, found=one_of_each(), start=day(6), end=day(8), choice=plan.Choice("all"))
    assert [s.interval.start.day for s in work.due] == [6, 7]


@pytest.mark.parametrize(("within", "days"), [("range", [5, 6, 7, 8]), ("restate", [7, 8])])
def test_a_scheduled_run_leaves_alone_what_late_data_made_stale_longer_ago_than_restate_within(
    within: plan.Within, days: list[int]
) -> None:
    group = replace(LAST_PAYMENT, restate_within="1d")
    revisions = [changed(day(5), revision=1), changed(day(5), day(9))]
    found = plan.statuses(group, generation=1, entries=all_done(group, range(5, 9)), revisions=revisions, now=day(9, 1))
    work = plan.materialize(group, generation=1, found=found, start=None, end=None, choice=plan.Choice(within=within))
    assert [s.interval.start.day for s in work.due] == days
    assert {s.status for s in found} == {"STALE(data)"}


def test_a_scheduled_run_takes_what_is_missing_or_lacks_a_column_however_old_it_is() -> None:
    group = replace(LAST_PAYMENT, columns=("amount", "kind"), restate_within="0s")
    entries = all_done(LAST_PAYMENT, [5]) | all_done(group, [7])
    found = plan.statuses(group, generation=1, entries=entries, revisions=[changed(day(5), revision=1)], now=day(9, 1))
    work = plan.materialize(group, generation=1, found=found, start=None, end=None, choice=plan.Choice(within="restate"))
    assert [(s.interval.start.day, s.status) for s in work.due] == [(5, "STALE(code)"), (6, "MISSING"), (8, "MISSING")]


def test_a_static_group_is_never_too_old_to_be_restated() -> None:
    found = list(statuses(STATIC, {ALWAYS: done(STATIC, ALWAYS)}, changed(EPOCH)).values())
    work = plan.materialize(STATIC, generation=1, found=found, start=None, end=None, choice=plan.Choice(within="restate"))
    assert [s.interval for s in work.due] == [ALWAYS]


@pytest.mark.parametrize("wrong", [{"only": "old"}, {"within": "month"}])
def test_a_choice_that_means_nothing_is_refused_with_what_may_be_written(wrong: dict[str, Any]) -> None:
    with pytest.raises(plan.RangeError, match=r"write (due, missing, stale, all|range, or restate)"):
        plan.Choice(**wrong)


# ----------------------------------------------------------------------------------- what waits for an interval that was rejected


def rejected(group: WindowedGroup, n: int, **more: Any) -> dict[Interval, LedgerEntry]:
    """The ledger after the gate rejected day `n`."""
    return all_done(group, [n], state="REJECTED", failed=("s_1d at_least(0)",), **more)


def states(entries: Mapping[Interval, LedgerEntry], *revisions: Revision, releases: Iterable[Release] = ()) -> dict[int, str]:
    """The statuses of days 5 to 12 of a group whose windows are up to two days long."""
    found = plan.statuses(
        spend(), generation=1, entries=entries, revisions=[changed(day(5), revision=1), *revisions], now=day(13, 1), releases=releases
    )
    return by_day({s.interval: s for s in found})


def released(n: int, *, revision: int = 1) -> Release:
    """A person's release of day `n`, when the source was at a revision."""
    return Release("spend", 1, one_day(n), revision, "looked at it", day(14))


def test_a_rejected_interval_holds_exactly_the_later_ones_whose_windows_read_its_events() -> None:
    found = states(all_done(spend(), [5, 6]) | rejected(spend(), 7))
    assert found == {5: "OK", 6: "OK", 7: "REJECTED", 8: "WAITING", 9: "MISSING", 10: "MISSING", 11: "MISSING", 12: "MISSING"}


def test_a_group_of_one_day_windows_loses_one_day_not_two() -> None:
    group = spend(replace(TOTAL, windows=("1d",)))
    found = statuses(group, all_done(group, [5]) | rejected(group, 6))
    assert by_day(found) == {5: "OK", 6: "REJECTED", 7: "MISSING", 8: "MISSING"}


def test_what_has_only_a_closing_row_of_a_rejected_interval_is_stale_when_that_is_corrected() -> None:
    group = spend(replace(TOTAL, windows=("1d",)))
    entries = all_done(group, [5, 7, 8]) | rejected(group, 6)
    assert by_day(statuses(group, entries)) == {5: "OK", 6: "REJECTED", 7: "OK", 8: "OK"}
    assert by_day(statuses(group, entries, changed(day(6, 3)))) == {5: "OK", 6: "STALE(data)", 7: "STALE(data)", 8: "OK"}


def test_with_a_lifetime_window_a_rejected_interval_holds_all_later_ones() -> None:
    group = spend(Feature("n", "count", windows=("lifetime",)))
    found = statuses(group, all_done(group, [5]) | rejected(group, 6))
    assert by_day(found) == {5: "OK", 6: "REJECTED", 7: "WAITING", 8: "WAITING"}


def test_what_waits_names_the_rejected_interval_as_a_reason_and_as_a_value() -> None:
    found = statuses(spend(), all_done(spend(), [5]) | rejected(spend(), 6))
    assert found[one_day(7)].reasons == ("waits for 2026-01-06T00:00:00Z..2026-01-07T00:00:00Z, which the gate rejected",)
    assert found[one_day(7)].waits_for == (Awaited("spend", one_day(6), "REJECTED", one_day(6), 1),)
    assert {found[one_day(n)].waits_for for n in (5, 6, 8)} == {()}


def test_several_rejected_intervals_are_counted() -> None:
    group = spend(replace(TOTAL, windows=("3d",)))
    found = statuses(group, rejected(group, 6) | rejected(group, 7))[one_day(8)]
    assert found.waits_for == (Awaited("spend", one_day(6), "REJECTED", one_day(7), 2),)
    assert found.reasons == ("waits for 2026-01-06T00:00:00Z..2026-01-07T00:00:00Z and 1 more, which the gate rejected",)


def test_what_was_published_after_a_rejected_interval_stays_ok() -> None:
    assert states(rejected(spend(), 7) | all_done(spend(), [5, 6, 8, 9, 10, 11, 12]))[8] == "OK"


def test_what_is_published_and_stale_waits_too_and_keeps_its_rows_and_says_why_it_is_stale() -> None:
    late = changed(day(8, 3))
    found = statuses(spend(), rejected(spend(), 7, revision=2) | all_done(spend(), [5, 6, 8]), late)[one_day(8)]
    assert (found.status, found.publish_id, found.rows) == ("WAITING", "p1", 7)
    assert [reason.split()[0] for reason in found.reasons] == ["waits", "payments"]


def test_a_rejected_interval_that_waits_for_another_stays_rejected_and_holds_what_covers_it() -> None:
    found = states(all_done(spend(), [5, 6]) | rejected(spend(), 7) | rejected(spend(), 8))
    assert found == {5: "OK", 6: "OK", 7: "REJECTED", 8: "REJECTED", 9: "WAITING", 10: "MISSING", 11: "MISSING", 12: "MISSING"}


def test_a_rejected_interval_whose_data_changed_is_tried_again_and_with_it_what_waited() -> None:
    found = states(all_done(spend(), [5, 6]) | rejected(spend(), 7), changed(day(7, 3)))
    assert found[7] == "STALE(data)"
    assert {found[8], found[9]} == {"MISSING"}


def test_a_repaired_interval_holds_nothing() -> None:
    assert "WAITING" not in states(all_done(spend(), [5, 6, 7], revision=2), changed(day(7, 3))).values()


def test_an_observation_group_has_no_windows_and_holds_nothing() -> None:
    found = statuses(LAST_PAYMENT, all_done(LAST_PAYMENT, [5], state="REJECTED"))
    assert by_day(found) == {5: "REJECTED", 6: "MISSING", 7: "MISSING", 8: "MISSING"}


def test_a_release_lets_pass_what_waited_and_says_so() -> None:
    entries = all_done(spend(), [5, 6]) | rejected(spend(), 7)
    found = states(entries, releases=[released(7)])
    assert (found[7], found[8], found[9]) == ("REJECTED", "MISSING", "MISSING")
    status = plan.statuses(
        spend(), generation=1, entries=entries, revisions=[changed(day(5), revision=1)], now=day(9, 1), releases=[released(7)]
    )[2]
    assert status.reasons == ("failed s_1d at_least(0)", "released 2026-01-14T00:00:00Z: looked at it")


def test_a_release_of_another_interval_releases_nothing() -> None:
    assert states(rejected(spend(), 7), releases=[released(6)])[8] == "WAITING"


@pytest.mark.parametrize(("at", "status"), [(day(7, 3), "WAITING"), (day(5), "WAITING"), (day(8), "MISSING"), (day(3), "MISSING")])
def test_a_release_counts_until_the_events_change_that_the_rejected_interval_reads(at: datetime, status: str) -> None:
    # The interval was tried again after revision 2 and rejected again.
    found = states(rejected(spend(), 7, revision=2), changed(at), releases=[released(7, revision=1)])
    assert found[8] == status


@pytest.mark.parametrize(("start", "due", "left"), [(None, [7, 8, 9], []), (day(8), [9], [8])])
def test_what_covers_a_rejected_interval_is_only_computed_in_a_run_that_tries_that_again(
    start: datetime | None, due: list[int], left: list[int]
) -> None:
    entries = all_done(spend(), [5, 6]) | rejected(spend(), 7)
    revisions = [changed(day(5), revision=1), changed(day(7, 3))]
    found = plan.statuses(spend(), generation=1, entries=entries, revisions=revisions, now=day(10, 1))
    work = plan.materialize(spend(), generation=1, found=found, start=start, end=None)
    assert [s.interval.start.day for s in work.due] == due
    assert [(s.interval.start.day, s.status) for s in work.waiting] == [(n, "WAITING") for n in left]


@pytest.mark.parametrize(("start", "due", "left"), [(day(7), [7, 8, 9], []), (day(8), [9], [8])])
def test_all_takes_in_what_waits_if_it_takes_in_the_rejected_interval(start: datetime, due: list[int], left: list[int]) -> None:
    group = spend(ttl="3d")
    found = plan.statuses(
        group,
        generation=1,
        entries=all_done(group, [5, 6, 9]) | rejected(group, 7),
        revisions=[changed(day(5), revision=1)],
        now=day(10, 1),
    )
    assert [s.status for s in found] == ["OK", "OK", "REJECTED", "WAITING", "OK"]
    work = plan.materialize(group, generation=1, found=found, start=start, end=None, choice=plan.Choice("all"))
    assert [s.interval.start.day for s in work.due] == due
    assert [s.interval.start.day for s in work.waiting] == left


def test_what_a_run_computes_beside_an_interval_that_it_rejects_is_withheld_unless_that_was_released() -> None:
    found = tuple(statuses(spend(), {}).values())
    work = plan.materialize(spend(), generation=1, found=found, start=None, end=None)
    assert work.withheld([one_day(6)]) == {one_day(7): (one_day(6),)}
    assert work.withheld([one_day(6), one_day(7)]) == {one_day(8): (one_day(7),)}
    assert work.withheld([]) == {}
    calm = tuple(s._replace(released=s.interval == one_day(6)) for s in found)
    assert plan.materialize(spend(), generation=1, found=calm, start=None, end=None).withheld([one_day(6)]) == {}


@given(bad=st.sets(st.integers(0, 23)), windows=st.lists(st.sampled_from(("1h", "2h", "5h", "lifetime")), min_size=1, unique=True))
def test_exactly_the_later_intervals_wait_in_whose_values_an_event_of_a_rejected_one_counts(bad: set[int], windows: list[str]) -> None:
    group = spend(Feature("n", "count", windows=windows), every="1h", ttl="3h")
    grid = list(split(Interval(day(1), day(2)), group.cadence))
    found = plan.waiting_for(group, [grid[n] for n in bad], grid)
    counted: dict[datetime, list[Interval]] = {}
    for rejected in (grid[n] for n in sorted(bad)):
        for at in (rejected.start, rejected.end - MICROSECOND):
            event = {"customer_id": "new", "paid_at": at, "amount": None, "kind": None}
            rows = oracle.windowed_rows(group, [event], [i.end for i in grid if i.start >= rejected.end], functions={})
            for end in (row.at for row in rows if any(row.values.values())):  # a closing row counts nothing
                counted.setdefault(end, []).extend([rejected] if rejected not in counted.get(end, ()) else [])
    assert {interval.end: list(holders) for interval, holders in found.items()} == counted


# --------------------------------------------------------------------------------------------------------- since when it is known


@pytest.mark.parametrize("first", [None, day(6, 1), day(8)])
def test_history_from_before_the_first_publish_is_modelled(first: datetime | None) -> None:
    assert plan.basis(spend(), generation(spend(), first_published_at=first), one_day(5), published_before=False) == "MODELLED"
    assert plan.basis(spend(), None, one_day(5), published_before=False) == "MODELLED"


def test_what_was_not_sealed_at_the_first_publish_is_observed() -> None:
    lived = generation(spend(), first_published_at=day(6, 1) - MICROSECOND)
    assert plan.basis(spend(), lived, one_day(5), published_before=False) == "OBSERVED"


@pytest.mark.parametrize("first", [None, day(5), day(8)])
def test_a_correction_is_always_observed(first: datetime | None) -> None:
    assert plan.basis(spend(), generation(spend(), first_published_at=first), one_day(5), published_before=True) == "OBSERVED"


def test_a_modelled_publish_is_known_from_the_intervals_end_and_the_publish_delay() -> None:
    assert plan.modelled_from(spend(), one_day(5)) == day(6)
    assert plan.modelled_from(spend(publish_delay="2h"), one_day(5)) == day(6, 2)
    assert plan.modelled_from(replace(LAST_PAYMENT, publish_delay="30m"), one_day(5)) == day(6) + timedelta(minutes=30)


def test_a_static_group_was_always_known() -> None:
    assert plan.modelled_from(replace(STATIC, publish_delay="2h"), ALWAYS) == EPOCH


def test_a_newer_engine_makes_intervals_stale_and_no_new_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    published = generation(spend())
    monkeypatch.setattr(fingerprint, "ENGINE", fingerprint.ENGINE + 1)
    number, wanted = plan.target_generation(spend(), [published])
    assert number == published.number
    assert wanted != published.features


def promotion(number: int, by: PromotedBy, *, newest: int) -> Promotion:
    """The group's n-th promotion."""
    return Promotion("spend", number, 1, newest, by, day(20))


@pytest.mark.parametrize(("generation", "may"), [(1, False), (2, False), (3, True)])
def test_what_a_person_promoted_stands_until_a_generation_comes_that_was_not_there(generation: int, may: bool) -> None:
    past = [promotion(1, "automatic", newest=1), promotion(2, "person", newest=2), promotion(3, "automatic", newest=3)]
    assert plan.may_promote(past, generation) == may
    assert plan.may_promote(past[:1], generation)
    assert plan.may_promote([], generation)


@given(
    revisions=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 8), st.integers(0, 23)), max_size=8),
    seen=st.lists(st.tuples(st.integers(0, 6), st.sampled_from(("PUBLISHED", "REJECTED")), st.booleans(), st.booleans()), max_size=8),
    window=st.sampled_from(("1d", "3d", "lifetime")),
)
def test_what_is_sooner_found_to_be_ok_is_what_every_rule_says_of_it(
    revisions: list[tuple[int, int, int]], seen: list[tuple[int, Any, bool, bool]], window: str
) -> None:
    group = spend(Feature("n", "count", windows=(window,)))
    entries = {}
    for n, (revision, state, warned, lacking) in enumerate(seen, start=1):
        entry = done(group, one_day(n), revision=revision, state=state, warned=("w",) if warned else ())
        entries[one_day(n)] = replace(entry, features={}) if lacking else entry
    made = [changed(day(1), revision=0), *(changed(day(n, hour), revision=number) for number, n, hour in revisions)]
    found = plan.statuses(group, generation=1, entries=entries, revisions=made, now=day(9, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "_status_or_ok", plan._status)
        assert plan.statuses(group, generation=1, entries=entries, revisions=made, now=day(9, 1)) == found
