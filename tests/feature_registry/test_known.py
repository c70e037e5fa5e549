"""What is planned of many groups takes as few statements as what is planned of few."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import pytest
from sqlalchemy import event

from feature_definitions import Entity, Feature, Source, WindowedGroup
from feature_definitions.intervals import Interval
from feature_definitions.loader import Catalog
from feature_definitions.planning import fingerprint
from feature_definitions.records import (
    Epoch,
    LedgerEntry,
    PastRuns,
    PendingIngest,
    PendingPublish,
    Publish,
    Release,
    Revision,
    TileRecord,
)
from feature_registry import registry as registry_module
from feature_registry import schema
from feature_registry.planner import Planner

if TYPE_CHECKING:
    from collections.abc import Callable

    from feature_registry import Registry

T = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
Answer = TypeVar("Answer")
CUSTOMER = Entity("customer", {"customer_id": "int64"})


def groups(count: int) -> dict[str, WindowedGroup]:
    """Groups of a source each."""
    columns = {"customer_id": "int64", "at": "timestamp"}
    feature = Feature("n", "count", windows=("1d",))
    return {
        f"g{n}": WindowedGroup(
            f"g{n}", CUSTOMER, Source(f"s{n}", columns=columns, event_timestamp="at", ready_after="1h"), ttl="2d", features=(feature,)
        )
        for n in range(count)
    }


def publish(registry: Registry, group: WindowedGroup, days: int) -> None:
    """What is remembered after a group's first days were published."""
    features = fingerprint.columns(group)
    intervals = [Interval(T + n * DAY, T + (n + 1) * DAY) for n in range(days)]
    entries = tuple(
        LedgerEntry(group.name, 1, each, "PUBLISHED", "p1", features, "g", 1, 5, 1, (), (), "r", 0.1, T + 9 * DAY) for each in intervals
    )
    published = tuple(Publish("p1", group.name, 1, each, T, "OBSERVED") for each in intervals)
    source = group.input_sources[0].name
    revisions = tuple(Revision(source, 1, each.start.date(), each.start, each.end, "c", 7, T) for each in intervals)
    registry.begin_ingest(PendingIngest(source, source, (), revisions, commits=True))
    registry.finish_ingest(source)
    registry.begin_publish(PendingPublish(f"p-{group.name}", group.name, 1, features, entries, published, commits=True))
    registry.finish_publish(f"p-{group.name}", committed_at=T, delta_version=1)


def planned(registry: Registry, count: int) -> int:
    """How many statements it takes to know the states of groups, and what is due of them."""
    made, said = groups(count), Counter[str]()
    catalog = Catalog({}, {}, made, {}, {}, {})
    listened = (registry._database._engine, "before_cursor_execute", lambda *_: said.update(["statement"]))
    event.listen(*listened)
    try:
        planner = Planner(catalog, registry, "/lake", T + 4 * DAY)
        assert planner.unplanned(made.values()) == {}
        planner.ahead(made.values())
        assert [len(planner.state(group).entries) for group in made.values()] == [2] * count
        assert all(work.due for work in planner.plan(made.values()))
    finally:
        event.remove(*listened)
    return said["statement"]


def test_a_plan_of_many_groups_takes_as_few_statements_as_one_of_two(registry: Registry) -> None:
    for group in groups(12).values():
        publish(registry, group, 2)
    assert planned(registry, 12) == planned(registry, 2) <= 12


def test_many_keys_are_asked_for_in_parts(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "_KEYS_AT_ONCE", 2)
    for group in groups(5).values():
        publish(registry, group, 2)
    keys = [(f"g{n}", 1) for n in (3, 0, 4, 9, 1, 2)]
    found = registry.many(schema.LEDGER, keys)
    assert list(found) == keys
    assert {group: list(entries) for (group, _), entries in found.items()} == {
        f"g{n}": list(registry.ledger(f"g{n}", 1).values()) for n in (3, 0, 4, 9, 1, 2)
    }


def test_a_key_of_which_nothing_is_remembered_has_no_records(registry: Registry) -> None:
    release = Release("g0", 1, Interval(T, T + DAY), 3, "looked at it", T)
    registry.release([release])
    assert registry.many(schema.RELEASES, [("g0", 1), ("g0", 2)]) == {("g0", 1): (release,), ("g0", 2): ()}


def asked_once(registry: Registry, ask: Callable[[], Answer]) -> Answer:
    """The answer to a question that takes one statement."""
    said = Counter[str]()
    listened = (registry._database._engine, "before_cursor_execute", lambda _, __, statement, *___: said.update([statement.split()[0]]))
    event.listen(*listened)
    try:
        answer = ask()
    finally:
        event.remove(*listened)
    assert said["SELECT"] == 1
    return answer


def test_past_runs_and_tiles_of_many_groups_are_asked_for_at_once(registry: Registry) -> None:
    states, day = frozenset({"n"}), T.date()
    for group in groups(5).values():
        publish(registry, group, 2)
        registry.record_tiles(f"/t/{group.name}", {day + n * DAY: TileRecord(1, states) for n in range(4)}, table_id=group.name)
    keys = [(f"g{n}", 1) for n in range(5)]
    assert asked_once(registry, lambda: registry.runs(keys)) == {key: (PastRuns(2, 1, 0.2),) for key in keys}
    ids = {f"/t/g{n}": f"g{n}" for n in range(4)} | {"/t/g4": "another table"}
    found = asked_once(registry, lambda: registry.tiles_of(ids, first=day + DAY, last=day + 2 * DAY))
    held = {day + DAY: TileRecord(1, states), day + 2 * DAY: TileRecord(1, states)}
    assert found == {path: held if name != "another table" else {} for path, name in ids.items()}
    assert registry.tiles("/t/g0", table_id="g0").keys() == {day + n * DAY for n in range(4)}


def test_the_groups_whose_publish_was_cut_off_are_asked_for_at_once(registry: Registry) -> None:
    for group in groups(3).values():
        publish(registry, group, 1)
    for name in ("g1", "g2"):
        registry.begin_publish(PendingPublish(f"q-{name}", name, 1, {}, (), (), commits=True))
    registry.begin_ingest(PendingIngest("j", "s0", (), (), commits=True))
    assert asked_once(registry, registry.publishing) == {"g1", "g2"}


def test_nothing_is_remembered_of_no_key(registry: Registry) -> None:
    assert registry.many(schema.LEDGER, []) == {}


def test_online_are_the_groups_that_were_ever_synced(registry: Registry) -> None:
    assert registry.online() == frozenset()
    for group, epoch in (("a", 1), ("a", 2), ("b", 1)):
        registry.record_epoch(Epoch(group, 1, epoch, T, 5, 5, T))
    assert registry.online() == {"a", "b"}
