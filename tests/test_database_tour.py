"""The tour on a PostgreSQL table, semicolons in latin-1 and a folder of Parquet: ingest, materialize, training set, sync and get.

What is served is what plain Python makes of the raw rows, and nothing that the tour leaves holds the password."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
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
from feature_definitions import (
    Column, Csv, Derived, Entity, Feature, FeatureService, Files, Jdbc, Join, Label, Source, TrainingSet, WindowedGroup,
)

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
bills = Source("bills", Files("data/rechnungen/*.csv", csv=Csv(delimiter=";", encoding="latin-1", decimal=",", thousands=".")),
               columns={"customer_id": Column("int64", "Kunde"), "street": Column("string", "Straße"), "total": Column("double", "Betrag"),
                        "at": Column("timestamp", "Am", format="%d.%m.%Y %H:%M")}, event_timestamp="at", timezone="Europe/Berlin")
clicks = Source("clicks", Files("data/clicks/*.parquet", "parquet"), columns={"customer_id": "int64", "page": "string", "at": "timestamp"},
                event_timestamp="at")
billed = WindowedGroup("billed", customer, bills, ttl="2d", features=(
    Feature("total", "sum", "total", windows=("1d", "3d")), Feature("streets", "count_distinct", "street", windows=("3d",)),
))
clicked = WindowedGroup("clicked", customer, clicks, ttl="2d", features=(
    Feature("clicks", "count", windows=("1d", "3d")), Feature("home", "count", where="page = 'home'", windows=("3d",)),
))
customer_v1 = FeatureService("customer_v1", joins=(Join(spend), Join(billed), Join(clicked)))
refunds = TrainingSet("refunds", payments, customer_v1, label=Label("refunded", "1d"))
"""
TABLES = (
    "CREATE SCHEMA sales",
    "CREATE TABLE sales.payments (payment_id text PRIMARY KEY, customer_id int8, amount numeric(12,2), refunded bool, paid_at timestamptz)",
    """INSERT INTO sales.payments VALUES ('p1', 9007199254740993, 10.50, false, '2026-01-03 09:00+00'),
       ('p2', 9007199254740993, 4.50, false, '2026-01-04 09:00+00'), ('p3', 2, 20.00, true, '2026-01-05 10:00+00')""",
)
BILLS = (
    (2, "Müllerstraße", 1234.5, "05.01.2026 00:30"),  # in Berlin; in UTC it is the day before
    (2, "Weg; 1", 0.25, "05.01.2026 12:00"),
    (2, "Weg; 1", 10.0, "03.01.2026 12:00"),
    (5, "Weg 5", 7.0, "05.01.2026 12:00"),
)
CLICKS = tuple((2 + n % 2, ("home", "cart")[n % 3 == 0], datetime(2026, 1, 3, tzinfo=UTC) + timedelta(hours=7 * n)) for n in range(10))
END = datetime(2026, 1, 6, tzinfo=UTC)
"""When the newest interval ends that is served."""
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
        _write_files(made)
        yield made
        with projects.opened(made) as project:
            project.down()


def _write_files(folder: Path) -> None:
    """The bills as a spreadsheet writes them, and the clicks as Spark does."""
    amounts = [f"{total:,.2f}".translate(str.maketrans(",.", ".,")) for _, _, total, _ in BILLS]
    lines = [f'{who};"{street}";{amount};{at}' for (who, street, _, at), amount in zip(BILLS, amounts, strict=True)]
    lines += ["2;Weg 9;storniert;05.01.2026 13:00"]
    projects.write(folder, "data/rechnungen/a.csv", "")
    (folder / "data/rechnungen/a.csv").write_bytes("\r\n".join(["Kunde;Straße;Betrag;Am", *lines]).encode("latin-1"))
    projects.write(folder, "data/clicks/_SUCCESS", "")
    for part in range(2):
        found = [dict(zip(("customer_id", "page", "at"), click, strict=True)) for click in CLICKS[part::2]]
        pq.write_table(pa.Table.from_pylist(found), folder / f"data/clicks/part-{part}.parquet")


def served(customer: int) -> dict[str, object]:
    """What is right for a customer, made of the raw rows in plain Python."""
    berlin = ZoneInfo("Europe/Berlin")
    billed = [(datetime.strptime(at, "%d.%m.%Y %H:%M").replace(tzinfo=berlin), s, t) for who, s, t, at in BILLS if who == customer]
    clicked = [(at, page) for who, page, at in CLICKS if who == customer]

    def last(rows: list[Any], days: int) -> list[Any]:
        return [row for row in rows if END - timedelta(days=days) <= row[0] < END]

    return {
        "billed__total_1d": sum(total for *_, total in last(billed, 1)),
        "billed__total_3d": sum(total for *_, total in last(billed, 3)),
        "billed__streets_3d": len({street for _, street, _ in last(billed, 3)}),
        "clicked__clicks_1d": len(last(clicked, 1)),
        "clicked__clicks_3d": len(last(clicked, 3)),
        "clicked__home_3d": sum(page == "home" for _, page in last(clicked, 3)),
    }


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
    assert "bills: 1 row in quarantine: total: is not a double" in ingested.err
    assert within("plan", "--json").code == within("materialize", "--json").code == 0
    with projects.opened(folder) as project:
        assert project.read("spend")[["customer_id", "paid_3d"]].astype(str).to_numpy().tolist()[-1] == ["9007199254740993", "15.00"]
    built = within("training-set", "refunds", "--mode", "event_time", "--json")
    assert (built.code, built.json["rows"]) == (0, 3)
    assert within("sync", "--json").code == 0
    (got,) = within("get", "customer_v1", "customer_id=2", "--json").json["results"]
    assert set(got["status"].values()) == {"PRESENT"}
    spent = {"spend__paid_1d": "20.00", "spend__paid_3d": "20.00", "spend__payments_1d": 1}
    assert got["values"] == spent | served(2)
    assert served(2) == {
        "billed__total_1d": 0.25, "billed__total_3d": 1244.75, "billed__streets_3d": 2,
        "clicked__clicks_1d": 1, "clicked__clicks_3d": 5, "clicked__home_3d": 3,
    }  # fmt: skip
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
