"""The tour on a real PostgreSQL table: ingest, materialize, training set, sync and get, and nothing that it leaves holds the password."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import projects
from tests.postgresql import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession

    from tests.postgresql import Server
    from tests.projects import Done

CATALOG = """
from feature_definitions import Derived, Entity, Feature, FeatureService, Files, Jdbc, Join, Label, Source, TrainingSet, WindowedGroup

customer = Entity("customer", keys={"customer_id": "int64"})
payments = Source("payments", Jdbc("sales.payments", connection="warehouse", partitions=2),
                  columns={"payment_id": "string", "customer_id": "int64", "amount": "decimal(12,2)", "refunded": "boolean",
                           "paid_at": "timestamp"},
                  event_timestamp="paid_at", id=("payment_id",))
broken = Source("broken", Jdbc(query="SELECT nope FROM sales.payments", connection="warehouse"),
                columns={"nope": "int64", "at": "timestamp"}, event_timestamp="at")
locked = Source("locked", Jdbc("sales.payments", connection="locked"), columns={"customer_id": "int64", "paid_at": "timestamp"},
                event_timestamp="paid_at")
visits = Source("visits", Files("data/visits.csv"), columns={"customer_id": "int64", "seen_at": "timestamp"}, event_timestamp="seen_at",
                timezone="UTC")
spend = WindowedGroup("spend", customer, payments, ttl="2d", features=(
    Feature("paid", "sum", "amount", windows=("1d", "3d")), Feature("payments", "count", windows=("1d",)),
))
customer_v1 = FeatureService("customer_v1", joins=(Join(spend),))
refunds = TrainingSet("refunds", payments, customer_v1, label=Label("refunded", "1d"))
"""
TABLES = (
    "CREATE SCHEMA sales",
    "CREATE TABLE sales.payments (payment_id text PRIMARY KEY, customer_id int8, amount numeric(12,2), refunded bool, paid_at timestamptz)",
    """INSERT INTO sales.payments VALUES ('p1', 9007199254740993, 10.50, false, '2026-01-03 09:00+00'),
       ('p2', 9007199254740993, 4.50, false, '2026-01-04 09:00+00'), ('p3', 2, 20.00, true, '2026-01-05 10:00+00')""",
)
VISITS = "customer_id,seen_at\n1,2026-01-04T08:00:00Z\n"


@pytest.fixture
def folder(spark: SparkSession, postgresql: Server, tmp_path: Path) -> Iterator[Path]:
    """A project whose payments lie in a database."""
    url = postgresql.create("tour")
    postgresql.run(*TABLES, database="tour")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADWATER_CONNECTION_WAREHOUSE", url)
        file = projects.write(tmp_path, "secret/url", postgresql.url("tour", password=f"{PASSWORD}-not"))
        patch.setenv("HEADWATER_CONNECTION_LOCKED_FILE", str(file))
        made = projects.make(tmp_path / "shop", catalog=CATALOG, files={"data/visits.csv": VISITS})
        yield made
        with projects.opened(made) as project:
            project.down()


def flat(done: Done) -> str:
    """All that a command said, in one line."""
    return " ".join((done.out + done.err).split())


def leaks(folder: Path) -> list[str]:
    """The files below a folder that hold the password; of Spark's there is what its driver printed."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert {"driver.log", "headwater.toml"} & {file.name for file in files}
    return [str(file) for file in files if PASSWORD.encode() in file.read_bytes()]


def test_a_table_of_a_database_becomes_features_and_its_password_is_nowhere(
    folder: Path, postgresql: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    done: list[Done] = []

    def within(*words: str) -> Done:
        done.append(projects.within(*words, project=folder))
        return done[-1]

    assert within("check").code == 0
    ingested = within("ingest")
    assert (ingested.code, 'column "nope" does not exist' in flat(ingested), "refuses the user or the password" in flat(ingested)) == (
        2,
        True,
        True,
    )
    assert within("plan", "--json").code == within("materialize", "--json").code == 0
    with projects.opened(folder) as project:
        assert project.read("spend")[["customer_id", "paid_3d"]].astype(str).to_numpy().tolist()[-1] == ["9007199254740993", "15.00"]
    built = within("training-set", "refunds", "--mode", "event_time", "--json")
    assert (built.code, built.json["rows"]) == (0, 3)
    assert within("sync", "--json").code == 0
    got = within("get", "customer_v1", "customer_id=2", "--json")
    assert '"20.00"' in got.out
    explained = flat(within("explain", "spend", "customer_id=2"))
    assert "ask warehouse: SELECT * FROM sales.payments WHERE customer_id = 2 AND paid_at >= '2026-01-" in explained
    for words in (("status", "--json"), ("status",)):
        assert within(*words).code == 0
    postgresql.stop()
    try:
        projects.write(folder, "data/visits.csv", f"{VISITS}2,2026-01-05T08:00:00Z\n")
        down = within("ingest", "payments", "visits", "--json")
        assert (down.code, "does not answer" in flat(down), down.json["sources"][1]["rows"]) == (2, True, 2)
    finally:
        postgresql.start()
    assert "s3cr3t" not in "".join(each.out + each.err for each in done)
    assert leaks(folder) == leaks(tmp_path_factory.getbasetemp() / "spark0") == []
