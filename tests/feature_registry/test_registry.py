"""The registry remembers exactly, and changes as a whole or not at all."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_definitions.intervals import Interval
from feature_definitions.record_rows import Row
from feature_definitions.records import (
    Epoch,
    Generation,
    IngestedFile,
    LedgerEntry,
    PastRuns,
    PendingIngest,
    PendingPublish,
    Promotion,
    Publish,
    RegistryFacts,
    Release,
    Revision,
)
from feature_registry import LeaseHeld, Registry, RegistryError, Subject, open_registry
from tests import counted

T = datetime(2026, 1, 5, 0, 0, 0, 1, tzinfo=UTC)
Program = subprocess.Popen[bytes]
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
FEATURES = {"spend_7d": "aa", "spend_1d": "bb"}


def interval(number: int) -> Interval:
    return Interval(T + number * HOUR, T + (number + 1) * HOUR)


def entry(number: int = 0, **changes: Any) -> LedgerEntry:
    made = LedgerEntry(
        group="spend",
        generation=1,
        interval=interval(number),
        state="PUBLISHED",
        publish_id="p1",
        features=FEATURES,
        gate="g",
        revision=3,
        rows=10,
        delta_version=None,
        failed=(),
        warned=("spend_7d:at_least(0)",),
        run_id="r",
        seconds=0.1,
        recorded_at=T + DAY,
    )
    return replace(made, **changes)


def publish(number: int = 0, **changes: Any) -> Publish:
    made = Publish("p1", "spend", 1, interval(number), T, "OBSERVED")
    return replace(made, **changes)


def pending(*entries: LedgerEntry, publishes: tuple[Publish, ...] = (), **changes: Any) -> PendingPublish:
    made = PendingPublish("p1", "spend", 1, FEATURES, entries, publishes, commits=True)
    return replace(made, **changes)


def ingest(**changes: Any) -> PendingIngest:
    files = (IngestedFile("payments", "data/a.csv", "f00", 10, 1, "i1"), IngestedFile("payments", "data/b.csv", "f01", 5, 0, "i1"))
    revisions = tuple(Revision("payments", 1, date(2026, 1, day), T, T + DAY, "c", 7, T + DAY) for day in (5, 6))
    made = PendingIngest("i1", "payments", files, revisions, commits=True)
    return replace(made, **changes)


def promotion(**changes: Any) -> Promotion:
    made = Promotion("spend", 1, 1, 1, "automatic", T)
    return replace(made, **changes)


def release(number: int = 0, **changes: Any) -> Release:
    made = Release("spend", 1, interval(number), 3, "looked at it", T)
    return replace(made, **changes)


# ------------------------------------------------------------------------------------------------------------------------ sources


def test_an_ingest_counts_only_when_it_is_finished(registry: Registry) -> None:
    registry.begin_ingest(ingest())
    assert (registry.files("payments"), registry.revisions("payments"), registry.next_revision("payments")) == ({}, (), 1)
    registry.finish_ingest("i1")
    assert registry.files("payments") == {file.path: file for file in ingest().files}
    assert registry.revisions("payments") == ingest().revisions
    assert registry.next_revision("payments") == 2


def test_a_pending_ingest_is_given_back_as_it_was(registry: Registry) -> None:
    registry.begin_ingest(ingest(commits=False))
    assert registry.pending_ingests("payments") == (ingest(commits=False),)
    assert registry.pending_ingests("refunds") == ()


def test_finishing_an_ingest_twice_changes_nothing(registry: Registry) -> None:
    registry.begin_ingest(ingest())
    registry.finish_ingest("i1")
    registry.finish_ingest("i1")
    assert registry.revisions("payments") == ingest().revisions
    assert registry.pending_ingests("payments") == ()


def test_a_file_that_is_ingested_again_replaces_its_record(registry: Registry) -> None:
    changed = IngestedFile("payments", "data/a.csv", "f99", 11, 0, "i2")
    registry.begin_ingest(ingest())
    registry.finish_ingest("i1")
    registry.begin_ingest(PendingIngest("i2", "payments", (changed,), (), commits=True))
    registry.finish_ingest("i2")
    assert registry.files("payments") == {"data/a.csv": changed, "data/b.csv": ingest().files[1]}


def test_revisions_are_ordered_by_revision_then_date(registry: Registry) -> None:
    mixed = [replace(ingest().revisions[0], revision=r, date=date(2026, 1, d)) for r, d in ((10, 1), (2, 9), (2, 1), (1, 5))]
    registry.begin_ingest(ingest(revisions=tuple(mixed)))
    registry.finish_ingest("i1")
    assert registry.revisions("payments") == tuple(reversed(mixed))


def test_an_abandoned_ingest_is_forgotten_and_can_not_be_finished(registry: Registry) -> None:
    registry.begin_ingest(ingest())
    registry.abandon("i1")
    registry.finish_ingest("i1")
    assert registry.pending_ingests("payments") == ()
    assert registry.revisions("payments") == ()


# ------------------------------------------------------------------------------------------------------------------------- groups


def test_a_publish_counts_only_when_it_is_finished(registry: Registry) -> None:
    registry.begin_publish(pending(entry(), publishes=(publish(),)))
    assert (registry.ledger("spend", 1), registry.publishes("spend", 1), registry.generations("spend")) == ({}, (), ())


def test_a_pending_publish_is_given_back_as_it_was(registry: Registry) -> None:
    begun = pending(entry(0), entry(1, state="REJECTED", failed=("a", "b"), features={"spend_7d": "old"}), publishes=(publish(),))
    registry.begin_publish(begun)
    assert registry.pending_publishes("spend") == (begun,)
    assert registry.pending_publishes("other") == ()


def test_a_finished_publish_fills_in_the_commit(registry: Registry) -> None:
    committed = T + 2 * DAY
    rejected = entry(1, state="REJECTED", failed=("spend_7d:at_least(0)",))
    modelled = publish(2, basis="MODELLED", known_from=T + HOUR)
    registry.begin_publish(pending(entry(0), rejected, entry(2), publishes=(publish(0), modelled)))
    registry.finish_publish("p1", committed_at=committed, delta_version=7)
    assert list(registry.ledger("spend", 1).values()) == [entry(0, delta_version=7), rejected, entry(2, delta_version=7)]
    assert registry.publishes("spend", 1) == (publish(0, known_from=committed), modelled)
    assert registry.pending_publishes("spend") == ()


def test_a_first_finished_publish_begins_a_generation_that_nobody_reads_yet(registry: Registry) -> None:
    registry.begin_publish(pending(entry()))
    registry.finish_publish("p1", committed_at=T + DAY, delta_version=0)
    assert registry.generations("spend") == (Generation("spend", 1, FEATURES, False, T + DAY),)


def test_a_generation_goes_live_with_its_first_published_interval(registry: Registry) -> None:
    registry.begin_publish(pending(entry(state="REJECTED"), commits=False))
    registry.finish_publish("p1", committed_at=T, delta_version=None)
    assert registry.generations("spend")[0].first_published_at is None
    for number in (2, 3):
        registry.begin_publish(pending(entry(), publish_id=f"p{number}", features={"a": str(number)}))
        registry.finish_publish(f"p{number}", committed_at=T + number * DAY, delta_version=number)
    assert registry.generations("spend") == (Generation("spend", 1, {"a": "3"}, False, T + 2 * DAY),)


def test_finishing_a_publish_twice_keeps_the_first_commit(registry: Registry) -> None:
    registry.begin_publish(pending(entry(), publishes=(publish(),)))
    registry.finish_publish("p1", committed_at=T + DAY, delta_version=1)
    registry.finish_publish("p1", committed_at=T + 9 * DAY, delta_version=9)
    assert registry.ledger("spend", 1)[interval(0)].delta_version == 1
    assert registry.publishes("spend", 1)[0].known_from == T + DAY


def test_beginning_the_same_publish_again_replaces_what_it_was_about_to_change(registry: Registry) -> None:
    registry.begin_publish(pending(entry(0)))
    registry.begin_publish(pending(entry(1)))
    assert registry.pending_publishes("spend") == (pending(entry(1)),)


def test_the_newest_entry_of_an_interval_replaces_the_older_one(registry: Registry) -> None:
    registry.begin_publish(pending(entry(0), entry(1)))
    registry.finish_publish("p1", committed_at=T, delta_version=0)
    registry.begin_publish(pending(entry(1, publish_id="p2", rows=99), publish_id="p2", publishes=(publish(1, publish_id="p2"),)))
    registry.finish_publish("p2", committed_at=T, delta_version=1)
    found = registry.ledger("spend", 1)
    assert [(e.publish_id, e.rows) for e in found.values()] == [("p1", 10), ("p2", 99)]
    assert list(found) == [interval(0), interval(1)]


def test_every_publish_of_an_interval_is_kept_in_the_order_of_its_id(registry: Registry) -> None:
    for name in ("p2", "p1"):
        registry.begin_publish(pending(publish_id=name, publishes=tuple(publish(n, publish_id=name) for n in (1, 0))))
        registry.finish_publish(name, committed_at=T, delta_version=0)
    assert [(p.publish_id, p.interval) for p in registry.publishes("spend", 1)] == [
        ("p1", interval(0)),
        ("p1", interval(1)),
        ("p2", interval(0)),
        ("p2", interval(1)),
    ]


def test_runs_tell_how_many_intervals_they_did_and_in_how_long(registry: Registry) -> None:
    registry.begin_publish(pending(entry(0, seconds=0.5), entry(1, seconds=0.5), entry(2, seconds=0.5)))
    registry.finish_publish("p1", committed_at=T, delta_version=0)
    registry.begin_publish(pending(entry(1, publish_id="p2", run_id="s", seconds=4.0), publish_id="p2"))
    registry.finish_publish("p2", committed_at=T, delta_version=1)
    assert registry.runs([("spend", 1), ("spend", 2)]) == {("spend", 1): (PastRuns(1, 1, 4.0), PastRuns(2, 1, 1.0)), ("spend", 2): ()}


def test_a_generation_tells_by_which_features_its_intervals_were_computed_one_entry_for_each_stretch(registry: Registry) -> None:
    wider = FEATURES | {"spend_30d": "cc"}
    registry.begin_publish(pending(entry(0), entry(1), entry(2, features=wider), entry(3)))
    registry.finish_publish("p1", committed_at=T, delta_version=0)
    assert registry.computed_as("spend", 1) == ((T, FEATURES), (T + 2 * HOUR, wider), (T + 3 * HOUR, FEATURES))
    assert registry.computed_as("spend", 2) == ()


def test_generations_and_groups_do_not_share_entries(registry: Registry) -> None:
    other = entry(group="visits", rows=1)
    second = entry(generation=2, rows=2)
    for number, made in enumerate((entry(), other, second)):
        registry.begin_publish(pending(made, publish_id=f"p{number}", group=made.group, generation=made.generation))
        registry.finish_publish(f"p{number}", committed_at=T, delta_version=None)
    assert [*registry.ledger("spend", 1).values(), *registry.ledger("visits", 1).values(), *registry.ledger("spend", 2).values()] == [
        entry(),
        other,
        second,
    ]


def test_promoting_a_generation_makes_it_the_only_current_one(registry: Registry) -> None:
    for group, number in (("spend", 1), ("spend", 2), ("visits", 1)):
        registry.begin_publish(pending(publish_id=f"{group}{number}", group=group, generation=number))
        registry.finish_publish(f"{group}{number}", committed_at=T, delta_version=None)
    registry.promote(promotion(group="visits"))
    registry.promote(promotion())
    registry.promote(promotion(number=2, generation=2))
    assert [(g.number, g.current) for g in registry.generations("spend")] == [(1, False), (2, True)]
    assert registry.generations("visits")[0].current


def test_promotions_are_remembered_in_their_order(registry: Registry) -> None:
    registry.begin_publish(pending())
    registry.finish_publish("p1", committed_at=T, delta_version=None)
    made = [promotion(number=n, by="person") for n in (1, 2)]
    for one in made:
        registry.promote(one)
    assert registry.promotions("spend") == tuple(made)
    assert registry.promotions("visits") == ()


def test_the_newest_release_of_an_interval_takes_the_place_of_the_older_one(registry: Registry) -> None:
    first, second = release(), release(reason="looked again", revision=4)
    registry.release([first, release(1), release(0, generation=2)])
    registry.release([second])
    assert registry.releases("spend", 1) == (second, release(1))
    assert registry.releases("visits", 1) == ()


def test_a_publish_to_the_current_generation_leaves_it_current(registry: Registry) -> None:
    for name in ("p1", "p2"):
        registry.begin_publish(pending(entry(), publish_id=name))
        registry.finish_publish(name, committed_at=T, delta_version=None)
        registry.promote(promotion())
    registry.begin_publish(pending(entry(), publish_id="p3"))
    registry.finish_publish("p3", committed_at=T, delta_version=None)
    assert registry.generations("spend")[0].current


def test_promoting_a_generation_that_does_not_exist_says_which_do(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="group spend has no generation 2; it has none yet"):
        registry.promote(promotion(generation=2))


entries = st.builds(
    entry,
    st.integers(0, 3),
    state=st.sampled_from(["PUBLISHED", "REJECTED"]),
    features=st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy")),
    rows=st.integers(0, 2**62),
    seconds=st.floats(0, 1e9),
    recorded_at=st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  # hypothesis adds the zone
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(entries, max_size=4, unique_by=lambda e: e.interval), max_size=4), st.data())
def test_the_ledger_is_what_a_dict_would_hold(registry: Registry, publishes: list[list[LedgerEntry]], data: st.DataObject) -> None:
    group = f"g{time.monotonic_ns()}"
    expected: dict[Interval, LedgerEntry] = {}
    for number, drawn in enumerate(publishes):
        made = [replace(e, group=group) for e in drawn]
        registry.begin_publish(PendingPublish(f"{group}{number}", group, 1, FEATURES, tuple(made), (), commits=True))
        if not data.draw(st.booleans()):
            registry.abandon(f"{group}{number}")
            continue
        registry.finish_publish(f"{group}{number}", committed_at=T, delta_version=number)
        expected |= {e.interval: replace(e, delta_version=number if e.state == "PUBLISHED" else None) for e in made}
    assert registry.ledger(group, 1) == expected


def test_ten_thousand_intervals_are_published_and_read_with_few_calls_for_each(registry: Registry) -> None:
    many = {f"feature_{n}_7d": f"{n:016x}" for n in range(60)}
    begun = pending(*(entry(n, features=many) for n in range(10_000)), publishes=tuple(publish(n) for n in range(10_000)))

    def done() -> None:
        registry.begin_publish(begun)
        registry.finish_publish("p1", committed_at=T, delta_version=0)
        assert len(registry.ledger("spend", 1)) == 10_000

    assert counted.calls(done) < 300 * 10_000


def test_the_entries_of_a_publish_share_one_feature_map(registry: Registry) -> None:
    registry.begin_publish(pending(*(entry(n, features=dict(FEATURES)) for n in range(3))))
    registry.finish_publish("p1", committed_at=T, delta_version=0)
    assert len({id(e.features) for e in registry.ledger("spend", 1).values()}) == 1


# ------------------------------------------------------------------------------------------------------------------------- wholes


def facts() -> RegistryFacts:
    """A little of everything, of two groups and two generations."""
    old = entry(1, state="REJECTED", failed=("a",), features={"spend_1d": "old"}, generation=1, publish_id="p0")
    return RegistryFacts(
        files=ingest().files,
        revisions=ingest().revisions,
        entries=(old, entry(0, generation=2, delta_version=3), entry(0, group="visits", features={})),
        publishes=(publish(), publish(1)),
        generations=(Generation("spend", 1, {"spend_1d": "old"}, False, None), Generation("spend", 2, FEATURES, True, T)),
        promotions=(promotion(), promotion(number=2, generation=2, by="person")),
        releases=(release(1), release(2)),
        epochs=(Epoch("spend", 1, 1, T, 2, 2, T, T, T), Epoch("spend", 2, 2, None, 0, 0, T, T)),
    )


def test_what_is_restored_is_all_that_is_remembered(registry: Registry) -> None:
    registry.begin_publish(pending(entry(5), publishes=(publish(5),)))
    registry.finish_publish("p1", committed_at=T, delta_version=0)
    registry.begin_publish(pending(entry(6), publish_id="p2"))
    assert registry.facts() != facts()
    registry.restore(facts())
    assert registry.facts() == facts()
    assert registry.pending_publishes("spend") == ()
    assert registry.ledger("spend", 2) == {interval(0): entry(0, generation=2, delta_version=3)}


def test_a_new_registry_remembers_nothing(registry: Registry) -> None:
    assert registry.facts() == RegistryFacts()


def test_restoring_leaves_syncs_that_the_lake_does_not_know(registry: Registry) -> None:
    registry.record_epoch(Epoch("spend", 1, 1, None, 0, 0, T, T))
    registry.record_epoch(Epoch("spend", 1, 4, T, 2, 2, T))
    registry.restore(facts())
    assert registry.epochs("spend") == (*facts().epochs, Epoch("spend", 1, 4, T, 2, 2, T))


def test_nothing_is_restored_while_a_process_works_on_something(registry: Registry) -> None:
    with registry.lease(Subject("group spend"), now=T), pytest.raises(LeaseHeld, match="group spend is being worked on"):
        registry.restore(facts())
    assert registry.facts() == RegistryFacts()


def test_a_publish_that_fails_half_way_leaves_nothing_behind(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = pending(entry(), publishes=(publish(),))
    registry.begin_publish(begun)

    def fail(*_: object, **__: object) -> Row:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr("feature_registry.registry._generation_row", fail)
        registry.finish_publish("p1", committed_at=T, delta_version=0)
    assert (registry.ledger("spend", 1), registry.publishes("spend", 1)) == ({}, ())
    assert registry.pending_publishes("spend") == (begun,)


def test_a_process_killed_while_it_finishes_leaves_all_or_nothing(url: str, start: Callable[[str], Program]) -> None:
    number = 2_000
    begun = pending(*(entry(n) for n in range(number)), publishes=tuple(publish(n) for n in range(number)))
    with open_registry(url) as registry:
        registry.begin_publish(begun)
    finishing = """
import sys
from datetime import datetime, UTC
from feature_registry import open_registry, registry
whole = registry._generation_row
def slow(*a, **k):
    print("in the transaction", flush=True)
    sys.stdin.read()
    return whole(*a, **k)
registry._generation_row = slow
open_registry(sys.argv[1]).finish_publish("p1", committed_at=datetime.now(UTC), delta_version=0)
"""
    start(finishing).kill()
    with open_registry(url) as registry:
        assert registry.ledger("spend", 1) == {}
        assert registry.pending_publishes("spend") == (begun,)
        registry.finish_publish("p1", committed_at=T, delta_version=0)
        assert len(registry.ledger("spend", 1)) == number


# -------------------------------------------------------------------------------------------------------------------------- syncs


def test_epochs_count_up_per_group(registry: Registry) -> None:
    assert registry.next_epoch("spend") == 1
    made = [Epoch("spend", 1, 1, None, 0, 0, T), Epoch("spend", 2, 2, T, 10, 3, T + DAY)]
    for epoch in reversed(made):
        registry.record_epoch(epoch)
    assert registry.epochs("spend") == tuple(made)
    assert (registry.next_epoch("spend"), registry.next_epoch("visits")) == (3, 1)


def test_what_was_remembered_is_there_when_the_registry_is_opened_again(url: str) -> None:
    with open_registry(url) as registry:
        registry.record_epoch(Epoch("spend", 1, 1, T, 5, 5, T))
    with open_registry(url) as registry:
        assert registry.epochs("spend") == (Epoch("spend", 1, 1, T, 5, 5, T),)
