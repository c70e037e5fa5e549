"""A training set that is read as it was served has what a client of a real server got, over days of syncs and of what goes wrong."""

from __future__ import annotations

import gc
import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pytest

import headwater as hw
from feature_definitions.reading import to_json
from headwater_client import Client
from online_sync import sync
from online_sync.store import Store
from serving import server
from tests import projects

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession

CATALOG = """
from feature_definitions import Entity, Feature, FeatureService, Join, ObservationGroup, SnapshotGroup, Source, WindowedGroup

walker = Entity("walker", {"walker": "int64"})
steps = Source("steps", columns={"step": "string", "walker": "int64", "pace": "double", "at": "timestamp", "came": "timestamp"},
               event_timestamp="at", id=("step",), arrived_at="came")
homes = Source("homes", columns={"walker": "int64", "city": "string", "taken": "timestamp"}, event_timestamp="taken", shape="snapshots",
               id=("walker",))
walked = WindowedGroup("walked", walker, steps, ttl="2d", features=(Feature("far", "sum", "pace", windows=("1d", "2d")),))
seen = ObservationGroup("seen", walker, steps, columns=("pace",), ttl="3d")
home = SnapshotGroup("home", walker, homes, columns=("city",), ttl="3d")
walker_v1 = FeatureService("walker_v1", joins=(Join(walked), Join(seen), Join(home)))
"""
WALKERS = (1, 2, 3, 99)
GROUPS = ("walked", "seen", "home")


class CutOff(Exception):
    """A sync that ends in its middle."""


def day(n: int, hour: int = 12) -> datetime:
    """An hour of day `n` of January 2026."""
    return datetime(2026, 1, n, hour, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Got:
    """What was answered of one walker and one group: by which sync's record and row, of which generation, and while which sync ran."""

    status: str
    values: dict[str, Any]
    epoch: int | None
    row: int | None
    generation: int | None
    meanwhile: bool
    erased: bool


@dataclass
class Days:
    """A project over days, a server in front of its store, and a client whose every answer is kept; the clock goes on by itself."""

    folder: Path
    now: datetime
    client: Client | None = None
    got: dict[tuple[datetime, int], dict[str, Got]] = field(default_factory=dict)
    syncing: str = ""
    erased: int | None = None

    def clock(self) -> datetime:
        """A second passes with each look."""
        self.now += timedelta(seconds=1)
        return self.now

    def opened(self) -> hw.Project:
        return hw.open(self.folder, clock=self.clock)

    def ask(self) -> None:
        """Ask the server for everybody, and keep what it answers."""
        assert self.client is not None
        at = self.clock()
        found = self.client.get_features("walker_v1", [{"walker": walker} for walker in WALKERS], freshness=True)
        for n, (walker, row) in enumerate(zip(WALKERS, found.rows, strict=True)):
            self.got[at, walker] = {group: self._got(found.freshness or {}, row, group, n) for group in GROUPS}

    def _got(self, freshness: Any, row: Any, group: str, n: int) -> Got:
        fresh = freshness.get(group) or {"epoch": None, "rows": [None] * len(WALKERS), "generation": None}
        values = {name: value for name, value in row.values.items() if name.startswith(f"{group}__")}
        return Got(
            row.status[group],
            values,
            fresh["epoch"],
            fresh["rows"][n],
            fresh["generation"],
            group == self.syncing,
            WALKERS[n] == self.erased,
        )

    def steps(self, *rows: tuple[str, int, float, datetime]) -> None:
        """Steps come: their id, who made them, how far, when; they are brought and published with all that is due."""
        names = ("step", "walker", "pace", "at")
        frame = pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows]).assign(came=pd.Timestamp(self.clock()))
        with closing(self.opened()) as p:
            p.write("steps", frame)
            self.ask()
            p.materialize()
        self.ask()

    def homes(self, taken: datetime, **cities: str) -> None:
        """A snapshot of who lives where is taken."""
        rows = [{"walker": int(name[1:]), "city": city, "taken": taken} for name, city in cities.items()]
        with closing(self.opened()) as p:
            p.write("homes", pd.DataFrame(rows))

    def sync(self, how: str = "") -> None:
        """Sync all groups; the client asks while rows are written, or the sync is cut off."""
        cut, days = how == "cut off", self

        class Asked(Store):
            def put_rows(self, rows: Any, **options: Any) -> str:
                days.syncing = rows[0][0].split(":")[3].partition("@")[0]
                said = super().put_rows(rows[:1], **options)
                days.ask()
                if cut:
                    raise CutOff
                return said + (super().put_rows(rows[1:], **options) if rows[1:] else "")

        with closing(self.opened()) as p, pytest.MonkeyPatch.context() as patch:
            patch.setattr(sync, "Store", Asked)
            if cut:
                with pytest.raises(CutOff):
                    p.sync()
            else:
                p.sync()
                self.syncing = ""
        self.ask()

    def training_set(self, p: hw.Project) -> tuple[dict[tuple[datetime, int], dict[str, Any]], Any]:
        """What a training set of all these questions has, and how sure it says that is."""
        times = pa.array([at for at, _ in self.got], pa.timestamp("us", tz="UTC"))
        spine = pa.table({"walker": pa.array([walker for _, walker in self.got], pa.int64()), "event_timestamp": times})
        built = p.training_set(spine=spine, service="walker_v1", mode="as_served", statuses=True)
        return {(row["event_timestamp"], row["walker"]): row for row in built.to_arrow().to_pylist()}, built.manifest["served"]


@contextmanager
def served(days: Days) -> Iterator[None]:
    """A real server of the project, in a thread, whose clock is the days'."""
    before, made, ready = gc.get_threshold(), list[Any](), threading.Event()
    real = server._server
    ports: list[int] = []

    def told(port: int) -> None:
        ports.append(port)
        ready.set()

    with hw.open(days.folder, clock=lambda: days.now) as p, pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "_server", lambda *given: made.append(real(*given)) or made[-1])
        thread = threading.Thread(target=server.run, args=(p.app,), kwargs={"ready": told, "port": 0})
        thread.start()
        assert ready.wait(30)
        with Client(f"http://127.0.0.1:{ports[0]}") as days.client:
            yield
        made[0].should_exit = True
        thread.join(30)
        p.down()
    gc.unfreeze()
    gc.set_threshold(*before)


@dataclass(frozen=True, slots=True)
class Lived:
    """The days, and a training set of all questions at their end, after the registry was lost and another generation was tried."""

    days: Days
    rows: dict[tuple[datetime, int], dict[str, Any]]
    sure: Any
    epochs: dict[str, Any]
    before_the_loss: dict[str, Any]


@pytest.fixture(scope="module")
def lived(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    days = Days(projects.make(tmp_path_factory.mktemp("days") / "walks", catalog=CATALOG), day(6))
    with served(days):
        live(days)
        with closing(days.opened()) as p:
            before = {group: p._registry.epochs(group) for group in GROUPS}
        for file in (days.folder / ".headwater").glob("registry.db*"):
            file.unlink()
        with closing(days.opened()) as p:
            p.rebuild_registry()
        try_another_generation(days)
        with closing(days.opened()) as p:
            rows, sure = days.training_set(p)
            return Lived(days, rows, sure, {group: p._registry.epochs(group) for group in GROUPS}, before)


def live(days: Days) -> None:
    """Days on time, a late one, a correction, somebody who moves away, an outage, a sync cut off, one taken back, an erasure."""
    days.ask()
    days.homes(day(5, 1), w1="Oslo", w2="Bergen")
    days.steps(("a", 1, 1.0, day(3)), ("b", 2, 2.0, day(4)), ("c", 1, 4.0, day(5)), ("d", 2, 8.0, day(5)))
    days.sync()
    days.now = day(7)
    days.homes(day(6, 1), w1="Oslo", w3="Bodø")
    days.steps(("e", 3, 16.0, day(5, 20)), ("f", 1, 32.0, day(6)))
    days.sync()
    days.now = day(10)
    days.ask()
    days.steps(("f", 1, 64.0, day(6)), ("g", 2, 128.0, day(9)))
    days.sync("cut off")
    days.sync()
    days.now = day(10, 18)
    with closing(days.opened()) as p:
        p.rollback("walked")
        days.ask()
    days.sync()
    erase(days, 2)


def erase(days: Days, walker: int) -> None:
    """Somebody is erased online, and that is lifted again."""
    with closing(days.opened()) as p:
        p.erase("walker", {"walker": walker})
        days.erased = walker
        days.ask()
        p.lift_erasure("walker", {"walker": walker})
        days.erased = None
        days.ask()


def try_another_generation(days: Days) -> None:
    """Twice as far is walked by another definition, until that is taken back."""
    projects.make(days.folder, catalog=CATALOG.replace('"pace", windows', '"pace * 2", windows'))
    with closing(days.opened()) as p:
        p.materialize("walked")
    days.ask()
    days.sync()
    days.now = day(10, 20)
    with closing(days.opened()) as p:
        p.rollback("walked", generation=1)
    days.ask()


def differences(days: Days, rows: Any, epochs: Any) -> list[Any]:
    """Where a training set has something else than was answered, apart from answers during a sync and of a state that was brought back."""
    wrong = []
    for (at, walker), answers in days.got.items():
        for group, got in answers.items():
            row = rows[at, walker]
            found = row[f"{group}__hw_status"], {name: to_json(row[name]) for name in got.values}
            if sure_of(group, got, epochs) and found != (got.status, got.values):
                wrong.append((at, walker, found, got))
    return wrong


def sure_of(group: str, got: Got, epochs: Any) -> bool:
    """Whether no sync of the group ran while it was answered, and its last one had brought the newest state of the generation of now."""
    by = [epoch for epoch in epochs[group] if epoch.epoch == got.epoch]
    newest = max((epoch.synced_at for epoch in epochs[group] if got.epoch is not None and epoch.epoch <= got.epoch), default=None)
    return not got.meanwhile and not got.erased and got.generation in (None, 1) and all(epoch.synced_at == newest for epoch in by)


def test_a_training_set_has_what_the_client_got_value_for_value(lived: Lived) -> None:
    assert differences(lived.days, lived.rows, lived.epochs) == []
    statuses = {got.status for answers in lived.days.got.values() for group, got in answers.items() if sure_of(group, got, lived.epochs)}
    assert statuses == {"PRESENT", "EMPTY", "EXPIRED", "NOT_FOUND"}


def test_answers_that_are_not_sure_are_named_and_counted(lived: Lived) -> None:
    for group in GROUPS:
        expected = dict.fromkeys(lived.sure[group], 0)
        for answers in lived.days.got.values():
            expected[kind_of(group, answers[group], lived.epochs)] += 1
        assert lived.sure[group] == expected
        assert expected["during a sync"] > 0
    assert (lived.sure["walked"]["rolled back"], lived.sure["walked"]["another generation"]) == (len(WALKERS), len(WALKERS))
    assert [lived.sure[group]["erased"] for group in GROUPS] == [1, 1, 1]


def test_nothing_is_answered_of_who_is_erased_until_that_is_lifted(lived: Lived) -> None:
    gone = [got for answers in lived.days.got.values() for got in answers.values() if got.erased]
    assert {got.status for got in gone} == {"NOT_FOUND"}


def kind_of(group: str, got: Got, epochs: Any) -> str:
    """How sure an answer is, by what it says of itself."""
    if got.epoch is None:
        return "not online"
    if got.erased:
        return "erased"
    if got.meanwhile:
        return "during a sync"
    if got.generation != 1:
        return "another generation"
    return "certain" if sure_of(group, got, epochs) else "rolled back"


def test_each_answer_names_the_syncs_that_it_is_of_which_had_begun_by_then(lived: Lived) -> None:
    seen = {"of the sync that ran": 0, "of the last or before": 0}
    for (at, _), answers in lived.days.got.items():
        for group, got in answers.items():
            known = {epoch.epoch: epoch for epoch in lived.epochs[group]}
            assert got.epoch is None or known[got.epoch].ended_at <= at
            if got.row is not None:
                assert known[got.row].begun_at <= at
                assert got.meanwhile or got.row <= (got.epoch or 0)
                seen["of the sync that ran" if got.row > (got.epoch or 0) else "of the last or before"] += 1
    assert min(seen.values()) > 0


def test_readers_get_the_values_of_a_generation_that_is_brought_back(lived: Lived) -> None:
    times = sorted({at for at, _ in lived.days.got})
    doubled, back = ([lived.days.got[at, walker]["walked"] for walker in WALKERS] for at in times[-2:])
    assert [(got.generation, got.values["walked__far_2d"]) for got in doubled] == [(2, 0.0), (2, 256.0), (2, 0.0), (2, 0.0)]
    assert [(got.generation, got.values["walked__far_2d"]) for got in back] == [(1, 0.0), (1, 128.0), (1, 0.0), (1, 0.0)]


def test_a_registry_that_was_rebuilt_from_the_lake_knows_all_syncs(lived: Lived) -> None:
    for group in GROUPS:
        before = lived.before_the_loss[group]
        assert lived.epochs[group][: len(before)] == before
        assert any(epoch.ended_at is None for epoch in lived.epochs["walked"])
