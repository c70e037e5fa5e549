"""A registry that is rebuilt from the lake alone equals the one that was lost, whatever happened before."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feature_definitions import layout
from feature_definitions.intervals import Interval
from feature_definitions.records import (
    Committed,
    Epoch,
    IngestedFile,
    LedgerEntry,
    PendingIngest,
    PendingPublish,
    Promotion,
    Publish,
    RegistryFacts,
    Release,
    Revision,
)
from feature_registry import open_registry, rebuild
from lake import facts, logs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

START = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
ENDS = ("done", "died before the commit", "died after the commit")


@dataclass(frozen=True, slots=True)
class Ingest:
    """Files that came, the dates that they changed, and how it ended."""

    files: tuple[str, ...]
    dates: tuple[int, ...]
    end: str


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a generation: how many rows each interval got (None: rejected), and how it ended."""

    generation: int
    rows: Mapping[int, int | None]
    end: str


@dataclass(frozen=True, slots=True)
class Decision:
    """A promotion or a release, of a generation."""

    kind: str
    generation: int
    interval: int


@dataclass(frozen=True, slots=True)
class Sync:
    """A sync of a generation, and whether it ended."""

    generation: int
    ends: bool


Event = Ingest | Run | Decision | Sync
HISTORIES = st.lists(
    st.builds(
        Ingest,
        files=st.lists(st.sampled_from("abc"), min_size=1, max_size=2, unique=True).map(tuple),
        dates=st.lists(st.integers(1, 3), max_size=2, unique=True).map(tuple),
        end=st.sampled_from(ENDS),
    )
    | st.builds(
        Run,
        generation=st.integers(1, 2),
        rows=st.dictionaries(st.integers(0, 3), st.sampled_from((None, 0, 2)), min_size=1, max_size=3),
        end=st.sampled_from(ENDS),
    )
    | st.builds(Sync, generation=st.integers(1, 2), ends=st.booleans())
    | st.builds(Decision, kind=st.sampled_from(("promote", "release")), generation=st.integers(1, 2), interval=st.integers(0, 3)),
    max_size=8,
)


class World:
    """A lake and its live registry; things happen to them as in the engine: noted, kept in the lake, committed, confirmed."""

    def __init__(self, root: Path) -> None:
        self.lake, self.registry, self.number = str(root / "lake"), open_registry(f"sqlite:///{root / 'registry.db'}"), 0

    @property
    def now(self) -> datetime:
        return datetime.now(UTC)  # Delta's logs tell real times, and those of a history must be in order

    def happens(self, event: Event) -> None:
        self.number += 1
        match event:
            case Ingest():
                self._ingest(event)
            case Run():
                self._run(event)
            case Decision():
                self._decide(event)
            case Sync():
                self._sync(event)

    def _ingest(self, event: Ingest) -> None:
        name, number = f"i{self.number:03d}", self.registry.next_revision("payments")
        files = tuple(IngestedFile("payments", path, f"sha of {name}", self.number, 1, name) for path in event.files)
        revisions = tuple(
            Revision("payments", number, date(2026, 1, d), START, START + d * HOUR, f"hash of {name}", 7, self.now)
            for d in sorted(event.dates)
        )
        pending = PendingIngest(name, "payments", files, revisions, commits=bool(revisions))
        self.registry.begin_ingest(pending)
        facts.keep_ingest(self.lake, pending)
        if revisions and event.end == "died before the commit":
            self.registry.abandon(name)
            return
        if revisions:
            self._commit(layout.source_table(self.lake, "payments"), name)
        self.registry.finish_ingest(name)

    def _run(self, event: Run) -> None:
        name = f"p{self.number:03d}"
        before = self.registry.ledger("spend", event.generation)
        entries = tuple(self._entry(event, name, n, rows) for n, rows in sorted(event.rows.items()))
        passed = [e for e in entries if e.state == "PUBLISHED"]
        basis: Any = "OBSERVED" if self.number % 2 else "MODELLED"
        publishes = tuple(Publish(name, "spend", event.generation, e.interval, START, basis) for e in passed)
        commits = any(e.rows or e.interval in before for e in passed)
        pending = PendingPublish(name, "spend", event.generation, entries[0].features, entries, publishes, commits=commits)
        self.registry.begin_publish(pending)
        facts.keep_publish(self.lake, pending, fence=lambda: None)
        table = layout.feature_table(self.lake, "spend", event.generation)
        if commits and event.end == "died before the commit":
            return self.registry.abandon(name)
        version = self._commit(table, name) if commits else None
        at = self.now
        if commits and event.end == "died after the commit":
            version, at = logs.commit_of(table, name)
        else:
            facts.keep_commit(self.lake, Committed("spend", event.generation, name, at, version), fence=self.registry.fence)
        return self.registry.finish_publish(name, committed_at=at, delta_version=version)

    def _entry(self, event: Run, name: str, n: int, rows: int | None) -> LedgerEntry:
        return LedgerEntry(
            group="spend",
            generation=event.generation,
            interval=Interval(START + n * HOUR, START + (n + 1) * HOUR),
            state="REJECTED" if rows is None else "PUBLISHED",
            publish_id=name,
            features={"paid": f"{event.generation}", "since": name},
            gate="g",
            revision=self.number,
            rows=rows or 0,
            delta_version=None,
            failed=("paid at_least(0)",) if rows is None else (),
            warned=() if rows is None else ("paid at_most(9)",),
            run_id=name,
            seconds=0.25,
            recorded_at=self.now,
        )

    def _decide(self, event: Decision) -> None:
        there = [g.number for g in self.registry.generations("spend")]
        if event.kind == "promote" and event.generation in there:
            number = len(self.registry.promotions("spend")) + 1
            promotion = Promotion("spend", number, event.generation, max(there), "person", self.now)
            facts.keep_promotion(self.lake, promotion, fence=self.registry.fence)
            self.registry.promote(promotion)
        if event.kind == "release":
            interval = Interval(START + event.interval * HOUR, START + (event.interval + 1) * HOUR)
            released = Release("spend", event.generation, interval, self.number, f"reason {self.number}", self.now)
            facts.keep_releases(self.lake, [released], fence=self.registry.fence)
            self.registry.release([released])

    def _sync(self, event: Sync) -> None:
        epoch = Epoch("spend", event.generation, self.registry.next_epoch("spend"), None, 0, 0, self.now, begun_at=self.now)
        ended = replace(epoch, coverage=START, rows=3, written=2, ended_at=self.now)
        for each in (epoch, ended) if event.ends else (epoch,):
            facts.keep_epochs(self.lake, [each], fence=self.registry.fence)
            self.registry.record_epoch(each)

    def _commit(self, path: str, name: str) -> int:
        """One commit with the id, as Spark makes it."""
        Path(path).mkdir(parents=True, exist_ok=True)
        ids = CommitProperties(custom_metadata={"userMetadata": name}, app_transactions=[Transaction(name, 1)])
        write_deltalake(path, pa.table({"x": [self.number]}), mode="append", commit_properties=ids)
        return DeltaTable(path).version()


def world_after(history: Sequence[Event], root: Path) -> World:
    world = World(root)
    for event in history:
        world.happens(event)
    return world


@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(HISTORIES)
def test_the_rebuilt_registry_equals_the_live_one_after_any_history(history: list[Event]) -> None:
    with TemporaryDirectory() as folder:
        world = world_after(history, Path(folder))
        with closing(world.registry):
            expected = world.registry.facts()
        with closing(open_registry(f"sqlite:///{folder}/new.db")) as registry:
            registry.restore(rebuild.facts(world.lake))
            assert registry.facts() == expected


FULL: tuple[Event, ...] = (
    Ingest(("a", "b"), (1, 2), "done"),
    Run(1, {0: 2, 1: None, 2: 0}, "done"),
    Run(1, {3: None}, "done"),
    Run(2, {3: 0}, "done"),
    Ingest(("a",), (2,), "died before the commit"),
    Ingest(("a",), (2,), "died after the commit"),
    Run(1, {1: 2}, "died before the commit"),
    Run(1, {1: 2}, "died after the commit"),
    Decision("promote", 1, 0),
    Run(2, {0: 2, 1: 2}, "done"),
    Decision("promote", 2, 0),
    Decision("promote", 1, 0),
    Decision("release", 1, 1),
    Ingest(("c",), (), "done"),
    Sync(1, ends=True),
    Sync(2, ends=False),
    Sync(2, ends=True),
)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[World]:
    """A world to which everything happened."""
    world = world_after(FULL, tmp_path)
    yield world
    world.registry.close()


def test_a_rebuilt_registry_holds_every_kind_of_fact(full: World) -> None:
    found = rebuild.facts(full.lake)
    assert found == full.registry.facts()
    assert all(getattr(found, kind) for kind in RegistryFacts.__slots__)
    assert {e.state for e in found.entries} == {"PUBLISHED", "REJECTED"}
    assert {e.delta_version for e in found.entries if e.state == "PUBLISHED" and e.rows == 0} == {0, None}
    assert [g.current for g in found.generations] == [True, False]


def test_checkpoints_and_a_log_that_was_cleaned_up_change_nothing(full: World) -> None:
    expected = full.registry.facts()
    for path in Path(full.lake).rglob("_delta_log"):
        table = DeltaTable(str(path.parent))
        table.create_checkpoint()
        for entry in path.glob("*.json"):
            if int(entry.stem) <= table.version():
                entry.unlink()
    # Of a publish that was not confirmed the log knew when it happened; what is left is that it did.
    unconfirmed = {e.publish_id for e in expected.entries} - {row["publish_id"] for row in facts.COMMITS.read(full.lake)}
    found = rebuild.facts(full.lake)
    assert len(unconfirmed) == 1
    for one, other in zip(found.entries, expected.entries, strict=True):
        assert one == (replace(other, delta_version=None) if other.publish_id in unconfirmed else other)
    assert (found.files, found.revisions, found.promotions, found.releases, found.epochs) == (
        expected.files,
        expected.revisions,
        expected.promotions,
        expected.releases,
        expected.epochs,
    )
    assert [p.publish_id for p in found.publishes] == [p.publish_id for p in expected.publishes]
    assert [(g.current, g.features) for g in found.generations] == [(g.current, g.features) for g in expected.generations]


def test_a_lake_without_records_gives_an_empty_registry(tmp_path: Path) -> None:
    assert rebuild.facts(str(tmp_path)) == RegistryFacts()


def test_what_never_committed_is_not_restored(tmp_path: Path) -> None:
    dead = (Ingest(("a",), (1,), "died before the commit"), Run(1, {0: 2}, "died before the commit"))
    with closing(world_after(dead, tmp_path).registry):
        assert rebuild.facts(str(tmp_path / "lake")) == RegistryFacts()


def test_of_two_publishes_at_one_time_the_one_counts_that_made_the_later_version(tmp_path: Path) -> None:
    lake, interval = str(tmp_path), Interval(START, START + HOUR)
    for version, publish_id in enumerate(("p00000000000000001-b", "p00000000000000001-a"), start=1):
        entry = LedgerEntry(
            "spend", 1, interval, "PUBLISHED", publish_id, {"x": "h"}, "g", 1, version, None, (), (), publish_id, 1.0, START
        )
        pending = PendingPublish(publish_id, "spend", 1, {"x": "h"}, (entry,), (), commits=True)
        facts.keep_publish(lake, pending, fence=lambda: None)
        facts.keep_commit(lake, Committed("spend", 1, publish_id, START, version), fence=lambda: None)
    (found,) = rebuild.facts(lake).entries
    assert (found.publish_id, found.delta_version) == ("p00000000000000001-a", 2)
