"""A real PostgreSQL as a source: every type, only the dates that are wanted, what changed, and what is said when it cannot be read."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from feature_definitions import Jdbc
from spark_jobs.ingest import events, jdbc
from spark_jobs.ingest.in_place import TableRefused
from tests import projects
from tests.postgresql import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyspark.sql import SparkSession

    from headwater import Project
    from spark_jobs.ingest.journal import IngestReport
    from tests.postgresql import Server

CATALOG = """
from feature_definitions import Column, DeltaTable, Jdbc, Query, Source

payments = Source("payments", Jdbc("sales.Payments", connection="warehouse", partitions=3),
                  columns={"payment_id": "string", "customer_id": "int64", "amount": "decimal(12,2)", "points": "int64",
                           "rate": "double", "ok": "boolean", "tags": "array<string>", "doc": "string", "paid_on": "date",
                           "paid_at": "timestamp"},
                  event_timestamp="paid_at", id=("payment_id",))
local = Source("local", Jdbc(query='SELECT n, at FROM sales.local -- all', connection="warehouse", partitions=2),
               columns={"n": "int64", "at": "timestamp"}, event_timestamp="at", timezone="Europe/Berlin")
naive = Source("naive", Jdbc("sales.local", connection="warehouse"), columns={"n": "int64", "at": "timestamp"}, event_timestamp="at")
by_number = Source("by_number", Jdbc("sales.local", connection="warehouse", partitions=4, partition_by="n"),
                   columns={"n": "int64", "at": "timestamp"}, event_timestamp="at", timezone="UTC")
shops = Source("shops", Jdbc("shops", connection="warehouse"), columns={"id": "int64", "city": "string"}, id=("id",), shape="static")
named = Source("named", Jdbc("Named", connection="warehouse", partitions=2),
               columns={"customer_id": Column("int64", "Customer ID"), "seen_at": Column("timestamp", "a.b ü"),
                        "sent_at": Column("timestamp", "sent", epoch="ms")}, event_timestamp="seen_at", id=("customer_id",))
summed = Source("summed", Query("SELECT n AS m, at FROM by_number WHERE n > 2", (by_number,)),
                columns={"m": "int64", "at": "timestamp"}, event_timestamp="at")
"""
FAULTS = """
from feature_definitions import Jdbc, Source

def of(name, *at, **how):
    return Source(name, Jdbc(*at, **how), columns={"n": "int64", "at": "timestamp"}, event_timestamp="at", timezone="UTC")

no_table = of("no_table", "sales.locals", connection="warehouse")
folded = of("folded", "Sales.Local", connection="warehouse")
no_column = of("no_column", "shops", connection="warehouse")
wrong_sql = of("wrong_sql", query="SELECT nope FROM sales.local", connection="warehouse")
no_sql = of("no_sql", query="SELECT FROM FROM", connection="warehouse")
deletes = of("deletes", query="SELECT n, at FROM sales.eat()", connection="warehouse")
wrong_password = of("wrong_password", "sales.local", connection="wrong_password")
wrong_port = of("wrong_port", "sales.local", connection="wrong_port")
wrong_host = of("wrong_host", "sales.local", connection="wrong_host")
wrong_database = of("wrong_database", "sales.local", connection="wrong_database")
not_set = of("not_set", "sales.local", connection="not_set")
division = of("division", query="SELECT n / (n - 3) AS n, at FROM sales.local", connection="warehouse")
elsewhere = of("elsewhere", "sales.local", connection="elsewhere")
"""
TABLES = (
    "CREATE SCHEMA sales",
    """CREATE TABLE sales."Payments" (payment_id uuid, customer_id bigint, amount numeric, points numeric(20,0), rate float8, ok boolean,
       tags text[], doc jsonb, paid_on date, paid_at timestamptz)""",
    """INSERT INTO sales."Payments" SELECT ('00000000-0000-0000-0000-' || lpad(i::text, 12, '0'))::uuid, 9007199254740993 + i, i * 1.25,
       i, i / 4.0, i % 2 = 0, array['a', NULL, i::text], jsonb_build_object('i', i), '2026-01-01'::date + i,
       '2026-01-01 00:30+00'::timestamptz + i * interval '12 hours' FROM generate_series(0, 9) i""",
    "CREATE TABLE sales.local (n int, at timestamp)",
    "INSERT INTO sales.local SELECT i, '2026-01-01 00:30'::timestamp + i * interval '1 day' FROM generate_series(1, 4) i",
    "CREATE TABLE shops (id smallint PRIMARY KEY, city varchar(20))",
    "INSERT INTO shops VALUES (1, 'Köln'), (2, NULL), (3, '')",
    'CREATE TABLE "Named" ("Customer ID" int, "a.b ü" timestamptz, sent bigint, "SENT" text)',
    """INSERT INTO "Named" VALUES (7, '2026-01-02 00:00+00', 1767600000000, 'x'), (8, '2026-01-03 00:00+00', NULL, 'x')""",
    "CREATE FUNCTION sales.eat() RETURNS SETOF sales.local LANGUAGE sql AS 'DELETE FROM sales.local RETURNING *'",
)
PAYMENT = """INSERT INTO sales."Payments" (payment_id, amount, points, rate, paid_at) VALUES"""


@dataclass(frozen=True, slots=True)
class Shop:
    """A project beside a database of its own."""

    project: Project
    server: Server
    database: str

    def run(self, *statements: str) -> None:
        self.server.run(*statements, database=self.database)

    def ingest(self, name: str) -> IngestReport:
        return self.project.ingest(name)[-1]

    def refusal(self, name: str) -> str:
        """Why a source cannot be ingested."""
        failed = self.ingest(name).failed
        assert failed is not None
        return failed

    def rows(self, name: str, *days: int) -> list[dict[str, Any]]:
        """The live rows of a source, of some days of January."""
        wanted = [date(2026, 1, day) for day in days] or None
        found = events.read(self.project.catalog.sources[name], self.project._context, dates=wanted)
        return sorted(found.toArrow().to_pylist(), key=str)

    def changed(self, name: str) -> tuple[date, ...]:
        """The dates that the newest ingest changed."""
        revisions = self.project._registry.revisions(name)
        return tuple(sorted(r.date for r in revisions if r.revision == max(each.revision for each in revisions)))

    @contextmanager
    def asked(self) -> Iterator[list[str]]:
        """The statements that the server was asked within the block for rows, not for their types."""
        before, found = len(self.server.log), list[str]()
        yield found
        said = re.split(r"\n(?=\d{4}-)", self.server.log[before:])
        found += [" ".join(line.split()) for line in said if "hw_rows" in line and "WHERE 1=0" not in line]


@pytest.fixture
def shop(spark: SparkSession, postgresql: Server, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Shop]:
    """The shop before its first ingest."""
    database = re.sub(r"\W", "_", request.node.name)[-50:]
    url = postgresql.create(database)
    postgresql.run(*TABLES, database=database)
    variables = {
        "WAREHOUSE": url,
        "WRONG_PASSWORD": postgresql.url(database, password=f"{PASSWORD}-not"),
        "WRONG_PORT": url.replace(f":{postgresql.port}/", ":1/"),
        "WRONG_HOST": url.replace("127.0.0.1", "no-such-host.invalid"),
        "WRONG_DATABASE": postgresql.url("nowhere"),
        "ELSEWHERE": "snowflake://ada:s3cr3t-MARK-42@acme/shop/public",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(f"HEADWATER_CONNECTION_{name}", value)
        with projects.opened(projects.make(tmp_path, catalog=getattr(request, "param", CATALOG))) as project:
            yield Shop(project, postgresql, database)


def test_every_type_keeps_its_values(shop: Shop) -> None:
    report = shop.ingest("payments")
    assert (report.rows, report.quarantined, report.dates_changed) == (10, 0, 5)
    (row,) = [row for row in shop.rows("payments") if row["payment_id"].endswith("3")]
    assert {name: value for name, value in row.items() if not name.startswith("_hw")} == {
        "payment_id": "00000000-0000-0000-0000-000000000003",
        "customer_id": 9007199254740996,
        "amount": Decimal("3.75"),
        "points": 3,
        "rate": 0.75,
        "ok": False,
        "tags": ["a", None, "3"],
        "doc": '{"i": 3}',
        "paid_on": date(2026, 1, 4),
        "paid_at": datetime(2026, 1, 2, 12, 30, tzinfo=UTC),
    }
    shop.ingest("shops")
    assert [(row["id"], row["city"]) for row in shop.rows("shops")] == [(1, "Köln"), (2, None), (3, "")]


def test_columns_have_the_names_that_the_database_keeps(shop: Shop) -> None:
    assert shop.ingest("named").rows == 2
    at = datetime(2026, 1, 5, 8, tzinfo=UTC)
    assert [(row["customer_id"], row["seen_at"].day, row["sent_at"]) for row in shop.rows("named")] == [(7, 2, at), (8, 3, None)]
    with shop.asked() as statements:
        assert [row["customer_id"] for row in shop.rows("named", 3)] == [8]
    assert all('("Customer ID") IN (SELECT "Customer ID" FROM "Named" WHERE "a.b ü" >= ' in each for each in statements)


def test_a_row_that_cannot_be_taken_stops_no_other(shop: Shop) -> None:
    shop.run(
        f"{PAYMENT} (gen_random_uuid(), 'NaN', 1, 1, '2026-01-02'), (gen_random_uuid(), 1e30, 1, 1, '2026-01-02')",
        f"{PAYMENT} (gen_random_uuid(), 1.239, 1, 1, '2026-01-02'), (gen_random_uuid(), 1, 1e19, 1, '2026-01-02')",
        f"{PAYMENT} (gen_random_uuid(), 1, 1, 'Infinity', '2026-01-02'), (NULL, 1, 1, 1, '2026-01-02')",
        f"{PAYMENT} (gen_random_uuid(), 1, 1, 1, NULL), (gen_random_uuid(), 1, 1, 1, 'infinity')",
        f"{PAYMENT} (gen_random_uuid(), 1, 1, 1, '-infinity'), (gen_random_uuid(), 1, 1, 1, '0044-03-15 BC')",
        "INSERT INTO sales.local VALUES (7, 'infinity'), (8, '0044-03-15 BC')",
    )
    report = shop.ingest("payments")
    assert (report.rows, report.reasons) == (
        10,
        {
            "amount is no decimal(12,2): it has more digits than that can hold": 2,
            "amount is not a finite number": 1,
            "paid_at is not between the years 1 and 9999 in UTC": 3,
            "paid_at is null": 1,
            "payment_id is null": 1,
            "points is no int64: it has more digits than that can hold": 1,
            "rate is not a finite number": 1,
        },
    )
    assert shop.ingest("local").reasons == {"at is not between the years 1 and 9999 in UTC": 2}
    assert len(shop.rows("local")) == 4


def test_times_without_zone_are_those_of_the_sources_zone_and_refused_without_one(shop: Shop) -> None:
    shop.ingest("local")
    assert [row["at"] for row in shop.rows("local")] == [datetime(2026, 1, day, 23, 30, tzinfo=UTC) for day in (1, 2, 3, 4)]
    assert re.search(r"column 'at' of sales.local has times without zone; say where .* timezone='UTC'", shop.refusal("naive"))


def test_the_database_is_asked_only_for_the_dates_that_are_wanted_in_parts(shop: Shop) -> None:
    shop.ingest("local")
    with shop.asked() as statements:
        assert [row["n"] for row in shop.rows("local", 2)] == [2]
    wider = "WHERE \"at\" >= TIMESTAMP '2026-01-01 00:00:00.000000' AND \"at\" < TIMESTAMP '2026-01-04 00:00:00.000000'"
    assert len(statements) == 2
    assert all(wider in statement for statement in statements)
    shop.ingest("by_number")
    with shop.asked() as statements:
        assert [row["n"] for row in shop.rows("by_number")] == [1, 2, 3, 4]
    assert len(statements) == 4
    with shop.asked() as statements:
        assert shop.rows("by_number", 9) == []
    assert len(statements) == 1


def test_a_row_moved_out_of_the_dates_that_are_wanted_is_none_of_theirs(shop: Shop) -> None:
    shop.run(
        'INSERT INTO sales."Payments" SELECT * FROM sales."Payments"',
        """UPDATE sales."Payments" SET paid_at = '2026-01-06 00:00+00'
             WHERE ctid = (SELECT max(ctid) FROM sales."Payments" WHERE amount = 0)""",
    )
    shop.ingest("payments")
    with shop.asked() as statements:
        assert [row["amount"] for row in shop.rows("payments", 1)] == [Decimal("1.25")]
    assert all('("payment_id") IN (SELECT "payment_id" FROM "sales"."Payments" WHERE "paid_at" >= ' in each for each in statements)
    assert [row["amount"] for row in shop.rows("payments", 6)] == [Decimal("0.00")]


def test_an_ingest_notices_the_dates_of_rows_that_were_changed_or_deleted(shop: Shop) -> None:
    shop.ingest("payments")
    assert shop.ingest("payments").dates_changed == 0
    shop.run('UPDATE sales."Payments" SET amount = 99 WHERE points = 2', 'DELETE FROM sales."Payments" WHERE points = 9')
    assert shop.ingest("payments").dates_changed == 2
    assert shop.changed("payments") == (date(2026, 1, 2), date(2026, 1, 5))


def test_an_ingest_reads_one_state_of_a_table_that_changes_meanwhile(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows are moved from part to part once it has begun to read."""
    move = "UPDATE sales.local SET at = at + interval '1 day' * (CASE WHEN n = 1 THEN 3 WHEN n = 4 THEN -3 ELSE 0 END)"
    monkeypatch.setattr(shop.project, "say", lambda said: shop.run(move) if said.startswith("comparing") else None)
    report = shop.ingest("by_number")
    assert (report.rows, report.dates_changed) == (4, 4)
    monkeypatch.undo()
    assert [row["at"].day for row in shop.rows("by_number")] == [5, 3, 4, 2]
    assert shop.ingest("by_number").dates_changed == 2


def test_a_table_that_changed_its_columns_or_is_gone_is_refused_until_it_is_back(shop: Shop) -> None:
    shop.ingest("by_number")
    shop.run("ALTER TABLE sales.local RENAME n TO m")
    assert re.search(r"source by_number: sales.local has no column 'n'. It has: m, at", shop.refusal("by_number"))
    shop.run("ALTER TABLE sales.local RENAME m TO n", "ALTER TABLE sales.local ALTER n TYPE text")
    assert re.search(r"column 'n' of sales.local is a string, the source says int64", shop.refusal("by_number"))
    shop.run("ALTER TABLE sales.local RENAME TO gone")
    assert re.search(r"has no table sales.local", shop.refusal("by_number"))
    shop.run("ALTER TABLE sales.gone RENAME TO local", "ALTER TABLE sales.local ALTER n TYPE int8 USING n::int8")
    assert shop.ingest("by_number").dates_changed == 0


def test_a_query_of_ours_reads_a_table_of_a_database_beside_others(shop: Shop) -> None:
    assert [report.source for report in shop.project.ingest("summed")] == ["by_number", "summed"]
    assert [row["m"] for row in shop.rows("summed")] == [3, 4]


def test_what_no_source_reads_is_selected_in_the_databases_own_types(shop: Shop) -> None:
    at = Jdbc(query="SELECT n, at, n * 1.5 AS more FROM sales.local WHERE n < 3 ORDER BY n;", connection="warehouse")
    found = jdbc.selected(at, shop.project._context).toArrow()
    assert found.column("n").to_pylist() == [1, 2]
    assert found.column("more").to_pylist() == [Decimal("1.5"), Decimal(3)]
    with pytest.raises(TableRefused, match=r"^connection 'warehouse' \(.*\) has no table nothing"):
        jdbc.selected(Jdbc("nothing", connection="warehouse"), shop.project._context)


@pytest.mark.parametrize("shop", [FAULTS], indirect=True, ids=["faults"])
def test_each_fault_is_told_in_one_sentence_without_the_password(shop: Shop) -> None:
    told = {}
    for name in shop.project.catalog.sources:
        told[name] = shop.refusal(name)
        assert told[name].startswith(f"source {name}: ")
        assert "\n" not in told[name]
        assert "s3cr3t" not in told[name]
    expected = {
        "no_table": "has no table sales.locals; write its name as the database keeps it",
        "folded": "has no table Sales.Local; write its name as the database keeps it",
        "no_column": "shops has no column 'n'. It has: id, city",
        "wrong_sql": 'its query cannot be read: column "nope" does not exist',
        "no_sql": 'its query cannot be read: syntax error at or near "FROM"',
        "deletes": "its query cannot be read: cannot execute DELETE in a read-only transaction",
        "wrong_password": "refuses the user or the password; correct what HEADWATER_CONNECTION_WRONG_PASSWORD says",
        "wrong_port": "(127.0.0.1:1/",
        "wrong_host": "does not answer",
        "wrong_database": 'database "nowhere" does not exist',
        "not_set": "connection 'not_set' is not set; set HEADWATER_CONNECTION_NOT_SET to its URL",
        "division": "its query cannot be read: division by zero",
        "elsewhere": "needs Spark's connector for snowflake; name its jars in HEADWATER_SPARK_JARS: net.snowflake:spark-snowflake_2.13",
    }
    assert {name: expected[name] in sentence for name, sentence in told.items()} == dict.fromkeys(expected, True), told
    assert len(shop.project.unusable_connections()) == 1
