"""What groups rest on: order, staleness, waiting and knowledge travel from what is read to what reads it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from feature_definitions import (
    DefinitionError,
    Entity,
    Feature,
    ObservationGroup,
    Query,
    SnapshotGroup,
    Source,
    TransformGroup,
    WindowedGroup,
)
from feature_definitions.intervals import MICROSECOND, Interval
from feature_definitions.planning import fingerprint, plan
from feature_definitions.planning.upstream import Awaited, Upstream, ordered, read_by, ready_after, sources_of
from feature_definitions.records import LedgerEntry, Publish, Release, Revision

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from feature_definitions import FeatureGroup
    from feature_definitions.planning.plan import IntervalStatus

CUSTOMER = Entity("customer", {"customer_id": "int64"})
COLUMNS = {"customer_id": "int64", "amount": "double", "at": "timestamp"}
PAYMENTS = Source("payments", columns=COLUMNS, event_timestamp="at", ready_after="1h")
VISITS = Source("visits", columns=COLUMNS, event_timestamp="at", ready_after="3h")
PEOPLE = Source("people", columns={"customer_id": "int64", "age": "int64"}, shape="static", id="customer_id")
SPEND = WindowedGroup("spend", CUSTOMER, PAYMENTS, ttl="2d", features=(Feature("s", "sum", "amount", windows=("1d",)),))
PERSON = SnapshotGroup("person", CUSTOMER, PEOPLE, columns=("age",), assume_always_known=True)


def transform(name: str, *inputs: Source | FeatureGroup, **more: Any) -> TransformGroup:
    """A daily transform that reads two days back."""
    usual: dict[str, Any] = {"function": lambda *frames: frames[0], "schema": {"x": "double"}, "ttl": "3d", "lookback": "2d"}
    return TransformGroup(name, CUSTOMER, inputs, **(usual | more))


TOTALS = transform("totals", PAYMENTS, VISITS)
BEST = transform("best", SPEND)


def day(n: int, hour: int = 0) -> datetime:
    """An hour of day `n` of January 2026."""
    return datetime(2026, 1, n, hour, tzinfo=UTC)


def one_day(n: int) -> Interval:
    """Day `n` of January 2026."""
    return Interval(day(n), day(n + 1))


def changed(source: Source, first: datetime, *, revision: int = 1, recorded_at: datetime | None = None) -> Revision:
    """One event of a source came, at `first`."""
    return Revision(source.name, revision, first.date(), first, first + MICROSECOND, "hash", 1, recorded_at or day(9))


def done(group: FeatureGroup, n: int, **more: Any) -> LedgerEntry:
    """What the ledger holds after a run of a group did one day."""
    usual: dict[str, Any] = {
        "group": group.name, "generation": 1, "interval": one_day(n), "state": "PUBLISHED", "publish_id": "p5",
        "features": fingerprint.columns(group), "gate": fingerprint.gate(group), "revision": 1, "rows": 1, "delta_version": 1,
        "failed": (), "warned": (), "run_id": "run", "seconds": 1.0, "recorded_at": day(9),
    }  # fmt: skip
    return LedgerEntry(**(usual | more))


def publish(n: int, publish_id: str = "p1", known_from: datetime | None = None) -> Publish:
    """That day `n` of the group that is read was published."""
    return Publish(publish_id, "spend", 1, one_day(n), known_from or day(n + 1), "OBSERVED")


def spend(days: Iterable[int], *more: Publish, entries: Mapping[int, LedgerEntry] | None = None, late: datetime | None = None) -> Upstream:
    """What is seen of the group `spend` when these days were published."""
    ledger = {one_day(n): done(SPEND, n) for n in days} | {one_day(n): entry for n, entry in (entries or {}).items()}
    revisions = [changed(PAYMENTS, day(3)), *([changed(PAYMENTS, late, revision=2)] if late else [])]
    found = plan.statuses(SPEND, generation=1, entries=ledger, revisions=revisions, now=day(9, 1))
    return plan.upstream_of(SPEND, generation=1, found=found, entries=ledger, publishes=[*map(publish, days), *more])


def by_day(found: Iterable[IntervalStatus]) -> dict[int, str]:
    """The status of each day."""
    return {s.interval.start.day: s.status for s in found}


def best(upstream: Upstream, entries: Iterable[LedgerEntry] = ()) -> tuple[IntervalStatus, ...]:
    """The statuses of the group `best`, which reads two days of `spend`."""
    ledger = {entry.interval: entry for entry in entries}
    return plan.statuses(
        BEST, generation=1, entries=ledger, revisions=[changed(PAYMENTS, day(3))], now=day(9, 1), upstream=(upstream,)
    )  # fmt: skip


def all_best(upstream: Upstream) -> list[LedgerEntry]:
    """The group `best` after a run over all that was there."""
    return [done(BEST, n, inputs={"spend": upstream.content(plan.inputs(BEST, one_day(n)))}) for n in range(3, 9)]


# -------------------------------------------------------------------------------------------------------------------- structure


def test_a_transform_rests_on_every_source_behind_it_and_waits_for_the_slowest() -> None:
    over = transform("over", BEST, transform("mixed", VISITS, PERSON))
    assert [source.name for source in sources_of(over)] == ["payments", "visits", "people"]
    assert (ready_after(over), ready_after(BEST)) == (timedelta(hours=3), timedelta(hours=1))


def test_groups_come_after_those_that_they_read() -> None:
    over = transform("over", BEST)
    assert [group.name for group in ordered([over, PERSON, BEST, SPEND])] == ["spend", "best", "over", "person"]
    assert [group.name for group in ordered([over, SPEND])] == ["spend", "over"]


def test_a_transform_begins_with_the_first_event_behind_it_once_every_source_has_one() -> None:
    first = [changed(PAYMENTS, day(5, 7))]
    assert plan.expected(TOTALS, first, day(9, 4)) == ()
    assert plan.expected(TOTALS, [*first, changed(VISITS, day(7))], day(9, 4)) == tuple(one_day(n) for n in (5, 6, 7, 8))
    assert plan.expected(TOTALS, [*first, changed(VISITS, day(7))], day(9, 2))[-1] == one_day(7)


def test_a_transform_does_not_expect_what_it_would_need_deleted_rows_for() -> None:
    kept = transform("kept", replace(SPEND, retain="4d"))
    assert plan.expected(kept, [changed(PAYMENTS, day(1))], day(9, 2))[0] == one_day(7)


@pytest.mark.parametrize(
    ("inputs", "lookback", "message"),
    [
        ((PERSON,), "2d", "group x reads only rows without time, so nothing says when to compute it; read events too"),
        ((replace(SPEND, retain="3d"),), "4d", "has the lookback '4d', but spend keeps its rows for '3d' only; let it retain more"),
        ((SPEND,), "1h", "has the lookback '1h', but spend has rows every '1d' only; write lookback='1d' or more"),
    ],
)
def test_inputs_of_which_rows_can_not_be_in_the_lookback_are_refused(inputs: Any, lookback: str, message: str) -> None:
    with pytest.raises(DefinitionError, match="group x") as refused:
        transform("x", *inputs, lookback=lookback, every="1h" if lookback == "1h" else "1d")
    assert message in str(refused.value)


# -------------------------------------------------------------------------------------------------------------------- staleness


@pytest.mark.parametrize(
    ("at", "stale"),
    [(day(5), {5, 6}), (day(6) - MICROSECOND, {5, 6}), (day(6), {6, 7}), (day(8, 5), {8}), (day(2), {3}), (day(2) - MICROSECOND, set())],
)
@pytest.mark.parametrize("source", [PAYMENTS, VISITS])
def test_a_late_event_makes_exactly_the_intervals_stale_that_look_back_on_it(at: datetime, stale: set[int], source: Source) -> None:
    entries = {one_day(n): done(TOTALS, n, revision=0, inputs={"payments": "1", "visits": "4"}) for n in range(3, 9)}
    seen = {"payments": 1, "visits": 4}[source.name]
    revisions = [changed(PAYMENTS, day(3)), changed(VISITS, day(3), revision=4), changed(source, at, revision=seen + 1)]
    found = plan.statuses(TOTALS, generation=1, entries=entries, revisions=revisions, now=day(9, 3))
    assert {n for n, status in by_day(s for s in found if s.interval.start >= day(3)).items() if status == "STALE(data)"} == stale
    assert all(source.name in s.reasons[0] for s in found if s.status == "STALE(data)")


def test_what_is_published_again_makes_exactly_the_intervals_stale_that_read_it() -> None:
    before = spend(range(3, 9))
    after = spend(range(3, 9), publish(5, "p9"))
    found = best(after, all_best(before))
    assert by_day(best(before, all_best(before))) == dict.fromkeys(range(3, 9), "OK")
    assert by_day(found) == {3: "OK", 4: "OK", 5: "STALE(data)", 6: "STALE(data)", 7: "OK", 8: "OK"}
    assert found[2].reasons == (f"spend {one_day(5)} was published again since this was computed",)


def test_a_publish_that_began_earlier_and_ended_later_is_seen_too() -> None:
    before = spend(range(3, 9))
    assert by_day(best(spend(range(3, 9), publish(5, "p0")), all_best(before)))[5] == "STALE(data)"


def test_another_generation_of_what_is_read_makes_everything_stale() -> None:
    before = spend(range(3, 9))
    assert set(by_day(best(replace(before, generation=2), all_best(before))).values()) == {"STALE(data)"}


def test_what_will_be_computed_again_holds_what_read_it_but_not_what_was_never_computed() -> None:
    before, late = spend(range(3, 9)), spend(range(3, 9), late=day(5, 9))
    entries = all_best(before)[:3]
    found = best(late, entries)
    assert by_day(found) == {3: "OK", 4: "OK", 5: "WAITING", 6: "MISSING", 7: "MISSING", 8: "MISSING"}
    assert (found[2].reasons, found[2].publish_id) == ((f"waits for spend {one_day(5)} (STALE(data))",), "p5")
    work = plan.materialize(BEST, generation=1, found=found, start=None, end=None)
    assert [s.interval.start.day for s in work.due] == [6, 7, 8]


# ---------------------------------------------------------------------------------------------------------------------- waiting


def test_an_interval_waits_for_what_it_reads_and_says_for_what() -> None:
    found = best(spend([3, 4, 5, 7, 8]))
    assert by_day(found) == {3: "MISSING", 4: "MISSING", 5: "MISSING", 6: "WAITING", 7: "WAITING", 8: "MISSING"}
    assert found[3].reasons == (f"waits for spend {one_day(6)} (MISSING)",)
    assert found[3].waits_for == (Awaited("spend", one_day(6), "MISSING", one_day(6), 1),)
    assert best(spend([3]))[3].waits_for == (Awaited("spend", one_day(5), "MISSING", one_day(6), 2),)
    assert best(spend([3]))[3].reasons == (f"waits for spend {one_day(5)} (MISSING) and 1 more",)
    work = plan.materialize(BEST, generation=1, found=found, start=None, end=None)
    assert ([s.interval.start.day for s in work.due], [s.interval.start.day for s in work.waiting]) == ([3, 4, 5, 8], [6, 7])


def test_nothing_is_computed_over_what_can_not_be_read_even_if_all_is_asked_for() -> None:
    whole = spend(range(3, 9))
    found = best(spend([3, 4, 5, 6, 7]), all_best(whole))
    work = plan.materialize(BEST, generation=1, found=found, start=None, end=None, choice=plan.Choice("all"))
    assert ([s.interval.start.day for s in work.due], [s.interval.start.day for s in work.waiting]) == ([3, 4, 5, 6, 7], [8])


def test_a_rejected_interval_is_waited_for_until_a_person_releases_it() -> None:
    rejected = {5: done(SPEND, 5, state="REJECTED", failed=("x",))}
    assert by_day(best(spend([3, 4, 6, 7, 8], entries=rejected)))[5] == "WAITING"
    released = replace(spend([3, 4, 6, 7, 8], entries=rejected), unreadable={})
    ledger = {one_day(n): done(SPEND, n) for n in (3, 4, 6, 7, 8)} | {one_day(5): rejected[5]}
    found = plan.statuses(
        SPEND, generation=1, entries=ledger, revisions=[changed(PAYMENTS, day(3))], now=day(9, 1),
        releases=[Release("spend", 1, one_day(5), 1, "known", day(9))],
    )  # fmt: skip
    assert plan.upstream_of(SPEND, generation=1, found=found, entries=ledger, publishes=released.publishes) == released


def test_an_interval_that_lacks_a_column_is_waited_for() -> None:
    lacking = {5: done(SPEND, 5, features={})}
    assert spend(range(3, 9), entries=lacking).unreadable == {one_day(5): "STALE(code)"}


def test_a_rejected_interval_of_a_transform_holds_those_that_look_back_on_it() -> None:
    seen = spend(range(3, 9))
    entries = [replace(e, state="REJECTED", failed=("x",)) if e.interval == one_day(5) else e for e in all_best(seen)]
    found = best(seen, [e for e in entries if e.interval != one_day(6)])
    assert (by_day(found)[5], by_day(found)[6]) == ("REJECTED", "WAITING")


def test_a_transform_that_looks_back_one_interval_has_none_that_waits_for_a_rejected_one() -> None:
    one = transform("one", PAYMENTS, lookback="1d")
    entries = {one_day(n): done(one, n, inputs={"payments": "1"}) for n in (3, 4)}
    entries[one_day(4)] = replace(entries[one_day(4)], state="REJECTED", failed=("x",))
    found = plan.statuses(one, generation=1, entries=entries, revisions=[changed(PAYMENTS, day(3))], now=day(7, 9))
    assert by_day(found) == {3: "OK", 4: "REJECTED", 5: "MISSING", 6: "MISSING"}


@pytest.mark.parametrize(("came", "counts"), [(day(9, 4), True), (day(9, 6), False)])
def test_a_release_of_a_transform_counts_until_something_came_that_it_reads(came: datetime, counts: bool) -> None:
    entries = {one_day(n): done(TOTALS, n, inputs={"payments": "2", "visits": "1"}) for n in (3, 4)}
    entries[one_day(4)] = replace(entries[one_day(4)], state="REJECTED", failed=("x",))
    revisions = [changed(PAYMENTS, day(3)), changed(VISITS, day(3)), changed(PAYMENTS, day(4), revision=2, recorded_at=came)]
    releases = [Release("totals", 1, one_day(4), 0, "known", day(9, 5))]
    found = plan.statuses(TOTALS, generation=1, entries=entries, revisions=revisions, now=day(9, 9), releases=releases)
    assert found[1].released is counts


# -------------------------------------------------------------------------------------------------------------------- knowledge


def test_history_is_known_no_earlier_than_what_it_was_computed_from() -> None:
    upstream = spend(range(3, 9), publish(5, "p9", known_from=day(20)))
    work = plan.GroupPlan(BEST, 1, (), upstream=(upstream,))
    assert [plan.known_from(work, one_day(n)) for n in (4, 5, 6, 7)] == [day(5), day(20), day(20), day(8)]
    assert plan.known_from(plan.GroupPlan(TOTALS, 1, ()), one_day(5)) == day(6)


def test_a_static_group_is_read_whole() -> None:
    static = plan.upstream_of(PERSON, generation=1, found=(), entries={}, publishes=[])
    missing = replace(static, unreadable={plan.ALWAYS: "MISSING"})
    assert missing.waits_for(one_day(5)) == (Awaited("person", plan.ALWAYS, "MISSING", plan.ALWAYS, 1),)


def test_observations_are_read_up_to_the_last_interval_that_ended() -> None:
    seen = ObservationGroup("seen", CUSTOMER, VISITS, columns=("amount",), ttl="2d")
    upstream = Upstream(seen, 1, {one_day(4): "MISSING", one_day(6): "MISSING"}, {}, ())
    assert upstream.waits_for(Interval(day(5), day(6, 5))) == ()
    assert upstream.waits_for(Interval(day(4, 5), day(6))) == (Awaited("seen", one_day(4), "MISSING", one_day(4), 1),)


def test_a_query_shows_the_rows_of_all_sources_behind_it_that_have_times() -> None:
    paid = Source("paid", Query("SELECT 1", (PAYMENTS, PEOPLE), assume_always_known=True), columns=COLUMNS, event_timestamp="at")
    seen = Source("seen", Query("SELECT 1", (paid, VISITS)), columns=COLUMNS, event_timestamp="at")
    assert read_by(seen) == {"seen", "paid", "payments", "visits"}
    assert (read_by(PAYMENTS), read_by(PEOPLE)) == ({"payments"}, frozenset())
