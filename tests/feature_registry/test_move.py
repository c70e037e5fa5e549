"""A registry that was moved is the same one elsewhere, and is written to in one place only."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Connection, Table, insert

from feature_definitions.intervals import Interval
from feature_definitions.record_rows import Row
from feature_definitions.records import (
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
    TileRecord,
)
from feature_registry import LeaseHeld, RegistryError, Subject, move, open_registry, schema
from feature_registry.database import RegistryMoved
from feature_registry.move import Occupied
from tests.postgresql import PASSWORD

if TYPE_CHECKING:
    from pathlib import Path

    from feature_registry import Registry

T = datetime(2026, 1, 5, 0, 0, 0, 1, tzinfo=UTC)
DAY = timedelta(days=1)
FEATURES = {"spend_7d": "aa", "spend_1d": "bb"}
EPOCH = Epoch("spend", 1, 1, T, 5, 5, T)


def ledger_entry(number: int) -> LedgerEntry:
    return LedgerEntry(
        group="spend", generation=1, interval=Interval(T + number * DAY, T + (number + 1) * DAY), state="PUBLISHED", publish_id="p1",
        features=FEATURES, gate="g", revision=2**62, rows=10, delta_version=None, failed=(), warned=("ä: 'quoted'",), run_id="r",
        seconds=0.1 + 0.2, recorded_at=T,
    )  # fmt: skip


def filled(registry: Registry) -> Registry:
    """The registry after some of everything."""
    interval = Interval(T, T + DAY)
    file, revision = IngestedFile("payments", "data/ä\\b.csv", "f00", 10, 1, "i1"), Revision("payments", 1, T.date(), T, T + DAY, "c", 7, T)
    registry.begin_ingest(PendingIngest("i1", "payments", (file,), (revision,), commits=True))
    registry.finish_ingest("i1")
    registry.begin_ingest(PendingIngest("i2", "payments", (), (), commits=False))
    published = (Publish("p1", "spend", 1, interval, T, "MODELLED"),)
    registry.begin_publish(
        PendingPublish("p1", "spend", 1, FEATURES, (ledger_entry(0), ledger_entry(1)), published, commits=True, empty="[0]")
    )
    registry.finish_publish("p1", committed_at=T, delta_version=3)
    registry.promote(Promotion("spend", 1, 1, 1, "person", T))
    registry.release([Release("spend", 1, interval, 3, "looked at it\nagain", T)])
    registry.record_tiles("/t", {date(2026, 1, 5): TileRecord(1, frozenset({"n", "s"}))}, table_id="t1")
    registry.record_epoch(EPOCH)
    with registry.lease(Subject("group spend"), now=T):
        pass
    return registry


def everything(registry: Registry) -> dict[str, list[tuple[object, ...]]]:
    """Every row of a registry, by table."""
    with registry._database.reading() as connection:
        return {table.name: sorted(map(tuple, connection.execute(table.select())), key=repr) for table in move.TABLES}


def test_everything_is_moved_to_postgresql_and_back(url_of_sqlite: str, url_of_postgresql: str) -> None:
    with open_registry(url_of_sqlite) as here, open_registry(url_of_postgresql) as there:
        before, facts = everything(filled(here)), here.facts()
        assert all(before.values())
        moved = here.move(url_of_postgresql, over="nothing", now=T)
        assert everything(there) == before
        assert (moved.rows["ledger"], moved.rows["leases"], moved.rows["pending"]) == (2, 1, 1)
        there.record_epoch(replace(EPOCH, epoch=2))
        assert there.move(url_of_sqlite, over="nothing", now=T).rows["epochs"] == 2
        assert here.facts() == replace(facts, epochs=(EPOCH, replace(EPOCH, epoch=2)))
        here.record_epoch(replace(EPOCH, epoch=3))


def test_what_was_moved_is_not_written_to_where_it_was(url_of_sqlite: str, url_of_postgresql: str) -> None:
    with open_registry(url_of_sqlite) as here, open_registry(url_of_sqlite) as other:
        filled(here).move(url_of_postgresql, over="nothing", now=T)
        place = url_of_postgresql.rpartition("@")[2]
        for change in (
            lambda: other.record_epoch(EPOCH),
            lambda: other.abandon("i2"),
            lambda: other.lease(Subject("a"), now=T).__enter__(),
            lambda: other.move(url_of_postgresql, over="anything", now=T),
        ):
            with pytest.raises(
                RegistryMoved, match=rf"was moved: it is the registry in PostgreSQL at {place} now; set HEADWATER_REGISTRY_URL"
            ):
                change()
        assert other.epochs("spend") == (EPOCH,)
    with open_registry(url_of_sqlite) as again, pytest.raises(RegistryMoved) as caught:
        again.refuse_if_moved()
    assert PASSWORD not in str(caught.value)


def test_a_registry_that_was_moved_is_used_again_once_it_is_restored_from_the_lake(registry: Registry, tmp_path: Path, url: str) -> None:
    registry.move(f"sqlite:///{tmp_path}/elsewhere.db", over="nothing", now=T)
    registry.restore(RegistryFacts())
    registry.record_epoch(EPOCH)
    with open_registry(url) as again:
        again.refuse_if_moved()


def test_a_database_that_holds_something_else_is_not_moved_to_unless_that_may_be_lost(registry: Registry, url_of_sqlite: str) -> None:
    other = url_of_sqlite.replace("registry.db", "other.db")
    with open_registry(other) as there:
        there.record_epoch(EPOCH)
        filled(registry)
        with pytest.raises(Occupied, match=r"other.db holds facts already; if they may be lost, move over them: .* --replace"):
            registry.move(other, over="nothing", now=T)
        registry.record_epoch(EPOCH)
        before = everything(registry)
        registry.move(other, over="anything", now=T)
        assert everything(there) == before


def test_a_registry_is_not_moved_back_over_what_another_move_left(registry: Registry, tmp_path: Path) -> None:
    first, second = (f"sqlite:///{tmp_path}/{name}.db" for name in ("first", "second"))
    filled(registry).move(first, over="nothing", now=T)
    with open_registry(first) as there, open_registry(second) as third:
        third.record_epoch(EPOCH)
        third.move(first, over="anything", now=T)
        with pytest.raises(Occupied):
            there.move(str(registry._database._engine.url.render_as_string(hide_password=False)), over="nothing", now=T)


def test_the_same_database_is_no_place_to_move_to(registry: Registry, url: str) -> None:
    with pytest.raises(Occupied, match="is the one that is used already"):
        registry.move(url, over="anything", now=T)


def test_nothing_is_moved_while_somebody_works(registry: Registry, url: str, tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path}/elsewhere.db"
    with open_registry(url) as other, other.lease(Subject("a"), now=T), pytest.raises(LeaseHeld, match="a is being worked on"):
        registry.move(target, over="nothing", now=T)
    filled(registry)
    with open_registry(target) as there, there.lease(Subject("a"), now=T), pytest.raises(LeaseHeld):
        registry.move(target, over="anything", now=T)
    registry.record_epoch(EPOCH)


def test_who_was_silent_before_the_move_is_refused_when_it_goes_on(registry: Registry, url: str, tmp_path: Path) -> None:
    with open_registry(url, silence=timedelta(0)) as mover, open_registry(f"sqlite:///{tmp_path}/elsewhere.db") as there:
        silent = registry.lease(Subject("a"), now=T)
        lease = silent.__enter__()
        mover.move(f"sqlite:///{tmp_path}/elsewhere.db", over="nothing", now=T)
        with pytest.raises(RegistryError, match="was taken over by another process"):
            lease.check()
        with there.lease(Subject("a"), now=T) as taken:
            assert (taken.token, taken.overtook) == (3, True)
        silent.__exit__(None, None, None)


CUT_OFF = """
import os, sys
from datetime import datetime, UTC
from feature_registry import move, open_registry
real, calls = getattr(move, {function!r}), 0
def dies(*given, **named):
    global calls
    calls += 1
    if calls == {call}:
        print("there", flush=True)
        os.kill(os.getpid(), 9)
    return real(*given, **named)
setattr(move, {function!r}, dies)
open_registry(sys.argv[1]).move(sys.argv[2], over="nothing", now=datetime(2026, 1, 5, tzinfo=UTC))
"""


@pytest.mark.parametrize(
    ("function", "call", "held"),
    [("_copy", 3, 0), ("_keep_move", 1, 0), ("_keep_move", 2, 2)],
    ids=["while it copies", "before it is kept there", "before it is noted here"],
)
def test_a_move_that_is_killed_leaves_nothing_half_and_is_made_whole_by_the_next(
    url_of_sqlite: str, url_of_postgresql: str, function: str, call: int, held: int
) -> None:
    with open_registry(url_of_sqlite) as here, open_registry(url_of_postgresql) as there:
        before = everything(filled(here))
        code = CUT_OFF.format(function=function, call=call)
        assert subprocess.run([sys.executable, "-c", code, url_of_sqlite, url_of_postgresql], check=False).returncode == -9
        assert len(there.ledger("spend", 1)) == held
        assert everything(here) == before
        here.move(url_of_postgresql, over="nothing", now=T)
        assert everything(there) == before
        with pytest.raises(RegistryMoved):
            here.record_epoch(EPOCH)


def test_rows_that_came_otherwise_are_not_taken(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = move.load

    def loses(connection: Connection, table: Table, rows: list[Row]) -> None:
        real(connection, table, rows if table is not schema.tiles else [{**row, "states": "[]"} for row in rows])

    filled(registry)
    monkeypatch.setattr(move, "load", loses)
    target = f"sqlite:///{tmp_path}/elsewhere.db"
    with pytest.raises(RegistryError, match=r"the rows of tiles came to .*elsewhere.db otherwise than they were; nothing was moved"):
        registry.move(target, over="nothing", now=T)
    with open_registry(target) as there:
        assert there.blank()
    registry.record_epoch(EPOCH)


def test_rows_are_moved_in_parts_and_told(url_of_sqlite: str, url_of_postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(move, "ROWS_AT_ONCE", 100)
    monkeypatch.setattr(move, "_SAY_SECONDS", 0.0)
    said: list[str] = []
    with open_registry(url_of_sqlite, say=said.append) as here:
        with here._database.writing() as connection:
            tiles = [{"path": "/t", "date": f"{n}", "table_id": "t", "revision": n, "states": "[]"} for n in range(1234)]
            connection.execute(insert(schema.tiles), tiles)
        assert here.move(url_of_postgresql, over="nothing", now=T).rows["tiles"] == 1234
    assert said[0] == "moved 100 of 1,234 rows"
    assert said[-1] == "moved 1,234 of 1,234 rows"
