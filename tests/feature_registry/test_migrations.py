"""A registry that older code made is brought up to date once and whole, and keeps every record."""

import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import NullPool, create_engine, inspect, text

from feature_definitions.intervals import Interval
from feature_definitions.records import (
    Epoch,
    Generation,
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
from feature_registry import LeaseHeld, RegistryError, Subject, migrations, open_registry, schema
from feature_registry.database import Database

Program = subprocess.Popen[bytes]
T = datetime(2026, 1, 5, 0, 0, 0, 1, tzinfo=UTC)
FEATURES = {"spend_7d": "aa", "spend_1d": "bb"}
FILES = (IngestedFile("payments", "data/ä b.csv", "f00", 10, 1, "i1"),)
REVISIONS = tuple(Revision("payments", 1, date(2026, 1, day), T, T + timedelta(days=1), "c", 7, T + timedelta(days=1)) for day in (5, 6))


def hour(number: int) -> Interval:
    return Interval(T + timedelta(hours=number), T + timedelta(hours=number + 1))


def entry(number: int, **changes: object) -> LedgerEntry:
    held: dict[str, object] = {
        "group": "spend", "generation": 1, "interval": hour(number), "state": "PUBLISHED", "publish_id": "p1", "features": FEATURES,
        "gate": "g", "revision": 3, "rows": 10, "delta_version": None, "failed": (), "warned": ("spend_7d:at_least(0)",), "run_id": "r",
        "seconds": 0.1, "recorded_at": T + timedelta(days=1),
    }  # fmt: skip
    return LedgerEntry(**(held | changes))  # type: ignore[arg-type]


@pytest.fixture
def old(url: str) -> str:
    """The URL of a registry that 6f5afdf made, by what its code wrote into it."""
    if url.startswith("sqlite"):
        file_of(url).parent.mkdir()
    change(url, (Path(__file__).parent / "registry_of_6f5afdf.sql").read_text(encoding="utf-8"))
    return url


def file_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def change(url: str, statements: str) -> None:
    """Carry out statements of SQLite, in PostgreSQL as its dialect says the same."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(file_of(url))) as file:
            file.executescript(statements)
    else:
        with psycopg.connect(url) as database:
            database.execute(_in_postgresql(statements).encode())


def _in_postgresql(statements: str) -> str:
    said = statements.replace("BEGIN TRANSACTION;", "").replace("COMMIT;", "").replace(" DOUBLE ", " DOUBLE PRECISION ")
    return said.replace("'27123a530a85c70e5284e6874382ecfe',1,", "'27123a530a85c70e5284e6874382ecfe',true,")


def columns(url: str) -> set[str]:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    return {column["name"] for column in inspect(engine).get_columns("leases")}


def test_every_record_of_the_oldest_registry_is_there_unchanged(old: str) -> None:
    for _ in range(2):
        with open_registry(old) as registry:
            assert registry.facts() == RegistryFacts(
                files=FILES,
                revisions=REVISIONS,
                entries=(entry(0, delta_version=4), entry(1, state="REJECTED", failed=("a",), inputs={"visits": "9"})),
                publishes=(Publish("p1", "spend", 1, hour(0), T, "MODELLED"),),
                generations=(Generation("spend", 1, FEATURES, True, T + timedelta(days=1), empty=None),),
                promotions=(Promotion("spend", 1, 1, 1, "person", T),),
                releases=(Release("spend", 1, hour(1), 3, "looked at it", T),),
                epochs=(Epoch("spend", 1, 4, T, 5, 2, T),),
            )
            assert registry.tiles("/lake/tiles", table_id="t1") == {date(2026, 1, 5): TileRecord(1, frozenset({"n", "s"}))}


def test_what_the_oldest_registry_was_about_to_change_is_still_pending(old: str) -> None:
    with open_registry(old) as registry:
        made = entry(2, generation=2, publish_id="p2")
        published = (Publish("p2", "spend", 2, hour(2), T, "OBSERVED"),)
        assert registry.pending_ingests("payments") == (PendingIngest("i2", "payments", FILES, REVISIONS, commits=False),)
        assert registry.pending_publishes("spend") == (PendingPublish("p2", "spend", 2, FEATURES, (made,), published, commits=True),)
        registry.finish_publish("p2", committed_at=T, delta_version=1)
        assert list(registry.ledger("spend", 2).values()) == [entry(2, generation=2, publish_id="p2", delta_version=1)]


def test_a_lease_that_was_held_then_is_held_still(old: str) -> None:
    held = pytest.raises(LeaseHeld, match="on elsewhere since 2026-01-05")
    with open_registry(old) as registry, held, registry.lease(Subject("group spend"), now=T):
        pass


def test_the_steps_lead_to_the_tables_that_a_new_registry_gets(old: str) -> None:
    database = Database(old)
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    database.close()


@pytest.mark.parametrize("made", ["by the steps", "new"])
def test_in_postgresql_every_text_is_ordered_by_its_signs(url_of_postgresql: str, made: str) -> None:
    if made == "by the steps":
        change(url_of_postgresql, (Path(__file__).parent / "registry_of_6f5afdf.sql").read_text(encoding="utf-8"))
    database = Database(url_of_postgresql)
    query = (
        "SELECT collation_name, count(*) FROM information_schema.columns WHERE table_schema = 'public' AND data_type = 'text' GROUP BY 1"
    )
    with database.reading() as connection:
        assert [name for name, _ in connection.execute(text(query))] == ["C"]
    database.close()


def test_the_newest_step_is_the_schema_that_the_code_names() -> None:
    assert max(migrations.known(), key=int) == schema.REVISION


@pytest.mark.parametrize("made", ["UPDATE alembic_version SET version_num = '99'", "DROP TABLE alembic_version"])
def test_a_registry_of_another_version_is_refused(url: str, made: str) -> None:
    open_registry(url).close()
    change(url, f"{made}; UPDATE registry_version SET version = 99;")
    with pytest.raises(RegistryError, match=r"was made by another version of Headwater \(tables 99, this one has \d+ and can bring"):
        open_registry(url)


OPENING = """
import sys
from feature_registry import open_registry
print("ready", flush=True)
sys.stdin.read()
with open_registry(sys.argv[1]) as registry:
    assert len(registry.ledger("spend", 1)) == 2
"""


def test_processes_that_open_an_old_registry_at_once_bring_it_up_to_date_once(
    old: str, start: Callable[[str], Program], let_go: Callable[[list[Program]], list[int]]
) -> None:
    assert let_go([start(OPENING) for _ in range(3)]) == [0, 0, 0]


@pytest.mark.parametrize("step", ["leases", "generations"])
def test_a_process_that_is_killed_between_steps_leaves_the_old_tables(old: str, start: Callable[[str], Program], step: str) -> None:
    stopping = f"""
import sys
from alembic.operations import Operations
from feature_registry import open_registry
real = Operations.add_column
def add_column(self, table, *rest, **named):
    if table == {step!r}:
        print("in the middle", flush=True)
        sys.stdin.read()
    return real(self, table, *rest, **named)
from alembic import op
op.add_column = lambda *a, **k: add_column(op._proxy, *a, **k)
open_registry(sys.argv[1])
"""
    before = columns(old)
    program = start(stopping)
    program.kill()
    program.wait()
    assert columns(old) == before
    with open_registry(old) as registry:
        assert len(registry.ledger("spend", 1)) == 2
    assert columns(old) > before


def test_a_registry_that_is_the_newest_is_opened_without_alembic(
    start: Callable[[str], Program], let_go: Callable[[list[Program]], list[int]]
) -> None:
    opening = """
import sys
from feature_registry import open_registry
open_registry(sys.argv[1]).close()
open_registry(sys.argv[1]).close()
assert "alembic" not in sys.modules
print("ready", flush=True)
"""
    assert let_go([start(opening)]) == [0]
